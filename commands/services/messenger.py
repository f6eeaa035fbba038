"""The messenger: makes the notices of tasks that have ended, and sends what is due, a thread each.

The recorder of the same process rings when a run has ended, a periodic job in any case.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from django.core.mail import EmailMessage
from django.utils import timezone

from commands.services import notices, refusals, webhooks
from commands.services.errands import Errands
from commands.services.messages import Mail, Message
from commands.services.notices import Delivery

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Notices that one worker process sends at the same time."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A message, the notice that it is of, and which attempt this is."""

    notice_id: int
    attempt: int
    message: Message


class Messenger(Errands[Errand, Delivery]):
    """Sends notices, whenever it is asked to."""

    name = "messenger"
    errand = "send notice"

    def __init__(self) -> None:
        super().__init__(AT_ONCE)

    def claim(self, busy: AbstractSet[int], room: int) -> list[tuple[int, Errand]]:
        """See ``Errands.claim``."""
        now = timezone.now()
        notices.settle(now=now)
        claimed = notices.claim(busy=busy, limit=room, now=now)
        return [(row.pk, Errand(row.pk, row.attempts, message)) for row, message in claimed]

    def run(self, target: Errand) -> Delivery:
        """See ``Errands.run``."""
        return Delivery(target.notice_id, target.attempt, send(target.message))

    def record(self, results: Sequence[Delivery]) -> None:
        """See ``Errands.record``."""
        notices.record(deliveries=results, now=timezone.now())


def send(message: Message) -> str:
    """Send it; why it was not taken, as a sentence, or ""."""
    try:
        if isinstance(message, Mail):
            _mail(message)
        else:
            webhooks.send(message)
    except webhooks.NotTaken as error:
        return str(error)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        log.info("Notice %s was not sent: %s", message.uid, error)
        said = " ".join(str(error).split())[:200]
        return refusals.NOT_MAILED % {"why": said or type(error).__name__}
    return ""


def _mail(mail: Mail) -> None:
    letters = (mail, *mail.others)
    refused = []
    for number, letter in enumerate(letters):
        name = f"{mail.uid}.{number}" if number else mail.uid
        headers = {"X-Console-Id": mail.uid, "Message-ID": f"<{name}@command-console>"}
        subject = f"[Command Console] {letter.subject}"
        try:
            EmailMessage(subject=subject, body=letter.text, to=letter.to, headers=headers).send()
        except smtplib.SMTPRecipientsRefused as error:
            refused.append(error)  # those of the other letters may be taken
    if len(refused) == len(letters):
        raise refused[0]
