"""Key pairs to sign in with: made here, and what of them may be shown."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from commands.execution.dialing import private_key


def generate() -> str:
    """The private half of a new Ed25519 key pair, as OpenSSH writes it."""
    fresh = Ed25519PrivateKey.generate()
    return fresh.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def public_half(text: str, passphrase: str = "") -> str:
    """The public half of a private key, ``"type base64"``. Raises ConnectFailed."""
    key = private_key(text, passphrase)
    return f"{key.get_name()} {key.get_base64()}"
