"""Tasks of any size whose runs have ended, or not, with output: made directly in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from commands.models import Invocation, OutputChunk, Region, Run, Team, User
from commands.services import resource_groups

STREAMS = {"stdout": 1, "stderr": 2}


@dataclass(frozen=True)
class Part:
    """So many runs that end alike. ``{name}`` in their output is the instance's own name."""

    prefix: str
    count: int
    status: str = "Success"
    output: str = ""
    stderr: str = ""
    exit_code: int | None = None
    error_code: str = ""


_CODES = {"Success": 0, "Failed": 1}


def make_task(
    team: Team, region: Region, user: User, parts: Sequence[Part], *, name: str = "Check disk space"
) -> Invocation:
    """A task whose runs are those of ``parts``, none of them compared."""
    now = timezone.now()
    task = Invocation.objects.create(
        team=team,
        region=region,
        resource_group=resource_groups.default_of(team),
        name=name,
        command_uid="c-1",
        type="RunShellScript",
        content="df\n",
        timeout=60,
        timeout_asked=60,
        created_by=user,
        created_by_name=user.username,
        created_at=now - timedelta(seconds=27),
    )
    rows = [
        (_run(task, part, f"{part.prefix}{number:03}", now), part)
        for part in parts
        for number in range(1, part.count + 1)
    ]
    Run.objects.bulk_create(run for run, _ in rows)
    OutputChunk.objects.bulk_create(
        chunk for run, part in rows for chunk in _chunks(run, part, now)
    )
    return task


def _run(task: Invocation, part: Part, name: str, now) -> Run:
    texts = _texts(part, name)
    ended = part.status not in {"Pending", "Running", "Stopping"}
    code = part.exit_code if part.exit_code is not None else _CODES.get(part.status)
    lines = "".join(texts.values()).splitlines()
    return Run(
        invocation=task,
        instance_uid=f"i-{name}",
        instance_name=name,
        address=f"10.0.{len(name)}.1:22",
        digest="0" * 64,
        status=part.status,
        phase="finished" if ended else "following",
        exit_code=code,
        error_code=part.error_code or ("ExitCodeNonzero" if code else ""),
        started_at=now - timedelta(seconds=20),
        finished_at=now if ended else None,
        stdout_size=len(texts["stdout"].encode()),
        stderr_size=len(texts["stderr"].encode()),
        next_sequence=sum(bool(text) for text in texts.values()),
        last_line=lines[-1][:200] if lines else "",
    )


def _texts(part: Part, name: str) -> dict[str, str]:
    return {
        "stdout": part.output.replace("{name}", name),
        "stderr": part.stderr.replace("{name}", name),
    }


def _chunks(run: Run, part: Part, now):
    texts = {stream: text for stream, text in _texts(part, run.instance_name).items() if text}
    for sequence, (stream, text) in enumerate(texts.items()):
        yield OutputChunk(
            run=run,
            sequence=sequence,
            stream=STREAMS[stream],
            offset=0,
            data=text.encode(),
            arrived_at=now,
        )


THOUSAND = [
    Part("db-", 29, "Failed", "/var 97% used\ndisk check: FAIL threshold 90%\n", exit_code=2),
    Part("nfs-", 4, "Timeout", error_code="ExecutionTimeout"),
    Part("edge-", 2, "Failed", stderr="bash: line 3: jq: command not found\n", exit_code=127),
    Part("web-", 941, output="{name}: disk check: PASS all mounts below 90%\n"),
    Part("build-", 24, output="disk check: PASS all mounts below 90%\nnote: /boot at 82%\n"),
]
"""A task on a thousand instances."""
