"""Rules about an instance's name, where it is, and who signs in there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from commands.errors import Invalid
from commands.rules import limits, reachable
from commands.words import gettext as _

_NAME = re.compile(r"[\w .:@-]+")
_HOST = re.compile(r"[\w.:%-]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_HOST_CHARS = 253
_USER_CHARS = 64


def check_name(text: str) -> str:
    """The name without white space around it. Raises Invalid."""
    name = text.strip()
    if not name:
        raise Invalid(_("Enter a name for the instance."), field="name")
    if len(name) > limits.INSTANCE_NAME_CHARS:
        raise Invalid(
            _("An instance's name has %(most)s characters or fewer.")
            % {"most": limits.INSTANCE_NAME_CHARS},
            field="name",
        )
    if not _NAME.fullmatch(name):
        # Scripts may contain it, so it must not be able to become code there.
        raise Invalid(
            _("An instance's name has letters, digits, spaces and . _ - : @ only."), field="name"
        )
    return name


def check_host(text: str, allowed: Sequence[str]) -> str:
    """The host without white space or brackets around it. Raises Invalid.

    ``allowed`` are networks that may be targets though they are refused otherwise.
    """
    host = text.strip().removeprefix("[").removesuffix("]")
    if not host:
        raise Invalid(_("Enter the host's name or IP address."), field="host")
    if len(host) > _HOST_CHARS:
        sentence = _("A host has %(most)s characters or fewer.")
        raise Invalid(sentence % {"most": _HOST_CHARS}, field="host")
    # A leading hyphen would be an option to the commands that pages propose.
    if not _HOST.fullmatch(host) or host.startswith("-"):
        raise Invalid(
            _("A host is a name such as web-01.example or an IP address, without a port."),
            field="host",
        )
    if reason := reachable.refusal(host, allowed):
        raise Invalid(reason, field="host")
    return host


def check_port(text: str | int) -> int:
    """The port as a number. Raises Invalid."""
    digits = str(text).strip()
    if not re.fullmatch("[0-9]{1,9}", digits) or not 1 <= int(digits) <= 65_535:
        raise Invalid(_("Port must be between 1 and 65,535."), field="port")
    return int(digits)


def check_user(text: str) -> str:
    """The user to sign in as, without white space around it. Raises Invalid."""
    user = text.strip()
    if not user:
        raise Invalid(_("Enter the user to sign in as."), field="user")
    if len(user) > _USER_CHARS or _CONTROLS.search(user) or user.startswith("-"):
        sentence = _("A user's name has %(most)s characters or fewer, on one line.")
        raise Invalid(sentence % {"most": _USER_CHARS}, field="user")
    return user


def check_credential_name(text: str) -> str:
    """A credential's name without white space around it. Raises Invalid."""
    name = text.strip()
    if not name:
        raise Invalid(_("Enter a name for the credential."), field="credential_name")
    if len(name) > limits.CREDENTIAL_NAME_CHARS or _CONTROLS.search(name):
        raise Invalid(
            _("A credential's name has %(most)s characters or fewer, on one line.")
            % {"most": limits.CREDENTIAL_NAME_CHARS},
            field="credential_name",
        )
    return name


def check_reason(text: str) -> str:
    """Why somebody does something, on one line. Raises Invalid."""
    reason = " ".join(_CONTROLS.sub(" ", text).split())
    if not reason:
        raise Invalid(
            _("Say why the new key is right: it is kept with the change."), field="reason"
        )
    if len(reason) > limits.REASON_CHARS:
        sentence = _("Use %(most)s characters or fewer.")
        raise Invalid(sentence % {"most": limits.REASON_CHARS}, field="reason")
    return reason


def proposed_name(host: str) -> str:
    """A name for the instance at ``host``: the first part of its name, or the address."""
    text = host.strip().strip("[]").partition("%")[0]
    if not re.search("[A-Za-z]", text) or ":" in text:
        return text
    return text.partition(".")[0][: limits.INSTANCE_NAME_CHARS]
