"""Where a search looks: bound homes, the global index, or a refusal before it runs."""

from __future__ import annotations

import pytest
from search_loader import Loader

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.home import institution_home

plan = Loader().plan


def binding(url: str, **options: object) -> dict[str, object]:
    made = plan(url, **options)
    names = ("patients", "follows", "rest", "home", "by_patient")
    values = {name: getattr(made, name) for name in names}
    return {name: value for name, value in values.items() if value != () and value is not False}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Observation?patient=p", {"patients": ("p",), "home": None, "by_patient": True}),
        ("Observation?patient=Patient/p", {"patients": ("p",), "home": None, "by_patient": True}),
        ("Observation?patient=p,q", {"patients": ("p", "q"), "home": None, "by_patient": True}),
        ("Observation?subject=Patient/p", {"patients": ("p",), "home": None, "by_patient": True}),
        ("Observation?subject:Patient=p", {"patients": ("p",), "home": None, "by_patient": True}),
        ("Observation?subject=p", {"patients": ("p",), "rest": True, "home": None}),
        ("Observation?subject=Group/g", {"rest": True, "home": None}),
        ("Observation?patient=https://other.example/Patient/p", {"home": None}),
        ("Observation?performer=Patient/p", {"home": None}),
        ("Observation?patient:identifier=a|b", {"home": None}),
        ("Observation?patient:missing=true", {"home": None}),
        ("Communication?subject=Patient/p", {"patients": ("p",), "home": None}),
        ("Communication?sender=Patient/p", {"home": None}),
        ("Appointment?patient=p", {"home": None}),
        ("AuditEvent?patient=p", {"patients": ("p",), "rest": True, "home": None}),
        ("GuidanceResponse?patient=p", {"patients": ("p",), "rest": True, "home": None}),
        (
            "Provenance?target=Observation/o",
            {"follows": (("Observation", "o"),), "rest": True, "home": None},
        ),
        ("Slot?schedule=s", {"follows": (("Schedule", "s"),), "rest": True, "home": None}),
        ("HealthcareService?organization=o", {"home": institution_home("o")}),
        ("Practitioner?name=a", {"home": 0}),
        ("CodeSystem?url=http://a", {"home": 0}),
        ("Patient?_id=p", {"home": None}),
    ],
)
def test_what_a_parameter_binds(url: str, expected: dict[str, object]) -> None:
    assert binding(url) == expected


def test_two_patients_must_both_be_named() -> None:
    loader = Loader()
    for id in ("p", "q"):
        loader.put({"resourceType": "Patient", "id": id})
    loader.put(result("o", "p"))
    assert loader.ids("Observation?patient=p&patient=q") == []
    assert loader.ids("Observation?patient=p&subject=Patient/p") == ["o"]
    assert loader.ids("Observation?patient=q,p") == ["o"]


def result(id: str, patient: str, **members: object) -> dict[str, object]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"code": "c"}]},
        "subject": {"reference": f"Patient/{patient}"},
        **members,
    }


def test_records_of_one_person_stay_apart() -> None:
    """Two Patients that are one person share a home; a search by one does not show the other's."""
    loader = Loader()
    for id in ("p", "q"):
        loader.homes[id] = 7
        loader.put({"resourceType": "Patient", "id": id})
    loader.put(result("mine", "p"))
    loader.put(result("other", "q"))
    assert loader.ids("Observation?patient=p&code=c") == ["mine"]
    assert loader.ids("Observation?patient=p,q&code=c") == ["mine", "other"]


def test_a_patient_that_was_never_stored_has_no_results() -> None:
    page = Loader().page("Observation?patient=nobody&_total=accurate")
    assert (page.matches, page.total, page.next) == ([], 0, None)


def test_a_group_is_found_where_what_names_no_patient_lives() -> None:
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "x"})
    loader.put(result("a", "x"))
    loader.put(result("b", "x", subject={"reference": "Group/x"}))
    assert loader.ids("Observation?subject=x") == ["a", "b"]
    assert loader.ids("Observation?subject=Group/x") == ["b"]
    assert loader.ids("Observation?subject=x&code=c&status=final&_sort=-_id") == ["b", "a"]


def test_what_follows_is_found_with_what_it_follows() -> None:
    loader = Loader()
    service = {"resourceType": "HealthcareService", "id": "h",
               "providedBy": {"reference": "Organization/o"}}  # fmt: skip
    schedule = {"resourceType": "Schedule", "id": "s",
                "actor": [{"reference": "HealthcareService/h"}]}  # fmt: skip
    slot = {"resourceType": "Slot", "schedule": {"reference": "Schedule/s"}, "status": "free"}
    loader.put({**slot, "id": "early", "start": "2024-01-01T00:00:00Z"})  # before its schedule
    for resource in (service, schedule, {**slot, "id": "late", "start": "2024-01-02T00:00:00Z"}):
        loader.put(resource)
    assert loader.ids("Slot?schedule=Schedule/s") == ["early", "late"]
    assert loader.ids("Slot?schedule=s&start=ge2024-01-02&status=free") == ["late"]
    assert loader.ids("Schedule?actor=HealthcareService/h") == ["s"]
    assert loader.ids("HealthcareService?organization=o") == ["h"]


def test_a_reference_that_repeats_is_found_across_homes() -> None:
    """An Appointment lives with its first patient and is found by its second."""
    loader = Loader()
    actors = [{"actor": {"reference": f"Patient/{id}"}, "status": "accepted"} for id in "pq"]
    for id in "pq":
        loader.put({"resourceType": "Patient", "id": id})
    for id, both in (("a", actors), ("b", actors[:1])):
        loader.put({"resourceType": "Appointment", "id": id, "status": "booked",
                    "participant": both})  # fmt: skip
    assert loader.ids("Appointment?patient=q", budget=1) == ["a"]


def crowd() -> Loader:
    loader = Loader()
    for number in range(40):
        loader.put({
            "resourceType": "Patient", "id": f"p{number}", "gender": "female",
            "name": [{"text": f"王{number}"}],
            "identifier": [{"system": "http://s", "value": f"{number}"}],
            "birthDate": f"19{60 + number % 40}-01-01",
        })  # fmt: skip
        loader.put(result(f"o{number}", f"p{number}", identifier=[{"value": f"r{number}"}]))
        loader.put({"resourceType": "Practitioner", "id": f"d{number}", "active": number < 35})
    return loader


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("Patient?identifier=http://s|7", ["p7"]),
        ("Patient?identifier=7", ["p7"]),
        ("Patient?name=王7", ["p7"]),
        ("Patient?name=王&identifier=7", ["p7"]),
        ("Patient?gender=female&identifier=7", ["p7"]),
        ("Patient?birthdate=1967-01-01", ["p7"]),
        ("Patient?birthdate=lt1961", ["p0"]),
        ("Patient?_id=p7,p8&gender=female", ["p7", "p8"]),
        ("Observation?identifier=r7", ["o7"]),
        ("Observation?patient=p7", ["o7"]),
        ("Practitioner?active=false&_count=2", ["d35", "d36"]),
        ("Practitioner?active=true&_count=2", ["d0", "d1"]),
        ("Patient?_count=2", ["p0", "p1"]),
    ],
)
def test_within_the_budget(url: str, expected: list[str]) -> None:
    assert crowd().ids(url, budget=10) == expected


@pytest.mark.parametrize(
    "url",
    [
        "Patient?name=王",
        "Patient?gender=female",
        "Patient?name:contains=7",
        "Patient?identifier=http://s|",
        "Patient?identifier=http://nobody.example|",
        "Patient?identifier:not=7",
        "Patient?birthdate=ne1967",
        "Patient?name:missing=true",
        "Patient?_lastUpdated=gt2024",
        "Patient?_sort=birthdate",
        "Patient?_summary=count",
        "Patient?_total=accurate",
        "Observation?code=c",
        "Observation?performer=Practitioner/d1",
        "Observation?patient=https://other.example/Patient/1",
        "Practitioner?active=true&_sort=_id",
        "Practitioner?active=true&active=true",
        "Practitioner?active:missing=true",
    ],
)
def test_over_the_budget_is_refused_before_it_runs(url: str) -> None:
    with pytest.raises(TooCostly) as caught:
        crowd().page(url, budget=10)
    assert caught.value.issues[0].rule == "search-budget"


def test_the_budget_is_met_exactly() -> None:
    loader = crowd()
    assert len(loader.ids("Observation?code=c", budget=40)) == 40
    with pytest.raises(TooCostly):
        loader.ids("Observation?code=c", budget=39)


def test_journal_entries_are_found_with_their_bodies() -> None:
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "p"})
    event = {"resourceType": "AuditEvent", "recorded": "2024-03-05T00:00:00Z", "action": "R",
             "entity": [{"what": {"reference": "Patient/p"}}]}  # fmt: skip
    loader.put({**event, "id": "one"}, journaled=True)
    loader.put({**event, "id": "two", "recorded": "2024-03-06T00:00:00Z"}, journaled=True)
    assert loader.ids("AuditEvent?patient=p&action=R") == ["one", "two"]
    page = loader.page("AuditEvent?date=ge2024-03-06", budget=1)
    assert [match.id for match in page.matches] == ["two"]
    assert b'"recorded":"2024-03-06T00:00:00Z"' in page.matches[0].whole()
