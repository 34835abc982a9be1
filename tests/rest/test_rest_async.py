"""Prefer: respond-async on other requests: the same answer, later (async-bundle.html of R5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from export_cases import Bulk, Json, observation, patient, put
from running import BASE, Running


@pytest.fixture
def bulk(start: Callable[..., Running]) -> Bulk:
    """A client of a gateway of its own, with a little in it."""
    running = start(open_access=True)
    put(running, patient("p1"), patient("p2"))
    put(running, *(observation(id, "p1") for id in "abc"))
    return Bulk(running)


def entry(bulk: Bulk, path: str) -> Json:
    """The one entry of the answer that came later."""
    place = bulk.accepted(path)
    waiting = bulk.get(place)
    assert (waiting.status_code, waiting.headers["retry-after"]) == (202, "1")
    bulk.work()
    answer = bulk.get(place)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert "expires" in answer.headers
    bundle = answer.json()
    assert bundle["type"] == "batch-response"
    (one,) = bundle["entry"]
    found: Json = one
    return found


@pytest.mark.parametrize(
    "path",
    ["Observation?subject=Patient/p1&_count=2", "Patient?_id=p1,p2", "Patient/p1/$everything",
     "Observation/a/_history"],
)  # fmt: skip
def test_the_answer_is_what_it_would_have_been_at_once(bulk: Bulk, path: str) -> None:
    later = entry(bulk, path)
    assert later["response"] == {"status": "200 OK"}
    assert later["resource"] == bulk.get(f"/fhir/{path}").json()


def test_what_is_refused_later_says_why(bulk: Bulk) -> None:
    later = entry(bulk, "Observation?statsu=final")
    assert later["response"]["status"] == "400 Bad Request"
    now = bulk.get("/fhir/Observation?statsu=final")
    assert later["response"]["outcome"] == now.json()


def test_lenient_handling_goes_along(bulk: Bulk) -> None:
    lenient = "handling=lenient"
    answer = bulk.kick("Observation?statsu=final", prefer=f"{lenient}, respond-async")
    place = answer.headers["content-location"].removeprefix(BASE)
    bulk.work()
    (one,) = bulk.get(place).json()["entry"]
    assert one["response"]["status"] == "200 OK"
    assert one["resource"] == bulk.get("/fhir/Observation?statsu=final", prefer=lenient).json()


def test_what_is_quick_is_answered_at_once(bulk: Bulk) -> None:
    assert bulk.kick("Patient/p1").status_code == 200
    assert bulk.kick("metadata").status_code == 200
    head = bulk.running.request("HEAD", "/fhir/Patient?_id=p1", headers={"prefer": "respond-async"})
    assert head.status_code == 200


def test_a_cancelled_request_is_gone(bulk: Bulk) -> None:
    place = bulk.accepted("Patient?_id=p1")
    assert bulk.delete(place).status_code == 202
    assert (bulk.work(), bulk.get(place).status_code) == (0, 404)


def test_answers_are_their_owner_s(start: Callable[..., Running]) -> None:
    running = start()
    one, other = (Bulk(running, running.institution(id)) for id in ("h1", "h2"))
    place = one.accepted("Patient?_id=p1")
    one.work()
    assert (one.get(place).status_code, other.get(place).status_code) == (200, 404)
