"""Four eyes: what waits, who decides, what is approved, and that nothing else ever runs."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.utils import timezone

from commands import access, queue, tasks
from commands.errors import Conflict, Denied, Invalid, InvalidFields, QuotaExceeded
from commands.execution.fake import FakeExecutor
from commands.models import (
    Approval,
    AuditEvent,
    Instance,
    Invocation,
    Membership,
    Notice,
    Restriction,
    Role,
    Run,
    User,
)
from commands.rules.again import Again
from commands.rules.quotas import Quota
from commands.rules.quoting import Insertion
from commands.rules.rate import RateInput
from commands.rules.schema import ParameterSchema
from commands.services import (
    approval_rules,
    approvals,
    approved,
    instances,
    invocations,
    library,
    members,
    messages,
    notice_rules,
    notices,
    pacing,
    quota_table,
    quotas,
    restrictions,
    runs,
    teams,
)
from commands.services.definitions import CommandInput
from commands.services.notice_rules import RuleInput
from commands.services.plans import SavedInput, Values
from commands.services.worker import Worker
from tests.borrowing import borrow
from tests.conftest import HOST_KEY
from tests.services.carrying import create_task, finished, statuses, take, until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.data_layer]
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4nGxyHzmaZcLGTLLBNpLDzyFYvYFvCx2pWnEV1Lv8D"


@pytest.fixture
def rule(cast):
    def make(**parts):
        given = {"hours": "24", **parts}
        return approval_rules.set_rule(
            actor=cast.alice, team=cast.team, now=timezone.now(), **given
        )

    return make


@pytest.fixture
def waiting(cast, fleet, rule):
    """A task of Bob's on three instances, as root, that waits."""
    rule(run_as=["root"])
    return create_task(cast, fleet, "say a")


@pytest.fixture
def worker():
    made = Worker(FakeExecutor())
    yield made
    made.stop()
    connection.close()


def approve(who, task, **more):
    given = {"digest": task.approval.digest, "now": timezone.now(), **more}
    return approvals.approve(actor=who, invocation=task, **given)


def decline(who, task, comment="Not on a Friday."):
    return approvals.decline(actor=who, invocation=task, comment=comment, now=timezone.now())


def withdraw(who, task):
    return approvals.withdraw(actor=who, invocation=task, now=timezone.now())


def state(task):
    return Approval.objects.get(invocation=task).state


def phases(task):
    return set(task.runs.values_list("phase", flat=True))


def codes(task):
    return set(task.runs.values_list("status", "error_code"))


def trail(task):
    found = AuditEvent.objects.filter(target_uid=task.uid, action__startswith="approval:")
    return [(one.action, one.actor_name) for one in found.order_by("pk")]


class TestBorrowedTags:
    """A lender changes what its tags are, and nothing of the borrower's rule."""

    def test_tags_that_are_gone_go_on_to_count(self, cast, fleet):
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[("env", "prod")])
        borrow(fleet[0], cast.other_team, by=cast.alice, to=cast.charlie)
        approval_rules.set_rule(
            actor=cast.charlie,
            team=cast.other_team,
            tags=["env=prod", "audited"],
            hours="24",
            now=timezone.now(),
        )

        def why(team):
            return approval_rules.reasons(team=team, instances=[fleet[0]], run_as="")

        asked = ["With the tag env=prod: web-01."]
        assert why(cast.other_team) == asked
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[("env", "test")])
        assert why(cast.other_team) == asked
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[("audited", "")])
        assert why(cast.other_team) == [*asked, "With the tag audited: web-01."]

    def test_an_owner_s_own_rule_looks_at_what_there_is(self, cast, fleet, rule):
        rule(tags=["env=prod"])
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[("env", "prod")])
        borrow(fleet[0], cast.other_team, by=cast.alice, to=cast.charlie)
        instances.set_tags(actor=cast.alice, instance=fleet[0], tags=[])
        assert approval_rules.reasons(team=cast.team, instances=[fleet[0]], run_as="") == []


class TestTheNumberOfRuns:
    """What waits is no run at a time; what is approved is."""

    def test_more_than_may_go_on_are_not_let_go(self, waiting, cast, fleet):
        key = Quota.RUNS_AT_A_TIME
        place = {"team": cast.team, "region": cast.region, "key": key}
        cast.alice.is_staff = True
        quotas.set_limit(actor=cast.alice, **place, limit=5)
        other = create_task(cast, fleet, "say b")
        approve(cast.alice, waiting)
        with pytest.raises(QuotaExceeded):
            approve(cast.alice, other)
        assert state(other) == "waiting"
        assert phases(other) == {"unapproved"}
        assert trail(other) == [("approval:ask", "bob")]
        invocations.stop_invocation(actor=cast.bob, invocation=waiting, now=timezone.now())
        approve(cast.alice, other)
        assert state(other) == "approved"

    def test_of_two_that_are_approved_at_once_so_many_go_on_as_may(self, waiting, cast, fleet):
        other = create_task(cast, fleet, "say b")
        cast.alice.is_staff = True
        place = {"team": cast.team, "region": cast.region, "key": Quota.RUNS_AT_A_TIME}
        quotas.set_limit(actor=cast.alice, **place, limit=5)
        both = [waiting, other]
        assert all(task.approval.waits for task in both)  # read before the threads share it
        start, came = threading.Barrier(2), []

        def act(task):
            try:
                start.wait()
                came.append(approve(cast.alice, task).state)
            except Exception as error:
                came.append(type(error).__name__)
            finally:
                connection.close()

        threads = [threading.Thread(target=act, args=(task,)) for task in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(came) == ["QuotaExceeded", "approved"]
        assert sorted(state(task) for task in both) == ["approved", "waiting"]


class TestWaiting:
    """Which tasks wait, and that nothing of them moves."""

    def test_nothing_is_dispatched_however_long_it_waits(self, waiting, worker, sent):
        assert phases(waiting) == {"unapproved"}
        assert statuses(waiting) == ["Pending"] * 3
        assert not [job for job, _ in sent if job is queue.Job.START_RUNS]
        assert take(worker, waiting) == 0
        later = timezone.now() + timedelta(hours=12)
        assert runs.overdue(now=later) == []
        runs.expire(now=later)
        pacing.advance_all(now=later)
        pacing.advance(invocation_id=waiting.pk, now=later)
        assert not pacing.next_batch(invocation_id=waiting.pk, after=None, now=later)
        assert phases(waiting) == {"unapproved"}
        assert statuses(waiting) == ["Pending"] * 3

    def test_what_is_asked(self, waiting, cast):
        asked = waiting.approval
        assert asked.why == ["As the user root: on web-01, web-02, web-03."]
        assert asked.digest == approved.digest_of(waiting)
        assert len(asked.digest) == 64
        assert asked.expires_at - asked.asked_at == timedelta(hours=24)
        assert trail(waiting) == [("approval:ask", "bob")]
        event = AuditEvent.objects.get(action="approval:ask")
        assert event.details == {"digest": asked.digest, "why": asked.why}

    def test_what_fits_no_rule_runs_at_once(self, cast, fleet, rule):
        rule(tags=["env=prod"], run_as=["oracle"], more_than="3")
        task = create_task(cast, fleet, "say a")
        assert phases(task) == {"queued"}
        assert not Approval.objects.exists()

    def test_a_tag_of_one_of_the_instances_is_enough(self, cast, fleet, rule):
        instances.set_tags(actor=cast.alice, instance=fleet[1], tags=[("env", "prod")])
        rule(tags=["env=prod"])
        assert phases(create_task(cast, fleet, "say a")) == {"unapproved"}
        assert phases(create_task(cast, [fleet[0]], "say a")) == {"queued"}

    def test_a_team_admin_waits_too(self, cast, fleet, rule):
        rule(more_than="0")
        assert phases(create_task(cast, fleet, "say a", actor=cast.alice)) == {"unapproved"}

    def test_running_it_again_waits_again(self, cast, waiting):
        approve(cast.alice, waiting)
        Run.objects.filter(invocation=waiting).update(
            status="Failed", exit_code=1, phase="finished", finished_at=timezone.now()
        )
        again = invocations.repeat_invocation(
            actor=cast.bob, invocation=waiting, kind=Again.RETRY, now=timezone.now()
        )
        assert phases(again) == {"unapproved"}
        assert again.approval.digest != waiting.approval.digest

    def test_a_saved_command_waits(self, cast, fleet, waiting):
        saved = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="kept", type="RunShellScript", content="true"),
            save=True,
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        again = invocations.invoke_command(
            actor=cast.alice,
            team=cast.team,
            region=cast.region,
            command=SavedInput(saved.command_uid),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        assert phases(again) == {"unapproved"}

    def test_repeating_the_request_answers_with_the_task_that_waits(self, cast, fleet, rule):
        rule(more_than="0")
        given = {
            "actor": cast.bob,
            "team": cast.team,
            "region": cast.region,
            "command": CommandInput(name="n", type="RunShellScript", content="true"),
            "instance_uids": [fleet[0].uid],
            "client_token": "one",
        }
        first = invocations.run_command(**given, now=timezone.now())
        assert invocations.run_command(**given, now=timezone.now()) == first
        assert Approval.objects.count() == 1

    def test_turning_the_rule_off_lets_nothing_go(self, waiting, rule):
        rule()
        pacing.advance_all(now=timezone.now())
        assert (phases(waiting), state(waiting)) == ({"unapproved"}, "waiting")


class TestHiddenCode:
    """A hidden value that could be code is refused: an approver would say yes to a mark."""

    def run(self, cast, fleet, hidden=("key",), **schema):
        return invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="n",
                type="RunShellScript",
                content="{{Key}}",
                use_params=True,
                parameters={"key": ParameterSchema(**schema)} if schema else {},
            ),
            values=Values({"key": "rm -rf /"}, hidden),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )

    @pytest.mark.parametrize("schema", [{}, {"secret": True}])
    def test_as_typed(self, cast, fleet, rule, schema):
        rule(more_than="0")
        with pytest.raises(InvalidFields) as error:
            self.run(cast, fleet, () if schema else ("KEY",), **schema)
        assert error.value.errors == {
            "param-key": [
                (
                    "key is hidden and inserted as typed: whoever approves could not see what "
                    "would run. Show it, or have it inserted quoted in the saved command."
                )
            ]
        }
        assert not Invocation.objects.exists()

    def test_quoted_or_shown_or_where_nobody_is_asked(self, cast, fleet, rule):
        rule(more_than="0")
        assert phases(self.run(cast, fleet, insertion=Insertion.QUOTED)) == {"unapproved"}
        assert phases(self.run(cast, fleet, hidden=())) == {"unapproved"}
        rule()
        assert phases(self.run(cast, fleet)) == {"queued"}

    def test_running_it_again(self, cast, fleet, rule):
        task = self.run(cast, fleet)
        rule(more_than="0")
        with pytest.raises(InvalidFields) as error:
            invocations.repeat_invocation(
                actor=cast.bob,
                invocation=task,
                kind=Again.AGAIN,
                values={"key": "true"},
                now=timezone.now(),
            )
        assert list(error.value.errors) == ["param-key"]


class TestNobodyElse:
    """Tasks that nobody could approve are not created."""

    def test_of_one_who_is_alone(self, cast, fleet, rule):
        rule(more_than="0")
        with pytest.raises(Conflict, match="nobody else in Storefront may give it"):
            members.remove(
                actor=cast.alice,
                membership=Membership.objects.get(team=cast.team, user=cast.bob),
                now=timezone.now(),
            )
            create_task(cast, fleet, "say a", actor=cast.alice)
        assert not Invocation.objects.exists()

    def test_of_who_has_only_others_that_are_narrowed(self, cast, fleet, rule):
        rule(more_than="0")
        bob = Membership.objects.get(team=cast.team, user=cast.bob)
        restrictions.set_all(
            actor=cast.alice, membership=bob, wanted=[(Restriction.Kind.NOT_RUN_AS, "root")]
        )
        with pytest.raises(Conflict) as error:
            create_task(cast, fleet, "say a", actor=cast.alice)
        assert error.value.code == "NobodyMayApprove"


class TestApproving:
    """Who may, and what becomes of the task."""

    def test_it_is_queued_in_the_same_moment(self, cast, waiting, sent):
        done = approve(cast.alice, waiting, comment=" Go. ")
        assert (done.state, done.decided_by, done.comment) == ("approved", cast.alice, "Go.")
        assert phases(waiting) == {"queued"}
        ids = list(waiting.runs.order_by("pk").values_list("pk", flat=True))
        assert (queue.Job.START_RUNS, {"run_ids": ids}) in sent
        assert trail(waiting) == [("approval:ask", "bob"), ("approval:approve", "alice")]
        event = AuditEvent.objects.get(action="approval:approve")
        assert event.details["digest"] == waiting.approval.digest

    def test_it_runs(self, cast, waiting, worker):
        approve(cast.alice, waiting)
        take(worker, waiting)
        assert [run.status for run in finished(waiting)] == ["Success"] * 3

    def test_a_lost_message_is_made_up_for(self, cast, waiting):
        approve(cast.alice, waiting)
        later = timezone.now() + runs.RECONCILE_AFTER + timedelta(seconds=1)
        assert len(runs.overdue(now=later)) == 3

    def test_how_fast_it_spreads_counts_from_then(self, cast, fleet, rule):
        rule(more_than="0")
        task = create_task(cast, fleet, "say a", rate=RateInput(canary="1", batch_pause="confirm"))
        assert phases(task) == {"unapproved"}
        approve(cast.alice, task)
        assert [run.phase for run in task.runs.order_by("pk")] == ["queued", "held", "held"]

    def test_never_one_s_own_not_even_as_a_team_admin(self, cast, fleet, rule):
        rule(more_than="0")
        task = create_task(cast, fleet, "say a", actor=cast.alice)
        with pytest.raises(Conflict, match="another member has to decide"):
            approve(cast.alice, task)
        with pytest.raises(Conflict, match="another member has to decide"):
            decline(cast.alice, task)
        assert state(task) == "waiting"
        assert approve(cast.bob, task).state == "approved"

    def test_not_by_who_has_no_such_permission(self, cast, waiting):
        for who in (cast.vera, cast.charlie):
            with pytest.raises(Denied):
                approve(who, waiting)
            with pytest.raises(Denied):
                decline(who, waiting)
        assert state(waiting) == "waiting"

    @pytest.mark.parametrize(
        "narrowed", [("instance_tag", "env=test"), ("run_as", "deploy"), ("not_run_as", "root")]
    )
    def test_not_by_who_could_not_run_it(self, cast, waiting, narrowed):
        olga = User.objects.create_user("olga")
        teams.add_member(team=cast.team, user=olga, role=Role.OPERATOR)
        only = Membership.objects.get(team=cast.team, user=olga)
        restrictions.set_all(actor=cast.alice, membership=only, wanted=[narrowed])
        with pytest.raises(Conflict, match="you could not run this"):
            approve(olga, waiting)
        with pytest.raises(Conflict, match="you could not run this"):
            decline(olga, waiting)

    def test_only_what_was_read(self, cast, waiting):
        with pytest.raises(Conflict, match="Read it again"):
            approve(cast.alice, waiting, digest="0" * 64)
        with pytest.raises(Conflict, match="Read it again"):
            approve(cast.alice, waiting, digest="")
        assert state(waiting) == "waiting"

    def test_once(self, cast, waiting):
        approve(cast.alice, waiting)
        with pytest.raises(Conflict, match="alice has approved it meanwhile"):
            decline(cast.alice, waiting)
        with pytest.raises(Conflict, match="alice has approved it meanwhile"):
            withdraw(cast.bob, waiting)

    def test_what_does_not_wait_can_t_be_decided_on(self, cast, fleet):
        task = create_task(cast, fleet, "say a")
        with pytest.raises(Conflict, match="does not wait for approval"):
            approvals.approve(actor=cast.alice, invocation=task, digest="", now=timezone.now())

    def test_a_comment_has_an_end(self, cast, waiting):
        with pytest.raises(Invalid, match="500 characters"):
            approve(cast.alice, waiting, comment="x" * 501)
        assert state(waiting) == "waiting"


class TestOtherEnds:
    """Declined, withdrawn, stopped, expired."""

    def test_declining(self, cast, waiting):
        assert decline(cast.alice, waiting).comment == "Not on a Friday."
        assert codes(waiting) == {("Cancelled", "ApprovalDeclined")}
        assert waiting.runs.first().error_info == (
            "Declined by alice before it started. Nothing ran."
        )
        assert trail(waiting)[-1] == ("approval:decline", "alice")

    def test_declining_takes_a_comment(self, cast, waiting):
        with pytest.raises(Invalid, match="Say why"):
            decline(cast.alice, waiting, "  ")
        assert state(waiting) == "waiting"

    def test_withdrawing(self, cast, waiting):
        withdraw(cast.bob, waiting)
        assert codes(waiting) == {("Cancelled", "ApprovalWithdrawn")}
        assert (state(waiting), trail(waiting)[-1]) == (
            "withdrawn",
            ("approval:withdraw", "bob"),
        )

    def test_only_who_created_it_withdraws_it(self, cast, waiting):
        for who in (cast.alice, cast.vera, cast.charlie):
            with pytest.raises(Denied):
                withdraw(who, waiting)

    def test_stopping_what_is_another_s_is_told_as_that(self, cast, waiting):
        done = invocations.stop_invocation(actor=cast.alice, invocation=waiting, now=timezone.now())
        assert (done.cancelled, done.stopping) == (3, 0)
        assert codes(waiting) == {("Cancelled", "StoppedBeforeStart")}
        assert (state(waiting), trail(waiting)[-1]) == ("stopped", ("approval:stop", "alice"))
        with pytest.raises(Conflict, match="alice has stopped it meanwhile"):
            approve(cast.alice, waiting)

    def test_stopping_one_s_own_is_withdrawing_it(self, cast, waiting):
        invocations.stop_invocation(actor=cast.bob, invocation=waiting, now=timezone.now())
        assert (state(waiting), trail(waiting)[-1]) == ("withdrawn", ("approval:withdraw", "bob"))

    def test_stopping_it_on_some_leaves_the_others_to_be_decided_on(self, cast, waiting, fleet):
        invocations.stop_invocation(
            actor=cast.bob,
            invocation=waiting,
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        assert state(waiting) == "waiting"
        approve(cast.alice, waiting)
        assert [run.phase for run in waiting.runs.order_by("pk")] == [
            "finished",
            "queued",
            "queued",
        ]

    def test_expiring(self, waiting):
        almost = waiting.approval.expires_at - timedelta(seconds=1)
        assert approvals.expire(now=almost) == 0
        assert approvals.expire(now=waiting.approval.expires_at) == 1
        assert codes(waiting) == {("Cancelled", "ApprovalExpired")}
        assert trail(waiting)[-1] == ("approval:expire", "")
        assert approvals.expire(now=waiting.approval.expires_at) == 0

    def test_the_periodic_job_expires(self, waiting):
        Approval.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
        tasks.reconcile()
        assert state(waiting) == "expired"

    def test_too_late_is_too_late_before_that_job_too(self, cast, waiting):
        done = approve(cast.alice, waiting, now=waiting.approval.expires_at)
        assert done.state == "expired"
        assert codes(waiting) == {("Cancelled", "ApprovalExpired")}

    def test_after_as_many_hours_as_the_team_says(self, cast, fleet, rule):
        rule(more_than="0", hours="2")
        asked = create_task(cast, fleet, "say a").approval
        assert asked.expires_at - asked.asked_at == timedelta(hours=2)


def change_address(cast, instance):
    type(instance).objects.filter(pk=instance.pk).update(host="10.9.9.9")


def change_user(cast, instance):
    type(instance).objects.filter(pk=instance.pk).update(user="deploy")


def change_key(cast, instance):
    type(instance).objects.filter(pk=instance.pk).update(host_key=OTHER_KEY)


def change_way(cast, instance):
    other = Instance.objects.exclude(pk=instance.pk).order_by("-pk")[0]
    instances.set_jump_host(actor=cast.alice, instance=instance, jump_host=other)


def remove(cast, instance):
    instances.remove_instance(actor=cast.alice, instance=instance)


def alter(cast, instance):
    Invocation.objects.update(content="rm -rf /")


def alter_time(cast, instance):
    Invocation.objects.update(timeout=3_600)


def narrow(cast, instance):
    bob = Membership.objects.get(team=cast.team, user=cast.bob)
    restrictions.set_all(
        actor=cast.alice, membership=bob, wanted=[(Restriction.Kind.NOT_RUN_AS, "root")]
    )


def demote(cast, instance):
    Membership.objects.filter(team=cast.team, user=cast.bob).update(role=Role.VIEWER)


class TestWhatIsApproved:
    """The digest: of exactly what runs, compared when somebody decides and before it starts."""

    @pytest.mark.parametrize(
        "change",
        [
            change_address,
            change_user,
            change_key,
            change_way,
            remove,
            alter,
            alter_time,
            narrow,
            demote,
        ],
    )
    def test_a_change_before_the_decision_ends_the_task(self, cast, waiting, fleet, change):
        change(cast, fleet[1])
        done = approve(cast.alice, waiting)
        assert done.state == "outdated"
        assert codes(waiting) == {("Aborted", "ApprovalOutdated")}
        assert "no longer what was put up for approval" in waiting.runs.first().error_info
        assert trail(waiting)[-1] == ("approval:outdated", "")

    @pytest.mark.parametrize(
        "change", [change_address, change_user, change_key, change_way, alter_time]
    )
    def test_a_change_after_it_lets_nothing_begin(self, cast, waiting, fleet, worker, change):
        approve(cast.alice, waiting)
        change(cast, fleet[1])
        take(worker, waiting)
        assert {(run.status, run.error_code) for run in finished(waiting)} == {
            ("Aborted", "ApprovalOutdated")
        }

    def test_a_change_after_it_leaves_a_trace_once(self, cast, waiting, fleet, worker):
        approve(cast.alice, waiting)
        change_address(cast, fleet[1])
        for run in waiting.runs.order_by("pk"):
            worker.take([run.pk], now=timezone.now())
        finished(waiting)
        assert trail(waiting)[1:] == [("approval:approve", "alice"), ("approval:outdated", "")]
        event = AuditEvent.objects.get(action="approval:outdated")
        assert event.details == {"digest": waiting.approval.digest, "approved_by": "alice"}
        row = Approval.objects.get(invocation=waiting)
        assert (row.state, row.decided_by) == ("outdated", cast.alice)

    def test_what_has_changed_stays_ended_when_it_is_put_back(self, cast, waiting, fleet, worker):
        approve(cast.alice, waiting)
        first, *others = waiting.runs.order_by("pk")
        change_key(cast, fleet[1])
        worker.take([first.pk], now=timezone.now())
        type(fleet[1]).objects.filter(pk=fleet[1].pk).update(host_key=HOST_KEY)
        worker.take([run.pk for run in others], now=timezone.now())
        assert {run.error_code for run in finished(waiting)} == {"ApprovalOutdated"}

    def test_what_is_compared_is_what_is_used(self, cast, waiting, fleet, monkeypatch):
        """On a database where other transactions commit in between, a second look could differ."""
        approve(cast.alice, waiting)
        before = Instance.objects.get(pk=fleet[0].pk)
        change_address(cast, fleet[0])
        compare = approved.digest_of

        def put_back(*given):
            type(fleet[0]).objects.filter(pk=fleet[0].pk).update(host=before.host)
            return compare(*given)

        monkeypatch.setattr(approved, "digest_of", put_back)
        ids = list(waiting.runs.values_list("pk", flat=True))
        assert runs.claim(run_ids=ids, owner="w", now=timezone.now()) == []

    def test_what_has_begun_may_change_its_own_host(self, cast, fleet, rule, worker):
        rule(more_than="0")
        task = create_task(cast, fleet, "say a", rate=RateInput(canary="1", batch_pause="confirm"))
        approve(cast.alice, task)
        take(worker, task)
        until(lambda: task.runs.filter(status="Success").count() == 1)
        change_key(cast, fleet[0])
        invocations.continue_invocation(actor=cast.bob, invocation=task, now=timezone.now())
        take(worker, task)
        assert [run.status for run in finished(task)] == ["Success"] * 3
        assert state(task) == "approved"

    @pytest.mark.parametrize("change", [change_address, change_user, change_key, change_way])
    def test_a_lost_worker_s_start_is_not_sent_to_another_host(self, cast, waiting, fleet, change):
        approve(cast.alice, waiting)
        ids = list(waiting.runs.order_by("pk").values_list("pk", flat=True))
        now = timezone.now()
        assert len(runs.claim(run_ids=ids, owner="lost", now=now)) == 3
        change(cast, fleet[1])
        later = now + runs.LEASE + timedelta(seconds=1)
        taken = runs.claim(run_ids=ids, owner="other", now=later)
        assert [one.run_id for one in taken] == [ids[0], ids[2]]
        left = Run.objects.get(pk=ids[1])
        assert (left.status, left.error_code) == ("Error", "OutcomeUnknown")
        assert "nobody knows whether the script began" in left.error_info
        assert trail(waiting)[-1] == ("approval:outdated", "")

    def test_a_run_that_is_known_to_run_is_followed_wherever_it_is(self, cast, waiting, fleet):
        approve(cast.alice, waiting)
        ids = list(waiting.runs.order_by("pk").values_list("pk", flat=True))
        now = timezone.now()
        runs.claim(run_ids=ids, owner="lost", now=now)
        Run.objects.filter(pk__in=ids).update(base="/home/x/.command-console")
        change_address(cast, fleet[1])
        later = now + runs.LEASE + timedelta(seconds=1)
        assert len(runs.claim(run_ids=ids, owner="other", now=later)) == 3

    def test_an_approver_who_left_approves_nothing(self, cast, waiting, worker):
        olga = User.objects.create_user("olga")
        teams.add_member(team=cast.team, user=olga, role=Role.OPERATOR)
        approve(olga, waiting)
        Membership.objects.filter(user=olga).delete()
        take(worker, waiting)
        assert {run.error_code for run in finished(waiting)} == {"NoLongerAllowed"}
        assert "Whoever approved" in waiting.runs.first().error_info

    def test_an_approver_who_was_narrowed_since_approves_nothing(self, cast, waiting, worker):
        olga = User.objects.create_user("olga")
        teams.add_member(team=cast.team, user=olga, role=Role.OPERATOR)
        approve(olga, waiting)
        only = Membership.objects.get(team=cast.team, user=olga)
        restrictions.set_all(actor=cast.alice, membership=only, wanted=[("run_as", "deploy")])
        take(worker, waiting)
        assert {run.error_code for run in finished(waiting)} == {"NoLongerAllowed"}

    def test_who_sets_a_run_going_in_the_database_gets_nothing(self, waiting, worker):
        Run.objects.filter(invocation=waiting).update(**runs.queued(timezone.now()))
        take(worker, waiting)
        assert {run.error_code for run in finished(waiting)} == {"NoLongerAllowed"}

    def test_who_has_it_look_begun_in_the_database_gets_nothing(self, waiting):
        now = timezone.now()
        going = {**runs.queued(now), "phase": "connecting"}
        Run.objects.filter(invocation=waiting).update(**going)
        ids = list(waiting.runs.values_list("pk", flat=True))
        assert runs.claim(run_ids=ids, owner="w", now=now) == []

    def test_it_tells_values_apart_that_nobody_sees(self, cast, fleet, rule):
        rule(more_than="0")

        def digest(secret):
            return invocations.run_command(
                actor=cast.bob,
                team=cast.team,
                region=cast.region,
                command=CommandInput(
                    name="n",
                    type="RunShellScript",
                    content="echo {{key}}",
                    use_params=True,
                    parameters={"key": ParameterSchema(insertion=Insertion.QUOTED)},
                ),
                values=Values({"key": secret}, ["key"]),
                instance_uids=[fleet[0].uid],
                now=timezone.now(),
            )

        first = digest("one-secret")
        kept = approved.digest_of(first)
        second = digest("two-secret")
        Invocation.objects.filter(pk=first.pk).update(values=second.values)
        assert approved.digest_of(Invocation.objects.get(pk=first.pk)) != kept
        assert "one-secret" not in str(Approval.objects.values_list())

    def test_what_is_put_back_is_what_was_asked_for(self, cast, waiting, fleet):
        """The digest is of what is there, not of how it came to be so."""
        change_key(cast, fleet[0])
        type(fleet[0]).objects.filter(pk=fleet[0].pk).update(host_key=HOST_KEY)
        assert approve(cast.alice, waiting).state == "approved"


class TestLostKey:
    """The key of its values is gone: it can't be approved, and all else goes on."""

    @pytest.fixture
    def sealed(self, cast, fleet, rule, settings):
        rule(more_than="0")
        task = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(
                name="n", type="RunShellScript", content="echo {{key}}", use_params=True
            ),
            values=Values({"key": "one"}),
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        settings.CONSOLE_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        return Invocation.objects.defer("values").get(pk=task.pk)

    def test_approving_says_so(self, cast, sealed):
        with pytest.raises(Conflict, match="lacks the encryption key"):
            approve(cast.alice, sealed)
        assert state(sealed) == "waiting"

    def test_it_can_be_declined(self, cast, sealed):
        assert decline(cast.alice, sealed).state == "declined"

    def test_it_can_be_withdrawn(self, cast, sealed):
        assert withdraw(cast.bob, sealed).state == "withdrawn"

    def test_it_can_be_stopped(self, cast, sealed):
        invocations.stop_invocation(actor=cast.alice, invocation=sealed, now=timezone.now())
        assert state(sealed) == "stopped"

    def test_it_expires(self, sealed):
        assert approvals.expire(now=sealed.approval.expires_at) == 1

    def test_whatever_is_wrong_with_one_the_others_expire(self, cast, fleet, rule, monkeypatch):
        rule(more_than="0")
        first, second = (create_task(cast, fleet, "say a") for _ in range(2))
        real = approvals._close

        def fail(approval, *given):
            if approval.invocation_id == first.pk:
                raise RuntimeError("a bad row")
            return real(approval, *given)

        monkeypatch.setattr(approvals, "_close", fail)
        assert approvals.expire(now=first.approval.expires_at + timedelta(hours=1)) == 1
        assert (state(first), state(second)) == ("waiting", "expired")


class TestAround:
    """What else counts, keeps or tells of tasks that wait."""

    def test_who_could_not_run_it_gets_no_mail(self, cast, waiting):
        User.objects.update(email="somebody@example.org")
        olga = User.objects.create_user("olga", email="olga@example.org")
        teams.add_member(team=cast.team, user=olga, role=Role.OPERATOR)
        only = Membership.objects.get(team=cast.team, user=olga)
        restrictions.set_all(actor=cast.alice, membership=only, wanted=[("not_run_as", "root")])
        User.objects.filter(pk=cast.alice.pk).update(email="alice@example.org")
        task = create_task(cast, waiting_instances(waiting), "say a")
        notice = Notice.objects.get(invocation=task, about="asked")
        assert messages.of(notice).to == ("alice@example.org",)

    def test_what_waits_is_not_going_on(self, cast, waiting):
        here = {"team": cast.team, "region": cast.region, "key": Quota.RUNS_AT_A_TIME}
        now = timezone.now()
        assert quotas.usage(**here, now=now).used == 0
        assert quota_table.row(**here, now=now).usage.used == 0
        approve(cast.alice, waiting)
        assert quotas.usage(**here, now=now).used == 3
        assert quota_table.row(**here, now=now).usage.used == 3

    def test_a_long_name_is_cut_where_it_is_kept(self, cast, waiting):
        cast.alice.first_name, cast.alice.last_name = "a" * 150, "b" * 150
        cast.alice.save()
        row = approve(cast.alice, waiting)
        row.full_clean(exclude=["comment"])
        assert row.decided_by_name == "a" * 150

    def test_a_saved_command_that_waits_is_not_said_to_run(self, cast, fleet, rule):
        rule(more_than="0")
        saved = invocations.run_command(
            actor=cast.bob,
            team=cast.team,
            region=cast.region,
            command=CommandInput(name="kept", type="RunShellScript", content="true"),
            save=True,
            instance_uids=[fleet[0].uid],
            now=timezone.now(),
        )
        with pytest.raises(Conflict, match="kept waits for approval in the task"):
            library.delete_commands(
                actor=cast.bob, team=cast.team, region=cast.region, uids=[saved.command_uid]
            )

    @pytest.mark.parametrize("system", ["windows", "linux"])
    def test_on_windows_a_user_is_the_same_in_any_case(self, cast, fleet, rule, system):
        Instance.objects.filter(pk=fleet[0].pk).update(user="ROOT", os_type=system)
        rule(run_as=["root"])
        found = approval_rules.reasons(
            team=cast.team, instances=Instance.objects.filter(pk=fleet[0].pk), run_as=""
        )
        assert bool(found) is (system == "windows")
        only = access.Narrowing(run_as=frozenset({"root"}))
        instance = Instance.objects.get(pk=fleet[0].pk)
        assert only.refuses_user("", instance) is (system == "linux")
        never = access.Narrowing(not_run_as=frozenset({"root"}))
        assert never.refuses_user("", instance) is (system == "windows")


def waiting_instances(task):
    return [run.instance for run in task.runs.order_by("pk")]


class TestAtOnce:
    """Of two who do something at the same moment, one wins and the other is told."""

    @pytest.mark.parametrize("round_", range(3))
    @pytest.mark.parametrize("other", ["approve", "decline", "withdraw", "stop", "expire"])
    def test_one_wins(self, cast, waiting, other, round_):
        olga = User.objects.create_user("olga")
        teams.add_member(team=cast.team, user=olga, role=Role.OPERATOR)
        doing = {
            "approve": lambda: approve(olga, waiting),
            "decline": lambda: decline(olga, waiting),
            "withdraw": lambda: withdraw(cast.bob, waiting),
            "stop": lambda: invocations.stop_invocation(
                actor=cast.bob, invocation=waiting, now=timezone.now()
            ),
            "expire": lambda: approvals.expire(now=waiting.approval.expires_at),
        }
        start, lost, failed = threading.Barrier(2), [], []

        def act(what):
            try:
                start.wait()
                what()
            except Conflict as error:
                lost.append(error.message)
            except Exception as error:
                failed.append(repr(error))
            finally:
                connection.close()

        assert waiting.approval.waits  # read before the threads share it
        acts = [lambda: approve(cast.alice, waiting), doing[other]]
        threads = [threading.Thread(target=act, args=(each,)) for each in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        decided = [action for action, _ in trail(waiting)[1:]]
        assert len(decided) == 1
        if state(waiting) == "approved" and other == "stop":
            assert codes(waiting) == {("Cancelled", "StoppedBeforeStart")}
        elif state(waiting) == "approved":
            assert phases(waiting) == {"queued"}
        else:
            assert phases(waiting) == {"finished"}
        if other not in {"stop", "expire"}:
            assert len(lost) == 1
            assert "meanwhile" in lost[0]


class TestRules:
    """Setting the rule."""

    def test_it_is_set_and_changed_and_noted(self, cast, rule):
        rule(tags=["prod"], run_as=["root"], more_than="5", hours="8")
        made = rule(tags=["env=prod"])
        assert (made.tags, made.run_as, made.more_than, made.expires_hours) == (
            ["env=prod"],
            [],
            None,
            24,
        )
        assert approval_rules.of(cast.team).asks
        rule()
        assert not approval_rules.of(cast.team).asks
        first = AuditEvent.objects.filter(action="approval_rule:set").order_by("pk")[0]
        assert first.details == {
            "tags": ["prod"],
            "run_as": ["root"],
            "more_than": 5,
            "expires_hours": 8,
        }

    def test_the_other_admins_hear_that_it_asks_for_less(self, cast, rule, mailoutbox):
        anne = User.objects.create_user("anne", email="anne@example.org")
        teams.add_member(team=cast.team, user=anne, role=Role.TEAM_ADMIN)
        User.objects.filter(pk=cast.alice.pk).update(email="alice@example.org")
        rule(tags=["prod"], run_as=["root"])
        rule(tags=["prod"], run_as=["root", "oracle"])
        assert mailoutbox == []
        rule(tags=["prod"])
        assert [one.to for one in mailoutbox] == [["anne@example.org"]]
        assert mailoutbox[0].subject == "Storefront: fewer tasks need approval now"
        assert "alice changed the rule" in mailoutbox[0].body

    def test_only_team_admins_set_it(self, cast):
        for who in (cast.bob, cast.vera, cast.charlie):
            with pytest.raises(Denied):
                approval_rules.set_rule(actor=who, team=cast.team, hours="24", now=timezone.now())

    def test_what_is_wrong_changes_nothing(self, rule, cast):
        rule(tags=["prod"])
        with pytest.raises(InvalidFields):
            rule(tags=["prod"], more_than="many")
        assert approval_rules.of(cast.team).tags == ["prod"]


class TestTelling:
    """Who is told, by e-mail and by webhook."""

    @pytest.fixture(autouse=True)
    def addresses(self, cast):
        for who in (cast.alice, cast.bob, cast.vera):
            User.objects.filter(pk=who.pk).update(email=f"{who.username}@example.com")
            who.refresh_from_db()

    def told(self, task):
        found = task.notices.order_by("pk")
        return [(one.about, one.rule_id is None) for one in found]

    def test_who_may_approve_is_mailed_and_who_asked_hears_the_decision(self, cast, waiting):
        assert self.told(waiting) == [("asked", True)]
        asked = messages.of(waiting.notices.get())
        assert asked.to == ("alice@example.com",)
        assert asked.subject == "Waiting for approval: n"
        assert "As the user root" in asked.text
        assert waiting.approval.digest in asked.text
        decline(cast.alice, waiting)
        decided = messages.of(waiting.notices.get(about="decided"))
        assert decided.to == ("bob@example.com",)
        assert decided.subject == "Declined: n"
        assert "Not on a Friday." in decided.text

    def test_who_withdraws_is_not_told_so(self, cast, waiting):
        withdraw(cast.bob, waiting)
        assert self.told(waiting) == [("asked", True)]

    def test_webhooks_that_want_every_task(self, cast, fleet, rule):
        for when in ("always", "problems"):
            notice_rules.add_rule(
                actor=cast.alice,
                team=cast.team,
                rule=RuleInput("webhook", "https://chat.example/hook", when),
                now=timezone.now(),
            )
        rule(more_than="0")
        task = create_task(cast, fleet, "say a")
        assert self.told(task) == [("asked", False), ("asked", True)]
        approve(cast.alice, task)
        hooks = [messages.of(one) for one in task.notices.exclude(rule=None).order_by("pk")]
        assert [hook.event for hook in hooks] == ["approval.asked", "approval.decided"]
        assert b'"state":"approved"' in hooks[1].body

    def test_the_end_is_told_besides(self, cast, waiting):
        notice_rules.add_rule(
            actor=cast.alice,
            team=cast.team,
            rule=RuleInput("webhook", "https://chat.example/hook"),
            now=timezone.now(),
        )
        decline(cast.alice, waiting)
        assert notices.settle(now=timezone.now()) == 1
        assert Notice.objects.filter(invocation=waiting, about="ended").count() == 1
