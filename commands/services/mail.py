"""E-mail: short plain messages to one person. None is ever so important that it may fail a change.

Where messages go is a setting (``EMAIL_URL``): a mail server, or files for somebody to read.
"""

from __future__ import annotations

import logging
from functools import partial

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

log = logging.getLogger(__name__)
_SMTP = "django.core.mail.backends.smtp.EmailBackend"


def reaches_people() -> bool:
    """Whether messages leave this machine: else they are written to files or the console."""
    return bool(settings.EMAIL_BACKEND == _SMTP)


def send(*, to: str, subject: str, body: str) -> bool:
    """Send a message now; whether that worked. A server that does not answer is no error."""
    line = " ".join(subject.split())  # a line break would begin another header
    try:
        return bool(EmailMessage(line, body, to=[to]).send())
    except (OSError, ValueError) as error:  # every error of smtplib is an OSError
        log.warning("A message could not be sent: %s", error)
        return False


def send_later(*, to: str, subject: str, body: str) -> None:
    """Send a message once the present transaction is committed; to nobody if ``to`` is empty."""
    if to:
        transaction.on_commit(partial(send, to=to, subject=subject, body=body), robust=True)
