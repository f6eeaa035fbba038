# ruff: noqa: F401, F811 - the fixtures of the other tests of streams
"""Downloads over a real server: all outputs as a ZIP file, results as a table."""

from __future__ import annotations

import asyncio
import csv
import io
import re
import zipfile
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from django.utils import timezone

from commands.models import Invocation, Run
from commands.outputs import store
from commands.services import invocations, pages
from commands.services.definitions import CommandInput
from commands.services.events import Dropped
from commands.services.plans import Values
from console import results
from console.pages import downloads
from tests.console.test_streams import script, server, task, wake_ups
from tests.live import session_cookie
from tests.services.carrying import create_task

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]

BOM = b"\xef\xbb\xbf"


def get(server, user, path):
    request = Request(f"{server}{path}", headers={"Cookie": session_cookie(user)})
    with urlopen(request) as answer:
        return answer.headers, answer.read()


def table(data):
    """The rows of a table, by instance."""
    assert data.startswith(BOM)
    rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    return {row["name"]: row for row in rows}


def unzipped(data):
    """The files of an archive, by name."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert len(set(archive.namelist())) == len(archive.namelist())
        return {name: archive.read(name) for name in archive.namelist()}


class TestOutputs:
    """``/tasks/<id>/output.zip``."""

    def test_every_file_is_the_log_byte_by_byte(self, server, task, script, cast, fleet):
        script.begin()
        script.say(b"one\n\xff\x00\n")
        script.say(b"<script>oops\n", "stderr")
        script.end()
        head, data = get(server, cast.vera, f"/tasks/{task.uid}/output.zip")
        assert head["Content-Type"] == "application/zip"
        assert head["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in head["Content-Security-Policy"]
        name = f'attachment; filename="Hello.{task.uid}.zip"'
        assert head["Content-Disposition"] == name
        files = unzipped(data)
        logs = {f"{one.name}.{one.uid}.log": one.uid for one in fleet}
        assert files.keys() == {"results.csv", *logs}
        for file, uid in logs.items():
            _, log = get(server, cast.vera, f"/tasks/{task.uid}/i/{uid}/log.txt")
            assert files[file] == log
        assert files[f"{fleet[0].name}.{fleet[0].uid}.log"] == b"one\n\xff\x00\n<script>oops\n"
        assert files["results.csv"] == get(server, cast.vera, f"/tasks/{task.uid}/results.csv")[1]

    def test_while_the_task_runs(self, server, task, script, cast, fleet):
        script.begin()
        script.say(b"so far\n")
        script.change(script.run, hostname="h")
        files = unzipped(get(server, cast.vera, f"/tasks/{task.uid}/output.zip")[1])
        assert files[f"{script.run.instance_name}.{script.run.instance_uid}.log"] == b"so far\n"
        assert table(files["results.csv"])[script.run.instance_name]["status"] == "Running"

    def test_what_is_missing_is_said_as_in_the_log(self, server, task, script, cast, settings):
        settings.CONSOLE_OUTPUT_KEPT = 60
        script.begin()
        script.say(b"line 01\n")
        script.recorder.put(Dropped(script.run.pk, "stdout", 8, 1_008, timezone.now()))
        script.end(lost_bytes=4_000)
        uid = script.run.instance_uid
        files = unzipped(get(server, cast.vera, f"/tasks/{task.uid}/output.zip")[1])
        log = get(server, cast.vera, f"/tasks/{task.uid}/i/{uid}/log.txt")[1]
        assert b"between them was dropped" in log
        assert b"found no room" in log
        assert files[f"{script.run.instance_name}.{uid}.log"] == log

    def test_much_output_is_read_and_sent_in_parts(self, server, task, script, cast, monkeypatch):
        monkeypatch.setattr(store, "WHOLE_BYTES", 1)
        monkeypatch.setattr(store, "BATCH", 2)
        monkeypatch.setattr(downloads, "ZIP64_BYTES", 1)
        monkeypatch.setattr(pages, "CHUNK_BYTES", 100)
        script.begin()
        said = b"".join(b"%04d\n" % n for n in range(500))
        script.say(said)
        script.end()
        files = unzipped(get(server, cast.vera, f"/tasks/{task.uid}/output.zip")[1])
        assert files[f"{script.run.instance_name}.{script.run.instance_uid}.log"] == said

    def test_a_run_that_goes_meanwhile_is_left_out(self, server, task, cast, monkeypatch):
        gone, there = task.runs.order_by("pk")[:2]
        ids = [gone.pk, there.pk]
        monkeypatch.setattr(downloads, "_run_ids", lambda _task: ids)
        gone.delete()
        files = unzipped(get(server, cast.vera, f"/tasks/{task.uid}/output.zip")[1])
        assert len(files) == 2

    def test_others_get_nothing(self, server, task, cast):
        for path in ("output.zip", "results.csv"):
            with pytest.raises(HTTPError) as told:
                get(server, cast.charlie, f"/tasks/{task.uid}/{path}")
            assert told.value.code == 404
            told.value.close()


def test_an_archive_holds_only_what_was_not_sent_yet():
    """However much comes: a part is taken for every piece that was compressed."""
    archive, kept, sent = downloads._Archive(), [], []

    async def flood():
        for number in range(200):
            yield bytes([number % 256]) * 1_000 + number.to_bytes(4) * 16_000

    async def send():
        async for part in archive.add("flood.log", flood()):
            sent.append(part)
            kept.append(sum(map(len, archive._buffer._parts)))
        sent.append(archive.close())

    asyncio.run(send())
    files = unzipped(b"".join(sent))
    assert len(files["flood.log"]) == 200 * 65_000
    assert len(sent) > 3
    assert max(kept) == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web-01.eu", "web-01.eu"),
        ("../../etc/passwd", "etc_passwd"),
        ("a/b\\c:d", "a_b_c_d"),
        ("...", "_"),
        ("", "_"),
        ("con", "_con"),
        ("NUL.txt", "_NUL.txt"),
        ("console", "console"),
        ('x"\r\nSet-Cookie: a=b', "x_Set-Cookie_a_b"),
        ("日本", "日本"),
        ("x" * 300, "x" * 50),
    ],
)
def test_names_of_files_are_safe_everywhere(name, expected):
    assert downloads.safe(name) == expected


@pytest.mark.parametrize("name", ['a"b', "a; filename=evil.exe", "é\u202exe", "\u202egpj", "ünï/x"])
def test_no_name_of_a_task_gets_into_the_header(server, cast, fleet, name):
    task = create_task(cast, fleet[:1], "say a")
    Invocation.objects.filter(pk=task.pk).update(name=name)
    for path, end in (("output.zip", "zip"), ("results.csv", "results.csv")):
        head, _ = get(server, cast.vera, f"/tasks/{task.uid}/{path}")
        told = head["Content-Disposition"]
        assert re.fullmatch(r"attachment; filename(=\"[\w.-]*\"|\*=utf-8''[\w.%-]*)", told), told
        assert told.rstrip('"').endswith(f"{task.uid}.{end}")


class TestResults:
    """``/tasks/<id>/results.csv``."""

    def test_a_row_for_each_instance(self, server, task, script, cast, fleet):
        script.begin()
        script.say(b"fine\n")
        script.say(b"last \xc3\xa9\n", "stderr")
        script.end(hostname="h1", machine_id="m1", host_key_fingerprint="SHA256:k")
        head, data = get(server, cast.vera, f"/tasks/{task.uid}/results.csv")
        assert head["Content-Type"] == "text/csv; charset=utf-8"
        assert head["X-Content-Type-Options"] == "nosniff"
        assert head["Content-Disposition"].startswith("attachment; ")
        rows = table(data)
        assert list(rows) == [one.name for one in fleet]
        run = Run.objects.get(pk=script.run.pk)
        row = rows[run.instance_name]
        assert list(row) == list(results.COLUMNS)
        sha256 = row.pop("script_sha256")
        assert len(sha256) == 64
        assert row == {
            "instance_id": run.instance_uid,
            "name": run.instance_name,
            "address": "127.0.0.1:22",
            "status": "Success",
            "exit_code": "0",
            "error_code": "",
            "started": run.started_at.isoformat(timespec="milliseconds"),
            "finished": run.finished_at.isoformat(timespec="milliseconds"),
            "duration_s": f"{(run.finished_at - run.started_at).total_seconds():.3f}",
            "stdout_bytes": "5",
            "stderr_bytes": "8",
            "dropped_bytes": "0",
            "lost_bytes": "0",
            "hostname": "h1",
            "host_key_fingerprint": "SHA256:k",
            "machine_id": "m1",
            "digest": run.digest,
            "last_line": "last é",
        }

    def test_many_are_read_in_parts(self, server, task, cast, fleet, monkeypatch):
        monkeypatch.setattr(results, "ROWS", 2)
        rows = table(get(server, cast.vera, f"/tasks/{task.uid}/results.csv")[1])
        assert list(rows) == [one.name for one in fleet]

    @pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
    def test_no_spreadsheet_computes_a_cell(self, server, task, cast, start):
        Run.objects.filter(invocation=task).update(
            instance_name=f'{start}cmd|"/c calc"!A1', last_line=f"{start}1+1", exit_code=-1
        )
        _, data = get(server, cast.vera, f"/tasks/{task.uid}/results.csv")
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        assert {row["name"] for row in rows} == {f'\'{start}cmd|"/c calc"!A1'}
        assert {row["last_line"] for row in rows} == {f"'{start}1+1"}
        assert {row["exit_code"] for row in rows} == {"-1"}

    def test_hidden_values_are_in_no_digest(self, server, cast, fleet):
        """What is compared is the text as it is shown."""
        from_values = []
        for secret in ("hunter2", "other"):
            made = create_secret(cast, fleet, secret)
            rows = table(get(server, cast.vera, f"/tasks/{made.uid}/results.csv")[1])
            from_values += [row["script_sha256"] for row in rows.values()]
        assert len(set(from_values)) == 1

    def test_values_that_cannot_be_read_leave_the_digest_empty(self, server, cast, fleet, settings):
        made = create_secret(cast, fleet, "hunter2")
        settings.CONSOLE_ENCRYPTION_KEYS = ["8J0nUVZRYDfXyMHkTcNrv5JjX4FoFqUuvVIbYYEbnXY="]
        rows = table(get(server, cast.vera, f"/tasks/{made.uid}/results.csv")[1])
        assert {row["script_sha256"] for row in rows.values()} == {""}


def create_secret(cast, fleet, secret):
    """A task with a hidden value."""
    return invocations.run_command(
        actor=cast.bob,
        team=cast.team,
        region=cast.region,
        command=CommandInput(
            name="n", type="RunShellScript", content="say {{token}}", use_params=True
        ),
        values=Values({"token": secret}, ["token"]),
        instance_uids=[fleet[0].uid],
        now=timezone.now(),
    )
