"""OpenSSH's client configuration: which servers are in it, and what was left out."""

from __future__ import annotations

import contextlib
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands.errors import Invalid
from commands.rules import limits, ssh_config
from tests.conftest import missing

CONFIG = """\
# mine
User everybody

Host web-01 web-02
    HostName %h.example
    User deploy
    Port=2222
    IdentityFile "~/.ssh/the key"

Host *.example !gate.example
    User nobody

host db
    hostname = 10.0.0.9
    ProxyJump ops@gate:2200

Host gate
    HostName gate.example
    ProxyJump none

Host old
    ProxyCommand nc %h %p
Host far
    ProxyJump a,b
Host *
    Port 2200
    ProxyJump gate
Match host db
    User matched
Include other.conf
Host web-01
    User late
    Port 1
"""


@pytest.fixture(scope="module")
def read():
    found = ssh_config.read(CONFIG)
    return {entry.name: entry for entry in found.entries}, {n.line: n.text for n in found.notes}


def test_servers_and_what_is_said_of_them(read):
    entries, _ = read
    web = entries["web-01"]
    assert (web.host, web.port, web.line) == ("web-01.example", 2222, 4)
    assert entries["web-02"].host == "web-02.example"
    assert (web.credential, web.credential_guessed) == ("the key", True)
    assert entries["db"].host == "10.0.0.9"
    assert entries["db"].jump_host == "ops@gate:2200"
    assert entries["gate"].jump_host == ""
    assert entries["old"].host == "old"


def test_as_for_ssh_the_first_value_counts_and_patterns_add(read):
    entries, _ = read
    assert {entry.user for entry in entries.values()} == {"everybody"}
    assert entries["web-01"].port == 2222
    assert entries["db"].port == 2200
    assert entries["web-01"].jump_host == "gate"


def test_what_was_left_out_is_said(read):
    entries, notes = read
    assert "before the first Host" in notes[1]
    assert "*.example !gate.example is a pattern" in notes[10]
    assert "* is a pattern" in notes[25]
    assert "Match" in notes[28]
    assert "Include" in notes[30]
    assert entries["old"].problems == (
        "It is reached by a ProxyCommand; only a ProxyJump can be imported.",
    )
    assert "through 2 hosts" in entries["far"].problems[0]


def test_ssh_itself_agrees(read, tmp_path):
    if shutil.which("ssh") is None:
        missing("ssh")
    file = tmp_path / "config"
    # Left out on purpose: what is decided while connecting, or stands elsewhere.
    file.write_text(CONFIG.replace("Match host db\n    User matched\nInclude other.conf\n", ""))
    for entry in read[0].values():
        done = subprocess.run(
            ["ssh", "-G", "-F", str(file), entry.name], check=True, capture_output=True, text=True
        )
        said = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
        assert (said["hostname"], said["user"]) == (entry.host, entry.user)
        assert int(said["port"]) == entry.port
        if not entry.problems:
            assert said.get("proxyjump", "") == entry.jump_host


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "No Host line"),
        ("Host *\n User a", "No Host line"),
        ('Host a\n User "b', "Line 2: a quote"),
        ("Host " + " ".join(f"a{n}*" for n in range(300)), "patterns"),
    ],
)
def test_files_that_are_refused(text, said):
    with pytest.raises(Invalid, match=said):
        ssh_config.read(text)


def test_tokens_that_only_ssh_knows():
    [entry] = ssh_config.read("Host a\n HostName %C.example").entries
    assert "%C" in entry.problems[0]


def test_too_many_servers(monkeypatch):
    monkeypatch.setattr(limits, "IMPORT_ROWS", 2)
    assert len(ssh_config.read("Host a b").entries) == 2
    with pytest.raises(Invalid, match="more than 2"):
        ssh_config.read("Host a b c")


lines = st.lists(
    st.tuples(
        st.sampled_from(["Host", "HostName", "User", "Port", "ProxyJump", "Match", "#", ""]),
        st.text(max_size=20),
    ),
    max_size=8,
)


@given(lines)
def test_nothing_in_a_file_breaks_it(pairs):
    text = "\n".join(f"{keyword} {value}" for keyword, value in pairs)
    with contextlib.suppress(Invalid):
        assert ssh_config.read(text).entries
