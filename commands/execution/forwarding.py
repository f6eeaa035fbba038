"""Reaching an instance through a jump host: a forwarded channel in place of a socket.

The jump host only passes bytes on. What is signed in to through it is the instance, whose own
pinned key is compared; so the jump host can cut a connection, but neither read nor be it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, cast

import paramiko

from commands.errors import ConnectFailed
from commands.execution import sentences
from commands.execution.dialing import Disconnected, Link
from commands.execution.executor import Endpoint
from commands.rules.status import ErrorCode
from commands.words import IT

# Reasons for refusing a channel, RFC 4254 section 5.1.
_CONNECT_FAILED, _SHORTAGE = 2, 4


class Refused(Exception):
    """The other side refused a channel: ``reason`` is SSH's number, ``said`` its own words."""

    def __init__(self, reason: int, said: str) -> None:
        super().__init__(said)
        self.reason = reason
        self.said = said

    @property
    def for_now(self) -> bool:
        """Whether it lacks room for one more, and another connection may have some."""
        return self.reason == _SHORTAGE


class Transport(paramiko.Transport):
    """Paramiko's. That keeps one failure for all channels, and drops what the peer said.

    Here each channel that was refused has its own reason, however many are opened at a time.
    """

    def __init__(self, link: Link) -> None:
        self._opening = threading.local()
        # By number, of those that are being forwarded; None while there is no answer.
        self._refusals: dict[int, Refused | None] = {}
        super().__init__(cast("Any", link))

    def forward(self, host: str, port: int, timeout: float) -> paramiko.Channel:
        """A channel that the other side connects to ``host``. Raises Refused, among others."""
        origin = ("127.0.0.1", 0)
        self._opening.forwards, self._opening.number = True, -1
        try:
            return self.open_channel("direct-tcpip", (host, port), origin, timeout=timeout)
        except Exception:
            refused = self._refusals.get(self._opening.number)
            if refused is not None:
                raise refused from None
            raise
        finally:
            self._opening.forwards = False
            self._refusals.pop(self._opening.number, None)

    def _next_channel(self) -> int:
        # Called by `open_channel`, in its thread: nothing else tells the number of a failed one.
        number: int = super()._next_channel()  # type: ignore[misc]  # not in stubs
        if getattr(self._opening, "forwards", False):
            self._opening.number = number
            self._refusals[number] = None
        return number

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        self.saved_exception = Disconnected(message.get_int(), message.get_text())
        message.rewind()
        super()._parse_disconnect(message)  # type: ignore[misc]  # not in stubs

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        number, reason = message.get_int(), message.get_int()
        if number in self._refusals:
            self._refusals[number] = Refused(reason, message.get_text())
        message.rewind()
        super()._parse_channel_open_failure(message)  # type: ignore[misc]  # not in stubs


class Tunnel:
    """A forwarded channel that behaves like a socket. ``let_go`` closes it, without waiting."""

    def __init__(self, channel: paramiko.Channel, let_go: Callable[[], None]) -> None:
        self._channel = channel
        self._let_go = let_go
        self._closed = False  # paramiko reads it, too

    def settimeout(self, value: float | None, /) -> None:
        """See ``Link``."""
        self._channel.settimeout(value)

    def send(self, data: bytes, /) -> int:
        """See ``Link``."""
        return self._channel.send(data)

    def recv(self, size: int, /) -> bytes:
        """See ``Link``."""
        return self._channel.recv(size)

    def shutdown(self, _how: int, /) -> None:
        """See ``Link``. A channel's own shutdown would wait for the jump host."""
        self.close()

    def close(self) -> None:
        """See ``Link``."""
        if not self._closed:
            self._closed = True
            self._let_go()


def of_jump_host(jump: Endpoint, failure: ConnectFailed) -> ConnectFailed:
    """The same failure, said of the jump host, but not which host that is.

    Whoever borrows an instance reads this, and its jump host may be none of theirs.
    """
    within, first = IT
    said = failure.message.replace(f"{jump.host} port {jump.port}", jump.host)
    said = re.sub(f"^{re.escape(jump.host)}", first, said).replace(jump.host, within)
    text = sentences.JUMP_HOST % {"what": said}
    return ConnectFailed(text, code=failure.code)


def no_chain(jump: Endpoint) -> ConnectFailed:
    """A jump host has a jump host."""
    return of_jump_host(jump, ConnectFailed(sentences.NO_CHAIN, code=ErrorCode.JUMP_HOST_REFUSED))


def no_room(jump: Endpoint) -> ConnectFailed:
    """A jump host has no place for one more channel on any connection."""
    return of_jump_host(jump, ConnectFailed(sentences.NO_ROOM, code=ErrorCode.JUMP_HOST_BUSY))


def hung(jump: Endpoint) -> ConnectFailed:
    """A jump host let the console sign in, and does not answer any more."""
    return of_jump_host(jump, ConnectFailed(sentences.HUNG, code=ErrorCode.CONNECTION_TIMEOUT))


def unanswered(host: str, port: int, seconds: float) -> ConnectFailed:
    """The jump host is well, and hears nothing from the instance."""
    text = (
        f"{host} port {port} did not answer the jump host in {seconds:g} s. "
        "Check address and firewall."
    )
    return ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT)


def not_forwarded(host: str, port: int, refused: Refused) -> ConnectFailed:
    """The jump host refused to forward, or tried and failed."""
    where = f"{host} port {port}"
    if refused.reason != _CONNECT_FAILED:
        text = (
            f"The jump host refused to forward a connection to {where} "
            f"({refused.said or 'no reason given'}). Look at AllowTcpForwarding, PermitOpen and "
            "DisableForwarding in its sshd_config, and at that user's authorized_keys."
        )
        return ConnectFailed(text, code=ErrorCode.JUMP_HOST_REFUSED)
    said = refused.said.lower()
    if "refused" in said:
        text = (
            f"{where} refused the connection of the jump host. Is sshd running "
            "there, and the port right?"
        )
        return ConnectFailed(text, code=ErrorCode.CONNECTION_REFUSED)
    if "timed out" in said:
        text = f"{where} did not answer the jump host (timed out). Check address and firewall."
        return ConnectFailed(text, code=ErrorCode.CONNECTION_TIMEOUT)
    text = (
        f"{where} cannot be reached from the jump host: "
        f"{refused.said or 'no reason given'}. Check address and network."
    )
    return ConnectFailed(text, code=ErrorCode.INSTANCE_UNREACHABLE)
