"""The stores and callers of the bench of security: the same people under two policies.

Each gateway has its own SQLite store in this process, seeded alike. Under the shipped policy every
person has an open encounter at the institution that asks, and a Consent that is bound to it, both
stored by the product; under the open one nothing is asked for.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from joserfc import jwk, jws

from bench.people import RECEIVER
from bench.prepare import registered, write_maps
from bench.recognition_seed import seed
from fhir_gateway.app import Application, build, open_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.clients import add_client
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.interactions.tokens import issue
from fhir_gateway.security.clients import Client
from fhir_gateway.security.jwt_assertion import Proved
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.engine import open_writer

ISSUER, BASE = "https://login.bench.example", "http://127.0.0.1/fhir"
ALG, CURVE = "ES256", "P-256"
#: What the hook needs, spelled type by type as a careful site grants it.
NEEDED = ("Patient.rs", "Observation.rs", "DiagnosticReport.rs", "ImagingStudy.rs",
          "GuidanceResponse.c", "Encounter.rs")  # fmt: skip
#: A policy that asks for nothing: what there was before access was controlled.
OPEN_POLICY = """
version = "bench-open"
basis = "legal-duty"
guardian_age = 14
[bases.legal-duty]
relation = false
permit = true
denials = false
permits = "none"
[break_glass]
reasons = [{ code = "life-threatening", zh = "危及生命", en = "Danger to life" }]
"""
_PIECE = 100
_FILE = "bench.sqlite"
_OWN = """
UPDATE result_of SET owner = (
  SELECT f.owner FROM fact f WHERE f.home = result_of.home AND f.result = result_of.result
)"""
_HL7 = "http://terminology.hl7.org/CodeSystem"


class Seeded(NamedTuple):
    """A store that gateways are given copies of."""

    folder: Path
    token: str
    people: int
    facts: int


class House(NamedTuple):
    """A running gateway, the static token of who asks, and the key of its provider."""

    application: Application
    static: str
    client: Client
    key: Any

    @property
    def gateway(self) -> Gateway:
        """The gateway behind the doors."""
        return self.application.gateway


def _new(folder: Path) -> Path:
    """Makes a folder; where its mappings go."""
    folder.mkdir(parents=True)
    return folder / "mappings"


async def seeded(folder: Path, people: int) -> Seeded:
    """An empty folder filled with a store of so many people with facts, that nobody has open."""
    mappings = _new(folder)
    write_maps(mappings)
    database = f"sqlite:///{folder}/{_FILE}"
    token = (await registered(folder, database, mappings))[RECEIVER]
    gateway = await open_gateway(load_settings({}, database=database, mappings=str(mappings)))
    await gateway.store.close()  # the sink writes past the store
    facts = await seed(gateway, database, people)
    with closing(open_writer(folder / _FILE)) as connection:  # whose a report is counts here
        connection.execute(_OWN)
    return Seeded(folder, token, people, facts)


async def open_house(made: Seeded, folder: Path, *, policy: bool) -> House:
    """A gateway on a copy of a seeded store, under the shipped policy or the open one."""
    _new(folder)
    shutil.copyfile(made.folder / _FILE, folder / _FILE)
    key = jwk.ECKey.generate_key(CURVE, parameters={"kid": "bench"})
    settings = _settings(folder, made.folder / "mappings", key, policy=policy)
    application = await build(settings)
    client = Client(
        id="bench-client", institution=RECEIVER, asserts_consent=True,
        jwks=(dict(key.as_dict(private=False)),),
        scopes=tuple(f"system/{one}" for one in NEEDED),
    )  # fmt: skip
    await add_client(application.gateway, client)
    if policy:
        await _consented(application.gateway, made.people)
    return House(application, made.token, client, key)


def _settings(folder: Path, mappings: Path, key: Any, *, policy: bool) -> Settings:
    public = json.dumps(key.as_dict(private=False)).replace('":', '" =')
    issuers = folder / "issuers.toml"
    issuers.write_text(
        f'[[issuer]]\nissuer = "{ISSUER}"\naudience = ["{BASE}"]\nkeys = [{public}]\n'
    )
    more = {"issuers": str(issuers), "base_url": BASE}
    if not policy:
        more["policy"] = str(folder / "policy.toml")
        Path(more["policy"]).write_text(OPEN_POLICY, encoding="utf-8")
    return load_settings({}, database=f"sqlite:///{folder}/{_FILE}", mappings=str(mappings), **more)


async def _consented(gateway: Gateway, people: int) -> None:
    """Every person has an open encounter at who asks, and a Consent that is bound to it."""
    now = datetime.now(UTC)
    for start in range(0, people, _PIECE):
        made = [
            resource
            for person in range(start, min(people, start + _PIECE))
            for resource in _visit(f"p{person:07d}", now)
        ]
        puts = [prepare(gateway, one, op="create", institution=RECEIVER) for one in made]
        await gateway.store.commit(ChangeSet(id=gateway.random(16), puts=puts))


def _visit(patient: str, now: datetime) -> Sequence[dict[str, Any]]:
    """An open encounter, and the patient's consent for it to the institution that asks."""
    subject, encounter = {"reference": f"Patient/{patient}"}, f"e-{patient}"
    recipient = {
        "role": {"coding": [{"system": f"{_HL7}/v3-ParticipationType", "code": "IRCP"}]},
        "reference": {"reference": f"Organization/{RECEIVER}"},
    }
    return (
        {
            "resourceType": "Encounter", "id": encounter, "status": "in-progress",
            "class": {"code": "AMB"}, "subject": subject,
            "period": {"start": (now - timedelta(hours=1)).isoformat(timespec="seconds")},
        },
        {
            "resourceType": "Consent", "id": f"c-{patient}", "status": "active",
            "scope": {"coding": [{"system": f"{_HL7}/consentscope", "code": "patient-privacy"}]},
            "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
            "patient": subject,
            "dateTime": (now - timedelta(minutes=50)).isoformat(timespec="seconds"),
            "policyRule": {"coding": [{"system": f"{_HL7}/v3-ActCode", "code": "OPTIN"}]},
            "provision": {
                "type": "permit", "actor": [recipient],
                "data": [{"meaning": "related",
                          "reference": {"reference": f"Encounter/{encounter}"}}],
            },
        },
    )  # fmt: skip


async def issued_token(house: House) -> str:
    """A token of ours for the registered client, which asserts the patient's consent."""
    proved = Proved(str(uuid4()), "TREAT")
    return (await issue(house.gateway, house.client, proved, house.client.scopes))[0]


def provider_token(house: House) -> str:
    """A token of the provider for a clinician, who asserts nothing."""
    now = int(time.time())
    claims = {
        "iss": ISSUER, "aud": BASE, "sub": "bench", "iat": now, "exp": now + 3_000,
        "jti": str(uuid4()), "role": "clinician", "client_id": "bench-app",
        "institution": RECEIVER, "fhirUser": "Practitioner/bench",
        "scope": " ".join(f"user/{one}" for one in NEEDED),
        "extensions": {"ihe_iua": {"purpose_of_use": "TREAT"}},
    }  # fmt: skip
    header = {"alg": ALG, "kid": "bench", "typ": "at+jwt"}
    return jws.serialize_compact(header, json.dumps(claims), house.key, algorithms=[ALG])


class Door:
    """The ASGI application, called without a network."""

    def __init__(self, house: House, token: str) -> None:
        self._asgi, self._token = house.application.asgi, token

    async def call(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a prepared request (bench.load.request_bytes)."""
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        method, path, _ = first.decode().split(" ")
        pairs = [line.split(b": ", 1) for line in lines]
        headers = [(name.lower(), value) for name, value in pairs]
        headers.append((b"authorization", b"Bearer " + self._token.encode()))
        said: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            said.append(message)

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
            "root_path": "", "headers": headers, "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        await self._asgi(scope, receive, send)
        return said[0]["status"], b"".join(one.get("body", b"") for one in said[1:])
