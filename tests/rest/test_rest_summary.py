"""_summary: what of a resource is shown, and that the rest is not lost (search.html#summary)."""

from __future__ import annotations

import json

import pytest
from rest_samples import bundle, entry, identifier, observation, patient

SUBSETTED = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"


def tags(resource):
    return [
        tag["code"] for tag in resource["meta"].get("tag", ()) if tag.get("system") == SUBSETTED
    ]


@pytest.fixture(scope="module")
def person(client):
    return f"Patient/{client.post('/fhir/Patient', patient()).json()['id']}"


@pytest.fixture(scope="module")
def full(client, person):
    """An Observation with something of every kind, as stored."""
    resource = observation(
        person,
        meta={"tag": [{"system": "urn:x", "code": "mine"}], "profile": ["http://x.example/p"]},
        text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
        language="zh",
        contained=[{"resourceType": "Device", "id": "d"}],
        extension=[{"url": "http://x.example/e", "valueString": "gone"}],
        modifierExtension=[{"url": "http://x.example/m", "valueString": "stays"}],
        identifier=[{**identifier(), "extension": [{"url": "http://x.example/i"}]}],
        category=[{"text": "laboratory"}],
        valueQuantity={"value": 0, "unit": "mmol/L"},
        interpretation=[{"text": "high"}],
        note=[{"text": "a note"}],
        component=[
            {
                "code": {"text": "part"},
                "extension": [{"url": "http://x.example/c"}],
                "valueQuantity": {"value": 1},
                "referenceRange": [{"text": "1 to 2"}],
            }
        ],
    )
    resource["identifier"][0]["extension"][0]["valueString"] = "with its value"
    resource["component"][0]["extension"][0]["valueString"] = "gone too"
    text = json.dumps(resource).replace('"value": 0', '"value": 7.10')
    answer = client.request(
        "POST", "/fhir/Observation", content=text.encode(),
        headers={"content-type": "application/fhir+json"},
    )  # fmt: skip
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_summary_keeps_what_the_definitions_mark(client, full):
    answer = client.get(f"/fhir/Observation/{full['id']}?_summary=true")
    body = answer.json()
    assert answer.headers["etag"] == 'W/"1"'
    assert list(body) == [
        "resourceType", "id", "meta", "status", "code", "subject", "effectiveDateTime",
        "modifierExtension", "identifier", "valueQuantity", "component",
    ]  # fmt: skip
    assert tags(body) == ["SUBSETTED"]
    assert {**body["meta"], "tag": full["meta"]["tag"]} == full["meta"]
    assert body["modifierExtension"] == full["modifierExtension"]
    assert body["identifier"] == full["identifier"]
    assert body["component"] == [{"code": {"text": "part"}, "valueQuantity": {"value": 1}}]
    assert '"value":7.10' in answer.text


@pytest.mark.parametrize(
    ("summary", "kept"),
    [
        (
            "text",
            ["resourceType", "id", "meta", "status", "code", "text", "modifierExtension"],
        ),
        (
            "data",
            [
                "resourceType", "id", "meta", "status", "code", "subject", "effectiveDateTime",
                "language", "contained", "extension", "modifierExtension", "identifier",
                "category", "valueQuantity", "interpretation", "note", "component",
            ],
        ),
    ],
)  # fmt: skip
def test_text_and_data_are_each_without_the_other(client, full, summary, kept):
    body = client.get(f"/fhir/Observation/{full['id']}?_summary={summary}").json()
    assert sorted(body) == sorted(kept)
    assert tags(body) == ["SUBSETTED"]
    for name in set(kept) - {"meta"}:
        assert body[name] == full[name]


def test_false_is_the_whole(client, full):
    whole = client.get(f"/fhir/Observation/{full['id']}")
    assert client.get(f"/fhir/Observation/{full['id']}?_summary=false").content == whole.content
    assert whole.json() == full


def test_what_loses_nothing_is_not_marked(client):
    stored = client.post("/fhir/Patient", patient()).json()
    answer = client.get(f"/fhir/Patient/{stored['id']}?_summary=true")
    assert answer.json() == stored


def test_a_version_is_summarised_too(client, full):
    body = client.get(f"/fhir/Observation/{full['id']}/_history/1?_summary=true").json()
    assert (tags(body), "note" in body) == (["SUBSETTED"], False)


def test_attachments_lose_their_data(client, person):
    photo = {"contentType": "image/png", "data": "iVBORw0KGgo=", "title": "x"}
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "subject": {"reference": person},
        "content": [{"attachment": photo}, {"attachment": {"contentType": "text/plain"}}],
    }
    id = client.post("/fhir/DocumentReference", document).json()["id"]
    body = client.get(f"/fhir/DocumentReference/{id}?_summary=true").json()
    assert body["content"] == [
        {"attachment": {"contentType": "image/png", "title": "x"}},
        {"attachment": {"contentType": "text/plain"}},
    ]


def test_extensions_of_primitives_stay_with_them(client):
    absent = [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
               "valueCode": "unknown"}]  # fmt: skip
    resource = {
        "resourceType": "Patient",
        "_birthDate": {"extension": absent},
        "maritalStatus": {"text": "x"},
        "name": [{"_family": {"extension": absent}}],
        "communication": [{"language": {"text": "zh"}}],
    }
    id = client.post("/fhir/Patient", resource).json()["id"]
    body = client.get(f"/fhir/Patient/{id}?_summary=true").json()
    assert (body["_birthDate"], body["name"]) == (resource["_birthDate"], resource["name"])
    assert "maritalStatus" not in body


def test_matches_and_includes_of_a_search_are_summarised(client, full, person):
    answer = client.get(
        f"/fhir/Observation?_id={full['id']}&_summary=true&_include=Observation:subject"
        "&_total=accurate"
    )
    one, other = answer.json()["entry"]
    assert tags(one["resource"]) == ["SUBSETTED"]
    assert "note" not in one["resource"]
    assert (other["search"]["mode"], other["resource"]["id"]) == ("include", person[8:])
    assert answer.json()["total"] == 1
    assert answer.json()["link"][0]["url"].endswith(
        "_summary=true&_include=Observation:subject&_total=accurate"
    )


def test_a_count_is_all_that_is_shown(client, person, full):
    body = client.get(f"/fhir/Observation?patient={person}&_summary=count").json()
    assert (body["total"], "entry" in body) == (1, False)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("Observation/{id}?_summary=count", "_summary"),
        ("Observation/{id}?_summary=x", "_summary"),
        ("Observation/{id}?_summary=", "_summary"),
        ("Observation/{id}?_summary=true&_summary=text", "_summary"),
        ("Observation/{id}?_summary=true&_elements=note", "_elements"),
        ("Observation/{id}?_sumary=true", "_sumary"),
        ("Observation?_id={id}&_summary=x", "_summary"),
        ("Observation?_id={id}&_summary=text&_include=Observation:subject", "_summary=text"),
    ],
)
def test_what_is_no_summary_is_refused_by_name(client, full, path, named):
    answer = client.get(f"/fhir/{path.format(id=full['id'])}")
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, [named])


def test_what_was_read_in_part_may_not_be_written_back(client, full):
    path = f"/fhir/Observation/{full['id']}"
    part = client.get(f"{path}?_summary=true").json()
    created = client.post("/fhir/Observation", part)
    put = client.put(path, part)
    for answer in (created, put):
        assert answer.status_code == 422
        assert answer.json()["issue"][0]["details"]["text"] == "subsetted"
    transaction = client.post(
        "/fhir", bundle("transaction", entry("PUT", f"Observation/{full['id']}", part))
    )
    assert transaction.status_code == 422
    assert transaction.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.meta.tag"]
    assert client.get(path).headers["etag"] == 'W/"1"'


def test_an_entry_of_a_batch_reads_in_part(client, full):
    answer = client.post(
        "/fhir", bundle("batch", entry("GET", f"Observation/{full['id']}?_summary=text"))
    )
    one = answer.json()["entry"][0]
    assert tags(one["resource"]) == ["SUBSETTED"]
    assert one["response"]["etag"] == 'W/"1"'
    assert "valueQuantity" not in one["resource"]
