"""What the product is for, in a real browser against real SSH servers."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect

from commands.models.instance import fingerprint
from tests.browser.conftest import PATIENCE_MS, Console
from tests.sshd import Sshd

# What comes on stderr waits for a file: both streams in one go have no order.
FIVE_LINES = (
    'for i in 1 2 3 4 5; do echo "$(hostname) line $i"; sleep 0.5; done; '
    "until [ -e {} ]; do sleep 0.1; done; echo oops >&2; exit 3"
)


def create(
    page: Page, script: str, *, instances: list[str], name: str = "Five lines", timeout: int = 60
) -> str:
    """Fill the form and click Create Task; the task's address."""
    page.goto("/run/")
    page.fill("[name=name]", name)
    page.fill("[name=timeout]", str(timeout))
    page.fill("[name=content]", script)
    for instance in instances:
        page.get_by_role("checkbox", name=instance, exact=True).check()
    page.get_by_role("button", name="Create task").click()
    page.wait_for_url("**/tasks/t-*/")
    return page.url


def log_text(page: Page) -> str:
    url = page.get_by_role("link", name="Plain text", exact=True).get_attribute("href")
    return page.request.get(url).text()


def lines(page: Page) -> list[str]:
    return page.locator("#log .ln").evaluate_all(
        "all => all.map(line => line.querySelector('.tx').lastChild.textContent)"
    )


def wait_until_failed(page: Page) -> None:
    expect(page).to_have_title(re.compile("^Failed:"))


def assert_five_lines_and_failure(page: Page, instances: list[str]) -> None:
    states = page.request.get(page.url.split("?")[0] + "status.json").json()
    assert states["status"] == "Failed"
    assert [(run["status"], run["exit_code"]) for run in states["runs"]] == [("Failed", 3)] * len(
        instances
    )
    for instance in instances:
        page.get_by_role("link", name=re.compile(instance)).click()
        expect(page.locator("#log .ln")).to_have_count(6)
        assert [text[-6:] for text in lines(page)[:5]] == [f"line {n}" for n in range(1, 6)]
        marked = page.locator("#log .ln", has_text="stderr")
        expect(marked).to_have_count(1)
        expect(marked).to_contain_text("oops")


@pytest.fixture
def timed(record_property):
    """Reports a time in the test's output; never asserts one."""

    def report(what: str, seconds: float) -> None:
        record_property(what, f"{seconds:.3f} s")
        print(f"{what}: {seconds:.3f} s")

    return report


def test_three_demo_instances_answer_live(visit, timed, tmp_path):
    page = visit()
    running = page.locator(".nav .cnt", has_text="running")
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while running.count() and time.monotonic() < deadline:  # what others left is being stopped
        page.wait_for_timeout(300)
        page.reload()
    go_on = tmp_path / "go-on"
    create_clicked = time.monotonic()
    create(page, FIVE_LINES.format(go_on), instances=["demo-1", "demo-2", "demo-3"])
    page.wait_for_selector("#log .ln")
    timed("click to first line", time.monotonic() - create_clicked)
    seen = []
    while len(seen) < 6:
        now = lines(page)
        if now != seen:
            assert now[: len(seen)] == seen
            seen = now
            # Later lines come one by one: while some are missing, the task still runs.
            if len(seen) < 6:
                expect(page).to_have_title(re.compile("^Running:"))
            if len(seen) == 5:
                go_on.touch()
        time.sleep(0.02)
    wait_until_failed(page)
    expect(running).to_have_count(0)
    assert_five_lines_and_failure(page, ["demo-1", "demo-2", "demo-3"])


def test_openssh_servers_added_by_the_command_answer_the_same(console: Console, visit, tmp_path):
    with Sshd.started(tmp_path, count=2) as servers:
        for number, server in enumerate(servers, 1):
            endpoint = server.endpoint
            shown = fingerprint(endpoint.host_key)
            told = console.manage(
                "add_instance",
                f"openssh-{number}",
                endpoint.host,
                "--port",
                str(endpoint.port),
                "--user",
                endpoint.user,
                "--key",
                str(server.directory / "client_key"),
                "--fingerprint",
                shown,
            )
            assert f"Added openssh-{number}" in told
        page = visit(at=None)
        go_on = tmp_path / "go-on"
        create(page, FIVE_LINES.format(go_on), instances=["openssh-1", "openssh-2"])
        for instance in ("openssh-2", "openssh-1"):
            page.get_by_role("link", name=re.compile(instance)).click()
            expect(page.locator("#log .ln")).to_have_count(5)
        go_on.touch()
        wait_until_failed(page)
        assert_five_lines_and_failure(page, ["openssh-1", "openssh-2"])


def test_a_reload_in_the_midst_and_a_late_second_browser_miss_and_repeat_nothing(visit, tmp_path):
    page = visit()
    go_on = tmp_path / "go-on"
    url = create(
        page,
        "for i in $(seq 1 30); do echo n$i; sleep 0.1; done; "
        f"until [ -e {go_on} ]; do sleep 0.1; done; printf end >&2",
        instances=["demo-1"],
        name="Thirty",
    )
    expected = [f"n{number}" for number in range(1, 31)] + ["end"]
    for _ in range(3):
        page.wait_for_timeout(400)
        page.reload()
        now = lines(page)
        assert now == expected[: len(now)]
    late = visit()
    late.goto(url)
    expect(late.locator("#log .ln")).to_have_count(30)
    go_on.touch()
    for each in (page, late):
        expect(each).to_have_title(re.compile("^Succeeded:"), timeout=120_000)
        expect(each.locator("#log .ln")).to_have_count(len(expected))
        assert lines(each) == expected
        assert log_text(each) == "\n".join(expected)


def test_without_javascript_everything_but_live_updates_works(visit, tmp_path):
    page = visit(java_script_enabled=False, at=None)
    go_on = tmp_path / "go-on"
    script = f"echo hello; until [ -e {go_on} ]; do sleep 0.1; done; exit 2"
    create(page, script, instances=["demo-2"], name="No script")
    assert (
        page.locator("noscript meta[http-equiv=refresh]").count()
        or page.locator("meta[http-equiv=refresh]").count()
    )
    go_on.touch()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while "Failed" not in page.title():
        assert time.monotonic() < deadline
        time.sleep(0.3)
        page.reload()
    assert lines(page) == ["hello"]
    assert "exit 2" in page.content()
    page.get_by_role("link", name="Tasks").first.click()
    expect(page.get_by_role("link", name="No script").first).to_be_visible()


def test_hostile_output_and_names_are_text(visit):
    page = visit()
    create(
        page,
        "printf '<script>alert(1)</script>\\033[31mred\\033[0m\\000\\n<b>x</b>\\n' >&2",
        instances=["demo-3"],
        name="<img src=x onerror=alert(1)>",
    )
    expect(page).to_have_title(re.compile("^Succeeded:"))
    expect(page.locator("#log .ln")).to_have_count(2)
    assert lines(page) == ["<script>alert(1)</script>red␀", "<b>x</b>"]
    assert page.locator("#log b, #log script, h1 img").count() == 0


def test_a_double_click_makes_one_task_and_errors_keep_the_form(visit):
    page = visit()
    page.fill("[name=name]", "Pressed twice")
    page.fill("[name=timeout]", "5")
    page.fill("[name=workdir]", "tmp")
    expect(page.get_by_text("Raised from 5 to 10 seconds")).to_be_visible()
    page.fill("[name=content]", "echo once")
    page.get_by_role("button", name="Create task").click()
    page.wait_for_selector("#errors")
    expect(page).to_have_title(re.compile("^Error:"))
    expect(page.get_by_text("Execution path must start with /.")).to_have_count(2)
    assert page.input_value("[name=content]").strip() == "echo once"
    page.fill("[name=workdir]", "/tmp")
    page.get_by_role("checkbox", name="demo-1", exact=True).check()
    page.get_by_role("button", name="Create task").dblclick()
    page.wait_for_url("**/tasks/t-*/")
    expect(page.get_by_text("timeout 10 s")).to_be_visible()
    page.goto("/tasks/")
    assert page.get_by_role("link", name="Pressed twice", exact=True).count() == 1
