"""References inside a resource: found once, rewritten in place, checked against the store.

The rule of referential integrity, for every write: each literal reference of the form `Type/id`
(with or without `/_history/v`), wherever it stands in the resource, must name a resource that is
stored and not deleted, or is stored by the same request. Not checked: absolute URLs of other
servers, `#contained`, references without a literal (identifier, display), references to the
append-only records (AuditEvent, GuidanceResponse), and what stands inside a stored Bundle, which
is a document of its own. hl7.org/fhir/R4/references.html, bundle.html#references.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference

#: Types that only the gateway itself writes, to the journal.
JOURNAL_TYPES = frozenset({"AuditEvent", "GuidanceResponse"})

_Path = tuple[Any, str | int]  # (path of the parent or None, name or index)


class Slot(NamedTuple):
    """One `reference` value: the Reference that holds it, its text as received, its place."""

    holder: dict[str, Any]
    text: str
    path: Any


def slots(resource: dict[str, Any]) -> list[Slot]:
    """Every literal reference of a resource."""
    found: list[Slot] = []
    if resource.get("resourceType") == "Bundle":
        return found
    stack: list[tuple[Any, _Path | None]] = [(resource, None)]
    while stack:
        value, path = stack.pop()
        if type(value) is dict:
            for name, child in value.items():
                kind = type(child)
                if kind is dict or kind is list:
                    stack.append((child, (path, name)))
                elif name == "reference" and kind is str:
                    found.append(Slot(value, child, path))
        else:
            for index, child in enumerate(value):
                kind = type(child)
                if kind is dict or kind is list:
                    stack.append((child, (path, index)))
    return found


def expression(root: str, slot: Slot) -> str:
    """The FHIRPath of a slot, such as Observation.subject.reference."""
    parts: list[str] = []
    path = slot.path
    while path is not None:
        path, step = path
        parts.append(f"[{step}]" if isinstance(step, int) else f".{step}")
    return root + "".join(reversed(parts)) + ".reference"


def local(text: str, base_url: str = "") -> Reference | None:
    """What a reference names on this server; None for every other kind of reference."""
    if text.startswith(("#", "urn:")):
        return None
    parsed = parse_reference(text, base_url)
    return parsed if isinstance(parsed, Reference) else None


def full_url_base(full_url: str | None, type: str) -> str:
    """What relative references in an entry are relative to: the part before `Type/id`, or ""."""
    if not full_url or full_url.startswith("urn:"):
        return ""
    base, separator, _ = full_url.rpartition(f"/{type}/")
    return base + "/" if separator else ""


def checked(names: Iterable[Reference]) -> list[str]:
    """The "Type/id" of those references that the rule of integrity covers."""
    return [f"{name.type}/{name.id}" for name in names if name.type not in JOURNAL_TYPES]
