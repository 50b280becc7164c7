# The site's values and what they have to be, sourced by submit.sh on the login node and by every job.
# shellcheck shell=bash disable=SC2154  # site.env sets CONTAINER, H2D_BIN, SUBMIT

fail() {
    printf 'error: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 2
}

# whether key=value is among words: given KEY WORD...
given() { [[ " ${*:2}" == *" $1="* ]]; }

[ -f slurm/site.env ] || fail "$PWD/slurm/site.env is missing" "cp slurm/site.env.example slurm/site.env, and fill it in"
# shellcheck source=slurm/site.env.example
. slurm/site.env
[[ "${SUBMIT[*]}" != *CHANGE_ME* ]] || fail "slurm/site.env still says CHANGE_ME" "name your account and partition, or remove the words"
[ ${#CONTAINER[@]} -gt 0 ] || [ -x "$H2D_BIN/h2d" ] || fail "$H2D_BIN/h2d is missing" "make setup, on the login node"
