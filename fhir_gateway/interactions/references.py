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
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.primitives import PRIMITIVES

#: Types that only the gateway itself writes, to the journal.
JOURNAL_TYPES = frozenset({"AuditEvent", "GuidanceResponse"})


_CONTAINERS = (dict, list)
_UNKNOWN = 1 << 60


class Slot(NamedTuple):
    """One `reference` value: the Reference that holds it, and its text as received."""

    holder: dict[str, Any]
    text: str


def slots(resource: dict[str, Any], raw: bytes = b"\\u") -> list[Slot]:
    """Every literal reference of a resource. Hot: runs for all that comes in.

    `raw` is the JSON that it was read from. It says how many references there can be, so that the
    walk ends with the last of them, and whether there are any in extensions, which may stand
    anywhere; where it spells characters as escapes it says nothing.
    """
    found: list[Slot] = []
    told = b"\\u" not in raw
    most = raw.count(b'"reference"') if told else _UNKNOWN
    kind = resource.get("resourceType")
    if not most or kind == "Bundle":
        return found
    level: list[Any] = [resource]
    if told and b"xtension" not in raw and kind in definitions().resource_type_set:
        names = _holders(kind)
        level = [
            child
            for name, child in resource.items()
            if name in names and type(child) in _CONTAINERS
        ]
        if (plain := _plain(level)) is not None:
            return plain
    while level:
        below: list[Any] = []
        for value in level:
            if type(value) is dict:
                text = value.get("reference")
                if type(text) is str:
                    found.append(Slot(value, text))
                    if len(found) == most:
                        return found
                below += [child for child in value.values() if type(child) in _CONTAINERS]
            else:
                below += [child for child in value if type(child) in _CONTAINERS]
        level = below
    return found


#: What a Reference says that holds no other.
_POINTS = frozenset({"reference", "display"})


def _plain(level: list[Any]) -> list[Slot] | None:
    """The references of members that are nothing else, in the order of the walk; None where there
    is more to look into."""
    found: list[Slot] = []
    listed: list[Slot] = []
    for value in level:
        several = type(value) is list
        for one in value if several else (value,):
            if type(one) is not dict or not one.keys() <= _POINTS:
                return None
            text = one.get("reference")
            if type(text) is str:
                (listed if several else found).append(Slot(one, text))
    return found + listed


@lru_cache(maxsize=256)
def _holders(type: str) -> frozenset[str]:
    """The members of a resource in which References can stand, extensions left out."""
    members = definitions().types[type].members
    return frozenset(name for name, (_, kind) in members.items() if _may_hold(kind, (type,)))


def _may_hold(type: str, above: tuple[str, ...]) -> bool:
    if type in ("Reference", "Resource"):
        return True
    if type == "Extension" or type in PRIMITIVES or type in above:
        return False
    members = definitions().types[type].members
    return any(_may_hold(kind, (*above, type)) for _, kind in members.values())


def expression(root: str, resource: dict[str, Any], slot: Slot) -> str:
    """The FHIRPath of a slot, such as Observation.subject.reference."""
    return expressions(root, resource, [slot]).get(id(slot.holder), root)


def expressions(root: str, resource: dict[str, Any], slots: Iterable[Slot]) -> dict[int, str]:
    """The FHIRPath of each slot by the id() of its holder, in one walk for all of them."""
    wanted = {id(slot.holder) for slot in slots}
    found: dict[int, str] = {}
    stack: list[tuple[Any, str]] = [(resource, root)]
    while stack and len(found) < len(wanted):
        value, path = stack.pop()
        if id(value) in wanted:
            found[id(value)] = f"{path}.reference"
        if type(value) is dict:
            stack += [(c, f"{path}.{n}") for n, c in value.items() if type(c) in _CONTAINERS]
        else:
            stack += [(c, f"{path}[{i}]") for i, c in enumerate(value) if type(c) in _CONTAINERS]
    return found


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
