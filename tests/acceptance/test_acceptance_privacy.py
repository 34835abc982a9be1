"""What a caller may not see leaves no trace in any answer (faults.md 51 to 54, 57, 60, 66)."""

from __future__ import annotations

import json
import logging
import re
from contextlib import closing
from typing import Any

import msgspec
import pytest
from running import Running

from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.security.actor import RESTRICTED
from fhir_gateway.store.changes import ChangeSet

CANARY = "金丝雀330102199003077777"
SECRET = "hiv"

PLAIN: list[dict[str, Any]] = [
    {"resourceType": "Practitioner", "id": "d", "name": [{"family": "王"}]},
    {"resourceType": "Patient", "id": "p",
     "generalPractitioner": [{"reference": "Practitioner/d"}]},
    {"resourceType": "Encounter", "id": "e", "status": "finished", "class": {"code": "AMB"},
     "subject": {"reference": "Patient/p"}},
    {"resourceType": "Observation", "id": "o", "status": "final",
     "code": {"coding": [{"code": "k"}]}, "subject": {"reference": "Patient/p"},
     "effectiveDateTime": "2026-01-01"},
]  # fmt: skip
#: What the second world has beside this, and nobody at the door may see.
HIDDEN: list[dict[str, Any]] = [
    {"resourceType": "Observation", "id": "hidden", "status": "final",
     "code": {"coding": [{"code": SECRET}], "text": CANARY}, "subject": {"reference": "Patient/p"},
     "encounter": {"reference": "Encounter/e"}, "performer": [{"reference": "Practitioner/d"}],
     "effectiveDateTime": "2026-02-02",
     "identifier": [{"system": "http://a.example", "value": "h"}],
     "valueQuantity": {"value": 5}, "hasMember": [{"reference": "Observation/o"}]},
    {"resourceType": "Practitioner", "id": "ward", "name": [{"family": CANARY}]},
]  # fmt: skip

#: Every way to ask that could tell of it.
ASKED = (
    "Observation/hidden", "Observation/hidden/_history", "Observation/hidden/_history/1",
    "Observation/hidden/$meta", "Practitioner/ward",
    "Observation?patient=p", "Observation?patient=p&_summary=count",
    "Observation?patient=p&_count=0",
    "Observation?patient=p&_sort=-date&_count=1", "Observation?patient=p&_sort=date",
    f"Observation?patient=p&code={SECRET}", f"Observation?patient=p&code={SECRET}&_total=accurate",
    f"Observation?code={SECRET}", "Observation?identifier=http://a.example|h",
    "Observation?_id=hidden", "Observation?patient=p&value-quantity=gt1",
    "Observation?patient=p&date=gt2026-01-15", "Observation?patient=p&code:not=k",
    f"Observation?patient=p&code-value-quantity={SECRET}$5",
    "Observation?patient=p&_include=Observation:performer&_include=Observation:encounter",
    f"Patient?_id=p&_has:Observation:patient:code={SECRET}",
    f"Patient?_has:Observation:patient:code={SECRET}",
    "Patient?_id=p&_revinclude=Observation:patient",
    f"Practitioner?_id=d&_has:Observation:performer:code={SECRET}",
    f"Practitioner?_has:Observation:performer:code={SECRET}",
    "Practitioner?family=" + CANARY, "Practitioner?_sort=name",
    f"Encounter?patient=p&_has:Observation:encounter:code={SECRET}",
    "Encounter?patient=p&_revinclude=Observation:encounter",
    f"Observation?patient=p&_has:Observation:has-member:code={SECRET}",
    "Observation?patient=p&_revinclude=Observation:has-member",
    "Patient/p/$everything", "Patient/p/$everything?_type=Observation",
    f"Observation/$lastn?patient=p&code={SECRET}",
    "Observation/$lastn?patient=p&code:missing=false", "Observation/_history",
    "_history?_count=500",
    "Patient/p/Observation", "Patient/p/*", "Encounter/e/Observation",
    "?_type=Observation,Practitioner&_lastUpdated=gt2000",
    f"Observation?patient=p&code={SECRET}&__explain=true", "Observation?patient=p&__explain=true",
)  # fmt: skip


class Worlds:
    """The same city twice, once with more than its callers may see."""

    def __init__(self, plain: Running, full: Running) -> None:
        self.plain, self.full = plain, full
        for one in (plain, full):
            self.store(one, PLAIN, 0)
        self.store(full, HIDDEN, RESTRICTED)

    def store(self, world: Running, resources: list[dict[str, Any]], sensitivity: int) -> None:
        for resource in resources:
            put = prepare(world.gateway, resource, op="update", institution=None)
            put = msgspec.structs.replace(put, sensitivity=sensitivity)
            change_set = ChangeSet(id=world.gateway.random(16), puts=[put])
            world.run(world.gateway.store.commit(change_set))

    def ask(self, path: str) -> list[tuple[int, str, Any]]:
        answers = [world.get(f"/fhir/{path}") for world in (self.plain, self.full)]
        return [(one.status_code, timeless(one.text), one.headers.get("etag")) for one in answers]


def timeless(text: str) -> str:
    """An answer without times and page links, which two worlds cannot share, and without the audit
    events, whose ids are random."""
    body = json.loads(text)
    if isinstance(body.get("entry"), list):
        body["entry"] = [
            one for one in body["entry"] if one["resource"]["resourceType"] not in OF_THE_STORE
        ]
    shown = json.dumps(body, ensure_ascii=False, sort_keys=True)
    shown = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", shown)
    return re.sub(r"_cursor=[\w-]+", "_cursor", shown)


#: Made by each world itself, with ids and times of its own.
OF_THE_STORE = {
    "AuditEvent", "CodeSystem", "ConceptMap", "OperationDefinition", "PlanDefinition",
    "StructureDefinition", "ValueSet", "NamingSystem", "SearchParameter", "Library",
}  # fmt: skip


@pytest.fixture(scope="module")
def worlds(shared_database):
    with (
        closing(Running(shared_database.url("plain"), open_access=True)) as plain,
        closing(Running(shared_database.url("full"), open_access=True)) as full,
    ):
        yield Worlds(plain, full)


@pytest.mark.parametrize("path", ASKED)
def test_051_052_053_054_what_is_not_seen_is_no_filter(worlds, path):
    """Status, body, count and order are the same whether it is there or not."""
    plain, full = worlds.ask(path)
    if path.endswith(("*", "$everything")) or "_history" in path:
        plain, full = (re.sub(r', "total": \d+', "", str(one)) for one in (plain, full))
    assert plain == full
    assert CANARY not in str(full[1]) or CANARY in path


def test_the_hidden_resource_is_there(worlds):
    """Else the test above says nothing."""
    counted = worlds.full.run(_counted(worlds.full))
    assert counted["Observation"] == 2


async def _counted(world: Running) -> dict[str, int]:
    from fhir_gateway.security.actor import SYSTEM_ACCESS

    async with world.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await reader.counts()


def test_057_one_forbidden_entry_spoils_its_transaction(start):
    """Each entry is judged by itself, a condition too; a batch carries out the others."""
    server = start()
    first, second = server.institution("first"), server.institution("second")
    theirs = {"resourceType": "Patient", "id": "theirs", "active": True,
              "identifier": [{"system": "http://a.example", "value": "1"}]}  # fmt: skip
    assert server.put("/fhir/Patient/theirs", theirs, headers=first).status_code == 201
    changed = {**theirs, "active": False}
    patch = {"resourceType": "Binary", "contentType": "application/json-patch+json",
             "data": "W3sib3AiOiJyZW1vdmUiLCJwYXRoIjoiL2FjdGl2ZSJ9XQ=="}  # fmt: skip
    for number, (request, resource) in enumerate(
        (
            ({"method": "PUT", "url": "Patient/theirs"}, changed),
            ({"method": "PUT", "url": "Patient?identifier=http://a.example|1"}, changed),
            ({"method": "DELETE", "url": "Patient/theirs"}, None),
            ({"method": "DELETE", "url": "Patient?identifier=http://a.example|1"}, None),
            ({"method": "PATCH", "url": "Patient/theirs"}, patch),
            ({"method": "PATCH", "url": "Patient?identifier=http://a.example|1"}, patch),
        )
    ):
        mine = {
            "resource": {"resourceType": "Patient", "id": f"mine{number}"},
            "request": {"method": "PUT", "url": f"Patient/mine{number}"},
        }
        entry = {"request": request, **({"resource": resource} if resource else {})}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [mine, entry]}
        answer = server.post("/fhir", bundle, headers=second)
        assert answer.status_code == 403, (request, answer.text)
        assert answer.json()["issue"][0]["expression"][0].startswith("Bundle.entry[1]")
        assert server.get(f"/fhir/Patient/mine{number}", headers=second).status_code == 404
        answer = server.post("/fhir", {**bundle, "type": "batch"}, headers=second)
        assert [one["response"]["status"][:3] for one in answer.json()["entry"]] == ["201", "403"]
    kept = server.get("/fhir/Patient/theirs", headers=second).json()
    assert (kept["active"], kept["meta"]["versionId"]) == (True, "1")


def test_066_no_log_line_holds_what_names_a_person(client, caplog):
    """Whatever part of a request it stands in, and whether it is answered or refused."""
    body = {"resourceType": "Patient", "name": [{"text": CANARY}], "birthDate": CANARY}
    with caplog.at_level(logging.DEBUG):
        client.get(f"/fhir/Patient/{CANARY}")
        client.get(f"/fhir/Patient?name={CANARY}&identifier={CANARY}")
        client.get(f"/fhir/{CANARY}/1")
        client.get(f"/fhir/Patient?{CANARY}=1")
        client.post("/fhir/Patient", body)
        client.post("/fhir/Patient", {**body, "birthDate": "1990"})
        client.post("/fhir/Patient/$validate", body)
        client.request("POST", "/fhir/Patient/_search", data={"name": CANARY})
        client.request("PATCH", "/fhir/Patient/p", content=f'[{{"op":"{CANARY}"}}]'.encode(),
                       headers={"content-type": "application/json-patch+json"})  # fmt: skip
        client.request("POST", "/fhir/Patient", content=CANARY.encode("gb18030"),
                       headers={"content-type": "application/fhir+json"})  # fmt: skip
        client.get("/fhir/Patient", headers={"x-request-id": "330102199003077777"})
        client.request(CANARY.encode().hex().upper()[:8], "/fhir/Patient")
    ours = [one.getMessage() for one in caplog.records if one.name.startswith("fhir_gateway")]
    assert len(ours) >= 12
    assert [line for line in ours if CANARY in line or "330102199003077777" in line] == []
