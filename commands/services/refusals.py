"""Why a notice was not taken: sentences that are stored with it, for the admins of its team."""

from __future__ import annotations

from commands.words import gettext_noop, kept, retold

LATE = gettext_noop("It did not answer in time.")
CERTIFICATE = kept("Its certificate is not valid: %(why)s.")
UNREACHED = kept("It can't be reached: %(why)s.")
REDIRECT = kept("It answered %(status)s: redirects are not followed.")
ANSWERED = kept("It answered %(status)s.")
NAMELESS = kept("The name %(name)s is not known.")
NOT_MAILED = kept("The mail server did not take it: %(why)s")

DELETED = gettext_noop("The task or the rule was deleted.")
SWITCHED_OFF = gettext_noop("The rule was switched off.")
NO_ADDRESSES = gettext_noop("No member of the team has an e-mail address.")
HAS_LEFT = gettext_noop("Who created the task is no longer in the team.")
NO_ADDRESS = gettext_noop("Who created the task has no e-mail address.")
UNHEARD = gettext_noop(
    "It was tried again and again, and nothing was heard of it; the server's log may say why."
)
UNREADABLE = gettext_noop(
    "The rule's target or secret can't be decrypted: the console lacks the encryption key they "
    "were stored with. An admin must add that key."
)


def told(stored: str) -> str:
    """One of them, in the reader's language."""
    return retold(stored)
