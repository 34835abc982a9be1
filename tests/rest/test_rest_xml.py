"""FHIR XML on every route: the same result as JSON, in the format that was asked for."""

from __future__ import annotations

import json

import pytest
from rest_samples import bundle, entry, observation, patient

from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.fhir.xml_read import read_xml
from fhir_gateway.fhir.xml_write import write_xml
from fhir_gateway.rest import routes

XML = "application/fhir+xml"
NS = 'xmlns="http://hl7.org/fhir"'


def _send(client, method, path, resource, **headers):
    body = resource if isinstance(resource, bytes) else write_xml(resource)
    headers = {"content-type": XML, "accept": XML, **headers}
    return client.request(method, path, content=body, headers=headers)


def _xml(answer):
    """The resource of an answer, which is XML and says so."""
    assert answer.headers["content-type"] == f"{XML}; charset=utf-8"
    assert answer.content.startswith(b"<?xml ")
    return read_xml(answer.content)


def _ask(client, path, **headers):
    return client.get(path, headers={"accept": XML, **headers})


@pytest.fixture
def path(client):
    answer = _send(client, "POST", "/fhir/Patient", patient(birthDate="2026-11-01"))
    return f"/fhir/Patient/{_xml(answer)['id']}"


def test_a_resource_lives_in_xml(client):
    created = _send(client, "POST", "/fhir/Patient", patient(active=True))
    path = f"/fhir/Patient/{_xml(created)['id']}"
    assert (created.status_code, created.headers["etag"]) == (201, 'W/"1"')
    assert created.headers["location"].endswith(f"{path}/_history/1")
    stored = {**_xml(_ask(client, path)), "gender": "male"}
    updated = _send(client, "PUT", path, stored, **{"if-match": 'W/"1"'})
    assert (updated.status_code, updated.headers["etag"]) == (200, 'W/"2"')
    operation = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Patient.gender"},
        {"name": "value", "valueCode": "female"},
    ]
    parameters = {"resourceType": "Parameters",
                  "parameter": [{"name": "operation", "part": operation}]}  # fmt: skip
    patched = _send(client, "PATCH", path, parameters)
    assert (patched.status_code, _xml(patched)["gender"]) == (200, "female")
    assert _xml(_ask(client, f"{path}/_history/1"))["meta"]["versionId"] == "1"
    history = _xml(_ask(client, f"{path}/_history"))
    assert [one["response"]["etag"] for one in history["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert client.delete(path).status_code == 204
    gone = _ask(client, path)
    assert (gone.status_code, _xml(gone)["issue"][0]["code"]) == (410, "deleted")


def test_what_came_as_xml_is_what_json_would_have_made(client):
    resource = patient(
        birthDate="2026",
        _birthDate={"extension": [{"url": "http://x.example/e", "valueDecimal": 1}]},
        text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">甲</div>'},
    )
    ways = [
        _send(client, "POST", "/fhir/Patient", resource),
        client.post("/fhir/Patient", resource),
    ]
    ids = [_xml(ways[0])["id"], ways[1].json()["id"]]
    found = [client.get(f"/fhir/Patient/{id}").json() for id in ids]
    for one in found:
        del one["id"], one["meta"]["lastUpdated"]
    assert found[0] == found[1]


ADDRESSES = [
    "/fhir/metadata",
    "/fhir/metadata?mode=terminology",
    "{path}",
    "{path}/_history",
    "{path}/$everything",
    "{path}/$meta",
    "/fhir/Patient?_count=3&_summary=true",
    "/fhir/Patient?_id=none",
    "/fhir/StructureDefinition?_count=20",
    "/fhir/OperationDefinition?_count=10",
    "/fhir/SearchParameter?_count=2",
    "/fhir/ValueSet?_count=1",
    "/fhir/CodeSystem?_count=1",
    "/fhir/PlanDefinition?_count=2",
    "/fhir/AuditEvent?_count=20",
    "/fhir/Patient/none",
    "/fhir/Nothing",
    "/fhir/Patient?nothing=1",
    "/fhir/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender",
    "/fhir/CodeSystem/$lookup?system=http://hl7.org/fhir/administrative-gender&code=male",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_says_the_same_in_both_formats(client, path, address):
    at = address.format(path=path)
    in_json, in_xml = client.get(at), _ask(client, at)
    assert (in_xml.status_code, in_xml.headers.get("etag")) == (
        in_json.status_code, in_json.headers.get("etag"),
    )  # fmt: skip
    resource = parse(in_json.content)
    if resource["resourceType"] == "Bundle" and "AuditEvent" in at:
        assert len(_xml(in_xml)["entry"]) == len(resource["entry"])
    elif resource["resourceType"] == "ValueSet":
        assert _xml(in_xml)["expansion"]["contains"] == resource["expansion"]["contains"]
    else:
        assert in_xml.content == write_xml(resource)
        assert write_xml(_xml(in_xml)) == in_xml.content


def test_etags_are_the_same_for_both_formats_and_caches_are_told(client, path):
    for accept in (XML, "application/fhir+json"):
        answer = client.get(path, headers={"accept": accept, "if-none-match": 'W/"1"'})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["vary"] == "accept, authorization"
    assert client.get(path).headers["vary"] == "accept, authorization"
    head = client.request("HEAD", path, headers={"accept": XML})
    assert int(head.headers["content-length"]) == len(_ask(client, path).content)
    assert head.headers["content-type"] == f"{XML}; charset=utf-8"


def test_pretty_is_laid_out_in_xml_too(client, path):
    answer = _ask(client, f"{path}?_pretty=true")
    assert b"\n  <name>\n    <text value=" in answer.content
    assert _xml(answer) == _xml(_ask(client, path))


@pytest.mark.parametrize("returns", ["minimal", "representation", "OperationOutcome"])
def test_prefer_decides_what_a_write_returns(client, returns):
    answer = _send(client, "POST", "/fhir/Patient", patient(), prefer=f"return={returns}")
    assert answer.status_code == 201
    if returns == "minimal":
        assert answer.content == b""
    else:
        expected = "Patient" if returns == "representation" else returns
        assert _xml(answer)["resourceType"] == expected


def test_the_format_of_the_body_says_nothing_of_the_answer(client):
    body = write_xml(patient())
    answer = client.request("POST", "/fhir/Patient", content=body, headers={"content-type": XML})
    assert answer.json()["resourceType"] == "Patient"
    answer = client.post("/fhir/Patient?_format=xml", patient())
    assert answer.content.startswith(b"<?xml ")


def test_a_transaction_and_a_batch_in_xml(client):
    urn = "urn:uuid:0b5ad8a5-4a5f-4c5e-9f0a-0d6c1f3b0a11"
    sent = bundle("transaction", {**entry("POST", "Patient", patient()), "fullUrl": urn},
                  entry("POST", "Observation", observation(urn)))  # fmt: skip
    answer = _send(client, "POST", "/fhir", sent, prefer="return=representation")
    made = _xml(answer)
    assert [one["response"]["status"] for one in made["entry"]] == ["201 Created"] * 2
    person = made["entry"][0]["resource"]["id"]
    assert made["entry"][1]["resource"]["subject"]["reference"] == f"Patient/{person}"
    good = write_xml(bundle("batch", entry("POST", "Patient", patient(gender="male")),
                            entry("GET", f"Patient/{person}")))  # fmt: skip
    bad = good.replace(b"<gender ", b"<colour/><gender ", 1)
    for body, statuses in ((good, ["201 Created", "200 OK"]),
                           (bad, ["422 Unprocessable Entity", "200 OK"])):  # fmt: skip
        answer = _xml(_send(client, "POST", "/fhir", body))
        assert [one["response"]["status"][:3] for one in answer["entry"]] == [
            status[:3] for status in statuses
        ]
    assert "resource" in answer["entry"][1]
    outcome = answer["entry"][0]["response"]["outcome"]
    assert outcome["issue"][0]["details"]["text"] == "unknown-element"


def test_a_large_bundle_is_read_and_written_beside_other_work(client):
    entries = [entry("POST", "Patient", patient(name=[{"text": "长" * 900}])) for _ in range(100)]
    sent = write_xml(bundle("transaction", *entries))
    assert len(sent) > 200_000
    answer = _send(client, "POST", "/fhir", sent, prefer="return=representation")
    assert (answer.status_code, len(_xml(answer)["entry"])) == (200, 100)


def test_operations_take_and_give_xml(client, path):
    body = f'<Patient {NS}><colour value="x"/><birthDate value="x"/></Patient>'.encode()
    outcome = _xml(_send(client, "POST", "/fhir/Patient/$validate", body))
    assert {one["expression"][0] for one in outcome["issue"]} >= {
        "Patient.colour", "Patient.birthDate",
    }  # fmt: skip
    tag = {"system": "urn:x", "code": "xml"}
    parameters = {"resourceType": "Parameters",
                  "parameter": [{"name": "meta", "valueMeta": {"tag": [tag]}}]}  # fmt: skip
    answer = _xml(_send(client, "POST", f"{path}/$meta-add", parameters))
    assert answer["parameter"][0]["valueMeta"]["tag"] == [tag]
    refused = _send(client, "POST", f"{path}/$meta-add", b"<Parameters>")
    assert (refused.status_code, _xml(refused)["issue"][0]["details"]["text"]) == (400, "xml")


@pytest.mark.parametrize("wanted", [{"_format": "xml"}, {"_format": "application/fhir+xml"}])
def test_links_keep_the_format(client, wanted):
    for _ in range(3):
        client.post("/fhir/Patient", patient(active=False))
    found = 0
    address = "/fhir/Patient?active=false&_count=1"
    answer = client.get(address, params={"active": "false", "_count": "1", **wanted})
    for _ in range(3):
        page = _xml(answer)
        links = {one["relation"]: one["url"] for one in page["link"]}
        assert all("_format=" in url for url in links.values())
        found += len(page["entry"])
        answer = client.get(links["next"]) if "next" in links else answer
    assert found == 3
    history = _xml(client.get("/fhir/_history?_count=1&_format=xml"))
    assert all("_format=xml" in one["url"] for one in history["link"])


def test_a_stored_bundle_keeps_its_own_links(client):
    link = {"relation": "self", "url": "http://x.example/a"}
    sent = {"resourceType": "Bundle", "type": "searchset", "link": [link]}
    id = client.post("/fhir/Bundle", sent).json()["id"]
    for format in ("xml", "json"):
        answer = client.get(f"/fhir/Bundle/{id}?_format={format}").content
        assert b"_format" not in answer


@pytest.mark.parametrize(
    ("body", "status", "rule"),
    [
        (b"<Patient", 400, "xml"),
        (b"{}", 400, "xml"),
        (f"<!DOCTYPE a><Patient {NS}/>".encode(), 400, "dtd"),
        (b"<Patient/>", 400, "namespace"),
        (f'<Patient {NS}>\n<colour value="x"/></Patient>'.encode(), 422, "unknown-element"),
        (f'<Patient {NS}>\n<name/></Patient>'.encode(), 422, "empty"),
        (f'<Patient {NS}>\nx</Patient>'.encode(), 422, "text"),
        (f'<Patient {NS}>\n<id value="a"/></Patient>'.encode(), 201, None),
    ],
)  # fmt: skip
def test_bad_xml_is_refused_in_xml_with_its_line(client, body, status, rule):
    answer = _send(client, "POST", "/fhir/Patient", body)
    assert answer.status_code == status
    if rule:
        issue = _xml(answer)["issue"][0]
        assert issue["details"]["text"] == rule
        if status == 422:
            line = 1 if rule == "text" else 2  # a text has the line of what it stands in
            assert issue["diagnostics"].startswith(f"line {line}: ")


def test_an_unreadable_body_is_audited_as_in_json(client, path):
    def events():
        found = client.get("/fhir/AuditEvent?_count=1&_sort=-date&outcome=4").json()
        return found["entry"][0]["resource"]["id"]

    for method, at in (("POST", "/fhir/Patient"), ("PUT", path), ("POST", f"{path}/$meta-add")):
        before = events()
        assert _send(client, method, at, b"<Patient").status_code == 400
        assert events() != before


def test_a_refusal_before_the_request_is_read_is_in_the_format_too(start):
    server = start()
    for address, headers in (("/fhir/Patient", {"accept": XML}), ("/fhir/Patient?_format=xml", {})):
        answer = server.get(address, headers=headers)
        assert (answer.status_code, _xml(answer)["issue"][0]["code"]) == (401, "login")
    answer = server.get("/fhir/Patient?_format=ttl", headers={"accept": XML})
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (401, "login")


def test_a_fault_of_ours_is_told_in_xml(client, path, monkeypatch):
    async def broken(gateway, exchange):
        raise ZeroDivisionError

    monkeypatch.setitem(routes.TABLE["{type}/{id}"], "GET", broken)
    answer = _ask(client, path)
    assert (answer.status_code, _xml(answer)["issue"][0]["code"]) == (500, "exception")


def test_a_body_over_the_limit_is_refused_in_xml(start):
    server = start(open_access=True, body_limit=1_000)
    answer = _send(server, "POST", "/fhir/Patient", b"<" * 1_001)
    assert (answer.status_code, _xml(answer)["issue"][0]["code"]) == (413, "too-long")


def test_patches_of_json_stay_json_and_xml_patch_is_not_taken(client, path):
    change = b'[{"op":"add","path":"/active","value":true}]'
    answer = client.request("PATCH", path, content=change, headers={
        "content-type": "application/json-patch+json", "accept": XML})  # fmt: skip
    assert (answer.status_code, _xml(answer)["active"]) == (200, True)
    answer = _send(
        client, "PATCH", path, b"<diff/>", **{"content-type": "application/xml-patch+xml"}
    )
    assert (answer.status_code, _xml(answer)["issue"][0]["code"]) == (415, "not-supported")


def test_an_answer_later_is_json_whatever_was_asked(client):
    answer = _ask(client, "/fhir/Patient?_count=1", prefer="respond-async")
    assert (answer.status_code, answer.content) == (202, b"")
    place = answer.headers["content-location"].removeprefix("http://127.0.0.1")
    answer = _ask(client, place)
    assert answer.headers["content-type"].startswith("application/fhir+json")
    assert client.delete(place).status_code == 202
    assert _xml(_ask(client, "/fhir/_async/none"))["issue"][0]["code"] == "not-found"


def test_a_question_in_json_never_loads_the_parser(client, path, monkeypatch):
    monkeypatch.setattr("fhir_gateway.rest.formats.xml_of", None)
    monkeypatch.setattr("fhir_gateway.rest.formats.json_of", None)
    assert client.get(path).status_code == 200
    assert client.get(f"{path}?_format=json").status_code == 200
    sent = json.loads(render(patient()))
    assert client.post("/fhir/Patient", sent).status_code == 201
