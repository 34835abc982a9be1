"""What a caller with ill intent must not get: others' acts, others' words, others' openings."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import consent_made
import pytest
from consented import SHIPPED, ago
from databases import Databases
from provider import Provider
from running import Running

from fhir_gateway.interactions.relations import derive_relations
from fhir_gateway.security.policy import load_policy
from fhir_gateway.store.changes import Derived

Json = dict[str, Any]

OPEN = Path(__file__).resolve().parents[1] / "policies" / "open.toml"


class World:
    """Three hospitals and an office under one policy; people sign in with a provider."""

    def __init__(self, databases: Databases, name: str, policy: str) -> None:
        folder = databases.folder / f"{name}-keys"
        folder.mkdir()
        self.provider = Provider(folder)
        self.server: Running = databases.running(name, policy=policy, **self.provider.settings())
        self.here, self.there = self.server.institution("here"), self.server.institution("there")
        self.server.institution("office")

    def make(self, headers: dict[str, str], resource: Json) -> str:
        answer = self.server.post(f"/fhir/{resource['resourceType']}", resource, headers=headers)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def person(self, headers: dict[str, str], number: str = "") -> str:
        resource: Json = {"resourceType": "Patient", "birthDate": "1990-01-01"}
        if number:
            resource["name"] = [{"text": "试甲"}]
            resource["identifier"] = [{"system": "http://fhir.org.cn/id/id-card", "value": number}]
        return self.make(headers, resource)

    def result(self, headers: dict[str, str], patient: str) -> str:
        return self.make(headers, {
            "resourceType": "Observation", "status": "final", "code": {"text": "x"},
            "subject": {"reference": f"Patient/{patient}"},
        })  # fmt: skip

    def by(self, **claims: Any) -> dict[str, str]:
        token: dict[str, str] = self.provider.token(**claims)
        return token

    def found(self, headers: dict[str, str], path: str) -> list[Json]:
        answer = self.server.get(f"/fhir/{path}", headers=headers)
        assert answer.status_code == 200, answer.text
        return [one["resource"] for one in answer.json().get("entry", ()) if "resource" in one]

    def status(self, headers: dict[str, str], path: str) -> int:
        return int(self.server.get(f"/fhir/{path}", headers=headers).status_code)


@pytest.fixture(scope="module")
def shipped(shared_database: Databases) -> Iterator[World]:
    world = World(shared_database, "shipped", SHIPPED)
    yield world
    world.server.close()


@pytest.fixture(scope="module")
def open_site(shared_database: Databases) -> Iterator[World]:
    policy = shared_database.folder / "policy.toml"
    policy.write_text(f'purposes = "purposes.csv"\n{OPEN.read_text()}')
    shutil.copy(Path(SHIPPED).with_name("purposes.csv"), policy.parent)
    world = World(shared_database, "open", str(policy))
    yield world
    world.server.close()


# -- the audit log, where a policy opens everything else -------------------------------------------


def test_others_acts_are_closed_where_everything_else_is_open(open_site: World) -> None:
    world, there = open_site, open_site.there
    patient = world.person(there)
    result = world.result(there, patient)
    office = world.by(role="regulator", institution="office")
    acts = world.found(office, f"AuditEvent?patient=Patient/{patient}")
    assert len(acts) == 2
    doctor = world.by(role="clinician", institution="here", user="Practitioner/d")
    for caller in (world.here, doctor):
        assert world.status(caller, f"Observation/{result}") == 200
    own = {one["id"] for one in world.found(there, f"AuditEvent?patient=Patient/{patient}")}
    assert own == {one["id"] for one in acts}
    for path in (
        f"AuditEvent?patient=Patient/{patient}&action=C", f"AuditEvent/{acts[0]['id']}/_history",
        f"AuditEvent?_id={acts[0]['id']}",
        f"Patient?_id={patient}&_has:AuditEvent:patient:action=C",
        f"Patient/{patient}/AuditEvent?action=C",
    ):  # fmt: skip
        assert world.server.get(f"/fhir/{path}", headers=world.here).json().get("entry", []) == []
    for one in acts:
        assert world.status(world.here, f"AuditEvent/{one['id']}") == 404
        assert world.status(world.here, f"AuditEvent/{one['id']}/_history/1") == 404
    told = world.found(world.here, f"Patient?_id={patient}&_revinclude=AuditEvent:patient")
    told += world.found(world.here, "AuditEvent/_history") + world.found(world.here, "_history")
    told += world.found(world.here, f"Patient/{patient}/$everything")
    told += world.found(doctor, f"Patient/{patient}/$everything")
    seen = {one["id"] for one in told if one["resourceType"] == "AuditEvent"}
    assert seen and seen.isdisjoint(own)
    assert world.found(world.here, f"AuditEvent?patient=Patient/{patient}&action=R")


def test_a_purpose_that_opens_nothing_opens_nothing_under_any_policy(open_site: World) -> None:
    world = open_site
    result = world.result(world.there, world.person(world.there))
    asks = {"role": "institution", "institution": "here"}
    for purpose, status in (("TREAT", 200), ("HPAYMT", 404)):
        token = world.by(**asks, extensions={"ihe_iua": {"purpose_of_use": purpose}})
        assert world.status(token, f"Observation/{result}") == status


# -- what a person says, and to whom ---------------------------------------------------------------


def test_a_consent_that_a_person_stores_is_not_for_all_to_read(shipped: World) -> None:
    world = shipped
    patient = world.person(world.here)
    self = world.by(role="patient", patient=patient, user=f"Patient/{patient}")
    words = {"type": "permit", "to": ["there"], "until": ago(days=-2)}
    consent = world.make(self, consent_made.consent(words, patient, when=ago(minutes=1)))
    assert world.status(self, f"Consent/{consent}") == 200
    for stranger in (world.there, world.by(role="regulator", institution="office")):
        assert world.status(stranger, f"Consent/{consent}") == 404
        assert world.found(stranger, "Consent") == []
    stored = world.server.get(f"/fhir/Consent/{consent}", headers=self).json()
    changed = world.server.put(
        f"/fhir/Consent/{consent}", {**stored, "status": "inactive"}, headers=self
    )
    assert changed.status_code == 200, changed.text
    world.server.delete(f"/fhir/Consent/{consent}", headers=world.here)
    assert world.status(self, f"Consent/{consent}") == 200


def test_a_referral_to_a_regulator_opens_no_content_to_it(shipped: World) -> None:
    world = shipped
    patient = world.person(world.here)
    result = world.result(world.here, patient)
    self = world.by(role="patient", patient=patient, user=f"Patient/{patient}")
    words = {"type": "permit", "to": ["office"], "until": ago(days=-2)}
    world.make(self, consent_made.consent(words, patient, when=ago(minutes=1)))
    world.make(world.here, {
        "resourceType": "ServiceRequest", "status": "active", "intent": "order",
        "subject": {"reference": f"Patient/{patient}"}, "authoredOn": ago(minutes=1),
        "performer": [{"reference": "Organization/office"}],
    })  # fmt: skip
    office = world.by(role="regulator", institution="office", user="Practitioner/r")
    assert world.status(office, f"Observation/{result}") == 404
    case = [{"name": name, "valueString": "x"} for name in ("ground", "caseNumber")]
    opened = world.server.post(
        f"/fhir/Patient/{patient}/$open-case",
        {"resourceType": "Parameters", "parameter": case}, headers=office,
    )  # fmt: skip
    assert opened.status_code == 200, opened.text
    assert world.status(office, f"Observation/{result}") == 200


# -- whether a hidden person is there at all -------------------------------------------------------


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("place", ["identifier", "code"])
def test_a_name_that_was_planted_before_is_no_reference_that_stood_there(
    shipped: World, place: str
) -> None:
    """An update may keep a reference; writing its text into another element first is no way to
    ask whether it names somebody, nor to move an Encounter to that person."""
    world = shipped
    hidden, own = world.person(world.there), world.person(world.here)
    answers = []
    for name in (hidden, "nobody-at-all"):
        text = f"Patient/{name}"
        said: Json = {"identifier": [{"value": text}]}
        flag: Json = {
            "resourceType": "Flag", "status": "active", "code": {"text": "x"},
            "subject": {"reference": f"Patient/{own}"},
        }  # fmt: skip
        if place == "code":
            said = {"code": {"text": text}}
        id = world.make(world.here, {**flag, **said})
        changed = {**flag, "id": id, "author": {"reference": text}}
        answer = world.server.put(f"/fhir/Flag/{id}", changed, headers=world.here)
        answers.append((answer.status_code, answer.text))
    assert answers[0] == answers[1]
    assert answers[0][0] == 422


# -- openings that never end -----------------------------------------------------------------------


def test_an_appointment_that_never_ends_opens_for_a_time() -> None:
    policy = load_policy(Path(SHIPPED))
    appointment: Json = {
        "resourceType": "Appointment", "status": "booked", "participant": [],
        "start": "2026-11-22T08:00:00+08:00", "end": "2199-01-01T08:00:00+08:00",
    }  # fmt: skip
    derived = Derived([], [], [], [], [], [], [], [])
    derive_relations(appointment, derived, owner=7, policy=policy, zone="Asia/Shanghai")
    (one,) = derived.openings
    relation = policy.relation
    days = sum(
        (relation.appointment_days_before, relation.encounter_days, relation.appointment_days_after)
    )
    assert one.until - one.since == days * 86_400_000_000
