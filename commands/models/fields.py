"""Fields that encrypt at rest, so that a leaked database shows no secret.

Values are Fernet tokens (AES-128-CBC with HMAC). ``settings.CONSOLE_ENCRYPTION_KEYS`` lists
keys, newest first: the first encrypts, all decrypt, so keys can be rotated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

if TYPE_CHECKING:
    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField


def cipher() -> MultiFernet:
    """The cipher made of the configured keys."""
    return MultiFernet([Fernet(key) for key in settings.CONSOLE_ENCRYPTION_KEYS])


class EncryptedTextField(_TextField):
    """Text that is stored encrypted. It cannot be searched or compared in the database."""

    def get_prep_value(self, value: Any) -> Any:
        """Encrypt on the way into the database; the empty string stays empty."""
        return cipher().encrypt(str(value).encode()).decode() if value else ""

    def from_db_value(self, value: str | None, *_args: object) -> str | None:
        """Decrypt on the way out. Raises ImproperlyConfigured if no key fits."""
        if not value:
            return value
        try:
            return cipher().decrypt(value.encode()).decode()
        except InvalidToken:
            raise ImproperlyConfigured(
                "A stored secret can't be decrypted: CONSOLE_ENCRYPTION_KEYS lacks the key it "
                "was encrypted with. Add that key to the end of the list."
            ) from None
