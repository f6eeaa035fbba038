# The program that runs a script on an instance. It is sent on standard input to `/bin/sh -s`
# and must mean the same in dash, bash and busybox sh. Everything is a function; the last line
# that the console appends is the only call, so that a connection cut in mid-send runs nothing.
#
# A run is a directory <base>/<run id>, mode 0700:
#   s.*     the script, one file for each starter; only the winner's is executed
#   o, e    what it has printed
#   state   creating it exclusively claims the run; its lines have room for all that is written:
#           1 "pid starttime boot_id" of the supervisor
#           2 the result, "ending exit_code left lost . names", see cc_finish
#           3 "pid starttime" of the script, which leads its session
#           4 "pid starttime" of the watchdog, then "pid:starttime" of its sleep, if that is long
#           5 "pid pid" of the two tee
#   cancel  somebody wants the run cancelled;             end  whoever creates it says why it ends
#   left    how many processes could not be ended, and which
#   alone   only the script's own process may be ended, not what it started
#   h.o.*   h.o.<from>.<to>: these bytes of o have been dropped to bound it;   h.e.*  of e
#   f.o.*   "pid:starttime ..." of who reads o, by process id;                 f.e.*  e
# and <base>/.done/<run id> is the tombstone that keeps an acknowledged run from running again.
# <base>/@since says since when, by the clock of this boot, the base is certainly there, and what
# was started in it since, a line for each.
# Few files, on purpose: a file system such as ext4 looks at each inode that was given back in the
# last minutes before it hands out one, so that every file of a run makes all that follow dearer.
#
# Processes: the supervisor waits for the script; the watchdog sleeps, bounds the files, and ends
# the run's processes when it is time, whoever listens. The conversation takes requests on the
# channel, one run after the other, and the hub forks the supervisor of each. All are plain forks
# of the shell that sshd started, which waits for the hub. They are two, as a function forked with
# `&` leaves SIGINT ignored in all that comes of it: that is the conversation, never the script;
# while the hub, in the foreground, can wait for the supervisor, as somebody has to.
#
# Pipes cost no file and no program here: `: | function | :` makes two, and /proc/self/fd opens
# their other ends. Through one the conversation asks the hub (3 to 7); through the other (8 to 9)
# it is told what happens to its run: claimed, running for longer than a moment, over. A short run
# is read when it is over; only for one that takes longer programs are started that follow it.
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

# cc_place FDINFO: sets cc_at to how far that open file is.
cc_place() {
  read -r cc_key cc_at <"$1"
  cc_flush
}

# cc_flush: bash reads ahead, and goes back to the end of the line. In /proc it can't where the
# process ends in this moment: then it would take what it has for the next file.
cc_flush() { while read -r cc_rest; do :; done </dev/null; }

# cc_create FILE: whether we are the one who makes it. No fork: noclobber is O_EXCL.
cc_create() {
  set -C
  true >"$1"
  cc_code=$?
  set +C
  return $cc_code
}

# cc_claim PID START: claims the run, with room for all that is to be written later. 1: somebody
# has, or the name cannot be made; 2: its name is made, and there is no room.
cc_claim() {
  cc_create "$cc_dir/state" || return 1
  printf '%-63s\n%-63s\n%-31s\n%-47s\n%-31s\n' "$1 $2 $cc_boot" none '' '' '' \
    >>"$cc_dir/state" || return 2
}

# cc_pass LINE: reads what stands before it.
cc_pass() {
  cc_turn=$1
  while [ $cc_turn -gt 1 ]; do
    read -r cc_rest
    cc_turn=$((cc_turn - 1))
  done
}

# cc_note LINE WIDTH TEXT: writes a line of the state, where there is room for it already.
cc_note() {
  {
    cc_pass $1
    printf "%-$2s\n" "$3"
  } <>"$cc_dir/state" >&0
}

# cc_noted LINE: sets cc_first, cc_second, cc_third to the words of a line of the state.
cc_noted() {
  cc_first= cc_second= cc_third=
  {
    cc_pass $1
    read -r cc_first cc_second cc_third
  } <"$cc_dir/state"
}

# cc_claim_end WHY: whether we are the one who ends the run. On a full disk a name can be made,
# and not always a word be written; and where not even a name can, nobody else made one.
cc_claim_end() {
  cc_create "$cc_dir/end" || [ ! -e "$cc_dir/end" ] || return
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
  case $(ls -ldn "$1") in drwx------*) ;; *) return 1 ;; esac
}

# cc_bases: sets cc_home_base and cc_spare_base, which are one where there is no home to use.
cc_bases() {
  cc_uid=
  while read -r cc_key cc_uid cc_rest; do
    [ "$cc_key" = Uid: ] && break
  done </proc/self/status
  cc_spare_base=/var/tmp/.command-console-$cc_uid
  cc_home_base=$cc_spare_base
  cc_plain "$HOME" && cc_home_base=${HOME%/}/.command-console
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
    cc_ours "$cc_try" || continue
    cc_at "$cc_try"
    [ -e "$cc_done" ] || [ -d "$cc_dir" ] && return
  done
  return 1
}

# cc_make: finds the run or makes its directory in the first base that can be used. A full one
# is not passed over: it may have room for who starts the same run just now, and then both would.
cc_make() {
  for cc_try in "${cc_base:-$cc_home_base}" "$cc_home_base" "$cc_spare_base"; do
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

# cc_lives PID START: that process, and no other that got its id.
cc_lives() {
  [ -n "$2" ] && cc_stat "$1" && [ "$cc_start" = "$2" ] && [ "$cc_state" != Z ]
}

# cc_kill PID:START: that process, if it lives.
cc_kill() { cc_lives "${1%:*}" "${1#*:}" && kill -KILL "${1%:*}"; }

# cc_alive: the supervisor that claimed this run is running (same process, same boot).
cc_alive() {
  cc_sup= cc_sup_start= cc_sup_boot=
  read -r cc_sup cc_sup_start cc_sup_boot <"$cc_dir/state"
  [ "$cc_sup_boot" = "$cc_boot" ] || return 1
  cc_lives "$cc_sup" "$cc_sup_start"
}

# cc_guarded: the same for the watchdog.
cc_guarded() {
  cc_noted 4
  cc_watch=$cc_first
  cc_lives "$cc_first" "$cc_second"
}

# cc_finish ENDING EXIT LEFT LOST NAMES: LOST bytes of output found no room on the disk, or `-`:
# maybe some. Long NAMES run over the lines behind, which nobody needs any more.
cc_finish() {
  cc_over || cc_note 2 63 "$1 $2 $3 $4 . $5"
}

# cc_written: whoever made the name of the claim is about to write into it who it is.
cc_written() {
  cc_wait=0
  while [ ! -s "$cc_dir/state" ] && [ $cc_wait -lt 20 ]; do
    cc_tick 0.1
  done
}

# cc_over: the result is there. Who reads while it is written sees `none`, or no dot.
cc_over() {
  cc_ending= cc_exit=- cc_left=- cc_lost=0 cc_dot= cc_names=
  {
    read -r cc_rest
    read -r cc_ending cc_exit cc_left cc_lost cc_dot cc_names
  } <"$cc_dir/state"
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

# cc_tick SECONDS: the same, and counts.
cc_tick() {
  cc_pause "$1"
  cc_wait=$((cc_wait + 1))
}

# cc_alone: the same as cc_members for a run whose children are not ours to end.
cc_alone() {
  cc_list=' '
  cc_noted 3
  cc_lives "$cc_first" "$cc_second" && cc_list=" $cc_first "
}

# cc_members: sets cc_list to the living processes of the run: those that carry its cookie,
# belong to the script's session, write into its pipes, or descend from any of these.
cc_members() {
  [ -e "$cc_dir/alone" ] && { cc_alone; return; }
  cc_list=' ' cc_tree=
  cc_pipes
  cc_noted 3
  cc_sid=${cc_first:-none}
  # Somebody else has that id now, which can't be before the whole session is gone.
  cc_stat "$cc_sid" && [ "$cc_start" != "$cc_second" ] && cc_sid=none
  cc_newcomers
  cc_named=$(grep -lszxF -e "COMMAND_CONSOLE_RUN=$cc_id" $cc_files /dev/null)
  # It could not be started: not there, or too many names. Then to find nobody is no proof.
  [ $? -lt 126 ] || cc_left=-
  for cc_file in $cc_named; do
    cc_file=${cc_file#/proc/}
    cc_list="$cc_list${cc_file%/environ} "
  done
  for cc_file in $cc_files; do
    cc_proc=${cc_file%/environ}
    cc_p=${cc_proc#/proc/}
    cc_stat "$cc_p" && [ "$cc_state" != Z ] || continue
    cc_tree="$cc_tree $cc_p:$cc_parent"
    case $cc_list in *" $cc_p "*) continue ;; esac
    if [ "$cc_session" = "$cc_sid" ] || [ "$cc_p" = "$cc_sid" ] ||
      [ "$cc_proc/fd/1" -ef "$cc_pipe_o" ] || [ "$cc_proc/fd/2" -ef "$cc_pipe_e" ] ||
      [ "$cc_proc/fd/1" -ef "$cc_pipe_e" ] || [ "$cc_proc/fd/2" -ef "$cc_pipe_o" ]; then
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
  cc_know_others
  [ "$cc_list" != ' ' ]
}

# cc_newcomers: sets cc_files to the environments of all processes but cc_others. The fewer they
# are, the less time is there between their list and a look at them to fork and be gone.
cc_newcomers() {
  cc_files=
  for cc_proc in /proc/[0-9]*; do
    case $cc_others in *" ${cc_proc#/proc/} "*) continue ;; esac
    cc_files="$cc_files $cc_proc/environ"
  done
}

# cc_know_others: adds to cc_others who was twice found not to belong to the run. Once is no proof:
# a process that is just becoming another program shows no environment.
cc_know_others() {
  cc_once=$cc_twice cc_twice=' '
  for cc_pair in $cc_tree; do
    cc_p=${cc_pair%:*}
    case $cc_list in *" $cc_p "*) continue ;; esac
    case $cc_once in
      *" $cc_p "*) cc_others="$cc_others$cc_p " ;;
      *) cc_twice="$cc_twice$cc_p " ;;
    esac
  done
}

# cc_nobody: six scans in a row find nobody. One is no proof: of a chain of processes that fork
# and end, each may be gone when it is looked at, and its child not in the list made before. The
# last four look at newcomers only, and are quick.
cc_nobody() {
  for cc_scan in 1 2 3 4 5 6; do
    cc_members && return 1
  done
  return 0
}

cc_any_left() {
  for cc_p in $cc_list; do
    cc_stat "$cc_p" && [ "$cc_state" != Z ] && return 0
  done
  return 1
}

# cc_stop: TERM, grace, KILL until scans find nobody. Sets cc_left: 0 is a proof, and what
# looked for one process only has proved nothing about others; and cc_names of those.
cc_stop() {
  cc_left=0 cc_names= cc_others=' ' cc_twice=' '
  [ -e "$cc_dir/alone" ] && cc_left=-
  cc_nobody && return 0
  kill -TERM $cc_list
  kill -CONT $cc_list
  cc_clock
  cc_until=$((cc_now + cc_grace * 100)) cc_step=0.02
  while [ "$cc_now" -lt "$cc_until" ]; do
    cc_pause $cc_step
    cc_step=0.1
    if ! cc_any_left; then cc_nobody && return 0; fi
    cc_clock
  done
  cc_wait=0
  while [ $cc_wait -lt 50 ]; do
    cc_nobody && return 0
    kill -KILL $cc_list
    cc_tick 0.05
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
  cc_note 3 31 "$cc_of $cc_start"
  [ -e "$cc_dir/end" ] && exit 0
  export COMMAND_CONSOLE_RUN="$cc_id"
  [ -z "$cc_launcher" ] || cc_launch
  exec setsid "$cc_interpreter" ${cc_argument:+"$cc_argument"} "$cc_own"
}

# cc_sleep_out: until the time is over or somebody cancels, however often a script of the same
# user ends every `sleep` it finds. A sleep that ran undisturbed is never followed by another,
# except after the first moment, and where the files have to be looked at each second.
cc_sleep_out() {
  cc_clock
  cc_over_at=$((cc_now + cc_timeout * 100))
  cc_moment
  while [ $cc_why != cancel ] && [ $((cc_over_at - cc_now)) -gt 5 ]; do
    sleep $cc_step 8>&- &
    cc_nap=$!
    [ -n "$cc_brief" ] || [ "$cc_step" = 1 ] || cc_note_sleep
    wait $cc_nap
    [ $cc_why = cancel ] && cc_wake
    [ -n "$cc_brief" ] && cc_tell slow && exec 8>&-
    cc_brief=
    [ "$cc_spool" -gt 0 ] && cc_bound
    cc_clock
    cc_step=$(((cc_over_at - cc_now + 99) / 100))
    [ "$cc_spool" -gt 0 ] && [ $cc_step -gt 1 ] && cc_step=1
  done
}

# cc_wake: ends the sleep of this watchdog with KILL: just forked, it still has our trap and would
# swallow a TERM. Before the first one, $! is the supervisor's.
cc_wake() {
  [ $! = $cc_tee_e ] && return
  kill -KILL $!
  wait $!
}

# cc_note_sleep: who finds the watchdog killed must find its sleep, too.
cc_note_sleep() { cc_stat $cc_nap && cc_note 4 47 "$cc_watchdog $cc_of:$cc_start"; }

# cc_moment: sets cc_step to how long a short script may take: 0.05 s, or on a busy machine three
# times as long as it took until now. There, to follow what is over soon would only make it busier.
cc_moment() {
  cc_brief=$(((cc_now - cc_begun) * 3))
  [ $cc_brief -ge 5 ] || cc_brief=5
  [ $cc_brief -le 50 ] || cc_brief=50
  cc_step=0.$cc_brief
  [ $cc_brief -ge 10 ] || cc_step=0.0$cc_brief
}

# cc_bound: keeps o and e from growing without end. Their offsets stay what they were.
cc_bound() {
  cc_trim o "$cc_tee_o" "$cc_hole_o"
  cc_hole_o=$cc_to
  cc_trim e "$cc_tee_e" "$cc_hole_e"
  cc_hole_e=$cc_to
}

# cc_trim o|e TEE HOLE: drops the middle if there is too much behind the first HOLE bytes. Sets
# cc_to. First it is written down, then those are ended who have not read that far (they are
# asked to come again), then the bytes go: nobody ever reads zeros in their place.
cc_trim() {
  cc_to=$3 cc_at=0
  cc_place "/proc/$2/fdinfo/1"
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
      cc_place "${cc_fd%/fd/*}/fdinfo/${cc_fd##*/}"
      [ "$cc_at" -ge "$2" ] && cc_far=1
      # On a full disk the file may be empty.
      cc_stat "${cc_file##*.}" && cc_readers=$cc_of:$cc_start
    done
    [ -n "$cc_far" ] && continue
    read -r cc_key <"$cc_file" && cc_readers=$cc_key
    for cc_p in $cc_readers; do cc_kill "$cc_p"; done
  done
}

# The supervisor writes the result, and asks for no more than our exit code where all went well.
cc_watchdog() {
  cc_why=timeout cc_hole_o=0 cc_hole_e=0
  trap 'cc_wake; exit 0' TERM
  trap 'cc_why=cancel' USR1
  cc_stat self
  cc_watchdog="$cc_of $cc_start"
  cc_note 4 47 "$cc_watchdog"
  # In this order: who ends the run in our place creates it first, and then looks for us.
  [ -e "$cc_dir/end" ] && exit 0
  if [ -e "$cc_dir/cancel" ]; then
    cc_why=cancel
  else
    cc_sleep_out
  fi
  cc_claim_end "$cc_why" || exit 0
  trap '' TERM USR1
  cc_alive || cc_hold
  cc_stop
  if cc_alive; then
    [ "$cc_left" = 0 ] && exit 0
    echo "$cc_left $cc_names" >"$cc_dir/left"
    exit 1
  fi
  cc_conclude "$cc_why" -
}

# cc_tell WORD VALUE: to the conversation, if it lives.
cc_tell() { echo "$cc_id $1 $2" >&8; }

# cc_hold: the supervisor is gone, and we end the run in its place: keeps the tee from ending
# with the script, so that they can be asked what they could not write.
cc_hold() {
  cc_tees
  # A redirection that fails must not end us: `exec` only takes over what has been opened.
  { cc_writes "$cc_tee_o" o && exec 5>&7; } 7>"/proc/${cc_tee_o:-none}/fd/0"
  { cc_writes "$cc_tee_e" e && exec 6>&7; } 7>"/proc/${cc_tee_e:-none}/fd/0"
  cc_held=1
}

# cc_conclude ENDING EXIT: with cc_left and cc_names known, waits for the output and ends the run.
cc_conclude() {
  cc_keep=$cc_left cc_keep_names=$cc_names
  [ -z "$cc_held" ] || cc_count
  exec 5>&- 6>&-
  cc_drain
  cc_finish "$1" "$2" "$cc_keep" "${cc_missed:--}" "$cc_keep_names"
}

# cc_count: sets cc_missed to how many bytes the tee could not write, `-` if one cannot be asked,
# and cc_printed to how many they wrote.
cc_count() {
  cc_missed=0 cc_printed=0 cc_at=0
  for cc_p in o e; do
    [ $cc_p = o ] && cc_tee=$cc_tee_o || cc_tee=$cc_tee_e
    if cc_at_last "$cc_tee" $cc_p; then cc_miss "$cc_tee"; else cc_lacking=1; fi
    cc_printed=$((cc_printed + cc_at))
  done
  # As long as we keep its pipe open, a tee that is gone meanwhile was killed.
  [ -z "$cc_lacking" ] && cc_writes "$cc_tee_o" o && cc_writes "$cc_tee_e" e || cc_doubt
}

# cc_tees: finds the two tee where we are not who started them.
cc_tees() {
  [ -n "$cc_tee_o" ] && return
  cc_noted 5
  cc_tee_o=$cc_first cc_tee_e=$cc_second
}

# cc_writes PROCESS o|e: it lives and is the tee that writes this file.
cc_writes() { [ "/proc/${1:-none}/fd/1" -ef "$cc_dir/$2" ]; }

# cc_at_last PROCESS o|e: the same, once a tee that this process has only just forked got that far.
cc_at_last() {
  cc_turn=0
  until cc_writes "$1" "$2"; do
    cc_stat "${1:-none}" && [ "$cc_parent" = "$cc_self" ] && [ "$cc_state" != Z ] || return
    # A tee has opened its file, maybe since we looked; or it has another one: scripts may remove
    # whatever is theirs.
    case $cc_line in *" (tee) "*) cc_writes "$1" "$2"; return ;; esac
    cc_turn=$((cc_turn + 1))
    [ $cc_turn -lt 200 ] || return
    [ $cc_turn -lt 20 ] || cc_pause 0.02
  done
}

# cc_pipes: sets cc_pipe_o and cc_pipe_e to names of what the script's streams are, as long as a
# tee or the supervisor lives.
cc_pipes() {
  cc_tees
  cc_pipe_o=/proc/none cc_pipe_e=/proc/none
  cc_alive && cc_pipe_o=/proc/$cc_sup/fd/5 cc_pipe_e=/proc/$cc_sup/fd/6
  cc_writes "$cc_tee_o" o && cc_pipe_o=/proc/$cc_tee_o/fd/0
  cc_writes "$cc_tee_e" e && cc_pipe_e=/proc/$cc_tee_e/fd/0
}

# cc_at_work: sets cc_copied to the positions of the tee that live, cc_states to S for each that
# sleeps.
cc_at_work() {
  cc_copied= cc_states=
  for cc_p in $cc_tee_o $cc_tee_e; do
    cc_writes $cc_p o || cc_writes $cc_p e || continue
    cc_at=
    cc_stat $cc_p && cc_place "/proc/$cc_p/fdinfo/1"
    cc_copied="$cc_copied $cc_at" cc_states=$cc_states$cc_state
  done
}

# cc_drain: until all that the script has printed is in the files: then the tee end. Where a
# process that it left behind keeps them, until they sleep; what that one prints goes nowhere.
cc_drain() {
  cc_tees
  cc_turn=0 cc_before=
  while cc_writes "$cc_tee_o" o || cc_writes "$cc_tee_e" e; do
    cc_turn=$((cc_turn + 1))
    [ $cc_turn -lt 100 ] && continue
    cc_at_work
    [ "$cc_states$cc_copied" = "$cc_before" ] && break
    if [ $cc_turn -gt 160 ]; then
      # It could not read on, as it was stopped or its disk is stuck.
      case $cc_states in *[!RS]*) cc_doubt ;; esac
      break
    fi
    case $cc_states in
      *[!S]*) cc_before= ;;
      *) cc_before=$cc_states$cc_copied ;;
    esac
    cc_pause 0.05
  done
  cc_divert "$cc_tee_o" o
  cc_divert "$cc_tee_e" e
}

# cc_killed TEE: it is gone. If it did not end by itself, there may be something that it never
# read. Only who started it gets to know.
cc_killed() {
  cc_stat "${1:-none}" && [ "$cc_state" != Z ] && return
  wait "$1"
  [ $? -le 128 ] || cc_doubt
}

# cc_doubt: maybe some output found no room. A number, if there is one, says more.
cc_doubt() { [ "${cc_missed:-0}" != 0 ] || cc_missed=-; }

# cc_divert TEE o|e: a process that lives on gets no SIGPIPE: somebody else reads its pipe first.
cc_divert() {
  cc_writes "$1" "$2" || { cc_killed "$1"; return; }
  { cat <&7 7<&- 3<&- 4>&- 8>&- >/dev/null & } 7<"/proc/$1/fd/0"
  kill -KILL "$1"
}

# cc_miss TEE: adds to cc_missed what this tee could not write to its file: it writes each byte
# twice, there first. Asked while it still waits for more, and told by the kernel (proc/PID/io).
cc_miss() {
  cc_turn=0 cc_seen=
  while [ $cc_turn -lt 80 ]; do
    cc_at=0 cc_both=0
    cc_place "/proc/$1/fdinfo/1"
    { read -r cc_key cc_both && read -r cc_key cc_both; } <"/proc/$1/io"
    cc_flush
    [ "$cc_both" -gt $((cc_at * 2)) ] || return
    cc_turn=$((cc_turn + 1))
    [ $cc_turn -lt 20 ] && continue
    cc_stat "$1" && [ "$cc_state$cc_both" = "S$cc_seen" ] && break
    cc_seen=$cc_both
    cc_pause 0.05
  done
  cc_missed=$((cc_missed + cc_both - 2 * cc_at))
}

# cc_supervisor: claims the run, says whether it is ours (1, 0; x: cannot write), runs the script.
# Its streams are two pipes that nobody else uses: the ways that the script's output will take.
cc_supervisor() {
  exec 9<&- 7<&0 5>/proc/self/fd/0 6>&1 </dev/null >/dev/null
  trap '' HUP PIPE USR1
  cc_stat self
  cc_self=$cc_of
  cc_claim "$cc_self" "$cc_start"
  cc_code=$?
  # Whoever buried it meanwhile may not have seen what was prepared here.
  [ ! -e "$cc_done" ] || cc_unclaim 0
  case $cc_code in
    1)
      if [ -e "$cc_dir/state" ]; then cc_tell fresh 0; else cc_tell fresh x; fi
      exit 0
      ;;
    2) cc_unclaim x ;;
  esac
  # Said outside of what the script may take for its own, and before it is there.
  echo "$cc_id" >>"$cc_found/@since" || cc_unclaim x
  cc_tee_up
  cc_tell fresh 1
  (cc_watchdog) 5>&- 6>&- &
  cc_watch=$!
  (cc_script) >&5 2>&6 5>&- 6>&- 8>&-
  cc_exit=$?
  cc_count
  exec 5>&- 6>&-
  if cc_claim_end exit; then
    kill $cc_watch
    cc_let_go
    cc_left=- cc_names=
    cc_conclude exit $cc_exit
  else
    cc_not_by_us
  fi
  # Where process 1 does not reap, nobody else would.
  wait $cc_tee_o $cc_tee_e
  [ -n "$cc_lacking" ] || cc_tell over "$cc_printed"
  exit 0
}

# cc_unclaim SAID: nothing has started, and nothing is left of what was claimed.
cc_unclaim() {
  rm -rf "$cc_dir"
  cc_tell fresh $1
  exit 0
}

# cc_tee o|e: becomes the tee that writes this file. What it says is not output: it may not write
# there.
cc_tee() { exec tee /dev/null <&7 7<&- 5>&- 6>&- 8>&- >>"$cc_dir/$1" 2</dev/null; }

# cc_tee_up: the pipes are handed over open: then nobody waits here for a tee that was killed at
# once.
cc_tee_up() {
  cc_tee o &
  cc_tee_o=$!
  exec 7</proc/self/fd/6
  cc_tee e &
  cc_tee_e=$!
  exec 7<&-
  cc_note 5 31 "$cc_tee_o $cc_tee_e"
}

# cc_let_go: waits for the watchdog.
cc_let_go() {
  wait $cc_watch
  cc_code=$?
  [ $cc_code -le 128 ] || cc_end_sleep
}

# cc_end_sleep: a watchdog that was killed has left it.
cc_end_sleep() {
  cc_noted 4
  cc_kill "$cc_third"
}

# cc_not_by_us: the watchdog ended the script, or whoever cancels in its place.
cc_not_by_us() {
  # It may sleep on: whoever ended it did not know of it, as its file is empty on a full disk.
  kill -USR1 $cc_watch
  cc_let_go
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
  cc_full "$cc_found" && set DiskFull || set StateDirectoryUnusable
  cc_refuse $1
}

# cc_no_room: what the run needs could not be written. It goes again, unless somebody else who
# starts it just now has claimed it; and not even then between a look and the removal.
cc_no_room() {
  cc_claim 0 0
  [ $? = 1 ] && [ -e "$cc_dir/state" ] || rm -rf "$cc_dir"
  cc_refuse DiskFull
}

cc_executable() { [ -f "$1" ] && [ -x "$1" ]; }

# cc_reachable PROGRAM: it can be started, by its path or from PATH. Not `command -v`, which
# also knows the words and functions of the shell, where no shell will look.
cc_reachable() {
  case $1 in
    */*) cc_executable "$1"; return ;;
  esac
  cc_rest=$PATH:
  while [ -n "$cc_rest" ]; do
    cc_try=${cc_rest%%:*}
    cc_rest=${cc_rest#*:}
    cc_executable "${cc_try:-.}/$1" && return
  done
  return 1
}

# cc_enter: to where the script is to begin.
cc_enter() {
  cd "$cc_origin"
  if [ -n "$cc_workdir" ]; then
    cd "$cc_workdir"
  else
    cd "${HOME:-/}" || cd /
  fi
}

# cc_fit: can the script run here? Nothing was made yet. Leaves us in its directory.
cc_fit() {
  for cc_try in setsid tee; do
    command -v $cc_try >/dev/null || cc_refuse ProgramNotFound $cc_try || return
  done
  cc_enter || cc_refuse DirectoryNotExists || return
  if [ -n "$cc_launcher" ]; then
    cc_reachable "$cc_launcher" || cc_refuse LauncherNotFound
    return
  fi
  cc_executable "$cc_interpreter" &&
    { [ -z "$cc_program" ] || command -v "$cc_program" >/dev/null; } ||
    cc_refuse InterpreterNotFound
}

cc_prepare() {
  cc_fit || return
  cc_make || cc_no_place || return
  cc_own=$cc_dir/$cc_file
  [ -z "$cc_single" ] || true >"$cc_dir/alone" || cc_no_room || return
  cc_text >"$cc_own" && true >>"$cc_dir/o" && true >>"$cc_dir/e" || cc_no_room
}

cc_start_run() {
  cc_forget
  if cc_find && { [ -e "$cc_done" ] || [ -e "$cc_dir/state" ]; }; then
    cc_about 0
    return
  fi
  [ "$cc_asked" = 0 ] || cc_absent || return
  cc_prepare || return
  cc_since || cc_mark
  # Open before anybody is told to write there, as a pipe without a writer is at its end.
  exec 8>/proc/self/fd/9
  printf '%s %s\n%s' "$cc_lines" "$cc_found" "$cc_functions" >&3
  cc_hears fresh over
  exec 8>&-
  case $cc_value in
    1) cc_listens=$cc_id && cc_about 1 ;;
    0) cc_about 0 ;;
    *) cc_no_room ;;
  esac
}

# cc_absent: nobody can have started it since it was first asked for. That it is not found is
# no proof alone: the power may have taken its traces, or somebody the whole base.
cc_absent() {
  cc_clock
  cc_ask=$((cc_now / 100 - cc_asked))
  [ $cc_ask -gt 0 ] || cc_refuse Restarted || return
  # In a shell of its own: what this run is known by stays.
  cc_kept && (cc_nobody) || cc_refuse Forgotten
}

# cc_kept: each base that can have held it, up to the one that would now, is older than the ask.
cc_kept() {
  for cc_try in "$cc_home_base" "$cc_spare_base"; do
    if cc_ours "$cc_try"; then
      cc_at "$cc_try"
      cc_since && [ "$cc_second" -lt $cc_ask ] && ! cc_listed || return
      cc_usable "$cc_try" && return
    elif [ -w "${cc_try%/*}/" ]; then
      return 1
    fi
  done
  return 1
}

# cc_since: sets cc_second to since when the base is certainly there, if it is noted in this boot.
# A name without a dot, which goes with the runs where somebody removes all that `*` finds; and
# that no run can have.
cc_since() {
  cc_first=
  read -r cc_first cc_second <"$cc_found/@since"
  [ "$cc_first" = "$cc_boot" ]
}

# cc_listed: the run was started there since then, even if it removed all that tells so.
cc_listed() {
  while read -r cc_first; do
    [ "$cc_first" = "$cc_id" ] && return
  done <"$cc_found/@since"
  return 1
}

# cc_mark: notes it, once in each boot; and anew where the list gets long: who asked before that
# is told that nobody knows.
cc_mark() {
  cc_clock
  echo "$cc_boot $((cc_now / 100))" >"$cc_found/@since"
}

# cc_forget: whatever is still known of another run.
cc_forget() {
  cc_tee_o= cc_tee_e= cc_held= cc_missed= cc_lacking= cc_listens= cc_long= cc_printed=
  cc_self= cc_others=' ' cc_twice=' '
}

# cc_hears WORD ...: waits for one of these words about the run. Sets cc_value; fails where nobody
# is left who could say it.
cc_hears() {
  cc_value=
  while read -r cc_whose cc_heard cc_value <&9; do
    [ "$cc_whose" = "$cc_id" ] || continue
    case " $* " in *" $cc_heard "*) return 0 ;; esac
  done
  return 1
}

# cc_takes LINES: reads functions. Keeps those that the hub needs in cc_functions: the script's
# text comes last, and is not among them.
cc_takes() {
  cc_turn=$1 cc_program= cc_functions= cc_lines=0
  while [ "$cc_turn" -gt 0 ]; do
    IFS= read -r cc_line || return
    if [ "$cc_line" = 'cc_text() {' ]; then
      cc_functions=$cc_program cc_lines=$(($1 - cc_turn))
    fi
    cc_program="$cc_program$cc_line
"
    cc_turn=$((cc_turn - 1))
  done
  eval "$cc_program"
}

# cc_converse: the channel stays for what follows, a round trip and a shell cheaper each. Nothing
# is started before all that belongs to it is here.
cc_converse() {
  while read -r cc_word cc_a cc_b cc_c; do
    case $cc_word in
      start)
        cc_takes "$cc_a" || return
        cc_parameters
        cc_start_run </dev/null
        ;;
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
      cc_tick 0.1
    done
  fi
  cc_over && return
  cc_left=0 cc_names= cc_why=lost
  if [ "${cc_sup_boot:-$cc_boot}" = "$cc_boot" ]; then
    cc_guarded && kill -TERM "$cc_watch"
    # Whoever began to end it was killed, or is at it just now and will say the same.
    cc_why_ended
    case $cc_why in cancel | timeout) ;; *) cc_why=lost ;; esac
    cc_hold
    cc_stop
    cc_guarded || cc_end_sleep
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

# cc_both_holes: sets cc_holes to where those of o and of e end.
cc_both_holes() {
  cc_hole o
  cc_holes=$cc_hole
  cc_hole e
  cc_holes=$cc_holes,$cc_hole
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
# hub of that one is not ours (we came back) and process 1 does not reap it, as in many
# containers, tail would wait for ever: then cc_nudge ends it and the console asks again.
cc_tails() {
  cc_unlist
  (cc_tail o "$1") &
  cc_tail=$!
  (cc_tail e "$2") >&4 &
  cc_tail_e=$! cc_nudger=
  if [ "$cc_listens" != "$cc_id" ]; then
    cc_nudge >/dev/null 4>&- &
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

# cc_tail o|e FROM: becomes the tail that reads it.
cc_tail() {
  cc_reads "$1" "$2" self && exec tail -c "+$(($2 + 1))" -f "--pid=$cc_sup" -s 0.02 "$cc_dir/$1"
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

# cc_unlist: what is known of readers that have ended need not be.
cc_unlist() {
  cc_gone=
  for cc_file in "$cc_dir"/f.[oe].*; do
    [ -e "$cc_file" ] && [ ! -e "/proc/${cc_file##*.}/fd/0" ] && cc_gone="$cc_gone ${cc_file##*/}"
  done
  [ -z "$cc_gone" ] || (cd "$cc_dir" && rm -f $cc_gone)
}

# cc_polls FROM_O FROM_E: the same with any tail and cat; an open file remembers its place.
# The beat makes a poller whose reader has gone die of SIGPIPE.
cc_polls() {
  exec 5<"$cc_dir/o" 6<"$cc_dir/e"
  cc_unlist
  # Ended from outside, the waiting shell must go too: it holds the channel.
  cc_reads o "$1" $$ && cc_reads e "$2" $$ || return
  tail -c "+$(($1 + 1))" <&5
  tail -c "+$(($2 + 1))" <&6 >&4
  cc_wait=0 cc_ended= cc_step=0.02
  while [ -z "$cc_ended" ]; do
    cc_alive && ! cc_over || cc_ended=1
    cat <&5
    cat <&6 >&4
    [ -n "$cc_ended" ] && break
    cc_tick $cc_step
    [ $cc_wait = 50 ] && cc_step=0.2
    [ $((cc_wait % 25)) = 0 ] && cc_frame beat
  done
  exec 5<&- 6<&-
}

# cc_rest o|e FROM: nothing more will come. An empty file needs no program to print it, and where
# there is a result, nobody drops bytes any more.
cc_rest() {
  [ -s "$cc_dir/$1" ] || return 0
  if [ -n "$cc_dot" ]; then
    tail -c "+$(($2 + 1))" "$cc_dir/$1"
  else
    (cc_reads "$1" "$2" self && exec tail -c "+$(($2 + 1))" "$cc_dir/$1")
  fi
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

# cc_moment_over: lets a run that is over in a moment be over before anybody looks.
cc_moment_over() {
  [ "$cc_listens" = "$cc_id" ] && [ -z "$cc_long" ] || return
  cc_long=1
  cc_hears slow over
  [ "$cc_heard" = slow ] && cc_over && cc_hears over
  cc_printed=$cc_value
}

# cc_little o|e: sets cc_all to what the file holds, which is little, if it is text. Nothing else
# could be held exactly: then the count differs from the place in the file that we have come to.
cc_little() {
  cc_all= cc_size=0 cc_at=0 cc_line=
  [ -s "$cc_dir/$1" ] || return 0
  {
    while IFS= read -r cc_line; do
      cc_all="$cc_all$cc_line
"
      cc_size=$((cc_size + ${#cc_line} + 1))
    done <&7
    cc_all=$cc_all$cc_line cc_size=$((cc_size + ${#cc_line}))
    read -r cc_key cc_at </proc/self/fdinfo/7
  } 7<"$cc_dir/$1"
  [ $cc_size = "$cc_at" ]
}

# cc_at_once: a run that is over and has printed little needs no program to be read, and one
# message for each stream.
cc_at_once() {
  [ "${cc_printed:-9999}" -le 2000 ] && cc_over && cc_little e || return
  cc_all_e=$cc_all
  cc_little o || return
  printf '\036%s flow\n%s\036%s end\n' "$cc_nonce" "$cc_all_e" "$cc_nonce" >&4
  printf '\036%s flow\n%s\036%s end\n\036%s %s\n' "$cc_nonce" "$cc_all" "$cc_nonce" \
    "$cc_nonce" "result $cc_ending $cc_exit $cc_left $cc_lost${cc_names:+ }$cc_names"
}

cc_follow() {
  cc_find && [ -e "$cc_dir/state" ] || { cc_frame gone; return; }
  cc_written
  cc_moment_over
  [ "$1.$2" = 0.0 ] && cc_at_once && return
  cc_both_holes
  cc_before=$cc_holes
  cc_frame flow
  cc_frame flow >&4
  cc_stream "$1" "$2" "$3"
  cc_whole=$?
  cc_frame "end"
  cc_frame "end" >&4
  if [ $cc_whole != 0 ]; then
    cc_both_holes
    if [ "$cc_holes" = "$cc_before" ]; then cc_frame broken; else cc_frame again; fi
    return
  fi
  cc_over || { cc_lost; cc_over; }
  cc_frame result "${cc_ending:-lost}" "$cc_exit" "$cc_left" "$cc_lost" $cc_names
}

cc_cancel() {
  cc_find || cc_make || cc_no_place || return
  cc_buried && return
  mkdir -m 700 "$cc_found/.done" "$cc_dir"
  if cc_claim 0 0; then
    # Buried since we looked: what we made is not its directory.
    cc_buried && rm -rf "$cc_dir" && return
    true >>"$cc_dir/o"
    true >>"$cc_dir/e"
    # It never starts. Or it did, and its directory was removed: the cookie tells.
    cc_claim_end cancel && cc_stop && cc_finish cancel - "$cc_left" 0 "$cc_names"
  fi
  cc_written
  cc_over || true >"$cc_dir/cancel"
  cc_wait=0
  while ! cc_over && cc_alive && { [ $cc_wait -lt 20 ] || cc_guarded; }; do
    [ -e "$cc_dir/end" ] || { cc_guarded && kill -USR1 "$cc_watch"; }
    # Somebody may have stopped them as well.
    [ $cc_wait = 20 ] && kill -CONT "$cc_sup" "$cc_watch"
    cc_tick 0.05
  done
  cc_over || cc_take_over
  cc_over
  cc_frame cancelled "${cc_left:--}" $cc_names
}

# cc_buried: the run was acknowledged, and there is nothing to end; then that is said.
cc_buried() { [ -e "$cc_done" ] && cc_frame cancelled 0; }

# cc_take_over: no watchdog is left on the instance to end the run, so we do. The supervisor, if
# it lives, writes the result.
cc_take_over() {
  cc_claim_end cancel
  cc_alive || cc_hold
  cc_stop
  cc_guarded || cc_end_sleep
  cc_keep=$cc_left cc_keep_names=$cc_names cc_wait=0
  while ! cc_over && cc_alive && [ $cc_wait -lt 200 ]; do
    cc_tick 0.05
  done
  cc_over && return
  cc_left=$cc_keep cc_names=$cc_keep_names
  cc_conclude cancel -
}

cc_acknowledge() {
  cc_find || cc_make || cc_no_place || return
  [ -d "$cc_found/.done" ] || mkdir "$cc_found/.done"
  cc_bury || cc_refuse DiskFull || return
  cc_listens=
  cd /
  [ "$1" = sweep ] && cc_sweep
  cc_frame acknowledged
}

# cc_bury: the run leaves its tombstone, first, and nothing else.
cc_bury() {
  # On a full disk a name can still be moved.
  true >"$cc_done" || mv "$cc_dir/state" "$cc_done" || return
  # Somebody may be preparing or ending the same run there, and make one file after the other:
  # then it is found not empty.
  for cc_try in 1 2 3 4 5 6 7 8; do
    rm -rf "$cc_dir" && break
  done
  return 0
}

# cc_sweep: drops old tombstones, and leaves one of each run that was over as long ago and that
# nobody acknowledged, as it was lost: its directory holds the script. Names are made there until
# it is over, and not later.
cc_sweep() {
  [ -z "$(find "$cc_found/@since" -size +256)" ] || cc_mark
  find "$cc_found/.done" -type f -mtime +60 -exec rm -f {} +
  # No more than the console has the patience for.
  find "$cc_found" -name .done -prune -o -type d -mtime +60 -print | head -n 100 |
    while IFS= read -r cc_file; do
      cc_id=${cc_file##*/}
      cc_at "$cc_found"
      [ "$cc_dir" = "$cc_file" ] && cc_settled && cc_bury
    done
}

# cc_settled: the run is over, or nobody is left who could go on with it, or ever start it.
cc_settled() {
  if [ ! -e "$cc_dir/state" ]; then
    set -- "$cc_dir"/s.*
    [ -e "$1" ] && cc_claim 0 0
    return
  fi
  cc_over && return
  cc_alive || cc_guarded && return 1
  [ "${cc_sup_boot:-$cc_boot}" = "$cc_boot" ] || return 0
  cc_forget
  cc_left=0
  cc_nobody && [ $cc_left = 0 ]
}

cc_main() {
  cc_parameters
  cc_frame hello
  exec 3<&0 4>&2 6>&1 2>/dev/null </dev/null
  unset CDPATH IFS
  set +e +f
  cc_boot= cc_lines=0 cc_functions=
  read -r cc_boot </proc/sys/kernel/random/boot_id
  cc_bases
  cd .
  cc_origin=$PWD
  cc_forget
  case $1 in
    start | converse) : | cc_hub "$1" | : ;;
    cancel) cc_cancel ;;
  esac
  exit 0
}

# cc_hub HOW: forks the conversation, then a supervisor whenever that one asks. It has nothing of
# the channel, so that this is over with the conversation.
cc_hub() {
  # Both ends of each, before anybody else is there: a pipe without a writer is at its end.
  exec 7<&0 5>/proc/self/fd/0 9</proc/self/fd/1
  cc_stat self
  cc_hub=$cc_of
  cc_conversation "$1" <&3 3>&5 5>&- >&6 6>&- 7<&- &
  exec 3<&- 4>&- 5>&- 6>&- </dev/null >/dev/null
  while read -r cc_a cc_b <&7; do
    cc_forget
    cc_takes "$cc_a" <&7 || return
    cc_parameters
    cc_at "$cc_b"
    cc_own=$cc_dir/$cc_file
    cc_enter
    cc_clock
    cc_begun=$cc_now
    {
      : | cc_supervisor | :
      cc_tell over
    } 8>/proc/self/fd/9
    cd /
  done
  wait
}

# cc_conversation HOW: on the channel. Where its run goes on, the hub need not wait for that.
cc_conversation() {
  # Here a character is a byte.
  LC_ALL=C
  [ "$1" = start ] && cc_start_run </dev/null
  cc_converse
  [ -z "$cc_listens" ] || cc_over || kill -KILL "$cc_hub"
}
