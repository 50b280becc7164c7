#!/usr/bin/env bash
# Submits one job with the site's options, after a look at what can be known before it waits in the queue:
#   slurm/submit.sh [OPTION ...] prepare  STAGE DATASET key=value ...
#                                train    EXPERIMENT key=value ...
#                                evaluate EXPERIMENT --pipeline DIR key=value ...
#                                command  ...                    any other h2d command
# --dry-run prints the sbatch command only, --after=CONDITION waits for other jobs (afterok:123), --name=NAME names the job.
# In the environment: NODES and GPUS (of a node) of a training, SHARES of an array. Prints the number of the job.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    sed -n '2,/^set/s/^# \?//p' "$0" >&2
    exit 2
}

dry='' after='' name=''
while [[ "${1:-}" == --* ]]; do
    case $1 in
        --dry-run) dry=1 ;;
        --after=*) after=${1#*=} ;;
        --name=*) name=${1#*=} ;;
        *) usage ;;
    esac
    shift
done
[ $# -gt 1 ] || usage
kind=$1
shift
[ -f "slurm/$kind.sbatch" ] || usage
# shellcheck source=slurm/site.sh
. slurm/site.sh
[ "$dry" ] || command -v sbatch >/dev/null || fail "there is no sbatch on this machine" "use a login node of the cluster"
mkdir -p slurm/logs

# the experiment's settings, or what is wrong with them; in a container that is found out by the job
settings() { [ ${#CONTAINER[@]} -gt 0 ] || "$H2D_BIN/h2d" config show "$@"; }

options=("--job-name=${name:-h2d-$kind}" "${SUBMIT[@]}")
case $kind in
    prepare)
        export SHARES=${SHARES:-16}
        [ "$1" != generate ] || SHARES=1
        options+=("${SUBMIT_PREPARE[@]}" "--array=0-$((SHARES - 1))")
        ;;
    train)
        nodes=${NODES:-1} gpus=${GPUS:-1}
        tasks=$((gpus > 0 ? gpus : 1))
        given run.dir "$@" || set -- "$@" "run.dir=$RUNS"
        shown=$(settings "$@" "trainer.devices=$tasks" "trainer.num_nodes=$nodes")
        folder=$(awk '$1 == "dir:" {dir = $2} $1 == "name:" {name = $2} END {print dir "/" name}' <<<"$shown")
        owner=$({ squeue --me --noheader --format='%i %k' 2>/dev/null || true; } | awk -v k="$folder" '$2 == k {print $1; exit}')
        [ -z "$owner" ] || fail "job $owner trains in $folder" "wait for it, scancel $owner, or choose another run.name"
        options+=("${SUBMIT_TRAIN[@]}" "--nodes=$nodes" "--ntasks-per-node=$tasks" "--gpus-per-node=$gpus" "--comment=$folder")
        ;;
    evaluate)
        given run.dir "$@" || set -- "$@" "run.dir=$RUNS"
        words=()
        for word in "${@:2}"; do [[ "$word" == -* || "$word" != *=* ]] || words+=("$word"); done
        settings "$1" "${words[@]}" >/dev/null
        options+=("${SUBMIT_EVALUATE[@]}" "--array=0-$((${SHARES:-4} - 1))")
        ;;
    command) options+=("${SUBMIT_EVALUATE[@]}") ;;
esac
[ -z "$after" ] || options+=("--dependency=$after" --kill-on-invalid-dep=yes)

if [ "$dry" ]; then
    { printf '%q ' sbatch "${options[@]}" "slurm/$kind.sbatch" "$@"; echo; } >&2
    echo "${name:-h2d-$kind}"
else
    job=$(sbatch --parsable "${options[@]}" "slurm/$kind.sbatch" "$@")
    echo "${job%%;*}"
    [ ! -t 1 ] || echo "watch: squeue --me; tail -F slurm/logs/${name:-h2d-$kind}-${job%%;*}*" >&2
fi
