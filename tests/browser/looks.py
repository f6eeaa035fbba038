"""How a page looks as it stands: accessible in light and dark, and no wider than a phone."""

from __future__ import annotations

from collections.abc import Iterator

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],  # what is fine is looked at, but not described
}
PHONES = (390, 320)
SETTLED = """() => document.getAnimations().every(
  (one) => !(one instanceof CSSTransition) || one.playState !== "running")"""


def assert_accessible(page: Page, state: str = "") -> None:
    """Axe finds nothing, in dark or in light, of a page that is in ``state``."""
    page.wait_for_load_state()
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(SETTLED)  # a colour on its way has the contrast of neither
        results = Axe().run(page, options=RULES)
        assert results.violations_count == 0, f"{state}, {scheme}: {results.generate_report()}"


def on_phones(page: Page) -> Iterator[int]:
    """Make the page as wide as each phone in turn, which is told, and then as it was."""
    before = page.viewport_size
    for width in PHONES:
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_function("width => innerWidth === width", arg=width)
        yield width
    page.set_viewport_size(before)


def assert_fits_phones(page: Page, state: str = "") -> None:
    """Nothing has to be scrolled sideways."""
    for width in on_phones(page):
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{state} is {wide} wide on a phone of {width}"


def assert_looks_good(page: Page, state: str = "") -> None:
    """Both, of the same page."""
    assert_accessible(page, state)
    assert_fits_phones(page, state)
