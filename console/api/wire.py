"""The wire format: flat parameters in, a JSON envelope out."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, UnreadablePostError

from commands.rules import limits
from console.api import signature
from console.api.errors import ApiError, missing
from console.api.signature import Signed

FIELDS: Final = 2_000
"""Most parameters of a call."""
_FORM = "application/x-www-form-urlencoded"
_YES, _NO = frozenset({"true", "1"}), frozenset({"false", "0", ""})


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of a call by their names; lists are ``Name.1``, ``Name.2``."""

    values: Mapping[str, str] = field(repr=False)

    def __contains__(self, name: str) -> bool:
        """Whether it was given, and is not empty."""
        return bool(self.values.get(name))

    def text(self, name: str, default: str = "") -> str:
        """Its value; ``default`` if it was not given."""
        return self.values.get(name, default)

    def need(self, name: str) -> str:
        """The value of one that must be given. Raises ApiError."""
        if name not in self:
            raise missing(name)
        return self.values[name]

    def flag(self, name: str) -> bool:
        """Whether it is true; not if it was not given. Raises ApiError."""
        text = self.text(name).lower()
        if text not in _YES | _NO:
            raise ApiError("InvalidParameter", f"{name} is true or false.")
        return text in _YES

    def number(self, name: str, usual: int, *, most: int, code: str) -> int:
        """A number from 1 to ``most``; ``usual`` if it was not given. Raises ApiError."""
        text = self.text(name) or str(usual)
        if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= most:
            raise ApiError(code, f"{name} is a number from 1 to {most:,}.")
        return int(text)

    def listed(self, name: str) -> list[str]:
        """The values of ``name.1``, ``name.2`` …, in the order of their numbers."""
        found = ((re.fullmatch(rf"{name}\.([0-9]{{1,4}})", key), key) for key in self.values)
        places = sorted((int(match[1]), self.values[key]) for match, key in found if match)
        return [value for _place, value in places if value]

    def pairs(self, name: str) -> list[tuple[str, str]]:
        """Keys and values of ``name.1.Key`` and ``name.1.Value`` …, in order. Raises ApiError."""
        found: dict[int, dict[str, str]] = {}
        for key, value in self.values.items():
            if match := re.fullmatch(rf"{name}\.([0-9]{{1,4}})\.(Key|Value)", key):
                found.setdefault(int(match[1]), {})[match[2]] = value
        if len(found) > limits.TAGS:
            raise ApiError("NumberExceed.Tags", f"There may be up to {limits.TAGS} tags.")
        if any(not pair.get("Key") for pair in found.values()):
            raise ApiError("MissingParameter.TagKey", f"You must specify {name}.N.Key.")
        return [(pair["Key"], pair.get("Value", "")) for _place, pair in sorted(found.items())]

    def refuse(self, unsupported: Mapping[str, tuple[str, str]]) -> None:
        """Raise ApiError if one of these, or a member of such a list, was given.

        They map a name to the code and to the sentence that says why.
        """
        for name, (code, why) in unsupported.items():
            if name in self or any(key.startswith(f"{name}.") for key in self.values):
                raise ApiError(code, f"{name}: {why}")


@dataclass(frozen=True, slots=True)
class Call:
    """A request to the API: what it asks for, and how it was signed."""

    parameters: Parameters
    signed: Signed


def is_call(request: HttpRequest) -> bool:
    """Whether a request to ``/`` is a program's: signed, or trying to be."""
    if request.path_info != "/" or request.method not in {"GET", "POST"}:
        return False
    if request.headers.get("Authorization", "").startswith("ACS"):
        return True
    if "X-Acs-Action" in request.headers:
        return True
    try:
        given = _given(request)
    except ApiError:  # said to who tried to sign
        return "Signature=" in request.META.get("QUERY_STRING", "")
    return "Action" in given and not given.keys().isdisjoint({"Signature", "AccessKeyId"})


def read(request: HttpRequest) -> Call:
    """The call that a request is. Raises ApiError if it is none that can be verified."""
    method, given = request.method or "", _given(request)
    if "Signature" in given and "Authorization" not in request.headers:
        signed = signature.of_parameters(method, given)
    else:
        headers = {name.lower(): value.strip(" \t") for name, value in request.headers.items()}
        signed = signature.of_headers(method, _query(request), headers, _body(request))
        if _body(request) and request.content_type != _FORM:
            raise ApiError("InvalidParameter", f"The body of a call is a form: {_FORM}.")
    if given.get("Format", "JSON").upper() != "JSON":
        raise ApiError("InvalidParameter", "The only Format is JSON.")
    return Call(Parameters(given), signed)


def answer(data: Mapping[str, Any], request_id: str) -> HttpResponse:
    """What a call that was done is answered."""
    return _json({**data, "RequestId": request_id}, 200)


def refusal(error: ApiError, request_id: str, host: str) -> HttpResponse:
    """What a call that is refused is answered."""
    body = {
        "RequestId": request_id,
        "HostId": host,
        "Code": error.code,
        "Message": error.message,
        "Recommend": "",
    }
    response = _json(body, error.status)
    if error.wait:
        response["x-acs-retry-after"] = str(error.wait)
    return response


def moment(at: datetime | None) -> str:
    """A time as the API tells it, in UTC; "" for none."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else ""


def decoded(text: str, encoding: str) -> str:
    """A script as it was written, given as ``encoding`` says. Raises ApiError."""
    if encoding != "Base64":
        return text
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ApiError(
            "CmdContent.DecodeError", "The CommandContent can not be base64 decoded."
        ) from None


def told(data: bytes, encoding: str) -> str:
    """Bytes of a script or of output, as ``encoding`` asks for them."""
    if encoding == "Base64":
        return base64.b64encode(data).decode()
    return data.decode(errors="replace")


def encoding(parameters: Parameters, usual: str, *, known: Collection[str]) -> str:
    """The ContentEncoding that is asked for, in any case; ``usual`` for any other."""
    wanted = {one.lower(): one for one in known}
    return wanted.get(parameters.text("ContentEncoding").lower(), usual)


def _json(body: Mapping[str, Any], status: int) -> HttpResponse:
    # JSON of a caller may have half of a character, and a sentence may repeat it.
    text = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return HttpResponse(
        text, status=status, content_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _given(request: HttpRequest) -> dict[str, str]:
    """All parameters, of query and form. An SDK repeats some in both, and signs them once."""
    form = _body(request) if request.content_type == _FORM else b""
    return _once(request.META.get("QUERY_STRING", ""), _ascii(form))


def _query(request: HttpRequest) -> dict[str, str]:
    return _once(request.META.get("QUERY_STRING", ""))


def _once(*texts: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        try:
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS)
        except ValueError:
            raise ApiError(
                "InvalidParameter", "The parameters are too many, or no UTF-8."
            ) from None
        for name, value in pairs:
            if found.setdefault(name, value) != value:
                raise ApiError("InvalidParameter", f"{name[:100]} is there twice, with two values.")
    return found


def _ascii(form: bytes) -> str:
    try:
        return form.decode()
    except UnicodeDecodeError:
        raise ApiError("InvalidParameter", "The form is not UTF-8.") from None


def _body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except (RequestDataTooBig, UnreadablePostError):
        raise ApiError("InvalidParameter", "The request is too large.") from None
