"""The admin site's page of an instance: through which host it is reached."""

from __future__ import annotations

import pytest

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
    assert visitor.post(page(web, "delete"), {"post": "yes"}).status_code == 404
    assert Instance.objects.filter(jump_host=None).count() == 2


def test_a_jump_host_in_use_is_not_deleted(admin, make_instance):
    bastion = make_instance("bastion")
    web = make_instance("web-01", jump_host=bastion)
    assert "protected" in admin.get(page(bastion, "delete")).text
    admin.post(page(bastion, "delete"), {"post": "yes"})
    assert Instance.objects.count() == 2
    admin.post(page(web, "delete"), {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": bastion.pk, "post": "yes"}
    admin.post("/admin/commands/instance/", chosen)
    assert not Instance.objects.exists()
