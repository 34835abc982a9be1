"""What a merge or its undoing by HL7 v2 changes: one version of the Patient that was replaced.

Nothing is rewritten: results stay under the number that they came under, and the store reads both
numbers as one person's from then on (Patient.link, docs/adr/0026). A number alone is soon mistyped,
so whatever else the message says of the two has to fit what is stored of them. HL7 v2.5.1 3.3.40,
3.3.37; hl7.org/fhir/R4/patient.html#links
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Conflict, Forbidden, Issue, NotFound
from fhir_gateway.interactions.reconcile import Planned, current, documents
from fhir_gateway.mapping.merge import contradictions
from fhir_gateway.mapping.v2 import flaw
from fhir_gateway.mapping.v2_adt import Pair, Statement
from fhir_gateway.mapping.v2_person import Named, authority
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.naming import Naming

Resource = dict[str, Any]


class Sender(NamedTuple):
    """Who sends the statement, all who are registered, and what numbers are compared by."""

    institution: Institution
    registered: Mapping[str, Institution]
    folder: str
    naming: Naming


async def plan_statement(reader: Reader, said: Statement, sender: Sender) -> Planned:
    """The Patients as they are from now on.

    Raises NotFound for a number that nobody here has, Forbidden for one that another institution
    assigned, Conflict for one that stands for somebody else here, that was merged with another
    already, or that was not merged when it is to be parted.
    """
    planned: list[tuple[Resource, int | None]] = []
    for pair in said.pairs:
        goes, version = await _known(reader, pair.goes, sender)
        stays, other = await _known(reader, pair.stays, sender)
        if said.verb == "merge":
            planned.append((_merged(goes, pair), version))
        elif _names(goes, pair.stays.id):
            planned.append((_parted(goes, pair.stays.id), version))
        elif _names(stays, pair.goes.id):
            planned.append((_parted(stays, pair.goes.id), other))
        else:
            raise _conflict("These two patients were not merged here", pair, "merge-unknown")
    return Planned(planned, said.warnings)


async def _known(reader: Reader, said: Named, sender: Sender) -> tuple[Resource, int]:
    """The Patient that is named, and its version, when all that is said of it fits."""
    _check_authority(said, sender)
    stored, version = await current(reader, f"Patient/{said.id}")
    if stored is None:
        raise flaw(
            NotFound(f"No patient of this number ({said.place}) is stored here; send it first",
                     expression=said.place, rule="patient-unknown"), "204"
        )  # fmt: skip
    wrong = contradictions(stored, said.stated, documents(sender.folder), sender.naming)
    if wrong:
        text = "this is not what is stored of the patient of this number; nothing was stored"
        places = [said.fields[element] for element in wrong]
        issues = [Issue("conflict", f"{at}: {text}", at, "patient-identity") for at in places]
        raise flaw(Conflict(issues=tuple(issues)), "204")
    return stored, version


def _check_authority(said: Named, sender: Sender) -> None:
    """Refuses a number that another registered institution assigned, however often it stands."""
    own = _called(sender.institution)
    others = {
        name
        for one in sender.registered.values()
        if one.id != sender.institution.id
        for name in _called(one)
    }
    strange = [others.intersection(names) - own for names in said.authorities]
    if strange and all(strange):
        text = "another institution assigned this number; an institution merges its own alone"
        raise flaw(
            Forbidden(f"{said.place}: {text}", expression=f"{said.place}.4",
                      rule="merge-other-institution"), "204"
        )  # fmt: skip


def assigned_by_others(
    sender: Institution, registered: Mapping[str, Institution]
) -> frozenset[str]:
    """What an assigning authority calls the other institutions; what also is a name of the
    sender's own says nothing. Kept until the registry changes."""
    known = _OTHERS.get(sender.id)
    if known is None or known[0] is not registered or known[1] != sender:
        others = (one for one in registered.values() if one.id != sender.id)
        names = {name for one in others for name in _called(one)}
        known = registered, sender, frozenset(names - _called(sender))
        if len(_OTHERS) >= _MOST_SENDERS:
            _OTHERS.clear()
        _OTHERS[sender.id] = known
    return known[2]


_OTHERS: dict[str, tuple[Mapping[str, Institution], Institution, frozenset[str]]] = {}
_MOST_SENDERS = 1_000


def _called(institution: Institution) -> frozenset[str]:
    """What an assigning authority (CX.4) calls an institution: its id, its facilities, its codes,
    and the OID of its patient numbers."""
    oid = institution.system("patient").removeprefix("urn:oid:")
    codes = (institution.credit_code, institution.institution_code)
    names = (institution.id, *institution.facilities, *codes, oid)
    return frozenset(authority(name) for name in names if name)


def _merged(patient: Resource, pair: Pair) -> Resource:
    """The Patient that was replaced: not active any more, with the way to the one that goes on."""
    links = patient.get("link", [])
    replaced = [one["other"].get("reference") for one in links if one["type"] == "replaced-by"]
    target = f"Patient/{pair.stays.id}"
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
    place = pair.goes.place
    return flaw(Conflict(f"{text} ({place})", expression=place, rule=rule), "204")
