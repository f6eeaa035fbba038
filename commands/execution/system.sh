# What an instance is called by its makers: the program of a probe. It only reads.
cc_frame() { printf '\036%s %s\n' "$cc_nonce" "$*"; }
cc_system() {
  cc_frame hello
  exec 2>/dev/null </dev/null
  cc_name=
  while read -r cc_line || [ -n "$cc_line" ]; do
    case $cc_line in PRETTY_NAME=*) cc_name=${cc_line#*=} ;; esac
  done </etc/os-release
  [ -n "$cc_name" ] || cc_name=$(uname -sr)
  cc_frame system "$cc_name"
  exit 0
}
