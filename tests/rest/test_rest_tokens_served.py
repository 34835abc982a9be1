"""Two processes and a client from PyPI: one assertion, one token, whatever happens."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from effort import TORTURE
from fhirpy import SyncFHIRClient
from provider import AUDIENCE, System
from rest_server import Served
from running import Running

BASE = AUDIENCE.removesuffix("/fhir")
MANY = 10_000 if TORTURE else 60


class Town:
    """A database with a registered system, and processes that serve it."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "g.sqlite"
        self.system = System(institution="h-1", root=BASE)
        prepared = Running(self.database)
        prepared.institution("h-1", "First hospital")
        self.system.register(prepared)
        prepared.close()
        self.served = self.serve()

    def serve(self) -> Served:
        options = ("--workers", "2", "--base-url", AUDIENCE)
        return Served(self.database, *options, open_access=False)

    def ask(self, assertion: str, **fields: str) -> httpx.Response:
        form = self.system.form(assertion, **fields)
        return httpx.post(f"{self.served.url}/oauth/token", data=form, timeout=30)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    one = Town(tmp_path_factory.mktemp("served"))
    yield one
    assert one.served.stop() == 0


def test_035_of_many_requests_with_one_assertion_one_is_answered(town: Town) -> None:
    assertion = town.system.assertion()
    form = town.system.form(assertion)

    async def all_at_once() -> Counter[int]:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(limits=limits, timeout=120) as http:
            asked = [http.post(f"{town.served.url}/oauth/token", data=form) for _ in range(MANY)]
            return Counter(answer.status_code for answer in await asyncio.gather(*asked))

    found = asyncio.run(all_at_once())
    assert found[200] == 1
    assert found.total() == MANY
    assert set(found) <= {200, 401, 429}  # an address that has none to show is told to wait


def test_a_client_from_pypi_works_with_a_token(town: Town) -> None:
    said = httpx.get(f"{town.served.url}/fhir/.well-known/smart-configuration").json()
    assert said["token_endpoint"] == f"{BASE}/oauth/token"
    given = town.ask(town.system.assertion(), scope="system/*.cruds").json()
    fhir = SyncFHIRClient(
        f"{town.served.url}/fhir", authorization=f"Bearer {given['access_token']}"
    )
    person = fhir.resource("Patient", name=[{"text": "样例甲"}])
    person.save()
    assert fhir.reference("Patient", person.id).to_resource()["name"][0]["text"] == "样例甲"
    assert fhir.resources("Patient").search(_id=person.id).get().id == person.id


def test_035_an_assertion_is_used_up_after_a_kill_too(town: Town) -> None:
    assertion = town.system.assertion()
    given = town.ask(assertion)
    assert given.status_code == 200
    town.served.kill()
    town.served = town.serve()
    assert town.ask(assertion).status_code == 401
    headers = {"authorization": f"Bearer {given.json()['access_token']}"}
    answer = httpx.get(f"{town.served.url}/fhir/Organization/h-1", headers=headers)
    assert answer.status_code == 200
