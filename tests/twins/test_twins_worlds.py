"""Non-interference: two worlds that differ only in what a caller may not see answer alike.

faults.md 51 to 54, 57 and 63: the same random requests in both, compared byte by byte, next pages
too. In CI a thousand requests, in torture a hundred times as many.
"""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import apsw
import pytest
from effort import TORTURE
from twin_requests import requests
from twin_world import DOCUMENT, Answer, Request, World, id_number, masked, twins

from fhir_gateway.interactions import batch

#: Requests of each caller on each store.
COUNT = {"sqlite": 160, "postgresql": 90}
TIMES = 100 if TORTURE else 1
#: Pages that are followed from each answer.
PAGES = 3

CALLERS = {
    "system": {"role": "institution", "institution": "a", "client": "his"},
    "clinician": {"role": "clinician", "institution": "a", "user": "Practitioner/da"},
    "patient": {"role": "patient", "patient": "p3", "user": "Patient/p3"},
    "scoped": {
        "role": "institution", "institution": "a",
        "scopes": ("system/Observation.rs?code=2951-2", "system/Patient.rs", "system/Task.cruds",
                   "system/DiagnosticReport.rs"),
    },
}  # fmt: skip


class Statements:
    """The statements that connections of SQLite run, while it counts."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.counts = False

    def hook(self, connection: apsw.Connection) -> None:
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, self._note)

    def _note(self, event: dict) -> None:
        if self.counts:
            self.seen[event["sql"]] += 1

    def of(self, world: World, request: Request, number: int) -> Counter[str]:
        """What one request runs."""
        actor = world.actor(**CALLERS["system"])
        self.seen, self.counts = Counter(), True
        world.ask(actor, request, number)
        self.counts = False
        return self.seen


STATEMENTS = Statements()


@pytest.fixture(scope="module")
def worlds(shared_database):
    """Both worlds; what their connections run can be counted."""
    apsw.connection_hooks.append(STATEMENTS.hook)
    width, batch._WIDTH = batch._WIDTH, 1  # side by side, entries draw ids in the order of threads
    try:
        first, second = twins(shared_database)
        yield first, second
        first.close()
        second.close()
    finally:
        batch._WIDTH = width
        apsw.connection_hooks.remove(STATEMENTS.hook)


def _alone(answer: Answer) -> Answer:
    """The answer without what counts the requests before it."""
    passing = (b"ratelimit", b"x-request-id")
    kept = (one for one in masked(answer).headers if not one[0].startswith(passing))
    return masked(answer)._replace(headers=tuple(kept))


def _next(answer: Answer) -> Request | None:
    if answer.next is None:
        return None
    parts = urlsplit(answer.next)
    return Request("page", "GET", f"{parts.path}?{parts.query}")


def _differs(first: World, second: World, caller: dict, request: Request, number: int) -> str:
    """Where the answers part; empty when they are the same, page by page."""
    one, other = (first.actor(**caller), second.actor(**caller))
    if one != other:
        return "the callers' Access"
    here: Request | None = request
    there: Request | None = request
    for page in range(PAGES):
        if here is None or there is None:
            return ""
        answers = first.ask(one, here, number + page), second.ask(other, there, number + page)
        if any(answer.status >= 500 for answer in answers):
            return f"page {page}: a fault of ours, {answers[0].body!r}"
        if masked(answers[0]) != masked(answers[1]):
            return f"page {page}:\n{masked(answers[0])}\n{masked(answers[1])}"
        here, there = _next(answers[0]), _next(answers[1])
        if (here is None) != (there is None):
            return f"page {page}: one world has no more"
    return ""


@pytest.mark.parametrize("caller", CALLERS)
def test_053_two_worlds_answer_random_requests_with_the_same_bytes(worlds, driver, caller):
    seed = list(CALLERS).index(caller) + 1
    number = seed * 100_000_000
    for request in requests(seed, COUNT[driver] * TIMES):
        number += PAGES
        why = _differs(*worlds, CALLERS[caller], request, number)
        assert not why, f"{request}\n{why}"


# -- one who knows what he looks for ---------------------------------------------------------------

#: What is asked with a threshold; each would tell the value of an Observation of c, of a sensitive
#: class or of another person if hidden rows were among those that filters go through.
ORACLES = (
    "Patient?_id=p1a&_has:Observation:patient:code-value-quantity=2951-2$gt{x}",
    "Patient?_id=p1a,p1c,p2&_has:Observation:patient:value-quantity=gt{x}&_total=accurate",
    "Observation?patient=p1c&value-quantity=gt{x}&_summary=count",
    "Observation?patient=p1a&value-quantity=gt{x}&_total=accurate&_sort=-date",
    "Observation?code=56888-1&value-quantity=gt{x}",
    "Observation?_id=oc0,oc1,ob-hiv,o20&value-quantity=gt{x}&_sort=_lastUpdated",
    "DiagnosticReport?result.value-quantity=gt{x}&_total=accurate",
    "DiagnosticReport?_id=rc,r2&result.value-quantity=gt{x}",
    "Encounter?patient._has:Observation:patient:value-quantity=gt{x}",
    "Observation?patient=p1a&value-quantity=gt{x}&__explain=true",
    "Observation?value-quantity=gt{x}&code=718-7&__explain=true",
)


def _told(world: World, caller: dict, oracle: str, threshold: float, number: int) -> bytes:
    """What an oracle says for a threshold, without the threshold itself."""
    text = f"{threshold:g}"
    answer = world.ask(world.actor(**caller), Request("o", "GET", oracle.format(x=text)), number)
    return bytes(masked(answer).body.replace(text.encode(), b"x")) + b"%d" % answer.status


def _bisected(world: World, caller: dict, oracle: str, steps: int, number: int) -> list[bytes]:
    """All that an attacker hears who halves the range as long as the answer for the upper half is
    not that for nothing at all."""
    low, high = 0.0, 128.0
    nothing = _told(world, caller, oracle, 1_000, number)
    heard = [nothing]
    for step in range(1, steps):
        middle = (low + high) / 2
        heard.append(_told(world, caller, oracle, middle, number + step))
        low, high = (low, middle) if heard[-1] == nothing else (middle, high)
    return [*heard, b"%g" % low]


@pytest.mark.parametrize("caller", ["system", "patient"])
def test_053_who_halves_ranges_learns_no_hidden_value(worlds, caller):
    steps = 45 if TORTURE else 7
    for place, oracle in enumerate(ORACLES):
        number = 900_000_000 + place * 1_000
        first, second = (
            _bisected(world, CALLERS[caller], oracle, steps, number) for world in worlds
        )
        assert first == second, oracle


def test_054_counts_etags_and_times_are_of_what_is_seen(worlds):
    caller, number = CALLERS["system"], 950_000_000
    for path in (
        "Observation?_summary=count&patient=p1a", "Patient?_total=accurate&_count=1&name=测",
        "Observation/_history?_count=1", "Observation/ob0", "Patient/p1b/_history",
        "_history?_count=2", "Patient?_sort=-_lastUpdated&_count=1&name=测",
    ):  # fmt: skip
        number += 1
        asked = Request("count", "GET", path)
        one, other = (masked(world.ask(world.actor(**caller), asked, number)) for world in worlds)
        assert one == other, path


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "Observation/{}"), ("GET", "Observation/{}/_history"), ("DELETE", "Observation/{}"),
     ("GET", "Observation/{}/_history/1"), ("GET", "Observation/{}/$meta"),
     ("GET", "Patient/{}/$everything"), ("GET", "Patient/{}/$prior-results")],
)  # fmt: skip
def test_051_a_hidden_id_is_answered_as_one_that_nobody_has(worlds, method, path):
    world, caller = worlds[0], CALLERS["system"]
    hidden = "p2" if path.startswith("Patient") else "oc0"
    asked = [Request("id", method, path.format(id)) for id in (hidden, "zz")]
    actor = world.actor(**caller)
    answers = [
        world.ask(actor, one, 960_000_000 + len(path) * 2 + n) for n, one in enumerate(asked)
    ]
    shown = [
        told._replace(body=told.body.replace(id.encode(), b"id"))
        for told, id in zip(map(_alone, answers), (hidden, "zz"), strict=True)
    ]
    assert shown[0] == shown[1]
    assert answers[0].status in (204, 404)


def test_053_an_id_that_somebody_else_chose_is_refused_and_not_overwritten(worlds):
    """What cannot be hidden: who chooses ids himself learns that one is taken (docs/adr/0041)."""
    world = worlds[0]
    actor = world.actor(**CALLERS["system"])
    body = {"resourceType": "Task", "id": "t2", "status": "requested", "intent": "order"}
    answer = world.ask(actor, Request("put", "PUT", "Task/t2", body), 970_000_000)
    assert answer.status == 409
    owner = world.actor(role="institution", institution="b")
    kept = world.ask(owner, Request("get", "GET", "Task/t2"), 970_000_001)
    assert b'"versionId":"2"' not in kept.body
    assert b"Organization/b" in kept.body


def test_057_a_reference_to_what_is_hidden_is_refused_as_one_to_nothing(worlds):
    world = worlds[0]
    actor = world.actor(**CALLERS["system"])
    told = []
    for id in ("p2", "zz"):
        body = {"resourceType": "Encounter", "status": "planned", "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/{id}"}}  # fmt: skip
        asked = Request("post", "POST", "Encounter", body)
        told.append(_alone(world.ask(actor, asked, 980_000_000 + len(told))))
    assert told[0] == told[1]
    assert told[0].status == 422


# -- the same work for who is hidden and who is not there ------------------------------------------

#: Of another person, whom the caller does not see, and of nobody.
FORBIDDEN, MISSING = 6, 9

LOOKUPS = {
    "identifier": lambda n: Request("s", "GET", f"Patient?identifier={DOCUMENT}|{id_number(n)}"),
    "name": lambda n: Request("s", "GET", f"Patient?name=测试{'壬' if n == FORBIDDEN else '癸'}"),
    "read": lambda n: Request("r", "GET", f"Patient/p{n}"),
    "pix": lambda n: Request(
        "p", "GET", f"Patient/$ihe-pix?sourceIdentifier={DOCUMENT}%7C{id_number(n)}"
    ),
}  # fmt: skip


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("lookup", LOOKUPS)
def test_058_who_is_hidden_takes_the_same_statements_as_who_is_not_there(worlds, lookup):
    """Counted and not timed; the statements of PostgreSQL come of the same generators."""
    world, make = worlds[0], LOOKUPS[lookup]
    STATEMENTS.of(world, make(8), 999_000_000)  # what is read once is read
    forbidden = STATEMENTS.of(world, make(FORBIDDEN), 999_000_001)
    missing = STATEMENTS.of(world, make(MISSING), 999_000_002)
    assert forbidden == missing
    assert sum(missing.values()) > 0
