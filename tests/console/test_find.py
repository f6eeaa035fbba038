"""Find: names and ids of tasks, saved commands and instances, of nobody else's."""

from __future__ import annotations

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands.models import Command, Invocation
from commands.services import library
from commands.services.definitions import CommandInput
from tests.console.making import make_task

__all__ = ["make_task"]
pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]
QUICK = {"HX-Target": "found-quick"}


@pytest.fixture
def things(cast, make_task):
    make_task("Success", name="Warm the cache")
    library.create_command(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        command=CommandInput(name="Restart the cache", type="RunShellScript", content="true"),
        now=timezone.now(),
    )


def test_parts_of_names_find_every_kind(cast, sign_in, things, fleet):
    client = sign_in(cast.vera)
    page = client.get("/find/?q=cache").content.decode()
    assert "Warm the cache" in page
    assert "Restart the cache" in page
    page = client.get("/find/?q=WEB-02").content.decode()
    assert f"/instances/{fleet[1].uid}/" in page


@pytest.mark.parametrize("change", [str, str.upper, lambda uid: f"  {uid} "])
def test_a_whole_id_leads_straight_there(cast, sign_in, things, fleet, change):
    client = sign_in(cast.vera)
    task, command = Invocation.objects.get(), Command.objects.get(kept=True)
    assert client.get("/find/", {"q": change(task.uid)})["Location"] == f"/tasks/{task.uid}/"
    answer = client.get("/find/", {"q": change(command.uid)})
    assert answer["Location"] == f"/commands/{command.uid}/"
    answer = client.get("/find/", {"q": change(fleet[0].uid)})
    assert answer["Location"] == f"/instances/{fleet[0].uid}/"


def test_nobody_finds_what_is_not_theirs(cast, sign_in, things, fleet):
    client = sign_in(cast.charlie)
    ids = [Invocation.objects.get().uid, Command.objects.get(kept=True).uid, fleet[0].uid]
    for text in (*ids, "cache", "web"):
        answer = client.get("/find/", {"q": text})
        assert answer.status_code == 200
        assert "Nothing matches" in answer.content.decode()


def test_the_short_list_holds_a_few_and_leads_on(cast, sign_in, make_task):
    for n in range(6):
        make_task("Success", name=f"Sweep {n}")
    client = sign_in(cast.vera)
    short = client.get("/find/?q=sweep", headers=QUICK).content.decode()
    assert "<html" not in short
    assert short.count("Sweep") == 4
    assert "/find/?q=sweep" in short
    assert client.get("/find/?q=sweep").content.decode().count('class="nm"') == 6


def test_the_short_list_does_not_redirect(cast, sign_in, things):
    uid = Invocation.objects.get().uid
    answer = sign_in(cast.vera).get("/find/", {"q": uid}, headers=QUICK)
    assert f"/tasks/{uid}/" in answer.content.decode()


def test_without_words_it_says_what_it_is_for(cast, sign_in):
    client = sign_in(cast.vera)
    assert "Names and IDs" in client.get("/find/").content.decode()
    assert client.get("/find/?q=", headers=QUICK).content.decode().strip() == ""


def test_only_runners_are_offered_to_run(cast, sign_in, things):
    assert "/run/?command=" in sign_in(cast.bob).get("/find/?q=cache").content.decode()
    assert "/run/?command=" not in sign_in(cast.vera).get("/find/?q=cache").content.decode()


def test_strangers_are_asked_to_sign_in(client, db):
    assert client.get("/find/?q=x").status_code == 302
    assert client.get("/find/?q=x", headers={**QUICK, "HX-Request": "true"}).status_code == 401


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=40))
def test_no_text_breaks_it(cast, sign_in, things, text):
    assert sign_in(cast.vera).get("/find/", {"q": text}).status_code in (200, 302)
