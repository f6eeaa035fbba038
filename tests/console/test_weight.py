"""What a first visit to the form costs: counted as a browser without a cache would load it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import override_settings

MOST_BYTES = 45 * 1024
LINKED = re.compile(r'<link rel="stylesheet" href="([^"]+)"|<script src="([^"]+)"')
ADDRESSES = re.compile(r'\b(?:src|href|action|srcset|hx-[a-z]+)="((?:[a-z]+:)?//[^"]*)"')


def linked(html: str) -> list[str]:
    """Addresses of the style sheets and scripts that a page links."""
    return [first or second for first, second in LINKED.findall(html)]


def weight(body: bytes) -> int:
    """Bytes of ``body`` as it travels."""
    return len(gzip.compress(body, 9))


@pytest.fixture
def page(cast, fleet, sign_in) -> str:
    with override_settings(DEBUG=False):
        response = sign_in(cast.alice).get("/run/")
    assert response.status_code == 200
    return response.content.decode()


def test_the_first_load_weighs_at_most_45_kilobytes(page):
    sizes = {"/run/": weight(page.encode())}
    for address in linked(page):
        found = finders.find(address.removeprefix("/static/"))
        assert found, address
        sizes[address] = weight(Path(found).read_bytes())
    assert {Path(address).suffix for address in sizes} == {"", ".css", ".js"}
    assert sum(sizes.values()) <= MOST_BYTES, sizes


def test_nothing_comes_from_elsewhere(page):
    assert all(address.startswith("/static/") for address in linked(page))
    assert ADDRESSES.findall(page) == []
    for address in linked(page):
        if address.endswith(".css"):
            text = Path(finders.find(address.removeprefix("/static/"))).read_text()
            assert not re.search(r"@import|url\(\s*[\"']?(?:[a-z]+:)?//", text), address
