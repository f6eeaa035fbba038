"""The admin site's page of an instance: through which host it is reached."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry

from commands.models import Instance

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(cast, sign_in):
    cast.alice.is_staff = cast.alice.is_superuser = True
    cast.alice.save()
    return sign_in(cast.alice)


def page(instance, act="change"):
    return f"/admin/commands/instance/{instance.pk}/{act}/"


def test_a_jump_host_is_chosen_and_nothing_else(admin, make_instance):
    bastion, web = make_instance("bastion"), make_instance("web-01", host="10.9.0.5")
    assert "web-01" in admin.get("/admin/commands/instance/").text
    answer = admin.post(page(web), {"jump_host": bastion.pk, "host": "evil", "host_key": "x"})
    assert answer.status_code == 302
    kept = Instance.objects.get(pk=web.pk)
    assert (kept.jump_host, kept.host, kept.host_key) == (bastion, web.host, web.host_key)
    assert admin.get("/admin/commands/instance/add/").status_code == 403


def test_what_cannot_be_the_jump_host_is_said(admin, cast, make_instance):
    bastion = make_instance("bastion")
    make_instance("web-01", jump_host=bastion)
    other = make_instance("other")
    text = admin.post(page(bastion), {"jump_host": other.pk}).text
    assert "bastion is the jump host of web-01" in text
    assert Instance.objects.get(pk=bastion.pk).jump_host is None


def test_who_is_not_the_team_s_admin_changes_nothing(cast, sign_in, make_instance):
    cast.charlie.is_staff = cast.charlie.is_superuser = True
    cast.charlie.save()
    bastion, web = make_instance("bastion"), make_instance("web-01")
    visitor = sign_in(cast.charlie)
    assert "may not do this" in visitor.post(page(web), {"jump_host": bastion.pk}).text
    answer = visitor.post(page(web, "delete"), {"post": "yes"}, follow=True)
    assert answer.redirect_chain == [(page(web, "delete"), 302)]
    assert "may not do this" in answer.text
    assert not LogEntry.objects.exists()
    assert Instance.objects.filter(jump_host=None).count() == 2


def test_a_jump_host_in_use_is_not_deleted(admin, make_instance):
    bastion = make_instance("bastion")
    web = make_instance("web-01", jump_host=bastion)
    assert "protected" in admin.get(page(bastion, "delete")).text
    admin.post(page(bastion, "delete"), {"post": "yes"})
    assert Instance.objects.count() == 2
    admin.post(page(web, "delete"), {"post": "yes"})
    admin.post(LIST, selected(bastion, confirmed="yes"))
    assert not Instance.objects.exists()


LIST = "/admin/commands/instance/"


def selected(*instances, action="remove", **more):
    return {"action": action, "_selected_action": [each.pk for each in instances], **more}


def test_several_are_removed_after_they_are_shown(admin, make_instance):
    bastion, alone = make_instance("bastion"), make_instance("alone")
    behind = make_instance("behind", jump_host=bastion)
    asked = admin.post(LIST, selected(bastion, behind, alone))
    assert "Remove these instances" in asked.text
    assert Instance.objects.count() == 3
    told = admin.post(LIST, selected(bastion, behind, alone, confirmed="yes"), follow=True)
    assert "3 instances were removed." in told.text
    assert not Instance.objects.exists()
    assert sorted(LogEntry.objects.values_list("object_repr", flat=True)) == [
        "alone",
        "bastion",
        "behind",
    ]


def test_what_is_refused_is_said_and_not_logged_and_the_rest_is_removed(admin, cast, make_instance):
    mine, theirs, bastion = (make_instance(name) for name in ("mine", "theirs", "bastion"))
    make_instance("behind", jump_host=bastion)
    Instance.objects.filter(pk=theirs.pk).update(team=cast.other_team)
    told = admin.post(LIST, selected(theirs, bastion, mine, confirmed="yes"), follow=True)
    assert "1 instance was removed." in told.text
    assert "You may not do this in this team." in told.text
    assert "astion is the jump host of behind" in told.text
    assert set(Instance.objects.values_list("name", flat=True)) == {"theirs", "bastion", "behind"}
    (noted,) = LogEntry.objects.all()
    assert (noted.object_repr, noted.object_id) == ("mine", str(mine.pk))


def test_django_s_own_way_to_delete_several_is_gone(admin, make_instance):
    web = make_instance("web-01")
    assert "delete_selected" not in admin.get(LIST).text
    admin.post(LIST, selected(web, action="delete_selected", post="yes"))
    assert Instance.objects.filter(pk=web.pk).exists()
    assert not LogEntry.objects.exists()
