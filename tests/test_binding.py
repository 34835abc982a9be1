"""Patient binding: home, $everything, audit and search all read one table (fhir/home.py).

None of them knows a type on its own. That is proved twice: no file of these rooms spells a type
whose home is a person's, beyond a list with reasons, and for every such type a resource made from
the definitions is found in all of these places.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from minimal import about, minimal, person_types

from fhir_gateway.fhir.home import HOME_RULES
from fhir_gateway.interactions.care_dates import CARE_DATES
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.registry import searchables
from fhir_gateway.security.actor import SYSTEM_ACCESS

ROOT = Path(__file__).resolve().parents[1] / "fhir_gateway"

#: Files that spell types which live with a person, and why each must.
REASONS = {
    "audit/events.py": "what an event of a decision names is a GuidanceResponse",
    "interactions/access_task.py": "who was let into a record is kept as a Task",
    "interactions/audit.py": "it writes AuditEvents",
    "interactions/break_glass.py": "it writes Tasks, and tells who holds a Patient",
    "interactions/break_glass_review.py": "a review is a version of a Task",
    "interactions/care_dates.py": "the table of care dates: data, and every other type is kept",
    "interactions/case_access.py": "a case is kept as a Task",
    "interactions/claims.py": "in whose name a result may be sent, for the three kinds of result",
    "interactions/classify.py": "a report is as strict as its results, a document as its reports",
    "interactions/consents.py": "what a Consent may say, and who",
    "interactions/deriving.py": "the four types whose codes are mapped",
    "interactions/document.py": "a document begins with a Composition",
    "interactions/document_collect.py": "the table of types whose references a document follows",
    "interactions/document_definitions.py": "on which types documents are operations",
    "interactions/document_report.py": "what is made is a Composition; files are Binaries",
    "interactions/endpoint_rows.py": "the check of an Endpoint is a VerificationResult",
    "interactions/endpoints.py": "an Endpoint may serve one study; its check is kept",
    "interactions/entries.py": "a patch in a Bundle stands in a Binary",
    "interactions/evaluations.py": "who may write the register, which is of one type",
    "interactions/export.py": "an export holds AuditEvents when they are named, not else",
    "interactions/intake_cda.py": "the answer to a document names its DocumentReference",
    "interactions/intake_cda_versions.py": "what replaces what, of documents and their reports",
    "interactions/intake_dicom.py": "a DICOM file becomes an ImagingStudy",
    "interactions/intake_tabular.py": "which type a kind of table is about: data",
    "interactions/letters.py": "whether a message corrects a report, and when that was issued",
    "interactions/lastn.py": "$lastn is an operation on Observation",
    "interactions/own_name.py": "which elements of each type say who made it: data",
    "interactions/patch.py": "a patch in a Bundle stands in a Binary",
    "interactions/places.py": "a Provenance names several targets and stands in one home",
    "interactions/provenance.py": "it writes Provenances",
    "interactions/reconcile.py": "what a newer message says of what an older one stored",
    "interactions/references.py": "the two types that stand in the journal",
    "interactions/relations.py": "the types that say who treats a person",
    "interactions/replay_day.py": "two types tell when their commit was planned",
    "interactions/render_document.py": "$render is an operation on DocumentReference",
    "interactions/types.py": "the types that are governed, and those that raise the epoch",
    "interactions/wrong_patient.py": "an alarm is a Task; the three kinds of result",
    "search/chains.py": "_list is a search by way of a List",
    "search/compartment.py": "a compartment is named by its type",
    "search/composite.py": "a composite of Observation that is defined by what is absent",
    "search/meaning.py": "AuditEvents are searched by the record that they name, not by the person",
    "search/recurring.py": "what every AuditEvent has in common is worked out once",
    "search/registry.py": "codes of the global index, and what the gateway writes once per home",
    "store/claim_person.py": "a booking is counted by its Appointment",
    "store/claims.py": "a claim is for a Patient, on an Appointment",
    "store/draining.py": "the two types that stand in the journal",
    "store/history_sql.py": "the two types that stand in the journal",
    "store/linking.py": "the types that say who is who",
    "store/postgres_claims.py": "which Slots and Patients claims will ask for",
    "store/purge_sql.py": "AuditEvents alone are removed when their time is over",
    "store/search_sql.py": "AuditEvents of others are closed, and asked for apart",
    "store/seat_around_sql.py": "a Slot with its Schedule, and the Patient who is to come",
    "store/seat_sql.py": "seats are those of a Slot or a Schedule",
    "store/seating.py": "the two types that give rows of supply",
    "store/sight_sql.py": "what lives with a person though it names none, and AuditEvents",
}

BOUND = frozenset(type for type, rule in HOME_RULES.items() if rule.person or rule.follow)


def _spelled(path: Path) -> set[str]:
    """The types that a module names in its texts: alone, or before a path, a query or an id."""
    return {
        word
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for text in [node.value]
        if " " not in text
        for word in [text.partition("/")[0].partition(".")[0].partition("?")[0].partition(":")[0]]
        if word in BOUND
    }


def test_no_room_of_the_spine_knows_a_type_on_its_own():
    found = {
        str(path.relative_to(ROOT))
        for room in ("audit", "interactions", "search", "store")
        for path in sorted((ROOT / room).rglob("*.py"))
        if _spelled(path)
    }
    assert found - set(REASONS) == set()
    assert set(REASONS) - found == set(), "a reason for nothing"


def test_the_modules_that_bind_read_the_table():
    """Placing takes the home that a change set names, which interactions/prepare.py reads."""
    for module in ("interactions/audit.py", "interactions/prepare.py", "search/registry.py"):
        assert "fhir_gateway.fhir.home" in (ROOT / module).read_text(encoding="utf-8")
    for module in ("interactions/everything.py", "store/record_sql.py", "store/placing.py"):
        assert _spelled(ROOT / module) == set()


def test_care_dates_are_of_types_that_live_with_a_person():
    assert set(CARE_DATES) - set(person_types()) == set()


@pytest.fixture(scope="module")
def stored(client):
    """Of each type that lives with a person: a Patient of its own and one resource about it."""
    answers = {}
    for type in person_types():
        if type in ("AuditEvent", "GuidanceResponse"):
            continue
        patient = client.post("/fhir/Patient", minimal("Patient")).json()["id"]
        answer = client.post(f"/fhir/{type}", about(type, f"Patient/{patient}"))
        assert answer.status_code == 201, (type, answer.text)
        answers[type] = (patient, answer.json()["id"])
    return answers


def _home(gateway, client, type, id):
    async def ask():
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.home(type, id)

    return client.run(ask())


def test_each_lands_in_the_home_of_its_patient(client, gateway, stored):
    homes = {
        type: (_home(gateway, client, type, id), _home(gateway, client, "Patient", patient))
        for type, (patient, id) in stored.items()
    }
    assert {type for type, (one, other) in homes.items() if one != other or one <= 0} == set()


def test_each_is_part_of_everything(client, stored):
    for type, (patient, id) in stored.items():
        page = client.get(f"/fhir/Patient/{patient}/$everything").json()
        names = [one["fullUrl"].removeprefix("http://127.0.0.1/fhir/") for one in page["entry"]]
        assert names == [f"Patient/{patient}", f"{type}/{id}"]


def test_each_read_is_audited_with_the_patients_name(client, stored):
    silent = set()
    for type, (patient, id) in stored.items():
        client.get(f"/fhir/{type}/{id}")
        client.get(f"/fhir/{type}?_id={id}")
        found = client.get(f"/fhir/AuditEvent?patient=Patient/{patient}").json()
        events = [one["resource"] for one in found.get("entry", ())]
        codes = [event["subtype"][0]["code"] for event in events]
        if not {"create", "read", "search-type"} <= set(codes):
            silent.add((type, *codes))
    assert silent == set()


#: Types that no search parameter of R4 ties to the patient by the element that decides the home.
WITHOUT_PARAMETER = frozenset({"BiologicallyDerivedProduct"})


def _binding_codes(type):
    return [code for code, one in searchables(type).items() if one.binding == "person"]


def _naming_codes(type):
    """Search parameters that find the resource by its patient, whatever they bind to."""
    return [
        code
        for code, one in searchables(type).items()
        if one.kind == "reference" and not one.refused and (one.binding or one.is_global)
    ]


def test_a_search_by_what_binds_is_bound_to_the_home(client, gateway, stored):
    unbound = set()
    for type, (patient, id) in stored.items():
        if type in WITHOUT_PARAMETER:
            continue
        found = False
        for code in _binding_codes(type):
            plan = plan_search(type, [(code, f"Patient/{patient}")], secret=b"x" * 32)
            assert plan.patients == (patient,), (type, code)
        for code in _binding_codes(type) or _naming_codes(type):
            page = client.get(f"/fhir/{type}?{code}=Patient/{patient}").json()
            found = found or [one["resource"]["id"] for one in page.get("entry", ())] == [id]
        if not found:
            unbound.add(type)
    assert unbound == set()
