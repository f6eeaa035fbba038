"""The list of tasks: what each filter leaves, what the page says, what comes while it is open."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.models import Invocation, Run
from commands.rules.status import (
    FAILURES,
    LegacyStatus,
    RunStatus,
    TaskStatus,
    is_final,
    legacy_roll_up,
    roll_up,
)
from commands.services import invocations
from commands.services.definitions import CommandInput
from console.pages import task_list
from console.pages.task_list import PAGE_SIZE, Wanted
from tests.console.making import make_task, set_status

__all__ = ["make_task"]
pytestmark = pytest.mark.django_db


def listed(page: str) -> list[str]:
    """Names of the tasks that a page lists, from the first on."""
    return re.findall(r'<a class="nm" href="[^"]+">([^<]+)</a>', page)


@pytest.fixture
def task_of_three(cast, fleet):
    return invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Three", type="RunShellScript", content="true"),
        instance_uids=[instance.uid for instance in fleet],
        now=timezone.now(),
    )


@pytest.mark.data_layer
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(statuses=st.tuples(*[st.sampled_from(list(RunStatus))] * 3))
def test_the_database_rolls_states_up_as_the_rule_does(task_of_three, statuses):
    for run, status in zip(task_of_three.runs.all(), statuses, strict=True):
        set_status(run, status)
    found = [state for state in TaskStatus if Invocation.objects.in_state(state).exists()]
    assert found == [roll_up(statuses)]
    active = any(not is_final(status) for status in statuses)
    assert Invocation.objects.active().exists() == active
    failed = not active and bool(FAILURES & set(statuses))
    assert Invocation.objects.failed().exists() == failed
    finished = legacy_roll_up(statuses) is LegacyStatus.FINISHED
    assert Invocation.objects.finished().exists() == finished


@pytest.mark.data_layer
def test_a_task_without_runs_is_pending_in_the_database_too(task_of_three):
    Run.objects.all().delete()
    found = [state for state in TaskStatus if Invocation.objects.in_state(state).exists()]
    assert found == [roll_up([])]


@pytest.mark.data_layer
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(
        st.sampled_from(["status", "type", "by", "q", "instance", "page"]),
        st.one_of(st.text(max_size=30), st.sampled_from(["Failed", "failures", "RunShellScript"])),
    )
)
def test_no_address_breaks_the_list(cast, sign_in, task_of_three, query):
    assert sign_in(cast.vera).get("/tasks/", query).status_code == 200


@pytest.fixture
def some(cast, make_task, fleet):
    make_task("Success", "Failed", name="Partly", actor=cast.alice)
    make_task("Failed", name="Badly")
    make_task("Success", name="Well")
    make_task("Running", name="Going on")
    make_task("Cancelled", name="Given up", instances=[fleet[2]])


class TestFilters:
    """What each one leaves."""

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("", ["Given up", "Going on", "Well", "Badly", "Partly"]),
            ("status=Failed", ["Badly"]),
            ("status=PartialFailed", ["Partly"]),
            ("status=failures", ["Badly", "Partly"]),
            ("status=unfinished", ["Going on"]),
            ("status=Running", ["Going on"]),
            ("status=Stopped", ["Given up"]),
            ("status=Success", ["Well"]),
            ("status=Nonsense", ["Given up", "Going on", "Well", "Badly", "Partly"]),
            ("type=RunBatScript", []),
            ("type=RunShellScript&q=l", ["Well", "Badly", "Partly"]),
            ("by=alice", ["Partly"]),
            ("by=bob&status=failures", ["Badly"]),
            ("q=go+on", ["Going on"]),
            ("instance=WEB-03", ["Given up"]),
            ("instance=web", []),
        ],
    )
    def test_each(self, sign_in, cast, some, query, names):
        assert listed(sign_in(cast.vera).get(f"/tasks/?{query}").content.decode()) == names

    def test_an_instance_by_its_id_and_a_task_by_its(self, sign_in, cast, some, fleet):
        client = sign_in(cast.vera)
        page = client.get("/tasks/", {"instance": fleet[2].uid}).content.decode()
        assert listed(page) == ["Given up"]
        task = Invocation.objects.get(name="Well")
        assert listed(client.get("/tasks/", {"q": task.uid}).content.decode()) == ["Well"]

    def test_chips_say_what_is_in_force_and_take_it_away(self, sign_in, cast, some):
        page = sign_in(cast.vera).get("/tasks/?status=failures&by=alice&page=1").content.decode()
        chips = re.findall(r'<a class="chip" href="([^"]+)" aria-label="([^"]+)"', page)
        assert chips == [
            ("?by=alice", "Remove the filter Status: With failures"),
            ("?status=failures", "Remove the filter By: alice"),
        ]
        assert '<option value="failures" selected>' in page

    def test_where_none_fits_there_is_a_way_out(self, sign_in, cast, some):
        page = sign_in(cast.vera).get("/tasks/?q=nowhere").content.decode()
        assert "No tasks match" in page
        assert "Clear filters" in page

    def test_other_teams_are_in_no_filter(self, sign_in, cast, some, fleet):
        client = sign_in(cast.charlie)
        for query in ("", "status=Failed", f"instance={fleet[0].uid}", "by=bob", "q=Well"):
            page = client.get(f"/tasks/?{query}").content.decode()
            assert listed(page) == []
            assert "bob" not in page.replace("by=bob", "").replace(">bob<", "")

    def test_an_empty_team_is_told_so(self, sign_in, cast):
        assert "No tasks yet" in sign_in(cast.charlie).get("/tasks/").content.decode()

    def test_filters_are_of_one_length_at_most(self):
        data = QueryDict(mutable=True)
        data["q"] = "x" * 5_000
        assert len(Wanted.of(data).q) == 200


class TestPage:
    """What it says of each task, and of how many there are."""

    def test_rows_lead_on_for_those_who_may(self, sign_in, cast, some):
        uid = Invocation.objects.get(name="Badly").uid
        assert f"/tasks/{uid}/again/" in sign_in(cast.bob).get("/tasks/").content.decode()
        assert "/again/" not in sign_in(cast.vera).get("/tasks/").content.decode()

    def test_bars_and_times(self, sign_in, cast, some):
        page = sign_in(cast.vera).get("/tasks/?q=Partly").content.decode()
        assert 'aria-label="1 succeeded, 1 failed"' in page
        assert "2 of 2" in page
        assert re.search(r'title="today \d\d:\d\d:\d\d UTC"', page)

    def test_runs_that_wait_for_input_are_told_of(self, sign_in, cast, make_task):
        task = make_task("Running", "Running", "Success", name="Upgrade")
        client = sign_in(cast.vera)
        addresses = ("/tasks/", "/")
        for address in addresses:
            assert "for input" not in client.get(address).content.decode()
        stalled = {"stalled_since": timezone.now(), "stall_info": "apt-get"}
        task.runs.filter(status="Running").update(**stalled)
        for address in addresses:
            assert "2 instances wait for input" in client.get(address).content.decode()
        set_status(task.runs.filter(status="Running").first(), "Failed")
        for address in addresses:
            assert "1 instance waits for input" in client.get(address).content.decode()

    def test_fifty_to_a_page(self, sign_in, cast, make_task):
        start = timezone.now() - timedelta(hours=1)
        first = make_task("Success", name="Oldest", at=start)
        runs = list(first.runs.values("instance_uid", "instance_name", "address", "digest"))
        for n in range(PAGE_SIZE):
            first.pk, first.uid, first.name = None, f"t-copy{n}", f"Copy {n}"
            first.created_at = start + timedelta(seconds=n + 1)
            first.save()
            first.runs.create(**runs[0])
        client = sign_in(cast.vera)
        page = client.get("/tasks/?by=bob").content.decode()
        assert "1–50 of 51" in page
        assert 'href="?by=bob&amp;page=2"' in page
        assert listed(client.get("/tasks/?page=2").content.decode()) == ["Oldest"]

    def test_the_number_of_queries_does_not_grow_with_the_list(self, sign_in, cast, make_task):
        client = sign_in(cast.vera)

        def queries() -> int:
            with CaptureQueriesContext(connection) as asked:
                client.get("/tasks/")
            return len(asked)

        make_task("Success", "Failed")
        few = queries()
        for _ in range(6):
            make_task("Success", "Failed", "Timeout")
        assert queries() == few


class TestLive:
    """Parts of the page for htmx."""

    def test_the_results_alone(self, sign_in, cast, some):
        part = sign_in(cast.vera).get("/tasks/?status=Failed", headers={"HX-Target": "results"})
        assert "<html" not in part.content.decode()
        assert listed(part.content.decode()) == ["Badly"]
        assert "HX-Target" in part["Vary"]

    def test_new_tasks_are_counted_and_not_pushed_in(self, sign_in, cast, make_task):
        client = sign_in(cast.vera)
        make_task("Success", name="Before")
        page = client.get("/tasks/").content.decode()
        address = re.search(r'id="fresh-link" href="[^"]*" hx-get="(\?newest=\d+)"', page)
        assert address
        headers = {"HX-Target": "fresh"}
        assert "hidden" in client.get(f"/tasks/{address[1]}", headers=headers).content.decode()
        make_task("Success", name="After")
        make_task("Failed", name="After too")
        bar = client.get(f"/tasks/{address[1]}", headers=headers).content.decode()
        assert "2 new tasks. Show" in bar
        assert "hidden" not in bar
        bar = client.get(f"/tasks/{address[1]}&status=Failed", headers=headers).content.decode()
        assert "1 new task. Show" in bar
        assert 'href="?status=Failed"' in bar

    def test_what_is_created_while_the_page_is_made_is_counted(
        self, sign_in, cast, make_task, monkeypatch
    ):
        client = sign_in(cast.vera)
        make_task("Success", name="Before")
        real = task_list.task_rows

        def read_then_created(tasks, now):
            rows = real(tasks, now)
            make_task("Success", name="Meanwhile")
            return rows

        monkeypatch.setattr(task_list, "task_rows", read_then_created)
        page = client.get("/tasks/").content.decode()
        assert listed(page) == ["Before"]
        address = re.search(r'hx-get="(\?newest=\d+)"', page)
        assert address
        bar = client.get(f"/tasks/{address[1]}", headers={"HX-Target": "fresh"})
        assert "1 new task. Show" in bar.content.decode()

    @pytest.mark.parametrize("newest", ["", "x", "-1", "²", "9" * 30])
    def test_nonsense_about_the_newest_is_taken_for_none(self, sign_in, cast, some, newest):
        client = sign_in(cast.vera)
        bar = client.get("/tasks/", {"newest": newest}, headers={"HX-Target": "fresh"})
        assert "5 new tasks" in bar.content.decode()
