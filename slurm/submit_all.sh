#!/usr/bin/env bash
# Submits the whole way as a chain of jobs: shards, both trainings, the pipeline, its evaluation.
#   DATASET=hagrid ROOT=/data/hagrid slurm/submit_all.sh [--dry-run] [key=value ...]     settings of trainings and evaluation
#   DATASET=synthetic slurm/submit_all.sh preset=tiny                                    rendered people, without any download
# In the environment:
#   EXP       folder of everything below DATA and RUNS of site.env (the data set's name)
#   PREPARE   keys of data_prep, such as "preset=paper"      COUNT     rendered people (1000)
#   HAND      experiment of stage I, and its own settings: "hand trainer.max_steps=30000"; so OUTPAINT and EVALUATE
#   NODES, GPUS of a node, for the trainings (1, 1)           SHARES    tasks that prepare (16), and of an evaluation (4)
# Given again with the same words it goes on, and what is done takes a minute; other words want another EXP.
set -euo pipefail
cd "$(dirname "$0")/.."

dry=()
case "${1:-}" in
    --dry-run) dry=(--dry-run); shift ;;
    -*) sed -n '2,/^set/s/^# \?//p' "$0" >&2; exit 2 ;;
esac
# shellcheck source=slurm/site.sh
. slurm/site.sh
[ "${DATASET:-}" ] || fail "DATASET is not set" "DATASET=synthetic, hagrid, interhand, reinterhand, laion_human or folder"
exp=${EXP:-$DATASET} data=$DATA/${EXP:-$DATASET} runs=$RUNS/${EXP:-$DATASET}
read -ra prepare <<<"${PREPARE:-}"
read -ra hand <<<"${HAND:-hand}"
read -ra outpaint <<<"${OUTPAINT:-outpaint}"
read -ra evaluate <<<"${EVALUATE:-evaluate}"
if [ ${#dry[@]} -eq 0 ]; then    # all or nothing
    out=$("$0" --dry-run "$@" 2>&1 >/dev/null) || { grep -v '^sbatch ' <<<"$out" >&2; exit 2; }
fi
common=("data.shards=$data/shards" "run.dir=$runs" "$@")
last() { echo "$runs/$1/checkpoints/last.ckpt"; }

ids=()
trap '[ $? -eq 0 ] || [ ${#ids[@]} -eq 0 ] || [ ${#dry[@]} -gt 0 ] || scancel "${ids[@]}"' EXIT
submit() { # submit WHAT AFTER WORD ...: a job that starts when AFTER allows it, whose number is kept in $job
    local what=$1 after=$2
    shift 2
    job=$(slurm/submit.sh "${dry[@]}" --name="$what-$exp" ${after:+"--after=$after"} "$@")
    ids+=("$job")
    printf '%-9s job %s%s\n' "$what" "$job" "${after:+, $after}"
}

after=''
if [ "$DATASET" = synthetic ]; then
    ROOT=${ROOT:-$data/raw}
    submit generate '' prepare generate synthetic "root=$ROOT" "count=${COUNT:-1000}"
    after=afterok:$job
fi
[ "${ROOT:-}" ] || fail "ROOT is not set" "ROOT=FOLDER of the raw data"
submit prepare "$after" prepare all "$DATASET" "root=$ROOT" "out=$data" "${prepare[@]}"
submit hand "afterok:$job" train "${hand[@]}" "${common[@]}" run.name=hand
submit outpaint "afterok:$job" train "${outpaint[@]}" "${common[@]}" run.name=outpaint "evaluation.partner=$(last hand)"
submit export "afterok:$job" command export --hand "$(last hand)" --outpaint "$(last outpaint)" --out "$runs/pipeline"
measure=("${evaluate[@]}" --pipeline "$runs/pipeline" "${common[@]}" run.name=evaluation)
submit evaluate "afterok:$job" evaluate "${measure[@]}"
submit table "afterok:$job" command evaluate "${measure[@]}"

cat <<END
watch     squeue --me; tail -F slurm/logs/*-$exp-*; tensorboard --logdir $runs
stop      scancel ${ids[*]}
result    $runs/evaluation/index.html
END
