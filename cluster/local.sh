#!/usr/bin/env bash
# A Ray cluster of two nodes on this machine, to run jobs as a real cluster runs them:
#
#   cluster/local.sh start          two nodes and the dashboard
#   eval "$(cluster/local.sh env)"  now ray and zsd in this shell mean that cluster
#   ray job submit --runtime-env jobs/runtime_env.yaml -- python jobs/label.py --config jobs/configs/laptop.toml
#   cluster/local.sh kill           the second node dies at once, as a spot node does
#   cluster/local.sh add            another one joins
#   cluster/local.sh stop           ends what start and add began, and no other Ray
#
# Environment: ZSD_CLUSTER (folder of logs and process ids; default ~/.cache/zsd-cluster; Ray wants it short),
# ZSD_CLUSTER_CPUS (of each node; 2), ZSD_CLUSTER_PORT (6399), ZSD_CLUSTER_DASHBOARD (8265).
set -euo pipefail

folder=${ZSD_CLUSTER:-$HOME/.cache/zsd-cluster}
port=${ZSD_CLUSTER_PORT:-6399}
dashboard=${ZSD_CLUSTER_DASHBOARD:-8265}
common=(--block --disable-usage-stats --node-ip-address=127.0.0.1 --num-cpus="${ZSD_CLUSTER_CPUS:-2}"
    --object-store-memory=200000000 --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)

# Ray looks for a token in the home directory: a node that finds one there refuses nodes that were started without.
# So this cluster has a token of its own, which also keeps other users of the machine out of the dashboard.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$folder/token
unset RAY_ADDRESS RAY_API_SERVER_ADDRESS RAY_AUTH_TOKEN

begin() { # NAME ARGUMENTS: a node in a process group of its own, which outlives this shell
    local name=$1
    shift
    setsid ray start "${common[@]}" "$@" >"$folder/$name.log" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

end() { # NAME SIGNAL
    local file=$folder/$1.pid pid
    [ -e "$file" ] || return 0
    pid=$(cat "$file")
    kill "-$2" -- "-$pid" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 -- "-$pid" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL -- "-$pid" 2>/dev/null || true
    rm -f "$file"
}

wait_for() { # NODES
    for _ in $(seq 60); do
        [ "$(ray status --address="127.0.0.1:$port" 2>/dev/null | sed '/^Pending/,$d' | grep -c node_)" -eq "$1" ] && return 0
        sleep 1
    done
    echo "local.sh: the nodes do not come up: see $folder/*.log" >&2
    return 1
}

case ${1:-} in
start)
    if compgen -G "$folder/*.pid" >/dev/null; then
        echo "local.sh: a cluster is running in $folder: cluster/local.sh stop ends it" >&2
        exit 1
    fi
    mkdir -p "$folder"
    rm -rf "${folder:?}/ray"
    (umask 077 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH")
    begin head --head --port="$port" --temp-dir="$folder/ray" --include-dashboard=true --dashboard-host=127.0.0.1 \
        --dashboard-port="$dashboard" --ray-client-server-port=$((port + 1))
    wait_for 1
    begin worker --address="127.0.0.1:$port"
    wait_for 2
    echo "local.sh: two nodes, dashboard http://127.0.0.1:$dashboard, logs in $folder" >&2
    ;;
env)
    echo "export RAY_ADDRESS=127.0.0.1:$port RAY_API_SERVER_ADDRESS=http://127.0.0.1:$dashboard" \
        "RAY_AUTH_MODE=$RAY_AUTH_MODE RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH"
    ;;
kill) end worker KILL ;;
add)
    begin worker --address="127.0.0.1:$port"
    wait_for 2
    ;;
stop)
    end worker TERM
    end head TERM
    ;;
*)
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
