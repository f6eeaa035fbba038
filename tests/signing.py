"""Signed requests as SDKs make them, written once more for tests, without the console's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import uuid
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from django.test import Client

from commands.models import AccessKey

VERSION = "2014-05-26"
FORM = "application/x-www-form-urlencoded"


def stamp(at: datetime | None = None) -> str:
    return f"{(at or datetime.now(UTC)):%Y-%m-%dT%H:%M:%SZ}"


def _enc(text: str) -> str:
    return quote(text, safe="~")


def v1(
    key: str, secret: str, action: str, parameters: dict[str, str], *, method="POST", **common: str
) -> dict[str, str]:
    """All parameters of a request signed in the older way."""
    given = {
        "Action": action,
        "Format": "JSON",
        "Version": VERSION,
        "AccessKeyId": key,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": str(uuid.uuid4()),
        "Timestamp": stamp(),
        **parameters,
        **common,
    }
    joined = "&".join(f"{_enc(name)}={_enc(given[name])}" for name in sorted(given))
    text = "&".join((method, _enc("/"), _enc(joined)))
    digest = hmac.digest(f"{secret}&".encode(), text.encode(), "sha1")
    return {**given, "Signature": base64.b64encode(digest).decode()}


def v3(
    key: str,
    secret: str,
    action: str,
    parameters: dict[str, str],
    *,
    method: str = "POST",
    body: bytes = b"",
    host: str = "testserver",
    **headers: str,
) -> dict[str, str]:
    """The headers of a request signed in the newer way."""
    signed = {
        "host": host,
        "x-acs-action": action,
        "x-acs-version": VERSION,
        "x-acs-date": stamp(),
        "x-acs-signature-nonce": str(uuid.uuid4()),
        "x-acs-content-sha256": hashlib.sha256(body).hexdigest(),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    names = sorted(signed)
    joined = "&".join(f"{_enc(name)}={_enc(parameters[name])}" for name in sorted(parameters))
    lines = "".join(f"{name}:{signed[name]}\n" for name in names)
    digest = signed["x-acs-content-sha256"]
    request = "\n".join((method, "/", joined, lines, ";".join(names), digest))
    text = f"ACS3-HMAC-SHA256\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.digest(secret.encode(), text.encode(), "sha256").hex()
    authorization = (
        f"ACS3-HMAC-SHA256 Credential={key},SignedHeaders={';'.join(names)},Signature={signature}"
    )
    return {**signed, "authorization": authorization}


class Program:
    """A program that holds a key; ``call`` answers with the status and the JSON."""

    def __init__(self, key: AccessKey, region: str) -> None:
        self.uid, self.secret, self.region = key.uid, key.secret, region
        self.client = Client()

    def call(self, action: str, **parameters: str) -> tuple[int, dict]:
        given = {"RegionId": self.region, **{_dotted(k): v for k, v in parameters.items()}}
        headers = v3(self.uid, self.secret, action, given)
        answer = self.client.post(
            f"/?{urlencode(given)}", data=b"", content_type=FORM, headers=headers
        )
        return answer.status_code, answer.json()


def _dotted(name: str) -> str:
    """``InstanceId_1`` for ``InstanceId.1``."""
    return name.replace("_", ".")
