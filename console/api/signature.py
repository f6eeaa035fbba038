"""Signatures of requests: what a program signed, read again from what arrived.

Two kinds, as Alibaba Cloud's SDKs make them: the older one over all parameters (HMAC-SHA1), and
``ACS3-HMAC-SHA256`` over query, headers and the digest of the body. Nothing here knows a secret
before ``matches``, and no sentence repeats one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote

from commands.rules import limits
from console.api.errors import ApiError, missing

ACS3: Final = "ACS3-HMAC-SHA256"
SIGNED_HEADERS: Final = frozenset(
    {
        "host",
        "x-acs-action",
        "x-acs-content-sha256",
        "x-acs-date",
        "x-acs-signature-nonce",
        "x-acs-version",
    }
)
"""Headers that must be signed: without one of them, another request could be made of this."""
NONCE_CHARS: Final = 128
"""Most characters of a nonce."""
_AUTHORIZATION = re.compile(
    rf"{ACS3} +Credential=([^,\s]+), *SignedHeaders=([^,\s]+), *Signature=([0-9a-fA-F]+)"
)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_SKEW = timedelta(seconds=limits.API_SKEW_SECONDS)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a request says of its signature, and how to make the text that must have been signed.

    ``text`` may take its time, and is asked for only when there is a secret. ``outline`` says in a
    sentence what that text is made of, without the values of parameters, which may be secrets.
    """

    key: str
    nonce: str
    at: datetime
    signature: str
    version: str
    action: str
    text: Callable[[], str] = field(repr=False)
    outline: Callable[[], str] = field(repr=False)

    def __post_init__(self) -> None:
        """Raise ApiError for a nonce that could be written in two ways."""
        plain = self.nonce.isascii() and self.nonce.isprintable()
        if not plain or not 1 <= len(self.nonce) <= NONCE_CHARS:
            raise ApiError(
                "InvalidParameter",
                f"The nonce has 1 to {NONCE_CHARS} printable characters of ASCII.",
            )

    def matches(self, secret: str) -> bool:
        """Whether it was signed with ``secret``."""
        text = self.text()
        if text.startswith(ACS3):
            made = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        else:
            digest = hmac.new(f"{secret}&".encode(), text.encode(), hashlib.sha1).digest()
            made = base64.b64encode(digest).decode()
        return hmac.compare_digest(made.encode(), self.signature.encode())

    def require_fresh(self, now: datetime) -> None:
        """Raise ApiError if its time is not about ``now``."""
        if abs(now - self.at) > _SKEW:
            raise ApiError(
                "InvalidTimeStamp.Expired",
                f"The request was signed for {self.at:{_TIME}}, and here it is {now:{_TIME}}: more "
                f"than {limits.API_SKEW_SECONDS // 60} minutes apart. Set the clock right.",
            )


def of_parameters(method: str, parameters: Mapping[str, str]) -> Signed:
    """The older signature (HMAC-SHA1), which is one of the parameters. Raises ApiError."""
    names = ("AccessKeyId", "Signature", "SignatureNonce", "Timestamp", "Action", "Version")
    for name in names:
        if not parameters.get(name):
            raise missing(name)
    if parameters.get("SignatureMethod", "HMAC-SHA1") != "HMAC-SHA1":
        raise ApiError("InvalidParameter", "The only SignatureMethod is HMAC-SHA1.")
    if parameters.get("SignatureVersion", "1.0") != "1.0":
        raise ApiError("InvalidParameter", "The only SignatureVersion is 1.0.")
    signed = {name: value for name, value in parameters.items() if name != "Signature"}
    key, signature, nonce, at, action, version = (parameters[name] for name in names)
    return Signed(
        key,
        nonce,
        _time(at),
        signature,
        version,
        action,
        text=lambda: f"{method}&%2F&{encoded(_joined(signed))}",
        outline=lambda: (
            f"What arrived: {method} / with the parameters {', '.join(sorted(signed))}."
        ),
    )


def of_headers(
    method: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> Signed:
    """The newer signature (ACS3-HMAC-SHA256), which is a header. Raises ApiError.

    ``headers`` by their names in lower case, as they are signed: without white space around them.
    """
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise ApiError(
            "IncompleteSignature",
            f"Authorization must be {ACS3} Credential=…,SignedHeaders=…,Signature=…",
        )
    key, listed, signature = found.groups()
    names = listed.split(";")
    # Whether a body counts is a matter of its type.
    needed = SIGNED_HEADERS | {"content-type"} if body else SIGNED_HEADERS
    if unsigned := sorted(needed - {*names}):
        raise ApiError("IncompleteSignature", f"These headers must be signed: {unsigned}.")
    for name in names:
        if name not in headers:
            raise missing(name)
    digest = hashlib.sha256(body).hexdigest()
    if not hmac.compare_digest(digest, headers["x-acs-content-sha256"].lower()):
        raise ApiError("SignatureDoesNotMatch", "x-acs-content-sha256 is not that of the body.")

    def text() -> str:
        lines = (f"{name}:{headers[name]}\n" for name in names)
        canonical = "\n".join((method, "/", _joined(query), "".join(lines), listed, digest))
        return f"{ACS3}\n{hashlib.sha256(canonical.encode()).hexdigest()}"

    at, nonce = _time(headers["x-acs-date"]), headers["x-acs-signature-nonce"]
    version, action = headers["x-acs-version"], headers["x-acs-action"]
    return Signed(
        key,
        nonce,
        at,
        signature.lower(),
        version,
        action,
        text=text,
        # A digest: it tells nothing but whether it is the same one.
        outline=lambda: f"server string to sign is:{text()}",
    )


def encoded(text: str) -> str:
    """``text`` as both kinds encode it (RFC 3986)."""
    return quote(text, safe="~")


def _joined(parameters: Mapping[str, str]) -> str:
    return "&".join(
        f"{encoded(name)}={encoded(value)}" for name, value in sorted(parameters.items())
    )


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise ApiError(
            "IllegalTimestamp", "The time of a request is in UTC, such as 2026-01-31T23:59:59Z."
        ) from None
