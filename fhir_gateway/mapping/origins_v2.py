"""A v2 message as a source of origins: its components, and the message with one of them changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhir_gateway.mapping.origins import Atom
from fhir_gateway.mapping.tables import Table, table
from fhir_gateway.mapping.v2 import Message, Segment
from fhir_gateway.mapping.v2_adt import Statement
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.security.institution import NUMBER_KINDS, Institution

#: The tables that messages are read by: name -> its fourth column.
TABLES = {
    "abnormal-flags": "", "coding-systems": "", "encounter-class": "", "identifier-types": "system",
    "observation-status": "", "order-control": "", "order-status": "", "priorities": "",
    "qualitative": "", "report-parts": "", "report-status": "", "sections": "section", "sex": "",
    "units": "", "visit-events": "",
}  # fmt: skip

#: Another zone than any institution has that sends here: the same clock, another offset.
_ELSEWHERE = "Pacific/Kiritimati"


def tables_of(folder: str) -> dict[str, Table]:
    """The tables of mappings/v2 by name."""
    return {name: table(folder, name, extra) for name, extra in TABLES.items()}


class V2Source:
    """A parsed message of an institution."""

    def __init__(
        self, message: Message, institution: Institution, *, folder: str,
        others: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.message, self.institution, self.folder = message, institution, folder
        self.others = others
        self.tables: Mapping[str, Table] = tables_of(folder)
        self.atoms: Sequence[Atom] = atoms_of(message)

    def map(self, atom: Atom | None, text: str) -> list[dict[str, Any]]:
        """The resources with one field changed. Raises GatewayError as the mapping does."""
        message = self.message if atom is None else changed(self.message, atom, text)
        return self._mapped(message, self.institution)

    def _mapped(self, message: Message, institution: Institution) -> list[dict[str, Any]]:
        mapped = map_message(message, institution, folder=self.folder, others=self.others)
        if isinstance(mapped, Statement):
            return [pair_resource(mapped, n) for n in range(len(mapped.pairs))]
        return mapped.resources

    def elsewhere(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The resources for another name, number systems, zone and id of the institution."""
        return [
            (part, self._mapped(self._header_for(other), other))
            for part, other in varied(self.institution)
        ]

    def _header_for(self, other: Institution) -> Message:
        """The message as the other institution would send it: MSH-4 names it."""
        header = self.message.header
        fields = [*header.fields]
        if len(fields) > 4 and fields[4]:
            fields[4] = other.id
        msh = replace(header, fields=fields)
        return self.message._replace(header=msh, segments=[msh, *self.message.segments[1:]])


def varied(own: Institution) -> list[tuple[str, Institution]]:
    """Entries that differ in one part from the institution's own, by what that part is called."""
    return [
        ("name", replace(own, name=own.name + "*", facilities=(*own.facilities, own.name))),
        ("identifier systems", replace(own, identifier_systems={
            kind: own.system(kind) + "*" for kind in (*NUMBER_KINDS, "visit", "identifier")
        })),
        ("zone", replace(own, zone=_ELSEWHERE)),
        ("registered zone", replace(own, zone_registered=not own.zone_registered)),
        ("id", replace(own, id=own.id + "-other")),
    ]  # fmt: skip


def pair_resource(statement: Statement, n: int) -> dict[str, Any]:
    """What a statement of two numbers says of one pair, as the two Patients that it names.

    It is no change of a resource: intake sets it beside what is stored (docs/identity.md).
    """
    pair = statement.pairs[n]
    type = "replaced-by" if statement.verb == "merge" else "seealso"
    other = {"reference": f"Patient/{pair.stays.id}"}
    return {
        "resourceType": "Patient",
        "id": pair.goes.id,
        **pair.goes.stated,
        "link": [{"other": other, "type": type}],
    }


def atoms_of(message: Message) -> list[Atom]:
    """The components of all fields that hold something, and each segment but the header."""
    atoms: list[Atom] = []
    for at, segment in enumerate(message.segments):
        if segment.name != "MSH":
            atoms.append(Atom(f"{segment.name}[{segment.number}]", "", (at,), whole=True))
        first = 3 if segment.name == "MSH" else 1
        for n in range(first, len(segment.fields)):
            atoms += _of_field(segment, at, n)
    return atoms


def _of_field(segment: Segment, at: int, n: int) -> list[Atom]:
    raw, signs = segment.field(n), segment.delimiters
    if not raw:
        return []
    atoms = []
    repetitions = raw.split(signs.repetition)
    for r, repetition in enumerate(repetitions):
        components = repetition.split(signs.component)
        for c, component in enumerate(components):
            if component.strip() in ("", '""'):
                continue
            mark = f"({r + 1})" if len(repetitions) > 1 else ""
            part = f".{c + 1}" if len(components) > 1 else ""
            place = f"{segment.name}[{segment.number}]-{n}{mark}{part}"
            atoms.append(Atom(place, segment.unescape(component).strip(), (at, n, r, c)))
    return atoms


def changed(message: Message, atom: Atom, text: str) -> Message:
    """The message with this text in place of an atom's; without the segment for a whole one."""
    at = atom.where[0]
    if atom.whole:
        return message._replace(segments=[*message.segments[:at], *message.segments[at + 1 :]])
    segment = message.segments[at]
    _, n, r, c = atom.where
    signs = segment.delimiters
    repetitions = segment.fields[n].split(signs.repetition)
    components = repetitions[r].split(signs.component)
    components[c] = _escaped(segment, text) if text else ""
    repetitions[r] = signs.component.join(components)
    fields = [*segment.fields]
    fields[n] = signs.repetition.join(repetitions)
    other = replace(segment, fields=fields)
    segments = [*message.segments]
    segments[at] = other
    header = other if at == 0 else message.header
    return message._replace(header=header, segments=segments)


def _escaped(segment: Segment, text: str) -> str:
    field, component, repetition, escape, subcomponent = segment.delimiters
    signs = {escape: "E", field: "F", component: "S", repetition: "R", subcomponent: "T"}
    if escape == "\0" or not any(sign in text for sign in signs):
        return text
    return "".join(f"{escape}{signs[c]}{escape}" if c in signs else c for c in text)
