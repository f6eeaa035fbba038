"""Addresses that nothing may connect to, however they are written."""

from __future__ import annotations

import pytest

from commands.rules.reachable import refusal


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
        "0251.0376.0251.0376",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::ffff:0:169.254.169.254",
        "::169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "[fe80::1]",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
    ],
)
def test_addresses_of_the_console_s_own_machine(address: str) -> None:
    assert "CONSOLE_ALLOWED_NETWORKS" in refusal(address)


@pytest.mark.parametrize(
    "address",
    ["10.0.4.11", "127.0.0.1", "::1", "fd00::5", "169.253.1.1", "web-01", "x y", "a\0b", "é", ""],
)
def test_everything_else_may_be_a_target(address: str) -> None:
    assert refusal(address) == ""


def test_what_is_allowed_all_the_same() -> None:
    assert refusal("169.254.10.7", ["10.0.0.0/8", "169.254.10.0/24"]) == ""
    assert refusal("169.254.169.254", ["169.254.10.0/24"]) != ""
    assert refusal("fe80::1", ["0.0.0.0/0"]) != ""
