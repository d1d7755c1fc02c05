# Run as: sh -c 'eval "$1"' borgherd SCRIPT MODE KIND FILE LIMIT USER PASSWORD DATABASE HOST [ARGUMENT...]
#   MODE   check: client, server, folder, space; dump: to FILE, with ARGUMENTs for the program that dumps; verify: FILE; restore: FILE;
#          info: facts, one a line; sum: size and hash of FILE; read OFFSET: FILE from there on; shell: the client, for a person
#   KIND   postgres or mysql; LIMIT: percent of FILE's file system that may be used
#   USER … HOST   '' is what the container's environment says, $NAME that variable, anything else itself
# These four are expanded here only. The client gets them by its environment or a descriptor; nothing here prints them.
umask 077
mode=$2 kind=$3 file=$4 limit=$5 user=$6 password=$7 database=$8 host=$9
shift 9
folder=${file%/*} work='' part=''
folder=${folder:-/}

fail() { # TEXT
  printf '%s\n' "$1" >&2
  exit 1
}

# ---- who connects where

value() { # WORD VARIABLE...: sets $value to what WORD says; where it is empty, to the first VARIABLE, or file named by VARIABLE_FILE, that is set
  value=''
  case $1 in
    '$'*)
      name=${1#?}
      case $name in '' | [0-9]* | *[!A-Za-z0-9_]*) fail "'$1' names no variable" ;; esac
      eval "value=\${$name-}"
      [ -n "$value" ] || fail "the container's environment has no $name"
      return
      ;;
    ?*) value=$1 && return ;;
  esac
  shift
  for name; do
    eval "value=\${$name-} from=\${${name}_FILE-}"
    if [ -z "$value" ] && [ -n "$from" ]; then
      value=$(cat "$from" 2>/dev/null) || fail "the file that ${name}_FILE names cannot be read"
    fi
    [ -z "$value" ] || return 0
  done
}

settings_of_postgres() {
  value "$user" POSTGRES_USER PGUSER
  user=${value:-postgres}
  value "$database" POSTGRES_DB PGDATABASE
  database=${value:-$user}
  value "$password" POSTGRES_PASSWORD PGPASSWORD
  password=$value
  value "$host" POSTGRES_HOST PGHOST
  host=$value
  PGUSER=$user PGDATABASE=$database PGCONNECT_TIMEOUT=10
  export PGUSER PGDATABASE PGCONNECT_TIMEOUT
  if [ -n "$password" ]; then export PGPASSWORD="$password"; fi
  if [ -n "$host" ]; then export PGHOST="$host"; fi
  closing='^-- PostgreSQL database dump complete'
}

settings_of_mysql() {
  if [ -n "$user" ]; then
    value "$user"
  else # root can dump and restore what others may not see
    value '' MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD
    if [ -n "$value" ]; then value=root; else value '' MARIADB_USER MYSQL_USER; fi
  fi
  user=${value:-root}
  case $user in
    root) value "$password" MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD ;;
    *) value "$password" MARIADB_PASSWORD MYSQL_PASSWORD ;;
  esac
  password=$value
  value "$database" MARIADB_DATABASE MYSQL_DATABASE
  database=$value
  [ -n "$database" ] || fail "neither MARIADB_DATABASE nor MYSQL_DATABASE is set in the container: name the database by 'database:'"
  value "$host" MARIADB_HOST MYSQL_HOST
  host=$value
  options="[client]
user=\"$(escaped "$user")\"${password:+
password=\"$(escaped "$password")\"}${host:+
host=\"$(escaped "$host")\"}
[mysql]
database=\"$(escaped "$database")\""
  closing='^-- Dump completed'
  client=$(first_of mariadb mysql) && dumper=$(first_of mariadb-dump mysqldump) || fail "the container lacks mariadb and mariadb-dump, or mysql and mysqldump"
}

escaped() { # VALUE: between the double quotes of an option file
  rest=$1 out=''
  while [ -n "$rest" ]; do
    after=${rest#?}
    letter=${rest%"$after"}
    rest=$after
    case $letter in '\' | '"') out=$out'\' ;; esac
    out=$out$letter
  done
  printf '%s' "$out"
}

first_of() { # PROGRAM...: the first that is there
  for name; do
    if command -v "$name" >/dev/null 2>&1; then echo "$name" && return; fi
  done
  return 1
}

# ---- the client; each becomes the program, so that its process id is that of the job

query_postgres() { exec psql -X -A -t -q -w -v ON_ERROR_STOP=1 -c "$1"; }
dump_postgres() { exec pg_dump --no-password --clean --if-exists "$@"; }
load_postgres() { exec psql -X -q -w -v ON_ERROR_STOP=1 --single-transaction -o /dev/null -f -; }
shell_postgres() { exec psql -w; }

query_mysql() {
  exec "$client" --defaults-extra-file=/dev/fd/3 --connect-timeout=10 -N -B -e "$1" 3<<END
$options
END
}
dump_mysql() {
  purged=''
  if "$dumper" --help 2>/dev/null | grep -q set-gtid-purged; then purged=--set-gtid-purged=OFF; fi
  exec "$dumper" --defaults-extra-file=/dev/fd/3 --single-transaction --quick --routines --triggers --events --hex-blob --no-tablespaces \
    --default-character-set=utf8mb4 $purged "$@" -- "$database" 3<<END
$options
END
}
load_mysql() {
  exec "$client" --defaults-extra-file=/dev/fd/3 --default-character-set=utf8mb4 --batch 3<<END
$options
END
}
shell_mysql() {
  exec "$client" --defaults-extra-file=/dev/fd/3 3<<END
$options
END
}

# ---- what may be shown

shown() { # the start of what a program said (standard input), without user, password, database and host
  if ! command -v awk >/dev/null 2>&1; then
    echo "(what it said is withheld: the container lacks awk)"
    return
  fi
  HIDE_1=$user HIDE_2=$password HIDE_3=$database HIDE_4=$host awk '
    BEGIN {
      for (i = 1; i <= 4; i++) if (ENVIRON["HIDE_" i] !~ /^(|postgres|root|localhost|127\.0\.0\.1)$/ || i == 2 && ENVIRON["HIDE_2"] != "") hide[++count] = ENVIRON["HIDE_" i]
      for (i = 2; i <= count; i++) { # the longest first
        value = hide[i]
        for (j = i - 1; j >= 1 && length(hide[j]) < length(value); j--) hide[j + 1] = hide[j]
        hide[j + 1] = value
      }
    }
    length(said) < 2000 {
      rest = substr($0, 1, 2000)
      for (i = 1; i <= count; i++) {
        line = ""
        while ((at = index(rest, hide[i])) > 0) {
          line = line substr(rest, 1, at - 1) "[hidden]"
          rest = substr(rest, at + length(hide[i]))
        }
        rest = line rest
      }
      said = said (said == "" ? "" : "\n") rest
    }
    END { print said }'
}

# ---- the folder for pipes, which is also the lock: one at a time for a file

started() { # PID: when it started, by the kernel's clock; fails when it is gone
  { read -r stat </proc/"$1"/stat; } 2>/dev/null || return 1
  set -- ${stat##*) }
  shift 19
  echo "$1"
}

is_alive() { # "PID STARTED": it is that process still
  [ -n "$1" ] && [ "$(started "${1% *}")" = "${1#* }" ]
}

enter() {
  name=borgherd-database.$(printf '%s' "$file" | tr '/ ' '--' | tail -c 200)
  for base in /dev/shm /tmp; do
    work=$base/$name
    if [ -d "$work" ]; then
      holder=$(cat "$work/holder" 2>/dev/null)
      if is_alive "$holder"; then
        work=''
        fail "another dump or restore of $file is under way"
      fi
      rm -rf "$work"
    fi
    if mkdir "$work" 2>/dev/null; then
      trap leave EXIT
      trap 'exit 143' TERM INT HUP
      echo "$$ $(started $$)" >"$work/holder"
      return
    fi
  done
  work=''
  fail "neither /dev/shm nor /tmp can be written to"
}

leave() {
  code=$?
  trap '' TERM INT HUP
  # waited for: a process that a signal ended must not become a child of process 1, which PostgreSQL would take for a crash of its own
  for job in ${jobs-}; do kill -s KILL "$job" 2>/dev/null && wait "$job" 2>/dev/null; done
  if [ -n "${packer-}" ]; then wait "$packer" 2>/dev/null; fi # it ends with its input
  if [ -n "$part" ]; then rm -f "$part"; fi
  if [ -n "$work" ]; then rm -rf "$work"; fi
  exit "$code"
}

# Clears up behind this process when it is killed so that it cannot do it itself. Once the folder is another's or gone there is nothing to do.
# Only the client has to be ended: gzip ends with it. pg_dump exits by itself when it is told to.
keep_watch() { # SIGNAL
  # shellcheck disable=SC2016
  watch='while kill -0 "$1" 2>/dev/null; do sleep 1; done
    [ "$(cat "$2/holder" 2>/dev/null)" = "$3" ] || exit 0
    rm -f "$4"; rm -rf "$2"; shift 4; kill -s "$@" 2>/dev/null; exit 0'
  own=''
  if command -v setsid >/dev/null 2>&1; then own=setsid; fi
  $own sh -c "$watch" borgherd-watch $$ "$work" "$(cat "$work/holder")" "$part" "$1" "$job" </dev/null >/dev/null 2>&1 &
}

# ---- checks

space() { # sets $used and $available, KiB of the file system of the folder
  # shellcheck disable=SC2046
  set -- $(df -P -k "$folder" 2>/dev/null | tail -n 1)
  while [ $# -ge 5 ]; do
    case $5 in
      *% | -)
        used=$3 available=$4
        return
        ;;
    esac
    shift
  done
  return 1
}

percent() { # KIB: rounded up, how much of the file system is used with so much more
  echo $((((used + $1) * 100 + used + available - 1) / (used + available)))
}

check() {
  for other in "$file".part-*; do # of a dump that was killed with its container
    if [ -e "$other" ]; then rm -f "$other"; fi
  done
  for name in gzip mkfifo df tail tr grep; do
    command -v "$name" >/dev/null 2>&1 || fail "the container lacks $name"
  done
  if [ "$kind" = postgres ]; then
    for name in psql pg_dump; do
      command -v "$name" >/dev/null 2>&1 || fail "the container lacks $name"
    done
  fi
  said=$("query_$kind" 'SELECT 1' 2>&1) || fail "the server does not answer: $(printf '%s\n' "$said" | shown)"
  case $said in
    1 | *'
1') ;;
    *) fail "the server answers SELECT 1 with: $(printf '%s\n' "$said" | shown)" ;;
  esac
  [ -d "$folder" ] || fail "there is no folder $folder in the container"
  [ -w "$folder" ] || fail "the folder $folder cannot be written to"
  [ ! -d "$file" ] || fail "$file is a folder"
  check_space
}

check_space() { # the last dump stays until the new one is whole: there must be room for both
  space && [ $((used + available)) -gt 0 ] || fail "df does not tell how much of $folder is used"
  last=0
  if [ -f "$file" ]; then last=$(($(wc -c <"$file") / 1024)); fi
  now=$(percent 0) then=$(percent "$last")
  [ "$now" -lt "$limit" ] || fail "no space: $now % of the volume of $folder is used, and spaceUsedLimit is $limit %"
  [ "$then" -lt "$limit" ] || fail "no space: $now % of the volume of $folder is used, with another dump as large as the last one it would be $then %, and spaceUsedLimit is $limit %"
}

verify() { # FILE: it is whole, and has the dump's own end
  [ -s "$1" ] || fail "$1 is missing or empty"
  rm -f "$work/unpacked"
  mkfifo "$work/unpacked" || fail "no pipe can be made in $work"
  tail -c 1000 <"$work/unpacked" >"$work/end" &
  ender=$!
  gzip -d -c <"$1" >"$work/unpacked" 2>"$work/said" &
  unpacker=$!
  jobs="$ender $unpacker"
  wait "$unpacker" || fail "$1 is damaged: $(shown <"$work/said")"
  wait "$ender"
  jobs=''
  grep -q "$closing" "$work/end" || fail "$1 lacks the line with which a dump ends: it is not whole, or none of $kind"
}

settle() { # FILE: its content is on the disk
  sync "$1" 2>/dev/null || sync
}

# ---- modes

pack() { # OPTION: ends the client, too, where gzip fails: it may wait for a table and never notice
  trap '' TERM INT HUP # gzip does not end by a signal to all of us, which could come after this process is gone, but with its input
  gzip $1 -c <"$work/pipe" >"$part" 2>"$work/packed"
  code=$?
  [ "$code" -eq 0 ] || kill -s TERM "$job" 2>/dev/null
  exit "$code"
}

dump() { # ARGUMENT...
  begun=$(date +%s)
  check
  mkfifo "$work/pipe" || fail "no pipe can be made in $work"
  quick=''
  if gzip --rsyncable -c </dev/null >/dev/null 2>&1; then quick=--rsyncable; fi # what has not changed stays the same for Borg
  part=$file.part-$begun-$$
  "dump_$kind" "$@" </dev/null >"$work/pipe" 2>"$work/dumped" &
  job=$!
  pack "$quick" &
  packer=$!
  jobs=$job
  keep_watch TERM
  wait "$job"
  code=$?
  jobs=''
  wait "$packer"
  packed=$? packer=''
  if [ "$packed" -ne 0 ]; then fail "gzip ended with exit code $packed: $(shown <"$work/packed")"; fi
  if [ "$code" -ne 0 ]; then fail "the dump ended with exit code $code: $(shown <"$work/dumped")"; fi
  verify "$part"
  chown "$(stat -c %u:%g "$folder" 2>/dev/null)" "$part" 2>/dev/null || : # the server itself may want to read it
  settle "$part"
  mv -f "$part" "$file" || fail "$part could not be renamed"
  part=''
  settle "$folder"
  echo "dumped $(wc -c <"$file" | tr -d ' ') bytes to $file in $(($(date +%s) - begun)) s"
}

restore() {
  verify "$file"
  mkfifo "$work/pipe" || fail "no pipe can be made in $work"
  gzip -d -c <"$file" >"$work/pipe" 2>/dev/null &
  unpacker=$!
  "load_$kind" <"$work/pipe" >"$work/loaded" 2>&1 &
  job=$!
  jobs="$job $unpacker"
  keep_watch KILL
  wait "$job"
  code=$?
  wait "$unpacker"
  unpacked=$?
  jobs=''
  [ "$code" -eq 0 ] || fail "the restore ended with exit code $code: $(shown <"$work/loaded")"
  [ "$unpacked" -eq 0 ] || fail "$file could not be read to its end, or was not"
  echo "restored $file"
}

info() {
  version=$("query_$kind" 'SELECT version()' 2>/dev/null) || version=''
  echo "server ${version:-does not answer}"
  if space; then echo "used $(percent 0)"; fi
  if [ -f "$file" ]; then
    echo "bytes $(wc -c <"$file" | tr -d ' ')"
    echo "time $(stat -c %Y "$file")"
  fi
}

sum() {
  [ -s "$file" ] || fail "$file is missing or empty"
  command -v sha256sum >/dev/null 2>&1 || fail "the container lacks sha256sum"
  echo "bytes $(wc -c <"$file" | tr -d ' ')"
  echo "sha256 $(sha256sum <"$file" | cut -d ' ' -f 1)"
}

case $kind in
  postgres | mysql) "settings_of_$kind" ;;
  *) fail "'$kind' is no kind of database" ;;
esac
case $mode in
  check) enter && check && echo "the server answers, there is room" ;;
  dump) enter && dump "$@" ;;
  verify) enter && verify "$file" && echo "$file is whole" ;;
  restore) enter && restore ;;
  info) info ;;
  sum) sum ;;
  read) exec tail -c +$(($1 + 1)) "$file" ;;
  shell) "shell_$kind" ;;
  *) fail "'$mode' is no mode" ;;
esac
