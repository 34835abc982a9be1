"""Logical ids from business keys: the same thing sent again is the same resource.

An id is a hash of the institution, the resource type and the institution's own number, so that a
resend, a correction and a second channel of the same institution meet in one resource, and two
institutions never do. RFC 4648 base32, lower case, 26 characters (128 bits).
"""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha256


def business_id(institution: str, type: str, *key: str) -> str:
    """The logical id of the resource of this type with this key at this institution."""
    text = "\x1f".join((institution, type, *key))
    digest = sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
    return b32encode(digest).decode("ascii").rstrip("=").lower()
