"""References inside a resource: found once, rewritten in place, checked against the store.

The rule of referential integrity, for every write: each literal reference of the form `Type/id`
(with or without `/_history/v`), wherever it stands in the resource, must name a resource that is
stored and not deleted, or is stored by the same request. Not checked: absolute URLs of other
servers, `#contained`, references without a literal (identifier, display), references to the
append-only records (AuditEvent, GuidanceResponse), and what stands inside a stored Bundle, which
is a document of its own. hl7.org/fhir/R4/references.html, bundle.html#references.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference

#: Types that only the gateway itself writes, to the journal.
JOURNAL_TYPES = frozenset({"AuditEvent", "GuidanceResponse"})


class Slot(NamedTuple):
    """One `reference` value: the Reference that holds it, and its text as received."""

    holder: dict[str, Any]
    text: str


def slots(resource: dict[str, Any]) -> list[Slot]:
    """Every literal reference of a resource. Hot: runs for all that comes in."""
    found: list[Slot] = []
    if resource.get("resourceType") == "Bundle":
        return found
    stack: list[Any] = [resource]
    while stack:
        value = stack.pop()
        if type(value) is dict:
            text = value.get("reference")
            if type(text) is str:
                found.append(Slot(value, text))
            value = value.values()
        stack += [child for child in value if type(child) is dict or type(child) is list]
    return found


def expression(root: str, resource: dict[str, Any], slot: Slot) -> str:
    """The FHIRPath of a slot, such as Observation.subject.reference."""
    stack: list[tuple[Any, str]] = [(resource, root)]
    while stack:
        value, path = stack.pop()
        if value is slot.holder:
            return f"{path}.reference"
        if isinstance(value, dict):
            stack += [(child, f"{path}.{name}") for name, child in value.items()]
        elif isinstance(value, list):
            stack += [(child, f"{path}[{index}]") for index, child in enumerate(value)]
    return root


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
