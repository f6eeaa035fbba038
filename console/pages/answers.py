"""Answers that several pages give after a change."""

from __future__ import annotations

from collections.abc import Sequence

from django.http import HttpRequest, HttpResponseRedirect
from django.utils.http import url_has_allowed_host_and_scheme


class SeeOther(HttpResponseRedirect):
    """Go on with GET: what was posted is done, and reloading does not do it again."""

    status_code = 303


def local(request: HttpRequest, target: str, fallback: str) -> str:
    """``target`` if it is an address of this console, else ``fallback``."""
    ours = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if ours else fallback


def listed(names: Sequence[str], most: int = 10) -> str:
    """``names`` within a sentence, of many the first."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
