"""Who simulated a draft and who approved it: Provenances that name it, a digest and a person.

hl7.org/fhir/R4/provenance.html. The digest is of the draft's content (rules_lifecycle), so that an
edit afterwards voids both. A Provenance of an institution counts for nothing: only the operator
publishes rules. docs/adr/0025-rule-set-lifecycle.md
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.search.planner import plan_search
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.store import Reader

STEP_SYSTEM = f"{CANONICAL}/CodeSystem/rule-set-step"
PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
URI_SYSTEM = "urn:ietf:rfc:3986"
_DIGEST = "urn:sha256:"
_MOST = 200

Step = Literal["simulation", "approval"]
_ROLES: Mapping[Step, tuple[str, str]] = {
    "simulation": ("performer", "Performer"),
    "approval": ("verifier", "Verifier"),
}


class Person(NamedTuple):
    """A named person: the name, and a reference where there is one."""

    name: str
    reference: str = ""

    def is_other_than(self, other: Person) -> bool:
        """Whether two names certainly mean two persons: neither name nor reference is the same."""
        if self.reference and self.reference == other.reference:
            return False
        return _folded(self.name) != _folded(other.name)


def _folded(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())


class Proof(NamedTuple):
    """One step of publication: what was done by whom, when, on which content."""

    step: str
    digest: str
    person: Person
    recorded: str
    says: str = ""


def person(text: str) -> Person | None:
    """The person that a caller names: `Name` or `Name (Practitioner/id)`; None without a name."""
    name, _, rest = text.partition("(Practitioner/")
    reference = f"Practitioner/{rest.rstrip(') ')}" if rest else ""
    return Person(name.strip(), reference) if name.strip() else None


def provenance(
    step: Step, *, id: str, digest: str, by: Person, recorded: str, says: str, version: str
) -> dict[str, Any]:
    """The Provenance of a step on PlanDefinition/[id]; `version` is what was looked at."""
    code, display = _ROLES[step]
    who = {"display": by.name}
    if by.reference:
        who = {"reference": by.reference, **who}
    return {
        "resourceType": "Provenance",
        "target": [{"reference": f"PlanDefinition/{id}"}],
        "recorded": recorded,
        "activity": {"coding": [{"system": STEP_SYSTEM, "code": step}]},
        "reason": [{"text": says}],
        "agent": [
            {
                "type": {"coding": [{"system": PARTICIPANT, "code": code, "display": display}]},
                "who": who,
            }
        ],
        "entity": [
            {
                "role": "source",
                "what": {
                    "identifier": {"system": URI_SYSTEM, "value": f"{_DIGEST}{digest}"},
                    "display": version,
                },
            }
        ],
    }


def read_proof(resource: Mapping[str, Any]) -> Proof | None:
    """The step that a Provenance records; None for one that records none of ours."""
    codings = (resource.get("activity") or {}).get("coding") or ()
    step = next((one.get("code") for one in codings if one.get("system") == STEP_SYSTEM), None)
    agents = resource.get("agent") or ()
    named = (one.get("who") or {} for one in agents)
    who = next((one for one in named if (one.get("display") or "").strip()), None)
    digest = next(_digests(resource), "")
    if step not in _ROLES or who is None or not digest:
        return None
    reasons = resource.get("reason") or ()
    says = next((one.get("text", "") for one in reasons), "")
    by = Person(who["display"].strip(), who.get("reference", ""))
    return Proof(str(step), digest, by, resource.get("recorded", ""), says)


def _digests(resource: Mapping[str, Any]) -> Iterator[str]:
    for entity in resource.get("entity") or ():
        identifier = (entity.get("what") or {}).get("identifier") or {}
        value = identifier.get("value") or ""
        if value.startswith(_DIGEST):
            yield value.removeprefix(_DIGEST)


async def proofs_of(gateway: Gateway, reader: Reader, id: str) -> list[Proof]:
    """The steps on record for PlanDefinition/[id], oldest first."""
    plan = plan_search(
        "Provenance",
        [("target", f"PlanDefinition/{id}")],
        secret=gateway.store.index_key,
        zone=gateway.settings.zone,
        naming=gateway.extractor.naming,
    )
    page = await reader.search(msgspec.structs.replace(plan, home=0, count=_MOST))
    read = [read_proof(parse(one.whole())) for one in page.matches if one.owner == 0]
    return sorted((one for one in read if one is not None), key=lambda one: one.recorded)


def missing(proofs: Sequence[Proof], digest: str) -> str:
    """What is still missing before this content may become active; "" when nothing is."""
    mine = [one for one in proofs if one.digest == digest]
    simulations = [one for one in mine if one.step == "simulation"]
    approvals = [one for one in mine if one.step == "approval"]
    if not simulations:
        stale = any(one.step == "simulation" for one in proofs)
        text = "Nobody has simulated this draft: fhir-gateway rules simulate … --record NAME"
        return f"{text}. It was edited since it was simulated" if stale else text
    if not approvals:
        return "Nobody has approved this draft: fhir-gateway rules approve … --by NAME"
    if not any(a.person.is_other_than(s.person) for a in approvals for s in simulations):
        name = approvals[-1].person.name
        return f"{name} has simulated and approved it: the approval is another person's"
    return ""
