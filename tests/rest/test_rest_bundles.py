"""transaction and batch (hl7.org/fhir/R4/http.html#transaction)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from rest_samples import bundle, entry, identifier, observation, patient


def _urn():
    return f"urn:uuid:{uuid4()}"


def _names(answer):
    return [one["response"].get("location") for one in answer.json()["entry"]]


def _there(client, type, **query):
    return client.get(f"/fhir/{type}", params=query).json().get("entry", [])


def test_references_between_new_resources_are_rewritten(client):
    person, report, result = _urn(), _urn(), _urn()
    answer = client.post("/fhir", bundle(
        "transaction",
        {"fullUrl": report, **entry("POST", "DiagnosticReport", {
            "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"},
            "subject": {"reference": person}, "result": [{"reference": result}],
        })},
        {"fullUrl": result, **entry("POST", "Observation", observation(person))},
        {"fullUrl": person, **entry("POST", "Patient", patient())},
    ))  # fmt: skip
    assert answer.status_code == 200
    assert answer.json()["type"] == "transaction-response"
    assert [one["response"]["status"] for one in answer.json()["entry"]] == ["201 Created"] * 3
    names = [name.removesuffix("/_history/1") for name in _names(answer)]
    assert [name.split("/")[0] for name in names] == ["DiagnosticReport", "Observation", "Patient"]
    stored = client.get(f"/fhir/{names[0]}").json()
    assert stored["subject"]["reference"] == names[2]
    assert stored["result"] == [{"reference": names[1]}]
    assert client.get(f"/fhir/{names[1]}").json()["subject"]["reference"] == names[2]


def test_relative_references_follow_the_full_url_of_their_entry(client):
    base = "http://elsewhere.example/fhir"
    answer = client.post("/fhir", bundle(
        "transaction",
        {"fullUrl": f"{base}/Patient/7", **entry("POST", "Patient", patient(id="7"))},
        {"fullUrl": f"{base}/Observation/8",
         **entry("POST", "Observation", observation("Patient/7", id="8"))},
    ))  # fmt: skip
    person, result = (name.removesuffix("/_history/1") for name in _names(answer))
    assert client.get(f"/fhir/{result}").json()["subject"]["reference"] == person


def test_entries_run_in_the_order_of_the_standard_and_answer_in_their_own(client):
    old = client.post("/fhir/Patient", patient()).json()
    kept = client.post("/fhir/Patient", patient()).json()
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("GET", f"Patient/{kept['id']}"),
        entry("PUT", f"Patient/{kept['id']}", {**kept, "gender": "other"}),
        entry("POST", "Patient", patient(gender="unknown")),
        entry("DELETE", f"Patient/{old['id']}"),
    ))  # fmt: skip
    one = answer.json()["entry"]
    assert [item["response"]["status"] for item in one] == [
        "200 OK", "200 OK", "201 Created", "204 No Content",
    ]  # fmt: skip
    assert one[0]["resource"]["gender"] == "other"
    assert "resource" not in one[1]


def test_a_refused_read_does_not_hide_what_was_stored(client):
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("GET", "Patient/nobody"),
        entry("POST", "Patient", patient()),
    ))  # fmt: skip
    read, written = (one["response"] for one in answer.json()["entry"])
    assert (read["status"], read["outcome"]["resourceType"]) == ("404", "OperationOutcome")
    assert client.get(f"/fhir/{written['location']}").status_code == 200


def test_one_bad_entry_and_nothing_is_stored(client):
    number = identifier()
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("POST", "Patient", patient(identifier=[number])),
        entry("POST", "Observation", observation("Patient/nobody")),
    ))  # fmt: skip
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1].resource.subject.reference"]
    assert _there(client, "Patient", identifier=f"{number['system']}|{number['value']}") == []


def test_the_faults_of_all_entries_are_told_at_once(client):
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("POST", "Patient", patient(gender="x")),
        entry("POST", "Patient", patient()),
        entry("POST", "Patient", patient(birthDate="y")),
    ))  # fmt: skip
    assert answer.status_code == 422
    assert [issue["expression"][0] for issue in answer.json()["issue"]] == [
        "Bundle.entry[0].resource.gender",
        "Bundle.entry[2].resource.birthDate",
    ]


def test_a_broken_reference_names_its_entry(client):
    lost = _urn()
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("POST", "Patient", patient()),
        entry("POST", "Observation", observation(lost)),
    ))  # fmt: skip
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["Bundle.entry[1].resource.subject.reference"]


def test_a_reference_to_what_the_bundle_deletes_is_broken(client):
    gone = client.post("/fhir/Patient", patient()).json()["id"]
    answer = client.post("/fhir", bundle(
        "transaction",
        entry("DELETE", f"Patient/{gone}"),
        entry("POST", "Observation", observation(f"Patient/{gone}")),
    ))  # fmt: skip
    assert answer.status_code == 422
    assert client.get(f"/fhir/Patient/{gone}").status_code == 200


def test_references_may_go_round_in_a_circle(client):
    first, second = _urn(), _urn()
    answer = client.post("/fhir", bundle(
        "transaction",
        {"fullUrl": first, **entry("POST", "Patient", patient(
            link=[{"other": {"reference": second}, "type": "seealso"}]))},
        {"fullUrl": second, **entry("POST", "Patient", patient(
            link=[{"other": {"reference": first}, "type": "seealso"}]))},
    ))  # fmt: skip
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "entries",
    [
        [entry("PUT", "Patient/twice", patient(id="twice"))] * 2,
        [entry("PUT", "Patient/twice", patient(id="twice")), entry("DELETE", "Patient/twice")],
        [{"fullUrl": "urn:uuid:9a5b8f9c-9d4f-4f5e-8f4e-000000000001",
          **entry("POST", "Patient", patient())}] * 2,
        [entry("POST", "Patient", patient(), ifNoneExist="identifier=http://a.example|1")] * 2,
    ],
    ids=["two updates", "update and delete", "fullUrl", "condition"],
)  # fmt: skip
def test_two_entries_about_one_thing_are_refused(client, entries):
    answer = client.post("/fhir", bundle("transaction", *entries))
    assert answer.status_code == 422
    assert client.get("/fhir/Patient/twice").status_code == 404


def test_prefer_representation_shows_what_was_stored(client):
    body = bundle("transaction", entry("POST", "Patient", patient(gender="male")))
    shown = client.post("/fhir", body, headers={"prefer": "return=representation"}).json()
    assert shown["entry"][0]["resource"]["gender"] == "male"


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_the_bundle_limit_is_exact(start, over):
    server = start(open_access=True, bundle_limit=4)
    entries = [entry("POST", "Patient", patient()) for _ in range(4 + over)]
    for type in ("transaction", "batch"):
        answer = server.post("/fhir", bundle(type, *entries))
        assert answer.status_code == (413 if over > 0 else 200)


@pytest.mark.parametrize("type", ["searchset", "collection", "history", "document"])
def test_other_bundles_do_not_belong_at_the_base(client, type):
    answer = client.post("/fhir", {"resourceType": "Bundle", "type": type})
    assert answer.status_code in (400, 422)


def test_an_empty_transaction_is_answered(client):
    answer = client.post("/fhir/", {"resourceType": "Bundle", "type": "transaction"})
    assert (answer.status_code, answer.json().get("entry")) == (200, None)


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "Patient/nobody", "404"),
        ("GET", "Nonsense?x=y", "404"),
        ("GET", "Patient?patinet=1", "400"),
        ("GET", "Patient/1/2/3/4", "400"),
        ("GET", "http://elsewhere.example/Patient/1", "400"),
        ("POST", "Patient/with-id", "400"),
        ("PUT", "Patient/other-id", "400"),
        ("PUT", "Patient", "400"),
        ("DELETE", "Patient", "400"),
        ("DELETE", "Patient?nonsense=1", "400"),
        ("DELETE", "Patient/1?identifier=a|b", "400"),
        ("PATCH", "Patient/1", "400"),
        ("HEAD", "Patient/1", "400"),
    ],
)
def test_a_batch_never_fails_as_a_whole(client, method, url, status):
    resource = patient(id="x") if method in ("PUT", "POST", "PATCH") else None
    answer = client.post("/fhir", bundle(
        "batch",
        entry("POST", "Patient", patient()),
        entry(method, url, resource),
        entry("GET", "Patient?_summary=count"),
    ))  # fmt: skip
    assert answer.status_code == 200
    first, second, third = answer.json()["entry"]
    assert first["response"]["status"] == "201 Created"
    assert second["response"]["status"] == status
    assert second["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert third["resource"]["type"] == "searchset"


def test_a_batch_reads_and_writes(client):
    person = client.post("/fhir/Patient", patient()).json()
    answer = client.post("/fhir", bundle(
        "batch",
        entry("GET", f"Patient/{person['id']}"),
        entry("GET", f"Patient/{person['id']}/_history/1"),
        entry("GET", f"Patient/{person['id']}/_history"),
        entry("PUT", "Patient/by-batch", patient(id="by-batch")),
        entry("DELETE", "Patient/nobody-here"),
    ))  # fmt: skip
    one = answer.json()["entry"]
    assert [item["response"]["status"] for item in one] == [
        "200 OK", "200 OK", "200 OK", "201 Created", "204 No Content",
    ]  # fmt: skip
    assert one[0]["resource"] == one[1]["resource"]
    assert one[2]["resource"]["type"] == "history"


def test_if_match_counts_inside_bundles(client):
    person = client.post("/fhir/Patient", patient()).json()
    stale = entry("PUT", f"Patient/{person['id']}", person, ifMatch='W/"9"')
    assert client.post("/fhir", bundle("transaction", stale)).status_code == 412
    batch = client.post("/fhir", bundle("batch", stale)).json()
    assert batch["entry"][0]["response"]["status"] == "412"
