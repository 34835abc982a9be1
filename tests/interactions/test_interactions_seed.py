"""The project's own resources in the store: there, once, and not in the operator's way."""

from __future__ import annotations

from running import Running

from fhir_gateway.app import build
from fhir_gateway.interactions.seed import seed
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL


def _resource(version):
    url = f"{CANONICAL}/CodeSystem/sample"
    return {"resourceType": "CodeSystem", "id": "sample", "url": url, "version": version,
            "status": "active", "content": "complete"}  # fmt: skip


def _version(server):
    answer = server.get("/fhir/CodeSystem/sample").json()
    return answer["version"], answer["meta"]["versionId"]


def test_content_is_sown_once_and_an_operators_change_stays(start):
    server = start(open_access=True)
    assert server.run(seed(server.gateway, [_resource("1")])) == 1
    server.put("/fhir/CodeSystem/sample", _resource("changed by the operator"))
    assert server.run(seed(server.gateway, [_resource("1")])) == 0
    assert _version(server) == ("changed by the operator", "2")
    assert server.run(seed(server.gateway, [_resource("2")])) == 1
    assert _version(server) == ("2", "3")


def test_the_catalogue_is_served_and_a_restart_stores_nothing(tmp_path):
    for _ in range(2):
        server = Running(tmp_path / "g.sqlite", open_access=True)
        found = server.get(
            "/fhir/CodeSystem", params={"url": f"{CANONICAL}/CodeSystem/catalogue-lab"}
        )
        stored = found.json()["entry"][0]["resource"]
        assert (stored["count"], stored["meta"]["versionId"]) == (187, "1")
        rules = server.get("/fhir/PlanDefinition/recognition-1.0.0").json()
        assert rules["url"] == f"{CANONICAL}/PlanDefinition/recognition"
        assert rules["meta"]["versionId"] == "1"
        server.close()


def test_a_second_process_finds_it_sown(start):
    server = start(open_access=True)
    second = server.run(build(server.settings))
    try:
        assert server.run(_commits(server.gateway)) == server.run(_commits(second.gateway))
    finally:
        server.run(second.close())


async def _commits(gateway):
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return reader.t
