"""What is said of instances that could not be reached, or refused: stored, and told to people.

They stand here together, so that whoever reads one later can be told it in another language
(``commands.words``), also where nothing of the engine runs.
"""

from __future__ import annotations

import re
from typing import Final

from commands.words import gettext_noop, kept

_PLACEHOLDER = re.compile(r"%\((\w+)\)s")

NO_PINNED_KEY: Final = gettext_noop(
    "No host key is recorded for this instance. Fetch and confirm it first."
)
KEY_UNUSABLE: Final = kept(
    "The private key cannot be used: %(what)s. Store another key or passphrase."
)
NO_PASSPHRASE: Final = gettext_noop("it has no passphrase")
NEEDS_PASSPHRASE: Final = gettext_noop("it needs a passphrase")
NO_KEY: Final = gettext_noop("it is not a private key that the console can read")
WRONG_PASSPHRASE: Final = gettext_noop("the passphrase does not open it")
REFUSED: Final = kept(
    "%(where)s refused the connection. Is sshd running there, and the port right?"
)
SILENT: Final = kept("%(where)s did not answer in %(seconds)s s. Check address and firewall.")
OUT_OF_REACH: Final = kept("%(where)s cannot be reached: %(why)s. Check address and network.")
KEY_CHANGED: Final = kept(
    "The host key of %(host)s is not the recorded one. If the server was rebuilt, confirm its new "
    "key; if not, somebody may be in between."
)
UNSUPPORTED_KEY: Final = kept(
    "Host keys of type %(kind)s are not supported. Record a key of another type."
)
NO_HANDSHAKE: Final = kept(
    "%(where)s accepted the connection and did not finish an SSH handshake in %(seconds)s s. Is "
    "it an SSH server, and is it overloaded?"
)
NO_ANSWER_TO_SIGN_IN: Final = kept(
    "%(host)s did not answer the sign-in of %(user)s in %(seconds)s s. Is it overloaded, or what "
    "it asks about users?"
)
NOT_LET_IN: Final = kept("%(host)s did not let %(user)s sign in. %(what)s")
CHECK_PASSWORD: Final = gettext_noop(
    "Check user name and password, and whether sshd allows passwords."
)
CHECK_KEY: Final = kept("Is %(kind)s %(fingerprint)s in that user's authorized_keys?")
DROPPED: Final = kept(
    "%(where)s closed the connection before anybody could sign in (%(why)s). Too many may be "
    "signing in at once: raise MaxStartups in its sshd_config. Or it is no SSH server, or lets "
    "only some addresses in."
)
BROKEN_HANDSHAKE: Final = kept(
    "%(where)s did not complete an SSH handshake: %(why)s. Is it an SSH server, and is it "
    "overloaded?"
)
NO_SSH_SERVER: Final = kept(
    "What answers at %(host)s, port %(port)s, is no usable SSH server (%(why)s)."
)
NO_ANSWER: Final = kept(
    "%(host)s does not answer on port %(port)s (%(why)s). Check the address, and that its SSH "
    "server runs."
)
JUMP_HOST: Final = kept("The jump host cannot be used. %(what)s")
NO_CHAIN: Final = gettext_noop(
    "It has a jump host itself, and only one is passed through. Choose another way."
)
NO_ROOM: Final = gettext_noop("It forwards no further connections now. Wait, or raise its limits.")
HUNG: Final = gettext_noop("It has stopped answering. Is it overloaded?")
NO_SESSION: Final = gettext_noop(
    "The instance accepts no further sessions. Raise MaxSessions in its sshd_config, or run fewer "
    "commands on it at a time."
)
HUNG_INSTANCE: Final = gettext_noop(
    "The instance let the console sign in, and then did not answer. Is it overloaded?"
)
SAID: Final = kept("%(what)s It said: %(said)s")
NO_SHELL: Final = gettext_noop("The instance gave no usable shell.")
BROKE: Final = kept("The connection to the instance broke (%(why)s). What runs there goes on.")

NO_DIRECTORY: Final = kept(
    "The execution path %(workdir)s does not exist there, or may not be entered."
)
NO_INTERPRETER: Final = kept("The script asks for %(interpreter)s, which is not installed there.")
NO_LAUNCHER: Final = kept(
    "The launcher starts %(launcher)s, which is not installed there or may not be executed. "
    "Install it in a directory of PATH there, or name it by its full path."
)
NO_STATE_DIRECTORY: Final = gettext_noop(
    "Neither ~/.command-console nor /var/tmp/.command-console-<uid> can be used there. Check "
    "owner, permissions, free space, and that the name of the home directory is plain ASCII of at "
    "most 230 characters."
)
DISK_FULL: Final = gettext_noop(
    "There is no room for the script in ~/.command-console or /var/tmp there: the disk, its "
    "inodes or a quota are used up. Make room and run it again."
)
NO_PROGRAM: Final = kept(
    "The program %(program)s (coreutils, util-linux or busybox) is not installed there."
)
RESTARTED: Final = gettext_noop(
    "The instance was restarted just after it was asked to run the script and before it answered, "
    "and knows nothing of it. Look there for its effects before running it again."
)
FORGOTTEN: Final = gettext_noop(
    "The instance was asked to run the script and gave no answer. It knows nothing of it now, but "
    "~/.command-console there is gone, or no older than that, so that the script may have run. "
    "Look there for its effects before running it again."
)
NO_ACCOUNT: Final = kept(
    "There is no user %(run_as)s on the instance. Make one there, or choose another user."
)
NOT_LET_THROUGH: Final = kept(
    "%(user)s may not run commands as %(run_as)s without a password there. Add the line "
    '"%(user)s ALL=(%(run_as)s) NOPASSWD: /bin/sh" there with visudo.'
)
NO_SUDO: Final = kept(
    "sudo is not installed there, so that %(user)s cannot run commands as %(run_as)s. Install it "
    'and add the line "%(user)s ALL=(%(run_as)s) NOPASSWD: /bin/sh" there with visudo.'
)
GONE: Final = gettext_noop(
    "The directory of the run is gone from the instance, and with it how the run ended. Look "
    "there for its effects before running it again."
)
DAMAGED: Final = gettext_noop(
    "The result of the run is damaged on the instance; exit code unknown."
)
REBOOTED: Final = gettext_noop(
    "The instance was restarted during the run; how far the script came is unknown."
)


def filled(template: str, **values: object) -> str:
    """``template`` with ``values`` in its places; any other per cent sign stays."""
    return _PLACEHOLDER.sub(lambda place: str(values[place[1]]), template)
