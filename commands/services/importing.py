"""Importing instances: a file becomes rows, people look at what they mean, then all is written.

Nothing is an instance before ``finish``, which writes all that was chosen in one transaction or
nothing. What a row means (``judging``) is found out anew each time: what others add or change
meanwhile counts. Host keys come from the file, from known_hosts, or from the hosts themselves;
the latter prove nothing, so a person has to confirm them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.crypto import constant_time_compare

from commands import access, queue
from commands.access import Permission
from commands.errors import Conflict, Denied, Forgotten, Invalid, Outdated
from commands.execution.executor import Endpoint
from commands.models import (
    Credential,
    Import,
    ImportRow,
    Instance,
    InstanceTag,
    Region,
    ResourceGroup,
    Team,
    User,
)
from commands.rules.inventory_files import Entry, Inventory
from commands.rules.known_hosts import Found, KnownHosts
from commands.services import (
    audit,
    connections,
    instances,
    judging,
    jumps,
    members,
    resource_groups,
)
from commands.services.judging import Line, Review
from commands.words import gettext as _
from commands.words import gettext_noop, kept, ngettext

KEPT = timedelta(hours=4)
"""How long an import in preparation is kept."""
EACH = 4
"""Imports in preparation that one person may have at a time."""
CLAIM = timedelta(seconds=30)
"""How long a worker has for one host, which is longer than reading its key takes."""
BATCH = 200
"""Rows that one statement writes."""
_NOT_ALLOWED = gettext_noop("You may no longer add instances here.")
_BEHIND_NOTHING = kept(
    "It is reached through %(name)s, which is no instance yet. Import that one first, then this "
    "file again."
)
_IMPORTED = gettext_noop("Imported.")
_OVER = gettext_noop("This import is done already, or was forgotten. Begin again.")


@dataclass(frozen=True, slots=True)
class KeyTarget:
    """A host to be asked for its key. ``obstacle`` says why it can't be, "" if it can."""

    row_id: int
    host: str
    port: int
    jump: Endpoint | None = None
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Key:
    """What a host showed, or why it showed nothing."""

    row_id: int
    key: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How many instances were added and changed; and chosen ones that had no host key yet."""

    new: int
    changed: int
    left_out: int


@transaction.atomic
def begin(
    *,
    actor: User,
    team: Team,
    region: Region,
    inventory: Inventory,
    known: KnownHosts,
    credential: Credential | None = None,
    user: str = "",
    now: datetime,
) -> Import:
    """Prepare to import what a file says. ``credential`` and ``user`` are for rows without one.

    All rows are chosen but those that would replace a host key, or double an address. Raises
    Denied, Invalid.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, team)
    _check_credential(team, region, credential)
    origin = Import.objects.create(
        team=team,
        region=region,
        created_by=actor,
        created_at=now,
        expires_at=now + KEPT,
        credential=credential,
        user=user,
        notes=[[note.line, note.text] for note in inventory.notes]
        + [[line, f"known_hosts: {text}"] for line, text in known.notes],
    )
    places = known.find((one.host, one.port) for one in inventory.entries if not one.problems)
    rows = [_row(origin, entry, places) for entry in inventory.entries]
    ImportRow.objects.bulk_create(rows, batch_size=BATCH)
    careful = [line.row.pk for line in review(origin).lines if line.careful]
    for start in range(0, len(careful), BATCH):
        origin.rows.filter(pk__in=careful[start : start + BATCH]).update(chosen=False)
    older = Import.objects.filter(created_by=actor).values_list("pk", flat=True)[EACH:]
    Import.objects.filter(pk__in=list(older)).delete()
    return origin


def review(origin: Import) -> Review:
    """What the rows of an import mean now."""
    return judging.judge(origin)


@transaction.atomic
def choose(
    *, actor: User, origin: Import, row_ids: Collection[int], credential: Credential | None
) -> None:
    """Remember which rows are chosen, and the credential for those without one.

    Raises Denied, Forgotten.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, origin.team)
    _check_credential(origin.team, origin.region, credential)
    if not Import.objects.filter(pk=origin.pk).update(credential=credential):
        raise Forgotten(_(_OVER))
    _remember(review(origin), row_ids)
    origin.credential = credential


@transaction.atomic
def ask_for_keys(*, actor: User, origin: Import) -> int:
    """Have all chosen hosts asked for their keys that lack one; how many those are.

    Raises Denied.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, origin.team)
    wanted = [line.row for line in review(origin).lines if line.keyless and line.row.chosen]
    for row in wanted:
        row.wanted, row.claimed_until, row.unanswered = True, None, ""
    ImportRow.objects.bulk_update(wanted, ["wanted", "claimed_until", "unanswered"], BATCH)
    queue.enqueue(queue.Job.READ_HOST_KEYS)
    return len(wanted)


@transaction.atomic
def finish(
    *, actor: User, origin: Import, shown: Mapping[int, str], confirmed: bool, now: datetime
) -> Report:
    """Add and change the instances of the chosen rows, all or none, and forget the import.

    ``shown`` are the chosen rows: their ids, with the mark that each had when the person looked.
    Those without a host key are left out. ``confirmed`` is whether the person has compared the
    keys that were read from the hosts. Raises Denied, Invalid, Conflict; Forgotten if the import
    is over, and Outdated if a chosen row means something else by now.
    """
    access.require(actor, Permission.INSTANCE_MANAGE, origin.team)
    # One import of a team at a time, so that two can't add the same name.
    members.hold(origin.team, actor, Permission.INSTANCE_MANAGE)
    if not Import.objects.filter(pk=origin.pk, expires_at__gt=now).exists():
        raise Forgotten(_(_OVER))
    lines = [line for line in review(origin).lines if line.row.pk in shown]
    _check_shown(lines, shown)
    chosen = [line for line in lines if line.importable]
    ready = [line for line in chosen if not line.keyless]
    _check(ready, confirmed=confirmed)
    new = [line for line in ready if line.existing is None]
    # Held, since somebody may be switching one off, or removing it, at this moment.
    changed = [(line, instances.locked(line.existing)) for line in ready if line.existing]
    made = _add(actor, origin, new, now)
    connections.forget_all(instance for line, instance in changed if line.moves)
    for line, instance in changed:
        _change(actor, origin, line, instance, made, now)
    queue.enqueue(queue.Job.CHECK_CONNECTIONS)
    audit.record(
        actor=actor,
        action="instance:import",
        team=origin.team,
        details={
            "region": origin.region.uid,
            "added": [line.row.name for line in new],
            "changed": [line.row.name for line, _ in changed],
        },
        now=now,
    )
    origin.delete()
    return Report(len(new), len(changed), len(chosen) - len(ready))


def give_up(*, actor: User, origin: Import) -> None:
    """Forget an import in preparation. Raises Denied."""
    access.require(actor, Permission.INSTANCE_MANAGE, origin.team)
    origin.delete()


def is_due(*, now: datetime) -> bool:
    """Whether there is a host to be asked for its key."""
    return _due(now).exists()


def expire(*, now: datetime) -> None:
    """Forget imports that nobody finished."""
    Import.objects.filter(expires_at__lte=now).delete()


def claim_keys(*, busy: Collection[int], limit: int, now: datetime) -> list[KeyTarget]:
    """Take at most ``limit`` hosts to ask; others leave them alone for a while."""
    allows = cache(access.allows)
    with transaction.atomic():
        rows = list(
            _due(now)
            .exclude(pk__in=busy)
            .select_related("origin__team", "origin__region", "origin__created_by")
            .select_for_update(of=("self",), skip_locked=True)
            .order_by("pk")[:limit]
        )
        ImportRow.objects.filter(pk__in=[row.pk for row in rows]).update(claimed_until=now + CLAIM)
        return [
            _target(row)
            if allows(row.origin.created_by, Permission.INSTANCE_MANAGE, row.origin.team)
            else KeyTarget(row.pk, "", 0, obstacle=_NOT_ALLOWED)
            for row in rows
        ]


def record_keys(*, keys: Iterable[Key]) -> None:
    """Store what hosts showed. Nothing is trusted by that."""
    found = {key.row_id: key for key in keys}
    with transaction.atomic():
        rows = list(
            ImportRow.objects.filter(pk__in=found, wanted=True).select_for_update().order_by("pk")
        )
        for row in rows:
            key = found[row.pk]
            row.wanted, row.unanswered = False, key.problem
            if key.key:
                row.host_key, row.key_source = key.key, ImportRow.KeySource.READ.value
        ImportRow.objects.bulk_update(rows, ["wanted", "unanswered", "host_key", "key_source"])


def _due(now: datetime) -> QuerySet[ImportRow]:
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now)
    return ImportRow.objects.filter(free, wanted=True, origin__expires_at__gt=now)


def _check_credential(team: Team, region: Region, credential: Credential | None) -> None:
    if credential and (credential.team_id, credential.region_id) != (team.pk, region.pk):
        raise Denied(_("That credential belongs to another team or region."))


def _row(origin: Import, entry: Entry, places: Mapping[tuple[str, int], Found]) -> ImportRow:
    known = places.get((entry.host, entry.port), Found())
    problems, key, source = list(entry.problems), entry.host_key, ImportRow.KeySource.NONE
    if key:
        source = ImportRow.KeySource.FILE
        if known.keys and key not in known.keys:
            problems.append(_("The host key in the file is not the one in known_hosts."))
    elif known.keys:
        key, source = known.keys[0], ImportRow.KeySource.KNOWN_HOSTS
    return ImportRow(
        origin=origin,
        line=entry.line,
        name=entry.name,
        host=entry.host,
        port=entry.port,
        user=entry.user,
        credential=entry.credential,
        credential_guessed=entry.credential_guessed,
        tags=None if entry.tags is None else dict(entry.tags),
        jump_host=entry.jump_host,
        os_type=entry.os_type,
        host_key=key,
        key_source=source.value,
        revoked=sorted(known.revoked),
        problems=problems,
    )


def _remember(found: Review, row_ids: Collection[int]) -> None:
    """Choose these of the rows that can be chosen, and no others."""
    wanted = set(row_ids)
    rows = [line.row for line in found.lines if line.importable]
    changed = [row for row in rows if row.chosen != (row.pk in wanted)]
    for row in changed:
        row.chosen = not row.chosen
    ImportRow.objects.bulk_update(changed, ["chosen"], BATCH)


def _target(row: ImportRow) -> KeyTarget:
    """Where to ask for the key of a row; through its jump host, if that is an instance already."""
    if not row.jump_host:
        return KeyTarget(row.pk, row.host, row.port)
    jump_host = judging.known_jump_host(row)
    if jump_host is None:
        text = _BEHIND_NOTHING % {"name": row.jump_host}
        return KeyTarget(row.pk, row.host, row.port, obstacle=text)
    [way] = connections.targets([jump_host])
    return KeyTarget(row.pk, row.host, row.port, way.endpoint, way.obstacle)


def _check_shown(lines: Sequence[Line], shown: Mapping[int, str]) -> None:
    """Whether what was chosen is what was shown: another host key is another decision."""
    ids = [
        line.row.pk for line in lines if not constant_time_compare(line.mark, shown[line.row.pk])
    ]
    if ids:
        text = ngettext(
            "%(n)s row that you chose means something else by now: its host key arrived, or "
            "somebody changed something. It is marked, and not chosen any more. Look at it again.",
            "%(n)s rows that you chose mean something else by now: their host keys arrived, or "
            "somebody changed something. They are marked, and not chosen any more. Look at them "
            "again.",
            len(ids),
        )
        raise Outdated(text % {"n": len(ids)}, ids=ids)


def _check(ready: Sequence[Line], *, confirmed: bool) -> None:
    if not ready:
        raise Invalid(_("Select at least one instance that has a host key."), field="rows")
    read = [line for line in ready if line.row.key_source == ImportRow.KeySource.READ]
    if read and not confirmed:
        raise Invalid(
            _("Compare the fingerprints that were read from the hosts, and say that you did."),
            field="confirmed",
        )
    names = {line.row.name for line in ready}
    for line in ready:
        jump_row = line.jump_row
        if jump_row and jump_row.name not in names and not judging.existing(jump_row):
            raise Conflict(
                _(
                    "%(name)s is reached through %(jump_host)s, which is not imported with it. "
                    "Select both, or neither."
                )
                % {"name": line.row.name, "jump_host": jump_row.name}
            )


def _add(actor: User, origin: Import, lines: Sequence[Line], now: datetime) -> dict[str, Instance]:
    """Add new instances: first those that others may be reached through. By name."""
    made: dict[str, Instance] = {}
    resource_group = resource_groups.default_of(origin.team)
    behind = [line for line in lines if line.jump_row or line.jump_host]
    direct = [line for line in lines if not (line.jump_row or line.jump_host)]
    for jump_host in {found for line in behind if (found := _jump_host(line, {}))}:
        jumps.check(team=origin.team, region=origin.region, jump_host=jump_host)
    for group in (direct, behind):
        rows = [_fill(_new(origin, resource_group), line) for line in group]
        for instance, line in zip(rows, group, strict=True):
            instance.host_key = line.host_key
            instance.host_key_at, instance.host_key_by = now, actor.shown_name
            instance.jump_host = _jump_host(line, made)
        made |= {one.name: one for one in Instance.objects.bulk_create(rows, batch_size=BATCH)}
    tags = [
        InstanceTag(instance=made[line.row.name], key=key, value=value)
        for line in lines
        for key, value in (line.row.tags or {}).items()
    ]
    InstanceTag.objects.bulk_create(tags, batch_size=BATCH)
    return made


def _jump_host(line: Line, made: Mapping[str, Instance]) -> Instance | None:
    if line.jump_row is None:
        return line.jump_host
    # A row that changes an instance, or nothing, stands for the instance that is there.
    return made.get(line.jump_row.name) or judging.existing(line.jump_row)


def _new(origin: Import, group: ResourceGroup) -> Instance:
    return Instance(team=origin.team, region=origin.region, resource_group=group)


def _fill(instance: Instance, line: Line) -> Instance:
    instance.name, instance.host, instance.port = line.row.name, line.row.host, line.row.port
    instance.user, instance.credential = line.user, line.credential
    instance.os_type = line.os_type
    return instance


def _change(
    actor: User,
    origin: Import,
    line: Line,
    instance: Instance,
    made: Mapping[str, Instance],
    now: datetime,
) -> None:
    """Give an instance what its row says. It is written at once: the next row may look at it."""
    _fill(instance, line)
    instances.pin(actor=actor, instance=instance, host_key=line.host_key, reason=_IMPORTED, now=now)
    if line.jump_row is not None or line.jump_host is not None:
        jump_host = _jump_host(line, made)
        if jump_host != instance.jump_host:
            jumps.check(
                team=origin.team, region=origin.region, jump_host=jump_host, instance=instance
            )
        instance.jump_host = jump_host
    if line.row.tags is not None:
        instance.tags.all().delete()
        InstanceTag.objects.bulk_create(
            InstanceTag(instance=instance, key=key, value=value)
            for key, value in line.row.tags.items()
        )
    instance.save()
