# h2d: `make` lists what can be done. The first target that needs Python makes .venv from .ci/requirements.lock.

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
H2D    := $(VENV)/bin/h2d
PREP   := $(PY) -m data_prep
READY  := $(VENV)/.ready

ROOT  ?=
OUT   ?=
LIMIT ?=
DRY   ?=
JOBS  ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || echo 2)
ARGS  ?=
WORKERS ?= 2
RUNS  ?= runs
PORT  ?= 6006

# where this is set, every process compiles torch and the rest anew: 15 s of processor time each
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo calibration test proof-data proof-train proof-model proof-evaluate proof-sd15 check format tensorboard tiny-base tiny-model miniature detection mask-quality prep-speed lock clean \
	data-hagrid data-interhand data-reinterhand data-laion data-folder data-synthetic \
	slurm-check slurm-prepare slurm-train slurm-evaluate slurm-all proof-slurm

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---------------------------------------------------------------------------------------------------- environment
setup: $(READY)  ## make .venv from the lock file (every other target does it by itself)

$(READY): .ci/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 10) <= v < (3, 13) or sys.exit("error: h2d needs Python 3.10 to 3.12 (mediapipe has no wheels for others), this is %d.%d\n  hint: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.11" % v)'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@$(PY) -c 'import uv' 2>/dev/null || $(PY) -m pip install --quiet --disable-pip-version-check uv
	$(VENV)/bin/uv pip sync --quiet --python $(PY) --require-hashes .ci/requirements.lock
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

lock:  ## resolve the newest dependencies into .ci/requirements.lock
	$(VENV)/bin/uv pip compile --quiet --upgrade pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-annotate -o .ci/requirements.lock

# ----------------------------------------------------------------------------------------------------------- work
DEMO := $(RUNS)/demo

# the commands of a real experiment, with the tiny preset; interrupted, it goes on where it stopped
demo: $(READY)  ## the whole method on rendered people, from raw images to report.png (eight minutes on two cores)
	$(PREP) generate synthetic root=$(DEMO)/raw count=240 seed=7 jobs=$(JOBS)
	$(PREP) all synthetic root=$(DEMO)/raw out=$(DEMO)/data jobs=$(JOBS)
	$(H2D) train experiments/demo_hand data.shards=$(DEMO)/data/shards run.dir=$(DEMO) run.name=hand --resume auto
	$(H2D) train experiments/demo_outpaint data.shards=$(DEMO)/data/shards run.dir=$(DEMO) run.name=outpaint evaluation.partner=$(DEMO)/hand/checkpoints/last.ckpt --resume auto
	@rm -rf $(DEMO)/pipeline $(DEMO)/sample $(DEMO)/evaluation
	$(H2D) export --hand $(DEMO)/hand/checkpoints/last.ckpt --outpaint $(DEMO)/outpaint/checkpoints/last.ckpt --out $(DEMO)/pipeline
	$(H2D) sample --pipeline $(DEMO)/pipeline --pose $(DEMO)/data/shards --out $(DEMO)/sample
	$(H2D) evaluate experiments/demo_evaluate --pipeline $(DEMO)/pipeline data.shards=$(DEMO)/data/shards run.dir=$(DEMO) run.name=evaluation
	@cp $(DEMO)/evaluation/h2d/report.png $(DEMO)/report.png
	@echo "look at $(DEMO)/report.png; make tensorboard shows the curves"

CALIBRATION := $(RUNS)/calibration
SPLIT ?= train

# the metrics on pictures and on copies that are wrong in a known way; ROOT= names other shards, SPLIT= their split, NAME= the run
calibration: $(READY)  ## do the metrics tell right from wrong? needs no generator (a quarter of an hour on two cores)
ifeq ($(ROOT),)
	$(PREP) generate synthetic root=$(CALIBRATION)/raw count=700 seed=11 jobs=$(JOBS)
	$(PREP) all synthetic root=$(CALIBRATION)/raw out=$(CALIBRATION)/data jobs=$(JOBS)
endif
	$(H2D) evaluate calibration evaluation.split=$(SPLIT) data.shards=$(or $(ROOT),$(CALIBRATION)/data/shards) run.dir=$(CALIBRATION) run.name=$(or $(NAME),people) $(ARGS)

BASE := $(RUNS)/tiny-base

tiny-base: $(READY)  ## train the base model of the tiny preset anew, from scratch (an hour and a half on two cores)
	$(PREP) generate synthetic root=$(BASE)/raw count=2400 size=384 seed=1 jobs=$(JOBS)
	$(PREP) all synthetic root=$(BASE)/raw out=$(BASE)/data keypoints=exact jobs=$(JOBS)
	$(H2D) train tiny_autoencoder data.shards=$(BASE)/data/shards run.dir=$(BASE) run.name=autoencoder --resume auto
	$(PY) -m h2d.scratch_base --autoencoder $(BASE)/autoencoder/checkpoints/last.ckpt --out $(BASE)/start
	$(H2D) train tiny_text_to_image model.base=$(BASE)/start data.shards=$(BASE)/data/shards run.dir=$(BASE) run.name=text_to_image --resume auto
	$(PY) -m h2d.scratch_base --autoencoder $(BASE)/autoencoder/checkpoints/last.ckpt --text-to-image $(BASE)/text_to_image/checkpoints/last.ckpt --shards $(BASE)/data/shards --out h2d/assets/tiny-base

MODEL ?= $(RUNS)/tiny-model
SHIPPED ?= h2d/assets/tiny-model
OURS = $(notdir $(SHIPPED))
PEOPLE ?= 6000
# a look at the whole chain: make tiny-model MODEL=runs/look SHIPPED=runs/look/model PEOPLE=40 TRAIN="trainer.max_steps=4 trainer.log_every_n_steps=2 optim.warmup_steps=1"
TRAIN ?=
# last checkpoint of a run
last = $(MODEL)/$(1)/checkpoints/last.ckpt
# `h2d train` of a step of the model, with its latents made before: experiment, base, latents of, variants, more settings
fit = $(H2D) data latents tiny_model/$(3) model.base=$(2) data.shards=$(MODEL)/data/shards --variants $(4) --out $(MODEL)/latents/$(3) && \
	$(H2D) train tiny_model/$(1) model.base=$(2) data.shards=$(MODEL)/data/shards data.latents=$(MODEL)/latents/$(3) run.dir=$(MODEL) run.name=$(1) $(5) $(TRAIN) --resume auto

tiny-model: $(READY)  ## train the model that h2d ships anew, from scratch (a day on two cores; interrupted, it goes on)
	$(PREP) generate synthetic root=$(MODEL)/raw count=$(PEOPLE) seed=3 jobs=$(JOBS)
	$(PREP) all synthetic root=$(MODEL)/raw out=$(MODEL)/data keypoints=exact jobs=$(JOBS)
	$(H2D) train tiny_model/autoencoder data.shards=$(MODEL)/data/shards run.dir=$(MODEL) run.name=autoencoder $(TRAIN) --resume auto
	$(PY) -m h2d.scratch_base --autoencoder $(call last,autoencoder) --out $(MODEL)/start --shards $(MODEL)/data/shards
	$(call fit,text_to_image_small,$(MODEL)/start,text_to_image_small,2)
	$(PY) -m h2d.scratch_base --autoencoder $(call last,autoencoder) --text-to-image $(call last,text_to_image_small) --out $(MODEL)/small
	$(call fit,text_to_image,$(MODEL)/small,text_to_image,1)
	$(PY) -m h2d.scratch_base --autoencoder $(call last,autoencoder) --text-to-image $(call last,text_to_image) --out $(MODEL)/base
	$(call fit,hand,$(MODEL)/base,hand,4)
	$(call fit,skeleton,$(MODEL)/base,outpaint,1)
	$(H2D) export --hand $(call last,hand) --outpaint $(call last,skeleton) --out $(MODEL)/untuned
	$(call fit,outpaint,$(MODEL)/base,outpaint,1,model.controlnet=$(MODEL)/untuned/controlnet)
	$(H2D) export --hand $(call last,hand) --outpaint $(call last,outpaint) --dtype float16 --out $(SHIPPED)
	$(PY) -m h2d.scratch_card --runs $(MODEL) --model $(SHIPPED) autoencoder text_to_image_small text_to_image hand skeleton outpaint

SEEDS ?= 0 1 2
JUDGE ?=
MINI := $(MODEL)/miniature
HELD_OUT := data.shards=$(MODEL)/data/shards evaluation.split=test
# evaluate systems with every seed: the pipeline's folder, methods, more words
judge = $(foreach seed,$(SEEDS),$(H2D) evaluate miniature --pipeline $(1) --method $(2) $(3) $(JUDGE) $(HELD_OUT) run.dir=$(MODEL) run.name=miniature/$(notdir $(1))/$(seed) seed=$(seed) &&) true
# join a stage with the other one of the shipped model
couple = $(H2D) export --hand $(call last,$(2)) --outpaint $(call last,$(3)) --out $(MODEL)/joined/$(1)
# a claim's name and words, and the systems that it compares: a table and a picture
compare = @echo; echo "($(1)) $(2)"; $(H2D) compare --seeds $(patsubst %,$(MINI)/%,$(3)) --pictures $(MINI)/$(1).jpg

# `make tiny-model` comes before it
miniature: $(READY)  ## the paper's claims on held-out rendered people (half a day on two cores; interrupted, it goes on)
	$(call fit,rival,$(MODEL)/base,outpaint,1,model.controlnet=$(MODEL)/untuned/controlnet)
	$(call fit,clean,$(MODEL)/base,outpaint,1,model.controlnet=$(MODEL)/untuned/controlnet)
	$(call fit,multi_task,$(MODEL)/base,hand,4)
	$(call fit,single_task,$(MODEL)/base,hand,4)
	$(call fit,mask_always,$(MODEL)/base,hand,4)
	$(call couple,rival,hand,rival)
	$(call couple,clean,hand,clean)
	$(call couple,multi-task,multi_task,outpaint)
	$(call couple,single-task,single_task,outpaint)
	$(call couple,mask-always,mask_always,outpaint)
	$(call judge,$(SHIPPED),h2d$(comma)naive$(comma)bbox)
	$(call judge,$(SHIPPED),real$(comma)stable-diffusion$(comma)controlnet,--place base=$(MODEL)/base --place controlnet=$(MODEL)/joined/rival/controlnet)
	$(call judge,$(MODEL)/joined/multi-task,h2d$(comma)bbox)
	$(call judge,$(MODEL)/joined/single-task,bbox)
	$(call judge,$(MODEL)/joined/mask-always,h2d)
	$(call judge,$(MODEL)/untuned,h2d)
	$(call judge,$(MODEL)/joined/clean,h2d,sampling.blend=clean)
	$(call compare,i,two stages against a ControlNet on skeletons and text alone,$(OURS)/*/h2d $(OURS)/*/controlnet-uniform $(OURS)/*/stable-diffusion-uniform $(OURS)/*/real)
	$(call compare,ii,sequential against naive and bounding box,$(OURS)/*/h2d $(OURS)/*/naive $(OURS)/*/bbox)
	$(call compare,iii,multi-task against single-task,multi-task/*/bbox single-task/*/bbox)
	$(call compare,iv,zeroing every second mask against none,multi-task/*/h2d mask-always/*/h2d)
	$(call compare,v,fine-tuned stage II against the ControlNet it started from,$(OURS)/*/h2d untuned/*/h2d)
	$(call compare,vi,noised against clean blending,$(OURS)/*/h2d clean/*/h2d)

comma := ,

tensorboard: $(READY)  ## watch the runs: RUNS=runs PORT=6006
	$(VENV)/bin/tensorboard --logdir $(RUNS) --port $(PORT)

# ROOT=raw data OUT=folder to fill [LIMIT=100 images] [JOBS=8 processes] [DRY=1 prints the command only]
# [ARGS="preset=paper captions=llava ..."]: any key of `python -m data_prep --help`
prepare = $(if $(DRY),@echo) $(PREP) all $(1) root='$(call required,ROOT)' out='$(call required,OUT)' jobs=$(JOBS) $(if $(LIMIT),limit=$(LIMIT)) $(ARGS)

data-hagrid: $(READY)  ## HaGRID -> shards: ROOT=hagrid OUT=data/hagrid [LIMIT= JOBS= DRY=1 ARGS=preset=paper]
	$(call prepare,hagrid)

data-interhand: $(READY)  ## InterHand2.6M -> shards, with the same variables
	$(call prepare,interhand)

data-reinterhand: $(READY)  ## Re:InterHand -> shards
	$(call prepare,reinterhand)

data-laion: $(READY)  ## LAION-Human -> shards
	$(call prepare,laion_human)

data-folder: $(READY)  ## a folder of photographs -> shards
	$(call prepare,folder)

data-synthetic: $(READY)  ## rendered people -> shards: OUT=data/people [LIMIT=1000 people]
	$(if $(DRY),@echo) $(PREP) generate synthetic root='$(call required,OUT)/raw' count=$(or $(LIMIT),1000) jobs=$(JOBS)
	$(if $(DRY),@echo) $(PREP) all synthetic root='$(OUT)/raw' out='$(OUT)' jobs=$(JOBS) $(ARGS)

# NODES=2 GPUS=8 of a training, SHARES=16 of an array, DRY=1 prints the sbatch command only; slurm/README.md
submit = slurm/submit.sh $(if $(DRY),--dry-run)

slurm-prepare: $(READY)  ## shards by a job array: DATASET=hagrid ROOT=hagrid OUT=data/hagrid [SHARES=16 ARGS=preset=paper DRY=1]
	@$(submit) prepare all $(call required,DATASET) root='$(call required,ROOT)' out='$(call required,OUT)' $(ARGS)

slurm-train: $(READY)  ## a training as a job: EXP=hand ARGS=data.shards=data/hagrid/shards [NODES=1 GPUS=1 DRY=1]
	@$(submit) train $(call required,EXP) $(ARGS)

slurm-evaluate: $(READY)  ## an evaluation by a job array: PIPELINE=pipeline ARGS=data.shards=data/hagrid/shards [EXP=evaluate SHARES=4 DRY=1]
	@$(submit) evaluate $(or $(EXP),evaluate) --pipeline '$(call required,PIPELINE)' $(ARGS)

slurm-all: $(READY)  ## data, trainings and evaluation as a chain of jobs: DATASET=synthetic ARGS=preset=tiny [EXP=name DRY=1]
	@ROOT='$(ROOT)' slurm/submit_all.sh $(if $(DRY),--dry-run) $(ARGS)

slurm-check: $(READY)  ## are the job scripts in order?
	$(PY) slurm/check.py

required = $(or $($(1)),$(error $(1) is not set: make $(MAKECMDGOALS) $(1)=...))

# --------------------------------------------------------------------------------------------------------- checks
check: $(READY)  ## format, lint, types, import contract, job scripts
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) slurm/check.py

format: $(READY)  ## let ruff format the code and mend what it can
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

test: $(READY)  ## all tests, by WORKERS=2 processes (twelve minutes on two cores)
	$(PY) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --ignore tests/slurm $(ARGS)

slurm-test: $(READY)  ## the job scripts on a real Slurm of two nodes, started for it on this machine (five minutes on two cores)
	$(PY) -m pytest tests/slurm $(ARGS)

proof-data: $(READY)  ## the long proofs of data preparation: kills, full disks, damaged files (a quarter of an hour on two cores)
	$(PY) -m pytest tests/data_prep/proofs --proof -q $(ARGS)

proof-train: $(READY)  ## the long proofs of training: kills, resumes, ranks, damaged checkpoints, one batch by heart (half an hour on two cores)
	$(PY) -m pytest tests/proofs tests/end_to_end/proofs tests/end_to_end/test_callbacks.py --proof -q $(ARGS)

proof-model: $(READY)  ## two short trainings of the shipped model are equal to the bit, and `make miniature` judges one (a quarter of an hour on two cores)
	$(PY) -m pytest tests/end_to_end/test_small_model.py --proof -q $(ARGS)

proof-evaluate: $(READY)  ## the long proof of evaluation: ten kills among 200 samples (a quarter of an hour on two cores)
	$(PY) -m pytest tests/evaluation/proofs --proof -q $(ARGS)

proof-slurm: $(READY)  ## the long proofs on a real Slurm of two nodes on this machine (wants its Debian packages, see slurm/README.md)
	$(PY) -m pytest tests/slurm --proof -q $(ARGS)

SD15 := $(RUNS)/proof-sd15
SD15_DATA := data.shards=$(SD15)/data/shards model.base=$(SD15)/base run.dir=$(SD15)

# random weights at full size, in the format of the real ones; a real folder does as well: ARGS=model.base=...
proof-sd15: $(READY)  ## one step of both stages at the size of Stable Diffusion 1.5; on a GPU: ARGS="preset=80gb image_size=512 trainer.max_steps=50"
	$(PREP) generate synthetic root=$(SD15)/raw count=40 seed=7 jobs=$(JOBS)
	$(PREP) all synthetic root=$(SD15)/raw out=$(SD15)/data keypoints=exact jobs=$(JOBS)
	test -d $(SD15)/base/unet || $(PY) -m h2d.networks.sd15 $(SD15)/base
	rm -rf $(SD15)/proof_sd15_hand $(SD15)/proof_sd15_outpaint
	$(H2D) train experiments/proof_sd15_hand $(SD15_DATA) --dry-run $(ARGS) | tail -n 7
	$(H2D) train experiments/proof_sd15_hand $(SD15_DATA) $(ARGS)
	$(H2D) train experiments/proof_sd15_outpaint $(SD15_DATA) model.controlnet=$(SD15)/base/controlnet --dry-run $(ARGS) | tail -n 7
	$(H2D) train experiments/proof_sd15_outpaint $(SD15_DATA) model.controlnet=$(SD15)/base/controlnet $(ARGS)

detection: $(READY)  ## how many of 200 freshly rendered people MediaPipe finds, and how exactly: SEED=1
	$(PY) -m data_prep.synthetic.measure count=200 seed=$(or $(SEED),31)

mask-quality: $(READY)  ## overlap of the weight-free hand masks with the exact ones, on 100 rendered people
	$(PREP) generate synthetic out=$(RUNS)/mask-quality count=100 seed=5 jobs=$(JOBS)
	$(PREP) index synthetic out=$(RUNS)/mask-quality
	$(PREP) keypoints synthetic out=$(RUNS)/mask-quality jobs=$(JOBS)
	$(PY) -m data_prep.measure_masks $(RUNS)/mask-quality

prep-speed: $(READY)  ## images/s of the keypoints in one process and in two, growth of memory: ROOT=photographs
	$(PY) -m data_prep.measure_keypoints $(call required,ROOT) $(ARGS)

clean:  ## remove .venv and caches, keep runs and data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
