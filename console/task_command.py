"""What a task's page says of its command: the script as it runs on one instance, and with what.

Hidden values never get here; a mark stands for them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse

from commands.models import Invocation, Run
from commands.rules.content import Termination
from commands.rules.redaction import HIDDEN
from commands.services import scripts


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command as a task's page shows it.

    ``script`` is what ran, or will run, on the instance called ``instance``. ``values`` are
    parameters and what they were given; ``shown_digest`` is that of ``script``, ``digest`` what
    binds the run. ``source`` is the address of the saved command it came
    from, and ``version`` that command's version then; "" and None if it is not in the library.
    """

    instance: str
    script: str
    values: list[tuple[str, str]]
    run_as: str
    launcher: str
    only_process: bool
    tags: list[str]
    shown_digest: str
    digest: str
    source: str
    version: int | None

    @property
    def lines(self) -> int:
        """Lines of the script."""
        return self.script.count("\n") + (not self.script.endswith("\n"))


def command_view(invocation: Invocation, run: Run) -> CommandView:
    """What the page of ``invocation`` says of its command, as it runs in ``run``."""
    script, values = _filled(invocation, run)
    command = invocation.command if invocation.command and invocation.command.kept else None
    return CommandView(
        instance=run.instance_name,
        script=script,
        values=values,
        run_as=invocation.run_as,
        launcher=invocation.launcher,
        only_process=invocation.termination == Termination.PROCESS,
        tags=[f"{key}={value}" if value else key for key, value in invocation.tags.items()],
        shown_digest=scripts.shown_digest(script),
        digest=run.digest,
        source=reverse("command", args=[command.uid]) if command else "",
        version=invocation.version.number if command and invocation.version else None,
    )


def _filled(invocation: Invocation, run: Run) -> tuple[str, list[tuple[str, str]]]:
    try:
        script = scripts.shown(run)
        values: dict[str, str] = json.loads(invocation.values or "{}")
    except ImproperlyConfigured:  # the key is gone: what is not secret can be shown all the same
        return invocation.content, []
    hidden = set(invocation.hidden)
    return script, [(key, HIDDEN if key in hidden else value) for key, value in values.items()]
