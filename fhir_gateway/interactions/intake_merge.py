"""What a merge or its undoing by HL7 v2 changes: one version of the Patient that was replaced.

Nothing is rewritten: results stay under the number that they came under, and the store reads both
numbers as one person's from then on (Patient.link, docs/adr/0026). HL7 v2.5.1 3.3.40, 3.3.37;
hl7.org/fhir/R4/patient.html#links
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.errors import Conflict, NotFound
from fhir_gateway.interactions.reconcile import Planned, current
from fhir_gateway.mapping.v2 import flaw
from fhir_gateway.mapping.v2_adt import Pair, Statement
from fhir_gateway.store.store import Reader

Resource = dict[str, Any]


async def plan_statement(reader: Reader, said: Statement) -> Planned:
    """The Patients as they are from now on.

    Raises NotFound for a number that nobody here has, Conflict for one that was merged with another
    already, or that was not merged when it is to be parted.
    """
    planned: list[tuple[Resource, int | None]] = []
    for pair in said.pairs:
        goes, version = await _known(reader, pair.goes, pair.goes_at)
        stays, other = await _known(reader, pair.stays, pair.stays_at)
        if said.verb == "merge":
            planned.append((_merged(goes, pair), version))
        elif _names(goes, pair.stays):
            planned.append((_parted(goes, pair.stays), version))
        elif _names(stays, pair.goes):
            planned.append((_parted(stays, pair.goes), other))
        else:
            raise _conflict("These two patients were not merged here", pair, "merge-unknown")
    return Planned(planned, said.warnings)


async def _known(reader: Reader, id: str, place: str) -> tuple[Resource, int]:
    stored, version = await current(reader, f"Patient/{id}")
    if stored is None:
        raise flaw(
            NotFound(f"No patient of this number ({place}) is stored here; send it first",
                     expression=place, rule="patient-unknown"), "204"
        )  # fmt: skip
    return stored, version


def _merged(patient: Resource, pair: Pair) -> Resource:
    """The Patient that was replaced: not active any more, with the way to the one that goes on."""
    links = patient.get("link", [])
    replaced = [one["other"].get("reference") for one in links if one["type"] == "replaced-by"]
    target = f"Patient/{pair.stays}"
    if replaced and replaced != [target]:
        raise _conflict(
            "This patient was merged with another one before; part those first (A37)",
            pair,
            "merge-again",
        )
    if not replaced:
        links = [*links, {"other": {"reference": target}, "type": "replaced-by"}]
    return {**_bare(patient), "active": False, "link": links}


def _parted(patient: Resource, other: str) -> Resource:
    """The Patient without its link with the other, in use again."""
    links = [one for one in patient["link"] if not _is_to(one, other)]
    rest = {name: value for name, value in _bare(patient).items() if name != "link"}
    return {**rest, "active": True, **({"link": links} if links else {})}


def _names(patient: Resource, other: str) -> bool:
    return any(_is_to(one, other) for one in patient.get("link", ()))


def _is_to(link: Resource, other: str) -> bool:
    merges = link["type"] in ("replaced-by", "replaces")
    return merges and link["other"].get("reference") == f"Patient/{other}"


def _bare(patient: Resource) -> Resource:
    return {name: value for name, value in patient.items() if name != "meta"}


def _conflict(text: str, pair: Pair, rule: str) -> Exception:
    return flaw(Conflict(f"{text} ({pair.goes_at})", expression=pair.goes_at, rule=rule), "204")
