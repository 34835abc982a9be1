"""Signed clients: who is believed at the door, keys that change, tokens that come again."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from city import City, order, said
from databases import Databases
from joserfc import jwk, jws
from running import Running

from fhir_gateway.cds_hooks.trust import clients_of
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions import key_sets

ROOT = "https://gw.example"
SIGN = "recognition-order-sign"
ISSUER, CLOUD = "https://his.example", "https://cloud.example"


def new_key(kid: str) -> jwk.ECKey:
    return jwk.ECKey.generate_key("P-384", parameters={"kid": kid})


class Keys:
    """A server on this machine that publishes keys, and counts how often it is asked."""

    def __init__(self) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/jwks.json"
        self.published: list[Any] = []
        self.asked, self.status, self.cache = 0, "200 OK", "max-age=600"

    async def start(self) -> None:
        self.listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = json.dumps({"keys": self.published})
        head = f"HTTP/1.1 {self.status}\r\ncache-control: {self.cache}\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    def publish(self, *keys: jwk.ECKey) -> None:
        self.published = [key.as_dict(private=False) for key in keys]


class Town:
    """The city behind a gateway that trusts two issuers: a hospital's own and one of a cloud."""

    def __init__(self, databases: Databases, folder: Path) -> None:
        self.keys, self.own, self.cloud = Keys(), new_key("own-1"), new_key("cloud-1")
        self.keys.publish(self.own)
        public = self.cloud.as_dict(private=False)
        inline = ", ".join(f'{name} = "{value}"' for name, value in public.items())
        file = folder / "clients.toml"
        file.write_text(
            f"""
[[client]]
institution = "receiver"
issuer = "{ISSUER}"
jwks_urls = ["{self.keys.url}"]

[[client]]
issuer = "{CLOUD}"
keys = [{{ {inline} }}]
tenants = {{ north = "receiver", gone = "nobody" }}
"""
        )
        self.running = Running(
            databases.url("trust"),
            base_url=f"{ROOT}/fhir",
            cds_clients=str(file),
            outbound_networks="127.0.0.0/8",
            hook_deadline_ms=60_000,
        )
        self.running.run(self.keys.start())
        self.city = City(self.running)

    def close(self) -> None:
        self.keys.listening.close()
        self.running.close()

    def token(
        self, key: jwk.ECKey, issuer: str = ISSUER, service: str = SIGN, **more: Any
    ) -> dict[str, str]:
        """The headers of a call with a fresh token; `jku` goes into its header."""
        now = int(time.time())
        head = {"alg": "ES384", "typ": "JWT", "kid": key.kid}
        head |= {"jku": more.pop("jku")} if "jku" in more else {}
        claims = {
            "iss": issuer,
            "aud": f"{ROOT}/cds-services/{service}",
            "iat": now,
            "exp": now + 300,
            "jti": str(uuid4()),
            **more,
        }
        signed = jws.serialize_compact(head, json.dumps(claims), key, algorithms=["ES384"])
        return {"authorization": f"Bearer {signed}"}

    def call(self, headers: dict[str, str], patient: str = "") -> Any:
        patient = patient or self.city.patient()
        return self.city.hook(patient, order(patient), headers=headers)

    def status(self, headers: dict[str, str]) -> int:
        code: int = self.call(headers).status_code
        return code


@pytest.fixture(scope="module")
def town(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    one = Town(shared_database, tmp_path_factory.mktemp("clients"))
    yield one
    one.close()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that are missing are looked for at once, not after half a minute."""
    monkeypatch.setattr(key_sets, "AGAIN", 0)
    monkeypatch.setattr(key_sets, "AFTER_FAILURE", 0)


def test_a_signed_call_is_the_institutions_own(town: Town) -> None:
    patient = town.city.patient()
    town.city.result(patient)
    (card,) = town.call(town.token(town.own), patient).json()["cards"]
    assert card["summary"].startswith("可互认：钾")
    (decision,) = town.city.search(f"GuidanceResponse?patient={patient}")
    assert json.loads(said(decision["contained"][0], "inputs"))["query"]["receiver"] == "receiver"
    assert town.status(town.token(town.own, jku=town.keys.url)) == 200


def test_feedback_is_signed_for_its_own_address(town: Town) -> None:
    patient = town.city.patient()
    town.city.result(patient)
    (card,) = town.call(town.token(town.own), patient).json()["cards"]
    entry = {"card": card["uuid"], "outcome": "overridden"}
    body = {"feedback": [{**entry, "outcomeTimestamp": "2024-11-20T08:00:00Z"}]}
    wrong = town.city.send(f"{SIGN}/feedback", body, headers=town.token(town.own))
    assert wrong.status_code == 401
    headers = town.token(town.own, service=f"{SIGN}/feedback")
    assert town.city.send(f"{SIGN}/feedback", body, headers=headers).status_code == 200


def test_a_tenant_of_the_cloud_is_its_institution(town: Town) -> None:
    assert town.status(town.token(town.cloud, CLOUD, tenant="north")) == 200
    for more in ({"tenant": "south"}, {"tenant": "gone"}, {}):
        assert town.status(town.token(town.cloud, CLOUD, **more)) == 401


def test_a_static_token_still_opens_the_door(town: Town) -> None:
    assert town.status(town.city.receiver) == 200


def test_strangers_are_refused_before_anything_is_fetched(town: Town) -> None:
    asked = town.keys.asked
    stranger = new_key("own-1")
    for headers in (
        town.token(stranger, "https://stranger.example"),
        town.token(town.own, CLOUD),
        town.token(town.own, jku="https://evil.example/jwks.json"),
        town.token(town.own, jku=f"{town.keys.url}?"),
        town.token(stranger, CLOUD, jku="http://169.254.169.254/x"),
        {"authorization": "Bearer eyJ.eyJ.x"},
    ):
        answer = town.call(headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.json()["resourceType"] == "OperationOutcome"
    assert town.keys.asked == asked
    assert town.status(town.token(stranger)) == 401


def test_a_token_for_another_address_is_refused(town: Town) -> None:
    for aud in (f"{ROOT}/cds-services", f"http://127.0.0.1/cds-services/{SIGN}", ISSUER):
        assert town.status(town.token(town.own, aud=aud)) == 401
    forged = {"host": "other.example", "x-forwarded-host": "other.example"}
    headers = town.token(town.own, aud=f"https://other.example/cds-services/{SIGN}")
    assert town.status({**headers, **forged}) == 401


def test_a_token_is_good_for_one_call(town: Town) -> None:
    headers = town.token(town.own)
    assert town.status(headers) == 200
    assert town.status(headers) == 401
    # the other issuer may use the same id for its own token
    jti = str(uuid4())
    assert town.status(town.token(town.own, jti=jti)) == 200
    assert town.status(town.token(town.cloud, CLOUD, tenant="north", jti=jti)) == 200
    assert town.status(town.token(town.own, jti=jti)) == 401


def test_of_many_calls_at_once_with_one_token_one_is_let_in(town: Town) -> None:
    headers = {**town.token(town.own), "content-type": "application/json"}
    body = json.dumps({"hook": "order-sign"}).encode()

    async def all_at_once() -> list[int]:
        calls = [
            town.running.http.post(f"/cds-services/{SIGN}", content=body, headers=headers)
            for _ in range(8)
        ]
        return [answer.status_code for answer in await asyncio.gather(*calls)]

    assert sorted(town.running.run(all_at_once())) == [400] + [401] * 7


def test_keys_are_kept_and_a_new_one_is_found(town: Town, hasty: None) -> None:
    assert town.status(town.token(town.own)) == 200
    asked = town.keys.asked
    assert town.status(town.token(town.own)) == 200
    assert town.keys.asked == asked
    town.own, former = new_key("own-2"), town.own
    town.keys.publish(town.own)
    assert town.status(town.token(town.own)) == 200
    assert town.keys.asked == asked + 1
    assert town.status(town.token(former)) == 401


def test_made_up_key_ids_do_not_make_the_gateway_ask(town: Town) -> None:
    assert town.status(town.token(town.own)) == 200
    asked = town.keys.asked
    for number in range(5):
        assert town.status(town.token(new_key(f"made-up-{number}"))) == 401
    assert town.keys.asked <= asked + 1


def test_keys_that_cannot_be_had_hold_up_no_order(town: Town, hasty: None) -> None:
    other = new_key("own-3")
    town.keys.status = "503 Unavailable"
    try:
        answer = town.call(town.token(other))
        assert answer.status_code == 401  # the kept keys still hold, and this one is not of them
        kept = key_sets._sets[town.running.gateway.store].kept
        kept.clear()
        answer = town.call(town.token(other))
        assert answer.status_code == 200
        assert answer.json()["cards"][0]["summary"].startswith("本次未能及时判断")
        headers = town.token(other, service=f"{SIGN}/feedback")
        assert town.city.send(f"{SIGN}/feedback", {}, headers=headers).status_code == 503
    finally:
        town.keys.status = "200 OK"
    assert town.status(town.token(town.own)) == 200


@pytest.mark.parametrize(
    "published",
    [[], [5, "x", None], [{"kty": "oct", "kid": "own-9", "k": "c2VjcmV0"}], [{}] * 65],
)
def test_what_is_no_key_set_opens_nothing(town: Town, hasty: None, published: Any) -> None:
    former, town.keys.published = town.keys.published, published
    try:
        assert town.status(town.token(new_key("own-9"))) == 401
    finally:
        town.keys.published = former


def test_settings_by_which_nobody_could_be_trusted_stop_the_start(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "clients.toml"
    file.write_text(f'[[client]]\ninstitution = "h"\nissuer = "{ISSUER}"\n')
    with pytest.raises(Invalid):
        start(cds_clients=str(file), base_url=f"{ROOT}/fhir")
    other = tmp_path / "good.toml"
    other.write_text(
        f'[[client]]\ninstitution = "h"\nissuer = "{ISSUER}"\njwks_urls = ["{ISSUER}/k"]\n'
    )
    with pytest.raises(Invalid):  # whom a token is meant for would be the caller's word
        start(cds_clients=str(other))
    with pytest.raises(Invalid):
        start(cds_clients=str(tmp_path / "missing.toml"))
    for chosen in ({"outbound_networks": "all"}, {"outbound_ca": str(file)}):
        with pytest.raises(GatewayError):
            start(**chosen)
    assert clients_of("").by_issuer == {}
