"""Which codes mean something else since a map of local codes has changed, in a few bytes.

Codes are put into buckets by a hash. Two versions of a map differ in the buckets of all codes whose
rows differ, so that a job can pass over a resource whose codes lie in no such bucket; one that
shares a bucket by chance is looked at for nothing, and none is missed. Pure.
"""

from __future__ import annotations

from base64 import b85decode, b85encode
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.local_map import USES, Row, Use
from fhir_gateway.terminology.mapped_by import mapped_by

BUCKETS = 4096

_Spelled = tuple[Any, ...]


class Changed:
    """A set of buckets; `everything` when it is not known what has changed."""

    __slots__ = ("_bits", "everything")

    def __init__(self, bits: int = 0, *, everything: bool = False) -> None:
        self._bits = bits
        self.everything = everything

    def __bool__(self) -> bool:
        return self.everything or bool(self._bits)

    def add(self, rows: Iterable[Row]) -> None:
        """Adds the codes of these rows."""
        for row in rows:
            self._bits |= 1 << _bucket(row.use, row.code or f"={row.name}")

    def touches(self, keys: Iterable[str]) -> bool:
        """Whether one of these keys (see `keys_of`) may mean something else, in any use."""
        if self.everything:
            return True
        return any(self._bits >> _bucket(use, key) & 1 for key in keys for use in USES)

    def spelled(self) -> str:
        """The set as text; `read_changed` is the inverse."""
        if self.everything:
            return "*"
        return b85encode(self._bits.to_bytes(BUCKETS // 8, "big").lstrip(b"\0")).decode()


def read_changed(text: str) -> Changed:
    """The inverse of `spelled`."""
    if text == "*":
        return Changed(everything=True)
    return Changed(int.from_bytes(b85decode(text), "big"))


def _bucket(use: Use, key: str) -> int:
    digest = blake2b(f"{use}|{key}".encode(), digest_size=2).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def keys_of(concept: Mapping[str, Any]) -> Iterator[str]:
    """What rows are found by for a CodeableConcept as its sender spelled it: its codes, or its
    names when it has none.

    The same as `LocalMap.find` looks for; the system is not told apart.
    """
    codings = [coding for coding in concept.get("coding", ()) if mapped_by(coding) is None]
    codes = [coding["code"] for coding in codings if coding.get("code")]
    yield from codes
    if not codes:
        for name in (concept.get("text"), *(coding.get("display") for coding in codings)):
            if name:
                yield f"={name}"


def differing(one: Iterable[Row], other: Iterable[Row]) -> list[Row]:
    """The rows that only one of two versions has."""
    before, now = {_spelled(row): row for row in one}, {_spelled(row): row for row in other}
    return [
        *(row for key, row in before.items() if key not in now),
        *(row for key, row in now.items() if key not in before),
    ]


def _spelled(row: Row) -> _Spelled:
    """All that decides what a row maps, and to what."""
    name = "" if row.code else row.name
    items = tuple(f"{item.system}|{item.code}" for item in row.items)
    return (row.use, row.system, row.code, name, items, row.specimen, row.unit, row.method,
            row.start, row.end)  # fmt: skip


def digest_of_rows(rows: Iterable[Row]) -> str:
    """The same for rows that map the same, in whatever order they stand."""
    return digest_of_told(sorted(map(_spelled, rows)))


def digest_of_catalogue(catalogue: Catalogue) -> str:
    """The same for catalogues by which resources are coded the same."""
    items = ((one.code, one.kind, one.loinc, one.loinc_relation, one.specimen, one.ucum_unit)
             for one in catalogue.items.values())  # fmt: skip
    return digest_of_told(sorted(items))


def digest_of_told(told: Any) -> str:
    """The same for what is spelled the same."""
    return blake2b(repr(told).encode(), digest_size=12).hexdigest()
