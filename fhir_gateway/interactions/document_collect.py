"""What goes into a document: a resource and what it refers to, each once, as the caller sees it.

hl7.org/fhir/R4/documents.html#content. References are followed on from what reports are made of
and from nothing else: whom a Patient is linked to, or what else happened in an Encounter, is no
part of a report.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.references import JOURNAL_TYPES
from fhir_gateway.store.store import Reader, Stored

#: Types whose own references belong to a document too.
FOLLOWED = frozenset({
    "DiagnosticReport", "DocumentReference", "ImagingStudy", "Media", "Observation",
    "PractitionerRole", "ServiceRequest", "Specimen",
})  # fmt: skip

#: More than any report has.
MOST, MOST_BYTES = 1_000, 64 << 20

_NAME = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/([0-9]{1,9}))?")


@dataclass(slots=True)
class Collected:
    """The resources in the order in which they were met, and the references that led nowhere:
    what is not there, what was deleted, and what the caller may not see are told alike."""

    found: dict[str, Stored] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)


async def collect(reader: Reader, root: Stored, names: Iterable[str], base: str) -> Collected:
    """What a resource refers to by `names`, and what that refers to, without itself.

    Raises TooCostly instead of leaving any out.
    """
    collected = Collected()
    own = f"{root.type}/{root.id}"
    ahead, met, size = deque(names), set[str](), 0
    while ahead:
        name = local(ahead.popleft(), base)
        if name in met or name.partition("/_history/")[0] == own:
            continue
        met.add(name)
        stored = await _read(reader, name)
        if stored is None:
            collected.missing[name] = None
            continue
        collected.found.setdefault(f"{stored.type}/{stored.id}/{stored.version}", stored)
        size += len(stored.tail)
        if len(met) > MOST or size > MOST_BYTES:
            raise TooCostly(
                f"The document would hold over {MOST} resources, or {MOST_BYTES >> 20} MB",
                rule="document-size",
            )
        if stored.type in FOLLOWED:
            ahead.extend(references(parse(stored.whole())))
    return collected


def local(reference: str, base: str) -> str:
    """A reference without the base of this gateway."""
    return reference.removeprefix(f"{base}/")


async def _read(reader: Reader, name: str) -> Stored | None:
    found = _NAME.fullmatch(name)
    if found is None or found[1] not in definitions().resource_type_set - JOURNAL_TYPES:
        return None
    if found[3]:
        stored = await reader.vread(found[1], found[2], int(found[3]))
    else:
        stored = await reader.read(found[1], found[2])
    return None if stored is None or stored.deleted else stored


def references(value: Any, leave: frozenset[str] = frozenset()) -> Iterator[str]:
    """The references in a resource, in their order, those to its contained resources left out, and
    the files of its attachments; `leave` are elements that are not looked into."""
    if isinstance(value, Mapping):
        for name, one in value.items():
            if isinstance(one, str):
                points = name == "reference" or (name == "url" and one.startswith("Binary/"))
                if points and not one.startswith("#"):
                    yield one
            elif name not in leave:
                yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)
