"""Signatures: what SDKs really sent, with a key that opens nothing, and what differs from it."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.api import signature
from console.api.errors import ApiError
from tests import signing

SECRET = "a-made-up-secret"
AT = datetime(2026, 11, 26, 22, 23, 27, tzinfo=UTC)
# What the SDKs sent to a listener on the loopback interface.
NEW_QUERY = (
    "CommandContent=echo+%7B%7Bwho%7D%7D+~%2A%2B%C3%BC&EnableParameter=True&InstanceId.1=i-1"
    "&InstanceId.2=i-2&KeepCommand=False&Name=two+words"
    "&Parameters=%7B%22who%22%3A%22W%C4%93i+%26+Lin%22%7D&RegionId=local&Timeout=5"
    "&Type=RunShellScript"
)
NEW_HEADERS = {
    "host": "127.0.0.1:18077",
    "x-acs-version": "2014-05-26",
    "x-acs-action": "RunCommand",
    "user-agent": "AlibabaCloud (Linux; x86_64) Python/3.11.7 Core/0.4.3 TeaDSL/2",
    "x-acs-date": "2026-11-26T22:23:27Z",
    "x-acs-signature-nonce": "cb0b21d0d3ca2372e699f1e0f6904b54",
    "accept": "application/json",
    "x-acs-content-sha256": hashlib.sha256(b"").hexdigest(),
    "x-acs-credentials-provider": "static_ak",
    "authorization": "ACS3-HMAC-SHA256 Credential=LTAIplanted,SignedHeaders=accept;host;user-agent"
    ";x-acs-action;x-acs-content-sha256;x-acs-credentials-provider;x-acs-date"
    ";x-acs-signature-nonce;x-acs-version,"
    "Signature=a7e50f2ad74fba93172a58738a41c0955db451ec500d8b551784132a63d8a782",
}
NEW_FORM = b"CommandContent=echo+~%2A%2B%C3%BC&Timeout=5"
NEW_FORM_HEADERS = {
    **NEW_HEADERS,
    "host": "127.0.0.1:45633",
    "x-acs-date": "2026-11-26T23:49:25Z",
    "x-acs-signature-nonce": "f8f26aec248a6ac2ef70de58e205c99f",
    "content-type": "application/x-www-form-urlencoded",
    "x-acs-content-sha256": "ecb1f75c0b98f45f971d8600e4570b8552b7d6da61e8aeb05f0ecb2f0cd245dd",
    "authorization": "ACS3-HMAC-SHA256 Credential=LTAIplanted,SignedHeaders=accept;content-type"
    ";host;user-agent;x-acs-action;x-acs-content-sha256;x-acs-credentials-provider;x-acs-date"
    ";x-acs-signature-nonce;x-acs-version,"
    "Signature=f313919187be5fc322b433e0e2a69f5ee90a86e410a82e1d293666c4b526f822",
}
OLD_QUERIES = {
    "new SDK": (
        "Action=RunCommand&Format=json&Version=2014-05-26&Timestamp=2026-11-26T22%3A23%3A27Z"
        "&SignatureNonce=fb127d06ca937b437ba20734d1a08e6a"
        "&CommandContent=echo+%7B%7Bwho%7D%7D+~%2A%2B%C3%BC&EnableParameter=True&InstanceId.1=i-1"
        "&InstanceId.2=i-2&KeepCommand=False&Name=two+words"
        "&Parameters=%7B%22who%22%3A%22W%C4%93i+%26+Lin%22%7D&RegionId=local&Timeout=5"
        "&Type=RunShellScript&SignatureMethod=HMAC-SHA1&SignatureVersion=1.0"
        "&AccessKeyId=LTAIplanted&Signature=Ki%2BboDFP2CUvZP7NKlyNaLEBOf0%3D"
    ),
    "old SDK": (
        "Type=RunShellScript&CommandContent=echo%20%7B%7Bwho%7D%7D%20~%2A%2B%C3%BC"
        "&InstanceId.1=i-1&InstanceId.2=i-2&EnableParameter=True"
        "&Parameters=%7B%22who%22%3A%20%22Wei%22%7D&Version=2014-05-26&Action=RunCommand"
        "&Format=JSON&RegionId=local&Timestamp=2026-11-26T22%3A23%3A27Z"
        "&SignatureMethod=HMAC-SHA1&SignatureType=&SignatureVersion=1.0"
        "&SignatureNonce=1e2b0e319a6c1f717ffbf349f0a6f68e&AccessKeyId=LTAIplanted"
        "&Signature=vF5qOj%2BjBih8CFa9pOTdH8nbxq4%3D"
    ),
}


def parsed(query: str) -> dict[str, str]:
    return dict(parse_qsl(query, keep_blank_values=True))


def test_the_newer_signature_of_a_real_sdk():
    found = signature.of_headers("POST", parsed(NEW_QUERY), NEW_HEADERS, b"")
    assert (found.key, found.action, found.at) == ("LTAIplanted", "RunCommand", AT)
    assert found.nonce == "cb0b21d0d3ca2372e699f1e0f6904b54"
    assert found.matches(SECRET)
    assert not found.matches("another-secret")


def test_the_newer_signature_of_a_real_sdk_that_sends_a_form():
    query = {"RegionId": "local"}
    assert signature.of_headers("POST", query, NEW_FORM_HEADERS, NEW_FORM).matches(SECRET)
    other = NEW_FORM_HEADERS | {"content-type": "text/plain"}
    assert not signature.of_headers("POST", query, other, NEW_FORM).matches(SECRET)


def test_the_type_of_a_body_must_be_signed():
    authorization = NEW_FORM_HEADERS["authorization"].replace("content-type;", "")
    headers = {**NEW_FORM_HEADERS, "authorization": authorization}
    with pytest.raises(ApiError) as raised:
        signature.of_headers("POST", {"RegionId": "local"}, headers, NEW_FORM)
    assert raised.value.code == "IncompleteSignature"
    assert "content-type" in raised.value.message


@pytest.mark.parametrize("query", OLD_QUERIES.values(), ids=OLD_QUERIES)
def test_the_older_signature_of_real_sdks(query):
    found = signature.of_parameters("POST", parsed(query))
    assert (found.key, found.action, found.at) == ("LTAIplanted", "RunCommand", AT)
    assert found.matches(SECRET)
    assert not found.matches("another-secret")
    assert not signature.of_parameters("GET", parsed(query)).matches(SECRET)


def test_the_example_of_alibaba_cloud_s_documentation():
    query = {
        "AccessKeyId": "testid",
        "Action": "DescribeRegions",
        "Format": "XML",
        "Version": "2014-05-26",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": "3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf",
        "Timestamp": "2016-02-23T12:46:24Z",
        "Signature": "OLeaidS1JvxuMvnyHOwuJ+uX5qY=",
    }
    assert signature.of_parameters("GET", query).matches("testsecret")


SIGNED = signature.SIGNED_HEADERS - {"x-acs-content-sha256"} | {"accept"}


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_no_signed_header_can_be_another(name):
    other = {**NEW_HEADERS, name: "2026-11-26T22:23:28Z" if name == "x-acs-date" else "other"}
    assert not signature.of_headers("POST", parsed(NEW_QUERY), other, b"").matches(SECRET)


@pytest.mark.parametrize("name", sorted(signature.SIGNED_HEADERS))
def test_no_header_that_matters_can_be_left_unsigned(name):
    names = NEW_HEADERS["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    left = ";".join(each for each in names.split(";") if each != name)
    authorization = NEW_HEADERS["authorization"].replace(names, left)
    with pytest.raises(ApiError) as raised:
        signature.of_headers("POST", {}, {**NEW_HEADERS, "authorization": authorization}, b"")
    assert raised.value.code == "IncompleteSignature"
    assert name in raised.value.message


@pytest.mark.parametrize(
    "authorization",
    ["", "ACS3-HMAC-SHA256", "ACS3-HMAC-SHA256 Credential=x", "Basic eDp5", "ACS3-HMAC-SM3 x"],
)
def test_an_authorization_that_is_none(authorization):
    with pytest.raises(ApiError) as raised:
        signature.of_headers("POST", {}, {**NEW_HEADERS, "authorization": authorization}, b"")
    assert raised.value.code == "IncompleteSignature"


def test_a_signed_header_that_did_not_arrive():
    left = {name: value for name, value in NEW_HEADERS.items() if name != "accept"}
    with pytest.raises(ApiError) as raised:
        signature.of_headers("POST", parsed(NEW_QUERY), left, b"")
    assert (raised.value.code, '"accept"' in raised.value.message) == ("MissingParameter", True)


def test_a_body_that_was_exchanged():
    with pytest.raises(ApiError) as raised:
        signature.of_headers("POST", {"RegionId": "local"}, NEW_FORM_HEADERS, b"Name=other")
    assert raised.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    "name", ["AccessKeyId", "Signature", "SignatureNonce", "Timestamp", "Action", "Version"]
)
def test_a_parameter_of_the_signature_that_is_missing(name):
    query = {key: value for key, value in parsed(OLD_QUERIES["old SDK"]).items() if key != name}
    with pytest.raises(ApiError) as raised:
        signature.of_parameters("POST", query)
    assert raised.value.code == "MissingParameter"
    assert f'"{name}"' in raised.value.message


@pytest.mark.parametrize(
    ("name", "value"), [("SignatureMethod", "HMAC-SHA256"), ("SignatureVersion", "2.0")]
)
def test_another_way_to_sign(name, value):
    with pytest.raises(ApiError) as raised:
        signature.of_parameters("POST", parsed(OLD_QUERIES["old SDK"]) | {name: value})
    assert raised.value.code == "InvalidParameter"


@pytest.mark.parametrize("text", ["", "2026-11-26", "2026-11-26T22:23:27+01:00", "yesterday"])
def test_a_time_that_is_none(text):
    with pytest.raises(ApiError) as raised:
        signature.of_headers("POST", {}, {**NEW_HEADERS, "x-acs-date": text}, b"")
    assert raised.value.code == "IllegalTimestamp"


@pytest.mark.parametrize(
    ("minutes", "fresh"), [(-15.1, False), (-14.9, True), (14.9, True), (15.1, False)]
)
def test_clocks_may_differ_by_a_quarter_of_an_hour(minutes, fresh):
    found = signature.of_headers("POST", parsed(NEW_QUERY), NEW_HEADERS, b"")
    now = AT + timedelta(minutes=minutes)
    if fresh:
        found.require_fresh(now)
        return
    with pytest.raises(ApiError) as raised:
        found.require_fresh(now)
    assert raised.value.code == "InvalidTimeStamp.Expired"


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
PARAMETERS = st.dictionaries(TEXT.filter(bool).map("p".__add__), TEXT, max_size=6)


@given(PARAMETERS, PARAMETERS)
def test_whatever_is_signed_matches_and_nothing_else(signed, other):
    headers = signing.v3("LTAIx", SECRET, "Say", signed)
    found = signature.of_headers("POST", signed, headers, b"")
    assert found.matches(SECRET)
    assert signature.of_headers("POST", other, headers, b"").matches(SECRET) == (signed == other)

    older = signing.v1("LTAIx", SECRET, "Say", signed)
    assert signature.of_parameters("POST", older).matches(SECRET)
    changed = {name: value for name, value in older.items() if name not in signed} | other
    assert signature.of_parameters("POST", changed).matches(SECRET) == (signed == other)
