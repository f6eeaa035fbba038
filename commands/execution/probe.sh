# Whether a run could start on an instance: the program of a preflight. It is sent as `runner.sh`
# is, looks for what that one refuses, in its order, and tells all of it instead of the first. It
# must mean the same in dash, bash and busybox sh. Nothing of it stays: what it makes, to see
# whether it can be made, goes before it answers, and also where the connection ends before.
cc_frame() { printf '\036%s %s\n' "$cc_nonce" "$*"; }

cc_problem() { cc_frame problem "$@"; }

# What `start` asks of a directory and of a name, in the words of runner.sh.
cc_ours() { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; }

cc_usable() { cc_ours "$1" && [ -w "$1" ] && [ -x "$1" ]; }

cc_private() {
  case $(ls -ldn "$1") in
    drwx------*) return 0 ;;
  esac
  return 1
}

cc_plain() {
  [ ${#1} -le 230 ] || return 1
  case $1 in
    *[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+@%,:=~\\\ -]*) return 1 ;;
    /*) return 0 ;;
  esac
  return 1
}

cc_full() {
  if [ -e "$1" ] || [ -L "$1" ]; then
    cc_usable "$1" && [ ! -e "$cc_dir" ]
  else
    cc_usable "${1%/*}"
  fi
}

cc_reachable() {
  case $1 in
    */*)
      [ -f "$1" ] && [ -x "$1" ]
      return
      ;;
  esac
  cc_rest=$PATH:
  while [ -n "$cc_rest" ]; do
    cc_try=${cc_rest%%:*}
    cc_rest=${cc_rest#*:}
    [ -f "${cc_try:-.}/$1" ] && [ -x "${cc_try:-.}/$1" ] && return
  done
  return 1
}

cc_tools() {
  for cc_try in setsid mkfifo tee; do
    command -v $cc_try >/dev/null || cc_problem ProgramNotFound $cc_try
  done
}

# cc_directory: leaves us where the script would run, if that can be: what has a relative name
# is looked for there.
cc_directory() {
  if [ -n "$cc_workdir" ]; then
    cd "$cc_workdir" || cc_problem DirectoryNotExists
  else
    cd "${HOME:-/}" || cd /
  fi
}

cc_starter() {
  if [ -n "$cc_launcher" ]; then
    cc_reachable "$cc_launcher" || cc_problem LauncherNotFound
  elif [ -z "$cc_interpreter" ]; then
    return
  elif ! { [ -f "$cc_interpreter" ] && [ -x "$cc_interpreter" ]; }; then
    cc_problem InterpreterNotFound
  elif [ -n "$cc_program" ]; then
    command -v "$cc_program" >/dev/null || cc_problem InterpreterNotFound
  fi
}

cc_bases() {
  cc_uid=
  while read -r cc_key cc_uid cc_rest; do
    [ "$cc_key" = Uid: ] && break
  done </proc/self/status
  cc_home_base=
  [ -n "$HOME" ] && cc_plain "$HOME" && cc_home_base=${HOME%/}/.command-console
  cc_spare_base=/var/tmp/.command-console-$cc_uid
}

# cc_leave: takes away what cc_place has made. A base that was there before stays.
cc_leave() {
  [ -n "$cc_dir" ] || return
  rm -f "$cc_dir/room"
  rmdir "$cc_dir"
  [ -z "$cc_made" ] || rmdir "$cc_made"
  cc_dir= cc_made=
}

# cc_place: makes a directory where the run's would be, and a file as large as a script can be.
cc_place() {
  for cc_try in "$cc_home_base" "$cc_spare_base"; do
    [ -n "$cc_try" ] || continue
    cc_dir=$cc_try/.probe.$cc_mark cc_made=
    mkdir -m 700 "$cc_try" && cc_made=$cc_try
    mkdir -m 700 "$cc_dir"
    if cc_usable "$cc_try" && cc_usable "$cc_dir" &&
      { [ ! -e "$cc_try/.done" ] || cc_usable "$cc_try/.done"; }; then
      if [ "$cc_try" != "$cc_spare_base" ] || cc_private "$cc_try"; then
        cc_found=$cc_try
        cc_space
        head -c 20480 /dev/zero >"$cc_dir/room" || cc_problem DiskFull
        cc_leave
        return
      fi
    elif cc_full "$cc_try"; then
      cc_leave
      cc_problem DiskFull
      return
    fi
    cc_leave
  done
  cc_problem StateDirectoryUnusable
}

# cc_space: sets cc_free to the kilobytes that this user may still write there.
cc_space() {
  cc_free=$(df -Pk "$cc_dir" | while read -r cc_a cc_b cc_c cc_d cc_rest; do
    case $cc_d in '' | *[!0-9]*) ;; *) echo "$cc_d" ;; esac
  done)
}

cc_probe() {
  cc_parameters
  cc_frame hello
  exec 2>/dev/null </dev/null
  unset CDPATH IFS
  set +e +f
  cc_dir= cc_made= cc_found= cc_free=
  trap cc_leave EXIT
  trap 'exit 1' HUP INT PIPE TERM
  cc_tools
  cc_directory
  cc_starter
  cc_bases
  cc_place
  cc_frame examined "${cc_free:--}" "${cc_found:--}"
  exit 0
}
