"""Which addresses may be targets: none that gives away secrets of the console's own machine.

Link-local addresses and the metadata services of clouds hand out credentials to whoever asks from
that machine. A name may lead to them as well as a number, so that the address is asked about that
a connection is about to be made to, and what was typed as soon as it is.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Final

from commands.words import gettext as _

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REFUSED: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "169.254.0.0/16",  # link-local; metadata of AWS, Azure, Google Cloud and others
        "fe80::/10",  # link-local
        "fd00:ec2::254/128",  # metadata of AWS
        "fd20:ce::254/128",  # metadata of Google Cloud
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # platform of Azure
        "192.0.0.192/32",  # metadata of Oracle Cloud
    )
)
"""Networks that no instance is in."""

_IPV4_AT_THE_END = tuple(
    ipaddress.ip_network(network)
    for network in (
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/96",  # NAT64 of a site
        "::ffff:0:0:0/96",  # translated
        "::/96",  # compatible
    )
)
"""Networks of IPv6 whose last 32 bits are the IPv4 address that is reached in the end."""
_OWN = ipaddress.ip_network("::/127")
"""The unspecified address, and the machine itself: no IPv4 in disguise."""


def refusal(address: str, allowed: Iterable[str] = ()) -> str:
    """Why nothing may connect to ``address``, as a sentence; "" if it may, or is a name.

    ``allowed`` are networks that are allowed all the same.
    """
    found = read(address)
    if found is None or not any(found in network for network in REFUSED):
        return ""
    if any(found in ipaddress.ip_network(network) for network in allowed):
        return ""
    sentence = _(
        "%(address)s is an address for the console's own machine or its cloud, not for instances. "
        "If it is meant all the same, an admin can allow it with the setting "
        "CONSOLE_ALLOWED_NETWORKS."
    )
    return sentence % {"address": found}


def read(text: str) -> Address | None:
    """The address that is connected to where ``text`` is given; None for a name."""
    try:
        found: Address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return _old_notation(text)
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return found.ipv4_mapped
        if found.sixtofour:
            return found.sixtofour
        if found not in _OWN and any(found in network for network in _IPV4_AT_THE_END):
            return ipaddress.IPv4Address(found.packed[-4:])
    return found


def _old_notation(text: str) -> Address | None:
    # 2852039166, 0xa9fea9fe and 169.254.43518 are one address: resolvers read them all.
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text)) if " " not in text else None
    except (OSError, ValueError):
        return None
