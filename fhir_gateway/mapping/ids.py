"""Logical ids from business keys: the same thing sent again is the same resource.

An id is a hash of the institution, the resource type and the institution's own number, so that a
resend, a correction and a second channel of the same institution meet in one resource, and two
institutions never do. RFC 4648 base32, lower case, 26 characters (128 bits).
"""

from __future__ import annotations

from hashlib import sha256

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
_SHIFTS = tuple(range(120, -1, -10))


def business_id(institution: str, type: str, *key: str) -> str:
    """The logical id of the resource of this type with this key at this institution."""
    text = "\x1f".join((institution, type, *key))
    digest = sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
    number = int.from_bytes(digest, "big") << 2  # 128 bits as 26 signs of five
    return "".join([_PAIRS[(number >> shift) & 1_023] for shift in _SHIFTS])
