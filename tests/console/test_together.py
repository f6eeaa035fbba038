"""Many browsers at one moment: what only one may get, exactly one gets, and nobody loses a form."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from commands.models import Command, Invocation
from commands.services import library
from commands.services.definitions import CommandInput
from tests.filled import shown_fields

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

LIMIT = 100


@pytest.fixture
def nearly_full(cast):
    for number in range(LIMIT - 1):
        library.create_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name=f"n-{number}", type="RunShellScript", content="echo"),
            now=timezone.now(),
        )


def together(number, user, fields_of):
    """The answers to ``number`` posts to /run/, all let go at one moment."""
    browser = Client()
    browser.force_login(user)
    gate = threading.Barrier(number, timeout=60)

    def one(index):
        client = Client()
        client.cookies.update(browser.cookies)
        try:
            gate.wait()
            return client.post("/run/", fields_of(index))
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(one, range(number)))


def test_fifty_saves_for_one_place(cast, fleet, nearly_full):
    def fields_of(index):
        return {
            "name": f"new-{index}",
            "type": "RunShellScript",
            "content": f"echo {index}",
            "description": f"number {index}",
            "save": "on",
            "instances": [fleet[0].uid],
            "client_token": f"token-{index}",
        }

    answers = together(50, cast.bob, fields_of)
    assert Counter(answer.status_code for answer in answers) == {303: 1, 422: 49}
    assert Command.objects.kept().count() == LIMIT
    assert Invocation.objects.count() == 1
    for index, answer in enumerate(answers):
        if answer.status_code == 422:
            page = answer.content.decode()
            assert "Your team has used all 100 saved commands." in page
            shown = shown_fields(page)
            sent = fields_of(index)
            for name in ("name", "content", "description", "save"):
                assert shown[name] == [sent[name]]
            assert shown["instances"] == sent["instances"]


def test_five_rapid_submits(cast, fleet):
    def fields_of(_index):
        return {
            "name": "once",
            "type": "RunShellScript",
            "content": "echo once",
            "save": "on",
            "instances": [fleet[0].uid],
            "client_token": "the same",
        }

    answers = together(5, cast.bob, fields_of)
    assert {(answer.status_code, answer["Location"]) for answer in answers} == {
        (303, f"/tasks/{Invocation.objects.get().uid}/")
    }
    assert Command.objects.count() == 1
