"""Bodies that can't be read: a page that says what to do, never a 500, and nothing written."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.models import Session
from django.test import AsyncClient, Client

from commands.models import Command, Invocation

pytestmark = pytest.mark.data_layer

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
UNREADABLE = "The console couldn't read that"
FOREIGN = "The console reads UTF-8 only"
TOO_MUCH = "That was too much at once"

FORM = urlencode({"name": "Nightly", "content": "id", "timeout": "60", "save": "on"})
GOOD = {
    "name": "Café ‹›",
    "type": "RunShellScript",
    "content": "echo «ö»",
    "timeout": "60",
    "save": "on",
    "action": "save",
}
PART = b'--b\r\nContent-Disposition: form-data; name="content"\r\n%s\r\n%s\r\n'
FILE = (
    b'--b\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n===a\r\n--b--"
)


def part(value: bytes, more: bytes = b"") -> bytes:
    return PART % (more, value)


BAD = {
    "utf-16": (f"{URLENCODED}; charset=utf-16", FORM.encode("utf-16"), 415, FOREIGN),
    "utf-16 by name only": (f"{URLENCODED}; charset=utf-16", FORM.encode(), 415, FOREIGN),
    "latin-1": (f"{URLENCODED}; charset=iso-8859-1", b"content=caf%E9", 415, FOREIGN),
    "unknown": (f"{URLENCODED}; charset=foo", FORM.encode(), 415, FOREIGN),
    "no text": (f"{MULTIPART}; boundary=b; charset=hex", part(b"id") + b"--b--", 415, FOREIGN),
    "no name": (f"{URLENCODED}; charset=%00", FORM.encode(), 415, FOREIGN),
    "escapes": (URLENCODED, b"name=a&content=caf%E9", 400, UNREADABLE),
    "cut escapes": (URLENCODED, b"content=%E2%82&name=%AC", 400, UNREADABLE),
    "surrogates": (URLENCODED, b"content=%ED%A0%80", 400, UNREADABLE),
    "raw bytes": (URLENCODED, b"content=\xff\xfe", 400, UNREADABLE),
    "no boundary": (MULTIPART, part(b"id") + b"--b--", 400, UNREADABLE),
    "odd boundary": (f'{MULTIPART}; boundary="b\u00e9"', part(b"id") + b"--b--", 400, UNREADABLE),
    "bytes in a part": (f"{MULTIPART}; boundary=b", part(b"\xff") + b"--b--", 400, UNREADABLE),
    "base64": (f"{MULTIPART}; boundary=b", FILE, 400, UNREADABLE),
    "many fields": (URLENCODED, b"&".join([b"a=1"] * 11_001), 413, TOO_MUCH),
    "many parts": (f"{MULTIPART}; boundary=b", part(b"1") * 11_001 + b"--b--", 413, TOO_MUCH),
    "many bytes": (URLENCODED, b"content=" + b"x" * (2 * 1024 * 1024), 413, TOO_MUCH),
    "many bytes in a part": (
        f"{MULTIPART}; boundary=b",
        part(b"x" * (2 * 1024 * 1024 + 1)) + b"--b--",
        413,
        TOO_MUCH,
    ),
}


@pytest.mark.parametrize("path", ["/run/", "/sign-in/", "/scope/", "/nowhere/"])
@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize("what", BAD)
def test_a_page_says_what_to_do(cast, settings, what, signed_in, path):
    assert not settings.DEBUG
    content_type, body, status, words = BAD[what]
    client = Client(enforce_csrf_checks=True)
    if signed_in:
        client.force_login(cast.alice)
    sessions = set(Session.objects.values_list("session_key", "session_data"))
    answer = client.generic("POST", path, body, content_type)
    page = answer.content.decode()
    assert answer.status_code == status
    assert words.replace("'", "&#x27;") in page.replace("'", "&#x27;")
    assert "Nothing was changed." in page
    assert "Traceback" not in page
    assert answer.headers["Content-Security-Policy"]
    assert not Command.objects.exists()
    assert not Invocation.objects.exists()
    assert set(Session.objects.values_list("session_key", "session_data")) == sessions


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8", '"utf-8"'])
def test_utf_8_is_welcome_by_all_its_names(cast, sign_in, charset):
    body = urlencode(GOOD)
    answer = sign_in(cast.alice).generic("POST", "/run/", body, f"{URLENCODED}; charset={charset}")
    assert answer.status_code == 303
    assert Command.objects.get().name == "Café ‹›"


def test_a_form_in_parts_is_welcome(cast, sign_in):
    assert sign_in(cast.alice).post("/run/", GOOD).status_code == 303
    assert Command.objects.get().name == "Café ‹›"


@pytest.mark.parametrize("cut", range(0, 90, 3))
def test_parts_that_end_early_are_never_a_500(cast, sign_in, cut):
    body = (part(b"id") + b"--b--\r\n")[:cut]
    answer = sign_in(cast.alice).post("/run/", body, content_type=f"{MULTIPART}; boundary=b")
    assert 400 <= answer.status_code < 500
    assert not Invocation.objects.exists()


@pytest.mark.parametrize("what", ["utf-16", "unknown", "no text", "escapes", "many bytes"])
def test_the_asgi_server_says_the_same(cast, what):
    content_type, body, status, words = BAD[what]

    async def send():
        return await AsyncClient().generic("POST", "/run/?q=a", body, content_type)

    answer = async_to_sync(send)()
    assert answer.status_code == status
    assert words.replace("'", "&#x27;") in answer.content.decode().replace("'", "&#x27;")
