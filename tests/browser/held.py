"""A request that a test holds back, as a slow network would, and lets go on when it likes."""

from __future__ import annotations

import re
import time

from playwright.sync_api import APIResponse, Page, Route

from tests.browser.conftest import PATIENCE_MS


def stop_clock(page: Page) -> None:
    """What ``page`` begins from now on and does after a time waits for ``page.clock.run_for``."""
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 10)


class Held:
    """The first request of ``page`` to ``address``, a pattern; later ones are not held."""

    def __init__(self, page: Page, address: str | re.Pattern[str]) -> None:
        self._page = page
        self._route: Route | None = None
        page.route(address, self._hold, times=1)

    def _hold(self, route: Route) -> None:
        self._route = route

    def let_go(self) -> None:
        """Let it go on, once it was made."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while self._route is None:
            assert time.monotonic() < until, "nothing was asked for"
            self._page.wait_for_timeout(20)
        self._route.continue_()


class HeldAnswers:
    """The answers to requests of ``page`` for a part of a task's page, by its id.

    They are made at once, and held back.
    """

    def __init__(self, page: Page, part: str = "log") -> None:
        self._page = page
        self._part = part
        self._held: list[tuple[Route, APIResponse]] = []
        page.route("**/tasks/**", self._hold)

    def _hold(self, route: Route) -> None:
        if route.request.headers.get("hx-target") == self._part:
            self._held.append((route, route.fetch()))
        else:
            route.fallback()

    @property
    def count(self) -> int:
        """How many are held back."""
        return len(self._held)

    def wait(self) -> None:
        """Wait until there is one."""
        until = time.monotonic() + PATIENCE_MS / 1000
        while not self._held:
            assert time.monotonic() < until, "nothing was asked for"
            self._page.wait_for_timeout(20)

    def let_go(self) -> None:
        """Let the oldest one go on, once there is one."""
        self.wait()
        route, answer = self._held.pop(0)
        route.fulfill(response=answer)
