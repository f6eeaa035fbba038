"""Quotas: limits, what is counted and when the day ends, and requests for the last place."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from commands.errors import Denied, Invalid, QuotaExceeded
from commands.models import Command, Invocation, QuotaLedger, QuotaOverride, Region, Run, User
from commands.rules import limits
from commands.rules import quotas as rules
from commands.rules.again import Again
from commands.rules.quotas import DEFINITIONS, Measure, Quota, Usage
from commands.services import invocations, library, quota_table, quotas, resource_groups
from commands.services.definitions import CommandInput
from commands.services.plans import SavedInput, Values

pytestmark = [pytest.mark.django_db, pytest.mark.data_layer]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def place(cast):
    return {"team": cast.team, "region": cast.region}


@pytest.fixture
def staff(db):
    return User.objects.create_user("staff", is_staff=True)


@pytest.fixture
def allow(place, staff):
    def change(key, limit, **elsewhere):
        return quotas.set_limit(actor=staff, key=key, limit=limit, **{**place, **elsewhere})

    return change


def save(team, region, name="kept", pause=0):
    """What every service that keeps a command does; ``pause`` gives others time to come between."""
    with transaction.atomic():
        quotas.require_room_for_command(team=team, region=region)
        time.sleep(pause)
        return Command.objects.create(
            team=team,
            region=region,
            resource_group=resource_groups.default_of(team),
            name=name,
            type="RunShellScript",
            kept=True,
            created_at=NOON,
            updated_at=NOON,
        )


def take(place, now=NOON):
    """What every service that makes a task does."""
    with transaction.atomic():
        quotas.take_task(**place, runs=1, now=now)


def used(place, now=NOON, key=Quota.TASKS_PER_DAY):
    return quotas.usage(**place, key=key, now=now).used


def fill(place, number):
    group = resource_groups.default_of(place["team"])
    Command.objects.bulk_create(
        Command(
            **place,
            resource_group=group,
            name=f"c-{n}",
            type="RunShellScript",
            kept=True,
            created_at=NOON,
            updated_at=NOON,
        )
        for n in range(number)
    )


def together(number, request):
    """What became of ``number`` requests, all let go at one moment, each on its connection."""
    gate = threading.Barrier(number, timeout=30)

    def one(index):
        try:
            gate.wait()
            request(index)
        except QuotaExceeded as error:
            return error.code
        else:
            return "passed"
        finally:
            connection.close()

    with ThreadPoolExecutor(number) as pool:
        return Counter(pool.map(one, range(number)))


class TestLimits:
    """What a limit is, and who sets it."""

    def test_defaults_and_ranges(self, place):
        table = {
            key: (definition.default, definition.least, definition.most, definition.attribute)
            for key, definition in DEFINITIONS.items()
        }
        assert table == {
            "saved_commands": (100, 1, 50_000, "max-axt-command-count"),
            "tasks_per_day": (5_000, 1, 200_000, "max-axt-invocation-daily"),
            "instances_per_task": (50, 1, 1_000, ""),
            "runs_at_a_time": (2_000, 1, 100_000, ""),
            "content_size": (18_432, 1_024, 24_576, ""),
        }
        assert list(DEFINITIONS) == list(Quota)
        for key in Quota:
            assert quotas.limit(**place, key=key) == DEFINITIONS[key].default
        assert DEFINITIONS[Quota.INSTANCES_PER_TASK].default == limits.INSTANCES_PER_TASK

    def test_an_override_is_of_one_team_in_one_region(self, cast, place, allow):
        north = Region.objects.create(uid="north", name="North")
        allow(Quota.SAVED_COMMANDS, 7)
        allow(Quota.SAVED_COMMANDS, 8, region=north)
        key = Quota.SAVED_COMMANDS
        assert quotas.limit(**place, key=key) == 7
        assert quotas.limit(team=cast.team, region=north, key=key) == 8
        assert quotas.limit(team=cast.other_team, region=cast.region, key=key) == 100
        assert quotas.limit(**place, key=Quota.TASKS_PER_DAY) == 5_000

    def test_setting_again_changes_the_one_override(self, place, allow):
        allow(Quota.TASKS_PER_DAY, 10)
        allow(Quota.TASKS_PER_DAY, 20)
        assert quotas.limit(**place, key=Quota.TASKS_PER_DAY) == 20
        assert QuotaOverride.objects.count() == 1

    @pytest.mark.parametrize("key", list(Quota))
    def test_the_range_of_a_limit(self, place, allow, key):
        definition = DEFINITIONS[key]
        for limit in (definition.least, definition.most):
            allow(key, limit)
            assert quotas.limit(**place, key=key) == limit
        for limit in (definition.least - 1, definition.most + 1, -1):
            with pytest.raises(
                Invalid, match=f"between {definition.least:,} and {definition.most:,}"
            ) as caught:
                allow(key, limit)
            assert caught.value.field == "limit"
        assert quotas.limit(**place, key=key) == definition.most

    def test_only_staff_sets_limits(self, cast, place, staff):
        for actor in (cast.alice, cast.bob, cast.charlie):
            with pytest.raises(Denied):
                quotas.set_limit(actor=actor, **place, key=Quota.SAVED_COMMANDS, limit=5)
        staff.is_active = False
        with pytest.raises(Denied):
            quotas.set_limit(actor=staff, **place, key=Quota.SAVED_COMMANDS, limit=5)
        root = User.objects.create_user("root", is_superuser=True)
        quotas.set_limit(actor=root, **place, key=Quota.SAVED_COMMANDS, limit=5)
        assert quotas.limit(**place, key=Quota.SAVED_COMMANDS) == 5

    def test_impossible_rows_are_refused_by_the_database(self, place):
        QuotaOverride.objects.create(**place, key="saved_commands", limit=5)
        QuotaLedger.objects.create(**place)
        for model, values in (
            (QuotaOverride, {"key": "saved_commands", "limit": 6}),
            (QuotaOverride, {"key": "tasks_per_day", "limit": 0}),
            (QuotaOverride, {"key": "", "limit": 5}),
            (QuotaLedger, {}),
        ):
            with pytest.raises(IntegrityError), transaction.atomic():
                model.objects.create(**place, **values)
        with pytest.raises(IntegrityError), transaction.atomic():
            QuotaLedger.objects.update(tasks=1)

    def test_rows_say_what_they_are(self, place, allow):
        override = allow(Quota.SAVED_COMMANDS, 5_000)
        assert str(override) == "saved_commands of Storefront in local: 5,000"
        assert override.get_key_display() == "Saved commands"
        assert str(QuotaLedger(**place)) == "Storefront in local"


class TestSavedCommands:
    """The stock: commands in the library."""

    def test_the_last_place_and_one_more(self, place, allow):
        allow(Quota.SAVED_COMMANDS, 2)
        save(**place)
        save(**place)
        with pytest.raises(QuotaExceeded) as caught:
            save(**place)
        error = caught.value
        assert error.message == (
            "Your team has used all 2 saved commands. Turn off Save command, delete one, "
            "or request more."
        )
        assert (error.code, error.field) == ("CmdCount.ExceedQuota", "save")
        assert (error.key, error.limit, error.used) == (Quota.SAVED_COMMANDS, 2, 2)
        assert isinstance(error, Invalid)
        assert Command.objects.kept().count() == 2

    def test_only_kept_commands_of_this_team_and_region_count(self, cast, place, allow):
        north = Region.objects.create(uid="north", name="North")
        save(cast.team, north)
        save(cast.other_team, cast.region)
        Command.objects.create(
            **place,
            resource_group=resource_groups.default_of(cast.team),
            name="once",
            type="RunShellScript",
            created_at=NOON,
            updated_at=NOON,
        )
        allow(Quota.SAVED_COMMANDS, 1)
        assert used(place, key=Quota.SAVED_COMMANDS) == 0
        save(**place)
        assert used(place, key=Quota.SAVED_COMMANDS) == 1

    def test_deleting_one_gives_its_place_back(self, place, allow):
        allow(Quota.SAVED_COMMANDS, 1)
        save(**place).delete()
        save(**place)
        with pytest.raises(QuotaExceeded, match="used its only saved command"):
            save(**place)

    def test_a_limit_below_the_use_keeps_what_is_there(self, place, allow):
        fill(place, 5)
        allow(Quota.SAVED_COMMANDS, 3)
        found = quotas.usage(**place, key=Quota.SAVED_COMMANDS, now=NOON)
        assert (found.used, found.limit, found.left, found.share) == (5, 3, 0, 1)
        assert found.full
        with pytest.raises(QuotaExceeded, match=r"all 3 saved commands\. .*, delete 3,"):
            save(**place)
        for command in Command.objects.all()[:3]:
            command.delete()
        save(**place)

    def test_what_is_rolled_back_uses_no_place(self, place, allow):
        allow(Quota.SAVED_COMMANDS, 1)
        with pytest.raises(RuntimeError), transaction.atomic():
            save(**place)
            raise RuntimeError
        save(**place)


class TestTasksPerDay:
    """The flow: tasks begun on one day of the site."""

    def test_the_last_task_of_the_day_and_one_more(self, place, allow, settings):
        settings.TIME_ZONE = "Asia/Shanghai"
        allow(Quota.TASKS_PER_DAY, 2)
        take(place)
        take(place)
        with pytest.raises(QuotaExceeded) as caught:
            take(place)
        error = caught.value
        assert error.message == (
            "Your team has used all 2 tasks today. The count resets at 00:00 UTC+8."
        )
        assert (error.code, error.field) == ("Invocation.ExceedQuota", "")
        assert (error.key, error.limit, error.used) == (Quota.TASKS_PER_DAY, 2, 2)
        assert used(place) == 2

    def test_the_day_ends_at_midnight_of_the_site(self, place, allow, settings):
        settings.TIME_ZONE = "Asia/Shanghai"
        allow(Quota.TASKS_PER_DAY, 1)
        before = datetime(2026, 3, 10, 23, 59, 59, tzinfo=SHANGHAI)
        midnight = datetime(2026, 3, 11, tzinfo=SHANGHAI)
        take(place, before.astimezone(UTC))
        found = quotas.usage(**place, key=Quota.TASKS_PER_DAY, now=before)
        assert found.full
        assert found.resets_at == midnight
        with timezone.override("America/New_York"), pytest.raises(QuotaExceeded):
            take(place, before)  # the zone that pages are shown in changes nothing
        assert used(place, midnight) == 0  # before anybody has written it down
        take(place, midnight)
        with pytest.raises(QuotaExceeded):
            take(place, midnight + timedelta(hours=23, minutes=59))
        ledger = QuotaLedger.objects.get()
        assert (ledger.day, ledger.tasks) == (date(2026, 3, 11), 1)

    def test_a_straggler_of_yesterday_counts_today(self, place, allow):
        allow(Quota.TASKS_PER_DAY, 2)
        midnight = datetime(2026, 3, 11, tzinfo=UTC)
        late = midnight - timedelta(milliseconds=1)
        take(place, midnight)
        take(place, late)
        for now in (late, midnight):
            assert used(place, now) == 2
            with pytest.raises(QuotaExceeded):
                take(place, now)
        found = quotas.usage(**place, key=Quota.TASKS_PER_DAY, now=late)
        assert found.resets_at == midnight + timedelta(days=1)

    def test_a_clock_that_was_years_ahead_blocks_nobody(self, place, allow):
        allow(Quota.TASKS_PER_DAY, 1)
        take(place, NOON + timedelta(days=3_000))
        take(place)
        assert used(place) == 1

    def test_a_quiet_week_leaves_nothing_behind(self, place):
        take(place)
        assert used(place, NOON + timedelta(days=7)) == 0

    def test_teams_and_regions_count_apart(self, cast, place, allow):
        north = Region.objects.create(uid="north", name="North")
        allow(Quota.TASKS_PER_DAY, 1)
        take(place)
        take({"team": cast.team, "region": north})
        take({"team": cast.other_team, "region": cast.region})
        assert used(place) == 1

    def test_deleting_tasks_gives_nothing_back(self, place):
        for _ in range(3):
            take(place)
            Invocation.objects.create(
                **place,
                resource_group=resource_groups.default_of(place["team"]),
                name="n",
                type="RunShellScript",
                content="c",
                timeout=60,
                timeout_asked=60,
                created_at=NOON,
            )
        Invocation.objects.all().delete()
        assert used(place) == 3

    def test_what_is_rolled_back_is_not_counted(self, place):
        with pytest.raises(RuntimeError), transaction.atomic():
            take(place)
            raise RuntimeError
        assert used(place) == 0

    def test_a_limit_is_in_force_at_once(self, place, allow):
        take(place)
        allow(Quota.TASKS_PER_DAY, 1)
        with pytest.raises(QuotaExceeded, match="used its only task today"):
            take(place)
        allow(Quota.TASKS_PER_DAY, 2)
        take(place)


class TestInstancesPerTask:
    """The size of one task."""

    def test_as_many_as_the_limit_pass(self, place, allow):
        quotas.check_instances(**place, number=50)
        with pytest.raises(QuotaExceeded) as caught:
            quotas.check_instances(**place, number=1_057)
        error = caught.value
        assert error.message == "Select 50 instances or fewer. You have 1,057."
        assert (error.code, error.field) == ("InstanceIds.ExceedLimit", "instances")
        assert (error.key, error.limit, error.used) == (Quota.INSTANCES_PER_TASK, 50, 0)
        allow(Quota.INSTANCES_PER_TASK, 1)
        with pytest.raises(QuotaExceeded, match=r"^Select 1 instance\. You have 2\."):
            quotas.check_instances(**place, number=2)

    def test_nothing_is_used_up(self, place, allow):
        allow(Quota.INSTANCES_PER_TASK, 1)
        quotas.check_instances(**place, number=1)
        found = quotas.usage(**place, key=Quota.INSTANCES_PER_TASK, now=NOON)
        assert (found.used, found.limit, found.metered, found.near) == (0, 1, False, False)


class TestContentSize:
    """The size of each command."""

    @staticmethod
    def say(size, name="Say", **more):
        """A command of ``size`` bytes after Base64."""
        return CommandInput(name, "RunShellScript", "x" * (size // 4 * 3), **more)

    def keep(self, cast, place, size, **more):
        command = self.say(size, **more)
        return library.create_command(actor=cast.bob, **place, command=command, now=NOON)

    def run(self, cast, place, fleet, command, **more):
        saved = isinstance(command, SavedInput)
        service = invocations.invoke_command if saved else invocations.run_command
        more |= {"instance_uids": [fleet[0].uid], "now": NOON}
        return service(actor=cast.bob, **place, command=command, **more)

    @pytest.mark.parametrize(
        ("limit", "way"), [(18_432, "request more"), (2_048, "request more"), (24_576, "")]
    )
    def test_what_may_be_kept_and_run(self, cast, place, allow, fleet, limit, way):
        allow(Quota.CONTENT_SIZE, limit)
        kept = self.keep(cast, place, limit)
        self.run(cast, place, fleet, self.say(limit))
        said = f"Command has {limit + 4:,} bytes after Base64; the limit is {limit:,}. Shorten it"
        too_long = self.say(limit + 4)
        for attempt in (
            lambda: library.create_command(actor=cast.bob, **place, command=too_long, now=NOON),
            lambda: library.edit_command(
                actor=cast.bob, command=kept, definition=too_long, based_on=1, now=NOON
            ),
            lambda: self.run(cast, place, fleet, too_long),
        ):
            with pytest.raises(Invalid) as caught:
                attempt()
            [told] = caught.value.errors["content"]
            assert told.startswith(said)
            assert ("request more" in told) == bool(way)

    def test_what_is_filled_in_counts(self, cast, place, allow, fleet):
        allow(Quota.CONTENT_SIZE, 1_024)
        echo = CommandInput("Say", "RunShellScript", "echo {{word}}", use_params=True)
        self.run(cast, place, fleet, echo, values=Values({"word": "x" * 760}))
        with pytest.raises(QuotaExceeded) as caught:
            self.run(cast, place, fleet, echo, values=Values({"word": "x" * 770}))
        error = caught.value
        assert error.message == (
            "Command with its values has 1,036 bytes after Base64; the limit is 1,024. "
            "Shorten it, or request more."
        )
        assert (error.code, error.field) == ("CmdContent.ExceedLimit", "content")
        assert (error.key, error.limit, error.used) == (Quota.CONTENT_SIZE, 1_024, 1_036)

    def test_a_limit_that_falls_keeps_what_there_is_and_runs_none_of_it(
        self, cast, place, allow, fleet
    ):
        kept = self.keep(cast, place, 2_048)
        task = self.run(cast, place, fleet, SavedInput(kept.uid))
        allow(Quota.CONTENT_SIZE, 1_024)
        found = quotas.usage(**place, key=Quota.CONTENT_SIZE, now=NOON)
        assert (found.used, found.limit) == (2_048, 1_024)
        assert (found.metered, found.used_up, found.near, found.full) == (True, False, False, False)
        with pytest.raises(Invalid, match="2,048 bytes"):
            self.run(cast, place, fleet, SavedInput(kept.uid))
        with pytest.raises(Invalid, match="2,048 bytes"):
            invocations.repeat_invocation(
                actor=cast.bob, invocation=task, kind=Again.AGAIN, now=NOON
            )
        assert Command.objects.kept().get() == kept

    def test_the_largest_saved_command_is_shown(self, cast, place, allow, fleet):
        kept = self.keep(cast, place, 400)
        self.keep(cast, place, 800, name="Larger")
        far = {"team": cast.team, "region": Region.objects.create(uid="far", name="Far")}
        self.keep(cast, far, 1_200)
        self.run(cast, place, fleet, self.say(1_600))  # not saved
        for size, number in ((2_000, 1), (600, 2)):
            library.edit_command(
                actor=cast.bob, command=kept, definition=self.say(size), based_on=number, now=NOON
            )
        for where, most in ((place, 800), (far, 1_200)):
            key = {"key": Quota.CONTENT_SIZE, "now": NOON}
            assert quotas.usage(**where, **key).used == most
            assert quota_table.row(**where, **key).usage == quotas.usage(**where, **key)
        accents = CommandInput("Accents", "RunShellScript", "é" * 600)
        library.create_command(actor=cast.bob, **place, command=accents, now=NOON)
        assert used(place, key=Quota.CONTENT_SIZE) == 1_600


class TestUsage:
    """What pages show."""

    def test_the_overview(self, place):
        fill(place, 80)
        take(place)
        saved, tasks, instances, runs, content = quotas.overview(**place, now=NOON)
        assert saved == Usage(Quota.SAVED_COMMANDS, "Saved commands", 80, 100)
        midnight = datetime(2026, 3, 11, tzinfo=UTC)
        assert tasks == Usage(Quota.TASKS_PER_DAY, "Tasks per day", 1, 5_000, midnight)
        assert instances == Usage(Quota.INSTANCES_PER_TASK, "Instances per task", 0, 50)
        assert runs == Usage(Quota.RUNS_AT_A_TIME, "Runs at a time", 0, 2_000)
        assert content == Usage(Quota.CONTENT_SIZE, "Content size of a command", 0, 18_432)
        assert (saved.left, saved.share, saved.near, saved.full) == (20, 0.8, True, False)
        assert saved.metered
        assert tasks.metered

    @pytest.mark.parametrize(
        ("used", "limit", "near", "full"),
        [
            (0, 1, False, False),
            (1, 1, True, True),
            (79, 100, False, False),
            (80, 100, True, False),
            (2, 3, False, False),
            (100, 100, True, True),
            (120, 100, True, True),
        ],
    )
    def test_when_to_warn(self, used, limit, near, full):
        found = Usage(Quota.SAVED_COMMANDS, "Saved commands", used, limit)
        assert (found.near, found.full) == (near, full)
        assert found.left == max(0, limit - used)
        assert 0 <= found.share <= 1

    def test_reading_makes_no_rows(self, place):
        quotas.overview(**place, now=NOON)
        assert not QuotaLedger.objects.exists()

    def test_each_quota_is_measured_in_its_way(self):
        assert {definition.measure for definition in DEFINITIONS.values()} == set(Measure)

    @pytest.mark.parametrize(
        ("zone", "day", "words"),
        [
            ("UTC", date(2026, 3, 10), "00:00 UTC"),
            ("Asia/Shanghai", date(2026, 3, 10), "00:00 UTC+8"),
            ("Asia/Kathmandu", date(2026, 3, 10), "00:00 UTC+5:45"),
            ("America/St_Johns", date(2026, 3, 10), "00:00 UTC-2:30"),
            ("Africa/Cairo", date(2024, 4, 25), "01:00 UTC+3"),  # that midnight was skipped
        ],
    )
    def test_when_runs_reset(self, zone, day, words):
        end = rules.end_of(day, ZoneInfo(zone))
        assert rules.clock(end) == words
        assert rules.day_of(end, ZoneInfo(zone)) == day + timedelta(days=1)
        before = end.astimezone(UTC) - timedelta(microseconds=1)
        assert rules.day_of(before, ZoneInfo(zone)) == day


@pytest.mark.django_db(transaction=True)
class TestTogether:
    """Many requests at one moment, on real transactions."""

    @pytest.mark.parametrize("ledger", [True, False], ids=["known", "first"])
    def test_fifty_saves_at_one_below_the_limit(self, place, ledger):
        fill(place, 99)
        if ledger:
            take(place)
        outcome = together(50, lambda index: save(**place, name=f"new-{index}", pause=0.02))
        assert outcome == {"passed": 1, "CmdCount.ExceedQuota": 49}
        assert Command.objects.kept().count() == 100

    def test_fifty_people_who_save_a_command_at_one_below_the_limit(self, cast, place):
        fill(place, 99)
        say = [CommandInput(f"new-{n}", "RunShellScript", "true") for n in range(50)]
        outcome = together(
            50,
            lambda n: library.create_command(actor=cast.bob, **place, command=say[n], now=NOON),
        )
        assert outcome == {"passed": 1, "CmdCount.ExceedQuota": 49}
        assert Command.objects.kept().count() == 100

    def test_two_hundred_tasks_across_the_limit_of_the_day(self, cast, place, allow, fleet):
        allow(Quota.TASKS_PER_DAY, 130)
        take(place, NOON - timedelta(days=1))
        for _ in range(10):
            take(place)
        say = CommandInput("Say", "RunShellScript", "true")
        given = {"actor": cast.bob, "command": say, "instance_uids": [fleet[0].uid], "now": NOON}
        outcome = together(200, lambda _: invocations.run_command(**place, **given))
        assert outcome == {"passed": 120, "Invocation.ExceedQuota": 80}
        assert used(place) == 130
        assert Invocation.objects.count() == Run.objects.count() == 120

    def test_the_first_requests_ever_make_one_ledger(self, place, allow):
        allow(Quota.TASKS_PER_DAY, 5)
        outcome = together(20, lambda _: take(place))
        assert outcome == {"passed": 5, "Invocation.ExceedQuota": 15}
        assert QuotaLedger.objects.count() == 1

    def test_midnight_is_passed_once(self, place, allow):
        allow(Quota.TASKS_PER_DAY, 10)
        midnight = datetime(2026, 3, 11, tzinfo=UTC)
        for _ in range(10):
            take(place)
        outcome = together(30, lambda index: take(place, midnight + timedelta(seconds=index)))
        assert outcome == {"passed": 10, "Invocation.ExceedQuota": 20}

    def test_outside_a_transaction_nothing_is_counted(self, place):
        with pytest.raises(TransactionManagementError):
            quotas.take_task(**place, runs=1, now=NOON)
        with pytest.raises(TransactionManagementError):
            quotas.require_room_for_command(**place)
        assert not QuotaLedger.objects.exists()
