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

step() { # TEXT CMD...: runs CMD, prints TEXT and how long it took. Its output is in $STEP_LOG.
  local text=$1 began code=0
  shift
  STEPS=$((STEPS + 1))
  mkdir -p "$LOG"
  STEP_LOG=$LOG/$(printf '%02d' "$STEPS")-$(tr -cs 'A-Za-z0-9' '-' <<<"$text" | cut -c1-50 | sed 's/-*$//').log
  began=$(now)
  [ -t 1 ] && line ... '' "$text" | tr '\n' '\r'
  # not as a condition: that would switch off -e inside shell functions
  set +e
  (set -e; "$@") >"$STEP_LOG" 2>&1 </dev/null
  code=$?
  set -e
  [ -t 1 ] && printf '\r\033[K'
  if [ $code -eq 0 ]; then
    line ok "$(since "$began")" "$text"
    return 0
  fi
  line FAIL "$(since "$began")" "$text"
  printf '\n  command:  %s\n  exit:     %s\n  log:      %s\n  its end:\n' "$*" "$code" "${STEP_LOG#"$ROOT"/}"
  tail -n "${STEP_TAIL:-40}" "$STEP_LOG" | sed 's/^/    /'
  echo
  return $code
}

need_root() {
  [ "$(id -u)" = 0 ] || die "$(basename "$0") makes namespaces, mounts and cgroups: run it as root (sudo -E $0)"
}
