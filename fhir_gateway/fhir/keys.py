"""64-bit keys: short numbers that stand for names in index rows."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from zlib import crc32


@lru_cache(maxsize=65_536)
def key64(text: str, secret: bytes = b"") -> int:
    """A signed 64-bit key of a text, keyed by `secret` where input could aim at collisions."""
    return int.from_bytes(
        blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=secret).digest(),
        "big",
        signed=True,
    )


@lru_cache(maxsize=4_096)
def type_key(type: str) -> int:
    """The stored number of a resource type (CRC-32; a test proves that no two R4 types collide)."""
    return crc32(type.encode())


@lru_cache(maxsize=16_384)
def parameter_key(type: str, code: str) -> int:
    """The stored number of a search parameter of a type, such as Observation.code (CRC-32)."""
    return crc32(f"{type}.{code}".encode())
