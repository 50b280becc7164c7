# What every job begins with, sourced by the .sbatch files: the site's values, offline caches, and how a job comes back.
# shellcheck shell=bash disable=SC2154  # site.env sets MODULES, CONTAINER, H2D_BIN and RUNS

# shellcheck source=slurm/site.sh
. slurm/site.sh
for module in "${MODULES[@]}"; do module load "$module"; done

export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}                 # a node without internet would otherwise wait for the hub
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}        # since Slurm 22.05 srun does not take them over
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SRUN_CPUS_PER_TASK}
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 NCCL_DEBUG=${NCCL_DEBUG:-WARN}

JOB=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
JOB=${JOB:-$SLURM_JOB_ID}
printf -- '-- job %s, start %s, on %s, commit %s, %s\n' "$JOB" "$((${SLURM_RESTART_COUNT:-0} + 1))" "$SLURM_JOB_NODELIST" \
    "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" "$(date '+%F %T')"

# put this job back into the queue, once, unless somebody has cancelled it
requeue() {
    local try
    for try in 1 2 3 4 5; do
        [[ "$(scontrol -o show job "$JOB")" =~ JobState=(CANCELLED|COMPLETED) ]] && return
        printf -- '-- %s: job %s goes back into the queue\n' "$1" "$JOB"
        scontrol requeue "$JOB" && sleep 600    # Slurm ends this script
        sleep $((10 * try))                     # the controller may be busy or restarting
    done
}

# a task that Slurm may end at any time, because the same command goes on: ask for a new start when time is nearly up
interruptible() {
    trap 'requeue "time is nearly up"' USR1
    local code step
    srun --kill-on-bad-exit=1 "${CONTAINER[@]}" "$@" &
    step=$!
    while code=0; wait "$step" || code=$?; kill -0 "$step" 2>/dev/null; do :; done    # a trap ends a wait early
    case $code in 130 | 143) requeue "preempted" ;; esac
    return "$code"
}
