"""What the mappers of one v2 message share: sender, tables, codes, and what was doubtful."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.errors import Issue
from fhir_gateway.mapping.doors import INTAKE_SYSTEM
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.mapping.tables import Row, Table, look_up, table
from fhir_gateway.mapping.v2 import Delimiters, Message, Segment, wrong
from fhir_gateway.mapping.v2_own import extensions, own_segments
from fhir_gateway.mapping.v2_time import Moment, read_time
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.local_map import LOCAL_SUFFIX

TABLE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-"

#: More warnings than a sender reads; what lies beyond is only counted.
MAX_WARNINGS = 50


@dataclass(slots=True)
class Draft:
    """The resources made so far, in an order in which each only points to earlier ones."""

    institution: Institution
    folder: str
    resources: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    guessed: bool = False  # a time got a zone that the institution is not registered with
    others: frozenset[str] = frozenset()  # names and OIDs by which others assign numbers
    own_segments: Mapping[tuple[str, int], list[str]] = field(default_factory=dict)  # Z segments
    last: Segment | None = None  # what ends the message, and may have been cut off
    kits: dict[Any, dict[Any, Any]] | None = None  # what v2_kits remembers, for messages
    kits_of: Delimiters | None = None  # with these signs
    kit: tuple[Segment, dict[Any, Any]] | None = None  # of the OBX that was looked up last

    def rows(self, name: str, extra: str = "") -> Table:
        """A table of mappings/v2."""
        return table(self.folder, name, extra)

    def id(self, type: str, *key: str) -> str:
        """The logical id of this institution's resource with this key."""
        return business_id(self.institution.id, type, *key)

    def local_system(self) -> str:
        """The system of codes that name none: the institution's own."""
        return local_system(self.institution)

    def add(self, resource: dict[str, Any]) -> dict[str, str]:
        """Keeps a resource; the reference to it."""
        self.resources.append(resource)
        return {"reference": f"{resource['resourceType']}/{resource['id']}"}

    def extensions(self, segment: Segment) -> list[dict[str, Any]]:
        """The sender's own segments that follow a segment, as extensions."""
        if not self.own_segments:
            return []
        return extensions(self.own_segments.get((segment.name, segment.number), ()))

    def warn(self, segment: Segment, n: int, sentence: str, rule: str) -> None:
        """Notes something doubtful that does not stop the message; it goes into the answer."""
        if len(self.warnings) < MAX_WARNINGS:
            place = segment.where(n)
            self.warnings.append(Issue("invalid", f"{place}: {sentence}", place, rule, "warning"))

    def doubt(self, resource: dict[str, Any], code: str) -> None:
        """Tags a resource with what could not be read."""
        tags = resource.setdefault("meta", {}).setdefault("tag", [])
        if all(tag["code"] != code for tag in tags):
            tags.append({"system": INTAKE_SYSTEM, "code": code})

    def time(self, segment: Segment, n: int, *, component: int = 1) -> Moment | None:
        """The time in a field; None when it is empty. Raises Unprocessable when it is no time."""
        text = segment.text(n, component)
        if not text:
            return None
        moment = read_time(text, self.institution.zone)
        if moment is None:
            raise wrong(segment, n, "this is no time of HL7 v2 (YYYYMMDDHHMMSS)")
        if moment.shifted:
            self.warn(segment, n, "its zone is not that of the institution", "v2-zone")
        self._doubt_zone(segment, n, moment)
        return moment

    def _doubt_zone(self, segment: Segment, n: int, moment: Moment) -> None:
        if moment.local and not self.institution.zone_registered and not self.guessed:
            self.guessed = True
            self.warn(segment, n, "no zone, and the institution is registered with none", "v2-zone")

    def loose_time(self, segment: Segment, n: int, *, component: int = 1) -> Moment | None:
        """The same for times that decide nothing: an impossible one is left out with a warning."""
        text = segment.text(n, component)
        moment = read_time(text, self.institution.zone) if text else None
        if text and moment is None:
            self.warn(segment, n, "this is no time of HL7 v2; it was left out", "v2-time")
        if moment is not None:
            self._doubt_zone(segment, n, moment)
        return moment

    def status(self, segment: Segment, n: int, name: str) -> Row:
        """The row of a status table, `extra` its effect. Raises Unprocessable for other codes."""
        row = look_up(self.rows(name, "effect"), segment.text(n))
        if row is None:
            raise wrong(segment, n, "this status is not in its HL7 table", condition="103")
        return row

    def concept(self, parts: list[str]) -> dict[str, Any]:
        """The CodeableConcept of CE/CWE components `code^name^system^alternate^name^system`.

        Chinese senders also put an abbreviation alone into the fourth or fifth component.
        """
        code, name, system, other, other_name, other_system = (
            " ".join(part.split()) for part in (*parts, *[""] * 6)[:6]
        )
        codings = [self._coding(code, name, system)] if code else []
        if other and other_system:
            codings.append(self._coding(other, other_name, other_system))
        elif abbreviation := other_name or other:
            codings.append({"display": abbreviation})
        concept: dict[str, Any] = {"coding": codings} if codings else {}
        if text := name or ("" if code else " ".join(" ".join(parts).split())):
            concept["text"] = text
        return concept

    def _coding(self, code: str, name: str, system: str) -> dict[str, str]:
        uri = self.system_of(system)
        return {"system": uri, "code": code} | ({"display": name} if name else {})

    def system_of(self, name: str) -> str:
        """The URI for a coding system's name of table 0396, or the institution's own system."""
        row = look_up(self.rows("coding-systems"), name) if name else None
        if row is not None:
            return row.code
        if name.upper().startswith("HL7") and name[3:].isdigit():
            return f"{TABLE_SYSTEM}{name[3:].zfill(4)}"
        return self.local_system()


def draft_of(
    message: Message, institution: Institution, folder: str, others: frozenset[str] = frozenset()
) -> Draft:
    """The empty draft of a message, with what its bytes gave rise to doubt."""
    draft = Draft(institution, folder, others=others, last=message.segments[-1])
    draft.own_segments = own_segments(message)
    if message.decoded.warning is not None:
        draft.warnings.append(message.decoded.warning)
    return draft


def local_system(institution: Institution) -> str:
    """The code system of an institution's own item codes."""
    return f"{CANONICAL}/CodeSystem/{institution.id}{LOCAL_SUFFIX}"


def notes_of(notes: list[Segment]) -> list[dict[str, str]]:
    """NTE segments as Annotations; empty ones are none."""
    return [{"text": text} for note in notes if (text := note.whole(3))] if notes else []


def named(segment: Segment, n: int) -> dict[str, str]:
    """A person in an XCN or CN field as a Reference that only displays the name."""
    repetitions = segment.repetitions(n)
    if not repetitions:
        return {}
    raw = repetitions[0]
    parts, pieces = segment.parts(raw), segment.pieces(raw)
    family = pieces[1][0] if len(pieces) > 1 else ""
    given = parts[2].strip() if len(parts) > 2 else ""
    name = join_name(family, given) or parts[0].strip()
    return {"display": name} if name else {}


def join_name(family: str, given: str) -> str:
    """张 + 三 -> 张三, ZHANG + San -> ZHANG San."""
    unspaced = any("\u2e80" <= c <= "\ud7ff" for c in family + given)
    return ("" if unspaced else " ").join(part for part in (family, given) if part)


def clean(resource: dict[str, Any]) -> dict[str, Any]:
    """Without elements that hold nothing: FHIR has no empty strings, lists or objects."""
    return {
        key: value
        for key, value in resource.items()
        if value or (value is not None and value.__class__ not in _EMPTY)
    }


#: Types whose empty values say nothing; a zero and a false do.
_EMPTY = frozenset({str, list, dict})
