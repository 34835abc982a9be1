"""What the gateway makes of messages, files and questions conforms to its own profiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from city import POTASSIUM, City, said
from running import Running

from demo import city as demo
from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_check import context_of, judged
from fhir_gateway.errors import Issue
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.wire import parse as parse_json
from fhir_gateway.mapping.dicom import read_image
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_oru import map_oru
from fhir_gateway.recognition.register_import import Reading, Registered
from fhir_gateway.recognition.register_plan import plan_import
from fhir_gateway.security.evaluating_body import EvaluatingBody, organization_of_body
from fhir_gateway.security.institution import Institution, organization_of
from fhir_gateway.settings import CANONICAL, load_settings
from fhir_gateway.terminology.coder import Coder
from fhir_gateway.terminology.concept_map import load_concept_maps
from fhir_gateway.terminology.sheet import read_sheet
from fhir_gateway.terminology.value_set import load_vocabulary

SETTINGS = load_settings({})
TODAY = datetime(2026, 11, 22, tzinfo=demo.ZONE)
STRICT = "recognizable-laboratory-observation"
Json = dict[str, Any]

_BY_TYPE = {
    "GuidanceResponse": "decision", "ImagingStudy": "imaging-study",
    "Observation": "laboratory-observation", "Organization": "institution", "Patient": "patient",
    "ServiceRequest": "order", "Task": "recognition-answer",
    "VerificationResult": "quality-evaluation",
}  # fmt: skip


@cache
def _known() -> tuple[Known, Context]:
    resources = list(profile_resources(SETTINGS.profiles))
    known = Known([one for one in resources if one["resourceType"] == "StructureDefinition"])
    return known, context_of(SETTINGS, resources, known)[1]


def wrong(resource: Mapping[str, Any], profile: str = "") -> list[Issue]:
    """The errors of a resource by the profile of its type."""
    known, context = _known()
    url = f"{CANONICAL}/StructureDefinition/{profile or _BY_TYPE[resource['resourceType']]}"
    assert known.profile(url) is not None
    claiming = {**resource, "meta": {**resource.get("meta", {}), "profile": [url]}}
    return [one for one in judged(claiming, known, context) if one.severity == "error"]


@cache
def institutions() -> dict[str, Institution]:
    return {
        row["id"]: Institution(
            id=row["id"],
            name=row["name"],
            level=row["level"],
            area=row["area"],
            charset=row["charset"],
            facilities=tuple(filter(None, [row["facility"]])),
        )
        for row in demo.table("institutions.csv")
    }


@cache
def add() -> Callable[[Json, str], object]:
    """The coder of the shipped tables: it adds the catalogue's codes."""
    catalogue = load_vocabulary(SETTINGS.terminology).catalogue
    return Coder(catalogue, load_concept_maps(f"{SETTINGS.mappings}/concepts", catalogue)).add


def _messages() -> Iterator[Json]:
    """The resources of the city's messages, coded as intake codes them."""
    folder = f"{SETTINGS.mappings}/v2"
    for _, sender, raw in demo.messages(TODAY):
        institution = institutions()[sender]
        message = parse(raw, default_charset=institution.charset, folder=folder)
        for resource in map_oru(message, institution, folder=folder).resources:
            add()(resource, sender)
            yield resource


def test_what_is_read_from_messages_conforms() -> None:
    seen: dict[str, int] = {}
    for resource in _messages():
        type = resource["resourceType"]
        seen[type] = seen.get(type, 0) + 1
        profile = "laboratory-report" if type == "DiagnosticReport" else _BY_TYPE.get(type)
        if profile is not None:
            assert wrong(resource, profile) == [], resource["id"]
    assert seen["Observation"] > 12
    assert {"Patient", "DiagnosticReport", "ServiceRequest"} <= set(seen)


def test_mapped_final_results_of_messages_are_recognizable_and_others_are_not() -> None:
    verdicts = {True: 0, False: 0}
    for resource in _messages():
        if resource["resourceType"] != "Observation":
            continue
        systems = {coding.get("system") for coding in resource["code"]["coding"]}
        mapped = f"{CANONICAL}/CodeSystem/catalogue-lab" in systems
        right = mapped and resource["status"] == "final"
        assert (wrong(resource, STRICT) == []) is right, resource["code"]
        verdicts[right] += 1
    assert verdicts[True] > 10
    assert verdicts[False] >= 2  # one that is not mapped, one that is preliminary


def test_the_citys_bundles_conform() -> None:
    reports = 0
    for _, sender, text in demo.bundles(TODAY):
        for entry in parse_json(text.encode())["entry"]:
            resource = entry["resource"]
            add()(resource, sender)
            if resource["resourceType"] == "DiagnosticReport":
                reports += 1
                assert wrong(resource, "imaging-report") == []
            elif resource["resourceType"] in _BY_TYPE:
                assert wrong(resource) == []
    assert reports == 2


def test_what_is_read_from_images_conforms(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("dicom")
    demo.write_dicom(folder, TODAY)
    sender = institutions()["demo-first"]
    for path in sorted(folder.glob("*.dcm")):
        image = read_image(path.read_bytes(), sender, mappings=SETTINGS.mappings)
        add()(image.study, sender.id)
        assert wrong(image.study) == []
        assert wrong(image.patient) == []


def test_institutions_and_evaluations_conform() -> None:
    for institution in institutions().values():
        assert wrong(organization_of(institution)) == []
    vocabulary = load_vocabulary(SETTINGS.terminology)
    bodies = {row["id"]: EvaluatingBody(**row) for row in demo.table("bodies.csv")}
    for body in bodies.values():
        assert wrong(organization_of_body(body)) == []
    path = demo.CITY / "evaluations.csv"
    known = Registered(vocabulary.catalogue, vocabulary.areas, institutions(), bodies)
    reading = Reading(read_sheet(path.read_bytes(), path.name), known)
    reading.read()
    changes = plan_import(reading, []).changes
    assert changes
    for change in changes:
        assert change.resource is not None
        assert wrong(change.resource) == []


def test_decisions_and_answers_conform(start: Callable[..., Running]) -> None:
    city = City(start())
    patient = city.patient()
    result = city.result(patient)
    for items in ((POTASSIUM,), (POTASSIUM, "L060")):
        decision = said(city.recognize(patient, *items), "decision")["reference"]
        stored = city.running.get(f"/fhir/{decision}", headers=city.receiver).json()
        assert wrong(stored) == []
    nobody = said(city.recognize("nobody", POTASSIUM), "decision")["reference"]
    stored = city.running.get(f"/fhir/{nobody}", headers=city.receiver).json()
    assert stored["status"] == "data-required"
    assert wrong(stored) == []
    for outcomes in (("accepted", "revoked"), ("repeated", "completed"), ("cited",), ("viewed",)):
        decision = said(city.recognize(patient, POTASSIUM), "decision")["reference"]
        for outcome in outcomes:
            parameters = [{"name": "outcome", "valueCode": outcome}]
            parameters += [{"name": "reason", "valueCode": "N1"}] * (outcome == "completed")
            answer = city.operate(f"{decision}/$answer", parameters).json()
            reference = said(answer, "answer")["reference"]
            kept = city.running.get(f"/fhir/{reference}", headers=city.receiver).json()
            assert wrong(kept) == []
    assert city.running.delete(f"/fhir/{result}", headers=city.sender).status_code == 204
    alerts = city.search(f"Task?patient={patient}&code=recognition-alert")
    alerts = [one for one in alerts if one["resourceType"] == "Task"]
    assert len(alerts) == 2  # what was cited, what was viewed
    for alert in alerts:
        assert wrong(alert, "recognition-alert") == []
        who = {"name": "practitioner", "valueReference": {"display": "示例医师"}}
        city.operate(f"Task/{alert['id']}/$acknowledge", [who])
        closed = city.running.get(f"/fhir/Task/{alert['id']}", headers=city.receiver).json()
        assert wrong(closed, "recognition-alert") == []
        assert closed["status"] == "completed"
