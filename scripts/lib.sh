# shellcheck shell=bash
# Processes of the folder $dir, for scripts/broker and scripts/demo. Each is noted with its start time and the boot it
# belongs to, so that a pid that was given to another process meanwhile is never taken for it.

dir=${dir:-}
boot=$(</proc/sys/kernel/random/boot_id)

# Prints the comment at the top of a script.
usage() {
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '/^set/d'
    exit "$1"
}

# Sets stat to the fields of /proc/PID/stat from the state on: [0] is the state, [19] the start time.
stat_of() {
    local line
    read -r line 2>/dev/null <"/proc/$1/stat" || return 1
    read -ra stat <<<"${line##*) }"
}

# launch NAME OUTPUT COMMAND...: starts it in a session of its own, so that a Ctrl-C at the terminal does not reach it.
# A caller that handles signals must note them only: one that ends it here would leave the process unknown.
launch() {
    local name=$1 output=$2
    shift 2
    (cd "$dir" && exec setsid "$@" </dev/null >>"$output" 2>>"log/$name.log" 9>&-) &
    pid=$!
    disown
    stat_of "$pid" && echo "$pid ${stat[19]} $boot" >"$dir/$name.pid"
}

# Sets pid if the process of this name is still there.
alive() {
    local since born
    read -r pid since born 2>/dev/null <"$dir/$1.pid" || return 1
    [[ $born == "$boot" ]] && stat_of "$pid" && [[ ${stat[19]} == "$since" && ${stat[0]} != Z ]]
}

# Sends a signal to the process of this name and waits until it is gone; after 30 seconds it is killed.
end() {
    local tries
    for ((tries = 0; tries < 1200; tries++)); do
        alive "$1" || break
        case $tries in
        0) kill "-$2" "$pid" || true ;;
        1) kill -CONT "$pid" || true ;;
        600) kill -KILL "$pid" || true ;;
        esac 2>/dev/null
        sleep 0.05
    done
    rm -f "$dir/$1.pid"
}
