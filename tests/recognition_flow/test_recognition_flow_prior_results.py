"""Patient/[id]/$prior-results: what a workstation lists of a person at all institutions."""

from __future__ import annotations

import base64
import json
from datetime import date, timedelta

import pytest
from city import COMPILED, DOCUMENT, POTASSIUM, SODIUM, day, id_number
from effort import examples
from fhir.resources.R4B.parameters import Parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM

BRAIN = "I001"


def prior(city, patient, query="", headers=None, status=200):
    answer = city.running.get(
        f"/fhir/Patient/{patient}/$prior-results{query}", headers=headers or city.receiver
    )
    assert answer.status_code == status, answer.text
    return answer.json()


def pieces(parameters, name):
    """The values and parts of a name, in order."""
    return [value_of(one) for one in parameters if one["name"] == name]


def value_of(one):
    if "part" in one:
        return one["part"]
    (value,) = [value for name, value in one.items() if name.startswith("value")]
    return value


def one(parameters, name):
    found = pieces(parameters, name)
    assert len(found) <= 1, name
    return found[0] if found else None


def groups(answer):
    """Results by item code: each a dict of its parts, in the order of the answer."""
    found = {}
    for item in pieces(answer["parameter"], "item"):
        results = [
            {part["name"]: value_of(part) for part in result} for result in pieces(item, "result")
        ]
        found.setdefault(one(item, "item")["code"], []).extend(results)
    return found


def names(answer):
    return [
        (item, result["reference"]["reference"].partition("/_history/")[0])
        for item, results in groups(answer).items()
        for result in results
    ]


def all_names(city, patient, query):
    """The results of all pages, in order."""
    found, link = [], f"/fhir/Patient/{patient}/$prior-results{query}"
    while link:
        answer = city.running.get(link, headers=city.receiver)
        assert answer.status_code == 200, answer.text
        found += names(answer.json())
        link = one(answer.json()["parameter"], "next")
    return found


@pytest.fixture(scope="module")
def world(city):
    """A person with results of three items at two institutions, and an examination."""
    person = city.patient()
    results = {
        "new": city.result(person, ago=1, value="4.10"),
        "old": city.result(person, ago=20, value="3.95"),
        "void": city.result(person, ago=2, status="entered-in-error", report="final"),
        "pending": city.result(person, SODIUM, ago=0, valueQuantity=..., status="registered",
                               report="registered"),
        "critical": city.result(person, SODIUM, ago=3, value="171",
                                interpretation=[{"coding": [{"code": "HH"}]}]),
        "compiled": city.result(person, COMPILED, ago=4, value="5.1"),
    }  # fmt: skip
    study = city.create(imaging_study(person))
    results["image"] = "DiagnosticReport/" + city.create(imaging_report(person, study))
    return person, results, f"ImagingStudy/{study}"


def imaging_study(person):
    return {
        "resourceType": "ImagingStudy",
        "status": "available",
        "subject": {"reference": f"Patient/{person}"},
        "started": day(5),
        "series": [{"uid": "1.2.3", "modality": {"code": "CT"},
                    "bodySite": {"code": "HEAD"}, "performer": [
                        {"actor": {"reference": "Organization/sender"}}]}],
    }  # fmt: skip


def imaging_report(person, study):
    return {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"coding": [{"system": IMAGING_SYSTEM, "code": BRAIN}]},
        "subject": {"reference": f"Patient/{person}"},
        "performer": [{"reference": "Organization/sender"}],
        "effectiveDateTime": day(5),
        "issued": day(5, 10),
        "imagingStudy": [{"reference": f"ImagingStudy/{study}"}],
    }


def test_results_come_by_item_the_newest_first(city, world):
    person, results, _ = world
    answer = prior(city, person)
    assert one(answer["parameter"], "total") == 7
    assert names(answer) == [
        (SODIUM, results["pending"]), (SODIUM, results["critical"]),
        (POTASSIUM, results["new"]), (POTASSIUM, results["void"]), (POTASSIUM, results["old"]),
        (COMPILED, results["compiled"]), (BRAIN, results["image"]),
    ]  # fmt: skip


def test_a_result_says_what_a_workstation_shows(city, world):
    person, results, _ = world
    answer = prior(city, person, "?item=L001")
    (item,) = pieces(answer["parameter"], "item")
    assert one(item, "item")["display"] == "钾"
    assert (one(item, "kind"), one(item, "unit"), one(item, "count")) == ("lab", "mmol/L", 3)
    assert one(item, "window-days") == 7
    assert one(item, "window-source").startswith("published")
    new, void, old = groups(answer)[POTASSIUM]
    assert new["reference"]["reference"] == f"{results['new']}/_history/1"
    assert new["value"] == "4.10 mmol/L"
    assert new["quantity"] == {
        "value": 4.1, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L",
    }  # fmt: skip
    assert new["issuer"] == {"reference": "Organization/sender", "display": "检验医院"}
    assert (new["mark"], new["status"], new["days-left"], new["in-window"]) == (
        "evaluated", "final", 6, True,
    )  # fmt: skip
    last = date.fromisoformat(day(1)[:10]) + timedelta(days=7)
    assert new["window-end"] == last.isoformat()
    assert new["time-of"] == "collected"
    assert new["report"]["reference"].startswith("DiagnosticReport/")
    assert (old["in-window"], old["days-left"]) == (False, -13)
    assert (void["void"], void["status"]) == (True, "entered-in-error")
    assert "void" not in new
    assert "outcome" not in new


def test_the_number_is_spelled_as_it_came(city, world):
    person, _, _ = world
    text = city.running.get(
        f"/fhir/Patient/{person}/$prior-results?item=L001", headers=city.receiver
    ).text
    assert '"quantity","valueQuantity":{"value":4.10,' in text


def test_what_stands_out_is_flagged(city, world):
    person, _, _ = world
    pending, critical = groups(prior(city, person, f"?item={SODIUM}"))[SODIUM]
    assert (pending["pending"], pending["status"]) == (True, "registered")
    assert "value" not in pending
    assert critical["flag"] == "critical"


def test_an_examination_is_one_result_with_its_study(city, world):
    person, results, study = world
    answer = prior(city, person, "?class=CT")
    ((item, image),) = names(answer)
    assert (item, image) == (BRAIN, results["image"])
    (result,) = groups(answer)[BRAIN]
    assert result["study"] == {"reference": study}
    assert result["region"] == "HEAD"
    (found,) = pieces(answer["parameter"], "item")
    assert (one(found, "kind"), one(found, "modality")) == ("imaging", "CT")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?item=L001&item=L060", {"new", "old", "void", "compiled"}),
        ("?item=liver-function", set()),
        ("?class=lab", {"new", "old", "void", "pending", "critical", "compiled"}),
        ("?class=imaging", {"image"}),
        ("?class=临床化学", {"new", "old", "void", "pending", "critical"}),
        ("?status=final", {"new", "old", "critical", "compiled", "image"}),
        ("?status=registered&status=entered-in-error", {"pending", "void"}),
        ("?institution=sender&item=L001", {"new", "old", "void"}),
        ("?institution=Organization/receiver", set()),
        (f"?date=ge{day(4)[:10]}", {"new", "void", "pending", "critical", "compiled"}),
        (f"?date=ge{day(4)[:10]}&date=le{day(3)[:10]}", {"critical", "compiled"}),
        (f"?date={day(5)[:10]}", {"image"}),
        (f"?date=lt{day(5)[:10]}", {"old"}),
    ],
)
def test_filters(city, world, query, expected):
    person, results, _ = world
    answer = prior(city, person, query)
    assert {name for _, name in names(answer)} == {results[one] for one in expected}
    assert one(answer["parameter"], "total") == len(expected)


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("?item=nothing", "unknown-item"),
        ("?class=nothing", "unknown-class"),
        ("?date=yesterday", "search-value"),
        ("?date=gex", "search-value"),
        ("?_count=0", "search-count"),
        ("?_cursor=AAAA", "cursor"),
        ("?institution=Patient/x", "reference"),
        ("?encounter=nowhere", "unknown-id"),
        ("?itme=L001", "unknown-parameter"),
        ("?evaluate=perhaps", "parameter-type"),
    ],
)
def test_what_cannot_be_meant_is_refused(city, world, query, rule):
    answer = prior(city, world[0], query, status=400)
    assert answer["issue"][0]["details"]["text"] == rule


def test_nobody_is_not_found_and_the_deleted_are_gone(city):
    assert prior(city, "nobody", status=404)["issue"][0]["details"]["text"] == "unknown-id"
    gone = city.patient()
    answer = city.running.delete(f"/fhir/Patient/{gone}", headers=city.sender)
    assert answer.status_code in (200, 204)
    prior(city, gone, status=410)


def test_nothing_available_is_never_said_to_be_nothing(city):
    answer = prior(city, city.patient())["parameter"]
    assert one(answer, "total") == 0
    assert "available to you" in one(answer, "text-en")
    assert "没有您可见的既往结果" in one(answer, "text")
    sources = {
        one(part, "institution")["reference"]: (one(part, "stale"), one(part, "asked"))
        for part in pieces(answer, "source")
    }
    assert sources == {
        "Organization/receiver": (True, True),
        "Organization/sender": (False, True),
    }


def test_marks_are_those_that_reach_the_receiver(city, world):
    person, _, _ = world
    city.put({"resourceType": "Organization", "id": "elsewhere", "name": "外地医院"})
    assert prior(city, person, "?receiver=sender", status=403)["issue"][0]["code"] == "forbidden"
    mine = groups(prior(city, person, "?receiver=receiver&item=L001"))[POTASSIUM]
    assert {one["mark"] for one in mine} == {"evaluated"}
    brain = groups(prior(city, person, "?class=imaging"))[BRAIN]
    assert {one["mark"] for one in brain} == {"not-evaluated"}


def test_the_receiver_may_be_told_by_the_visit(city, world):
    person, _, _ = world
    stored = city.running.post("/fhir/Encounter", {
        "resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"},
        "subject": {"reference": f"Patient/{person}"},
        "serviceProvider": {"reference": "Organization/receiver"},
    }, headers=city.receiver)  # fmt: skip
    visit = stored.json()["id"]
    answer = prior(city, person, f"?encounter={visit}&item=L001")
    assert groups(answer)[POTASSIUM][0]["mark"] == "evaluated"


def test_the_rules_are_asked_on_request_and_record_nothing(city, world):
    person, results, _ = world
    before = decisions(city)
    answer = prior(city, person, "?evaluate=true&item=L001&item=L002")
    asked = city.recognize(person, POTASSIUM, SODIUM)["parameter"]
    expected = {
        one(part, "item")["code"]: (one(part, "outcome"), one(part, "reason"))
        for part in pieces(asked, "item")
    }
    found = {
        one(part, "item")["code"]: (one(part, "outcome"), one(part, "reason"))
        for part in pieces(answer["parameter"], "item")
    }
    assert found == expected
    assert decisions(city) == before + 1  # that of $recognize alone
    outcomes = {
        result["reference"]["reference"].split("/_history")[0]: result["outcome"]
        for result in groups(answer)[POTASSIUM]
    }
    assert outcomes[results["old"]] in ("superseded", "not-recognizable", "view-only")
    assert outcomes[results["void"]] in ("superseded", "not-recognizable")


def decisions(city):
    answer = city.running.get("/fhir/GuidanceResponse?_summary=count", headers=city.receiver)
    return answer.json()["total"]


def test_post_is_the_same(city, world):
    person, _, _ = world
    parameters = [
        {"name": "item", "valueCode": POTASSIUM},
        {"name": "date", "valueString": f"ge{day(3)[:10]}"},
    ]
    answer = city.operate(f"Patient/{person}/$prior-results", parameters)
    assert names(answer.json()) == names(
        prior(city, person, f"?item={POTASSIUM}&date=ge{day(3)[:10]}")
    )


def test_pages_show_what_was_stored_when_the_first_was_read(city):
    person = city.patient()
    first = [city.result(person, ago=ago) for ago in (1, 2, 3)]
    page = prior(city, person, "?_count=2")
    city.result(person, ago=0)
    link = one(page["parameter"], "next")
    rest = city.running.get(link, headers=city.receiver).json()
    assert [name for _, name in (*names(page), *names(rest))] == first
    assert one(rest["parameter"], "next") is None
    answer = city.running.get(link, headers=city.sender)
    assert answer.status_code == 400
    answer = city.running.get(link.replace("_count=2", "_count=3"), headers=city.receiver)
    assert answer.status_code == 400


@settings(max_examples=examples(12))
@given(
    count=st.integers(1, 8),
    query=st.sampled_from(("", "&item=L001", "&class=lab", "&status=final", "&evaluate=true")),
)
def test_pages_put_together_are_the_whole(city, world, count, query):
    person, _, _ = world
    whole = all_names(city, person, f"?_count=500{query}")
    assert all_names(city, person, f"?_count={count}{query}") == whole
    assert len(whole) == len(set(whole))


def test_the_person_is_meant_and_each_record_is_audited(city):
    document = {"system": DOCUMENT, "value": id_number(777)}
    records = [
        city.create({"resourceType": "Patient", "name": [{"text": "测试同一人"}],
                     "identifier": [document]})
        for _ in range(2)
    ]  # fmt: skip
    results = [city.result(id, ago=ago) for id, ago in zip(records, (1, 2), strict=True)]

    def events(id):
        found = city.running.get(
            f"/fhir/AuditEvent?patient={id}&_count=500", headers=city.receiver
        ).json()
        return sum(
            b"prior-results" in base64.b64decode(entity.get("query", ""))
            for entry in found.get("entry", ())
            for entity in entry["resource"].get("entity", ())
        )

    answer = prior(city, records[1])
    assert [name for _, name in names(answer)] == results
    told = [one(part, "patient")["reference"] for part in pieces(answer["parameter"], "record")]
    assert set(told) == {f"Patient/{id}" for id in records}
    of = [result["patient"]["reference"] for result in groups(answer)[POTASSIUM]]
    assert of == [f"Patient/{id}" for id in records]
    assert [events(id) for id in records] == [1, 1]
    alone = prior(city, records[1], "?_person=false")
    assert [name for _, name in names(alone)] == results[1:]
    assert [events(id) for id in records] == [1, 2]
    assert one(answer["parameter"], "identity") == "documented"


def test_a_contested_identity_is_said_and_nobody_elses_results_are_shown(city):
    document = {"system": DOCUMENT, "value": id_number(778)}
    mine, theirs = (
        city.create({"resourceType": "Patient", "name": [{"text": name}], "identifier": [document]})
        for name in ("测试一", "测试二")
    )
    own = city.result(mine)
    city.result(theirs)
    answer = prior(city, mine)
    assert one(answer["parameter"], "identity") == "contested"
    assert [name for _, name in names(answer)] == [own]


def test_an_undocumented_person_is_said_to_be_one(city):
    answer = prior(city, city.patient(documented=False))
    assert one(answer["parameter"], "identity") == "undocumented"


def test_the_answer_is_parameters_of_r4_to_a_client(city, world):
    for query in ("", "?evaluate=true", "?item=liver-function"):
        answer = prior(city, world[0], query)
        assert Parameters.model_validate(answer).parameter
        read_resource(json.dumps(answer).encode(), type="Parameters")
