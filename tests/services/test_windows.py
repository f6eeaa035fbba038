"""Windows is off until an admin enables it; then its types are run there, and only there."""

from __future__ import annotations

import pytest
from django.utils import timezone

from commands.errors import InvalidFields
from commands.models import Instance, Run
from commands.rules.content import CommandType
from commands.services import eligibility, invocations, runs
from commands.services.definitions import CommandInput

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]


@pytest.fixture
def on(settings):
    settings.CONSOLE_WINDOWS = True


@pytest.fixture
def host(fleet):
    Instance.objects.filter(pk=fleet[0].pk).update(os_type="windows")
    return Instance.objects.get(pk=fleet[0].pk)


@pytest.fixture
def create(cast, host):
    def make(kind="RunPowerShellScript", **columns):
        return invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="n", type=kind, content="echo hi\n", **columns),
            instance_uids=[host.uid],
            now=timezone.now(),
        )

    return make


def claim(task):
    keys = [run.pk for run in task.runs.all()]
    return runs.claim(run_ids=keys, owner="me", now=timezone.now())


@pytest.mark.parametrize("kind", ["RunPowerShellScript", "RunBatScript"])
def test_off_until_an_admin_enables_it(create, host, kind):
    with pytest.raises(InvalidFields, match=r"An admin can enable it.*CONSOLE_WINDOWS"):
        create(kind)
    assert not Run.objects.exists()
    assert not eligibility.fitting(Instance.objects.all(), CommandType(kind)).exists()


@pytest.mark.parametrize(
    ("kind", "language", "script"),
    [
        ("RunPowerShellScript", "powershell", b"echo hi\n"),
        ("RunBatScript", "bat", b"echo hi\r\n"),
    ],
)
def test_on(on, create, host, kind, language, script):
    assert list(eligibility.fitting(Instance.objects.all(), CommandType(kind))) == [host]
    [claimed] = claim(create(kind))
    assert (claimed.endpoint.system, claimed.spec.language) == ("windows", language)
    assert claimed.spec.script == script


def test_linux_stays_linux(on, fleet, create):
    with pytest.raises(InvalidFields, match="Shell runs on Linux"):
        create("RunShellScript")
    assert runs.endpoint(fleet[1]).system == "linux"


def test_a_task_that_waited_until_it_was_switched_off(settings, create):
    settings.CONSOLE_WINDOWS = True
    task = create()
    settings.CONSOLE_WINDOWS = False
    assert claim(task) == []
    run = task.runs.get()
    assert (run.status, run.error_code) == ("Invalid", "CommandNotApplicable")
    assert "CONSOLE_WINDOWS" in run.error_info


@pytest.mark.parametrize("other", ["RunBatScript", "RunShellScript"])
def test_a_script_is_bound_to_its_language(on, create, host, other):
    """What is harmless in one language need not be in another."""
    task = create()
    type(task).objects.filter(pk=task.pk).update(type=other)
    if other == "RunShellScript":
        Instance.objects.filter(pk=host.pk).update(os_type="linux")
    assert claim(task) == []
    assert task.runs.get().error_code == "TaskAltered"


def test_an_instance_that_became_another(on, create, host):
    task = create()
    Instance.objects.filter(pk=host.pk).update(os_type="linux")
    assert claim(task) == []
    run = task.runs.get()
    assert (run.status, run.error_code) == ("Invalid", "CommandNotApplicable")


def test_no_launcher_and_no_other_user(on, create):
    with pytest.raises(InvalidFields) as caught:
        create(launcher="powershell -Command", run_as="alice")
    assert set(caught.value.errors) == {"launcher", "run_as"}
