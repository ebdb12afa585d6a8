# shellcheck shell=bash disable=SC2034
# Steps with their seconds, and what is the same in scripts/check and scripts/test.

# `default` is what the package has on by itself; with the others a test can end an agent at a point of its work. One build has
# both unit tests and those.
traits=(--traits 'default,FaultPoints')

# A few tests at a time: the limit of a test's time begins with the test, and on two cores most would only wait.
swift_test=(swift test --skip-build --experimental-maximum-parallelization-width 8)

# Those that need no broker.
unit_tests=(--skip EndToEndTests)

# Sets used to the processor seconds of what this script started and has waited for.
look_at_processor() {
    local stat
    read -ra stat <"/proc/$$/stat"
    used=$(((stat[15] + stat[16]) / $(getconf CLK_TCK)))
}

# Begins a step.
step() {
    end_step
    printf '\n== %s\n' "$*"
    look_at_processor
    step=$* began=$SECONDS used_before=$used
}

# Ends it: a row of the table in the file $RELOAD_STEPS, which a script that another one runs shares with it.
end_step() {
    [[ ${step:-} ]] || return 0
    look_at_processor
    printf '%6d %6d  %s\n' $((SECONDS - began)) $((used - used_before)) "$step" >>"$RELOAD_STEPS"
    step=''
}

# Prints the seconds of each step.
table() {
    end_step
    [[ -s $RELOAD_STEPS ]] || return 0
    printf '\n== Seconds, and those of a processor\n'
    awk '{ print; all += $1; used += $2 } END { printf "%6d %6d  all\n", all, used }' "$RELOAD_STEPS"
}

# Starts a command in a process group of its own, so that a signal which reaches this script alone ends it all the same, and
# sets job.
declare -A jobs=()
start() {
    set -m
    "$@" </dev/null &
    job=$!
    set +m
    jobs[$job]=running
}

# Waits for a job; its exit status is the job's.
finish() {
    local status=0
    wait "$1" || status=$?
    unset "jobs[$1]"
    return "$status"
}

run() {
    start "$@"
    finish "$job"
}

# Ends all jobs and what they started, but for who has a session of its own.
end_jobs() {
    local job
    for job in "${!jobs[@]}"; do kill -TERM -- "-$job" && kill -CONT -- "-$job"; done
    for job in "${!jobs[@]}"; do
        wait "$job"
        kill -KILL -- "-$job"
    done
} 2>/dev/null
