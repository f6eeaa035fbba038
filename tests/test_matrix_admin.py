"""Who gets what on the admin site: every address of it, for everybody who could ask for it.

One table, ``TABLE``. An address that is not in it fails a test, so a new page has to say who may
see it. Who is not of the staff is sent to sign in, whatever the address is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from commands.models import (
    AuditEvent,
    Command,
    HostKeyChange,
    QuotaOverride,
    ResourceGroup,
    User,
)
from commands.rules.quotas import Quota
from tests import test_matrix
from tests.stage import SECRET_NAMES, WHO, Stage, build
from tests.test_matrix import asked

pytestmark = pytest.mark.django_db

STAFF = ("staff", "looking", "root")
"""Without permissions; with those to look at everything; a superuser. None is in the team."""
YES = {"post": "yes"}
"""What is sent to each address; where something is to be deleted it is the confirmation."""

Asked = tuple[int, int]
"""The statuses of GET and of POST."""


@dataclass(frozen=True)
class Row:
    """What those answer who are in ``STAFF``. Others are ``sent_away``."""

    staff: Asked
    looking: Asked
    root: Asked
    sent_away: str = "/admin/login/"


NO, PAGE, SEEN = (403, 403), (200, 200), (200, 403)
SHUT = Row(NO, NO, NO)
"""Nobody, not even a superuser."""
LOOK = Row(NO, PAGE, PAGE)
"""A list or a history. A form that is sent there does nothing without an action."""
READ = Row(NO, SEEN, SEEN)
"""A row that nobody changes here."""
EDIT = Row(NO, SEEN, PAGE)
"""A row that is changed by who has the permission; without its fields the form comes again."""
SENT = Row(NO, SEEN, (200, 302))
"""Such a row, of which no field has to be filled in."""
MAKE = Row(NO, NO, PAGE)
"""A form that is nothing to look at, or what is the superusers' business."""
GONE = Row(NO, NO, (200, 302))
"""What superusers delete; or they are told there that only an admin of its team may."""
QUOTA = Row(NO, SEEN, (200, 302))
"""Limits, which are changed in the page that shows them."""
MOVED = Row((302, 302), (302, 302), (302, 302))
"""Django's older address of a row, which leads to that of today and says nothing."""
ANY = Row((200, 405), (200, 405), (200, 405))
"""For all staff, and there is nothing about anything in it."""
NOTHING = Row((404, 404), (404, 404), (404, 404))

TABLE: dict[str, Row] = {
    # "#" is what the address is about: a row that exists, of whatever kind.
    "": Row(PAGE, PAGE, PAGE),  # who may look at nothing sees an index of nothing
    "logout/": Row((405, 302), (405, 302), (405, 302), sent_away="/admin/"),
    "password_change/done/": ANY,
    "autocomplete/": Row((403, 405), (403, 405), (403, 405)),
    "jsi18n/": ANY,
    "r/#/#/": NOTHING,
    "(commands|auth)/": Row((404, 404), PAGE, PAGE),
    "(anything else)": NOTHING,
    "commands/region/": LOOK,
    "commands/region/add/": MAKE,
    "commands/region/#/history/": LOOK,
    "commands/region/#/delete/": SHUT,
    "commands/region/#/change/": EDIT,
    "commands/region/#/": MOVED,
    "commands/resourcegroup/": LOOK,
    "commands/resourcegroup/add/": MAKE,
    "commands/resourcegroup/#/history/": LOOK,
    "commands/resourcegroup/#/delete/": GONE,
    "commands/resourcegroup/#/change/": EDIT,
    "commands/resourcegroup/#/": MOVED,
    "commands/instance/": LOOK,
    "commands/instance/add/": SHUT,
    "commands/instance/#/history/": LOOK,
    "commands/instance/#/delete/": GONE,
    "commands/instance/#/change/": EDIT,
    "commands/instance/#/": MOVED,
    "commands/credential/": LOOK,
    "commands/credential/add/": SHUT,
    "commands/credential/#/history/": LOOK,
    "commands/credential/#/delete/": SHUT,
    "commands/credential/#/change/": SENT,
    "commands/credential/#/": MOVED,
    "commands/grant/": LOOK,
    "commands/grant/add/": MAKE,
    "commands/grant/#/history/": LOOK,
    "commands/grant/#/delete/": GONE,
    "commands/grant/#/change/": READ,
    "commands/grant/#/": MOVED,
    "commands/hostkeychange/": LOOK,
    "commands/hostkeychange/add/": SHUT,
    "commands/hostkeychange/#/history/": LOOK,
    "commands/hostkeychange/#/delete/": SHUT,
    "commands/hostkeychange/#/change/": READ,
    "commands/hostkeychange/#/": MOVED,
    "commands/accesskey/": LOOK,
    "commands/accesskey/add/": SHUT,
    "commands/accesskey/#/history/": LOOK,
    "commands/accesskey/#/delete/": SHUT,
    "commands/accesskey/#/change/": READ,
    "commands/accesskey/#/": MOVED,
    "commands/team/": LOOK,
    "commands/team/add/": MAKE,
    "commands/team/#/history/": LOOK,
    "commands/team/#/delete/": SHUT,
    "commands/team/#/change/": EDIT,
    "commands/team/#/": MOVED,
    "commands/user/": LOOK,
    "commands/user/add/": MAKE,
    "commands/user/#/history/": LOOK,
    "commands/user/#/delete/": SHUT,
    "commands/user/#/change/": EDIT,
    "commands/user/#/": MOVED,
    "commands/user/#/password/": MAKE,
    "auth/group/": MAKE,
    "auth/group/add/": MAKE,
    "auth/group/#/history/": MAKE,
    "auth/group/#/delete/": GONE,
    "auth/group/#/change/": MAKE,
    "auth/group/#/": MOVED,
    "commands/quotarequest/": LOOK,
    "commands/quotarequest/add/": SHUT,
    "commands/quotarequest/#/history/": LOOK,
    "commands/quotarequest/#/delete/": SHUT,
    "commands/quotarequest/#/change/": EDIT,
    "commands/quotarequest/#/": MOVED,
    "commands/invocation/": LOOK,
    "commands/invocation/add/": SHUT,
    "commands/invocation/#/history/": LOOK,
    "commands/invocation/#/delete/": SHUT,
    "commands/invocation/#/change/": READ,
    "commands/invocation/#/": MOVED,
    "commands/command/": LOOK,
    "commands/command/add/": SHUT,
    "commands/command/#/history/": LOOK,
    "commands/command/#/delete/": SHUT,
    "commands/command/#/change/": READ,
    "commands/command/#/": MOVED,
    "commands/auditevent/": LOOK,
    "commands/auditevent/add/": SHUT,
    "commands/auditevent/#/history/": LOOK,
    "commands/auditevent/#/delete/": SHUT,
    "commands/auditevent/#/change/": READ,
    "commands/auditevent/#/": MOVED,
    "commands/quotaoverride/": QUOTA,
    "commands/quotaoverride/#/change/": Row(NO, (302, 403), (302, 302)),
    "commands/quotaoverride/#/#/#/": QUOTA,
}


@dataclass(frozen=True)
class Site:
    """The stage, and one of everything that the admin site has a page of."""

    stage: Stage
    rows: dict[str, Model]
    people: dict[str, User]

    def path(self, address: str) -> str:
        """Where an address of the table is."""
        there = f"{self.stage.team.uid}/{self.stage.region.uid}/{Quota.SAVED_COMMANDS}"
        places = {
            "r/#/#/": f"r/{ContentType.objects.get_for_model(Command).pk}/{self.stage.saved.pk}/",
            "(commands|auth)/": "commands/",
            "(anything else)": "else",
            "commands/quotaoverride/#/#/#/": f"commands/quotaoverride/{there}/",
        }
        model = address.split("/")[1] if "#" in address else ""
        found = places.get(address) or address.replace("#", str(model and self.rows[model].pk))
        return f"/admin/{found}"


@pytest.fixture
def site(cast, fleet, credential) -> Site:
    stage = build(cast, fleet, credential)
    place = {"team": stage.team, "region": stage.region}
    looking = User.objects.create_user("looking", is_staff=True)
    looking.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    rows: dict[str, Model] = {
        "region": stage.region,
        "resourcegroup": ResourceGroup.objects.create(team=stage.team, name="Others"),
        "instance": stage.fleet[1],
        "credential": stage.credential,
        "grant": stage.grant,
        "hostkeychange": HostKeyChange.objects.create(
            team=stage.team,
            instance_uid=stage.fleet[1].uid,
            instance_name=stage.fleet[1].name,
            old_key="old",
            new_key="new",
            reason="It was installed again.",
            by_name="alice",
            at=timezone.now(),
        ),
        "accesskey": stage.access_key,
        "team": stage.team,
        "user": stage.people["operator"],
        "group": Group.objects.create(name="clerks"),
        "quotarequest": stage.request,
        "quotaoverride": QuotaOverride.objects.create(
            **place, key=Quota.SAVED_COMMANDS.value, limit=200
        ),
        "invocation": stage.task,
        "command": stage.saved,
        "auditevent": AuditEvent.objects.earliest("pk"),
    }
    staff = {"looking": looking, "root": User.objects.create_superuser("root")}
    return Site(stage, rows, stage.people | staff)


def client_of(site: Site, who: str) -> Client:
    client = Client()
    if who != "anonymous":
        client.force_login(site.people[who])
    return client


def addresses(resolver: URLResolver) -> Iterator[str]:
    """Those of the admin site, as the table writes them."""
    special = {
        r"^(?P#commands|auth)/$": "(commands|auth)/",
        r"(?P#.*)$": "(anything else)",
    }
    for each in resolver.url_patterns:
        found = re.sub("<[^>]*>", "#", str(each.pattern))
        if isinstance(each, URLPattern):
            yield special.get(found, found)
        else:
            yield from (f"{found}{below}" for below in addresses(each))


def test_every_address_is_in_the_table():
    (tree,) = (each for each in get_resolver().url_patterns if isinstance(each, URLResolver))
    # What the console answers itself stands among its own pages.
    own = {name.removeprefix("admin/") for name in test_matrix.TABLE if name.startswith("admin/")}
    assert {*addresses(tree)} == {*TABLE, *own}


@pytest.mark.parametrize("who", STAFF)
def test_the_staff_get_what_the_table_says(site, who):
    client, wrong = client_of(site, who), {}
    for address, row in TABLE.items():
        for method, status in zip(("GET", "POST"), getattr(row, who), strict=True):
            answer = asked(client, method, site.path(address), YES)
            if answer.status_code != status:
                wrong[address, method] = f"{answer.status_code}, and not {status}"
            told = [name for name in SECRET_NAMES if who == "staff" and name in answer.text]
            assert told == [], address
    assert wrong == {}


@pytest.mark.parametrize("who", ["anonymous", *(who for who in WHO if who != "staff")])
def test_everybody_else_is_sent_to_sign_in(site, who):
    client, wrong = client_of(site, who), {}
    for address, row in TABLE.items():
        for method in ("GET", "POST"):
            answer = asked(client, method, site.path(address), YES)
            where = answer.headers.get("Location", "").partition("?")[0]
            if (answer.status_code, where) != (302, row.sent_away):
                wrong[address, method] = f"{answer.status_code} {where}"
    assert wrong == {}
