"""Searches within a compartment: Patient/123/Observation.

Implements hl7.org/fhir/R4/compartmentdefinition.html with HL7's own definitions: a resource is in
the compartment when it names its owner under one of the parameters that the definition lists.
The record of a person is one home. Within the compartment of a Patient, an Encounter or a
RelatedPerson those resources are searched that stand there, those that belong to nobody, and those
that the global index ties to several persons; what else another patient's record says of the owner
is that patient's (docs/divergences.md). The compartments of a Practitioner and of a Device reach
across patients and are searched like any such search.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.context import Codes, Context
from fhir_gateway.search.draft import Draft
from fhir_gateway.search.meaning import OF_RECORDS
from fhir_gateway.search.plan import AnyOf, Condition, Ids, Ref, SearchPlan
from fhir_gateway.search.planner import check, fill
from fhir_gateway.search.registry import Searchable, searchables
from fhir_gateway.terminology.naming import NO_NAMES, Naming

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def member_types(compartment: str) -> tuple[str, ...]:
    """The types that can be in a compartment, its own among them.

    Raises NotFound when R4 has no such compartment.
    """
    found = definitions().compartments.get(compartment)
    if found is None:
        known = ", ".join(definitions().compartments)
        raise NotFound(f"R4 has compartments of {known} only", rule="unknown-compartment")
    return tuple(sorted({*found.members, compartment}))


def plan_compartment(  # noqa: PLR0913 - the owner, and all that plan_search takes
    compartment: str,
    id: str,
    type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    secret: bytes,
    base_url: str = "",
    zone: str = "Asia/Shanghai",
    lenient: bool = False,
    page_limit: int = 500,
    codes: Codes | None = None,
    naming: Naming = NO_NAMES,
) -> SearchPlan:
    """The meaning of a search of a type within a compartment.

    Raises NotFound for a compartment that R4 does not have or that the type is never in, and all
    that `plan_search` raises.
    """
    if type not in member_types(compartment):
        raise NotFound(
            f"No resource of this type is ever in the compartment of a {compartment}",
            rule="unknown-compartment",
        )
    if not _ID.fullmatch(id):
        raise Invalid("The owner of a compartment is named by its logical id", rule="search-id")
    check(type, pairs)
    draft = Draft(type, Context(secret, base_url, zone, codes, naming), page_limit)
    draft.compartment = (compartment, id)
    if compartment == "Patient" and type not in OF_RECORDS:
        draft.people.append(id)
    _bind(draft, compartment, id, type)
    fill(draft, pairs, lenient=lenient)
    return draft.plan()


#: Owners that live in a person's home, with what belongs to them.
_AT_HOME = frozenset({"Patient", "Encounter", "RelatedPerson"})


def _bind(draft: Draft, compartment: str, id: str, type: str) -> None:
    known, codes = searchables(type), definitions().compartments[compartment].members.get(type, ())
    members = [known[code] for code in codes if code in known]  # {def} is the owner itself
    if all(one.is_global for one in members):
        pass  # the global index knows all of them, in whatever home
    elif draft.home is None and compartment in _AT_HOME:
        if compartment == "Patient":
            draft.patients = (id,)
            draft.rest = type != "Patient" and not _all_patient(members)
        else:
            draft.follows, draft.rest = ((compartment, id),), True
    if compartment == "Patient" and len(members) == 1 and members[0].is_patient:
        draft.by_patient = True
        return
    draft.conditions.append((1, _named(compartment, id, type, members)))


def _all_patient(members: list[Searchable]) -> bool:
    """True when what names the Patient under any of these stands in the Patient's home."""
    return bool(members) and all(one.is_patient for one in members)


def _named(compartment: str, id: str, type: str, members: list[Searchable]) -> Condition:
    key = key64(f"{compartment}/{id}")
    found: list[Condition] = [Ref(one.number, (key,)) for one in members]
    if type == compartment:
        found.insert(0, Ids((id,)))
    return found[0] if len(found) == 1 else AnyOf(tuple(found))
