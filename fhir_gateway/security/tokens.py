"""Static bearer tokens (RFC 6750): 256 random bits, shown once, kept only as a SHA-256.

A random token needs no salt and no slow hash: there is nothing to guess.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256

#: So that a token found in a log or a repository says what it opens.
_PREFIX = "fgw_"


def new_token(random: bytes) -> str:
    """A token made of these random bytes (32 of them). Raises ValueError for fewer than 16."""
    if len(random) < 16:
        raise ValueError("a token needs at least 16 random bytes")
    return _PREFIX + urlsafe_b64encode(random).decode().rstrip("=")


def hash_token(token: str) -> bytes:
    """What is stored of a token."""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header; None when there is none or it is of another scheme."""
    if not header or header[:7].lower() != "bearer ":
        return None
    return header[7:].strip() or None
