"""``manage.py windows_selftest``, against a server that plays a Windows instance.

Its scripts are replaced by ones that this server understands: what is proved is that every check
passes where it should and fails where it should.
"""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from commands.execution.executor import Cancelled
from commands.execution.fake import FakeExecutor
from commands.models import Instance
from commands.services import instances, runs, selftest
from tests.execution.windows_host import USER, windows_host

pytestmark = pytest.mark.django_db

SCRIPTS = {
    "nothing": "exit 0\n",
    "seven": "exit 7\n",
    "seven.bat": "exit 7\n",
    "crash": "exit 3221225477\n",
    "throw": "err meant to fail\nexit 1\n",
    "apart": "say out\nerr err\n",
    "lines.bat": "say one\nsay two\n",
    "letters": "say 233,20013\n",
    "tree": "say 123\nsleep 600\n",
    "alive": "exit 0\n",
    "sleep": "say begun\nsleep 600\n",
    "slow": "say one\nsleep 0.5\nsay two\nexit 3\n",
}


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    assert SCRIPTS.keys() == selftest.SCRIPTS.keys()
    mine = dict(SCRIPTS)
    monkeypatch.setattr(selftest, "SCRIPTS", mine)
    monkeypatch.setattr(selftest, "TIMEOUT_S", 1)
    return mine


@pytest.fixture
def host():
    with windows_host() as host:
        host.fake = FakeExecutor(missing=[selftest.MISSING])
        yield host


@pytest.fixture
def instance(cast, host):
    credential = instances.add_credential(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        name="Windows key",
        private_key=host.endpoint.private_key,
    )
    return instances.add_instance(
        actor=cast.alice,
        team=cast.team,
        region=cast.region,
        name="win-01",
        host="127.0.0.1",
        port=host.endpoint.port,
        user=USER,
        credential=credential,
        host_key=host.endpoint.host_key,
        os_type="windows",
    )


def run(name="win-01"):
    """What it printed, and the error it ended with."""
    output = io.StringIO()
    try:
        call_command("windows_selftest", name, stdout=output)
    except CommandError as error:
        return output.getvalue(), str(error)
    return output.getvalue(), ""


def failed(text):
    return [line[6:] for line in text.splitlines() if line.startswith("FAIL")]


def test_all_is_well(instance, host):
    text, error = run(instance.uid)
    assert (failed(text), error) == ([], "")
    assert text.count("\nok ") == 12
    assert "Set CONSOLE_WINDOWS=true" in text


@pytest.mark.parametrize(
    ("script", "text", "check"),
    [
        ("seven", "exit 0\n", "Exit codes arrive, of PowerShell and Bat"),
        ("throw", "err oops\n", "Exit codes arrive, of PowerShell and Bat"),
        ("crash", "exit 255\n", "Exit codes have 32 bits"),
        ("apart", "say out\nsay err\n", "stdout and stderr arrive apart"),
        ("letters", "say 195,169\n", "Scripts are read in their own encoding"),
        ("tree", "say 123\n", "A timeout ends the script and what it started"),
        ("alive", "exit 1\n", "A timeout ends the script and what it started"),
        ("sleep", "say begun\n", "Cancelling ends the script"),
        ("slow", "say one\nexit 3\n", "A script outlives its connection and is followed again"),
    ],
)
def test_what_is_wrong_is_said_with_advice(instance, scripts, script, text, check):
    scripts[script] = text
    told, error = run()
    [name] = failed(told)
    assert name.startswith(check)
    assert error == "1 of 12 checks failed."
    after = told.split(name)[1].splitlines()
    assert after[1].startswith("      ")
    assert after[2].startswith("      ")


def test_a_run_that_starts_twice(instance, host, monkeypatch):
    start = host.fake.start

    def forget(*given):
        for one in host.fake._instances.values():
            one.runs.clear()
            one.done.clear()
        return start(*given)

    monkeypatch.setattr(host.fake, "start", forget)
    assert "One run is started once, also after it was forgotten" in failed(run()[0])


def test_a_directory_that_is_not_missing(instance, host):
    host.fake = FakeExecutor(missing=[])
    assert failed(run()[0]) == ["A missing execution path is refused"]


def test_processes_that_are_left(instance, host, monkeypatch):
    monkeypatch.setattr(host.fake, "cancel", lambda *_: Cancelled(2))
    monkeypatch.setattr(selftest, "LIMIT_S", 2.0)
    assert "Cancelling ends the script" in failed(run()[0])


def test_without_powershell_it_ends_early(instance, host):
    host.says = "'powershell.exe' is not recognized"
    text, error = run()
    assert failed(text) == ["PowerShell takes a program and runs a script detached"]
    assert "not recognized" in text
    assert error == "1 of 2 checks failed."


def test_an_instance_that_does_not_answer(instance, host):
    host.close()
    text, error = run()
    assert failed(text) == ["The instance answers and lets the console sign in"]
    assert error == "1 of 1 checks failed."


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("nobody", "no instance nobody"), ("web-01", "not a Windows instance"), ("twin", "Several")],
)
def test_which_instance(instance, fleet, name, sentence):
    Instance.objects.filter(name__in=["web-02", "web-03"]).update(name="twin")
    assert sentence in run(name)[1]


def test_it_reads_no_setting(instance, settings):
    settings.CONSOLE_WINDOWS = False
    assert runs.endpoint(instance).system == "windows"
    assert run()[1] == ""
