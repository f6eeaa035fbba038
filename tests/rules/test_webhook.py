"""Webhooks: which addresses they may have, and how what they get is signed."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from commands.errors import Invalid
from commands.rules import webhook


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://chat.example/hooks/abc", "chat.example", 443, "/hooks/abc", "chat.example"),
        ("https://chat.example", "chat.example", 443, "/", "chat.example"),
        ("https://chat.example:8443/x?a=b", "chat.example", 8443, "/x?a=b", "chat.example:8443"),
        ("https://10.0.4.11/x", "10.0.4.11", 443, "/x", "10.0.4.11"),
        ("https://[2001:db8::1]:8443/", "2001:db8::1", 8443, "/", "[2001:db8::1]:8443"),
        ("HTTPS://Chat.Example/A", "chat.example", 443, "/A", "chat.example"),
    ],
)
def test_the_parts_of_an_address(url, host, port, path, authority):
    found = webhook.read(url)
    assert (found.secure, found.host, found.port, found.path) == (True, host, port, path)
    assert found.authority == authority


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "Enter an address such as"),
        ("chat.example/hooks", "Enter an address such as"),
        ("ftp://chat.example/", "Enter an address such as"),
        ("file:///etc/passwd", "Enter an address such as"),
        ("gopher://127.0.0.1:6379/_x", "Enter an address such as"),
        ("https:///x", "Enter an address such as"),
        ("https://chat.example:0/", "Enter an address such as"),
        ("https://chat.example:99999/", "Enter an address such as"),
        ("https://chat.example/a b", "Enter an address such as"),
        ("https://chat.example/\r\nX: y", "Enter an address such as"),
        ("https://chät.example/", "Enter an address such as"),
        ("https://user:secret@chat.example/", "can't hold a user name"),
        ("https://chat.example@169.254.169.254/", "can't hold a user name"),
        ("https://chat.example/" + "x" * 2000, "at most 2,000 characters"),
        ("http://chat.example/", "over https:// only"),
        ("https://localhost/", "CONSOLE_ALLOWED_NETWORKS"),
        ("https://127.0.0.1/", "CONSOLE_ALLOWED_NETWORKS"),
        ("https://2130706433/", "CONSOLE_ALLOWED_NETWORKS"),
        ("https://[::1]/", "CONSOLE_ALLOWED_NETWORKS"),
        ("https://169.254.169.254/latest/meta-data/", "CONSOLE_ALLOWED_NETWORKS"),
    ],
)
def test_what_is_no_address_of_a_webhook(url, words):
    with pytest.raises(Invalid, match=words) as caught:
        webhook.read(url)
    assert caught.value.field == "target"


def test_http_is_a_setting():
    assert webhook.read("http://chat.example/x", allow_http=True).port == 80


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "0x7f000001",
        "0177.0.0.1",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "169.254.169.254",
        "169.254.0.7",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "224.0.0.1",
        "ff02::1",
        "240.0.0.1",
        "255.255.255.255",
        "LocalHost.",
    ],
)
def test_addresses_that_nothing_is_sent_to(address):
    assert "CONSOLE_ALLOWED_NETWORKS" in webhook.refusal(address)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.4.11",
        "192.168.1.2",
        "172.16.0.1",
        "93.184.216.34",
        "2001:db8::1",
        "fd00::1",
        "64:ff9b::5db8:d822",
        "chat.example",
    ],
)
def test_addresses_that_may_be_sent_to(address):
    assert webhook.refusal(address) == ""


def test_what_a_setting_allows():
    assert webhook.refusal("127.0.0.1", ["127.0.0.0/8"]) == ""
    assert webhook.refusal("::ffff:127.0.0.1", ["127.0.0.0/8"]) == ""
    assert webhook.refusal("169.254.10.1", ["169.254.10.0/24"]) == ""
    assert webhook.refusal("169.254.169.254", ["169.254.10.0/24"])
    assert webhook.refusal("::1", ["127.0.0.0/8"])


def test_the_signature_is_over_the_time_and_the_body():
    body = b'{"a":1}'
    expected = hmac.new(b"secret", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert webhook.signature("secret", 1_700_000_000, body) == f"t=1700000000,v1={expected}"
