"""What visit, diagnoses and plans say of a patient's situation: codes, and only what is so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fhir_gateway.errors import Unprocessable
from fhir_gateway.recognition.contexts import contexts_of
from fhir_gateway.recognition.model import CONTEXTS
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.context_table import load_contexts

Json = dict[str, Any]
NOW = datetime(2026, 11, 20, 4, tzinfo=UTC)  # noon of the day in Shanghai
GATEWAY: Any = SimpleNamespace(
    settings=Settings(), clock=SimpleNamespace(now=lambda: int(NOW.timestamp() * 1_000_000))
)
ICD, CM = "http://hl7.org/fhir/sid/icd-10", "http://hl7.org/fhir/sid/icd-9-cm"
SCT, ACT = "http://snomed.info/sct", "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def said(*resources: Json) -> set[str]:
    return set(contexts_of(GATEWAY, resources))


def concept(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def encounter(code: str, **more: Any) -> Json:
    kind = {"system": ACT, "code": code}
    return {"resourceType": "Encounter", "status": "in-progress", "class": kind, **more}


def condition(code: str, **more: Any) -> Json:
    return {"resourceType": "Condition", "code": concept(ICD, code), **more}


def test_a_visit_says_its_class() -> None:
    assert said(encounter("EMER")) == {"emergency"}
    assert said(encounter("PRENC")) == {"inpatient-new"}
    assert said(encounter("AMB")) == set()
    assert said({"resourceType": "Encounter", "class": {"code": "EMER"}}) == {"emergency"}
    assert said(encounter("EMER", **{"class": {"system": "urn:x", "code": "EMER"}})) == set()


@pytest.mark.parametrize(
    ("start", "new"),
    [
        ("2026-11-20T09:00:00+08:00", True),
        ("2026-11-19", True),
        ("2026-11-18T23:59:59+08:00", False),
        ("2026-11-18T16:00:00Z", True),  # the 19th in Shanghai
        ("2026-11-21", False),
        ("2026-11", False),
        ("yesterday", False),
        (None, False),
    ],
)
def test_a_stay_is_new_on_its_first_two_days(start: Any, new: bool) -> None:
    for code in ("IMP", "ACUTE", "NONAC"):
        found = said(encounter(code, period={"start": start}))
        assert found == ({"inpatient-new"} if new else set())


def test_the_unit_where_the_patient_is_counts() -> None:
    role = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    ward = {"resourceType": "Location", "id": "w", "type": [concept(role, "ICU")]}
    here = [{"location": {"reference": "#w"}}]
    assert said(encounter("IMP", contained=[ward], location=here)) == {"intensive-care"}
    left = [{"location": {"reference": "#w"}, "status": "completed"}]
    assert said(encounter("IMP", contained=[ward], location=left)) == set()
    elsewhere = [{"location": {"reference": "Location/w"}}]
    assert said(encounter("IMP", contained=[ward], location=elsewhere)) == set()


@pytest.mark.parametrize(
    ("code", "context"),
    [
        ("O09.9", "pregnancy"),
        ("Z33", "pregnancy"),
        ("Z34.900", "pregnancy"),
        ("Z49.1", "dialysis"),
        ("Z99.201", "dialysis"),
        ("Z99.1", None),
        ("Z51.103", "chemotherapy"),
        ("Z51.0", None),
        ("Z92.1", "anticoagulation"),
        ("P07.3", "newborn"),
        ("Z38.0", "newborn"),
        ("N18.5", None),
        ("J18.9", None),
    ],
)
def test_a_diagnosis_says_it_by_its_code(code: str, context: str | None) -> None:
    assert said(condition(code)) == ({context} if context else set())
    chinese = concept("urn:oid:2.16.156.10011.2.3.3.11.3", code)
    assert said({**condition(code), "code": chinese}) == ({context} if context else set())
    assert said({**condition(code), "code": concept("urn:x", code)}) == set()
    assert said({**condition(code), "code": {"text": "妊娠"}}) == set()


@pytest.mark.parametrize("status", ["inactive", "remission", "resolved"])
def test_what_is_over_says_nothing(status: str) -> None:
    assert said(condition("Z33", clinicalStatus=concept("urn:c", status))) == set()
    assert said(condition("Z33", clinicalStatus=concept("urn:c", "active"))) == {"pregnancy"}
    for verified in ("refuted", "entered-in-error"):
        assert said(condition("Z33", verificationStatus=concept("urn:v", verified))) == set()
    for over in ("finished", "cancelled", "entered-in-error"):
        assert said(encounter("EMER", status=over)) == set()


@pytest.mark.parametrize("kind", ["ServiceRequest", "Procedure"])
@pytest.mark.parametrize(
    ("system", "code", "context"),
    [
        (CM, "47.01", "pre-operation"),
        (CM, "01.24", "pre-operation"),
        (CM, "86.99", "pre-operation"),
        (CM, "00.10", None),
        (CM, "87.03", None),
        (CM, "99.04", "pre-transfusion"),
        (CM, "99.10", None),
        (SCT, "116859006", "pre-transfusion"),
        (CM, "54.98", "dialysis"),
        (CM, "99.25", "chemotherapy"),
    ],
)
def test_a_plan_says_what_is_to_come(
    kind: str, system: str, code: str, context: str | None
) -> None:
    plan: Json = {"resourceType": kind, "status": "active", "code": concept(system, code)}
    found = said(plan)
    assert (context in found) if context else not found
    for over in ("completed", "entered-in-error"):
        assert said({**plan, "status": over}) == set()
    assert said({**plan, "doNotPerform": True}) == set()


def test_a_surgical_procedure_is_an_operation_whatever_its_code() -> None:
    surgical = concept(SCT, "387713003")
    assert said({"resourceType": "ServiceRequest", "category": [surgical]}) == {"pre-operation"}
    assert said({"resourceType": "Procedure", "category": surgical}) == {"pre-operation"}


def test_an_order_of_many_codes_says_the_same_as_a_short_one() -> None:
    others = [{"system": "urn:his", "code": f"{number:060}"} for number in range(40)]
    known = concept(CM, "99.04")["coding"]
    for codings, contexts in (
        (known, {"pre-transfusion"}),
        ([*others, *known], {"pre-transfusion"}),
        (others, set()),
    ):
        assert said({"resourceType": "ServiceRequest", "code": {"coding": codings}}) == contexts


@pytest.mark.parametrize(("days", "newborn"), [(0, True), (27, True), (28, False), (-1, False)])
def test_a_newborn_is_one_by_the_day_of_birth(days: int, newborn: bool) -> None:
    born = (NOW.date() - timedelta(days=days)).isoformat()
    assert said({"resourceType": "Patient", "birthDate": born}) == (
        {"newborn"} if newborn else set()
    )
    assert said({"resourceType": "Patient", "birthDate": born[:7]}) == set()
    for far in ("0001-01-01", "9999-12-31", "2026-02-31"):
        assert said({"resourceType": "Patient", "birthDate": far}) == set()
        assert said(encounter("IMP", period={"start": far})) == set()


@pytest.mark.parametrize("odd", [None, 5, "x", [], {}, [5], [{}], {"coding": 5}, {"coding": [5]}])
def test_what_has_another_shape_says_nothing(odd: Any) -> None:
    for kind, names in {
        "Encounter": ("class", "location", "period", "contained", "status"),
        "Condition": ("code", "category", "clinicalStatus", "verificationStatus"),
        "Procedure": ("code", "category", "status"),
        "Patient": ("birthDate",),
    }.items():
        assert said({"resourceType": kind, **dict.fromkeys(names, odd)}) == set()
    assert said({"resourceType": odd}) == set()


HEADER = "context,resource,element,system,code,match,days,name_zh,source\n"


@pytest.mark.parametrize(
    ("row", "column"),
    [
        ("unknown,Encounter,class,urn:s,X,exact,,,", "context"),
        ("emergency,Patient,class,urn:s,X,exact,,,", "element"),
        ("emergency,Encounter,class,urn:s,X,like,,,", "match"),
        ("emergency,Encounter,class,,X,exact,,,", "code"),
        ("emergency,Encounter,class,urn:s,1..10,range,,,", "code"),
        ("emergency,Encounter,class,urn:s,X,exact,soon,,", "days"),
    ],
)
def test_a_faulty_row_is_named(tmp_path: Path, row: str, column: str) -> None:
    (tmp_path / "contexts.csv").write_text(f"{HEADER}{row}\n", encoding="utf-8")
    with pytest.raises(Unprocessable) as caught:
        load_contexts(str(tmp_path), CONTEXTS)
    assert f"row 2, column {column}" in caught.value.issues[0].diagnostics


def test_every_row_of_the_shipped_table_can_say_something() -> None:
    make: dict[str, Callable[[Json], Json]] = {
        "class": lambda coding: {"class": coding},
        "code": lambda coding: {"code": {"coding": [coding]}},
        "category": lambda coding: {"category": [{"coding": [coding]}]},
        "location": lambda coding: {
            "contained": [{"id": "w", "type": [{"coding": [coding]}]}],
            "location": [{"location": {"reference": "#w"}}],
        },
    }
    for row in load_contexts(Settings().terminology, CONTEXTS):
        for system in row.systems:
            coding = {"system": system, "code": row.code.partition("..")[0]}
            resource = {"resourceType": row.resource, **make[row.element](coding)}
            resource["period"] = {"start": NOW.isoformat()}
            assert row.context in said(resource), row
