# Run as: sh -c 'eval "$1"' borgherd SCRIPT MODE TOKEN LIMIT GRACE ...
#   pre  … WATCH POSTLIMIT COUNT POSTWORD{COUNT} WORD...   the command; a watchdog runs POSTWORD... after WATCH seconds
#   post … WORD...                                         resumes; once it has succeeded, the same again does nothing
#   hold … WATCH POSTLIMIT COUNT LINE{COUNT} WORD...       a command that lasts until its input ends; says `ready`, and the rest at its end
#   end  …                                                 ends one that nobody is connected to
# and by itself, each in a session of its own: run, timer, watchdog, guard.
# A process that outlives its parent becomes a child of process 1, and PostgreSQL there takes one that a signal ended for a crash of its own.
# So timer and watchdog are never killed: they look once a second whether they are still wanted.
# All it writes is below /dev/shm or /tmp: a frozen volume would hold it up. Exit 123: came after the thaw, 124: too long, 125: cannot.
umask 077
script=$1 mode=$2 token=$3 limit=$4 grace=$5
shift 5

own() { # CMD...: in a session of its own where there is setsid, in the background, with no stream of ours
  if command -v setsid >/dev/null 2>&1; then
    setsid "$@" </dev/null >/dev/null 2>&1 3<&- 4>&- &
  else
    "$@" </dev/null >/dev/null 2>&1 3<&- 4>&- &
  fi
}

again() { # MODE ARG...: this script in another mode
  as=$1
  shift
  own sh -c 'eval "$1"' borgherd "$script" "$as" "$token" "$limit" "$grace" "$@"
}

uptime() { # whole seconds by a clock that is never set
  { read -r up rest </proc/uptime; } 2>/dev/null && echo "${up%%.*}"
}

sleep_unless() { # SECONDS FILE...: until then; fails once one of FILE, or no folder, is there
  for_seconds=$1 slept=0
  shift
  since=$(uptime)
  while :; do
    [ -d "$folder" ] || return 1
    for file; do
      [ ! -e "$file" ] || return 1
    done
    if [ -n "$since" ]; then slept=$(($(uptime) - since)); fi
    [ "$slept" -lt "$for_seconds" ] || return 0
    sleep 1
    if [ -z "$since" ]; then slept=$((slept + 1)); fi
  done
}

signal() { # SIGNAL FILE: to the process or, as -PID, the group that the file names
  target=$(cat "$2" 2>/dev/null) && [ -n "$target" ] && kill -s "$1" -- "$target" 2>/dev/null
}

find_folder() { # the token's folder, made if need be
  for base in /dev/shm /tmp; do
    folder=$base/borgherd.$token
    [ ! -d "$folder" ] || return 0
  done
  case $mode in timer | watchdog | guard) exit 0 ;; esac # all is over already
  for base in /dev/shm /tmp; do
    folder=$base/borgherd.$token
    ! mkdir "$folder" 2>/dev/null || return 0
    [ ! -d "$folder" ] || return 0
  done
  return 1
}

filter() { # what was said until the line of the token (and one more, since busybox's sed reads ahead), without values of the environment, at most 16 KiB of it
  sed "/^borgherd-end-$token\$/q" | awk -v end="borgherd-end-$token" '
    BEGIN {
      for (name in ENVIRON) {
        if (name ~ /^(PATH|HOME|PWD|OLDPWD|SHLVL|TERM|HOSTNAME|LANG|LC_.*|USER|SHELL|_)$/ || name ~ /^KUBERNETES_|_PORT(_|$)|_SERVICE_/) continue
        least = name ~ /PASS|SECRET|TOKEN|KEY|PWD|CRED/ ? 1 : 4
        parts = split(ENVIRON[name], part, "\n")
        for (i = 1; i <= parts; i++) if (length(part[i]) >= least) hide[++count] = part[i]
      }
      for (i = 2; i <= count; i++) { # the longest first
        value = hide[i]
        for (j = i - 1; j >= 1 && length(hide[j]) < length(value); j--) hide[j + 1] = hide[j]
        hide[j + 1] = value
      }
    }
    $0 == end { exit }
    length(said) < 16384 {
      rest = substr($0, 1, 16384)
      for (i = 1; i <= count; i++) {
        line = ""
        while ((at = index(rest, hide[i])) > 0) {
          line = line substr(rest, 1, at - 1) "[hidden]"
          rest = substr(rest, at + length(hide[i]))
        }
        rest = line rest
      }
      said = said rest "\n"
    }
    END { printf "%s", substr(said, 1, 16384) }'
}

command_with_timer() { # KIND WORD...: runs it, kills it in time, shows what it said; KIND is pre or post
  kind=$1 name=$folder/$1
  if [ "$kind" = post ]; then name=$name.$$; fi # there may be two
  shift
  rm -f "$name".*
  pipe=
  if command -v mkfifo >/dev/null && command -v awk >/dev/null && command -v sed >/dev/null && mkfifo "$name.pipe" 2>/dev/null; then
    pipe=$name.pipe
    filter <"$pipe" >"$name.said" 2>/dev/null &
    reader=$!
  fi
  again timer "$name"
  again run "$name" "$pipe" "$kind" "$@"
  wait "$!"
  code=$?
  : >"$name.ended"
  if [ -e "$name.code" ]; then code=$(cat "$name.code"); fi
  if [ -e "$name.late" ]; then code=124; fi
  if [ -n "$pipe" ]; then
    # a runner that was killed could not end what it said; opened for both ways, or it would wait for a reader that is gone already
    if [ ! -e "$name.code" ]; then own sh -c 'printf "\nborgherd-end-%s\n\n" "$1" 1<>"$2"' sh "$token" "$pipe"; fi
    wait "$reader"
    cat "$name.said" 2>/dev/null
  else
    echo "(what it said is withheld: the container lacks mkfifo, sed or awk)"
  fi
  return "$code"
}

run_command() { # NAME PIPE KIND WORD...: in a session of its own; a thaw that comes first, or now, wins. What lasts has its input from NAME.in
  name=$1 pipe=$2 kind=$3
  shift 3
  trap : TERM INT HUP
  if [ -n "$pipe" ]; then exec >"$pipe" 2>&1; fi
  if command -v setsid >/dev/null 2>&1; then echo "-$$" >"$name.pid"; fi
  input=/dev/null
  if [ "$kind" = hold ]; then input=$name.in; fi
  if [ "$kind" != post ] && [ -e "$folder/over" ]; then
    echo "(not run: the thaw was first)"
    code=123
  else
    "$@" <"$input" &
    child=$!
    if [ ! -s "$name.pid" ]; then echo "$child" >"$name.pid"; fi
    if [ "$kind" != post ] && [ -e "$folder/over" ]; then signal KILL "$name.pid"; fi
    while :; do
      wait "$child"
      code=$?
      kill -0 "$child" 2>/dev/null || break
    done
  fi
  echo "$code" >"$name.code.new" && mv "$name.code.new" "$name.code"
  if [ "$kind" = hold ]; then signal TERM "$name.relay"; fi
  if [ -n "$pipe" ]; then printf '\nborgherd-end-%s\n\n' "$token"; fi
}

kill_in_time() { # NAME FILE...: unless it has ended, or one of FILE is there
  sleep_unless "$limit" "$@" "$1.ended" "$1.code" || return 0
  : >"$1.late"
  signal TERM "$1.pid"
  if sleep_unless "$grace" "$1.ended" "$1.code"; then signal KILL "$1.pid"; fi
  return 0
}

end_pre() { # no pre hook begins or goes on once a thaw has begun
  : >"$folder/over"
  [ -s "$folder/pre.pid" ] && [ ! -e "$folder/pre.code" ] && [ ! -e "$folder/pre.ended" ] || return 0
  signal TERM "$folder/pre.pid"
  tries=0
  while [ "$tries" -lt "$grace" ] && signal 0 "$folder/pre.pid" && [ ! -e "$folder/pre.code" ]; do
    sleep 1
    tries=$((tries + 1))
  done
  signal KILL "$folder/pre.pid"
  : >"$folder/pre.ended"
}

lock() { # one thaw at a time; that of a process that is gone is taken over by one, and none is waited for for ever
  waited=0
  until mkdir "$folder/thawing" 2>/dev/null; do
    if is_stale && mkdir "$folder/breaking" 2>/dev/null; then
      if is_stale; then rm -rf "$folder/thawing"; fi # nobody else can have freed it since
      rmdir "$folder/breaking"
      continue
    fi
    [ "$waited" -lt $((limit + 2 * grace)) ] || return 0 # better twice than not at all
    sleep 1
    waited=$((waited + 1))
  done
  echo "$$" >"$folder/thawing/pid"
}

is_stale() {
  holder=$(cat "$folder/thawing/pid" 2>/dev/null) && [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null
}

unlock() {
  if [ "$(cat "$folder/thawing/pid" 2>/dev/null)" = "$$" ]; then rm -rf "$folder/thawing"; fi
}

thaw() { # WORD...
  end_pre
  lock
  result=0
  if [ -e "$folder/thawed" ]; then
    echo "(it was thawed before)"
  else
    command_with_timer post "$@"
    result=$?
    if [ "$result" -eq 0 ]; then : >"$folder/thawed"; fi
  fi
  unlock
  return "$result"
}

watch() { # SECONDS WORD...: thaws when nobody else has
  sleep_unless "$1" "$folder/thawed" || return 0
  shift
  pause=1
  until [ -e "$folder/thawed" ] || thaw "$@" >/dev/null 2>&1; do
    sleep "$pause"
    if [ "$pause" -lt 60 ]; then pause=$((pause * 2)); fi
  done
}

forget() { # what is left of backups that have been over for an hour
  for other in /dev/shm/borgherd.* /tmp/borgherd.*; do # of backups that have been over for an hour
    if [ -n "$(find "$other/thawed" -mmin +60 2>/dev/null)" ]; then rm -rf "$other"; fi
  done
}

lines() { # what a session says, line by line until it is ready, then the rest
  trap '' PIPE
  while IFS= read -r line; do
    if [ "$line" = ready ]; then
      : >"$name.ready"
      echo ready >&4
      break
    fi
    printf '%s\n' "$line"
    if [ "$line" = "borgherd-end-$token" ]; then break; fi
  done
  exec 3<&- 4>&-
  exec cat
}

hold() { # WATCH POSTLIMIT COUNT LINE... WORD...: a command that lasts. Its input is ours, so it ends where we are disconnected
  watch=$1 post_limit=$2 count=$3 name=$folder/hold
  shift 3
  forget
  if [ -e "$folder/over" ]; then
    echo "(not run: the thaw was first)"
    return 123
  fi
  if ! command -v awk >/dev/null || ! command -v sed >/dev/null || ! mkfifo "$name.in" "$name.pipe"; then
    rm -rf "$folder"
    echo "(not run: a session needs mkfifo, sed and awk in the container)"
    return 125
  fi
  : >"$name.lines"
  while [ "$count" -gt 0 ]; do
    printf '%s\n' "$1" >>"$name.lines"
    shift
    count=$((count - 1))
  done
  exec 3<&0 4>&1
  lines <"$name.pipe" 2>/dev/null | filter >"$name.said" 2>/dev/null 3<&- 4>&- &
  reader=$!
  cat <&3 >"$name.in" 2>/dev/null 3<&- 4>&- &
  relay=$!
  echo "$relay" >"$name.relay"
  again timer "$name" "$name.ready"
  again run "$name" "$name.pipe" hold "$@"
  runner=$!
  limit=$post_limit
  again guard "$watch"
  wait "$relay" # until the input ends, or the command
  again timer "$name"
  wait "$runner"
  code=$?
  : >"$name.ended"
  if [ -e "$name.code" ]; then code=$(cat "$name.code"); fi
  if [ -e "$name.late" ]; then code=124; fi
  if [ ! -e "$name.code" ]; then own sh -c 'printf "\nborgherd-end-%s\n\n" "$1" 1<>"$2"' sh "$token" "$name.pipe"; fi
  wait "$reader"
  : >"$folder/over"
  : >"$folder/thawed"
  cat "$name.said" 2>/dev/null
  return "$code"
}

is_held() { # a session's command runs, or may yet
  [ -p "$folder/hold.in" ] && [ ! -e "$folder/hold.ended" ] && [ ! -e "$folder/hold.code" ]
}

end_hold() { # what it is to be told, then no more input; killed when it does not end
  : >"$folder/over"
  name=$folder/hold
  is_held || return 0
  cat "$name.lines" 1<>"$name.in"
  signal TERM "$name.relay"
  if sleep_unless "$limit" "$name.ended" "$name.code"; then signal TERM "$name.pid"; fi
  if sleep_unless "$grace" "$name.ended" "$name.code"; then signal KILL "$name.pid"; fi
  if sleep_unless 2 "$name.ended" "$name.code" && signal 0 "$name.pid"; then return 1; fi
  return 0
}

guard() { # SECONDS: ends a session when nobody has
  sleep_unless "$1" "$folder/hold.ended" "$folder/hold.code" || return 0
  end_hold
}

quiesce() { # WATCH POSTLIMIT COUNT POSTWORD... WORD...
  watch=$1 post_limit=$2 count=$3
  shift 3
  forget
  if [ -e "$folder/over" ]; then
    echo "(not run: the thaw was first)"
    return 123
  fi
  if [ "$count" -gt 0 ]; then
    words='' index=1 pre_limit=$limit
    while [ "$index" -le "$count" ]; do
      words="$words \"\${$index}\""
      index=$((index + 1))
    done
    limit=$post_limit
    eval "again watchdog \"\$watch\" $words"
    limit=$pre_limit
    shift "$count"
  fi
  command_with_timer pre "$@"
  code=$?
  if [ "$count" -eq 0 ] && [ ! -e "$folder/over" ]; then rm -rf "$folder"; fi # nobody comes for it
  return "$code"
}

if ! find_folder; then
  [ "$mode" != post ] || exec "$@" # better twice than not at all
  [ "$mode" != end ] || exit 0     # nor could it begin
  echo "neither /dev/shm nor /tmp can be written to: what is needed to thaw cannot be kept"
  exit 125
fi
case $mode in
  pre) quiesce "$@" ;;
  post) thaw "$@" ;;
  hold) hold "$@" ;;
  end) end_hold ;;
  run) run_command "$@" ;;
  timer) kill_in_time "$@" ;;
  watchdog) watch "$@" ;;
  guard) guard "$@" ;;
esac
