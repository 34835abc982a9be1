"""The definitions of FHIR R4 that the running gateway reads: types, search parameters, codes.

They are HL7's own (package hl7.fhir.r4.core 4.0.1), cut down at set-up by `fhir.cut` to the folder
`r4/` beside this file (ADR 0002). Loaded once per process.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from fhir_gateway.errors import Internal
from fhir_gateway.settings import CANONICAL

FOLDER = Path(__file__).resolve().parent / "r4"

Kind = Literal["primitive", "datatype", "backbone", "resource"]
UNBOUNDED = -1


class Element(msgspec.Struct, frozen=True, array_like=True):
    """One child of a type. A choice element `value[x]` has the name `value` and several types.

    A backbone child has its path as type, such as `Observation.component`. `targets` are the
    resource types that a Reference may name, empty for any; `binding` is the value set of a
    required binding. `high` is -1 for `*`.
    """

    name: str
    types: tuple[str, ...]
    low: int
    high: int
    choice: bool
    summary: bool
    modifier: bool
    targets: tuple[str, ...] = ()
    binding: str = ""

    @property
    def many(self) -> bool:
        """True when JSON shows it as an array."""
        return self.high != 1

    def members(self) -> tuple[tuple[str, str], ...]:
        """(JSON name, type) of every way to spell it: one, or one per type of a choice."""
        if not self.choice:
            return ((self.name, self.types[0]),)
        return tuple((self.name + type[0].upper() + type[1:], type) for type in self.types)


class TypeDefinition(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A primitive, datatype, backbone element or resource, with all elements it has or inherits."""

    name: str
    kind: Kind
    base: str
    abstract: bool
    elements: dict[str, Element]
    pattern: str = ""

    @cached_property
    def members(self) -> Mapping[str, tuple[Element, str]]:
        """Element and type by JSON name, choices spelled out."""
        return {
            name: (element, type)
            for element in self.elements.values()
            for name, type in element.members()
        }


class SearchParameter(msgspec.Struct, frozen=True, array_like=True):
    """A search parameter of one type. `expression` is the part that concerns this type.

    `components` of a composite are (url of the parameter, expression below the composite's).
    """

    code: str
    type: str
    expression: str
    url: str
    base: str
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()
    description: str = ""


def _ours(
    base: str, id: str, type: str, expression: str, description: str, *targets: str
) -> SearchParameter:
    """One of ours on a type; its id is `<what>-<code>`."""
    return SearchParameter(
        code=id.partition("-")[2],
        type=type,
        expression=expression,
        url=f"{CANONICAL}/SearchParameter/{id}",
        base=base,
        targets=targets,
        description=description,
    )


def _of_decisions(
    code: str, type: str, expression: str, description: str, *targets: str
) -> SearchParameter:
    """One of ours on recorded decisions."""
    id = f"decision-{code}"
    return _ours("GuidanceResponse", id, type, expression, description, *targets)


def _of_bookings(base: str) -> dict[str, SearchParameter]:
    """Ours on what is booked: each finds the value of an extension."""
    found = {}
    for code, (extension, datatype, type, description, *targets) in _BOOKING[base].items():
        expression = (
            f"{base}.extension.where(url = '{CANONICAL}/StructureDefinition/{extension}')"
            f".value.ofType({datatype})"
        )
        id = f"{base.lower()}-{code}"
        found[code] = _ours(base, id, type, expression, description, *targets)
    return found


#: By type and code: the extension, the datatype of its value, kind of parameter, what it finds.
_BOOKING: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Appointment": {
        "channel": ("booking-channel", "code", "token", "Through which channel it was booked"),
        "booked-by": (
            "booking-institution",
            "Reference",
            "reference",
            "The institution at which it was booked",
            "Organization",
        ),
    },
    "Schedule": {
        "master": ("schedule-master", "code", "token", "Who sells its slots"),
        "area": ("area", "Coding", "token", "The district in which it lies"),
        "department": ("booking-department", "id", "token", "The key of its department"),
    },
    "Slot": {
        "bucket": ("slot-bucket", "string", "string", "What its quotas are counted in"),
    },
}

_OUT = "GuidanceResponse.contained.ofType(Parameters).parameter.where(name = 'item').part"

#: Search parameters beside HL7's registry: that of PDQm ITI-78, on the extension that R4 defines
#: (R4's own draft of it names an extension that is none), and ours on decisions and bookings, whose
#: definitions are in profiles/SearchParameter.
_BESIDE = {
    **{base: _of_bookings(base) for base in _BOOKING},
    "GuidanceResponse": {
        one.code: one
        for one in (
            _of_decisions(
                "date", "date", "GuidanceResponse.occurrenceDateTime", "When it was decided"
            ),
            _of_decisions(
                "encounter",
                "reference",
                "GuidanceResponse.encounter",
                "The visit that the order belongs to",
                "Encounter",
            ),
            _of_decisions(
                "item",
                "token",
                f"{_OUT}.where(name = 'code').value.ofType(string)",
                "An item of the catalogue that was asked about",
            ),
            _of_decisions(
                "outcome",
                "token",
                f"{_OUT}.where(name = 'outcome').value.ofType(code)",
                "An outcome that one of the items has",
            ),
            _of_decisions(
                "module",
                "uri",
                "(GuidanceResponse.module as canonical) | (GuidanceResponse.module as uri)",
                "The rule set, with its version or without",
            ),
        )
    },
    "Patient": {
        "mothersMaidenName": SearchParameter(
            code="mothersMaidenName",
            type="string",
            expression="(Patient.extension.where(url = 'http://hl7.org/fhir/StructureDefinition/"
            "patient-mothersMaidenName').value as string)",
            url="http://hl7.org/fhir/SearchParameter/patient-extensions-Patient-mothersMaidenName",
            base="Patient",
            description="Search based on patient's mother's maiden name",
        )
    },
}


class ValueSet(msgspec.Struct, frozen=True, array_like=True):
    """The codes of a required binding by code system; `closed` when these are all."""

    url: str
    closed: bool
    systems: dict[str, frozenset[str]]


class Compartment(msgspec.Struct, frozen=True, array_like=True):
    """Which search parameters put a resource into a compartment, by type."""

    code: str
    members: dict[str, tuple[str, ...]]


class Definitions(msgspec.Struct, frozen=True, dict=True):
    """All of R4 that the gateway reads."""

    version: str
    types: dict[str, TypeDefinition]
    parameters: dict[str, dict[str, SearchParameter]]
    value_sets: dict[str, ValueSet]
    compartments: dict[str, Compartment]

    @cached_property
    def resource_types(self) -> tuple[str, ...]:
        """The concrete resource types, sorted."""
        return tuple(
            sorted(t.name for t in self.types.values() if t.kind == "resource" and not t.abstract)
        )

    @cached_property
    def resource_type_set(self) -> frozenset[str]:
        """The same, to ask whether a name is a resource type."""
        return frozenset(self.resource_types)

    @cached_property
    def search_parameters(self) -> Mapping[str, Mapping[str, SearchParameter]]:
        """Search parameters by type and code; those of all resources stand with every type."""
        own = self.parameters
        return {
            type: {
                **own["Resource"],
                **(own["DomainResource"] if self.is_a(type, "DomainResource") else {}),
                **own.get(type, {}),
                **_BESIDE.get(type, {}),
            }
            for type in self.resource_types
        }

    @cached_property
    def codes(self) -> Mapping[str, frozenset[str]]:
        """The codes of each required binding whose value set can be listed."""
        return {
            url: frozenset().union(*value_set.systems.values())
            for url, value_set in self.value_sets.items()
            if value_set.closed
        }

    @cached_property
    def summary(self) -> Mapping[str, frozenset[str]]:
        """JSON names of the elements that `_summary=true` keeps, by resource type."""
        return {
            type: frozenset(
                name for name, (element, _) in self.types[type].members.items() if element.summary
            )
            for type in self.resource_types
        }

    def is_a(self, type: str, ancestor: str) -> bool:
        """True when a type is the ancestor or derives from it."""
        while type:
            if type == ancestor:
                return True
            found = self.types.get(type)
            type = found.base if found else ""
        return False


@lru_cache(maxsize=1)
def definitions() -> Definitions:
    """The definitions of R4. Raises Internal when set-up has not cut them, or not like this."""
    try:
        found = msgspec.json.decode((FOLDER / "definitions.json").read_bytes(), type=Definitions)
    except FileNotFoundError:
        raise Internal("FHIR definitions are missing: run `make setup` first") from None
    except msgspec.DecodeError:
        raise Internal("FHIR definitions are of another version: run `make setup`") from None
    if next(iter(found.types["Element"].elements)) != "id":  # XML needs the order of the standard
        raise Internal("FHIR definitions are of another version: run `make setup`")
    return found
