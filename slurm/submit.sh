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


at_least() { [[ "$3" =~ ^[0-9]+$ ]] && [ "$3" -ge "$2" ] || fail "$1=$3" "a number from $2 on"; }
# what h2d or data_prep would refuse; in a container that is found out by the job
ask() { [ ${#CONTAINER[@]} -gt 0 ] || "$H2D_BIN/$1" "${@:2}"; }
later=() && [ -z "$after" ] || later=(--later)

options=("--job-name=${name:-h2d-$kind}" "${SUBMIT[@]}")
case $kind in
    prepare)
        shares=${SHARES:-16}
        [ "$1" != generate ] || shares=1
        at_least SHARES 1 "$shares"
        ask python -m data_prep --dry-run "$@"
        for word in "$@"; do
            [[ "$1" == generate || "$after" || "$word" != root=* || -e "${word#root=}" ]] || fail "$word does not exist" "root=FOLDER of the raw data"
        done
        options+=("${SUBMIT_PREPARE[@]}" "--array=0-$((shares - 1))" "--export=ALL,SHARES=$shares")
        ;;
    train)
        nodes=${NODES:-1} gpus=${GPUS:-1}
        at_least NODES 1 "$nodes"
        at_least GPUS 0 "$gpus"
        tasks=$((gpus > 0 ? gpus : 1))
        given run.dir "$@" || set -- "$@" "run.dir=$RUNS"
        folder=$(ask h2d config check "${later[@]}" "$@" "trainer.devices=$tasks" "trainer.num_nodes=$nodes")
        owner=$({ squeue --me --noheader --format='%i %k' 2>/dev/null || true; } | awk -v k="${folder:-none}" '$2 == k {print $1; exit}')
        [ -z "$owner" ] || fail "job $owner trains in $folder" "wait for it, scancel $owner, or choose another run.name"
        options+=("${SUBMIT_TRAIN[@]}" "--nodes=$nodes" "--ntasks-per-node=$tasks" "--gpus-per-node=$gpus" "--comment=$folder")
        ;;
    evaluate)
        shares=${SHARES:-4}
        at_least SHARES 1 "$shares"
        given run.dir "$@" || set -- "$@" "run.dir=$RUNS"
        words=("$1")
        for ((i = 2; i <= $#; i++)); do
            case ${!i} in
                --pipeline) words+=("${@:i:2}") ;;
                -*) ;;
                *=*) [[ "${*:i-1:1}" == --place ]] || words+=("${!i}") ;;
            esac
        done
        ask h2d config check "${later[@]}" "${words[@]}" >/dev/null
        options+=("${SUBMIT_EVALUATE[@]}" "--array=0-$((shares - 1))")
        ;;
    command) options+=("${SUBMIT_EVALUATE[@]}") ;;
esac
if command -v sbatch >/dev/null; then
    said=$(sbatch --test-only "${options[@]}" "slurm/$kind.sbatch" "$@" 2>&1) ||
        fail "Slurm refuses: ${said//$'\n'/; }" "SUBMIT... in slurm/site.env, NODES, GPUS; sinfo lists partitions"
fi
[ -z "$after" ] || options+=("--dependency=$after" --kill-on-invalid-dep=yes)

if [ "$dry" ]; then
    { printf '%q ' sbatch "${options[@]}" "slurm/$kind.sbatch" "$@"; echo; } >&2
    echo "${name:-h2d-$kind}"
else
    job=$(sbatch --parsable "${options[@]}" "slurm/$kind.sbatch" "$@")
    echo "${job%%;*}"
    [ ! -t 1 ] || echo "watch: squeue --me; tail -F slurm/logs/${name:-h2d-$kind}-${job%%;*}*" >&2
fi
