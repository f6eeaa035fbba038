# How a conversation begins as another user: `/bin/sh -c 'THIS' sh USER`. It stands in a command
# line that the sign-in user's shell reads, whichever that is (fish, tcsh): it is sent as one
# line, so every line ends as if it did, and it holds no single quote, backslash or exclamation
# mark. No secret and nothing of the run is in it; the program comes on standard input.
#
# 113 no such user, 114 it was not let through, 115 no sudo. They count only where the program
# has not said a word. The shell stays, so that these codes cannot be confused with others.
cd /;
wanted=$(id -u "$1" 2>/dev/null) || exit 113;
case $(id -u) in
"$wanted") exec /bin/sh -s;;
0)
unset MAIL XDG_RUNTIME_DIR XDG_SESSION_ID DBUS_SESSION_BUS_ADDRESS;
if command -v runuser >/dev/null;
then runuser -u "$1" -- /bin/sh -s;
else su -s /bin/sh -c "exec /bin/sh -s" "$1";
fi;;
*)
command -v sudo >/dev/null || exit 115;
sudo -n -H -u "$1" -- /bin/sh -s;;
esac;
exit 114
