"""Every byte about a person that left has its record, and every record its answer (fault 152)."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from city import ORDINARY, POTASSIUM, SODIUM, UUID, City, order
from databases import Databases
from effort import TORTURE
from recorder import Recorder, acts_of, named_by, named_in
from running import BASE, Running

from fhir_gateway.errors import Unavailable
from fhir_gateway.interactions.jobs import work_once
from fhir_gateway.rest.later import WORKS

Json = dict[str, Any]

#: No person: an id that refusals name.
NOBODY = "nobody"

#: Requests of a run; the torture run is the one that promises.
MANY = 100_000 if TORTURE else 120


class World:
    """The city with a recorder in front: some people, and ways to ask about them."""

    def __init__(self, database: Databases) -> None:
        self.running = Running(database.url("complete"), hook_deadline_ms=60_000)
        self.city = City(self.running)
        self.people = [self.city.patient() for _ in range(4)]
        self.results = [
            self.city.result(person, item)
            for person in self.people[:3]
            for item in (POTASSIUM, SODIUM)
        ]
        self.recorder = Recorder(
            self.running, lambda: database.rows("SELECT t FROM clock", "complete")[0][0]
        )
        self.tags = ['W/"1"', 'W/"2"']

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        who = self.city.receiver if "hooks" in path or "$recognize" in path else self.city.sender
        return self.recorder.send(method, path, body, **who, **headers)


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    one = World(shared_database)
    yield one
    one.recorder.close()
    one.running.close()


Way = Callable[[World, random.Random], Any]


def _get(path: str, method: str = "GET", **headers: str) -> Way:
    def way(world: World, dice: random.Random) -> Any:
        shown = path.format(
            person=dice.choice([*world.people, NOBODY]), result=dice.choice(world.results)
        )
        return world.ask(method, f"/fhir/{shown}", **headers)

    return way


def _post(path: str, make: Callable[[World, random.Random], Any]) -> Way:
    return lambda world, dice: world.ask("POST", path, make(world, dice))


def _batch(world: World, dice: random.Random) -> Json:
    paths = ["Patient/{0}", "Observation?patient={0}", "Patient/{0}/_history", "Patient?_count=2"]
    entries = [
        {"request": {"method": "GET", "url": path.format(dice.choice(world.people))}}
        for path in dice.sample(paths, 3)
    ]
    return {"resourceType": "Bundle", "type": "batch", "entry": entries}


def _recognize(world: World, dice: random.Random) -> Json:
    reference = {"reference": f"Patient/{dice.choice(world.people)}"}
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueReference": reference},
            {"name": "item", "valueCode": POTASSIUM},
        ],
    }


def _hook(world: World, dice: random.Random) -> Any:
    person = dice.choice(world.people)
    orders = {"resourceType": "Bundle", "entry": [{"resource": order(person)}]}
    context = {"userId": "Practitioner/example", "patientId": person, "draftOrders": orders}
    body = {
        "hook": "order-sign", "hookInstance": UUID, "context": context, "prefetch": ORDINARY,
    }  # fmt: skip
    path = "/cds-services/recognition-order-sign"
    return world.ask("POST", path, body, **{"content-type": "application/json"})


def _created(world: World, dice: random.Random) -> Json:
    return {
        "resourceType": "Observation", "status": "final", "code": {"text": "x"},
        "subject": {"reference": f"Patient/{dice.choice(world.people)}"},
        "performer": [{"reference": "Organization/sender"}],
    }  # fmt: skip


WAYS: tuple[Way, ...] = (
    _get("Patient/{person}"), _get("Patient/{person}", "HEAD"),
    _get("Patient/{person}", **{"if-none-match": 'W/"1"'}),
    _get("Patient/{person}/_history/1"), _get("Patient/{person}/_history"), _get("{result}"),
    _get("{result}/_history"), _get("Patient?_count=3"), _get("Patient?_id={person}"),
    _get("Patient?_summary=count"), _get("Observation?patient={person}"),
    _get("Observation?patient={person}&_summary=count"),
    _get("Observation?patient={person}&_include=Observation:subject"),
    _get("Patient?_id={person}&_revinclude=Observation:patient"),
    _get("DiagnosticReport?patient={person}&_include=DiagnosticReport:result"),
    _get("Observation?subject:Patient.name=x&patient={person}"),
    _get("Patient/{person}/Observation"), _get("Patient/{person}/*?_type=Observation"),
    _get("Patient/{person}/$everything"), _get("Patient/{person}/$prior-results"),
    _get("Patient/{person}/$accesses"), _get("Patient/{person}/$meta"),
    _get("Observation/$lastn?patient={person}"), _get("Patient/_history?_count=5"),
    _get("_history?_count=5"), _get("Observation?patient={person}", accept="application/fhir+xml"),
    _get("Provenance?target={result}"), _get("Patient/{person}?_elements=id"),
    _get("GuidanceResponse?patient={person}"), _get("AuditEvent?patient={person}"),
    _get("Patient/{person}/Nonsense"), _get("Patient?nonsense=1"),
    _post("/fhir/", _batch), _post("/fhir/Observation", _created),
    _post("/fhir/ServiceRequest/$recognize", _recognize), _hook,
)  # fmt: skip


def orphans(world: World) -> list[str]:
    """Every disagreement between what was told and what is on record."""
    recorded: dict[str, list[Any]] = defaultdict(list)
    for place, act in acts_of(world.running):
        recorded[act.request].append((place, act))
    found = []
    for told in world.recorder.told:
        events = recorded[told.request]
        named = {one for _, act in events for one in named_by(act)}
        late = [place for place, act in events if place[0] > told.at]
        if missing := told.named - named - {NOBODY}:
            found.append(f"{told.asked}: {missing} told without a record")
        if late:
            found.append(f"{told.asked}: recorded after the first byte: {late}")
        unasked = {one for one in named - told.named if one not in told.asked}
        if unasked and told.status < 300 and "HEAD" not in told.asked and not _counts(told.asked):
            found.append(f"{told.asked}: {unasked} recorded and not told")
        if not events:
            found.append(f"{told.asked}: {told.status} without any record")
    return found


def _counts(asked: str) -> bool:
    """Answers that tell of somebody without a name, or in another form than JSON."""
    return any(one in asked for one in ("_summary=count", "_history", "{result}", "Provenance"))


def test_152_every_answer_and_every_record_meet(world: World) -> None:
    dice = random.Random(152)
    ways = [*WAYS, *(dice.choice(WAYS) for _ in range(MANY - len(WAYS)))]
    for way in ways:
        way(world, dice)
    assert len(world.recorder.told) >= MANY * 0.9
    assert "\n".join(orphans(world)) == ""


@pytest.mark.parametrize("fault", [Unavailable("The disk is full", rule="disk"), OSError(28, "x")])
def test_151_what_cannot_be_recorded_is_not_told(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    dice = random.Random(151)

    async def failing(*arguments: Any, **named: Any) -> Any:
        raise fault

    monkeypatch.setattr(type(world.running.gateway.store), "commit", failing)
    for way in WAYS:
        answer = way(world, dice)
        told = world.recorder.told[-1]
        if "cds-services" in told.asked:  # an order never waits: an answer that tells nothing
            assert answer.status_code == 200
            assert not named_in(answer.text)
            assert "3.95" not in answer.text
        elif told.asked.startswith("/fhir/ ") and answer.status_code == 200:  # entry by entry
            entries = answer.json()["entry"]
            assert {one["response"]["status"][:1] for one in entries} == {"5"}
            assert not any("resource" in one for one in entries)
        else:
            assert answer.status_code >= 500, (told.asked, answer.text)
            assert not named_in(answer.text)
    world.recorder.told.clear()


def test_141_a_slow_log_slows_answers_and_leaves_none_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = type(world.running.gateway.store)
    whole, dice, slept = store.commit, random.Random(141), 0

    async def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal slept
        slept += 1
        await asyncio.sleep(0.005)
        return await whole(*arguments, **named)

    monkeypatch.setattr(store, "commit", slow)
    world.recorder.told.clear()
    for way in WAYS:
        way(world, dice)
    assert slept >= len(WAYS)
    assert "\n".join(orphans(world)) == ""


def test_152_exports_and_late_answers_meet_the_ledger(world: World) -> None:
    late = {"prefer": "respond-async"}
    places = [
        world.ask("GET", f"/fhir/{path}", **late).headers["content-location"].removeprefix(BASE)
        for path in ("$export?_type=Patient,Observation", "Observation?patient=" + world.people[0])
    ]
    while world.running.run(work_once(world.running.gateway, WORKS)):
        pass
    for place in places:
        before = [act for _, act in acts_of(world.running)]
        answer = world.ask("GET", place)
        assert answer.status_code == 200, answer.text
        texts = [answer.text] if "entry" in answer.json() else []
        for file in answer.json().get("output", ()):
            texts.append(world.ask("GET", file["url"].removeprefix(BASE)).text)
        told = {one for text in texts for one in named_in(text)}
        assert told
        assert told <= {one for act in before for one in named_by(act)}
        job = place.rpartition("/")[2]
        handed = [act for _, act in acts_of(world.running) if act.file.startswith(f"{job}/")]
        assert len(handed) == len(texts)


def test_152_who_was_refused_is_on_record_too(world: World) -> None:
    stranger = world.recorder.send("GET", f"/fhir/Patient/{world.people[0]}")
    assert stranger.status_code == 401  # nobody: counted, and nothing told
    refused = world.ask("GET", "/fhir/Patient/nobody")
    assert refused.status_code == 404
    (act,) = [act for _, act in acts_of(world.running)
              if act.request == world.recorder.told[-1].request]  # fmt: skip
    assert (act.kind, act.outcome, act.said) == ("refusal", "4", "404 not-found")
