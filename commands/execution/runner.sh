# The program that runs a script on an instance. It is sent on standard input to `/bin/sh -s`
# and must mean the same in dash, bash and busybox sh. Everything is a function; the last line
# that the console appends is the only call, so that a connection cut in mid-send runs nothing.
#
# A run is a directory <base>/<run id>, mode 0700:
#   s.*     the script, one file for each starter; only the winner's is executed
#   o, e    what the script wrote to stdout and stderr
#   sup     "pid starttime boot_id" of the supervisor; creating it exclusively claims the run
#   pid     "pid starttime" of the script, which leads its session;   wd  of the watchdog
#   cancel  somebody wants the run cancelled;        end  whoever creates it writes the result
#   result  "ending exit_code left", renamed into place, first and only
#   alone   only the script's own process may be ended, not what it started
# and <base>/.done/<run id> is the tombstone that keeps an acknowledged run from running again.
#
# Processes: the supervisor waits for the script; the watchdog sleeps and then ends the run's
# processes, whoever listens. Both are plain forks of this shell. A function forked with `&`
# would leave SIGINT ignored in the script for ever, so the supervisor is the first half of a
# foreground pipeline whose second half, the conversation, kills the waiting shell at its end.

# Files are made with `true >FILE`, never with `: >FILE`: a redirection that fails on a special
# builtin ends the whole shell, and the console would wait for an answer that never comes.

cc_frame() { printf '\036%s %s\n' "$cc_nonce" "$*"; }

# cc_stat PID: sets cc_state, cc_parent, cc_session, cc_start without a fork.
cc_stat() {
  cc_line=
  read -r cc_line <"/proc/$1/stat" || [ -n "$cc_line" ] || return 1
  cc_of=${cc_line%% *}
  set -- ${cc_line##*") "}
  cc_state=$1 cc_parent=$2 cc_session=$4 cc_start=${20}
}

# cc_exclusive FILE TEXT: creates FILE with TEXT unless it exists. No fork: noclobber is O_EXCL.
cc_exclusive() {
  set -C
  printf '%s\n' "$2" >"$1"
  cc_code=$?
  set +C
  return $cc_code
}

cc_usable() { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ] && [ -w "$1" ] && [ -x "$1" ]; }

# cc_private DIR: nobody else may write there. Needed where others can create names beside it.
cc_private() {
  case $(ls -ldn "$1") in
    drwx------*) return 0 ;;
  esac
  return 1
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

# cc_plain DIR: the console can store this name and give it back exactly. No ranges: what
# they mean depends on the locale. Any other name would need more than a shell to be checked.
cc_plain() {
  [ ${#1} -le 230 ] || return 1
  case $1 in
    *[!abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._+@%,:=~\\\ -]*) return 1 ;;
    /*) return 0 ;;
  esac
  return 1
}

cc_at() { cc_found=$1 cc_dir=$1/$cc_id cc_done=$1/.done/$cc_id; }

# cc_find: finds the run where it was made, before anybody thinks of making it anew.
cc_find() {
  if [ -n "$cc_base" ]; then
    cc_at "$cc_base"
    cc_usable "$cc_base"
    return
  fi
  for cc_try in "$cc_home_base" "$cc_spare_base"; do
    [ -n "$cc_try" ] && cc_usable "$cc_try" || continue
    cc_at "$cc_try"
    if [ -e "$cc_done" ] || [ -d "$cc_dir" ]; then return 0; fi
  done
  return 1
}

# cc_make: finds the run or makes its directory in the first base that can be used.
cc_make() {
  for cc_try in "$cc_base" "$cc_home_base" "$cc_spare_base"; do
    [ -n "$cc_try" ] || continue
    cc_at "$cc_try"
    mkdir -m 700 "$cc_try" "$cc_try/.done" "$cc_dir"
    cc_usable "$cc_try" && cc_usable "$cc_dir" && cc_usable "$cc_try/.done" || continue
    [ "$cc_try" = "$cc_spare_base" ] && ! cc_private "$cc_try" && continue
    return 0
  done
  return 1
}

# cc_alive: the supervisor that claimed this run is running (same process, same boot).
cc_alive() {
  cc_sup= cc_sup_start= cc_sup_boot=
  read -r cc_sup cc_sup_start cc_sup_boot <"$cc_dir/sup"
  [ "$cc_sup_boot" = "$cc_boot" ] || return 1
  cc_stat "$cc_sup" && [ "$cc_start" = "$cc_sup_start" ] && [ "$cc_state" != Z ]
}

# cc_guarded: the same for the watchdog.
cc_guarded() {
  cc_watch= cc_watch_start=
  read -r cc_watch cc_watch_start <"$cc_dir/wd" || return 1
  cc_stat "$cc_watch" && [ "$cc_start" = "$cc_watch_start" ] && [ "$cc_state" != Z ]
}

# cc_finish ENDING EXIT LEFT: the block was written before the script began, so that this
# works on a full disk too.
cc_finish() {
  [ -e "$cc_dir/result" ] && return
  printf '%-63s\n' "$1 $2 $3" 1<>"$cc_dir/r"
  mv -f "$cc_dir/r" "$cc_dir/result"
}

cc_clock() {
  read -r cc_up cc_rest </proc/uptime
  cc_part=${cc_up#*.}
  cc_now=$((${cc_up%.*} * 100 + ${cc_part#0}))
}

cc_pause() { sleep "$1" || sleep 1; }

# cc_alone: the same as cc_members for a run whose children are not ours to end.
cc_alone() {
  cc_list=' ' cc_pid= cc_pid_start=
  read -r cc_pid cc_pid_start <"$cc_dir/pid"
  cc_stat "${cc_pid:-none}" && [ "$cc_start" = "$cc_pid_start" ] && [ "$cc_state" != Z ] &&
    cc_list=" $cc_pid "
}

# cc_members: sets cc_list to the living processes of the run: those that carry its cookie,
# belong to the script's session, write into its spool files, or descend from any of these.
cc_members() {
  if [ -e "$cc_dir/alone" ]; then
    cc_alone
    return
  fi
  cc_list=' ' cc_tree= cc_sid=
  read -r cc_sid cc_rest <"$cc_dir/pid"
  for cc_file in $(grep -lszxF -e "COMMAND_CONSOLE_RUN=$cc_id" /proc/[0-9]*/environ); do
    cc_file=${cc_file#/proc/}
    cc_list="$cc_list${cc_file%/environ} "
  done
  for cc_proc in /proc/[0-9]*; do
    cc_p=${cc_proc#/proc/}
    cc_stat "$cc_p" && [ "$cc_state" != Z ] || continue
    cc_tree="$cc_tree $cc_p:$cc_parent"
    case $cc_list in *" $cc_p "*) continue ;; esac
    if [ "$cc_session" = "${cc_sid:-none}" ] || [ "$cc_p" = "${cc_sid:-none}" ] ||
      [ "$cc_proc/fd/1" -ef "$cc_dir/o" ] || [ "$cc_proc/fd/2" -ef "$cc_dir/e" ] ||
      [ "$cc_proc/fd/1" -ef "$cc_dir/e" ] || [ "$cc_proc/fd/2" -ef "$cc_dir/o" ]; then
      cc_list="$cc_list$cc_p "
    fi
  done
  cc_grown=1
  while [ -n "$cc_grown" ]; do
    cc_grown=
    for cc_pair in $cc_tree; do
      case $cc_list in *" ${cc_pair%:*} "*) continue ;; esac
      case $cc_list in *" ${cc_pair#*:} "*) cc_list="$cc_list${cc_pair%:*} " cc_grown=1 ;; esac
    done
  done
  [ "$cc_list" != ' ' ]
}

cc_any_left() {
  for cc_p in $cc_list; do
    cc_stat "$cc_p" && [ "$cc_state" != Z ] && return 0
  done
  return 1
}

# cc_stop: TERM, grace, KILL until a scan finds nobody. Sets cc_left: 0 is a proof, and what
# looked for one process only has proved nothing about others.
cc_stop() {
  cc_left=0
  [ -e "$cc_dir/alone" ] && cc_left=-
  cc_members || return 0
  kill -TERM $cc_list
  kill -CONT $cc_list
  cc_clock
  cc_until=$((cc_now + cc_grace * 100)) cc_step=0.02
  while [ "$cc_now" -lt "$cc_until" ]; do
    cc_pause $cc_step
    cc_step=0.1
    if ! cc_any_left; then cc_members || return 0; fi
    cc_clock
  done
  cc_round=0
  while [ $cc_round -lt 50 ]; do
    cc_members || return 0
    kill -KILL $cc_list
    cc_pause 0.05
    cc_round=$((cc_round + 1))
  done
  cc_members && set -- $cc_list && cc_left=$#
}

# cc_script: becomes the script. Writes its id before it looks whether the run was ended:
# whoever ends the run creates `end` first and reads the id after.
cc_script() {
  trap - HUP PIPE USR1
  cc_stat self
  echo "$cc_of $cc_start" >"$cc_dir/pid"
  [ -e "$cc_dir/end" ] && exit 0
  export COMMAND_CONSOLE_RUN="$cc_id"
  [ -z "$cc_launcher" ] || cc_launch
  if [ -n "$cc_argument" ]; then
    exec setsid "$cc_interpreter" "$cc_argument" "$cc_own"
  fi
  exec setsid "$cc_interpreter" "$cc_own"
}

# cc_sleep_out: until the time is over or somebody cancels, however often a script of the same
# user ends every `sleep` it finds. A sleep that ran undisturbed is never followed by another.
cc_sleep_out() {
  cc_clock
  cc_over_at=$((cc_now + cc_timeout * 100))
  while [ $cc_why != cancel ] && [ $((cc_over_at - cc_now)) -gt 5 ]; do
    sleep $(((cc_over_at - cc_now + 99) / 100)) &
    wait $!
    [ $cc_why = cancel ] && kill -KILL $!
    cc_clock
  done
}

# The sleep is ended with KILL: just forked, it still has our trap and would swallow a TERM.
cc_watchdog() {
  cc_why=timeout
  trap 'kill -KILL $!; exit 0' TERM
  trap 'cc_why=cancel' USR1
  if [ -e "$cc_dir/cancel" ]; then
    cc_why=cancel
  else
    cc_sleep_out
  fi
  cc_exclusive "$cc_dir/end" "$cc_why" || exit 0
  trap '' TERM USR1
  cc_stop
  cc_finish $cc_why - $cc_left
}

# cc_supervisor: claims the run, answers 1 or 0 on stdout (x: cannot write), runs the script.
cc_supervisor() {
  exec 3<&- 4>&- </dev/null 2>/dev/null
  trap '' HUP PIPE USR1
  cc_stat self
  if ! cc_exclusive "$cc_dir/sup" "$cc_of $cc_start $cc_boot"; then
    if [ -e "$cc_dir/sup" ]; then echo 0; else echo x; fi
    exit 0
  fi
  if [ -e "$cc_done" ]; then
    rm -rf "$cc_dir"
    echo 0
    exit 0
  fi
  printf '%-63s\n' 'none' >"$cc_dir/r"
  echo 1
  exec >/dev/null
  (cc_watchdog) &
  cc_watch=$!
  cc_stat $cc_watch && echo "$cc_watch $cc_start" >"$cc_dir/wd"
  (cc_script) >>"$cc_dir/o" 2>>"$cc_dir/e"
  cc_exit=$?
  if cc_exclusive "$cc_dir/end" exit; then
    cc_finish exit $cc_exit -
    kill $cc_watch
  else
    wait $cc_watch
  fi
  exit 0
}

cc_about() {
  cc_machine= cc_host=
  read -r cc_machine cc_rest </etc/machine-id
  read -r cc_host cc_rest </proc/sys/kernel/hostname
  [ ${#cc_machine} -le 255 ] || cc_machine=
  cc_frame started "$1" "${cc_boot:--}" "${cc_machine:--}" "${cc_host:--}" "$cc_found"
}

cc_refuse() {
  cc_frame refused "$1"
  return 1
}

# cc_reachable PROGRAM: it can be started, by its path or from PATH. Not `command -v`, which
# also knows the words and functions of the shell, where no shell will look.
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

# cc_fit: can the script run here? Nothing was made yet. Leaves us in its directory.
cc_fit() {
  command -v setsid >/dev/null || cc_refuse NoSetsid || return
  if [ -n "$cc_workdir" ]; then
    cd "$cc_workdir" || cc_refuse DirectoryNotExists || return
  else
    cd "${HOME:-/}" || cd /
  fi
  if [ -n "$cc_launcher" ]; then
    cc_reachable "$cc_launcher" || cc_refuse LauncherNotFound
    return
  fi
  [ -f "$cc_interpreter" ] && [ -x "$cc_interpreter" ] ||
    cc_refuse InterpreterNotFound || return
  [ -z "$cc_program" ] || command -v "$cc_program" >/dev/null ||
    cc_refuse InterpreterNotFound
}

cc_prepare() {
  cc_fit || return
  cc_make || cc_refuse StateDirectoryUnusable || return
  cc_own=$cc_dir/$cc_file
  if [ -n "$cc_single" ]; then
    true >"$cc_dir/alone" || cc_refuse StateDirectoryUnusable || return
  fi
  cc_text >"$cc_own" && true >>"$cc_dir/o" && true >>"$cc_dir/e" ||
    cc_refuse StateDirectoryUnusable
}

cc_start_run() {
  if cc_find; then
    if [ -e "$cc_done" ] || [ -e "$cc_dir/sup" ]; then
      cc_about 0
      cc_converse <&3
      return
    fi
  fi
  cc_prepare || return
  cc_parent_of_it=1
  cc_supervisor | cc_answer
}

cc_answer() {
  cc_fresh=
  read -r cc_fresh
  case $cc_fresh in
    1) cc_about 1 ;;
    0) cc_parent_of_it='' && cc_about 0 ;;
    *) cc_refuse StateDirectoryUnusable ;;
  esac
  cc_converse <&3
  kill -KILL $$
}

# cc_converse: the channel stays for what follows, a round trip and a shell cheaper each.
cc_converse() {
  while read -r cc_word cc_a cc_b cc_c; do
    case $cc_word in
      follow) cc_follow "$cc_a" "$cc_b" "$cc_c" </dev/null ;;
      acknowledge) cc_acknowledge "$cc_a" </dev/null ;;
      *) return ;;
    esac
  done
}

# cc_lost: the supervisor is gone and left no result. Ends what is left and says so.
cc_lost() {
  cc_wait=0
  if ! cc_exclusive "$cc_dir/end" lost; then
    while [ ! -e "$cc_dir/result" ] && cc_guarded && [ $cc_wait -lt 600 ]; do
      cc_pause 0.1
      cc_wait=$((cc_wait + 1))
    done
  fi
  [ -e "$cc_dir/result" ] && return
  cc_left=0 cc_why=lost
  if [ "${cc_sup_boot:-$cc_boot}" = "$cc_boot" ]; then
    cc_guarded && kill -TERM "$cc_watch"
    # Whoever began to end it was killed, or is at it just now and will say the same.
    read -r cc_end <"$cc_dir/end"
    case $cc_end in cancel | timeout) cc_why=$cc_end ;; esac
    cc_stop
  else
    cc_why=rebooted
  fi
  cc_finish $cc_why - $cc_left
}

# cc_tails FROM_O FROM_E: GNU tail waits on inotify and ends with the supervisor. Where the
# supervisor is not a child of this shell (we came back) and process 1 does not reap it, as in
# many containers, tail would wait for ever: then cc_nudge ends it and the console asks again.
cc_tails() {
  tail -c "+$(($1 + 1))" -f "--pid=$cc_sup" -s 0.02 "$cc_dir/o" 2>/dev/null &
  cc_tail=$!
  tail -c "+$(($2 + 1))" -f "--pid=$cc_sup" -s 0.02 "$cc_dir/e" >&4 2>/dev/null &
  cc_tail_e=$! cc_nudger=
  if [ -z "$cc_parent_of_it" ]; then
    cc_nudge >/dev/null 3<&- 4>&- &
    cc_nudger=$!
  fi
  wait $cc_tail_e
  cc_code=$?
  wait $cc_tail
  [ $? = 0 ] && [ $cc_code = 0 ]
  cc_code=$?
  [ -n "$cc_nudger" ] && kill $cc_nudger
  return $cc_code
}

cc_nudge() {
  cc_step=0.1
  while kill -0 $cc_tail || kill -0 $cc_tail_e; do
    if ! cc_alive; then
      cc_pause 0.2
      kill $cc_tail $cc_tail_e
      exit 0
    fi
    cc_pause $cc_step
    cc_step=0.5
  done
}

# cc_polls FROM_O FROM_E: the same with any tail and cat; an open file remembers its place.
# The beat makes a poller whose reader has gone die of SIGPIPE.
cc_polls() {
  exec 5<"$cc_dir/o" 6<"$cc_dir/e"
  tail -c "+$(($1 + 1))" <&5
  tail -c "+$(($2 + 1))" <&6 >&4
  cc_turn=0 cc_over= cc_step=0.02
  while [ -z "$cc_over" ]; do
    cc_alive && [ ! -e "$cc_dir/result" ] || cc_over=1
    cat <&5
    cat <&6 >&4
    [ -n "$cc_over" ] && break
    cc_pause $cc_step
    cc_turn=$((cc_turn + 1))
    [ $cc_turn = 50 ] && cc_step=0.2
    [ $((cc_turn % 25)) = 0 ] && cc_frame beat
  done
  exec 5<&- 6<&-
}

# cc_rest FROM_O FROM_E: nothing more will come. An empty file needs no program to print it.
cc_rest() {
  cc_code=0
  if [ -s "$cc_dir/o" ]; then tail -c "+$(($1 + 1))" "$cc_dir/o" || cc_code=1; fi
  if [ -s "$cc_dir/e" ]; then tail -c "+$(($2 + 1))" "$cc_dir/e" >&4 || cc_code=1; fi
  return $cc_code
}

cc_stream() {
  if [ -e "$cc_dir/result" ] || ! cc_alive; then
    cc_rest "$1" "$2"
  elif [ "$3" = poll ]; then
    cc_polls "$1" "$2"
  else
    cc_tails "$1" "$2"
  fi
}

cc_follow() {
  if ! cc_find || [ ! -e "$cc_dir/sup" ]; then
    cc_frame gone
    return
  fi
  cc_wait=0
  while [ ! -s "$cc_dir/sup" ] && [ $cc_wait -lt 20 ]; do
    cc_pause 0.1
    cc_wait=$((cc_wait + 1))
  done
  cc_frame flow
  cc_frame flow >&4
  cc_stream "$1" "$2" "$3"
  cc_whole=$?
  cc_frame "end"
  cc_frame "end" >&4
  if [ $cc_whole != 0 ]; then
    cc_frame broken
    return
  fi
  [ -e "$cc_dir/result" ] || cc_lost
  cc_ending= cc_exit=- cc_left=-
  read -r cc_ending cc_exit cc_left <"$cc_dir/result"
  cc_frame result "${cc_ending:-lost}" "$cc_exit" "$cc_left"
}

cc_cancel() {
  cc_find || cc_make || cc_refuse StateDirectoryUnusable || return
  if [ -e "$cc_done" ]; then
    cc_frame cancelled 0
    return
  fi
  mkdir -m 700 "$cc_found/.done" "$cc_dir"
  if cc_exclusive "$cc_dir/sup" "0 0 $cc_boot"; then
    true >>"$cc_dir/o"
    true >>"$cc_dir/e"
    cc_exclusive "$cc_dir/end" cancel && cc_finish cancel - 0
  fi
  [ -e "$cc_dir/result" ] || true >"$cc_dir/cancel" || cc_refuse StateDirectoryUnusable || return
  cc_wait=0
  while [ ! -e "$cc_dir/result" ] && cc_alive && { [ $cc_wait -lt 20 ] || cc_guarded; }; do
    [ -e "$cc_dir/end" ] || { cc_guarded && kill -USR1 "$cc_watch"; }
    cc_pause 0.05
    cc_wait=$((cc_wait + 1))
  done
  [ -e "$cc_dir/result" ] || cc_take_over
  read -r cc_ending cc_exit cc_left <"$cc_dir/result"
  cc_frame cancelled "${cc_left:--}"
}

# cc_take_over: nobody is left on the instance to end the run, so we do.
cc_take_over() {
  cc_exclusive "$cc_dir/end" cancel
  cc_stop
  [ -e "$cc_dir/result" ] || cc_finish cancel - $cc_left
}

cc_acknowledge() {
  cc_find || cc_make || cc_refuse StateDirectoryUnusable || return
  mkdir "$cc_found/.done"
  true >"$cc_done" || cc_refuse StateDirectoryUnusable || return
  rm -rf "$cc_dir"
  [ "$1" = sweep ] && find "$cc_found/.done" -type f -mtime +60 -exec rm -f {} +
  cc_frame acknowledged
}

cc_main() {
  cc_parameters
  cc_frame hello
  exec 3<&0 4>&2 2>/dev/null </dev/null
  unset CDPATH IFS
  set +e +f
  cc_boot= cc_parent_of_it=
  read -r cc_boot </proc/sys/kernel/random/boot_id
  cc_bases
  case $1 in
    start) cc_start_run ;;
    converse) cc_converse <&3 ;;
    cancel) cc_cancel ;;
  esac
  exit 0
}
