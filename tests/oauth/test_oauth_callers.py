"""Who is who at the door: people of an outside provider, static tokens, certificates, keys."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from databases import Databases
from provider import Clock, KeyServer, Provider, System, bearer, new_key, sign
from running import Running

from fhir_gateway.app import Application, build
from fhir_gateway.errors import Invalid, Login
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.certificate import thumbprint_of
from fhir_gateway.security.tokens import hash_token
from fhir_gateway.settings import Settings

pytestmark = pytest.mark.drivers("sqlite")  # what rests on the store: test_oauth_token.py

LIST = "/fhir/Organization/h-1"
CERTIFICATE = f":{b64encode(b'0' + bytes(99)).decode()}:"
OTHER = f":{b64encode(b'0' + bytes(98)).decode()}:"


@pytest.fixture(scope="module")
def town(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("issuers")
    provider = Provider(folder)
    one = shared_database.running("gateway", **provider.settings())
    one.institution("h-1", "First hospital")
    yield one, provider
    one.close()


def actor_of(town: Any, **said: Any) -> Actor:
    running, provider = town
    actor: Actor = running.run(authenticate(running.gateway, provider.token(**said)))
    return actor


def refused(town: Any, **said: Any) -> httpx.Response:
    running, provider = town
    answer: httpx.Response = running.get(LIST, headers=provider.token(**said))
    assert answer.status_code == 401, answer.text
    return answer


def test_a_token_says_all_that_an_actor_has(town: Any) -> None:
    actor = actor_of(
        town, institution="h-1", user="Practitioner/p-1", scopes="user/*.rs launch",
        purpose="TREAT", patient="x", jti="token-1",
    )  # fmt: skip
    assert (actor.role, actor.institution, actor.name) == ("clinician", "h-1", "First hospital")
    assert (actor.user, actor.client, actor.purpose) == ("Practitioner/p-1", "app-1", "TREAT")
    assert (actor.patient, actor.token) == ("x", "token-1")
    assert actor.scopes == ("user/*.rs", "launch")
    assert actor.until > town[0].gateway.clock.now()


def test_roles_of_the_operator_need_no_institution(town: Any) -> None:
    for role in ("regulator", "administrator"):
        actor = actor_of(town, role=role)
        assert (actor.role, actor.institution, actor.scopes) == (role, None, None)
    assert actor_of(town, role="regulator", institution="h-1").institution == "h-1"


def test_a_patient_sees_the_homes_of_the_person(town: Any) -> None:
    running, provider = town
    headers = provider.token(role="institution", institution="h-1")
    id = running.post("/fhir/Patient", {"resourceType": "Patient"}, headers=headers).json()["id"]
    actor = actor_of(town, role="patient", patient=id)
    assert actor.role == "patient"
    assert actor.access.homes
    assert len(actor.access.homes) == 1
    assert actor.patient == id


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"role": "king"}, "issuers"),
        ({"role": ["clinician", "regulator"], "institution": "h-1"}, "several roles"),
        ({"role": "system"}, "no role"),
        ({"role": "open"}, "no role"),
        ({"role": "clinician"}, "names no institution"),
        ({"role": "clinician", "institution": "h-404"}, "institution add"),
        ({"role": "institution", "institution": "h-404"}, "institution add"),
        ({"role": "evaluator", "institution": "h-1"}, "evaluating body"),
        ({"role": "regulator", "institution": "h-404"}, "registry"),
        ({"role": "patient"}, "Patient"),
        ({"role": "patient", "patient": "nobody"}, "Patient"),
    ],
)
def test_what_the_operator_has_to_set_is_said(town: Any, said: dict[str, Any], says: str) -> None:
    assert says in refused(town, **said).json()["issue"][0]["diagnostics"]


def test_034_audiences_and_issuers_are_kept_apart(town: Any, tmp_path: Path) -> None:
    running, provider = town
    other = Provider(tmp_path, issuer="https://evil.example")
    other.key = new_key(provider.key.kid)
    for headers in (
        other.token(institution="h-1"),
        other.token(institution="h-1", iss=provider.issuer),
        provider.token(institution="h-1", iss=other.issuer),
        provider.token(institution="h-1", iss=f"{provider.issuer}/"),
        provider.token(institution="h-1", aud="https://other.example/fhir"),
        provider.token(institution="h-1", nonce="n"),
        bearer(provider.signed({"typ": "JWT"}, institution="h-1")),
    ):
        answer = running.get(LIST, headers=headers)
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_without_a_token_the_challenge_says_no_more_than_the_realm(town: Any) -> None:
    answer = town[0].get(LIST)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="fhir-gateway"'


def test_038_a_token_is_remembered_for_seconds_and_never_past_its_end(town: Any) -> None:
    running, provider = town
    gateway, token = running.gateway, provider.signed(institution="h-1", seconds=2)
    running.run(authenticate(gateway, bearer(token)))
    known = gateway.tokens[hash_token(token)]
    assert known.until == known.actor.until < gateway.clock.now() + 5_000_000
    running.institution("h-2")  # another epoch
    running.run(institutions(gateway))
    newer = running.run(authenticate(gateway, bearer(token)))
    assert newer == known.actor
    assert newer is not known.actor


def test_a_token_of_ours_and_one_of_a_provider_open_every_door(town: Any) -> None:
    running, provider = town
    system = System(institution="h-1", root="https://gw.example").register(running)
    body = "MSH|^~\\&|A|h-1|B|C|20260101||ADT^A01|1|P|2.5\r"
    for headers in (system.headers(running, scope="system/*.cruds"),
                    provider.token(role="institution", institution="h-1")):  # fmt: skip
        hook = running.post("/cds-services/recognition-order-sign", {}, headers=headers)
        assert hook.status_code == 400
        answer = running.request("POST", "/hl7v2", content=body, headers=headers)
        assert answer.status_code not in (401, 500)
    assert running.get("/metrics", headers=provider.token(role="administrator")).status_code == 200


# -- static tokens -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "more", "fits"),
    [
        ({}, {}, True),
        ({}, {"x-forwarded-for": "10.0.0.1"}, False),
        ({}, {"forwarded": "for=10.0.0.1"}, False),
        ({}, {"via": "1.1 proxy"}, False),
        ({"trusted_proxies": "10.0.0.0/8"}, {}, False),
        ({"host": "10.1.2.3"}, {}, False),
        ({"host": "localhost"}, {}, True),
        ({"open_access": True}, {"x-forwarded-for": "10.0.0.1"}, True),
    ],
)
def test_static_tokens_are_for_this_machine_alone(
    town: Any, chosen: dict[str, Any], more: dict[str, str], fits: bool
) -> None:
    running, _ = town
    headers = running.institution("h-1")
    gateway = replace(running.gateway, settings=replace(running.settings, **chosen))
    if fits:
        assert running.run(authenticate(gateway, {**headers, **more})).institution == "h-1"
    else:
        with pytest.raises(Login, match="clients add"):
            running.run(authenticate(gateway, {**headers, **more}))


# -- certificates ------------------------------------------------------------------------------


def test_043_a_bound_token_is_good_beside_its_certificate_only(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    provider = Provider(tmp_path)
    chosen = {**provider.settings(), "client_certificate_header": "client-cert"}
    one = start(**chosen, trusted_proxies="127.0.0.1")
    one.institution("h-1")
    bound = {"x5t#S256": thumbprint_of(CERTIFICATE)}
    system = System(
        institution="h-1", root="https://gw.example", certificate=bound["x5t#S256"]
    ).register(one)
    assert system.ask(one).status_code == 401
    given = system.ask(one, headers={"client-cert": CERTIFICATE}).json()["access_token"]
    for headers in (bearer(given), provider.token(institution="h-1", cnf=bound)):
        for more, status in (
            ({}, 401),
            ({"client-cert": CERTIFICATE}, 200),
            ({"client-cert": OTHER}, 401),
            ({"client-cert": f"{CERTIFICATE}, {CERTIFICATE}"}, 401),
            ({"x-client-cert": CERTIFICATE}, 401),
        ):
            assert one.get(LIST, headers={**headers, **more}).status_code == status
        for more in ({}, {"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=127.0.0.1"}):
            said = {**headers, "client-cert": CERTIFICATE, **more}
            assert from_elsewhere(one, said) == 401  # whoever is no proxy brings none


def from_elsewhere(one: Running, headers: dict[str, str]) -> int:
    """The status of a request whose peer is no proxy of ours."""

    async def ask() -> int:
        transport = httpx.ASGITransport(app=one.application.asgi, client=("10.9.9.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.get(LIST, headers=headers)).status_code

    status: int = one.run(ask())
    return status


def test_a_fault_in_the_files_stops_the_start(start: Callable[..., Running]) -> None:
    for chosen in (
        {"issuers": "/nowhere.toml"},
        {"client_certificate_header": "client-cert"},
    ):
        with pytest.raises(Invalid):
            start(**chosen)


# -- keys --------------------------------------------------------------------------------------


class Served(Running):
    """A gateway with a clock of the test's own, a provider and a system that publish their keys."""

    def __init__(self, database: str, folder: Path) -> None:
        self.clock, self.page = Clock(), KeyServer()
        self.provider = Provider(
            folder, jwks_url=self.page.url, now=lambda: self.clock.us / 1_000_000
        )
        super().__init__(
            database,
            **self.provider.settings(),
            outbound_networks="127.0.0.0/8",
            outbound_origins=f"http://127.0.0.1:{self.page.port}",
        )
        self.institution("h-1")
        self.page.publish(self.provider.key)
        self.run(self.page.start())

    def build(self, settings: Settings) -> Awaitable[Application]:
        return build(settings, clock=self.clock)

    def status(self, **said: Any) -> int:
        code: int = self.get(
            LIST, headers=self.provider.token(institution="h-1", **said)
        ).status_code
        return code

    def close(self) -> None:
        self.page.close()
        super().close()


@pytest.fixture
def served(database: Databases, tmp_path: Path) -> Iterator[Served]:
    one = Served(database.url("served"), tmp_path)
    yield one
    one.close()


def test_037_a_withdrawn_key_is_dead_within_five_minutes(served: Served) -> None:
    assert served.status() == 200
    served.page.publish(new_key("next"))
    served.clock.pass_by(20)
    assert served.status() == 200  # kept
    served.clock.pass_by(280)
    assert served.status() == 401
    assert served.page.asked == 2


def test_037_kept_keys_serve_while_their_page_is_down_but_not_longer(served: Served) -> None:
    assert served.status() == 200
    served.page.status = "503 Unavailable"
    served.clock.pass_by(200)
    assert served.status() == 200
    served.clock.pass_by(100)
    assert served.status() == 503
    served.page.status = "200 OK"
    served.clock.pass_by(10)
    assert served.status() == 200


def test_037_a_new_key_is_found_and_made_up_ones_cause_no_storm(served: Served) -> None:
    assert served.status() == 200
    for number in range(50):
        stranger = new_key(f"made-up-{number}")
        token = sign(stranger, served.provider.claims(institution="h-1"))
        assert served.get(LIST, headers=bearer(token)).status_code in (401, 429)
    assert served.page.asked == 1
    served.clock.pass_by(31)
    served.provider.key = new_key("provider-2")
    served.page.publish(served.provider.key)
    assert served.status() == 200
    assert served.page.asked == 2


def test_037_a_systems_keys_may_be_fetched_where_that_is_listed(served: Served) -> None:
    served.provider.now = served.clock.now
    system = System(
        institution="h-1", root="https://gw.example", jwks=(), jwks_url=served.page.url,
        now=lambda: served.clock.us / 1_000_000,
    ).register(served)  # fmt: skip
    served.page.publish(system.key)
    assert system.ask(served).status_code == 200
    bent = system.assertion({"jku": "http://127.0.0.1:1/x"})
    assert system.ask(served, bent).status_code == 401
    assert system.ask(served, system.assertion({"jku": served.page.url})).status_code == 200
    assert served.page.asked == 1
    with pytest.raises(Invalid, match="OUTBOUND_ORIGINS"):
        System("his-2", institution="h-1", jwks=(), jwks_url="https://x.example/j").register(served)
