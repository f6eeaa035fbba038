"""known_hosts: keys by name, pattern and hash, and those that must not be trusted."""

from __future__ import annotations

import base64
import contextlib
import hmac
import shutil
import struct
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import known_hosts, limits
from tests.conftest import HOST_KEY, missing
from tests.sshd import ssh_keygen


def key(kind: str, body: bytes = b"x" * 32) -> str:
    blob = struct.pack(">I", len(kind)) + kind.encode() + struct.pack(">I", len(body)) + body
    return f"{kind} {base64.b64encode(blob).decode()}"


RSA, ECDSA = key("ssh-rsa"), key("ecdsa-sha2-nistp256")


def hashed(name: str, salt: bytes = b"0123456789abcdefghij") -> str:
    digest = hmac.digest(salt, name.encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def find(text: str, host: str = "web.example", port: int = 22) -> known_hosts.Found:
    return known_hosts.read(text).find([(host, port)])[host, port]


@pytest.mark.parametrize(
    "names",
    [
        "web.example",
        "WEB.example,10.0.0.1",
        "other,web.example",
        "*.example",
        "w?b.*",
        hashed("web.example"),
    ],
)
def test_names_in_every_form(names):
    assert find(f"# comment\n\n{names} {HOST_KEY} a comment\n").keys == (HOST_KEY,)
    assert find(f"{names} {HOST_KEY}", "db.test").keys == ()


@pytest.mark.parametrize("names", ["[web.example]:2222", hashed("[web.example]:2222")])
def test_another_port_is_another_name(names):
    assert find(f"{names} {HOST_KEY}", port=2222).keys == (HOST_KEY,)
    assert find(f"{names} {HOST_KEY}").keys == ()


def test_the_best_of_several_keys_comes_first():
    text = f"web.example {RSA}\nweb.example {HOST_KEY}\n*.example {ECDSA}\nweb.example {RSA}\n"
    assert find(text).keys == (HOST_KEY, ECDSA, RSA)


def test_an_exception_in_a_line_is_one():
    assert find(f"*.example,!web.example {HOST_KEY}").keys == ()
    assert find(f"web.example,!web.example {HOST_KEY}").keys == ()


@pytest.mark.parametrize("names", ["web.example", "*", hashed("web.example")])
def test_a_revoked_key_is_never_used(names):
    found = find(f"web.example {HOST_KEY}\n@revoked {names} {HOST_KEY}\nweb.example {RSA}\n")
    assert (found.keys, found.revoked) == ((RSA,), {HOST_KEY})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"@cert-authority *.example {HOST_KEY}", "authority of *.example"),
        (f"@unknown web.example {HOST_KEY}", "marker @unknown"),
        ("web.example ssh-ed25519", "no line of known_hosts"),
        ("@revoked", "no line of known_hosts"),
        ("web.example ssh-ed25519 AAAA", "damaged"),
        (f"web.example ssh-rsa {HOST_KEY.split()[1]}", "damaged"),
        ("web.example ssh-dss AAAA", "reads like ssh-ed25519"),
        (f"|1|x|y {HOST_KEY}", "hashed name is damaged"),
        (f"|2|{hashed('web.example')[3:]} {HOST_KEY}", "hashed name is damaged"),
    ],
)
def test_what_says_nothing_is_named_with_its_line(line, said):
    found = known_hosts.read(f"\n{line}\nweb.example {RSA}")
    [(number, text)] = found.notes
    assert number == 2
    assert said in text
    assert found.find([("web.example", 22)])["web.example", 22].keys == (RSA,)


def test_too_many_comparisons_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "IMPORT_COMPARISONS", 5)
    known = known_hosts.read(f"{hashed('a')} {HOST_KEY}\n" * 3)
    known.find([("a", 22)])
    with pytest.raises(Invalid, match="compared") as caught:
        known.find([("a", 22), ("b", 22)])
    assert caught.value.field == "known_hosts"


def test_openssh_writes_what_is_read(tmp_path):
    if shutil.which("ssh-keygen") is None:
        missing("ssh-keygen")
    mine = ssh_keygen(tmp_path / "key")
    file = tmp_path / "known_hosts"
    file.write_text(f"web.example,10.0.0.1 {mine}\n[db.example]:2222 {mine}\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(file)], check=True, capture_output=True)
    text = file.read_text()
    assert "example" not in text
    assert find(text).keys == find(text, "10.0.0.1").keys == (mine,)
    assert find(text, "db.example", 2222).keys == (mine,)


@given(st.text(max_size=300))
def test_nothing_in_a_file_breaks_it(text):
    found = known_hosts.read(text)
    found.find([("web.example", 22), ("", 1)])


@given(st.text())
def test_a_key_is_refused_with_a_sentence_or_comes_back_as_it_is(text):
    with contextlib.suppress(Invalid):
        assert known_hosts.check_key(text).split() == text.split()[:2]
