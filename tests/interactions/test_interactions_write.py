"""What a write adds: catalogue codings, Provenance, flags; and what a repeat does not add."""

from __future__ import annotations

import hashlib
import json

import pytest

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.envelope import read_bundle
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Once, Received

HOSPITAL = Actor(role="institution", name="hospital", institution="hospital")
LAB = f"{CANONICAL}/CodeSystem/catalogue-lab"
LOCAL = "http://hospital.example/codes"
CODE = "Na"


def _bundle(code, id="o1", value="5.10", patient="p1"):
    text = json.dumps({
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": {"resourceType": "Patient", "id": patient},
             "request": {"method": "PUT", "url": f"Patient/{patient}"}},
            {"resource": {
                "resourceType": "Observation", "id": id, "status": "final",
                "code": {"coding": [{"system": LOCAL, "code": code}]},
                "subject": {"reference": f"Patient/{patient}"},
                "valueQuantity": {"value": "VALUE", "unit": "mmol/L"},
             },
             "request": {"method": "PUT", "url": f"Observation/{id}"}},
        ],
    })  # fmt: skip
    return read_bundle(text.replace('"VALUE"', value).encode()).entries


def _load(server, code=CODE, **chosen):
    options = {"only_if_changed": True, **chosen.pop("options", {})}
    return server.run(transaction(server.gateway, HOSPITAL, _bundle(code, **chosen), **options))


def _get(server, path):
    return server.get(f"/fhir/{path}")


def _counts(server):
    async def counts():
        async with server.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.counts()

    return {type: n for type, n in server.run(counts()).items() if type != "AuditEvent"}


@pytest.fixture
def server(start, tmp_path):
    """A gateway whose only code map is that of the hospital here: Na is L001."""
    concepts = tmp_path / "mappings" / "concepts"
    concepts.mkdir(parents=True)
    (concepts / "hospital.csv").write_text(
        "kind,local_system,local_code,local_name,item,specimen,unit,method,note\n"
        "result,,Na,钠,L001,,,,\n",
        encoding="utf-8",
    )
    return start(open_access=True, mappings=str(tmp_path / "mappings"))


def test_the_catalogue_coding_stands_beside_the_hospitals_own(server):
    outcome = _load(server)
    stored = _get(server, "Observation/o1")
    first, second = stored.json()["code"]["coding"]
    assert first == {"system": LOCAL, "code": CODE}
    assert second["system"] == LAB
    assert '"value":5.10' in stored.text
    assert (outcome.coded, outcome.unmapped) == (1, 0)


def test_codings_carry_provenance_of_the_gateway(server):
    _load(server)
    found = _get(server, "Provenance?target=Observation/o1").json()["entry"]
    assert len(found) == 1
    record = found[0]["resource"]
    assert record["target"][0]["reference"] == "Observation/o1"
    assert record["target"][0]["extension"][0]["valueUri"] == "Observation.code"
    assert record["agent"][0]["who"]["display"] == "fhir-gateway"


def test_loading_twice_stores_nothing_twice(server):
    _load(server)
    before = _counts(server)
    again = _load(server)
    assert {result.kind for result in again.results} == {"unchanged"}
    assert _counts(server) == before
    assert _get(server, "Observation/o1").headers["etag"] == 'W/"1"'


def test_a_new_value_makes_a_new_version_and_a_new_provenance(server):
    _load(server)
    again = _load(server, value="5.1")
    assert [result.kind for result in again.results] == ["unchanged", "updated"]
    assert _counts(server)["Provenance"] == 2


def test_what_nobody_knows_is_stored_flagged_and_counted(server):
    outcome = _load(server, "nobody-knows-this")
    stored = _get(server, "Observation/o1").json()
    assert [tag["code"] for tag in stored["meta"]["tag"]] == ["unmapped-item"]
    assert outcome.unmapped == 1
    page = server.metrics()
    assert 'fhir_gateway_events_total{event="unmapped"} 1.0' in page
    assert "Provenance" not in _counts(server)


def test_what_was_received_is_kept_by_its_hash(server):
    raw = b"the message as it came"
    digest = hashlib.sha256(raw).digest()
    _load(server, options={"received": Received(digest, "text/plain", 0, raw)})

    async def received():
        async with server.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await reader.received(digest)

    assert server.run(received()) == ("text/plain", raw)


def test_a_message_sent_again_gets_the_answer_it_had(server):
    once = Once("v2-message", b"first/4711", b"the answer")
    first = _load(server, options={"once": once})
    again = _load(server, value="9", options={"once": once})
    assert first.committed.repeated is False
    assert again.committed.repeated is True
    assert (again.committed.response, again.results) == (b"the answer", [])
    assert '"value":5.10' in _get(server, "Observation/o1").text


def test_a_change_of_subject_across_persons_is_refused(server):
    _load(server)
    with pytest.raises(Unprocessable):
        _load(server, patient="p2")
    assert _get(server, "Patient/p2").status_code == 404
