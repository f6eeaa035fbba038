"""Whether an instance is the machine that it was when the team last ran something there."""

from __future__ import annotations

from functools import lru_cache

from django.utils.translation import gettext as _

from commands.models import Run


def differs(run: Run) -> list[str]:
    """In what the machine that ``run`` saw is not the one of the run before, as sentences."""
    if not (run.machine_id or run.host_key_fingerprint) or run.instance_id is None:
        return []
    team_id = run.invocation.team_id
    try:
        machine, key = _before(run.execution_id, run.pk, run.instance_id, team_id)
    except Run.DoesNotExist:
        return []
    found = []
    if run.machine_id and machine and run.machine_id != machine:
        text = _("Another machine than last time: its machine id was %(id)s.")
        found.append(text % {"id": machine})
    if run.host_key_fingerprint and key and run.host_key_fingerprint != key:
        text = _("Another host key than last time: it was %(key)s.")
        found.append(text % {"key": key})
    return found


@lru_cache(maxsize=1024)
def _before(_execution_id: str, run_id: int, instance_id: int, team_id: int) -> tuple[str, str]:
    """Machine id and host key of the run before. Raises DoesNotExist, which nothing remembers.

    Streams ask often, and the past does not change; the unique name keeps it from being another's.
    """
    found = Run.objects.seen_before(run_id, instance_id=instance_id, team_id=team_id)
    if found is None:
        raise Run.DoesNotExist
    return found.machine_id, found.host_key_fingerprint
