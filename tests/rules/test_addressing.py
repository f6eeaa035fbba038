"""Names, hosts, ports, users, reasons: what is taken, and what is said of the rest."""

from __future__ import annotations

import pytest

from commands.errors import Invalid
from commands.rules import addressing


@pytest.mark.parametrize("name", ["", " ", "x" * 129, "web 🙂", "a\0b", "$(reboot)", "a;b", "a\nb"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        addressing.check_name(name)
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "web 01",
        "-oProxyCommand=x",
        "a/b",
        "http://x",
        "a\0b",
        "x" * 254,
        "a@b",
        "169.254.169.254",
    ],
)
def test_hosts_that_are_refused(host: str) -> None:
    with pytest.raises(Invalid) as caught:
        addressing.check_host(host, [])
    assert caught.value.field == "host"


def test_what_is_taken_is_cleared_of_white_space() -> None:
    assert addressing.check_name(" web-01 ") == "web-01"
    assert addressing.check_host(" [::1] ", []) == "::1"
    assert addressing.check_host("fe80::1%eth0", ["fe80::/10"]) == "fe80::1%eth0"
    assert addressing.check_host("bücher.example", []) == "bücher.example"
    assert addressing.check_user(" deploy ") == "deploy"
    assert addressing.check_port(" 2222 ") == 2222
    assert addressing.check_credential_name(" Key ") == "Key"
    assert addressing.check_reason(" It was\n\0 rebuilt. ") == "It was rebuilt."


@pytest.mark.parametrize("port", ["", "0", "65536", "22a", "-1", "٢٢", "9" * 5000, 0])
def test_ports_that_are_refused(port: str | int) -> None:
    with pytest.raises(Invalid):
        addressing.check_port(port)


@pytest.mark.parametrize("user", ["", "x" * 65, "a\nb", "-l", "a\0"])
def test_users_that_are_refused(user: str) -> None:
    with pytest.raises(Invalid):
        addressing.check_user(user)


@pytest.mark.parametrize("text", ["", " \n ", "x" * 501])
def test_reasons_and_credentials_that_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        addressing.check_reason(text)
    with pytest.raises(Invalid):
        addressing.check_credential_name(text)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-01.example.net", "web-01"),
        ("web-01", "web-01"),
        ("10.0.4.11", "10.0.4.11"),
        ("[fe80::1%eth0]", "fe80::1"),
        ("", ""),
    ],
)
def test_the_name_that_a_host_proposes(host: str, name: str) -> None:
    assert addressing.proposed_name(host) == name
