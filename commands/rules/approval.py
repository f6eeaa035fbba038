"""Which tasks another member has to approve, and why: a team's rule, and what it fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from commands.rules import limits
from commands.rules.problems import Problems
from commands.words import gettext as _
from commands.words import kept

NAMED = 5
"""Instances that a reason names; of more it says so."""
_TAGGED = kept("With the tag %(tag)s: %(names)s.")
_AS_USER = kept("As the user %(user)s: on %(names)s.")
_MANY = kept("Number of instances: %(n)s, which is more than %(most)s.")
TAG_CHARS = limits.TAG_KEY_CHARS + 1 + limits.TAG_VALUE_CHARS


@dataclass(frozen=True, slots=True)
class Rule:
    """Any of it is enough. A tag is ``key=value``, or ``key`` for any value."""

    tags: Sequence[str] = ()
    run_as: Sequence[str] = ()
    more_than: int | None = None
    hours: int = limits.APPROVAL_HOURS

    @property
    def asks(self) -> bool:
        """Whether there is any task that it fits."""
        return bool(self.tags or self.run_as) or self.more_than is not None

    def asks_less_than(self, before: Rule) -> bool:
        """Whether a task may fit ``before`` that does not fit this."""
        if self.more_than == 0:
            return False  # every task fits this
        if before.more_than is not None and (
            self.more_than is None or self.more_than > before.more_than
        ):
            return True
        tags = set(self.tags)
        kept = all(tag in tags or tag.partition("=")[0] in tags for tag in before.tags)
        return not (kept and set(self.run_as).issuperset(before.run_as))


@dataclass(frozen=True, slots=True)
class Target:
    """An instance as the rule sees it: its tags, and whom the script would run as there.

    ``windows`` says that names of users mean the same in any case.
    """

    name: str
    user: str
    tags: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    windows: bool = False

    def runs_as(self, user: str) -> bool:
        """Whether the script would run as ``user``."""
        same = self.windows and self.user.casefold() == user.casefold()
        return same or self.user == user

    def has(self, tag: str) -> bool:
        """Whether it has the tag."""
        key, equals, value = tag.partition("=")
        return any(key == own and (not equals or value == theirs) for own, theirs in self.tags)


def reasons(rule: Rule, targets: Sequence[Target]) -> list[str]:
    """Why a task on ``targets`` needs approval, as stored sentences; none if it needs none."""
    return [*_tagged(rule, targets), *_as_users(rule, targets), *_too_many(rule, targets)]


def _tagged(rule: Rule, targets: Sequence[Target]) -> Iterator[str]:
    for tag in rule.tags:
        if names := [target.name for target in targets if target.has(tag)]:
            yield _TAGGED % {"tag": tag, "names": _listed(names)}


def _as_users(rule: Rule, targets: Sequence[Target]) -> Iterator[str]:
    for user in rule.run_as:
        if names := [target.name for target in targets if target.runs_as(user)]:
            yield _AS_USER % {"user": user, "names": _listed(names)}


def _too_many(rule: Rule, targets: Sequence[Target]) -> Iterator[str]:
    if rule.more_than is not None and len(targets) > rule.more_than:
        yield _MANY % {"n": f"{len(targets):,}", "most": f"{rule.more_than:,}"}


def check(*, tags: Sequence[str], run_as: Sequence[str], more_than: str, hours: str) -> Rule:
    """The rule that was typed. Raises InvalidFields with a sentence for each that is wrong."""
    problems = Problems()
    checked = Rule(
        _values("tags", tags, TAG_CHARS, problems),
        _values("run_as", run_as, limits.RUN_AS_CHARS, problems),
        _more_than(more_than, problems),
        _hours(hours, problems),
    )
    problems.raise_any()
    return checked


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")


def _values(field: str, typed: Sequence[str], most: int, problems: Problems) -> list[str]:
    found = list(dict.fromkeys(value for line in typed if (value := line.strip())))
    if len(found) > limits.APPROVAL_VALUES:
        text = _("Enter %(most)s lines or fewer.")
        problems.add(field, text % {"most": limits.APPROVAL_VALUES})
    for value in found:
        if len(value) > most or not value.isprintable() or value.startswith("="):
            text = _("%(value)s can’t be one: enter 1 to %(most)s characters in each line.")
            problems.add(field, text % {"value": value[:40], "most": most})
            break
    return found


def _more_than(typed: str, problems: Problems) -> int | None:
    digits = typed.strip()
    if not digits:
        return None
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 7):
        problems.add("more_than", _("Enter a whole number of instances, or leave it empty."))
        return None
    return int(digits)


def _hours(typed: str, problems: Problems) -> int:
    digits = typed.strip()
    fits = digits.isascii() and digits.isdecimal() and len(digits) < 7
    if not fits or not 1 <= int(digits) <= limits.APPROVAL_HOURS_MAX:
        text = _("Enter a whole number of hours from 1 to %(most)s.")
        problems.add("hours", text % {"most": limits.APPROVAL_HOURS_MAX})
        return limits.APPROVAL_HOURS
    return int(digits)
