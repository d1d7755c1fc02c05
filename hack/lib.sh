# What the scripts of hack/ share: where things are, and `step`, which prints one line for each thing done.
# Sourced, not run. Invariant: whatever a step prints goes to a log under target/log/, and what fails is shown with
# its command and the end of that log.
# shellcheck shell=bash
set -euo pipefail

HACK=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$HACK")
CLUSTER=$HACK/cluster/cluster
LOG=$ROOT/target/log/$(basename "$0")
export PATH="$PATH:/usr/local/go/bin:${HOME:-/root}/go/bin:${HOME:-/root}/.cargo/bin:/usr/sbin:/sbin"
STEPS=0
STEP_LOG=
CODE=0

die() { # TEXT...: what is wrong and what would be right
  printf 'error: %s\n' "$*" >&2
  exit 1
}

now() { date +%s.%N; }

since() { # TIME: seconds from then, `0.4 s` or `3 min 20 s`
  awk -v a="$1" -v b="$(now)" 'BEGIN {
    s = b - a
    if (s < 100) printf "%.1f s", s; else printf "%d min %02d s", s / 60, s % 60
  }'
}

logs_to() { # NAME: the folder under target/log/ of this run, empty
  LOG=$ROOT/target/log/$1
  rm -rf "$LOG"
  mkdir -p "$LOG"
}

line() { # MARK TIME TEXT: how every line looks
  printf '%-4s %12s  %s\n' "$1" "$2" "$3"
}

# A function that runs inside `if`, `||` or `&&` does not stop at its first failing command, whatever -e says. So these two are
# called as plain commands: `try` never fails and leaves the exit code in $CODE, `step` ends the script.

try() { # TEXT CMD...: runs CMD, prints TEXT and how long it took. Its output is in $STEP_LOG, its exit code in $CODE.
  local text=$1 began
  shift
  STEPS=$((STEPS + 1))
  mkdir -p "$LOG"
  STEP_LOG=$LOG/$(printf '%02d' "$STEPS")-$(tr -cs 'A-Za-z0-9' '-' <<<"$text" | cut -c1-50 | sed 's/-*$//').log
  began=$(now)
  [ ! -t 1 ] || line ... '' "$text" | tr '\n' '\r'
  set +e
  (set -e; "$@") >"$STEP_LOG" 2>&1 </dev/null 8>&- # 8: the lock of hack/test, which no process that stays may hold
  CODE=$?
  set -e
  [ ! -t 1 ] || printf '\r\033[K'
  if [ $CODE -eq 0 ]; then
    line ok "$(since "$began")" "$text"
    return
  fi
  line FAIL "$(since "$began")" "$text"
  printf '\n  command:  %s\n  exit:     %s\n  log:      %s\n' "$*" "$CODE" "${STEP_LOG#"$ROOT"/}"
  what_it_said "$STEP_LOG"
  echo
}

what_it_said() { # LOG: of a step that failed
  printf '  its end:\n'
  tail -n 60 "$1" | sed 's/^/    /'
}

step() { # TEXT CMD...: as try, and the script ends when CMD fails
  try "$@"
  [ "$CODE" -eq 0 ] || exit "$CODE"
}

need_root() {
  [ "$(id -u)" = 0 ] || die "$(basename "$0") makes namespaces, mounts and cgroups: run it as root (sudo -E $0)"
}

on_cluster() { # CMD...: on the test cluster's network, as its administrator
  "$CLUSTER" exec "$@"
}

load_image() { # NAME: one of hack/images/build, onto every node that does not have it yet
  "$CLUSTER" load --as "$(cat "$ROOT/target/images/$1.id")" "$ROOT/target/images/$1.tar"
}

install_chart() { # HELM-ARGS...: this checkout's chart with the images of hack/images/build, or what differs from what is installed
  on_cluster helm upgrade --install borgherd "$ROOT/charts/borgherd" --namespace borgherd --create-namespace \
    --set image.registry=localhost,image.tag=test "$@" --wait --timeout 5m
  # the tag stays the same: pods must be made anew when what stands behind it has changed
  local images
  images=$(cat "$ROOT"/target/images/{agent,controller}.id | sha256sum | cut -c1-16)
  [ "$images" = "$(on_cluster kubectl get namespace borgherd -o 'jsonpath={.metadata.annotations.images}')" ] && return
  if [ -n "$(on_cluster kubectl get namespace borgherd -o 'jsonpath={.metadata.annotations.images}')" ]; then
    on_cluster kubectl -n borgherd rollout restart daemonset,deployment
  fi
  on_cluster kubectl annotate --overwrite namespace borgherd images="$images"
  local workload
  for workload in $(on_cluster kubectl -n borgherd get daemonset,deployment -o name); do
    on_cluster kubectl -n borgherd rollout status "$workload" --timeout 5m
  done
}
