"""What may be the cause if an instance can't be reached, in the order in which to look."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from django.utils.translation import gettext as _

from commands.models import Instance
from commands.models.instance import ConnectionState


@dataclass(frozen=True, slots=True)
class Cause:
    """A possible cause: what it is, what to do, and a command that tells whether it is the one.

    ``likely`` if the last check points to it; ``where`` says on which machine to run the command.
    """

    title: str
    text: str
    command: str
    where: str
    likely: bool = False


def causes(instance: Instance, through: Instance | None) -> list[Cause]:
    """All of them, the ones that the last check points to marked.

    ``through`` is the instance's jump host, if the reader may know which that is.
    """
    state = instance.connection
    unreachable = state == ConnectionState.UNREACHABLE
    host, port = shlex.quote(instance.host), instance.port
    near = _near(instance, through)
    return [
        Cause(
            _("The instance is down"),
            _("It was stopped or is restarting, or its address has changed."),
            f"ping -c 3 {host}",
            near,
            unreachable,
        ),
        Cause(
            _("The network is blocked"),
            _("A firewall or a security group lets nobody through to the SSH port."),
            f"nc -vz -w 5 {host} {port}",
            near,
            unreachable,
        ),
        Cause(
            _("The SSH server is stopped"),
            _("Start it from the instance's own console, and let it start at boot."),
            _ssh_status(instance),
            _("on the instance"),
            unreachable,
        ),
        Cause(
            _("The sign-in is refused"),
            _("The user, the key in its authorized_keys, or the password is another one."),
            _ssh(instance, through),
            _("on your machine"),
            state == ConnectionState.SIGN_IN_REFUSED,
        ),
        Cause(
            _("The host key changed"),
            _("It was rebuilt, or somebody is in between. Compare the keys before you accept."),
            f"ssh-keyscan -p {port} {host} | ssh-keygen -lf -",
            near,
            state == ConnectionState.HOST_KEY_CHANGED,
        ),
    ]


def _near(instance: Instance, through: Instance | None) -> str:
    if instance.jump_host_id is None:
        return _("on the console's machine")
    if through is None:
        return _("on the jump host")
    return _("on the jump host %(name)s") % {"name": through.name}


def _ssh_status(instance: Instance) -> str:
    if instance.os_type == Instance.Os.WINDOWS:
        return "Get-Service sshd"
    return f"systemctl status ssh sshd; ss -ltn 'sport = :{instance.port}'"


def _ssh(instance: Instance, through: Instance | None) -> str:
    words = ["ssh", "-v", "-p", str(instance.port)]
    if instance.jump_host_id is not None:
        words += ["-J", f"{through.user}@{through.address}" if through else "JUMP-HOST"]
    return shlex.join([*words, f"{instance.user}@{instance.host}", "true"])
