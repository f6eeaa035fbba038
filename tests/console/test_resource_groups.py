"""Resource groups on pages: nothing of them in a team with one, fields and filters with more."""

from __future__ import annotations

import pytest
from django.utils import timezone

from commands.models import Instance, Invocation
from commands.services import lending, library, resource_groups, trying
from commands.services.definitions import CommandInput
from console.pages import instance_form
from tests.conftest import HOST_KEY
from tests.filled import shown_fields

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]
NAMES = ("Resource group", "rg-")


@pytest.fixture
def alice(cast, sign_in):
    return sign_in(cast.alice)


@pytest.fixture
def keep(cast):
    def make(name, group=None):
        return library.create_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name=name, type="RunShellScript", content="true"),
            group=group,
            now=timezone.now(),
        )

    return make


@pytest.fixture
def group(cast):
    return resource_groups.create(actor=cast.alice, team=cast.team, name="Shop <b>")


@pytest.fixture
def shop(cast, group, fleet):
    """The first instance, in the group."""
    resource_groups.move_instances(actor=cast.alice, group=group, instances=fleet[:1])
    return fleet[0]


def pages(instance, command):
    return (
        "/instances/",
        "/instances/add/",
        f"/instances/{instance.uid}/",
        f"/instances/{instance.uid}/edit/",
        "/commands/",
        "/commands/new/",
        f"/commands/{command.uid}/",
        f"/commands/{command.uid}/edit/",
        "/run/",
    )


def test_a_team_with_its_default_group_sees_nothing_of_groups(alice, fleet, keep):
    for path in pages(fleet[0], keep("one")):
        text = alice.get(path).text
        assert [name for name in NAMES if name in text] == [], path


def test_one_with_more_sees_them_wherever_they_count(alice, shop, group, keep):
    for path in pages(shop, keep("one", group)):
        text = alice.get(path).text
        assert "Shop &lt;b&gt;" in text, path
        assert "Shop <b>" not in text, path


class TestLists:
    """Filters in the address."""

    def test_instances(self, alice, shop, group):
        text = alice.get("/instances/", {"group": group.uid}).text
        assert ("web-01" in text, "web-02" in text) == (True, False)
        assert f'<option value="{group.uid}" selected>' in text
        empty = resource_groups.create(actor=alice_of(group), team=group.team, name="Empty")
        assert "Nothing matches" in alice.get("/instances/", {"group": empty.uid}).text

    def test_commands(self, alice, group, keep):
        keep("in the shop", group)
        keep("elsewhere")
        text = alice.get("/commands/", {"group": group.uid}).text
        assert ("in the shop" in text, "elsewhere" in text) == (True, False)
        assert f'<option value="{group.uid}" selected>' in text

    def test_the_picker(self, alice, shop, group):
        text = alice.get("/run/instances/", {"group": group.uid}).text
        assert ("web-01" in text, "web-02" in text) == (True, False)

    @pytest.mark.parametrize("uid", ["rg-1", "\0", "theirs"])
    def test_nonsense_filters_nothing(self, cast, alice, shop, group, keep, uid):
        if uid == "theirs":
            uid = resource_groups.default_of(cast.other_team).uid
        keep("one")
        assert "web-01" in alice.get("/instances/", {"group": uid}).text
        assert "one" in alice.get("/commands/", {"group": uid}).text
        assert "web-01" in alice.get("/run/instances/", {"group": uid}).text

    def test_what_matches_is_selected_by_group_too(self, alice, shop, group):
        form = {**shown_fields(alice.get("/run/").text), "group": group.uid}
        answer = alice.post("/run/", {**form, "action": "select-matching"})
        form = shown_fields(answer.text)
        assert (form["group"], form["instances"]) == ([group.uid], [shop.uid])
        reset = alice.post("/run/", {**form, "action": "reset"})
        assert shown_fields(reset.text)["group"] == [""]


class TestInstances:
    """The form of an instance, and its page."""

    def test_it_is_moved_in_its_form(self, alice, fleet, group):
        edit = f"/instances/{fleet[0].uid}/edit/"
        form = shown_fields(alice.get(edit).text, "instance-form")
        assert form["group"] == [resource_groups.default_of(group.team).uid]
        assert alice.post(edit, {**form, "group": group.uid}).status_code == 303
        assert list(group.instances.all()) == [fleet[0]]
        assert shown_fields(alice.get(edit).text, "instance-form")["group"] == [group.uid]

    def test_a_group_that_is_not_on_the_list(self, cast, alice, fleet, group):
        edit = f"/instances/{fleet[0].uid}/edit/"
        form = shown_fields(alice.get(edit).text, "instance-form")
        theirs = resource_groups.default_of(cast.other_team)
        answer = alice.post(edit, {**form, "name": "other", "group": theirs.uid})
        assert answer.status_code == 422
        assert "Choose a resource group of the list." in answer.text
        assert Instance.objects.get(pk=fleet[0].pk).name == "web-01"

    @pytest.mark.parametrize("named", [True, False])
    def test_a_new_one(self, alice, group, credential, monkeypatch, named):
        answer = trying.Answer(milliseconds=1, system="Debian")
        monkeypatch.setattr(instance_form.trying, "test_connection", lambda **_given: answer)
        form = shown_fields(alice.get("/instances/add/").text, "instance-form")
        given = {
            "host": "10.0.0.9",
            "way": "existing",
            "credential": str(credential.pk),
            "key": HOST_KEY,
            "key_at": "10.0.0.9 22",
            "confirmed": "on",
            **({"group": group.uid} if named else {}),
        }
        assert alice.post("/instances/add/", {**form, **given}).status_code == 303
        assert (Instance.objects.get(host="10.0.0.9").resource_group == group) is named

    def test_who_borrows_it_does_not_learn_its_group(self, cast, sign_in, shop, group):
        grant = lending.lend_instance(actor=cast.alice, instance=shop, team=cast.other_team)
        lending.accept(actor=cast.charlie, grant=grant, now=timezone.now())
        resource_groups.create(actor=cast.charlie, team=cast.other_team, name="Ours")
        charlie = sign_in(cast.charlie)
        for path in ("/instances/", f"/instances/{shop.uid}/", "/run/"):
            text = charlie.get(path).text
            assert "web-01" in text, path
            assert "Shop" not in text, path
            assert group.uid not in text, path


class TestCommands:
    """The form of a saved command."""

    def test_it_is_moved_without_a_new_version(self, alice, group, keep):
        command = keep("one")
        edit = f"/commands/{command.uid}/edit/"
        form = shown_fields(alice.get(edit).text, "command-form")
        answer = alice.post(edit, {**form, "group": group.uid}, follow=True)
        assert "Saved. It is v1, and in another resource group." in answer.text
        assert list(group.commands.all()) == [command]
        assert "Nothing was changed." in alice.post(edit, {**form, "group": ""}, follow=True).text
        assert list(group.commands.all()) == [command]

    def test_what_can_not_be_saved_is_not_moved(self, alice, group, keep):
        command = keep("one")
        edit = f"/commands/{command.uid}/edit/"
        form = shown_fields(alice.get(edit).text, "command-form")
        wrong = {**form, "group": group.uid, "based_on": "7", "content": "false"}
        assert alice.post(edit, wrong).status_code == 409
        answer = alice.post(edit, {**form, "content": "false", "group": "rg-1"})
        assert answer.status_code == 422
        assert "The team has no such resource group." in answer.text
        command.refresh_from_db()
        assert (command.latest, command.resource_group.is_default) == (1, True)

    def test_a_new_one_and_a_copy_of_it(self, alice, group):
        form = shown_fields(alice.get("/commands/new/").text, "command-form")
        given = {"name": "one", "content": "true", "group": group.uid}
        assert alice.post("/commands/new/", {**form, **given}).status_code == 303
        made = group.commands.get()
        copy = alice.get("/commands/new/", {"from": made.uid})
        assert shown_fields(copy.text, "command-form")["group"] == [group.uid]


def test_tasks_from_the_form_are_in_the_default_group(alice, shop, group):
    form = shown_fields(alice.get("/run/").text)
    given = {"name": "x", "content": "true", "instances": [shop.uid], "group": group.uid}
    assert alice.post("/run/", {**form, **given}).status_code == 303
    assert Invocation.objects.get().resource_group.is_default


def alice_of(group):
    return group.team.members.get(username="alice")
