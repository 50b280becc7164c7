import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from h2d.config import compose, from_plain, to_plain, to_yaml
from h2d.errors import ConfigError
from h2d.experiment import Experiment, leaves
from h2d.experiment_files import CONFIG_ROOT, experiments

DATA = "data.shards=somewhere"
SHIPPED = [name for name in experiments() if not name.startswith("presets/")]


def _error(name: str, *overrides: str, root: Path = CONFIG_ROOT) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        compose(name, overrides, root)
    return caught.value


@pytest.fixture
def root(tmp_path: Path, monkeypatch: Any) -> Callable[..., Path]:
    """Writes files ``name=text`` below a folder of experiments; errors then name them relative to it."""
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> Path:
        (tmp_path / "presets").mkdir(exist_ok=True)
        for name, text in files.items():
            (tmp_path / f"{name.replace('__', '/')}.yaml").write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize("preset", ["", "tiny", "smoke"])
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_experiment_composes(name: str, preset: str) -> None:
    experiment = compose(name, [DATA, *([f"preset={preset}"] if preset else [])]).experiment
    assert isinstance(experiment, Experiment)
    assert experiment.run.name == name.rpartition("/")[2]
    assert experiment.accumulation * experiment.micro_batch * experiment.world_size == experiment.trainer.global_batch


def test_paper_settings_are_the_defaults() -> None:
    hand, outpaint = (compose(name, [DATA]).experiment for name in ("hand", "outpaint"))
    for experiment in (hand, outpaint):
        assert (experiment.trainer.global_batch, experiment.optim.lr, experiment.image_size) == (32, 1e-5, 512)
    assert (hand.trainer.max_steps, outpaint.trainer.max_steps) == (30_000, 6_000)
    assert (hand.loss.mask_weight, hand.loss.mask_dropout) == (0.5, 0.5)


def test_layers_from_weak_to_strong(root: Callable[..., Path]) -> None:
    folder = root(
        parent="seed: 1\nimage_size: 64\noptim: {lr: 0.1, weight_decay: 0.1}\n",
        presets__small="image_size: 72\noptim: {lr: 0.2}\n",
        child="extends: parent\npreset: small\ntask: hand\noptim:\n  lr: 0.3\ndata: {shards: x}\n",
    )
    experiment, origins = compose("child", ["seed=9"], folder)
    assert (experiment.seed, experiment.image_size) == (9, 72)
    assert (experiment.optim.lr, experiment.optim.weight_decay) == (0.3, 0.1)
    assert str(origins["seed"]) == "command line"
    assert str(origins["image_size"]) == "presets/small.yaml:1"
    assert str(origins["optim.lr"]) == "child.yaml:5"
    assert "optim.grad_clip" not in origins


def test_preset_of_the_command_line_is_stronger_than_files_and_weaker_than_other_pairs(
    root: Callable[..., Path],
) -> None:
    folder = root(
        presets__one="seed: 1\nimage_size: 64\n",
        presets__two="image_size: 72\noptim: {lr: 0.2}\n",
        mine="preset: one\ntask: hand\noptim: {lr: 0.1}\ndata: {shards: x}\n",
    )
    experiment = compose("mine", ["data.batch_size=8", "preset=two"], folder).experiment
    assert (experiment.preset, experiment.image_size, experiment.optim.lr) == ("two", 72, 0.2)
    assert experiment.seed == 0  # the preset of the file is replaced, not kept beside it
    assert compose("mine", ["preset="], folder).experiment.image_size == 512


def test_every_mistake_is_named_with_its_place_at_once(root: Callable[..., Path]) -> None:
    folder = root(bad="task: hand\nloss:\n  mask_wieght: 0.1\noptim:\n  lr: fast\n")
    error = _error("bad", "trainer.max_step=3", "seed", "data.shards=x", root=folder)
    lines = error.message.splitlines()
    assert len(lines) == 4
    text = error.message
    assert "bad.yaml:3: loss.mask_wieght: there is no such key; did you mean loss.mask_weight?" in text
    assert "bad.yaml:5: optim.lr: Value 'fast'" in text
    assert "command line: trainer.max_step: there is no such key; did you mean trainer.max_steps?" in text
    assert "command line: 'seed' is not of the form key=value" in text


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("lr", "optim.lr"),
        ("batch_size", "data.batch_size"),
        ("optim.learning_rate.x", None),
        ("data.shard", "data.shards"),
    ],
)
def test_suggestions(wrong: str, right: str | None) -> None:
    text = _error("hand", f"{wrong}=1", DATA).message
    assert (f"did you mean {right}?" in text) if right else ("did you mean" not in text)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("image_size=100", "image_size has to be a multiple of 8"),
        ("image_size=56", "at least 64"),
        ("trainer.devices=3", "32 is not a multiple of 3 = 3 devices x 1 nodes"),
        ("model.mask_layers=5", "has to be 4 or 3, not 5"),
        ("trainer.precision=16-mixed", "optim.fused cannot go with 16-mixed"),
        ("trainer.devices=0", "trainer.devices has to be at least 1, not 0"),
        ("trainer.max_steps=0", "has to be at least 1, or -1"),
        ("trainer.max_epochs=-2", "has to be at least 1, or -1"),
        ("optim.lr=0", "has to be above 0"),
        ("optim.lr=.nan", "has to be a finite number"),
        ("optim.ema_decay=1.5", "between 0 and 1"),
        ("loss.mask_dropout=-0.1", "between 0 and 1"),
        ("optim.warmup_steps=30000", "leaves nothing of 30000 steps"),
        ("sampling.num_inference_steps=1001", "has to be at most 1000"),
        ("sampling.unblended_last_steps=50", "leaves nothing to blend in 50 steps"),
        ("run.name=../other", "not a folder name"),
        ("run.name=/absolute", "not a folder name"),
        ("task=foot", "task"),
        ("data.augment=5", "data.augment"),
        ("seed.x=1", "seed.x: there is no such key"),
        ("data.batch_size=null", "data.batch_size"),
        ("trainer.precision=64", "trainer.precision"),
        ("data.shards=???", "data.shards is required"),
        ("=5", "is not of the form key=value"),
    ],
)
def test_rules(override: str, complaint: str) -> None:
    assert complaint in _error("hand", DATA, override).message


def test_a_run_without_an_end_is_refused() -> None:
    assert "never end" in _error("hand", DATA, "trainer.max_steps=-1").message


@pytest.mark.parametrize(
    "value", ["${oc.env:HOME}", "${oc.env:HOME,x}", "a${oc.env:HOME}", "${${seed}.env:HOME}", "${oc.decode:1}"]
)
def test_environment_cannot_leak(value: str) -> None:
    assert "is refused" in _error("hand", f"data.shards={value}").message


def test_references_to_other_settings_work(root: Callable[..., Path]) -> None:
    folder = root(mine="task: hand\nrun: {name: a}\ndata: {shards: 'folder/${run.name}'}\n")
    assert compose("mine", [], folder).experiment.data.shards == "folder/a"


@pytest.mark.parametrize("value", ["${no.where}", "${data.shards}", "${", "${}", "${run}"])
def test_references_that_lead_nowhere_are_errors(value: str) -> None:
    assert _error("hand", f"data.shards={value}").message


def test_required_key_has_a_hint() -> None:
    error = _error("hand")
    assert "data.shards is required" in error.message
    assert "data.shards=FOLDER" in error.hint


def test_unknown_names_are_suggested() -> None:
    assert "did you mean hand?" in _error("hnad").hint
    assert "did you mean tiny?" in _error("hand", "preset=tinny").hint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [1\n", "bad.yaml:2"),
        ("- 1\n", "list"),
        ("seed: 1\nseed: 2\n", "bad.yaml:2"),
        ("!!python/object/apply:os.system [ls]\n", "bad.yaml"),
        ("extends: bad\n", "extends itself"),
        ("extends: [1]\n", "extends takes a name"),
        ("extends: nowhere\n", "no experiment 'nowhere'"),
        ("preset: 3\n", "no preset '3'"),
        ("just words\n", "bad.yaml"),
        ("on: 1\n", "True: there is no such key"),
        ("optim: null\n", "optim"),
        ("a: &x [*x]\n", "bad.yaml"),
    ],
)
def test_broken_files_are_named(text: str, complaint: str, root: Callable[..., Path]) -> None:
    assert complaint in _error("bad", root=root(bad=text)).message


def test_binary_file_is_named(root: Callable[..., Path]) -> None:
    folder = root()
    (folder / "bad.yaml").write_bytes(bytes(range(256)))
    assert "bad.yaml" in _error("bad", root=folder).message


def test_random_damage_never_ends_in_a_traceback(root: Callable[..., Path]) -> None:
    text, rng = (CONFIG_ROOT / "presets" / "tiny.yaml").read_text(), random.Random(0)
    for _ in range(60):
        letters = list(text)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(letters))
            letters[place] = rng.choice([":", "\n", " ", "[", "{", "&", "*", "!", "'", "#", "x", "", "\t", "${", "-"])
        folder = root(bad="".join(letters))
        with suppress(ConfigError):
            compose("bad", ["task=hand", DATA], folder)


def test_plain_and_back() -> None:
    experiment = compose("outpaint", [DATA, "preset=tiny"]).experiment
    plain = to_plain(experiment)
    assert from_plain(plain) == experiment
    with pytest.raises(ConfigError):
        from_plain({**plain, "no_such_key": 1})


def test_written_config_composes_to_the_same_experiment(tmp_path: Path) -> None:
    experiment, origins = compose("hand", [DATA, "preset=tiny", "optim.lr=3e-5", "run.name=a"])
    for text in (to_yaml(experiment), to_yaml(experiment, origins)):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        assert compose(str(path)).experiment == experiment


def test_config_needs_no_heavy_package() -> None:
    code = "import sys, h2d.config, h2d.explain; sys.exit(any(m in sys.modules for m in ('torch', 'lightning', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_key_given_twice_is_refused() -> None:
    """What a shell makes of ``data.shards=data/{a,b}/shards`` without quotes."""
    with pytest.raises(ConfigError, match=r"data\.shards is given twice: keep one; a value with braces needs quotes"):
        compose("hand", ["data.shards=data/a/shards", "data.shards=data/b/shards"])


@pytest.mark.parametrize(
    ("settings", "micro_batch", "accumulation"),
    [
        (("trainer.global_batch=32", "data.batch_size=4"), 4, 8),
        (("trainer.global_batch=32", "data.batch_size=32"), 32, 1),
        (("trainer.global_batch=32", "data.batch_size=12"), 8, 4),  # the most that 32 divides by
        (("trainer.global_batch=33", "data.batch_size=4"), 3, 11),
        (("trainer.global_batch=32", "data.batch_size=32", "trainer.devices=8"), 4, 1),
        (("preset=ddp8,24gb",), 4, 1),
        (("preset=one_gpu,24gb",), 4, 8),
        (("preset=one_gpu,80gb",), 32, 1),
        (("preset=multinode,80gb",), 2, 1),
    ],
)
def test_accumulation_follows_from_the_global_batch(
    settings: tuple[str, ...], micro_batch: int, accumulation: int
) -> None:
    experiment = compose("hand", [DATA, *settings]).experiment
    assert (experiment.micro_batch, experiment.accumulation) == (micro_batch, accumulation)
    assert experiment.micro_batch * experiment.accumulation * experiment.world_size == experiment.trainer.global_batch


def test_later_presets_are_stronger_and_all_count() -> None:
    experiment = compose("hand", [DATA, "preset=tiny,literal,40gb"]).experiment
    assert experiment.model.base == "tiny"
    assert (experiment.loss.caption_dropout, experiment.sampling.blend) == (0, "clean")
    assert experiment.data.batch_size == 8
    assert "nothing" in _error("hand", DATA, "preset=tiny,nothing").message


def test_recommended_is_what_is_done_without_it() -> None:
    assert compose("hand", [DATA, "preset=recommended"]).experiment.loss == compose("hand", [DATA]).experiment.loss
    literal, plain = (compose("outpaint", [DATA, *more]).experiment for more in (["preset=literal"], []))
    changed = [key for key, value in leaves(plain) if dict(leaves(literal))[key] != value]
    assert changed == ["preset", "loss.caption_dropout", "sampling.blend"]


@pytest.mark.parametrize("name", ["hand", "outpaint"])
def test_the_paper_s_recipe(name: str) -> None:
    """Section IV-B; 193,300 and 36,500 samples in batches of 32, five times each."""
    experiment = compose(name, [DATA]).experiment
    assert (experiment.trainer.global_batch, experiment.optim.lr) == (32, 1e-5)
    assert experiment.trainer.max_steps == {"hand": 30000, "outpaint": 6000}[name]
    assert (experiment.loss.mask_weight, experiment.loss.mask_dropout) == (0.5, 0.5)
    assert experiment.optim.ema_decay is None
    assert (experiment.optim.schedule, experiment.optim.warmup_steps) == ("constant", 0)
    assert experiment.image_size == 512
