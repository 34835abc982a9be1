"""Bad input at the REST door: odd queries, paths, headers and counts get a 4xx, never a 5xx."""

from __future__ import annotations

import gzip
import zlib

import pytest
from rest_samples import observation, patient


def is_refused(answer, *statuses):
    assert answer.status_code in statuses, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"
    return answer.json()["issue"][0]


@pytest.fixture(scope="module")
def two(client):
    """Two patients with one result each."""
    people = [
        f"Patient/{client.post('/fhir/Patient', patient(birthDate=day)).json()['id']}"
        for day in ("1980-01-01", "1990-02-02")
    ]
    for person in people:
        client.post("/fhir/Observation", observation(person))
    return people


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, gzip", "GZIP", "x-unknown"])
def test_compressed_bodies_are_refused_unread(client, coding):
    bomb = gzip.compress(b"[" * 30_000_000) if "gzip" in coding.lower() else zlib.compress(b"x")
    for method, path, media in (
        ("POST", "/fhir/Patient", "application/fhir+json"),
        ("POST", "/fhir/Patient/_search", "application/x-www-form-urlencoded"),
        ("POST", "/fhir", "application/fhir+json"),
    ):
        answer = client.request(
            method, path, content=bomb, headers={"content-type": media, "content-encoding": coding}
        )
        assert is_refused(answer, 415)["details"]["text"] == "content-encoding"


@pytest.mark.parametrize("count", ["1000000000", "999999999", "500"])
def test_a_huge_count_is_cut_to_the_limit_and_said_so(client, two, count):
    answer = client.get(f"/fhir/Observation?patient={two[0]}&_count={count}")
    if len(count) > 9:
        is_refused(answer, 400)
    else:
        assert answer.json()["link"][0]["url"].endswith("_count=500")


@pytest.mark.parametrize(
    "count", ["-1", "1.5", "1e3", "0x10", "٣", "1 ", "", "NaN", "9" * 400, "1,2"]
)
def test_a_count_that_is_no_number_is_refused(client, two, count):
    answer = client.get("/fhir/Observation", params={"patient": two[0], "_count": count})
    assert is_refused(answer, 400)["expression"] == ["_count"]


@pytest.mark.parametrize(
    "name",
    ["patinet", "Patient", "patient ", "pa\u0442ient", "patient;", "_Count", "codes", "$count",
     "patient[]", "patient.", ":missing", "__proto__", "_id\u200b", "%70atient2"],
)  # fmt: skip
def test_a_misspelt_parameter_is_refused_and_nothing_is_told(client, two, name):
    """An ignored filter would return everyone."""
    answer = client.get("/fhir/Observation", params={name: two[0], "status": "final"})
    is_refused(answer, 400, 404)


def test_several_patients_are_met_by_nobody_not_by_either(client, two):
    """A repeated parameter means AND, wherever it is read."""
    both = client.get(f"/fhir/Observation?patient={two[0]}&patient={two[1]}")
    assert [one["search"]["mode"] for one in both.json()["entry"]] == ["outcome"]
    either = client.get(f"/fhir/Observation?patient={two[0]},{two[1]}")
    assert len(either.json()["entry"]) == 2


@pytest.mark.parametrize(
    "query",
    [
        "patient={0};patient={1}",  # a semicolon separates nothing
        "patient={0}%00",
        "patient={0}%2500",
        "patient=%50atient%2F..%2f{1}",
        "patient={0}/../{1}",
        "patient=%c0%ae",
        "patient=%ff%fe",
        "patient=%",
        "patient=%zz",
        "patient=%u0031",
        "%70%61=1",
    ],
)
def test_what_is_encoded_oddly_finds_nobody(client, two, query):
    answer = client.get("/fhir/Observation?" + query.format(*two))
    if answer.status_code == 200:
        assert answer.json().get("entry", []) == []
    else:
        is_refused(answer, 400)


def test_a_double_encoded_reference_is_not_decoded_twice(client, two):
    twice = client.get(f"/fhir/Observation?patient={two[0].replace('/', '%252F')}")
    assert twice.status_code == 400 or twice.json().get("entry", []) == []
    once = client.get(f"/fhir/Observation?patient={two[0].replace('/', '%2F')}")
    assert len(once.json()["entry"]) == 1


@pytest.mark.parametrize(
    "path",
    [
        "Patient/..%2fObservation", "Patient//1", "//Patient", "Patient/%00", "Patient/%ff",
        "Patient/1/", "Patient/1%2f_history", "Patient;x=1/1", "%50atient/none",
        "Patient/" + "a" * 65, "Patient/" + "a" * 5_000, "Patient/a b", "./Patient/none",
        "Patient/_history/1", "_history/1", "$export%00", "metadata/x", "*", "Patient/*",
        "Patient/1/*/2", "Observation/_search/1", "_search/x", "Patient/1/_search",
    ],
)  # fmt: skip
def test_odd_paths_lead_nowhere(client, path):
    is_refused(client.get(f"/fhir/{path}"), 400, 404, 405)


@pytest.mark.parametrize(
    ("name", "value", "statuses"),
    [
        ("accept", "application/fhir+json;q=abc", {200}),
        ("accept", ",,,;;;===", {406}),
        ("accept", "a/b;" * 5_000, {406}),
        ("if-none-match", 'W/"', {200}),
        ("if-none-match", ",".join(f'W/"{n}"' for n in range(2, 3_000)), {200}),
        ("if-modified-since", "Thu, 99 Foo 2026 99:99:99 GMT", {200}),
        ("if-modified-since", "Sat, 01 Jan 99999 00:00:00 GMT", {200}),
        ("prefer", "return=" + "x" * 5_000, {200}),
        ("prefer", '"""', {200}),
        ("content-encoding", "gzip", {200}),  # of a body that is not there
        ("x-request-id", "\u001b[31m", {200}),
        ("range", "bytes=0-1," * 1_000, {200}),
        ("content-type", "\x7f", {200}),
    ],
)
def test_odd_headers_change_nothing_or_are_refused(client, two, name, value, statuses):
    answer = client.get(f"/fhir/{two[0]}", headers={name: value.encode("latin-1")})
    assert answer.status_code in statuses


def test_a_form_of_many_parameters_is_refused_in_one_look(client):
    answer = client.request(
        "POST",
        "/fhir/Patient/_search",
        content=b"&".join([b"_id=1"] * 200_000),
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert is_refused(answer, 400)["details"]["text"] == "parameters"


@pytest.mark.parametrize(
    ("media", "status"),
    [
        ("application/x-www-form-urlencoded; charset=utf-8", 200),
        ("application/json", 415),
        ("multipart/form-data; boundary=x", 415),
        ("text/plain", 415),
    ],
)
def test_a_form_says_that_it_is_one(client, media, status):
    answer = client.request(
        "POST", "/fhir/Patient/_search", content=b"_id=1", headers={"content-type": media}
    )
    assert answer.status_code == status


@pytest.mark.parametrize(
    "text", ["' OR 1=1 --", '"; DROP TABLE resource; --', "1) UNION SELECT body FROM resource --",
             "%' --", "_", "\\", "$.x", "resolve()", "?1", "\u2028"],
)  # fmt: skip
@pytest.mark.parametrize(
    "parameter", ["_id", "name", "name:contains", "identifier", "birthdate", "_sort", "_elements",
                  "_include", "_type", "_cursor", "_total", "_summary", "_since", "_lastUpdated"],
)  # fmt: skip
def test_values_are_values_and_never_statements(client, parameter, text):
    answer = client.get("/fhir/Patient", params={parameter: text})
    if answer.status_code == 200:
        assert answer.json().get("entry", []) == []
    else:
        is_refused(answer, 400)
