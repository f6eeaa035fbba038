# The program that runs a script on an instance. It is sent on standard input to `/bin/sh -s`
# and must mean the same in dash, bash and busybox sh. Everything is a function; the last line
# that the console appends is the only call, so that a connection cut in mid-send runs nothing.
#
# A run is a directory <base>/<run id>, mode 0700:
#   s.*     the script, one file for each starter; only the winner's is executed
#   po, pe  the pipes that the script writes into;   o, e  what has come out of them
#   sup     "pid starttime boot_id" of the supervisor; creating it exclusively claims the run
#   pid     "pid starttime" of the script, which leads its session;   wd  of the watchdog
#   cancel  somebody wants the run cancelled;        end  whoever creates it says why it ends
#   left    how many processes could not be ended, and which
#   result  "ending exit_code left lost . names", see cc_finish
#   alone   only the script's own process may be ended, not what it started
#   h.o.*   h.o.<from>.<to>: these bytes of o have been dropped to bound it;   h.e.*  of e
#   f.o.*   "pid:starttime ..." of who reads o, by process id;                 f.e.*  e
# and <base>/.done/<run id> is the tombstone that keeps an acknowledged run from running again.
#
# Processes: the supervisor waits for the script; the watchdog sleeps, bounds the files, and
# ends the run's processes when it is time, whoever listens. Both are plain forks of this shell.
# A function forked with `&` would leave SIGINT ignored in the script for ever, so the supervisor
# is the first half of a foreground pipeline whose second half, the conversation, kills the
# waiting shell at its end.
#
# Two `tee` stand between the script and the files. Were its streams the files themselves, one
# `echo oops >/dev/stderr` would open its file anew and empty it. And a full disk must not end
# the script by SIGPIPE: tee reads on where it can no longer write, and counts for us, as what it
# writes goes to /dev/null too.

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

# cc_exclusive FILE TEXT: creates FILE with TEXT. 1: it exists, or its name cannot be made; 2: its
# name is made, and there is no room for the text. No fork: noclobber is O_EXCL.
cc_exclusive() {
  set -C
  true >"$1"
  cc_code=$?
  set +C
  [ $cc_code = 0 ] || return 1
  printf '%s\n' "$2" >>"$1" || return 2
}

# cc_claim_end WHY: whether we are the one who ends the run. On a full disk a name can be made,
# and not always a word be written; and where not even a name can, nobody else made one.
cc_claim_end() {
  set -C
  true >"$cc_dir/end"
  cc_code=$?
  set +C
  [ $cc_code = 0 ] || [ ! -e "$cc_dir/end" ] || return
  echo "$1" >>"$cc_dir/end"
  return 0
}

# cc_why_ended: sets cc_why to what the one who ends the run said.
cc_why_ended() {
  cc_why=
  read -r cc_why <"$cc_dir/end"
  [ -n "$cc_why" ] && return
  cc_why=timeout
  [ -e "$cc_dir/cancel" ] && cc_why=cancel
}

cc_ours() { [ -d "$1" ] && [ ! -L "$1" ] && [ -O "$1" ]; }

cc_usable() { cc_ours "$1" && [ -w "$1" ] && [ -x "$1" ]; }

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

# cc_find: finds the run where it was made, before anybody thinks of making it anew. Also where
# nothing can be written any more: the disk became read-only, and the run may have been before.
cc_find() {
  if [ -n "$cc_base" ]; then
    cc_at "$cc_base"
    cc_ours "$cc_base"
    return
  fi
  for cc_try in "$cc_home_base" "$cc_spare_base"; do
    [ -n "$cc_try" ] && cc_ours "$cc_try" || continue
    cc_at "$cc_try"
    if [ -e "$cc_done" ] || [ -d "$cc_dir" ]; then return 0; fi
  done
  return 1
}

# cc_make: finds the run or makes its directory in the first base that can be used. A full one
# is not passed over: it may have room for who starts the same run just now, and then both would.
cc_make() {
  for cc_try in "$cc_base" "$cc_home_base" "$cc_spare_base"; do
    [ -n "$cc_try" ] || continue
    cc_at "$cc_try"
    mkdir -m 700 "$cc_try" "$cc_try/.done" "$cc_dir"
    if cc_usable "$cc_try" && cc_usable "$cc_dir" && cc_usable "$cc_try/.done"; then
      [ "$cc_try" = "$cc_spare_base" ] && ! cc_private "$cc_try" && continue
      return 0
    fi
    cc_full "$cc_try" && return 1
  done
  return 1
}

# cc_full BASE: what should hold it, or it should hold, is ours and can be written, yet is not made.
cc_full() {
  if [ -e "$1" ] || [ -L "$1" ]; then
    cc_usable "$1" && [ ! -e "$cc_dir" ]
  else
    cc_usable "${1%/*}"
  fi
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

# cc_finish ENDING EXIT LEFT LOST NAMES: LOST bytes of output found no room on the disk, or `-`:
# some. The file was made before the script began, so that this works on a full disk too.
cc_finish() {
  cc_over || printf '%-63s\n' "$1 $2 $3 $4 . $5" 1<>"$cc_dir/result"
}

# cc_over: the result is there. Who reads while it is written sees `none`, or no dot.
cc_over() {
  cc_ending= cc_exit=- cc_left=- cc_lost=0 cc_dot= cc_names=
  read -r cc_ending cc_exit cc_left cc_lost cc_dot cc_names <"$cc_dir/result"
  case "$cc_dot$cc_ending" in
    .exit | .timeout | .cancel | .lost | .rebooted) return 0 ;;
  esac
  return 1
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
# belong to the script's session, write into its pipes, or descend from any of these.
cc_members() {
  if [ -e "$cc_dir/alone" ]; then
    cc_alone
    return
  fi
  cc_list=' ' cc_tree= cc_sid= cc_sid_start=
  read -r cc_sid cc_sid_start <"$cc_dir/pid"
  # Somebody else has that id now, which can't be before the whole session is gone.
  cc_stat "${cc_sid:-none}" && [ "$cc_start" != "$cc_sid_start" ] && cc_sid=
  cc_named=$(grep -lszxF -e "COMMAND_CONSOLE_RUN=$cc_id" /proc/[0-9]*/environ)
  # It could not be started: not there, or too many names. Then to find nobody is no proof.
  [ $? -lt 126 ] || cc_left=-
  for cc_file in $cc_named; do
    cc_file=${cc_file#/proc/}
    cc_list="$cc_list${cc_file%/environ} "
  done
  for cc_proc in /proc/[0-9]*; do
    cc_p=${cc_proc#/proc/}
    cc_stat "$cc_p" && [ "$cc_state" != Z ] || continue
    cc_tree="$cc_tree $cc_p:$cc_parent"
    case $cc_list in *" $cc_p "*) continue ;; esac
    if [ "$cc_session" = "${cc_sid:-none}" ] || [ "$cc_p" = "${cc_sid:-none}" ] ||
      [ "$cc_proc/fd/1" -ef "$cc_dir/po" ] || [ "$cc_proc/fd/2" -ef "$cc_dir/pe" ] ||
      [ "$cc_proc/fd/1" -ef "$cc_dir/pe" ] || [ "$cc_proc/fd/2" -ef "$cc_dir/po" ]; then
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
# looked for one process only has proved nothing about others; and cc_names of those.
cc_stop() {
  cc_left=0 cc_names=
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
  cc_members && set -- $cc_list && cc_left=$# && cc_name_them
  return 0
}

cc_name_them() {
  for cc_p in $cc_list; do
    [ ${#cc_names} -lt 150 ] && cc_stat "$cc_p" || continue
    cc_name=${cc_line#*"("}
    cc_names="$cc_names${cc_names:+, }$cc_p (${cc_name%")"*})"
  done
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
# user ends every `sleep` it finds. A sleep that ran undisturbed is never followed by another,
# except where the files have to be looked at each second.
cc_sleep_out() {
  cc_clock
  cc_over_at=$((cc_now + cc_timeout * 100))
  while [ $cc_why != cancel ] && [ $((cc_over_at - cc_now)) -gt 5 ]; do
    cc_step=$(((cc_over_at - cc_now + 99) / 100))
    [ "$cc_spool" -gt 0 ] && [ $cc_step -gt 1 ] && cc_step=1
    sleep $cc_step &
    wait $!
    [ $cc_why = cancel ] && kill -KILL $!
    [ "$cc_spool" -gt 0 ] && cc_bound
    cc_clock
  done
}

# cc_bound: keeps o and e from growing without end. Their offsets stay what they were.
cc_bound() {
  cc_trim o "${cc_tee_o%:*}" "$cc_hole_o"
  cc_hole_o=$cc_to
  cc_trim e "${cc_tee_e%:*}" "$cc_hole_e"
  cc_hole_e=$cc_to
}

# cc_trim o|e TEE HOLE: drops the middle if there is too much behind the first HOLE bytes. Sets
# cc_to. First it is written down, then those are ended who have not read that far (they are
# asked to come again), then the bytes go: nobody ever reads zeros in their place.
cc_trim() {
  cc_to=$3 cc_key= cc_at=0
  read -r cc_key cc_at <"/proc/$2/fdinfo/1"
  [ $((cc_at - $3)) -gt "$cc_spool" ] || return
  cc_head=$((cc_spool / 4))
  cc_end=$((cc_at - cc_spool / 2))
  if [ "$3" = 0 ]; then
    cc_can_drop && true >"$cc_dir/h.$1.$cc_head.$cc_end" || return
  else
    mv "$cc_dir/h.$1.$cc_head.$3" "$cc_dir/h.$1.$cc_head.$cc_end" || return
  fi
  cc_to=$cc_end
  cc_end_slow "$1" "$cc_end"
  [ "$3" = 0 ] && set -- "$1" "$2" "$cc_head"
  fallocate -p -o "$3" -l $((cc_end - $3)) "$cc_dir/$1"
}

# cc_can_drop: not every file system can, nor every fallocate. If not, never ask again.
cc_can_drop() {
  printf 12345678 >"$cc_dir/probe"
  fallocate -p -o 0 -l 4 "$cc_dir/probe" && return
  cc_spool=0
  return 1
}

# cc_end_slow o|e OFFSET: ends readers that may still want a byte before OFFSET.
cc_end_slow() {
  for cc_file in "$cc_dir/f.$1".*; do
    cc_far= cc_readers=
    for cc_fd in "/proc/${cc_file##*.}/fd"/*; do
      [ "$cc_fd" -ef "$cc_dir/$1" ] || continue
      read -r cc_key cc_at <"${cc_fd%/fd/*}/fdinfo/${cc_fd##*/}"
      [ "$cc_at" -ge "$2" ] && cc_far=1
      # On a full disk the file may be empty.
      cc_stat "${cc_file##*.}" && cc_readers=$cc_of:$cc_start
    done
    [ -n "$cc_far" ] && continue
    read -r cc_key <"$cc_file" && cc_readers=$cc_key
    for cc_p in $cc_readers; do
      cc_stat "${cc_p%:*}" && [ "$cc_start" = "${cc_p#*:}" ] && kill -KILL "${cc_p%:*}"
    done
  done
}

# The sleep is ended with KILL: just forked, it still has our trap and would swallow a TERM.
# Before the first one, $! is the supervisor's.
# The supervisor writes the result, and asks for no more than our exit code where all went well.
cc_watchdog() {
  cc_why=timeout cc_hole_o=0 cc_hole_e=0
  trap '[ $! = "${cc_tee_e%:*}" ] || kill -KILL $!; exit 0' TERM
  trap 'cc_why=cancel' USR1
  cc_stat self && echo "$cc_of $cc_start" >"$cc_dir/wd"
  if [ -e "$cc_dir/cancel" ]; then
    cc_why=cancel
  else
    cc_sleep_out
  fi
  cc_claim_end "$cc_why" || exit 0
  trap '' TERM USR1
  cc_stop
  if cc_alive; then
    [ "$cc_left" = 0 ] && exit 0
    echo "$cc_left $cc_names" >"$cc_dir/left"
    exit 1
  fi
  cc_conclude "$cc_why" -
}

# cc_conclude ENDING EXIT: with cc_left and cc_names known, waits for the output and ends the run.
cc_conclude() {
  cc_keep=$cc_left cc_keep_names=$cc_names
  cc_drain
  cc_finish "$1" "$2" "$cc_keep" "${cc_missed:-0}" "$cc_keep_names"
}

# cc_tees: finds the two tee where we are not who started them.
cc_tees() {
  [ -n "$cc_tee_o" ] && return
  for cc_proc in /proc/[0-9]*; do
    if [ "$cc_proc/fd/0" -ef "$cc_dir/po" ]; then
      cc_stat "${cc_proc#/proc/}" && cc_tee_o=$cc_of:$cc_start
    elif [ "$cc_proc/fd/0" -ef "$cc_dir/pe" ]; then
      cc_stat "${cc_proc#/proc/}" && cc_tee_e=$cc_of:$cc_start
    fi
  done
}

# cc_copying: one of the tee lives. Sets cc_copied to their positions, cc_states to S for each
# that sleeps.
cc_copying() {
  cc_copied= cc_states=
  for cc_p in $cc_tee_o $cc_tee_e; do
    cc_stat "${cc_p%:*}" && [ "$cc_start" = "${cc_p#*:}" ] && [ "$cc_state" != Z ] || continue
    cc_key= cc_at=
    read -r cc_key cc_at <"/proc/${cc_p%:*}/fdinfo/1"
    cc_copied="$cc_copied $cc_at" cc_states=$cc_states$cc_state
  done
  [ -n "$cc_states" ]
}

# cc_drain: until all that the script has printed is in the files: then the tee end. Where a
# process that it left behind keeps them, until they sleep; what that one prints goes nowhere.
cc_drain() {
  cc_tees
  cc_turn=0 cc_before=
  while cc_copying; do
    cc_turn=$((cc_turn + 1))
    [ $cc_turn -lt 40 ] && continue
    [ "$cc_states$cc_copied" = "$cc_before" ] && break
    [ $cc_turn -gt 100 ] && break
    case $cc_states in
      *[!S]*) cc_before= ;;
      *) cc_before=$cc_states$cc_copied ;;
    esac
    cc_pause 0.05
  done
  [ -n "$cc_states" ] || return
  cc_divert "$cc_tee_o" po
  cc_divert "$cc_tee_e" pe
}

# cc_divert TEE PIPE: a process that lives on gets no SIGPIPE. Opened for both first: who only
# reads would wait here for a writer that may have gone just now.
cc_divert() {
  cc_stat "${1%:*}" && [ "$cc_start" = "${1#*:}" ] && [ "$cc_state" != Z ] || return
  exec 7<>"$cc_dir/$2" 8<"$cc_dir/$2" 7>&-
  cat <&8 8<&- 3<&- 4>&- >/dev/null &
  exec 8<&-
  kill -KILL "${1%:*}"
}

# cc_miss TEE: adds to cc_missed what this tee could not write to its file: it writes each byte
# twice, there first. Asked while it still waits for more, and told by the kernel (proc/PID/io).
cc_miss() {
  cc_turn=0 cc_seen=
  while [ $cc_turn -lt 80 ]; do
    cc_key= cc_at=0 cc_both=0
    read -r cc_key cc_at <"/proc/$1/fdinfo/1"
    { read -r cc_key cc_both && read -r cc_key cc_both; } <"/proc/$1/io"
    [ "$cc_both" -gt $((cc_at * 2)) ] || return
    cc_turn=$((cc_turn + 1))
    [ $cc_turn -lt 20 ] && continue
    cc_stat "$1" && [ "$cc_state$cc_both" = "S$cc_seen" ] && break
    cc_seen=$cc_both
    cc_pause 0.05
  done
  cc_missed=$((cc_missed + cc_both - 2 * cc_at))
}

# cc_supervisor: claims the run, answers 1 or 0 on stdout (x: cannot write), runs the script.
cc_supervisor() {
  exec 3<&- 4>&- </dev/null 2>/dev/null
  trap '' HUP PIPE USR1
  cc_stat self
  cc_exclusive "$cc_dir/sup" "$cc_of $cc_start $cc_boot"
  cc_code=$?
  if [ $cc_code = 1 ]; then
    if [ -e "$cc_dir/sup" ]; then echo 0; else echo x; fi
    exit 0
  fi
  if [ -e "$cc_done" ]; then
    rm -rf "$cc_dir"
    echo 0
    exit 0
  fi
  if ! { [ $cc_code = 0 ] && printf '%-63s\n' 'none' >"$cc_dir/result"; }; then
    rm -rf "$cc_dir"
    echo x
    exit 0
  fi
  echo 1
  exec >/dev/null
  cc_tee_up
  (cc_watchdog) 5>&- 6>&- &
  cc_watch=$!
  (cc_script) >&5 2>&6 5>&- 6>&-
  cc_exit=$?
  cc_missed=0
  cc_miss "${cc_tee_o%:*}"
  cc_miss "${cc_tee_e%:*}"
  exec 5>&- 6>&-
  if cc_claim_end exit; then
    kill $cc_watch
    wait $cc_watch
    cc_left=- cc_names=
    cc_conclude exit $cc_exit
  else
    cc_ended_by_others
  fi
  exit 0
}

# cc_tee_up: each pipe is opened for both first, and handed over open: then nobody waits here for
# a tee that was killed at once. What a tee says is not output: it may not write there.
cc_tee_up() {
  exec 7<>"$cc_dir/po" 8<"$cc_dir/po" 5>"$cc_dir/po" 7>&-
  tee /dev/null <&8 8<&- 5>&- >>"$cc_dir/o" 2</dev/null &
  cc_tee_o=$!
  exec 7<>"$cc_dir/pe" 8<"$cc_dir/pe" 6>"$cc_dir/pe" 7>&-
  tee /dev/null <&8 8<&- 5>&- 6>&- >>"$cc_dir/e" 2</dev/null &
  cc_tee_e=$!
  exec 8<&-
  cc_stat $cc_tee_o && cc_tee_o=$cc_tee_o:$cc_start
  cc_stat $cc_tee_e && cc_tee_e=$cc_tee_e:$cc_start
}

# cc_ended_by_others: the watchdog ended the script, or whoever cancels in its place.
cc_ended_by_others() {
  # It may sleep on: whoever ended it did not know of it, as its file is empty on a full disk.
  kill -USR1 $cc_watch
  wait $cc_watch
  cc_code=$?
  cc_left=0 cc_names=
  case $cc_code in
    0) [ -e "$cc_dir/alone" ] && cc_left=- ;;
    1) read -r cc_left cc_names <"$cc_dir/left" || cc_left=- ;;
    *) cc_stop ;;
  esac
  cc_why_ended
  cc_conclude "$cc_why" -
}

cc_about() {
  cc_machine= cc_host=
  read -r cc_machine cc_rest </etc/machine-id
  read -r cc_host cc_rest </proc/sys/kernel/hostname
  [ ${#cc_machine} -le 255 ] || cc_machine=
  cc_frame started "$1" "${cc_boot:--}" "${cc_machine:--}" "${cc_host:--}" "$cc_found"
}

cc_refuse() {
  cc_frame refused "$@"
  return 1
}

cc_no_place() {
  if cc_full "$cc_found"; then
    cc_refuse DiskFull
  else
    cc_refuse StateDirectoryUnusable
  fi
}

# cc_no_room: what the run needs could not be written. It goes again, unless somebody else who
# starts it just now has claimed it; and not even then between a look and the removal.
cc_no_room() {
  cc_exclusive "$cc_dir/sup" "0 0 $cc_boot"
  [ $? = 1 ] && [ -e "$cc_dir/sup" ] || rm -rf "$cc_dir"
  cc_refuse DiskFull
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
  for cc_try in setsid mkfifo tee; do
    command -v $cc_try >/dev/null || cc_refuse ProgramNotFound $cc_try || return
  done
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
  cc_make || cc_no_place || return
  cc_own=$cc_dir/$cc_file
  if [ -n "$cc_single" ]; then
    true >"$cc_dir/alone" || cc_no_room || return
  fi
  [ -p "$cc_dir/pe" ] || mkfifo -m 600 "$cc_dir/po" "$cc_dir/pe"
  cc_text >"$cc_own" && true >>"$cc_dir/o" && true >>"$cc_dir/e" &&
    [ -p "$cc_dir/po" ] && [ -p "$cc_dir/pe" ] || cc_no_room
}

cc_start_run() {
  if cc_find; then
    if [ -e "$cc_done" ] || [ -e "$cc_dir/sup" ]; then
      cc_about 0
      cc_converse <&3
      return
    fi
  fi
  if [ "$cc_asked" -gt 0 ]; then
    cc_clock
    # Who started it before the power went may have left no trace: nobody can know.
    [ $((cc_now / 100)) -gt "$cc_asked" ] || cc_refuse Restarted || return
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
    *) cc_no_room ;;
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
  if ! cc_claim_end lost; then
    while ! cc_over && cc_guarded && [ $cc_wait -lt 600 ]; do
      cc_pause 0.1
      cc_wait=$((cc_wait + 1))
    done
  fi
  cc_over && return
  cc_left=0 cc_names= cc_why=lost
  if [ "${cc_sup_boot:-$cc_boot}" = "$cc_boot" ]; then
    cc_guarded && kill -TERM "$cc_watch"
    # Whoever began to end it was killed, or is at it just now and will say the same.
    cc_why_ended
    case $cc_why in cancel | timeout) ;; *) cc_why=lost ;; esac
    cc_stop
  else
    cc_why=rebooted
  fi
  cc_conclude $cc_why -
}

# cc_hole o|e: sets cc_hole to where the dropped bytes end, 0 if none were, cc_head to where they
# begin.
cc_hole() {
  cc_hole=0 cc_head=0
  for cc_file in "$cc_dir/h.$1".*; do
    [ -e "$cc_file" ] || continue
    cc_hole=${cc_file##*.} cc_head=${cc_file%.*}
    cc_head=${cc_head##*.}
  done
}

# cc_reads o|e FROM PROCESS: makes known that this process reads that file, and says whether all
# from FROM on is there. In this order: who drops bytes first writes it down, then looks for us.
cc_reads() {
  cc_stat self
  cc_me=$cc_of:$cc_start
  cc_stat "$3" && [ "$cc_of" != "${cc_me%:*}" ] && cc_me="$cc_me $cc_of:$cc_start"
  echo "$cc_me" >"$cc_dir/f.$1.${cc_me%%:*}"
  cc_hole "$1"
  [ "$2" -ge "$cc_hole" ]
}

# cc_skip o|e FROM: sends what comes before dropped bytes, and that they are. Sets cc_from.
cc_skip() {
  cc_from=$2
  cc_hole "$1"
  [ "$cc_from" -lt "$cc_hole" ] || return
  if [ "$cc_from" -lt "$cc_head" ]; then
    tail -c "+$((cc_from + 1))" "$cc_dir/$1" | head -c $((cc_head - cc_from))
    cc_from=$cc_head
  fi
  cc_frame gap "$cc_from" "$cc_hole"
  cc_from=$cc_hole
}

# cc_tails FROM_O FROM_E: GNU tail waits on inotify and ends with the supervisor. Where the
# supervisor is not a child of this shell (we came back) and process 1 does not reap it, as in
# many containers, tail would wait for ever: then cc_nudge ends it and the console asks again.
cc_tails() {
  (cc_reads o "$1" self && exec tail -c "+$(($1 + 1))" -f "--pid=$cc_sup" -s 0.02 "$cc_dir/o") &
  cc_tail=$!
  (cc_reads e "$2" self && exec tail -c "+$(($2 + 1))" -f "--pid=$cc_sup" -s 0.02 "$cc_dir/e") >&4 &
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
  # Ended from outside, the waiting shell must go too: it holds the channel.
  cc_reads o "$1" $$ && cc_reads e "$2" $$ || return
  tail -c "+$(($1 + 1))" <&5
  tail -c "+$(($2 + 1))" <&6 >&4
  cc_turn=0 cc_ended= cc_step=0.02
  while [ -z "$cc_ended" ]; do
    cc_alive && ! cc_over || cc_ended=1
    cat <&5
    cat <&6 >&4
    [ -n "$cc_ended" ] && break
    cc_pause $cc_step
    cc_turn=$((cc_turn + 1))
    [ $cc_turn = 50 ] && cc_step=0.2
    [ $((cc_turn % 25)) = 0 ] && cc_frame beat
  done
  exec 5<&- 6<&-
}

# cc_rest o|e FROM: nothing more will come. An empty file needs no program to print it.
cc_rest() {
  [ -s "$cc_dir/$1" ] || return 0
  (cc_reads "$1" "$2" self && exec tail -c "+$(($2 + 1))" "$cc_dir/$1")
}

# cc_stream FROM_O FROM_E HOW: whether all was sent.
cc_stream() {
  cc_skip e "$2" >&4
  set -- "$1" "$cc_from" "$3"
  cc_skip o "$1"
  if cc_over || ! cc_alive; then
    cc_rest o "$cc_from" && cc_rest e "$2" >&4
  elif [ "$3" = poll ]; then
    cc_polls "$cc_from" "$2"
  else
    cc_tails "$cc_from" "$2"
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
  cc_hole o
  cc_holes=$cc_hole
  cc_hole e
  cc_holes=$cc_holes,$cc_hole
  cc_frame flow
  cc_frame flow >&4
  cc_stream "$1" "$2" "$3"
  cc_whole=$?
  cc_frame "end"
  cc_frame "end" >&4
  if [ $cc_whole != 0 ]; then
    cc_hole o
    cc_now_at=$cc_hole
    cc_hole e
    if [ "$cc_holes" = "$cc_now_at,$cc_hole" ]; then cc_frame broken; else cc_frame again; fi
    return
  fi
  cc_over || cc_lost
  cc_over
  cc_frame result "${cc_ending:-lost}" "$cc_exit" "$cc_left" "$cc_lost" $cc_names
}

cc_cancel() {
  cc_find || cc_make || cc_no_place || return
  if [ -e "$cc_done" ]; then
    cc_frame cancelled 0
    return
  fi
  mkdir -m 700 "$cc_found/.done" "$cc_dir"
  if cc_exclusive "$cc_dir/sup" "0 0 $cc_boot"; then
    true >>"$cc_dir/o"
    true >>"$cc_dir/e"
    # It never starts. Or it did, and its directory was removed: the cookie tells.
    cc_claim_end cancel && cc_stop && cc_finish cancel - "$cc_left" 0 "$cc_names"
  fi
  cc_over || true >"$cc_dir/cancel"
  cc_wait=0
  while ! cc_over && cc_alive && { [ $cc_wait -lt 20 ] || cc_guarded; }; do
    [ -e "$cc_dir/end" ] || { cc_guarded && kill -USR1 "$cc_watch"; }
    # Somebody may have stopped them as well.
    [ $cc_wait = 20 ] && kill -CONT "$cc_sup" "$cc_watch"
    cc_pause 0.05
    cc_wait=$((cc_wait + 1))
  done
  cc_over || cc_take_over
  cc_over
  cc_frame cancelled "${cc_left:--}" $cc_names
}

# cc_take_over: no watchdog is left on the instance to end the run, so we do. The supervisor, if
# it lives, writes the result.
cc_take_over() {
  cc_claim_end cancel
  cc_stop
  cc_keep=$cc_left cc_keep_names=$cc_names cc_wait=0
  while ! cc_over && cc_alive && [ $cc_wait -lt 200 ]; do
    cc_pause 0.05
    cc_wait=$((cc_wait + 1))
  done
  cc_over && return
  cc_left=$cc_keep cc_names=$cc_keep_names
  cc_conclude cancel -
}

cc_acknowledge() {
  cc_find || cc_make || cc_no_place || return
  [ -d "$cc_found/.done" ] || mkdir "$cc_found/.done"
  # On a full disk a name can still be moved.
  true >"$cc_done" || mv "$cc_dir/sup" "$cc_done" || cc_refuse DiskFull || return
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
