"""What actions do and tell, and the codes of what they refuse."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.models import Config
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.models import Command, Invocation, OutputChunk, Run, User
from commands.rules import limits
from commands.rules.quotas import Quota
from commands.services import instances, quotas, restrictions, scripts
from console.api import output
from tests.signing import Program

pytestmark = pytest.mark.django_db
SHELL = {"Type": "RunShellScript", "CommandContent": "echo hello"}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def refused(answer: tuple[int, dict]) -> tuple[int, str]:
    status, body = answer
    return status, body.get("Code", "none")


def fine(answer: tuple[int, dict]) -> dict:
    status, body = answer
    assert status == 200, body
    return body


@pytest.fixture
def on(fleet) -> dict[str, str]:
    return {"InstanceId_1": fleet[0].uid}


@pytest.fixture
def run(bob, on):
    """Run a command; its task."""

    def go(**more: str) -> Invocation:
        body = fine(bob.call("RunCommand", **{**SHELL, **on, **more}))
        task = Invocation.objects.get(uid=body["InvokeId"])
        assert task.command_uid == body["CommandId"]
        return task

    return go


@pytest.fixture
def saved(bob):
    """Keep a command; its id."""

    def go(name: str = "Say", content: str = "echo hello", **more: str) -> str:
        given = {"Name": name, "Type": "RunShellScript", "CommandContent": b64(content), **more}
        return fine(bob.call("CreateCommand", **given))["CommandId"]

    return go


class TestCommands:
    """CreateCommand, ModifyCommand, DeleteCommand, DescribeCommands."""

    def test_one_is_kept_as_it_is_given(self, bob, saved):
        uid = saved(
            "Backup",
            "tar -cf /tmp/x {{file}}\n",
            Description="Nightly",
            WorkingDir="/srv",
            Timeout="5",
            EnableParameter="True",
            Launcher="sh",
            Tag_1_Key="team",
            Tag_1_Value="web",
        )
        body = fine(bob.call("DescribeCommands", CommandId=uid))
        (found,) = body["Commands"]["Command"]
        created = found.pop("CreationTime")
        assert created.endswith("Z")
        assert found == {
            "CommandId": uid,
            "Name": "Backup",
            "Description": "Nightly",
            "Type": "RunShellScript",
            "CommandContent": b64("tar -cf /tmp/x {{file}}\n"),
            "WorkingDir": "/srv",
            "Timeout": 10,
            "EnableParameter": True,
            "ParameterNames": {"ParameterName": ["file"]},
            "ParameterDefinitions": {"ParameterDefinition": []},
            "InvokeTimes": 0,
            "Category": "",
            "Provider": "",
            "ResourceGroupId": Command.objects.get().resource_group.uid,
            "Launcher": "sh",
            "Tags": {"Tag": [{"TagKey": "team", "TagValue": "web"}]},
        }

    def test_plain_text_in_and_out(self, bob):
        plain = {"ContentEncoding": "plaintext"}
        given = {"Name": "Say", "Type": "RunShellScript", "CommandContent": "echo ü"}
        fine(bob.call("CreateCommand", **given, **plain))
        (found,) = fine(bob.call("DescribeCommands", **plain))["Commands"]["Command"]
        assert found["CommandContent"] == "echo ü"

    def test_a_new_version_changes_what_is_given_and_nothing_else(self, bob, saved):
        uid = saved(Description="Nightly", WorkingDir="/srv")
        fine(bob.call("ModifyCommand", CommandId=uid, Name="Tell", Timeout="90", Description=""))
        command = Command.objects.get(uid=uid)
        version = command.versions.get(number=2)
        assert (command.name, command.description, command.latest) == ("Tell", "", 2)
        assert (version.content, version.workdir, version.timeout) == ("echo hello", "/srv", 90)
        fine(bob.call("ModifyCommand", CommandId=uid, CommandContent=b64("rm")))  # no effect
        assert Command.objects.get(uid=uid).latest == 2

    def test_one_is_deleted_unless_it_runs(self, bob, saved, on):
        uid = saved()
        fine(bob.call("InvokeCommand", CommandId=uid, **on))
        assert refused(bob.call("DeleteCommand", CommandId=uid)) == (403, "Operation.Forbidden")
        Run.objects.update(status="Success", finished_at=timezone.now(), exit_code=0)
        fine(bob.call("DeleteCommand", CommandId=uid))
        assert refused(bob.call("DeleteCommand", CommandId=uid)) == (404, "InvalidCmdId.NotFound")
        assert refused(bob.call("ModifyCommand", CommandId=uid)) == (404, "InvalidCmdId.NotFound")

    def test_they_are_found_by_name_type_and_description(self, bob, saved):
        for name in ("backup web", "backup db", "restore"):
            saved(name, Description=f"to {name}")

        def names(**wanted: str) -> list[str]:
            body = fine(bob.call("DescribeCommands", **wanted))
            assert body["TotalCount"] == len(body["Commands"]["Command"])
            return sorted(each["Name"] for each in body["Commands"]["Command"])

        assert names(Name="backup*") == ["backup db", "backup web"]
        assert names(Name="b*k*b") == ["backup db", "backup web"]
        assert names(Name="*w*") == ["backup web"]
        assert names(Name="backup") == []
        assert names(Name="a\0*") == []
        assert names(Name="BACKUP*") == names(Name="Backup*") == ["backup db", "backup web"]
        assert names(Name="Restore") == names(Name="*TORE") == names(Name="RES*") == ["restore"]
        assert names(Name="%") == names(Name="restor_") == names(Name="*%*") == []
        assert names(Name="*" * 1_000 + "web") == ["backup web"]
        assert names(Name="restore" + "*a" * 16) == []
        assert names(Description="to restore") == ["restore"]
        assert names(Type="RunBatScript") == []
        assert names(CommandId="c-ü") == []
        assert names(Provider="AlibabaCloud") == []
        assert len(names(Provider="User")) == 3

    @pytest.mark.parametrize(
        ("changed", "status", "code"),
        [
            ({"Name": ""}, 400, "MissingParameter"),
            ({"Type": ""}, 400, "MissingParameter"),
            ({"CommandContent": ""}, 400, "MissingParameter"),
            ({"CommandContent": "%"}, 400, "CmdContent.DecodeError"),
            ({"CommandContent": base64.b64encode(b"\xff").decode()}, 400, "CmdContent.DecodeError"),
            ({"CommandContent": b64("a\0b")}, 400, "CmdContent.IllegalCharacter"),
            ({"CommandContent": b64("x" * 13_825)}, 403, "CmdContent.ExceedLimit"),
            ({"Name": "x" * 129}, 403, "CmdName.ExceedLimit"),
            ({"Name": "a\nb"}, 403, "InvalidParameterCharacter.CommandName"),
            ({"Description": "x" * 513}, 403, "CmdDesc.ExceedLimit"),
            ({"Description": "a\x01"}, 403, "InvalidParameterCharacter.CommandDescription"),
            ({"WorkingDir": "srv"}, 400, "InvalidParameter.WorkingDir"),
            ({"WorkingDir": "/" + "x" * 200}, 400, "InvalidParameter.WorkingDir"),
            ({"WorkingDir": "/a\nb"}, 403, "InvalidParameterCharacter.CommandWorkingDir"),
            ({"Type": "RunPython"}, 404, "InvalidCmdType.NotFound"),
            ({"Timeout": "86401"}, 403, "InvalidTimeout.ExceedLimit"),
            ({"Timeout": "soon"}, 400, "InvalidTimeout.Malformed"),
            ({"TerminationMode": "Gently"}, 404, "InvalidTerminationMode.NotFound"),
            ({"Username": "x" * 33}, 403, "Username.ExceedLimit"),
            ({"Username": "a b"}, 400, "InvalidParameter.Username"),
            ({"Launcher": "x" * 1025}, 403, "InvalidLauncher.LengthLimitExceeded"),
            ({"EnableParameter": "maybe"}, 400, "InvalidParameter"),
            ({"Tag_1_Value": "x"}, 400, "MissingParameter.TagKey"),
            ({"Tag_1_Key": "aliyun"}, 400, "InvalidTagKey.Malformed"),
            ({"Tag_1_Key": "a", "Tag_1_Value": "x" * 129}, 400, "InvalidTagValue.Malformed"),
            ({"Tag_1_Key": "a", "Tag_2_Key": "a"}, 400, "Duplicate.TagKey"),
            ({f"Tag_{n}_Key": f"k{n}" for n in range(1, 22)}, 400, "NumberExceed.Tags"),
            ({"ResourceGroupId": "rg-1"}, 404, "InvalidResourceGroup.NotFound"),
            ({"ContainerName": "x"}, 400, "InvalidParameter"),
        ],
    )
    def test_what_is_wrong_has_a_code(self, bob, changed, status, code):
        given = {"Name": "Say", "Type": "RunShellScript", "CommandContent": b64("ls"), **changed}
        assert refused(bob.call("CreateCommand", **given)) == (status, code)
        assert not Command.objects.exists()

    @pytest.mark.parametrize(
        ("content", "status", "code"),
        [
            ("{{}}", 400, "CmdParam.EmptyKey"),
            ("{{.Name}}", 400, "CmdParam.InvalidParamName"),
            ("{{" + "x" * 65 + "}}", 403, "CmdParamName.ExceedLimit"),
            ("".join(f"{{{{p{n}}}}}" for n in range(21)), 403, "CmdParamCount.ExceedLimit"),
        ],
    )
    def test_placeholders_that_are_none(self, bob, content, status, code):
        given = {"Name": "Say", "Type": "RunShellScript", "CommandContent": b64(f"echo {content}")}
        answer = bob.call("CreateCommand", **given, EnableParameter="true")
        assert refused(answer) == (status, code)
        fine(bob.call("CreateCommand", **given))  # plain text without parameters

    def test_the_first_of_several_problems_gives_its_code_and_all_are_said(self, bob):
        status, body = bob.call(
            "CreateCommand", Name="x" * 129, Type="RunShellScript", CommandContent=b64("a\0")
        )
        assert (status, body["Code"]) == (400, "CmdContent.IllegalCharacter")
        assert "NUL" in body["Message"]
        assert "128 characters" in body["Message"]

    @pytest.mark.parametrize(
        "pattern", ["a*" * 17, "x" * 257, "%" * 60_000, "*" + "x" * 60_000 + "*", "a*" * 1_500]
    )
    def test_patterns_that_are_too_much(self, bob, pattern):
        for action, name in {
            "DescribeCommands": "Name",
            "DescribeInvocations": "CommandName",
            "DescribeInstances": "InstanceName",
        }.items():
            answer = bob.call(action, **{name: pattern})
            assert refused(answer) == (400, "InvalidParameter")
            assert answer[1]["Message"].startswith(f"{name} has up to 256 characters")

    def test_a_library_that_is_full(self, bob, saved, cast, django_user_model):
        root = django_user_model.objects.create_superuser("root")
        place = {"team": cast.team, "region": cast.region}
        quotas.set_limit(actor=root, **place, key=Quota.SAVED_COMMANDS, limit=1)
        saved()
        given = {"Name": "Say", "Type": "RunShellScript", "CommandContent": b64("ls")}
        assert refused(bob.call("CreateCommand", **given)) == (403, "CmdCount.ExceedQuota")


class TestRunning:
    """RunCommand and InvokeCommand."""

    def test_what_is_given_is_what_runs(self, run, fleet):
        task = run(
            CommandContent="echo {{who}} {{Token}}",
            EnableParameter="true",
            Parameters='{"who": "Wēi", "token": "planted"}',
            Timeout="5",
            WorkingDir="/srv",
            Username="deploy",
            TerminationMode="Process",
            Name="Greet",
            InstanceId_2=fleet[1].uid,
            Tag_1_Key="a",
        )
        assert (task.name, task.timeout, task.timeout_asked) == ("Greet", 10, 5)
        assert (task.workdir, task.run_as, task.termination) == ("/srv", "deploy", "Process")
        assert json.loads(task.values) == {"who": "Wēi", "token": "planted"}
        assert task.hidden == ["token"]
        assert task.tags == {"a": ""}
        assert list(task.runs.values_list("instance_uid", flat=True)) == [
            fleet[0].uid,
            fleet[1].uid,
        ]
        script = scripts.Script.of(task).filled(scripts.place_of(task.runs.first()))
        assert script == "echo Wēi planted"

    def test_a_name_is_that_of_the_key_unless_given(self, run):
        assert run().name == "Nightly"

    def test_plain_text_is_usual_and_base64_is_understood(self, run):
        assert run(CommandContent=b64("ls")).content == b64("ls")
        assert run(CommandContent=b64("ls"), ContentEncoding="base64").content == "ls"
        assert run(CommandContent="ls", ContentEncoding="rot13").content == "ls"

    def test_it_is_kept_only_if_that_is_asked_for(self, run):
        assert not run().saved
        assert run(KeepCommand="False").saved is False
        assert run(KeepCommand="True").saved is True
        assert Command.objects.kept().count() == 1

    def test_the_same_token_makes_one_task(self, bob, run, on):
        once = {"ClientToken": "once"}
        assert run(**once) == run(**once)
        other = bob.call("RunCommand", **{**SHELL, **on, **once, "Timeout": "99"})
        assert refused(other) == (403, "IdempotentParameterMismatch")
        assert other[1]["Message"].startswith("The ClientToken came with other parameters before.")
        assert Invocation.objects.count() == 1

    @pytest.mark.parametrize(
        ("changed", "status", "code"),
        [
            ({"InstanceId_1": ""}, 400, "MissingParam.InstanceId"),
            ({"InstanceId_1": "i-none"}, 404, "InvalidInstance.NotFound"),
            ({"InstanceId_1": "ü"}, 404, "InvalidInstance.NotFound"),
            ({"Type": "RunBatScript"}, 400, "InvalidInstance.NotMatch"),
            ({f"InstanceId_{n}": f"i-{n}" for n in range(2, 53)}, 403, "InstanceIds.ExceedLimit"),
            ({"Frequency": "rate(5m)"}, 400, "InvalidParam.Frequency"),
            ({"RepeatMode": "EveryReboot"}, 404, "InvalidRepeatMode.NotFound"),
            ({"ResourceTag_1_Key": "a"}, 400, "InvalidParameter"),
            ({"ContainerId": "x"}, 400, "InvalidParameter"),
            ({"OssOutputDelivery": "oss://x"}, 400, "InvalidParameter"),
            ({"ClientToken": "ü"}, 400, "InvalidClientToken.Malformed"),
            ({"Parameters": '{"a": "b"}'}, 400, "Parameter.Disabled"),
        ],
    )
    def test_what_is_wrong_has_a_code(self, bob, on, changed, status, code):
        answer = bob.call("RunCommand", **{**SHELL, **on, **changed})
        assert refused(answer) == (status, code)
        assert not Invocation.objects.exists()

    @pytest.mark.parametrize(
        ("values", "status", "code"),
        [
            ("{'who': 'Lin'}", 400, "InvalidParameter.Parameters"),
            ("[" * 5_000, 400, "InvalidParameter.Parameters"),
            ('["who"]', 400, "InvalidParameter.Parameters"),
            ('{"who": 1}', 403, "ParameterType.NotSupported"),
            ('{"who": "a", "who": "b"}', 403, "ParameterKey.Duplicate"),
            ('{"who": "a", "WHO": "b"}', 403, "ParameterKey.Duplicate"),
            ('{"whom": "a"}', 403, "Parameter.NotMatched"),
            ('{"": "a"}', 403, "ParameterKey.ExceedLimit"),
            ('{"who": "\\u0000"}', 403, "InvalidParameterCharset.Parameters"),
            (json.dumps({f"p{n}": "" for n in range(21)}), 403, "ParameterCount.ExceedLimit"),
            (json.dumps({"who": "x" * 14_000}), 403, "CmdContent.ExceedLimit"),
        ],
    )
    def test_values_that_are_wrong(self, bob, on, values, status, code):
        given = {**SHELL, **on, "CommandContent": "echo {{who}}", "EnableParameter": "true"}
        assert refused(bob.call("RunCommand", **given, Parameters=values)) == (status, code)

    def test_a_value_that_is_missing_is_empty(self, run):
        task = run(CommandContent="echo {{who}}", EnableParameter="true")
        assert json.loads(task.values) == {"who": ""}

    def test_the_tasks_of_the_day_are_used_up(self, bob, run, on, cast, django_user_model):
        root = django_user_model.objects.create_superuser("root")
        place = {"team": cast.team, "region": cast.region}
        quotas.set_limit(actor=root, **place, key=Quota.TASKS_PER_DAY, limit=1)
        run()
        answer = bob.call("RunCommand", **SHELL, **on)
        assert refused(answer) == (403, "Invocation.ExceedQuota")

    def test_a_saved_command_runs_with_what_differs_this_time(self, bob, saved, on):
        uid = saved(content="echo {{who}}", EnableParameter="true")
        body = fine(
            bob.call(
                "InvokeCommand",
                CommandId=uid,
                Parameters='{"who": "Lin"}',
                Timeout="99",
                WorkingDir="/srv",
                **on,
            )
        )
        task = Invocation.objects.get(uid=body["InvokeId"])
        assert (task.command_uid, task.timeout, task.workdir) == (uid, 99, "/srv")
        assert json.loads(task.values) == {"who": "Lin"}
        again = fine(bob.call("InvokeCommand", CommandId=uid, **on))
        assert Invocation.objects.get(uid=again["InvokeId"]).timeout == 60

    @pytest.mark.parametrize(
        ("changed", "status", "code"),
        [
            ({"CommandId": ""}, 400, "MissingParameter"),
            ({"CommandId": "c-none"}, 404, "InvalidCmdId.NotFound"),
            ({"Username": "root"}, 400, "InvalidParameter"),
            ({"Tag_1_Key": "a"}, 400, "InvalidParameter"),
            ({"Frequency": "rate(5m)"}, 400, "InvalidParam.Frequency"),
            ({"Parameters": '{"a": "b"}'}, 400, "Parameter.Disabled"),
            ({"InstanceId_1": ""}, 400, "MissingParam.InstanceId"),
        ],
    )
    def test_what_is_wrong_with_a_saved_one(self, bob, saved, on, changed, status, code):
        given = {"CommandId": saved(), **on, **changed}
        assert refused(bob.call("InvokeCommand", **given)) == (status, code)

    def test_a_narrowed_member_s_key_is_narrowed(self, bob, cast, fleet, on):
        instances.set_tags(actor=cast.alice, instance=fleet[1], tags=[("role", "db")])
        membership = cast.bob.memberships.get(team=cast.team)
        wanted = [("instance_tag", "role=db")]
        restrictions.set_all(actor=cast.alice, membership=membership, wanted=wanted)
        answer = bob.call("RunCommand", **SHELL, **on)
        assert refused(answer) == (404, "InvalidInstance.NotFound")
        fine(bob.call("RunCommand", **SHELL, InstanceId_1=fleet[1].uid))
        (found,) = fine(bob.call("DescribeInstances"))["Instances"]["Instance"]
        assert found["InstanceId"] == fleet[1].uid


def finish(run: Run, text: bytes = b"", *, exit_code: int = 0, parts: int = 1) -> None:
    """Let a run end that printed ``text``, in so many parts."""
    size = max(-(-len(text) // parts), 1)
    for sequence, start in enumerate(range(0, len(text), size)):
        OutputChunk.objects.create(
            run=run,
            sequence=sequence,
            stream=1,
            offset=start,
            data=text[start : start + size],
            arrived_at=timezone.now(),
        )
    began = timezone.now() - timedelta(seconds=3)
    Run.objects.filter(pk=run.pk).update(
        status="Failed" if exit_code else "Success",
        phase="finished",
        exit_code=exit_code,
        error_code="ExitCodeNonzero" if exit_code else "",
        error_info="It ended with 3." if exit_code else "",
        stdout_size=len(text),
        started_at=began,
        finished_at=began + timedelta(seconds=2),
    )


class TestTelling:
    """DescribeInvocations, DescribeInvocationResults, StopInvocation."""

    def results(self, program: Program, **wanted: str) -> list[dict]:
        body = fine(program.call("DescribeInvocationResults", **wanted))["Invocation"]
        found: list[dict] = body["InvocationResults"]["InvocationResult"]
        return found

    def test_a_run_that_succeeded(self, bob, run, fleet):
        task = run(Tag_1_Key="a", Tag_1_Value="b")
        finish(task.runs.get(), "grüße\n".encode())
        (found,) = self.results(bob, InvokeId=task.uid)
        times = {name: found.pop(name) for name in ("StartTime", "FinishedTime")}
        assert all(each.endswith("Z") for each in times.values())
        assert found == {
            "InstanceId": fleet[0].uid,
            "InvocationStatus": "Success",
            "ExitCode": 0,
            "Output": b64("grüße\n"),
            "Dropped": 0,
            "Repeats": 1,
            "ErrorCode": "",
            "ErrorInfo": "",
            "StopTime": "",
            "CommandId": task.command_uid,
            "InvokeId": task.uid,
            "InvokeRecordStatus": "Finished",
            "Username": "",
            "Launcher": "",
            "TerminationMode": "ProcessTree",
            "ContainerId": "",
            "ContainerName": "",
            "Tags": {"Tag": [{"TagKey": "a", "TagValue": "b"}]},
        }
        (plain,) = self.results(bob, InvokeId=task.uid, ContentEncoding="PlainText")
        assert plain["Output"] == "grüße\n"

    def test_one_that_failed_and_one_that_waits(self, bob, run, fleet):
        task = run(InstanceId_2=fleet[1].uid)
        finish(task.runs.first(), exit_code=3)
        waits, failed = self.results(bob)
        assert (failed["InvocationStatus"], failed["InvokeRecordStatus"]) == ("Failed", "Finished")
        assert (failed["ExitCode"], failed["ErrorCode"]) == (3, "ExitCodeNonzero")
        assert failed["ErrorInfo"] == "It ended with 3."
        assert (waits["InvocationStatus"], waits["Repeats"]) == ("Pending", 0)
        assert "ExitCode" not in waits

    @pytest.mark.parametrize("parts", [1, 7, 300])
    @pytest.mark.parametrize("more", [0, 1, 100_000])
    def test_of_much_output_the_beginning_and_the_end(self, run, more, parts):
        text = bytes(n % 251 for n in range(limits.API_OUTPUT_BYTES + more))
        finish(run().runs.get(), text, parts=parts)
        found = Run.objects.get()
        kept, dropped = output.of([found])[found.pk]
        assert dropped == more
        head = limits.API_OUTPUT_HEAD_BYTES
        assert kept[:head] == text[:head]
        assert kept[head:] == text[head + more :]

    @pytest.mark.data_layer
    @pytest.mark.parametrize("size", [3, 500, 30_000])
    def test_of_both_streams_the_first_and_the_last_bytes_that_arrived(self, run, size):
        found, sizes, arrived = run().runs.get(), {1: 0, 2: 0}, b""
        chunks = []
        for sequence in range(90_000 // size):
            stream, data = 1 + (sequence * 7 // 3) % 2, bytes([sequence % 251]) * size
            place = {"run": found, "sequence": sequence, "arrived_at": timezone.now()}
            chunks.append(OutputChunk(**place, stream=stream, offset=sizes[stream], data=data))
            sizes[stream] += size
            arrived += data
        OutputChunk.objects.bulk_create(chunks, batch_size=500)
        Run.objects.update(stdout_size=sizes[1], stderr_size=sizes[2])
        kept, dropped = output.of([found])[found.pk]
        head, most = limits.API_OUTPUT_HEAD_BYTES, limits.API_OUTPUT_BYTES
        assert kept == arrived[:head] + arrived[head - most :]
        assert dropped == len(arrived) - most

    def test_output_that_came_after_the_run_was_read(self, run):
        early = run().runs.get()
        text = bytes(n % 251 for n in range(200_000))
        finish(early, text, parts=9)
        assert early.stdout_size == 0
        kept, dropped = output.of([early])[early.pk]
        assert len(kept) == limits.API_OUTPUT_BYTES
        assert dropped == len(text) - len(kept)

    def test_output_of_a_page_takes_one_query_and_only_what_is_needed(
        self, run, fleet, django_assert_num_queries, monkeypatch
    ):
        task = run(InstanceId_2=fleet[1].uid, InstanceId_3=fleet[2].uid)
        text = bytes(n % 251 for n in range(200_000))
        for each in task.runs.all():
            finish(each, text, parts=200)
        runs = list(Run.objects.all())
        read: list[int] = []
        monkeypatch.setattr(output, "bytes", lambda data: read.append(len(data)) or data, False)
        with django_assert_num_queries(1):
            found = output.of(runs)
        assert all(len(kept) == limits.API_OUTPUT_BYTES for kept, _dropped in found.values())
        assert sum(read) < 3 * (limits.API_OUTPUT_BYTES + 2 * 1_000)

    def test_of_many_runs_only_so_many_come_with_output(self, bob, run, fleet, monkeypatch):
        monkeypatch.setattr(output, "RUNS", 2)
        task = run(InstanceId_2=fleet[1].uid, InstanceId_3=fleet[2].uid)
        for each in task.runs.all():
            finish(each, b"hello")
        wanted = {"InvokeId": task.uid, "IncludeOutput": "true"}
        (found,) = fine(bob.call("DescribeInvocations", **wanted))["Invocations"]["Invocation"]
        told = [
            (each["Output"], each["Dropped"]) for each in found["InvokeInstances"]["InvokeInstance"]
        ]
        assert told == [(b64("hello"), 0), (b64("hello"), 0), ("", 5)]

    def test_output_of_the_instance_that_is_named_and_of_no_other(self, bob, run, fleet):
        task = run(InstanceId_2=fleet[1].uid)
        for each in task.runs.all():
            finish(each, b"hello")
        wanted = {"InstanceId": fleet[1].uid, "IncludeOutput": "true"}
        (found,) = fine(bob.call("DescribeInvocations", **wanted))["Invocations"]["Invocation"]
        told = {
            each["InstanceId"]: each["Output"]
            for each in found["InvokeInstances"]["InvokeInstance"]
        }
        assert told == {fleet[0].uid: "", fleet[1].uid: b64("hello")}

    @pytest.mark.parametrize("action", ["DescribeInvocations", "DescribeInvocationResults"])
    def test_more_rows_take_no_more_queries(self, bob, run, fleet, action):
        def queries() -> int:
            with CaptureQueriesContext(connection) as seen:
                fine(bob.call(action, InstanceId=fleet[0].uid, IncludeOutput="true"))
            return len(seen)

        finish(run().runs.get(), b"hello")
        queries()  # the first one notes when the key was used
        before = queries()
        for _ in range(4):
            finish(run().runs.get(), b"hello")
        assert queries() == before

    def test_results_by_state_instance_and_command(self, bob, run, fleet):
        task = run(InstanceId_2=fleet[1].uid)
        finish(task.runs.first())
        assert len(self.results(bob)) == 2
        assert len(self.results(bob, InstanceId=fleet[1].uid)) == 1
        assert len(self.results(bob, CommandId=task.command_uid)) == 2
        assert len(self.results(bob, CommandId="c-ü")) == 0
        for state, number in {
            "Finished": 1,
            "Success": 1,
            "Running": 1,
            "Failed": 0,
            "PartialFailed": 0,
            "nonsense": 0,
        }.items():
            assert len(self.results(bob, InvokeRecordStatus=state)) == number, state
        # Not there, or nobody's: nothing is found.
        assert self.results(bob, InvokeId="t-none") == []

    def test_a_task_with_its_instances(self, bob, run, fleet):
        task = run(
            CommandContent="echo {{who}} {{password}}",
            EnableParameter="true",
            Parameters='{"who": "Lin", "password": "planted"}',
            InstanceId_2=fleet[1].uid,
        )
        finish(task.runs.first(), b"hello")
        body = fine(bob.call("DescribeInvocations", InvokeId=task.uid, IncludeOutput="true"))
        assert "planted" not in json.dumps(body)
        (found,) = body["Invocations"]["Invocation"]
        assert (found["InvocationStatus"], found["InvokeStatus"]) == ("Running", "Running")
        assert found["CommandContent"] == b64("echo {{who}} {{password}}")
        assert json.loads(found["Parameters"]) == {"who": "Lin", "password": "••••••"}
        first, second = found["InvokeInstances"]["InvokeInstance"]
        assert (first["Output"], first["InstanceInvokeStatus"]) == (b64("hello"), "Finished")
        assert first["FinishTime"].endswith("Z")
        assert (second["Output"], second["FinishTime"]) == ("", "")

        (without,) = fine(bob.call("DescribeInvocations"))["Invocations"]["Invocation"]
        assert without["InvokeInstances"]["InvokeInstance"][0]["Output"] == ""
        for ids in ({}, {"InvokeId": ""}, {"InstanceId": ""}, {"CommandId": task.command_uid}):
            answer = bob.call("DescribeInvocations", IncludeOutput="true", **ids)
            assert refused(answer) == (400, "InvalidParameter")

    def test_a_task_has_the_description_of_what_it_runs(self, bob, run):
        run(Description="Nightly")
        (found,) = fine(bob.call("DescribeInvocations"))["Invocations"]["Invocation"]
        assert found["CommandDescription"] == "Nightly"

    def test_a_task_without_parameters_has_an_empty_object_of_them(self, bob, run):
        run()
        (found,) = fine(bob.call("DescribeInvocations"))["Invocations"]["Invocation"]
        assert found["Parameters"] == "{}"

    def test_values_that_can_t_be_decrypted(self, bob, run):
        run(CommandContent="echo {{a}}", EnableParameter="true", Parameters='{"a": "b"}')
        with connection.cursor() as cursor:
            cursor.execute("UPDATE commands_invocation SET \"values\" = 'garbage'")
        (found,) = fine(bob.call("DescribeInvocations"))["Invocations"]["Invocation"]
        assert found["Parameters"] == "{}"

    def test_tasks_by_state_name_type_and_instance(self, bob, run, fleet):
        done, failed = run(Name="done one"), run(Name="failed one")
        finish(done.runs.get())
        finish(failed.runs.get(), exit_code=1)
        run(Name="waits", InstanceId_1=fleet[1].uid)

        def names(**wanted: str) -> list[str]:
            body = fine(bob.call("DescribeInvocations", **wanted))["Invocations"]
            return [each["CommandName"] for each in body["Invocation"]]

        assert names() == ["waits", "failed one", "done one"]  # newest first
        assert names(InvokeStatus="Success") == ["done one"]
        assert names(InvokeStatus="Failed") == ["failed one"]
        assert names(InvokeStatus="Finished") == ["failed one", "done one"]
        assert names(InvokeStatus="Pending") == ["waits"]
        assert names(InvokeStatus="Scheduled") == names(RepeatMode="Period") == []
        assert names(Timed="true") == []
        assert len(names(RepeatMode="Once", Timed="false")) == 3
        assert names(CommandName="*one") == ["failed one", "done one"]
        assert names(InstanceId=fleet[1].uid) == ["waits"]
        ignored = {"CommandName": "nonsense", "RepeatMode": "Period"}
        assert names(InstanceId=fleet[1].uid, **ignored) == ["waits"]
        assert names(CommandId=done.command_uid) == ["done one"]
        assert names(CommandType="RunBatScript") == []

    def test_filters_that_would_be_left_out_are_refused(self, bob):
        for action in ("DescribeInvocations", "DescribeInvocationResults", "DescribeCommands"):
            assert refused(bob.call(action, Tag_1_Key="a")) == (400, "InvalidParameter")
        answer = bob.call("DescribeInvocationResults", IncludeHistory="true")
        assert refused(answer) == (400, "InvalidParameter")

    def test_as_many_are_stopped_by_name_as_there_are(self, bob, run, fleet, monkeypatch):
        """A team's quota may give its tasks more instances than the default."""
        task = run(InstanceId_2=fleet[1].uid)
        monkeypatch.setattr(limits, "INSTANCES_PER_TASK", 1)
        named = {"InstanceId_1": fleet[0].uid, "InstanceId_2": fleet[1].uid}
        fine(bob.call("StopInvocation", InvokeId=task.uid, **named))
        assert set(task.runs.values_list("status", flat=True)) == {"Cancelled"}
        answer = bob.call("StopInvocation", InvokeId=task.uid, **named, InstanceId_3="i-none")
        assert refused(answer) == (403, "InstanceIds.ExceedLimit")

    def test_one_is_stopped_on_some_instances_and_then_on_all(self, bob, run, fleet):
        task = run(InstanceId_2=fleet[1].uid)
        fine(bob.call("StopInvocation", InvokeId=task.uid, InstanceId_1=fleet[1].uid))
        states = dict(task.runs.values_list("instance_uid", "status"))
        assert states == {fleet[0].uid: "Pending", fleet[1].uid: "Cancelled"}
        fine(bob.call("StopInvocation", InvokeId=task.uid))
        (found,) = fine(bob.call("DescribeInvocations"))["Invocations"]["Invocation"]
        assert (found["InvocationStatus"], found["InvokeStatus"]) == ("Stopped", "Stopped")
        stopped = found["InvokeInstances"]["InvokeInstance"][0]
        assert stopped["StopTime"].endswith("Z")
        assert stopped["ErrorCode"] == ""

    @pytest.mark.parametrize(
        ("given", "status", "code"),
        [
            ({}, 400, "MissingParameter"),
            ({"InvokeId": "t-none"}, 404, "InvalidInvokeId.NotFound"),
            ({"InvokeId": "ü"}, 404, "InvalidInvokeId.NotFound"),
            ({"InstanceId_1": "i-none"}, 404, "InvalidInstanceId.NotFound"),
            ({f"InstanceId_{n}": f"i-{n}" for n in range(1, 52)}, 403, "InstanceIds.ExceedLimit"),
        ],
    )
    def test_what_can_t_be_stopped(self, bob, run, given, status, code):
        task = run()
        if "InstanceId_1" in given:
            given = {"InvokeId": task.uid, **given}
        assert refused(bob.call("StopInvocation", **given)) == (status, code)


class TestPages:
    """Pages by number, and by token."""

    @pytest.fixture(autouse=True)
    def commands(self, saved):
        for number in range(5):
            saved(f"c{number}")

    def page(self, bob, **wanted: str) -> tuple[list[str], dict]:
        body = fine(bob.call("DescribeCommands", **wanted))
        return [each["Name"] for each in body["Commands"]["Command"]], body

    def test_by_number(self, bob):
        names, body = self.page(bob, PageSize="2")
        assert names == ["c4", "c3"]
        assert (body["TotalCount"], body["PageNumber"], body["PageSize"]) == (5, 1, 2)
        assert self.page(bob, PageSize="2", PageNumber="3")[0] == ["c0"]
        assert self.page(bob, PageSize="2", PageNumber="999999999")[0] == []

    def test_by_token_also_while_others_are_added(self, bob, saved):
        names, body = self.page(bob, MaxResults="2")
        assert names == ["c4", "c3"]
        saved("c5")
        names, body = self.page(bob, MaxResults="2", NextToken=body["NextToken"])
        assert names == ["c2", "c1"]
        names, body = self.page(bob, MaxResults="2", NextToken=body["NextToken"])
        assert (names, body["NextToken"]) == (["c0"], "")

    def test_ten_unless_others_are_asked_for(self, bob):
        assert self.page(bob)[1]["PageSize"] == 10

    @pytest.mark.parametrize(
        ("wanted", "code"),
        [
            ({"PageSize": "51"}, "InvalidParam.PageSize"),
            ({"PageSize": "0"}, "InvalidParam.PageSize"),
            ({"PageNumber": "-1"}, "InvalidParam.PageNumber"),
            ({"PageNumber": "x"}, "InvalidParam.PageNumber"),
            ({"MaxResults": "51"}, "InvalidParameter.MaxResults"),
            ({"NextToken": "?"}, "InvalidParameter.NextToken"),
            ({"NextToken": "ü"}, "InvalidParameter.NextToken"),
            ({"NextToken": "a"}, "InvalidParameter.NextToken"),
            ({"NextToken": base64.b64encode(b"after x").decode()}, "InvalidParameter.NextToken"),
        ],
    )
    def test_pages_that_there_are_not(self, bob, wanted, code):
        assert refused(bob.call("DescribeCommands", **wanted)) == (400, code)


class TestInstances:
    """DescribeInstances and DescribeCloudAssistantStatus."""

    def names(self, bob, **wanted: str) -> list[str]:
        body = fine(bob.call("DescribeInstances", **wanted))["Instances"]
        return sorted(each["InstanceName"] for each in body["Instance"])

    def test_what_is_known_of_them(self, bob, cast, fleet):
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[("role", "web")])
        wanted = json.dumps([fleet[0].uid])
        (found,) = fine(bob.call("DescribeInstances", InstanceIds=wanted))["Instances"]["Instance"]
        assert found.pop("CreationTime").endswith("Z")
        assert found == {
            "InstanceId": fleet[0].uid,
            "InstanceName": "web-01",
            "Status": "Running",
            "OSType": "linux",
            "OSName": "",
            "RegionId": cast.region.uid,
            "HostName": "127.0.0.1",
            "ResourceGroupId": fleet[0].resource_group.uid,
            "Tags": {"Tag": [{"TagKey": "role", "TagValue": "web"}]},
        }

    def test_they_are_found_by_name_tag_and_state(self, bob, cast, fleet):
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[("role", "web")])
        instances.set_enabled(actor=cast.alice, instance=fleet[1], enabled=False)
        assert self.names(bob, InstanceName="*2") == ["web-02"]
        assert self.names(bob, Tag_1_Key="role", Tag_1_Value="web") == ["web-01"]
        assert self.names(bob, Tag_1_Key="role") == ["web-01"]
        assert self.names(bob, Status="Stopped") == ["web-02"]
        assert self.names(bob, Status="Running") == ["web-01", "web-03"]
        assert self.names(bob, Status="Starting") == []

    @pytest.mark.parametrize("number", [20, 21, 1_000])
    def test_many_tags(self, bob, fleet, number):
        tags = {f"Tag_{n}_Key": f"k{n}" for n in range(number)}
        answer = bob.call("DescribeInstances", **tags)
        if number > limits.TAGS:
            assert refused(answer) == (400, "NumberExceed.Tags")
        else:
            assert fine(answer)["TotalCount"] == 0

    @pytest.mark.parametrize("uids", ["i-1", '{"a": 1}', "[1]", "[" * 5_000])
    def test_ids_that_are_no_list(self, bob, uids):
        answer = bob.call("DescribeInstances", InstanceIds=uids)
        assert refused(answer) == (400, "InvalidParameter")

    def test_too_many_ids(self, bob):
        uids = json.dumps([f"i-{n}" for n in range(101)])
        answer = bob.call("DescribeInstances", InstanceIds=uids)
        assert refused(answer) == (403, "InstanceIds.ExceedLimit")
        many = {f"InstanceId_{n}": f"i-{n}" for n in range(1, 102)}
        answer = bob.call("DescribeCloudAssistantStatus", **many)
        assert refused(answer) == (403, "InstanceIds.ExceedLimit")

    def test_whether_commands_can_run_there(self, bob, cast, fleet, run):
        run()
        finish(run().runs.get())
        instances.set_enabled(actor=cast.alice, instance=fleet[1], enabled=False)
        wanted = {"InstanceId_1": fleet[0].uid, "InstanceId_2": fleet[1].uid, "PageSize": "1"}
        body = fine(bob.call("DescribeCloudAssistantStatus", **wanted))
        off, on = body["InstanceCloudAssistantStatusSet"]["InstanceCloudAssistantStatus"]
        assert (on["CloudAssistantStatus"], off["CloudAssistantStatus"]) == ("true", "false")
        assert (on["InvocationCount"], on["ActiveTaskCount"]) == (2, 1)
        assert on["LastInvokedTime"].endswith("Z")
        assert (off["InvocationCount"], off["LastInvokedTime"], off["OSType"]) == (0, "", "Linux")

        none = fine(bob.call("DescribeCloudAssistantStatus", OSType="Windows"))
        assert none["TotalCount"] == 0
        answer = bob.call("DescribeCloudAssistantStatus", InstanceId_1="i-none")
        assert refused(answer) == (404, "InvalidInstance.NotFound")


class TestAccount:
    """DescribeAccountAttributes."""

    def attributes(self, program: Program, **wanted: str) -> dict[str, list[str]]:
        items = fine(program.call("DescribeAccountAttributes", **wanted))["AccountAttributeItems"]
        return {
            each["AttributeName"]: [item["Value"] for item in each["AttributeValues"]["ValueItem"]]
            for each in items["AccountAttributeItem"]
        }

    def test_it_tells_what_the_team_may_use_here(self, bob, cast, program_of):
        usual = {"max-axt-command-count": ["100"], "max-axt-invocation-daily": ["5000"]}
        assert self.attributes(bob) == usual
        staff = User.objects.create_user("clerk", is_staff=True)
        place = {"team": cast.team, "region": cast.region}
        quotas.set_limit(actor=staff, **place, key=Quota.SAVED_COMMANDS, limit=700)
        assert self.attributes(bob) == usual | {"max-axt-command-count": ["700"]}
        other = program_of(cast.charlie, cast.other_team)
        assert self.attributes(other) == usual

    def test_some_are_asked_for_by_name(self, bob):
        daily = {"AttributeName_1": "max-axt-invocation-daily", "AttributeName_2": "max-else"}
        assert self.attributes(bob, **daily) == {"max-axt-invocation-daily": ["5000"]}
        assert self.attributes(bob, AttributeName_1="max-else") == {}

    def test_what_it_does_not_take(self, bob):
        names = {f"AttributeName_{n}": f"name-{n}" for n in range(1, 10)}
        assert refused(bob.call("DescribeAccountAttributes", **names)) == (400, "InvalidParameter")
        del names["AttributeName_9"]
        assert self.attributes(bob, **names) == {}
        answer = bob.call("DescribeAccountAttributes", ZoneId="a")
        assert refused(answer) == (400, "InvalidParameter")

    def test_an_sdk_asks_and_reads_the_answer(self, bob, monkeypatch):
        client = Client(
            Config(access_key_id="a", access_key_secret="b", endpoint="console.example")
        )

        def call(params, request, _runtime):
            status, body = bob.call(params.action, **request.query)
            return {"body": body, "headers": {}, "statusCode": status}

        monkeypatch.setattr(client, "call_api", call)
        names = ["max-axt-command-count", "max-axt-invocation-daily"]
        wanted = models.DescribeAccountAttributesRequest(region_id=bob.region, attribute_name=names)
        items = client.describe_account_attributes(wanted).body.account_attribute_items
        told = {
            each.attribute_name: [item.value for item in each.attribute_values.value_item]
            for each in items.account_attribute_item
        }
        assert told == dict(zip(names, (["100"], ["5000"]), strict=True))
