"""Webhooks: which URLs and addresses they may have, and how what they get is signed.

A webhook makes the console's own machine connect somewhere. So it is not led to link-local
addresses and metadata services (``rules.reachable``), nor to that machine itself: not by what is
its own everywhere, and not by any other address that it has, which shows when it is connected to.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from commands.errors import Invalid
from commands.rules import limits, reachable
from commands.words import gettext as _


@dataclass(frozen=True, slots=True)
class Address:
    """Where a webhook is. ``path`` has the query with it."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The host as a Host header names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def read(url: str, *, allow_http: bool = False, allowed: Iterable[str] = ()) -> Address:
    """The parts of a webhook's URL. Raises Invalid with a sentence."""
    try:
        return _read(url, allow_http=allow_http, allowed=allowed)
    except ValueError as error:
        raise Invalid(str(error), field="target") from None


def _form() -> ValueError:
    return ValueError(_("Enter an address such as https://chat.example/hooks/abc."))


def _read(url: str, *, allow_http: bool, allowed: Iterable[str]) -> Address:
    if len(url) > limits.WEBHOOK_CHARS:
        text = _("An address has at most %(most)s characters.")
        raise ValueError(text % {"most": f"{limits.WEBHOOK_CHARS:,}"})
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _form()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _form() from None
    if parts.scheme == "http" and not allow_http:
        raise ValueError(
            _(
                "Webhooks are sent over https:// only. An admin can allow http:// with the "
                "setting CONSOLE_WEBHOOK_HTTP."
            )
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _form()
    if parts.username is not None or parts.password is not None:
        raise ValueError(_("An address can't hold a user name or a password."))
    if why := refusal(parts.hostname, allowed):
        raise ValueError(why)
    secure = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(secure, parts.hostname, port or (443 if secure else 80), path)


def refusal(address: str, allowed: Iterable[str] = ()) -> str:
    """Why no webhook may be at ``address``, as a sentence; "" if it may, or is a name."""
    networks = tuple(allowed)
    if reachable.refusal(address, networks):
        return _refused(address)
    found = reachable.read(address)
    if found is None:
        return _refused(address) if address.rstrip(".").lower() == "localhost" else ""
    own = found.is_loopback or found.is_unspecified or found.is_multicast or found.is_reserved
    return own_refusal(address, networks) if own else ""


def own_refusal(address: str, allowed: Iterable[str] = ()) -> str:
    """Why no webhook may be at an address of the console's own machine; "" if that is allowed."""
    found = reachable.read(address)
    if found and any(found in ipaddress.ip_network(network) for network in allowed):
        return ""
    return _refused(address)


def _refused(address: str) -> str:
    text = _(
        "%(address)s leads to the console's own machine or its cloud. If it is meant all the "
        "same, an admin can allow it with the setting CONSOLE_ALLOWED_NETWORKS."
    )
    return text % {"address": address}


def signature(secret: str, at: int, body: bytes) -> str:
    """The value of ``X-Console-Signature`` for ``body`` sent ``at`` seconds since 1970."""
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"
