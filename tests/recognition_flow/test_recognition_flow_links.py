"""Links in decisions: confirmed homes are read, an open proposal makes doubtful, replay agrees."""

from __future__ import annotations

from typing import Any

from city import POTASSIUM, SODIUM, City, order, outcomes, said

from fhir_gateway.fhir.wire import parse
from fhir_gateway.identity import review, review_propose
from fhir_gateway.identity.link import pair, pair_id
from fhir_gateway.identity.review_propose import Proposal
from fhir_gateway.recognition.recorded import Recorded, recorded_of
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS, Access
from fhir_gateway.store.store import Reader

BY = review.reviewer("赵审核")


def two(city: City) -> tuple[str, str]:
    """Two records of one person, whom nothing but a reviewer can link."""
    return city.patient(), city.patient()


def propose(city: City, one: str, other: str, grade: Any = "probable") -> str:
    """An open question about two records; its id."""
    proposal = Proposal(pair(one, other), "confirm-identity", grade, 0.95, "name=same")
    assert city.running.run(review_propose.propose(city.gateway, proposal)) == "asked"
    return pair_id(pair(one, other))


def answer(city: City, id: str, verb: Any) -> None:
    city.running.run(review.decide(city.gateway, GATEWAY, id, verb, BY))


def recorded(city: City, told: dict[str, Any]) -> Recorded:
    """The decision as it is kept."""

    async def read() -> Any:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            id = said(told, "decision")["reference"].partition("/")[2]
            return recorded_of(await reader.read("GuidanceResponse", id))

    found: Recorded = city.running.run(read())
    return found


def agrees(city: City, told: dict[str, Any]) -> bool:
    done = city.operate(f"{said(told, 'decision')['reference']}/$replay")
    return bool(said(done.json(), "agrees"))


def test_a_confirmed_link_lets_the_other_records_result_be_recognised(city: City) -> None:
    one, other = two(city)
    found = city.result(other)
    before = city.recognize(one, POTASSIUM)
    id = propose(city, one, other)
    answer(city, id, "confirm")
    linked = city.recognize(one, POTASSIUM)
    city.running.run(review.unlink(city.gateway, GATEWAY, id, BY))
    after = city.recognize(one, POTASSIUM)
    chosen = [recorded(city, told).lines[0].items[0].result for told in (before, linked, after)]
    assert chosen == ["", found, ""]
    assert outcomes(linked)[0][0] == "recognize"
    assert outcomes(after) == outcomes(before)
    homes = [recorded(city, told).inputs.query.homes for told in (before, linked, after)]
    assert [len(one) for one in homes] == [0, 2, 0]
    assert all(agrees(city, told) for told in (before, linked, after))


def test_an_open_proposal_makes_doubtful_only_where_the_other_has_a_result(city: City) -> None:
    one, other = two(city)
    city.result(one)
    city.result(other)
    city.result(one, SODIUM)
    id = propose(city, one, other)
    told = city.recognize(one, POTASSIUM)
    assert outcomes(told)[0][0] == "cannot-decide"
    assert recorded(city, told).inputs.query.identity.doubtful
    without = city.recognize(one, SODIUM)
    assert not recorded(city, without).inputs.query.identity.doubtful
    assert outcomes(without)[0][0] == "recognize"
    answer(city, id, "reject")
    decided = city.recognize(one, POTASSIUM)
    assert outcomes(decided)[0][0] == "recognize"
    assert all(agrees(city, one) for one in (told, without, decided))


def test_a_possible_proposal_lowers_nothing(city: City) -> None:
    one, other = two(city)
    city.result(one)
    city.result(other)
    propose(city, one, other, "possible")
    assert outcomes(city.recognize(one, POTASSIUM))[0][0] == "recognize"


def test_identifiers_of_linked_records_do_not_contradict_each_other(city: City) -> None:
    one, other = two(city)
    found = city.result(other)
    numbers = [
        city.running.get(f"/fhir/Patient/{id}", headers=city.receiver).json()["identifier"][0]
        for id in (one, other)
    ]
    hook = {"patient": {"resourceType": "Patient", "id": one, "identifier": numbers}}
    before = city.hook(one, order(one), prefetch=hook).text
    answer(city, propose(city, one, other), "confirm")
    after = city.hook(one, order(one), prefetch=hook).text
    assert found.partition("/")[2] not in before
    assert found.partition("/")[2] in after


def test_a_link_tells_nobody_what_they_may_not_see(city: City) -> None:
    """Whoever sees the rows of one institution alone learns of no record, question or link."""
    one, other = two(city)
    city.result(other)
    id = propose(city, one, other)
    answer(city, id, "confirm")
    open_id = propose(city, one, city.patient())

    async def seen(reader: Reader) -> Any:
        homes = (await reader.person(one) or await reader.person(other)).homes  # type: ignore[union-attr]  # one is there
        return (
            await reader.person_records(homes),
            [len(await reader.facts(homes, [POTASSIUM], reader.t))],
            [await reader.read(type, name) for type in ("Linkage", "Task")
             for name in (id, open_id)],
        )  # fmt: skip

    async def look(access: Access) -> Any:
        async with city.gateway.store.snapshot(access) as reader:
            return await seen(reader)

    async def owner() -> int:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            stored = await reader.read("Patient", one)
            assert stored is not None and parse(stored.whole())["id"] == one
            return stored.owner

    mine = Access(owners=frozenset({city.running.run(owner())}))
    records, facts, written = city.running.run(look(mine))
    assert (sorted(records), facts) == (sorted([one, other]), [1])  # both are the sender's own
    assert written == [None] * 4
    whole = city.running.run(look(SYSTEM_ACCESS))
    assert all(stored is not None for stored in whole[2])
