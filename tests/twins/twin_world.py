"""Two worlds that differ only in what a caller may not see, and one who asks both the same.

A world is built once under the shipped policy and copied; what other institutions hold of the same
person without her consent, what is of a sensitive class, and other persons altogether are then made
different in each copy. Clock, random bytes and request ids are pinned, so that the answers to one
question are the same bytes or something hidden shows. All persons are invented.
"""

from __future__ import annotations

import json
import random as dice
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from databases import Databases, postgres
from running import Running

from fhir_gateway.app import build
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.recognition import publish
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.tokens import Known, hash_token

Json = dict[str, Any]

#: 2026-11-20 10:00 in Shanghai.
NOW = 1_795_140_000_000_000
DOCUMENT = "urn:oid:2.16.156.10011.1.3"
LOINC, LAB = "http://loinc.org", "laboratory"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
CURSOR = re.compile(rb"(_cursor=(?:[A-Za-z]+~~?)?)([A-Za-z0-9_\-]*)")
_COMMIT = re.compile(rb'(\\"t\\":)\d+')
SHIPPED = str(Path(__file__).parents[2] / "profiles" / "access" / "policy.toml")


class Pinned:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return self.time


class Answer(NamedTuple):
    """What a request was answered."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def next(self) -> str | None:
        """The address of the next page."""
        if b'"next"' not in self.body:
            return None
        links = json.loads(self.body).get("link", ())
        return next((one["url"] for one in links if one["relation"] == "next"), None)


class Request(NamedTuple):
    """A request. `kind` names it in a failure."""

    kind: str
    method: str
    path: str
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()


class World:
    """One gateway, pinned."""

    def __init__(self, databases: Databases, name: str, **chosen: Any) -> None:
        self.clock = Pinned()
        chosen.setdefault("hook_deadline_ms", 60_000)  # no answer depends on how busy a machine is
        self.running = _Pinned(databases.url(name), self.clock, **chosen)
        self.gateway = self.running.gateway
        self.setup = {"base": 1, "first": 2, "second": 3}[name] * 1_000_000
        self.seed(self.setup)

    def seed(self, number: int) -> None:
        """Random bytes from here on depend on the number alone."""
        object.__setattr__(self.gateway, "random", dice.Random(number).randbytes)

    def actor(self, **said: Any) -> Actor:
        """The Actor of a credential that says this."""

        async def made() -> Actor:
            async with self.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                return await actor_of(self.gateway, reader, Caller(**said))

        return self.running.run(made())

    def ask(self, actor: Actor, request: Request, number: int = 0) -> Answer:
        """One request of an actor; `number` seeds what is random in it."""
        return self.running.run(self._ask(actor, request, number))

    async def _ask(self, actor: Actor, request: Request, number: int) -> Answer:
        token = f"twin-{number}"
        self.gateway.tokens.clear()
        self.gateway.tokens[hash_token(token)] = Known(
            actor, self.clock.now() + 5_000_000, 1 << 62, "issued"
        )
        self.seed(number)
        return await asked(self.running.application.asgi, request, token, number)

    def set_up(self, actor: Actor, request: Request) -> Answer:
        """A request that makes the world, by random bytes that no other has."""
        self.setup += 1
        return self.ask(actor, request, self.setup)

    def store(self, owner: Actor, *resources: Json) -> None:
        """Stores resources as their institution, by PUT of their ids, in one transaction."""
        entries = [
            {"request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
             "resource": one}
            for one in resources
        ]  # fmt: skip
        body = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
        assert (answer := self.set_up(owner, Request("store", "POST", "", body))).status == 200, (
            answer
        )

    def remove(self, owner: Actor, *names: str) -> None:
        """Deletes resources as their institution."""
        for name in names:
            assert self.set_up(owner, Request("remove", "DELETE", name)).status == 204

    def close(self) -> None:
        """Closes the gateway."""
        self.running.close()


class _Pinned(Running):
    """A gateway whose clock is given."""

    def __init__(self, database: str, clock: Pinned, **chosen: Any) -> None:
        self._clock = clock
        super().__init__(database, **chosen)

    def build(self, settings: Any) -> Any:
        """The application, with the pinned clock."""
        return build(settings, clock=self._clock)


async def asked(asgi: Any, request: Request, token: str, number: int) -> Answer:
    """One request straight to the application."""
    parts = urlsplit(request.path)
    path = f"/fhir/{parts.path}" if not parts.path.startswith("/") else parts.path
    body = b"" if request.body is None else json.dumps(request.body).encode()
    headers = {
        "host": "127.0.0.1", "authorization": f"Bearer {token}",
        "x-request-id": f"00000000-0000-4000-8000-{number:012d}",
        "content-type": "application/fhir+json", **dict(request.headers),
    }  # fmt: skip
    if body:
        headers["content-length"] = str(len(body))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": request.method, "path": unquote(path), "raw_path": path.encode(),
        "query_string": parts.query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await asgi(scope, receive, send)
    whole = b"".join(one.get("body", b"") for one in sent[1:])
    return Answer(sent[0]["status"], tuple(sorted(sent[0]["headers"])), whole)


def masked(answer: Answer) -> Answer:
    """The answer with its page cursors as so many dots: they are enciphered, and nobody reads them,
    but their length shows. Left out is the number of commits, which a decision records to be
    replayed by (docs/adr/0041)."""

    def dots(found: re.Match[bytes]) -> bytes:
        return found[1] + b"." * len(found[2])

    body = _COMMIT.sub(rb"\1.", CURSOR.sub(dots, answer.body))
    counted = () if len(body) == len(answer.body) else (b"content-length",)
    headers = tuple(
        (name, CURSOR.sub(dots, value)) for name, value in answer.headers if name not in counted
    )
    return Answer(answer.status, headers, body)


# -- what the worlds hold ----------------------------------------------------------------------

INSTITUTIONS = {"a": "甲医院", "b": "乙医院", "c": "丙医院"}


def id_number(sequence: int) -> str:
    """A well-formed identity number that belongs to nobody."""
    body = f"11010119900307{sequence:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True))
    return body + "10X98765432"[total % 11]


def patient(id: str, name: str, number: int, **members: Any) -> Json:
    return {
        "resourceType": "Patient", "id": id, "active": True, "gender": "female",
        "birthDate": "1990-03-07", "name": [{"text": name, "family": name[0], "given": [name[1:]]}],
        "identifier": [{"system": DOCUMENT, "value": id_number(number)},
                       {"system": "urn:card", "value": f"card-{id}"}],
        **members,
    }  # fmt: skip


def observation(id: str, of: str, by: str, code: str = "2823-3", value: float = 4.1,
                **members: Any) -> Json:  # fmt: skip
    return {
        "resourceType": "Observation", "id": id, "status": "final",
        "category": [{"coding": [{"system": CATEGORY, "code": LAB}]}],
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{of}"},
        "performer": [{"reference": f"Organization/{by}"}],
        "effectiveDateTime": "2026-11-18T08:00:00+08:00", "issued": "2026-11-18T10:00:00+08:00",
        "valueQuantity": {"value": value, "unit": "mmol/L", "code": "mmol/L",
                          "system": "http://unitsofmeasure.org"},
        **members,
    }  # fmt: skip


def report(id: str, of: str, by: str, *results: str, **members: Any) -> Json:
    return {
        "resourceType": "DiagnosticReport", "id": id, "status": "final",
        "code": {"coding": [{"system": LOINC, "code": "24323-8"}], "text": "检验报告"},
        "subject": {"reference": f"Patient/{of}"},
        "performer": [{"reference": f"Organization/{by}"}],
        "effectiveDateTime": "2026-11-18T08:00:00+08:00", "issued": "2026-11-18T10:00:00+08:00",
        "result": [{"reference": f"Observation/{one}"} for one in results], **members,
    }  # fmt: skip


def encounter(id: str, of: str, by: str) -> Json:
    return {
        "resourceType": "Encounter", "id": id, "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": {"reference": f"Patient/{of}"},
        "serviceProvider": {"reference": f"Organization/{by}"},
        "period": {"start": "2026-11-20T08:00:00+08:00"},
    }  # fmt: skip


def order(id: str, of: str, by: str, code: str = "2823-3") -> Json:
    return {
        "resourceType": "ServiceRequest", "id": id, "status": "active", "intent": "order",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": f"Patient/{of}"},
        "requester": {"reference": f"Organization/{by}"}, "authoredOn": "2026-11-20",
    }  # fmt: skip


def consent(id: str, of: str, encounter: str, recipient: str, source: str, by: str) -> Json:
    """One encounter's permit: a recipient may see what a source holds."""
    participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

    def actor(role: str, who: str) -> Json:
        return {"role": {"coding": [{"system": participation, "code": role}]},
                "reference": {"reference": f"Organization/{who}"}}  # fmt: skip

    return {
        "resourceType": "Consent", "id": id, "status": "active",
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope",
                              "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": LOINC, "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{of}"}, "dateTime": "2026-11-20T08:30:00+08:00",
        "performer": [{"reference": f"Patient/{of}"}],
        "organization": [{"reference": f"Organization/{by}"}],
        "provision": {
            "type": "permit", "actor": [actor("PRCP", recipient), actor("CST", source)],
            "data": [{"meaning": "instance",
                      "reference": {"reference": f"Encounter/{encounter}"}}],
        },
    }  # fmt: skip


def condition(id: str, of: str, code: str, text: str) -> Json:
    return {
        "resourceType": "Condition", "id": id, "subject": {"reference": f"Patient/{of}"},
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": code}],
                 "text": text},
        "recordedDate": "2026-11-18",
    }  # fmt: skip


HIV = "56888-1"

#: What every viewer of the first pair may see, or some of them: the same in both worlds.
SEEN: Mapping[str, tuple[Json, ...]] = {
    "a": (
        patient("p1a", "测试甲", 1), patient("p3", "测试丙", 3),
        encounter("e1", "p1a", "a"), order("s1", "p1a", "a"), order("s3", "p3", "a", "2951-2"),
        *(observation(f"oa{n}", "p1a", "a", ("2823-3", "2951-2", "718-7")[n % 3], 3.5 + n / 10)
          for n in range(6)),
        *(observation(f"o3{n}", "p3", "a", "2823-3", 4 + n / 10) for n in range(4)),
        observation("oa-vital", "p1a", "a", "8867-4", 71,
                    category=[{"coding": [{"system": CATEGORY, "code": "vital-signs"}]}]),
        report("ra", "p1a", "a", "oa0", "oa1"), condition("ca", "p1a", "I10", "高血压"),
        {"resourceType": "Practitioner", "id": "da", "name": [{"text": "测试医生"}]},
        {"resourceType": "Task", "id": "ta", "status": "requested", "intent": "order",
         "for": {"reference": "Patient/p1a"}, "owner": {"reference": "Organization/a"},
         "requester": {"reference": "Organization/a"}},
        consent("ka", "p1a", "e1", "a", "b", "a"),
    ),
    "b": (
        patient("p1b", "测试甲", 1),
        *(observation(f"ob{n}", "p1b", "b", ("2823-3", "2951-2")[n % 2], 4 + n / 10)
          for n in range(4)),
        report("rb", "p1b", "b", "ob0", "ob1"),
        {"resourceType": "Practitioner", "id": "db", "name": [{"text": "测试医师"}]},
    ),
    "c": ({"resourceType": "Practitioner", "id": "dc", "name": [{"text": "测试大夫"}]},),
}  # fmt: skip

#: What a does not see: rows of c without consent, a sensitive class, other persons.
HIDDEN: Mapping[str, tuple[Json, ...]] = {
    "b": (
        observation("ob-hiv", "p1b", "b", HIV, 1), condition("cb-hiv", "p1b", "B20", "艾滋病"),
        patient("p2", "测试乙", 2), encounter("e2", "p2", "b"), order("s2", "p2", "b"),
        patient("p6", "测试壬", 6),
        *(observation(f"o2{n}", "p2", "b", "2823-3", 5 + n / 10) for n in range(5)),
        report("r2", "p2", "b", "o20", "o21"), condition("c2", "p2", "E11", "糖尿病"),
        consent("k2", "p2", "e2", "b", "c", "b"),
        {"resourceType": "Task", "id": "t2", "status": "requested", "intent": "order",
         "for": {"reference": "Patient/p2"}, "owner": {"reference": "Organization/b"},
         "requester": {"reference": "Organization/b"}},
    ),
    "c": (
        patient("p1c", "测试甲", 1, telecom=[{"system": "phone", "value": "10000000001"}]),
        *(observation(f"oc{n}", "p1c", "c", "2823-3", 6 + n / 10) for n in range(4)),
        report("rc", "p1c", "c", "oc0", "oc1"), condition("cc", "p1c", "C50", "乳腺癌"),
    ),
}  # fmt: skip

#: What is made different in the second world; in the first, versions of the same are added.
OTHER: Mapping[str, tuple[Json, ...]] = {
    "b": (
        observation("ob-hiv", "p1b", "b", HIV, 9, status="amended"),
        observation("ob-hiv2", "p1b", "b", HIV, 3), patient("p2", "测试戊", 2, gender="male"),
        patient("p4", "测试丁", 4), encounter("e4", "p4", "b"),
        *(observation(f"o4{n}", "p4", "b", "2951-2", 7 + n / 10) for n in range(7)),
        *(observation(f"o2{n}", "p2", "b", "718-7", 9 + n / 10) for n in range(3)),
        condition("cb-hiv", "p1b", "B24", "艾滋病"),
    ),
    "c": (
        patient("p1c", "测试甲", 1, maritalStatus={"text": "已婚"},
                telecom=[{"system": "phone", "value": "10000000009"}]),
        *(observation(f"oc{n}", "p1c", "c", "2951-2", 1 + n / 10) for n in range(3)),
        observation("oc-new", "p1c", "c", "718-7", 99), condition("cc", "p1c", "I21", "心肌梗死"),
        encounter("ec", "p1c", "c"), order("sc", "p1c", "c"),
    ),
}  # fmt: skip
GONE: Mapping[str, tuple[str, ...]] = {
    "b": ("Observation/o24", "Task/t2", "Consent/k2"),
    "c": ("DiagnosticReport/rc", "Observation/oc3"),
}


def actors_of(world: World, names: Iterable[str]) -> dict[str, Actor]:
    """The systems of institutions."""
    return {name: world.actor(role="institution", institution=name) for name in names}


def twins(databases: Databases, *, rules: bool = True) -> tuple[World, World]:
    """Two worlds that differ in what institution a does not see."""
    base = World(databases, "base", policy=SHIPPED)
    for id, name in INSTITUTIONS.items():
        base.running.institution(id, name)
    if rules:
        base.running.run(publish.activate(base.gateway, "1.0.0", demonstration=True))
    systems = actors_of(base, INSTITUTIONS)
    for held in (SEEN, HIDDEN):
        for owner, resources in held.items():
            base.store(systems[owner], *resources)
    base.close()
    for name in ("first", "second"):
        copy(databases, "base", name)
    first, second = (World(databases, name, policy=SHIPPED) for name in ("first", "second"))
    for owner, resources in HIDDEN.items():
        first.store(systems[owner], *resources[:2])
    for owner, names in GONE.items():
        second.remove(systems[owner], *names)
    for owner, resources in OTHER.items():
        second.store(systems[owner], *resources)
        for _ in range(3):
            second.set_up(systems[owner], Request("look", "GET", "Observation?patient=p1c"))
    return first, second


def copy(databases: Databases, source: str, target: str) -> None:
    """A copy of a database that nobody has open."""
    if databases.driver == "sqlite":
        for file in databases.folder.glob(f"{source}.sqlite*"):
            if file.is_file():
                name = file.name.replace(source, target, 1)
                shutil.copy(file, databases.folder / name)
    else:
        databases._made[target] = postgres().create(databases._made[source])
