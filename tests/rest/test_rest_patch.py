"""PATCH over HTTP and in Bundles (hl7.org/fhir/R4/http.html#patch): the parts that JSON Patch and
FHIRPath Patch have in common, and what the store makes of them."""

from __future__ import annotations

import base64
import json

import pytest
from rest_samples import bundle, entry, identifier, observation, patient

JSON_PATCH = "application/json-patch+json"
FHIR_JSON = "application/fhir+json"


def _json(client, path, *operations, media=JSON_PATCH, **headers):
    return client.request(
        "PATCH",
        path,
        content=json.dumps(operations).encode(),
        headers={"content-type": media, **headers},
    )


def _fhirpath(client, path, *operations, **headers):
    body = parameters(*operations)
    return client.request("PATCH", path, json=body, headers=headers)


def parameters(*operations):
    return {
        "resourceType": "Parameters",
        "parameter": [
            {
                "name": "operation",
                "part": [
                    {"name": name, **({"valueString": value} if type(value) is str else value)}
                    for name, value in operation.items()
                ],
            }
            for operation in operations
        ],
    }


def male(kind="add"):
    return {"op": kind, "path": "/gender", "value": "male"}


@pytest.fixture
def stored(client):
    return client.post("/fhir/Patient", patient(birthDate="1970-03-30")).json()


@pytest.fixture
def path(stored):
    return f"/fhir/Patient/{stored['id']}"


def test_json_patch_makes_the_next_version(client, stored, path):
    answer = _json(client, path, male())
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"2"'
    assert answer.headers["location"] == f"http://127.0.0.1{path}/_history/2"
    assert answer.headers["last-modified"]
    body = answer.json()
    assert body.pop("gender") == "male"
    assert body.pop("meta")["versionId"] == "2"
    assert body == {name: value for name, value in stored.items() if name != "meta"}
    assert client.get(path).json() == answer.json()


def test_fhirpath_patch_makes_the_next_version(client, path):
    answer = _fhirpath(
        client,
        path,
        {"type": {"valueCode": "replace"}, "path": "Patient.birthDate",
         "value": {"valueDate": "1971-01-01"}},
        {"type": "delete", "path": "Patient.name.family"},
    )  # fmt: skip
    assert answer.status_code == 200
    assert answer.json()["birthDate"] == "1971-01-01"
    assert answer.json()["name"] == [{"text": "测试甲"}]


@pytest.mark.parametrize(
    ("prefer", "type"),
    [
        ("return=minimal", None),
        ("return=representation", "Patient"),
        ("return=OperationOutcome", "OperationOutcome"),
    ],
)
def test_prefer_decides_what_a_patch_returns(client, path, prefer, type):
    answer = _json(client, path, male(), prefer=prefer)
    assert answer.status_code == 200
    assert (answer.json()["resourceType"] if answer.content else None) == type
    assert answer.headers["etag"] == 'W/"2"'


def test_a_patch_that_changes_nothing_makes_no_version(client, stored, path):
    answers = [
        _json(client, path),
        _json(client, path, {"op": "test", "path": "/birthDate", "value": "1970-03-30"}),
        _json(client, path, {"op": "replace", "path": "/birthDate", "value": "1970-03-30"}),
        _json(client, path, male(), {"op": "remove", "path": "/gender"}),
        _json(client, path, {"op": "remove", "path": "/meta/versionId"}),
        _fhirpath(client, path, {"type": "delete", "path": "Patient.gender"}),
    ]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.json() for answer in answers] == [stored] * 6
    assert {answer.headers["etag"] for answer in answers} == {'W/"1"'}
    assert client.get(f"{path}/_history").json()["total"] == 1


def test_another_spelling_of_a_number_is_a_change(client, stored):
    one = client.post(
        "/fhir/Observation",
        observation(f"Patient/{stored['id']}", valueQuantity={"value": 5.1, "unit": "mmol/L"}),
    ).json()
    answer = client.request(
        "PATCH",
        f"/fhir/Observation/{one['id']}",
        content=b'[{"op":"replace","path":"/valueQuantity/value","value":5.10}]',
        headers={"content-type": JSON_PATCH},
    )
    assert answer.headers["etag"] == 'W/"2"'
    assert '"value":5.10,' in answer.text


def test_a_failed_test_is_422_and_stores_nothing(client, stored, path):
    failing = {"op": "test", "path": "/birthDate", "value": "1970-03-31"}
    answer = _json(client, path, male(), failing)
    assert answer.status_code == 422
    issue = answer.json()["issue"][0]
    assert issue["details"]["text"] == "patch-test"
    assert issue["diagnostics"].startswith("Operation 1 (test) ")
    assert "1970" not in answer.text
    assert client.get(path).json() == stored


def test_a_path_to_nothing_is_422_and_names_the_operation(client, path):
    answer = _json(client, path, male(), {"op": "remove", "path": "/telecom/0"})
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["diagnostics"].startswith("Operation 1 (remove) ")
    other = _fhirpath(
        client, path, {"type": "delete", "path": "Patient.gender"},
        {"type": "replace", "path": "Patient.gender", "value": {"valueCode": "male"}},
    )  # fmt: skip
    assert other.status_code == 422
    assert other.json()["issue"][0]["expression"] == ["Parameters.parameter[1]"]


@pytest.mark.parametrize(
    ("operation", "element"),
    [
        ({"op": "replace", "path": "/id", "value": "other"}, "id"),
        ({"op": "remove", "path": "/id"}, "id"),
        ({"op": "replace", "path": "/resourceType", "value": "Person"}, "resourceType"),
        ({"op": "replace", "path": "/meta/versionId", "value": "9"}, "meta.versionId"),
        ({"op": "add", "path": "/meta/lastUpdated", "value": "2020-01-01T00:00:00Z"},
         "meta.lastUpdated"),
    ],
)  # fmt: skip
def test_identity_and_version_are_not_for_a_patch(client, stored, path, operation, element):
    answer = _json(client, path, operation)
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == [f"Patient.{element}"]
    assert client.get(path).json() == stored


@pytest.mark.parametrize(
    ("operation", "expression"),
    [
        ({"op": "add", "path": "/gender", "value": "x"}, ["Patient.gender"]),
        ({"op": "add", "path": "/nonsense", "value": "x"}, ["Patient.nonsense"]),
        ({"op": "add", "path": "/birthDate", "value": None}, ["Patient.birthDate"]),
        ({"op": "replace", "path": "/name", "value": []}, ["Patient.name"]),
        ({"op": "replace", "path": "", "value": 3}, None),
        ({"op": "replace", "path": "", "value": {"resourceType": "Patient"}}, ["Patient.id"]),
        ({"op": "replace", "path": "/meta", "value": 3}, ["Resource.meta"]),
        ({"op": "add", "path": "/managingOrganization",
          "value": {"reference": "Organization/nobody"}},
         ["Patient.managingOrganization.reference"]),
    ],
)  # fmt: skip
def test_the_result_is_judged_like_an_update(client, stored, path, operation, expression):
    answer = _json(client, path, operation)
    assert answer.status_code == 422
    assert answer.json()["issue"][0].get("expression") == expression
    assert client.get(path).json() == stored


def test_a_patch_does_not_change_whom_a_record_is_about(client, stored):
    other = client.post("/fhir/Patient", patient()).json()
    one = client.post("/fhir/Observation", observation(f"Patient/{stored['id']}")).json()
    moved = {"op": "replace", "path": "/subject/reference", "value": f"Patient/{other['id']}"}
    answer = _json(client, f"/fhir/Observation/{one['id']}", moved)
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["details"]["text"] == "subject-changed"


def test_narrative_and_extensions_can_be_patched(client, path):
    div = '<div xmlns="http://www.w3.org/1999/xhtml">甲</div>'
    answer = _json(
        client,
        path,
        {"op": "add", "path": "/text", "value": {"status": "generated", "div": div}},
        {"op": "add", "path": "/extension",
         "value": [{"url": "http://x.example/e", "valueCode": "a"}]},
    )  # fmt: skip
    assert answer.status_code == 200
    changed = _fhirpath(
        client,
        path,
        {"type": "replace", "path": "Patient.extension('http://x.example/e').value",
         "value": {"valueCode": "b"}},
        {"type": "replace", "path": "Patient.text.`div`",
         "value": {"valueString": div.replace("甲", "乙")}},
    ).json()  # fmt: skip
    assert changed["extension"] == [{"url": "http://x.example/e", "valueCode": "b"}]
    assert changed["text"]["div"] == div.replace("甲", "乙")


def test_stale_if_match_is_412(client, path):
    assert _json(client, path, male(), **{"if-match": 'W/"1"'}).status_code == 200
    stale = _json(client, path, male("remove"), **{"if-match": 'W/"1"'})
    assert stale.status_code == 412
    assert stale.json()["issue"][0]["details"]["text"] == "if-match"
    assert _json(client, path, male("remove"), **{"if-match": "*"}).status_code == 200


def test_what_is_not_there_cannot_be_patched(client, path):
    assert _json(client, "/fhir/Patient/never-there", male()).status_code == 404
    assert _json(client, "/fhir/Patient/not_an_id", male()).status_code == 400
    assert _json(client, "/fhir/Nonsense/1", male()).status_code == 404
    assert _json(client, "/fhir/AuditEvent/1", male()).status_code == 405
    client.delete(path)
    assert _json(client, path, male()).status_code == 410


@pytest.mark.parametrize(
    ("media", "body", "status"),
    [
        ("application/xml-patch+xml", b"<diff/>", 415),
        ("application/fhir+xml", b"<Parameters/>", 400),
        ("application/fhir+xml", b'<Parameters xmlns="http://hl7.org/fhir"/>', 200),
        ("text/xml", b'<Patient xmlns="http://hl7.org/fhir"/>', 422),
        ("text/plain", b"[]", 415),
        ("", b"[]", 415),
        ("application/json-patch+json; charset=gbk", b"[]", 415),
        ("application/json-patch+json; charset=utf-8", b"[]", 200),
        (JSON_PATCH, b"", 400),
        (JSON_PATCH, b"{}", 400),
        (JSON_PATCH, b'[{"op":"nonsense","path":"/a"}]', 400),
        (FHIR_JSON, b"[]", 400),
        (FHIR_JSON, b'{"resourceType":"Patient"}', 422),
        (FHIR_JSON, b'{"resourceType":"Parameters"}', 200),
        ("application/json", b'{"resourceType":"Parameters"}', 200),
        (FHIR_JSON, b'{"resourceType":"Parameters","parameter":[{"name":"x"}]}', 400),
    ],
)
def test_a_patch_is_read_by_its_media_type(client, path, media, body, status):
    answer = client.request("PATCH", path, content=body, headers={"content-type": media})
    assert answer.status_code == status
    if status == 415 and "xml" in media:
        assert "XML Patch is not taken" in answer.text


@pytest.mark.parametrize("header", ["if-none-match", "if-none-exist", "if-unmodified-since"])
def test_a_condition_that_a_patch_does_not_know_is_refused(client, path, header):
    answer = _json(client, path, male(), **{header: "*"})
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (400, header)


def test_a_refused_patch_is_audited(client, path):
    def refusals():
        query = {"action": "U", "outcome": "4", "_summary": "count"}
        return client.get("/fhir/AuditEvent", params=query).json()["total"]

    before = refusals()
    _json(client, path, {"op": "remove", "path": "/telecom"})
    _json(client, path, {"op": "nonsense"})
    assert refusals() == before + 2


def test_an_institution_patches_only_its_own(start):
    server = start()
    mine, other = server.institution("mine"), server.institution("other")
    stored = server.post("/fhir/Patient", patient(), headers=mine).json()
    path = f"/fhir/Patient/{stored['id']}"
    assert _json(server, path, male(), **other).status_code == 403
    assert _json(server, path, **other).status_code == 403
    assert _json(server, path, male(), **mine).status_code == 200
    assert _json(server, "/fhir/ValueSet/x", male(), **mine).status_code == 403


# -- by condition --------------------------------------------------------------------------------


def test_a_conditional_patch_finds_its_resource(client):
    number = identifier()
    client.post("/fhir/Patient", patient(identifier=[number]))
    where = f"/fhir/Patient?identifier={number['system']}|{number['value']}"
    assert _json(client, where, male()).json()["gender"] == "male"
    nothing = _json(client, f"{where}x", male())
    assert (nothing.status_code, nothing.json()["issue"][0]["details"]["text"]) == (404, "no-match")
    client.post("/fhir/Patient", patient(identifier=[number]))
    assert _json(client, where, male()).status_code == 412
    assert _json(client, "/fhir/Patient", male()).status_code == 400
    assert _json(client, "/fhir/Patient?nonsense=1", male()).status_code == 400


def test_a_conditional_patch_takes_any_search(client, stored):
    subject = f"Patient/{stored['id']}"
    client.post("/fhir/Observation", observation(subject))
    where = f"/fhir/Observation?patient={stored['id']}&code=http://loinc.org|2951-2"
    amended = {"op": "replace", "path": "/status", "value": "amended"}
    assert _json(client, where, amended).json()["status"] == "amended"
    assert _json(client, f"{where}&status=final", amended).status_code == 404


# -- in Bundles ----------------------------------------------------------------------------------


def _binary(*operations, media=JSON_PATCH):
    data = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"resourceType": "Binary", "contentType": media, "data": data}


@pytest.mark.parametrize("type", ["batch", "transaction"])
def test_patches_in_bundles(client, stored, type):
    number = identifier()
    other = client.post("/fhir/Patient", patient(identifier=[number])).json()
    body = bundle(
        type,
        entry("GET", f"Patient/{stored['id']}"),
        entry("PATCH", f"Patient/{stored['id']}", _binary(male()), ifMatch='W/"1"'),
        entry("PATCH", f"Patient?identifier={number['system']}|{number['value']}",
              parameters({"type": "delete", "path": "Patient.name.text"})),
    )  # fmt: skip
    answer = client.post("/fhir", body).json()
    assert answer["type"] == f"{type}-response"
    read, first, second = answer["entry"]
    assert read["resource"]["gender"] == "male"
    assert first["response"]["location"] == f"Patient/{stored['id']}/_history/2"
    assert (second["response"]["status"], second["response"]["etag"]) == ("200 OK", 'W/"2"')
    assert client.get(f"/fhir/Patient/{other['id']}").json()["name"] == [{"family": "测"}]


@pytest.mark.parametrize(
    ("url", "resource", "request_", "status", "expression"),
    [
        ("{path}", _binary({"op": "remove", "path": "/telecom"}), {}, 422, "resource"),
        ("{path}", _binary(male(), media="application/xml-patch+xml"), {}, 415,
         "resource.contentType"),
        ("{path}", patient(), {}, 400, None),
        ("{path}", _binary(male()), {"ifMatch": 'W/"7"'}, 412, "resource"),
        ("{path}", _binary(male()), {"ifNoneMatch": "*"}, 400, "request.ifNoneMatch"),
        ("Patient/never-there", _binary(male()), {}, 404, "resource"),
        ("Patient?identifier=a|never-there", _binary(male()), {}, 404, "resource"),
        ("Patient", _binary(male()), {}, 400, None),
        ("{path}", parameters({"type": "delete", "path": "Patient.name"},
                              {"type": "delete", "path": "Patient.nonsense"}), {}, 422,
         "resource.parameter[1]"),
        ("{path}", _binary({"op": "add", "path": "/gender", "value": "x"}), {}, 422,
         "resource.gender"),
    ],
)  # fmt: skip
def test_a_bad_patch_spoils_its_transaction_and_is_placed(
    client, stored, url, resource, request_, status, expression
):
    number = identifier()
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("POST", "Patient", patient(identifier=[number])),
        entry("PATCH", url.format(path=f"Patient/{stored['id']}"), resource, **request_),
    ))  # fmt: skip
    assert answer.status_code == status
    if expression is not None:
        assert answer.json()["issue"][0]["expression"] == [f"Bundle.entry[1].{expression}"]
    found = client.get("/fhir/Patient", params={"identifier": f"{number['system']}|"}).json()
    assert number["value"] not in json.dumps(found)
    assert client.get(f"/fhir/Patient/{stored['id']}").json() == stored


def test_a_patch_without_a_resource_is_no_entry(client, stored):
    answer = client.post("/fhir", bundle("batch", entry("PATCH", f"Patient/{stored['id']}")))
    assert answer.status_code == 422


def test_patch_and_update_of_one_resource_overlap(client, stored):
    number = identifier()
    client.put(f"/fhir/Patient/{stored['id']}", {**stored, "identifier": [number]})
    where = f"Patient?identifier={number['system']}|{number['value']}"
    for url in (f"Patient/{stored['id']}", where):
        answer = client.post("/fhir", bundle(
            "transaction",
            entry("PUT", f"Patient/{stored['id']}", stored),
            entry("PATCH", url, _binary(male())),
        ))  # fmt: skip
        assert answer.status_code == 422
        assert answer.json()["issue"][0]["details"]["text"] == "overlap"
