"""The left half of a task's page, at any size: lists, filters, groups, the grid. No JavaScript."""

from __future__ import annotations

import gzip
import re
from html import unescape

import pytest
from django.utils import timezone

from commands.models import Invocation
from commands.rules import limits
from commands.services import sameness
from console import groups, presentation
from console.fragments import Fragments
from tests.alike import THOUSAND, Part, make_task

pytestmark = pytest.mark.django_db

PAGE_BYTES = 12 * 1024
"""What the design allows a page, compressed."""
EVENT_BYTES = 6 * 1024
"""An event of states of a task on a thousand instances: a letter for each, no rows."""
FEW = [
    Part("db-", 2, "Failed", stderr="nginx: test failed\n"),
    Part("q-", 1, "Timeout", error_code="ExecutionTimeout"),
    Part("web-", 9, output="{name} is warm\n"),
    Part("api-", 3, output="{name} is warm\nnote: slowly\n"),
    Part("new-", 1, "Running", output="begun\n"),
]


@pytest.fixture
def make(cast):
    return lambda parts: make_task(cast.team, cast.region, cast.bob, parts)


@pytest.fixture
def few(make):
    return make(FEW)


@pytest.fixture
def page(cast, sign_in):
    client = sign_in(cast.bob)

    def get(task, query="", **headers):
        answer = client.get(f"/tasks/{task.uid}/{query}", headers=headers)
        assert answer.status_code == 200
        return answer.content.decode()

    return get


def rows(html):
    """The names of the rows that show, and of those that are in the page beside them."""
    found = re.findall(r'<li id="row-i-([^"]+)"[^>]*?( hidden)?><a class="inst"', html)
    return [name for name, hidden in found if not hidden], [name for name, gone in found if gone]


def names(html):
    """What groups say of their instances."""
    return re.findall(r'<div class="who"><p>([^<]*)</p>', html)


class TestFilters:
    """?status= and ?q=."""

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ("", 16),
            ("?status=failed", 2),
            ("?status=timeout", 1),
            ("?status=running", 1),
            ("?status=pending", 0),
            ("?status=succeeded", 12),
            ("?status=stopped", 0),
            ("?status=nonsense", 16),
            ("?q=exit:1", 2),
            ("?q=exit:0", 12),
            ("?q=exit:", 0),
            ("?q=WEB-00", 9),
            ("?q=i-web-003", 1),
            ("?q=10.0.7", 13),
            ("?q=warm", 9),
            ("?q=slowly", 3),
            ("?q=api+slowly&status=succeeded", 3),
            ("?q=api&status=failed", 0),
            ("?q=%00", 16),
            ("?q=" + "x" * 5_000, 0),
        ],
    )
    def test_rows_that_do_not_fit_are_hidden(self, few, page, query, shown):
        showing, hidden = rows(page(few, query))
        assert len(showing) == shown
        assert len(showing) + len(hidden) == 16

    def test_nothing_fits(self, few, page):
        html = page(few, "?q=nowhere")
        assert re.search(r'id="none">No instance matches\.', html)
        assert re.search(r'id="none" hidden', page(few))

    def test_chips_count_and_keep_the_rest_of_the_address(self, few, page):
        html = page(few, "?q=web&status=failed&instance=i-web-001&page=3")
        chips = dict(re.findall(r'href="([^"]*)" data-status="(\w*)"', html))
        assert len(chips) == 7
        address = next(url for url, word in chips.items() if word == "timeout")
        assert "q=web" in address
        assert "instance=i-web-001" in address
        assert "page" not in address
        assert re.search(r'data-status="failed" aria-current="true"', html)
        assert html.count('class="chip zero"') == 2
        assert '<b data-count="ok">12</b>' in html

    def test_links_of_rows_keep_the_filters(self, few, page):
        html = page(few, "?q=web&instance=i-web-001")
        assert f'href="/tasks/{few.uid}/?q=web&amp;instance=i-web-002"' in html

    def test_what_a_field_says_is_text(self, few, page):
        html = page(few, "?q=%22%3E%3Cscript%3E")
        assert "<script>" not in html.partition("<main")[2]


class TestOne:
    """A task on one instance."""

    def test_there_is_no_list_but_facts(self, make, page):
        html = page(make([Part("a-", 1, "Failed", output="x\n", exit_code=7)]))
        assert 'id="rows"' not in html
        assert "data-status" not in html.partition('id="panel"')[0]
        facts = html.partition('id="facts"')[2].partition("</dl>")[0]
        for fact in ("a-001", "10.0.5.1:22", "Failed", ">7<", "00:20"):
            assert fact in facts

    def test_its_stream_tells_the_facts(self, make):
        task = make([Part("a-", 1, "Running")])
        event = state_of(task, shown=True)
        assert 'id="facts" hx-swap-oob' in event
        assert "row-" not in event
        assert "same-told" not in event


class TestMany:
    """A task on a thousand instances."""

    @pytest.fixture
    def thousand(self, make):
        task = make(THOUSAND)
        while sameness.compare(task):
            pass
        return task

    @pytest.mark.parametrize("query", ["", "?view=instances", "?instance=i-db-001"])
    def test_the_page_is_light(self, thousand, page, query):
        assert len(gzip.compress(page(thousand, query).encode(), 9)) < PAGE_BYTES

    def test_it_opens_with_the_groups_and_the_first_failure(self, thousand, page):
        html = page(thousand)
        assert names(html) == [
            "db-001 to db-029",
            "nfs-001 to nfs-004",
            "edge-001, edge-002",
            "web-001 to web-941",
            "build-001 to build-024",
        ]
        assert "941 same, 24 differ, 35 failed" in html
        assert ">db-001</h2>" in html
        assert rows(html) == ([], [])

    def test_every_instance_has_a_square_in_the_order_of_their_names(self, thousand, page):
        html = page(thousand)
        squares = html.partition('id="dots"')[2].partition("</div>")[0]
        told = unescape(squares.partition('data-names="')[2].partition('"')[0]).split("\n")
        letters = re.findall(r'<b class="(\w)">', squares)
        assert len(letters) == len(told) == 1_000
        assert told[:1] + told[-1:] == ["build-001", "web-941"]
        states = dict(zip(told, letters, strict=True))
        assert (states["db-001"], states["nfs-004"], states["web-001"]) == ("f", "t", "o")

    def test_a_square_leads_to_its_instance(self, thousand, cast, sign_in):
        client = sign_in(cast.bob)
        answer = client.get(f"/tasks/{thousand.uid}/?at=24&status=failed")
        assert answer["Location"] == f"/tasks/{thousand.uid}/?status=failed&instance=i-db-001"
        for wrong in ("1000", "-1", "x", "", "9" * 50, "%F0%9F%9A%80"):
            assert client.get(f"/tasks/{thousand.uid}/?at={wrong}").status_code == 404

    def test_rows_come_a_hundred_at_a_time(self, thousand, page):
        first, second = (page(thousand, f"?view=instances{more}") for more in ("", "&page=2"))
        assert (len(rows(first)[0]), len(rows(second)[0])) == (100, 100)
        assert not set(rows(first)[0]) & set(rows(second)[0])
        assert rows(first)[0][0] == "db-001"
        assert "1 to 100 of 1,000" in first
        assert rows(page(thousand, "?view=instances&q=exit:127"))[0] == ["edge-001", "edge-002"]
        last = page(thousand, "?view=instances&page=999")
        assert "901 to 1,000 of 1,000" in last

    def test_a_script_gets_the_list_alone(self, thousand, page):
        part = page(thousand, "?q=edge", HX_Target="listed", HX_Request="true")
        assert "<html" not in part
        assert names(part) == ["edge-001, edge-002"]

    def test_events_are_small_whatever_has_changed(self, thousand):
        event = state_of(thousand)
        assert len(event.encode()) < EVENT_BYTES
        assert "row-" not in event
        letters = re.search(r'data-states="(\w+)"', event)
        assert letters
        assert len(letters[1]) == 1_000


def state_of(task, *, shown=False):
    """An event of the states of a task of which every run has changed."""
    runs, now = list(task.runs.all()), timezone.now()
    listed = presentation.live_runs(runs, len(runs))
    panel = presentation.run_views(task, runs[:1], now, current=runs[0].pk)
    event = Fragments().state(
        presentation.task_view(task, runs, now),
        presentation.run_views(task, listed, now),
        panel[0] if shown else None,
        runs=runs,
        has_output=False,
    )
    return event.decode()


class TestGroups:
    """?view=same."""

    def test_what_nobody_compared_is_compared_while_somebody_looks(self, few, page):
        assert sameness.uncompared(few.runs.all()) == 15
        assert 'data-left="15"' in page(few)
        html = page(few, "?view=same")
        assert names(html) == [
            "db-001, db-002",
            "q-001",
            "web-001 to web-009",
            "api-001 to api-003",
        ]
        assert "9 same, 3 differ, 3 failed" in html
        assert "4 distinct results" in html
        assert "9 same, 3 differ, 3 failed" in page(few)

    def test_more_than_can_be_compared_at_once_is_told(self, few, page, monkeypatch):
        monkeypatch.setattr(sameness, "RUNS_AT_ONCE", 3)
        html = page(few, "?view=same")
        assert "compare 11 more" in html
        assert f'<a href="/tasks/{few.uid}/?view=same">compare' in html

    def test_each_says_how_it_ended_and_what_it_printed(self, few, page):
        html = page(few, "?view=same")
        for told in ("Failed, exit 1", "Timed out, 60 s", "Succeeded, exit 0"):
            assert told in html
        assert '<span class="se">nginx: test failed</span>' in html
        assert "no output before the timeout" in html

    def test_filters_leave_groups_out(self, few, page):
        assert names(page(few, "?view=same&status=failed")) == ["db-001, db-002"]
        assert names(page(few, "?view=same&q=api")) == ["api-001 to api-003"]
        assert "No instance matches." in page(few, "?view=same&q=nowhere")

    def test_failures_can_be_retried_by_those_who_may_run(self, few, cast, sign_in):
        html = sign_in(cast.bob).get(f"/tasks/{few.uid}/?view=same").content.decode()
        retried = re.findall(r'href="[^"]*/again/\?([^"]*)"', html)
        assert retried[-2:] == ["instance=i-db-001&amp;instance=i-db-002", "instance=i-q-001"]
        seen = sign_in(cast.vera).get(f"/tasks/{few.uid}/?view=same").content.decode()
        assert "/again/" not in seen

    def test_many_failures_are_named_by_their_group(self, make, page):
        html = page(make([Part("a-", 30, "Failed", output="{name} 3\n")]), "?view=same&loose=1")
        key = re.search(r'/again/\?group=(\w+)&amp;loose=1"', html)
        assert key
        task = Invocation.objects.get()
        assert len(sameness.runs_of_group(task, key[1], loose=True)) == 30

    def test_groups_come_fifty_at_a_time(self, make, page):
        task = make(distinct(60))
        assert len(names(page(task, "?view=same"))) == 50
        assert len(names(page(task, "?view=same&page=2"))) == 10

    def test_a_preview_is_short(self, make, page):
        task = make([Part("a-", 2, output="y" * 100_000 + "\n" + "z\n" * 9)])
        assert (
            len(page(task, "?view=same").partition('id="groups"')[2].partition("</ol>")[0]) < 3_000
        )


def distinct(count):
    """So many instances that all print something else."""
    return [Part(f"n{number}-", 1, output=f"{number}\n") for number in range(count)]


class TestDifferences:
    """/tasks/<id>/compare/."""

    @pytest.fixture
    def compare(self, few, cast, sign_in):
        while sameness.compare(few):
            pass
        client = sign_in(cast.bob)

        def get(group, **query):
            return client.get(f"/tasks/{few.uid}/compare/", {"group": group, **query})

        return get

    def key(self, task, name, **how):
        found = sameness.groups_of(task.runs.all(), **how)
        return next(g.key for g in found if any(r.instance_name == name for r in g.runs))

    def test_it_shows_what_the_largest_group_printed_otherwise(self, few, compare):
        html = compare(self.key(few, "api-001")).content.decode()
        assert "web-001 to web-009" in html
        assert "api-001 to api-003" in html
        added = re.findall(r'<div class="d new">.*?<span class="tx">(.*?)</span></div>', html)
        assert added == ["note: slowly"]
        assert "‹instance› is warm" in html

    def test_streams_are_compared_one_by_one(self, few, compare):
        html = compare(self.key(few, "db-001")).content.decode()
        assert re.findall(r'<h2 id="part-\d">(\w+)</h2>', html) == ["Output", "stderr"]

    def test_a_group_that_is_not_there_is_404(self, few, make, compare):
        other = make([Part("other-", 2)])
        while sameness.compare(other):
            pass
        assert compare(self.key(other, "other-001")).status_code == 404
        assert compare("").status_code == 404

    def test_they_may_have_ended_otherwise_only(self, make, cast, sign_in):
        task = make([Part("a-", 3, output="x\n"), Part("b-", 1, "Failed", output="x\n")])
        while sameness.compare(task):
            pass
        key = self.key(task, "b-001")
        answer = sign_in(cast.bob).get(f"/tasks/{task.uid}/compare/?group={key}")
        assert "They printed the same, and ended differently." in answer.content.decode()

    def test_of_much_output_the_beginning_is_compared(self, make, cast, sign_in):
        most = limits.COMPARED_LINES
        task = make(
            [
                Part("a-", 3, output="".join(f"{n}\n" for n in range(most + 50))),
                Part("b-", 1, output="".join(f"{n} x\n" for n in range(most + 50))),
            ]
        )
        while sameness.compare(task):
            pass
        key = self.key(task, "b-001")
        answer = sign_in(cast.bob).get(f"/tasks/{task.uid}/compare/?group={key}")
        html = answer.content.decode()
        assert f"At most the first {most:,} lines are compared." in html
        assert html.count('class="d new"') == most


def test_names_in_few_words():
    several = [f"db-{n:03}" for n in (4, 11, 19, 20, 27, 33, 40, 51)]
    assert groups.names_sentence(several) == (
        "db-004, db-011, db-019, db-020, db-027, db-033 and 2 more"
    )
    assert groups.names_sentence(["a"]) == "a"
