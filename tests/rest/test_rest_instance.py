"""create, read, vread, update, delete and history over HTTP (hl7.org/fhir/R4/http.html)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest
from rest_samples import observation, patient


@pytest.fixture
def stored(client):
    return client.post("/fhir/Patient", patient()).json()


def test_create_answers_201_with_location_etag_and_the_resource(client):
    answer = client.post("/fhir/Patient", patient(id="mine", gender="female"))
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"http://127.0.0.1/fhir/Patient/{body['id']}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert parsedate_to_datetime(answer.headers["last-modified"])
    assert body["id"] != "mine"
    assert body["meta"]["versionId"] == "1"
    assert body["gender"] == "female"


def test_read_gives_back_what_was_stored(client, stored):
    answer = client.get(f"/fhir/Patient/{stored['id']}")
    assert (answer.status_code, answer.json()) == (200, stored)


def test_numbers_keep_their_spelling_from_door_to_door(client, stored):
    body = observation(f"Patient/{stored['id']}")
    text = client.run(client.http.post(
        "/fhir/Observation",
        content=_with_value(body, "5.10"),
        headers={"content-type": "application/fhir+json"},
    )).text  # fmt: skip
    assert '"value":5.10' in text


def _with_value(body, number):
    import json

    text = json.dumps({**body, "valueQuantity": {"value": 0, "unit": "mmol/L"}})
    return text.replace('"value": 0', f'"value": {number}')


def test_head_answers_like_get_without_a_body(client, stored):
    got = client.get(f"/fhir/Patient/{stored['id']}")
    head = client.request("HEAD", f"/fhir/Patient/{stored['id']}")
    assert head.content == b""
    for name in ("content-length", "etag", "last-modified", "content-type"):
        assert head.headers[name] == got.headers[name]


def test_unchanged_since_is_304_without_a_body(client, stored):
    path = f"/fhir/Patient/{stored['id']}"
    modified = client.get(path).headers["last-modified"]
    for known in ({"if-none-match": 'W/"1"'}, {"if-modified-since": modified}):
        answer = client.get(path, headers=known)
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == 'W/"1"'
    assert client.get(path, headers={"if-none-match": 'W/"2"'}).status_code == 200
    assert client.get(path, headers={"if-modified-since": "nonsense"}).status_code == 200


def test_update_makes_the_next_version_and_vread_finds_both(client, stored):
    path = f"/fhir/Patient/{stored['id']}"
    answer = client.put(path, {**stored, "gender": "male"})
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert client.get(f"{path}/_history/1").json() == stored
    assert client.get(f"{path}/_history/2").json() == answer.json()
    for version in ("3", "0", "x", "1" * 30):
        assert client.get(f"{path}/_history/{version}").status_code == 404


def test_update_creates_what_is_not_there(client):
    answer = client.put("/fhir/Patient/given-by-client", patient(id="given-by-client"))
    assert (answer.status_code, answer.json()["id"]) == (201, "given-by-client")


def test_stale_if_match_is_412_and_changes_nothing(client, stored):
    path = f"/fhir/Patient/{stored['id']}"
    assert client.put(path, stored, headers={"if-match": 'W/"1"'}).status_code == 200
    refused = client.put(path, stored, headers={"if-match": 'W/"1"'})
    assert refused.status_code == 412
    assert refused.json()["issue"][0]["details"]["text"] == "if-match"
    assert client.get(path).headers["etag"] == 'W/"2"'


def test_two_edits_from_one_version_store_one(client, stored):
    path = f"/fhir/Patient/{stored['id']}"

    async def both():
        import asyncio

        send = [
            client.http.put(
                path,
                json={**stored, "gender": gender},
                headers={"content-type": "application/fhir+json", "if-match": 'W/"1"'},
            )
            for gender in ("male", "female", "other")
        ]
        return await asyncio.gather(*send)

    assert sorted(answer.status_code for answer in client.run(both())) == [200, 412, 412]


def test_edits_without_if_match_all_land_one_after_the_other(client, stored):
    path = f"/fhir/Patient/{stored['id']}"

    async def together():
        import asyncio

        headers = {"content-type": "application/fhir+json"}
        send = [client.http.put(path, json=stored, headers=headers) for _ in range(6)]
        return await asyncio.gather(*send)

    answers = client.run(together())
    assert [answer.status_code for answer in answers] == [200] * 6
    assert sorted(answer.headers["etag"] for answer in answers) == [f'W/"{n}"' for n in range(2, 8)]


def test_if_none_match_star_only_creates(client, stored):
    headers = {"if-none-match": "*"}
    there = client.put(f"/fhir/Patient/{stored['id']}", stored, headers=headers)
    new = client.put("/fhir/Patient/only-new", patient(id="only-new"), headers=headers)
    assert (there.status_code, new.status_code) == (412, 201)


@pytest.mark.parametrize("header", ["2", 'W/"2"', '"2"'])
def test_if_match_takes_the_spellings_of_clients(client, stored, header):
    path = f"/fhir/Patient/{stored['id']}"
    client.put(path, stored)
    assert client.put(path, stored, headers={"if-match": header}).status_code == 200


def test_if_match_that_is_no_version_is_400(client, stored):
    answer = client.put(f"/fhir/Patient/{stored['id']}", stored, headers={"if-match": 'W/"x", "y"'})
    assert answer.status_code == 400


def test_body_and_address_must_name_the_same_id(client, stored):
    answer = client.put("/fhir/Patient/other", stored)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == ["Patient.id"]


def test_delete_is_204_then_gone_and_idempotent(client, stored):
    path = f"/fhir/Patient/{stored['id']}"
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 410
    assert client.get(f"{path}/_history/2").status_code == 410
    assert client.get(f"{path}/_history/1").json() == stored
    assert client.delete(path).status_code == 204
    assert client.delete("/fhir/Patient/never-there").status_code == 204


def test_what_was_deleted_can_be_brought_back(client, stored):
    path = f"/fhir/Patient/{stored['id']}"
    client.delete(path)
    answer = client.put(path, stored)
    assert (answer.status_code, answer.headers["etag"]) == (201, 'W/"3"')
    assert client.get(path).status_code == 200


def test_history_lists_all_versions_newest_first(client, stored):
    path = f"/fhir/Patient/{stored['id']}"
    client.put(path, {**stored, "gender": "other"})
    client.delete(path)
    body = client.get(f"{path}/_history").json()
    assert body["type"] == "history"
    assert body["total"] == 3
    assert [one["request"]["method"] for one in body["entry"]] == ["DELETE", "PUT", "POST"]
    assert [one["response"]["etag"] for one in body["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert "resource" not in body["entry"][0]
    assert client.get("/fhir/Patient/never-there/_history").status_code == 404


def test_prefer_decides_what_a_write_returns(client):
    def body(preference):
        return client.post("/fhir/Patient", patient(), headers={"prefer": preference})

    assert body("return=minimal").content == b""
    assert body("return=OperationOutcome").json()["resourceType"] == "OperationOutcome"
    assert body("return=representation").json()["resourceType"] == "Patient"
    assert body("return=nonsense, respond-async").json()["resourceType"] == "Patient"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/fhir/Nonsense/1", 404),
        ("POST", "/fhir/Nonsense", 404),
        ("GET", "/fhir/patient/1", 404),
        ("GET", "/fhir/Patient/1/Observation/2/3", 404),
        ("GET", "/fhir/Patient/..%2f..%2fmetadata", 404),
        ("GET", "/fhir/Patient/1/$nonsense", 404),
        ("POST", "/fhir/Patient/1/$nonsense", 404),
        ("PATCH", "/fhir/Patient/1", 415),
        ("PATCH", "/fhir/Patient", 415),
        ("DELETE", "/fhir/Patient", 400),
        ("PUT", "/fhir", 405),
        ("POST", "/fhir/AuditEvent", 405),
        ("DELETE", "/fhir/GuidanceResponse/1", 405),
        ("POST", "/fhir/Parameters", 405),
        ("GET", "/elsewhere", 404),
        ("DELETE", "/healthz", 405),
        ("PUT", "/fhir/Patient/not_an_id", 400),
    ],
)  # fmt: skip
def test_every_refusal_is_an_operation_outcome(client, method, path, status):
    body = {"resourceType": "Patient"} if method in ("POST", "PUT") else None
    options = {"json": body} if body else {}
    answer = client.request(method, path, **options)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert answer.json()["issue"][0]["diagnostics"]


def test_an_address_that_exists_says_which_methods_it_takes(client):
    answer = client.request("POST", "/fhir/Patient/1")
    assert answer.headers["allow"] == "GET, PUT, PATCH, DELETE, HEAD, OPTIONS"


def test_patient_data_is_not_for_caches(client, stored):
    answer = client.get(f"/fhir/Patient/{stored['id']}")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_clients_request_id_comes_back_when_it_is_clean(client):
    def sent(id):
        return client.get("/healthz", headers={"x-request-id": id}).headers["x-request-id"]

    assert sent("abc-123") == "abc-123"
    assert sent("a b") != "a b"
    assert sent("x" * 65) != "x" * 65
