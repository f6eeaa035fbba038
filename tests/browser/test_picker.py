"""The instance picker in a browser: a selection that no page, search, type or answer takes away."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.conftest import PASSWORD, Console
from tests.browser.held import Held
from tests.browser.looks import assert_accessible, on_phones
from tests.browser.test_live_form import NEVER_LOADED
from tests.browser.test_stream import until
from tests.conftest import HOST_KEY

# Checked tomorrow: no check of the running console changes what these tests look at.
RACK = """
from datetime import timedelta
from django.utils import timezone
from commands.models import Credential, Instance, InstanceTag, Team, User
from commands.services import resource_groups, teams
team = Team.objects.create(name={name!r})
group = resource_groups.make_default(team)
user = User.objects.create_user({name!r}, password={password!r})
teams.add_member(team=team, user=user, role="operator")
region = teams.default_region()
key = Credential.objects.create(team=team, region=region, name="k", kind="password", secret="x")
now = timezone.now()
def add(name, **columns):
    return Instance(team=team, region=region, resource_group=group, credential=key, name=name,
        host="127.0.0.1", user="root", host_key={host_key!r},
        **{{"connection": "reachable", "checked_at": now + timedelta(days=1), **columns}})
down = {{"connection": "unreachable", "connection_since": now - timedelta(days=1),
    "connection_info": "No answer on 127.0.0.1:22 within 10 seconds."}}
Instance.objects.bulk_create(
    [add(f"api-{{n:02}}") for n in range(30)] + [add("api-30", **down)]
    + [add(f"web-{{n:02}}", **(down if n == 4 else {{}})) for n in range(63)]
    + [add("win-00", os_type="windows", system="Windows Server 2022")]
    + [add("zoo-01", connection="host_key_changed"), add("zoo-02", connection="sign_in_refused")]
    + [add("zoo-03", connection="unknown")])
InstanceTag.objects.bulk_create(
    InstanceTag(instance=one, key="role", value=one.name[:3])
    for one in Instance.objects.filter(team=team))
"""


@pytest.fixture(scope="module")
def rack(console: Console) -> str:
    """Somebody with 98 instances: 30 named api and 62 named web can be chosen."""
    name = f"rack-{secrets.token_hex(3)}"
    console.manage("shell", "-c", RACK.format(name=name, password=PASSWORD, host_key=HOST_KEY))
    return name


@pytest.fixture
def opened(visit, rack) -> Callable[..., Page]:
    def open_picker(**options: object) -> Page:
        return visit(username=rack, **options)

    return open_picker


def box(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=name, exact=True)


def head(page: Page) -> Locator:
    return page.locator("#pick-all")


def search(page: Page, text: str) -> None:
    page.get_by_role("searchbox", name="Search instances").fill(text)
    expect(page.locator("[name=searched]")).to_have_value(text)


def assert_selected(page: Page, number: int, elsewhere: int = 0) -> None:
    """All places that count the selection say the same, and as much would be sent."""
    expect(page.locator("#picked [data-picked]")).to_have_text(str(number))
    words = f"{elsewhere} on other pages" if elsewhere else ""
    expect(page.locator(".selbar .away")).to_have_text(words)
    rail = page.locator("#r-instances")
    expect(rail).to_contain_text(
        {0: "None selected", 1: "1 instance"}.get(number, f"{number} instances")
    )
    sent = page.evaluate("new FormData(document.getElementById('run-form')).getAll('instances')")
    assert (len(sent), len(set(sent))) == (number, number)


def test_all_that_match_over_pages(opened):
    page = opened()
    search(page, "api")
    expect(page.locator("#pick-range")).to_contain_text("1–25 of 31 matches · 30 can be selected")
    expect(page.get_by_text("Select all 30 that match")).not_to_be_visible()
    head(page).check()
    assert_selected(page, 25)
    expect(page.get_by_text("All 25 on this page selected.")).to_be_visible()
    page.get_by_role("button", name="Select all 30 that match").click()
    assert_selected(page, 30, elsewhere=5)
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pick-range")).to_contain_text("26–31 of 31 matches")
    assert_selected(page, 30, elsewhere=25)
    box(page, "api-29").uncheck()
    search(page, "web")
    assert_selected(page, 29, elsewhere=29)
    box(page, "web-00").check()
    page.get_by_label("Show selected only").check()
    expect(page.locator("#pick-range")).to_contain_text("1–1 of 1 match")
    page.get_by_role("button", name="Clear", exact=True).click()
    expect(page.locator("#pick-range")).to_contain_text("1–25 of 63 matches")
    assert_selected(page, 0)


def test_the_limit_cuts_nothing_silently(opened):
    page = opened()
    search(page, "web")
    head(page).check()
    expect(page.get_by_text("62 match, the limit is 50. Narrow the search, or")).to_be_visible()
    page.get_by_role("button", name=re.compile("by name")).click()
    assert_selected(page, 50, elsewhere=26)
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pick-range")).to_contain_text("26–50 of 63 matches")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pick-range")).to_contain_text("51–63 of 63 matches")
    other = box(page, "web-60")
    expect(other).to_have_attribute("aria-disabled", "true")
    expect(other).to_have_accessible_description("50 is the most per task.")
    other.click(force=True)
    expect(other).not_to_be_checked()
    expect(page.locator("#over")).to_have_text(
        "That would be 51, the limit is 50. Nothing was added."
    )
    head(page).click()
    expect(head(page)).not_to_be_checked()
    assert_selected(page, 50, elsewhere=49)
    page.get_by_role("button", name="Previous").click()
    box(page, "web-26").uncheck()
    assert_selected(page, 49, elsewhere=25)
    expect(page.locator("#over")).to_be_empty()


def test_a_pasted_list(opened):
    page = opened()
    box(page, "api-02").check()
    page.get_by_text("Paste a list").click()
    page.get_by_label("One name, ID or address per line").fill(
        "web-00\nWEB-01\napi-00, api-01\nweb-04\nwin-00\nwbe-03 x9"
    )
    page.get_by_role("button", name="Add to the selection").click()
    told = "4 found, 1 offline (web-04), 1 can't be selected (win-00), 2 not found (wbe-03, x9)"
    expect(page.locator("#rows").get_by_text(told)).to_be_visible()
    expect(page.locator("#picker-says")).to_have_text(told)
    assert_selected(page, 5, elsewhere=2)


def test_ten_thousand_lines(opened):
    page = opened()
    page.get_by_text("Paste a list").click()
    lines = "\n".join(["web-07", *(f"x-{number}" for number in range(10_000))])
    page.get_by_label("One name, ID or address per line").evaluate(
        "(area, lines) => { area.value = lines; }", lines
    )
    page.get_by_role("button", name="Add to the selection").click()
    told = page.locator("#rows").get_by_text("The list has 10,001 entries.")
    expect(told).to_be_visible()
    assert_selected(page, 0)


def test_another_type_strikes_what_it_cant_run_on(opened):
    page = opened()
    box(page, "api-00").check()
    box(page, "api-01").check()
    page.get_by_role("radio", name="PowerShell").check(force=True)
    note = page.get_by_text("2 selected instances can't run PowerShell")
    expect(note).to_be_visible()
    expect(page.locator("#fits")).to_have_text("PowerShell commands run on Windows instances")
    assert_selected(page, 2)
    struck = page.locator("tr", has=box(page, "api-00"))
    expect(struck.locator("label")).to_have_css("text-decoration-line", "line-through")
    expect(box(page, "api-02")).to_be_disabled()
    expect(box(page, "api-02")).to_have_accessible_description(
        re.compile("Can't be selected. Bat and PowerShell run on Windows")
    )
    box(page, "api-01").uncheck()
    expect(box(page, "api-01")).to_be_disabled()
    expect(page.get_by_text("1 selected instance can't run PowerShell")).to_be_visible()
    page.get_by_role("button", name="Remove them").click()
    assert_selected(page, 0)
    expect(page.locator("#unfit")).not_to_be_visible()
    page.get_by_role("radio", name="Shell Linux").check(force=True)
    expect(box(page, "api-02")).to_be_enabled()


def test_connections_are_refreshed_where_they_stand(opened, console, rack):
    page = opened(timezone_id="UTC")
    page.clock.install()
    page.goto("/run/")
    search_box = page.get_by_role("searchbox", name="Search instances")
    search_box.fill("zoo")
    page.clock.run_for(1_000)
    expect(page.locator("#pick-range")).to_contain_text("1–3 of 3 matches")
    box(page, "zoo-03").check()
    box(page, "zoo-03").focus()
    change = (
        "from commands.models import Instance; "
        f"mine = Instance.objects.filter(team__name={rack!r}); "
        "mine.filter(name='zoo-0{0}').update(connection='{1}', name='zoo-0{0}')"
    )
    console.manage("shell", "-c", change.format(1, "reachable"))
    console.manage("shell", "-c", change.format(3, "unreachable"))
    try:
        page.clock.run_for(16_000)
        expect(page.locator("tr", has=box(page, "zoo-01"))).to_contain_text("Reachable")
        expect(box(page, "zoo-01")).to_be_enabled()
        expect(page.locator("tr", has=box(page, "zoo-03"))).to_contain_text("Unreachable")
        expect(page.get_by_text("1 selected instance can't run Shell")).to_be_visible()
        expect(box(page, "zoo-03")).to_be_checked()
        expect(box(page, "zoo-03")).to_be_focused()
        box(page, "zoo-01").check()
        assert_selected(page, 2)
    finally:
        console.manage("shell", "-c", change.format(1, "host_key_changed"))
        console.manage("shell", "-c", change.format(3, "unknown"))


def test_keys_and_ranges(opened):
    page = opened()
    box(page, "api-03").click()
    box(page, "api-06").click(modifiers=["Shift"])
    assert_selected(page, 4)
    box(page, "api-10").focus()
    page.keyboard.press("Space")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(box(page, "api-12")).to_be_focused()
    page.keyboard.press("Shift+Space")
    assert_selected(page, 7)
    page.keyboard.press("Control+a")
    assert_selected(page, 25)
    box(page, "api-05").click()
    box(page, "api-00").click(modifiers=["Shift"])
    assert_selected(page, 19)
    page.get_by_role("searchbox", name="Search instances").fill("web-1")
    page.keyboard.press("Enter")
    expect(page.locator("#pick-range")).to_contain_text("1–10 of 10 matches")
    assert page.url.endswith("/run/")
    page.keyboard.press("Control+a")
    assert_selected(page, 19, elsewhere=19)


def test_facets_and_no_match(opened):
    page = opened()
    page.get_by_label("Connection", exact=True).select_option("Host key changed")
    expect(page.locator("#pick-range")).to_contain_text("1–1 of 1 match")
    page.locator(".picker summary", has_text="Tags").click()
    page.get_by_role("checkbox", name="role=api").check()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("checkbox", name="role=api")).not_to_be_visible()
    page.get_by_role("button", name="Clear search").click()
    expect(page.locator("#pick-range")).to_contain_text("1–25 of 98 matches")
    expect(page.get_by_label("Connection", exact=True)).to_have_value("")


@pytest.mark.parametrize(
    "answer",
    [
        lambda route: route.fulfill(status=502),
        lambda route: route.fulfill(status=200, body="<p>Sign in to the hotel's Wi-Fi</p>"),
    ],
    ids=["error", "foreign"],
)
def test_what_fails_to_load_keeps_the_selection(opened, answer):
    page = opened()
    box(page, "api-00").check()
    pattern = re.compile("/run/instances/")
    page.evaluate("console.error = () => {}")  # htmx logs every failure
    page.route(pattern, answer)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Couldn't load instances.")).to_be_visible()
    expect(page.locator("#rows")).to_have_attribute("aria-busy", "false")
    assert_selected(page, 1)
    page.unroute(pattern)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Couldn't load instances.")).not_to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pick-range")).to_contain_text("26–50 of 98 matches")
    assert_selected(page, 1, elsewhere=1)


HTMX = re.compile(r"/htmx-\d")


@pytest.mark.parametrize("ask", ["typing", "choosing", "clicking"])
def test_htmx_comes_with_the_first_touch_and_nothing_asked_before_is_missed(opened, ask):
    page = opened()
    asked: list[Route] = []

    def hold(route: Route) -> None:
        asked.append(route)

    page.route(HTMX, hold)
    page.goto("/run/")
    page.wait_for_load_state("networkidle")
    assert asked == []
    if ask == "typing":
        page.get_by_role("searchbox", name="Search instances").fill("zoo-01")
    elif ask == "choosing":
        page.get_by_label("Connection", exact=True).select_option("Host key changed")
    else:
        page.get_by_role("button", name="Next").click()
    expect(page.locator("head script[src*='/htmx-2']")).to_be_attached()
    expect(page.locator("#pick-range")).to_contain_text("1–25 of 98 matches")
    until(page, lambda: asked)
    asked[0].continue_()
    shown = "26–50 of 98 matches" if ask == "clicking" else "1–1 of 1 match"
    expect(page.locator("#pick-range")).to_contain_text(shown)
    assert page.url.endswith("/run/")


def test_when_htmx_does_not_come_it_is_said_and_tried_again(opened):
    page = opened()
    page.route(HTMX, lambda route: route.fulfill(status=502))
    page.reload()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Couldn't load instances.")).to_be_visible()
    page.unroute(HTMX)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Couldn't load instances.")).not_to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pick-range")).to_contain_text("26–50 of 98 matches")


def test_what_is_ticked_while_the_page_is_coming_is_selected(opened):
    page = opened(at=None)
    page.route("**/static/awaited", lambda route: None)
    page.add_init_script(NEVER_LOADED)
    held = Held(page, re.compile(r"/static/js/picker\b"))
    page.goto("/run/", wait_until="commit")
    box(page, "api-00").check()
    held.let_go()
    expect(page.locator("#picked [data-picked]")).to_have_text("1")
    box(page, "api-01").check()
    assert_selected(page, 2)
    expect(box(page, "api-00")).to_be_checked()


def test_back_and_reload_bring_the_selection_of_all_pages_again(opened):
    page = opened()
    box(page, "api-00").check()
    page.get_by_role("button", name="Next").click()
    box(page, "web-00").check()
    page.goto("/tasks/")
    page.go_back()
    page.wait_for_url("**/run/")
    assert_selected(page, 2, elsewhere=1)
    page.reload()
    expect(page.locator("#pick-range")).to_be_visible()
    assert_selected(page, 2, elsewhere=1)
    page.goto("/tasks/")
    page.goto("/run/")
    assert_selected(page, 0)


def test_a_restored_draft_brings_its_selection(opened):
    page = opened()
    page.evaluate("""() => {
        const form = document.getElementById('run-form');
        form.addEventListener('picked', ({ detail }) => { window.draft = detail.chosen; });
    }""")
    box(page, "api-00").check()
    page.get_by_role("button", name="Next").click()
    box(page, "web-00").check()
    draft = page.evaluate("window.draft")
    page.goto("/tasks/")
    page.goto("/run/")
    page.evaluate(
        "(detail) => document.getElementById('run-form')"
        ".dispatchEvent(new CustomEvent('pick', { detail }))",
        draft,
    )
    assert_selected(page, 2, elsewhere=1)
    expect(box(page, "api-00")).to_be_checked()


MANY = """
from commands.models import Credential, Instance, QuotaOverride, Team
from commands.services import teams
team, region = Team.objects.get(name={name!r}), teams.default_region()
wanted = dict(team=team, region=region, key="instances_per_task")
QuotaOverride.objects.filter(**wanted).delete()
Instance.objects.filter(team=team, name__startswith="many-").delete()
if {make}:
    QuotaOverride.objects.create(limit=1000, **wanted)
    like = Instance.objects.get(team=team, name="api-00")
    Instance.objects.bulk_create(
        Instance(team=team, region=region, resource_group=like.resource_group,
            credential=like.credential, name=f"many-{{n:02}}",
            host=like.host, user=like.user, host_key=like.host_key,
            connection="reachable", checked_at=like.checked_at)
        for n in range(20))
"""


def test_more_than_an_address_holds(opened, console, rack):
    """From 101 selected instances on, the rows are asked for with POST."""
    console.manage("shell", "-c", MANY.format(name=rack, make=True))
    try:
        page = opened(viewport={"width": 1280, "height": 3_000})
        head(page).check()
        page.get_by_role("button", name=re.compile("Select all 113")).click()
        assert_selected(page, 113, elsewhere=88)
        with page.expect_request(lambda request: request.method == "POST") as asked:
            page.get_by_role("button", name="Next").click()
        assert asked.value.url.endswith("/run/")
        expect(page.locator("#pick-range")).to_contain_text("26–50 of 118 matches")
        expect(page.locator("#picked")).to_contain_text("113 of 1,000 selected")
    finally:
        console.manage("shell", "-c", MANY.format(name=rack, make=False))


def test_without_scripts(opened):
    page = opened(java_script_enabled=False)
    box(page, "api-00").check()
    page.get_by_label("Search instances").fill("web")
    page.get_by_label("Command name").fill("Kept")
    page.keyboard.press("Enter")
    expect(page.locator("#pick-range")).to_contain_text("1–25 of 63 matches")
    expect(page.get_by_label("Command name")).to_have_value("Kept")
    expect(page.get_by_text("1 on other pages")).to_be_visible()
    page.get_by_role("button", name=re.compile("by name")).click()
    expect(page.locator("#picked")).to_have_text("50 of 50 selected")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pick-range")).to_contain_text("26–50 of 63 matches")
    expect(page.locator("#picked")).to_have_text("50 of 50 selected")
    page.get_by_role("button", name="Clear", exact=True).click()
    page.get_by_label("Search instances").fill("api-01")
    page.get_by_role("button", name="Search", exact=True).click()
    box(page, "api-01").check()
    page.get_by_label("Search instances").fill("")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.locator("#picked")).to_have_text("1 of 50 selected")


STATES = ["first page", "menu", "pasted", "full", "struck", "lost", "no match"]


def open_state(page: Page, state: str) -> None:
    """Bring the picker into one of the states."""
    if state == "menu":
        page.locator(".picker summary", has_text="Tags").click()
    elif state == "pasted":
        page.get_by_text("Paste a list").click()
        page.locator("#id_paste").fill("web-00\nweb-04\n" + "x" * 300)
        page.get_by_role("button", name="Add to the selection").click()
        expect(page.locator("[data-told]")).to_be_visible()
    elif state == "full":
        search(page, "web")
        head(page).check()
        page.get_by_role("button", name=re.compile("by name")).click()
        expect(page.locator("#over")).to_have_text("50 is the most per task.")
    elif state == "struck":
        head(page).check()
        page.get_by_role("radio", name="PowerShell").check(force=True)
        expect(page.locator("#unfit")).to_be_visible()
    elif state == "lost":
        page.evaluate("console.error = () => {}")
        page.route(re.compile("/run/instances/"), lambda route: route.fulfill(status=502))
        page.get_by_role("button", name="Next").click()
        expect(page.locator(".lost")).to_be_visible()
    elif state == "no match":
        search(page, "storefront")
    else:
        search(page, "zoo")


@pytest.mark.parametrize("state", STATES)
def test_it_is_accessible_and_fits_a_phone(opened, state):
    page = opened()
    open_state(page, state)
    assert_accessible(page)
    for width in on_phones(page):
        too_wide = page.locator("#id_instances, #id_instances *").evaluate_all(
            "(all, width) => all.filter((one) => one.checkVisibility()"
            " && one.getBoundingClientRect().right > width)"
            ".map((one) => one.outerHTML)",
            width,
        )
        assert too_wide == []


def test_create_says_that_a_pasted_list_was_not_added(opened):
    page = opened()
    page.fill("[name=name]", "Pasted")
    page.fill("[name=content]", "true")
    page.get_by_text("Paste a list").click()
    page.get_by_label("One name, ID or address per line").fill("web-00\nweb-01\nweb-02")
    page.get_by_role("button", name="Create task").click()
    told = "3 pasted names haven't been added. Add them or clear the list."
    page.locator("#errors").get_by_role("link", name=told).click()
    field = page.get_by_label("One name, ID or address per line")
    expect(field).to_be_focused()
    expect(field).to_have_value("web-00\nweb-01\nweb-02")
    expect(field).to_have_accessible_description(told)
    page.get_by_role("button", name="Add to the selection").click()
    expect(page.locator("#e-paste")).to_be_hidden()
    assert_selected(page, 3, elsewhere=3)
    search(page, "web")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")


def test_nothing_runs_out_of_its_place_at_any_width(opened):
    page = opened()
    for width in (1440, 1280, 1200, 1100, 800, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("width => innerWidth === width", arg=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for places in ("#rows", "#id_type", ".selbar", ".tools", ".quotas", ".go"):
            over = page.locator(places).evaluate_all(
                "all => all.map(one => one.scrollWidth - one.clientWidth)"
            )
            assert max(over) <= 0, (width, places)
