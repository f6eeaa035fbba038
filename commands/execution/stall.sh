# Does a process of a run wait for input on a terminal? Another small program that only reads.
# It finds the processes by the cookie in their environment, and what descends from those: sudo
# clears the environment. Which of them is in the midst of reading from a terminal, the kernel
# says: the place where it sleeps, and the one in which a foreground process asks for a line.
cc_frame() { printf '\036%s %s\n' "$cc_nonce" "$*"; }

# cc_stat PID: sets cc_name, cc_state, cc_parent, cc_group, cc_tty, cc_front without a fork.
cc_stat() {
  cc_line=
  read -r cc_line <"/proc/$1/stat" || [ -n "$cc_line" ] || return 1
  cc_name=${cc_line#*"("}
  cc_name=${cc_name%")"*}
  set -- ${cc_line##*") "}
  cc_state=$1 cc_parent=$2 cc_group=$3 cc_tty=$5 cc_front=$6
}

# cc_members: sets cc_list to the living processes of the run.
cc_members() {
  cc_list=' ' cc_tree=
  for cc_file in $(grep -lszxF -e "COMMAND_CONSOLE_RUN=$cc_id" /proc/[0-9]*/environ); do
    cc_file=${cc_file#/proc/}
    cc_list="$cc_list${cc_file%/environ} "
  done
  for cc_proc in /proc/[0-9]*; do
    cc_stat "${cc_proc#/proc/}" && cc_tree="$cc_tree ${cc_proc#/proc/}:$cc_parent"
  done
  cc_grown=1
  while [ -n "$cc_grown" ]; do
    cc_grown=
    for cc_pair in $cc_tree; do
      case $cc_list in *" ${cc_pair%:*} "*) continue ;; esac
      case $cc_list in *" ${cc_pair#*:} "*) cc_list="$cc_list${cc_pair%:*} " cc_grown=1 ;; esac
    done
  done
}

# cc_reads PID: it sleeps in the foreground of its terminal, in reading it. Where a socket is waited
# for in the same place of the kernel, who has one open is not taken for a reader; where several
# things may be, the call has to tell that it is for a single one. In doubt nobody reads.
cc_reads() {
  cc_stat "$1" && [ "$cc_state" = S ] && [ "$cc_tty" != 0 ] || return 1
  [ "$cc_group" = "$cc_front" ] || return 1
  cc_where=
  read -r cc_where <"/proc/$1/wchan" || [ -n "$cc_where" ] || return 1
  case $cc_where in
    n_tty_read | tty_read) return 0 ;;
    wait_woken) cc_terminal_alone "$1" ;;
    do_poll* | do_sys_poll* | do_select* | core_sys_select* | poll_schedule_timeout*)
      cc_asks_one "$1" && cc_terminal_alone "$1"
      ;;
    *) return 1 ;;
  esac
}

# cc_asks_one PID: poll of one descriptor, or select of the first alone: as shells do that read.
cc_asks_one() {
  cc_call= cc_a= cc_b=
  read -r cc_call cc_a cc_b cc_rest <"/proc/$1/syscall" || [ -n "$cc_call" ] || return 1
  [ "$cc_a" = 0x1 ] && [ "$cc_b" != 0x0 ] && return
  [ "$cc_a" != 0x0 ] && [ "$cc_b" = 0x1 ]
}

# cc_terminal_alone PID: it has a terminal open, and nothing else that somebody may write to.
cc_terminal_alone() {
  cc_terminal=
  for cc_fd in "/proc/$1/fd"/*; do
    case $(readlink "$cc_fd") in
      socket:* | pipe:* | anon_inode:*) return 1 ;;
      /dev/pts/* | /dev/tty* | /dev/console) cc_terminal=1 ;;
    esac
  done
  [ -n "$cc_terminal" ]
}

cc_stall() {
  cc_frame hello
  exec 2>/dev/null </dev/null
  set +e +f
  unset IFS
  cc_members
  for cc_p in $cc_list; do
    cc_reads "$cc_p" || continue
    cc_frame stall "$cc_p" "$cc_name"
    exit 0
  done
  cc_frame stall -
  exit 0
}
