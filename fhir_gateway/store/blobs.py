"""Bodies on disk: raw when short, else zstd (RFC 8878) with the dictionary that ships with it.

The number beside a body says how it is encoded, for ever: a retrained dictionary gets a new number
and the old file stays.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

import zstandard

RAW, ZSTD, PURGED, IN_JOURNAL = 0, 1, 8, 9

#: Below this many bytes a frame costs more than it saves.
SHORT = 100

#: What is left to read of a record that was removed when its time was over: an AuditEvent that
#: tells of nobody (docs/accountability.md).
TOMBSTONE = (
    b'},"type":{"system":"http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",'
    b'"code":"destroy","display":"Destroy/Delete Record Lifecycle Event"},"_recorded":{"extension":'
    b'[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]},'
    b'"agent":[{"who":{"display":"fhir-gateway"},"requestor":false}],'
    b'"source":{"observer":{"display":"fhir-gateway"}}}'
)

_LEVEL = 3


class _Coders(threading.local):
    """One compressor and one decompressor per thread: neither may be shared."""

    def __init__(self) -> None:
        dictionary = _dictionary()
        self.compress = zstandard.ZstdCompressor(
            level=_LEVEL, dict_data=dictionary, write_checksum=False, write_dict_id=False
        ).compress
        self.decompress = zstandard.ZstdDecompressor(dict_data=dictionary).decompress


@cache
def _dictionary() -> zstandard.ZstdCompressionDict:
    path = Path(__file__).with_name("bodies-1.zdict")
    dictionary = zstandard.ZstdCompressionDict(path.read_bytes())
    dictionary.precompute_compress(level=_LEVEL)
    return dictionary


_coders = _Coders()


def pack(body: bytes) -> tuple[int, bytes]:
    """How the body is kept: its encoding and its bytes."""
    if len(body) < SHORT:
        return RAW, body
    packed = _coders.compress(body)
    return (ZSTD, packed) if len(packed) < len(body) else (RAW, body)


def unpack(enc: int, body: bytes) -> bytes:
    """The inverse of `pack`. Raises ValueError for an encoding that this version does not know."""
    if enc == ZSTD:
        return _coders.decompress(body)
    if enc == RAW:
        return body
    if enc == PURGED:
        return TOMBSTONE
    raise ValueError(f"body encoding {enc} is not known to this version")
