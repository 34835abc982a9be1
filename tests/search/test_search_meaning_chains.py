"""Chains, _has and _list: what they mean, what binds them, what is refused by the text alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from search_rows import SECRET, World

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.search.plan import Branch, Chain, Has, Ids, Ref, Text, Token

world = World()
plan = world.plan


def rule(url: str) -> tuple[int, str | None]:
    with pytest.raises(GatewayError) as caught:
        plan(url)
    return caught.value.status, caught.value.issues[0].rule


def number(type: str, code: str) -> int:
    return parameter_key(type, code)


def test_a_chain_to_a_named_type() -> None:
    (chain,) = plan("Observation?subject:Patient.name=张").conditions
    name = Text(number("Patient", "name"), ("张",))
    branch = Branch("Patient", (name,), None, frozenset({name.parameter}))
    assert chain == Chain(number("Observation", "subject"), (branch,), "patient")


def test_a_chain_without_a_type_means_all_that_know_the_next_parameter() -> None:
    (chain,) = plan("Observation?subject.identifier=7").conditions
    assert isinstance(chain, Chain)
    assert [one.type for one in chain.targets] == ["Device", "Group", "Location", "Patient"]
    (chain,) = plan("Observation?subject.birthdate=1980").conditions
    assert isinstance(chain, Chain)
    assert [one.type for one in chain.targets] == ["Patient"]


def test_a_chain_to_an_id_is_the_reference_itself() -> None:
    bound = plan("Observation?patient._id=7&code=c")
    plain = plan("Observation?patient=7&code=c")
    assert bound == msgspec.structs.replace(plain, applied=bound.applied, people=())
    assert plain.people == ("7",)  # a chain to an id means that record, not the person
    assert bound.patients == ("7",)
    typed = plan("Observation?subject:Patient._id=7,8")
    assert typed.patients == ("7", "8")
    (ref,) = plan("Observation?performer:Practitioner._id=d").conditions
    assert ref == Ref(number("Observation", "performer"), (key64("Practitioner/d"),))


@pytest.mark.parametrize(
    ("url", "binds", "rest"),
    [
        ("Observation?patient.name=a", "patient", False),
        ("Observation?performer:Practitioner.name=a", "", False),
        ("AuditEvent?patient.name=a", "person", True),
        ("Communication?subject:Patient.name=a", "person", False),
        ("Slot?schedule.identifier=a", "follow", False),
        ("HealthcareService?organization.name=a", "", False),
    ],
)
def test_what_a_chain_says_about_homes(url: str, binds: str, rest: bool) -> None:
    (chain,) = plan(url).conditions
    assert isinstance(chain, Chain)
    assert (chain.binds, chain.rest) == (binds, rest)


def test_has() -> None:
    (has,) = plan("Patient?_has:Observation:patient:code=c").conditions
    code = Token(number("Observation", "code"), ((key64("c", SECRET), None),))
    assert has == Has("Observation", number("Observation", "patient"), "homes", (code,))


@pytest.mark.parametrize(
    ("url", "within"),
    [
        ("Patient?_has:Observation:patient:status=final", "homes"),
        ("Patient?_has:Observation:performer:status=final", "everywhere"),
        ("Patient?_has:Group:member:type=person", "zero"),
        ("Patient?_has:Appointment:actor:status=booked", "global"),
        ("Encounter?_has:Observation:encounter:status=final", "homes"),
        ("Practitioner?_has:Observation:performer:status=final", "everywhere"),
        ("Organization?_has:PractitionerRole:organization:active=true", "zero"),
    ],
)
def test_where_has_looks(url: str, within: str) -> None:
    (has,) = plan(url).conditions
    assert isinstance(has, Has)
    assert has.within == within


def test_list() -> None:
    (has,) = plan("Observation?_list=l1,l2").conditions
    item = number("List", "item")
    assert has == Has("List", item, "everywhere", (Ids(("l1", "l2")),))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Observation?subject.nonsense=a", (400, "unknown-search-parameter")),
        ("Observation?subject:Patient.nonsense=a", (400, "unknown-search-parameter")),
        ("Observation?subject:Practitioner.name=a", (400, "search-chain")),
        ("Observation?subject:Patinet.name=a", (400, "unknown-search-parameter")),
        ("Observation?code.name=a", (400, "search-chain")),
        ("Observation?subject.=a", (400, "search-chain")),
        ("Observation?subject:Patient.name:exacd=a", (400, "unknown-modifier")),
        ("Observation?subject:Patient.birthdate=soon", (400, "search-date")),
        ("Observation?subject:Patient.name=", (400, "search-value")),
        ("Observation?patient._id=a/b", (400, "search-id")),
        ("Observation?patient._count=1", (400, "unknown-modifier")),
        ("MeasureReport?measure.name=a", (400, "search-chain")),
        ("Patient?_has=a", (400, "search-has")),
        ("Patient?_has:Observation:patient=a", (400, "search-has")),
        ("Patient?_has:Observation::code=a", (400, "search-has")),
        ("Patient?_has:Observatoin:patient:code=a", (400, "unknown-search-parameter")),
        ("Patient?_has:Observation:patinet:code=a", (400, "unknown-search-parameter")),
        ("Patient?_has:Observation:code:code=a", (400, "search-has")),
        ("Practitioner?_has:Observation:patient:code=a", (400, "search-has")),
        ("Patient?_has:Observation:patient:cdoe=a", (400, "unknown-search-parameter")),
        ("Patient?_has:Observation:patient:code:nto=a", (400, "unknown-modifier")),
    ],
)
def test_what_is_refused(url: str, expected: tuple[int, str]) -> None:
    assert rule(url) == expected


def test_what_could_fan_out_is_too_costly() -> None:
    six = "has-member:Observation." * 6
    assert len(plan(f"Observation?{six}code=a").conditions) == 1
    seven = "has-member:Observation." * 7
    assert rule(f"Observation?{seven}code=a") == (400, "search-chain")
    assert rule(f"Observation?{'has-member.' * 3000}code=a") == (400, "search-chain")
    assert rule("Provenance?target.identifier=a") == (400, "search-chain")
    assert rule("Observation?focus.status=a") == (400, "search-chain")
    nested = "_has:Observation:has-member:" * 5
    assert rule(f"Observation?{nested}code=a") == (400, "search-has")
    assert rule(f"Observation?{'&'.join(['_has:Observation:has-member:code=a'] * 5)}") == (
        400,
        "search-has",
    )


def test_what_is_refused_in_one_of_several_types_is_not_left_out() -> None:
    """A value that one of the types cannot read is refused, though another could."""
    assert rule("Observation?subject.identifier=|")[1] == "search-token"


def stocked() -> World:
    patient = {"resourceType": "Patient", "id": "p1", "name": [{"text": "张伟"}],
               "generalPractitioner": [{"reference": "Practitioner/d1"}],
               "managingOrganization": {"reference": "Organization/o1"}}  # fmt: skip
    return World(
        patient,
        {"resourceType": "Patient", "id": "p2", "name": [{"text": "李娜"}]},
        {"resourceType": "Practitioner", "id": "d1", "name": [{"text": "单雄信"}]},
        {"resourceType": "Organization", "id": "o1", "name": "协和", "partOf":
            {"reference": "Organization/o0"}},
        {"resourceType": "Organization", "id": "o0", "name": "北京"},
        result("r1", "p1", "a", performer="Practitioner/d1"),
        result("r2", "p2", "b", performer="Organization/o1"),
        {"resourceType": "DiagnosticReport", "id": "x1", "status": "final", "code": {"text": "x"},
         "result": [{"reference": "Observation/r1"}], "subject": {"reference": "Patient/p1"}},
        {"resourceType": "List", "id": "l1", "status": "current", "mode": "working",
         "entry": [{"item": {"reference": "Observation/r2"}}]},
    )  # fmt: skip


def result(id: str, patient: str, code: str, *, performer: str) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final",
            "code": {"coding": [{"code": code}]}, "subject": {"reference": f"Patient/{patient}"},
            "performer": [{"reference": performer}]}  # fmt: skip


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Observation?subject:Patient.name=zhangwei", ["r1"]),
        ("Observation?subject.name=李", ["r2"]),
        ("Observation?patient.name:exact=张伟", ["r1"]),
        ("Observation?patient.name:missing=true", []),
        ("Observation?performer.name=协", ["r2"]),
        ("Observation?performer:Practitioner.name=shan", ["r1"]),
        ("Observation?patient.general-practitioner:Practitioner.name=单", ["r1"]),
        ("Observation?patient.organization.partof.name=北京", ["r1"]),
        ("Observation?patient.organization.partof.name=协和", []),
        ("Patient?_has:Observation:patient:code=b", ["p2"]),
        ("Patient?_has:Observation:patient:code:not=b", ["p1"]),
        ("Patient?_has:Observation:patient:performer:Practitioner.name=单", ["p1"]),
        ("Patient?_has:Observation:patient:_has:DiagnosticReport:result:status=final", ["p1"]),
        ("Practitioner?_has:Patient:general-practitioner:_has:Observation:patient:code=a", ["d1"]),
        ("DiagnosticReport?result.patient.name=zw", ["x1"]),
        ("DiagnosticReport?subject:Patient._has:Observation:patient:code=a", ["x1"]),
        ("DiagnosticReport?subject:Patient._has:Observation:patient:code=b", []),
        ("Observation?_list=l1", ["r2"]),
        ("Observation?_list=l9", []),
    ],
)
def test_chains_lead_where_they_say(url: str, expected: list[str]) -> None:
    assert stocked().ids(url) == expected
