"""Labelled pairs of Patient records: of one person, or of two that are easily taken for one.

`MATCHES` and `OTHERS` are tables of the kinds of pairs and how often each comes. The same seed
makes the same pairs; `python -m bench.identity` fits the weights and prints precision and recall.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, NamedTuple

from identity_errors import Draft, blunder, draft, slip
from identity_people import Person, World, with_check


class Pair(NamedTuple):
    """Two Patients, whether they are one person, and the kind of the pair."""

    one: dict[str, Any]
    other: dict[str, Any]
    same: bool
    kind: str


Two = tuple[Draft, Draft]


def _drafts(world: World, one: Person, other: Person) -> Two:
    """Two records of two hospitals, with errors."""
    chance = world.chance
    return (
        blunder(draft(one, chance, "a"), chance),
        blunder(draft(other, chance, "b"), chance),
    )


# -- one person ----------------------------------------------------------------------------------


def _two_hospitals(world: World) -> Two:
    person = world.person()
    return _drafts(world, person, person)


def _careful(world: World) -> Two:
    person = world.person()
    return draft(person, world.chance, "a"), draft(person, world.chance, "b")


def _one_hospital(world: World) -> Two:
    """Registered twice under one number."""
    one, other = _two_hospitals(world)
    return one, replace(other, institution="a", number=one.number)


def _without_documents(world: World) -> Two:
    one, other = _two_hospitals(world)
    return replace(one, card="", passport=""), replace(other, card="", passport="")


def _one_fault(world: World) -> Two:
    """Both hospitals copied one wrong number from one paper."""
    one, other = _two_hospitals(world)
    card = slip(one.person.card, world.chance)
    return replace(one, card=card), replace(other, card=card)


def _named_since(world: World) -> Two:
    """A newborn that was given a name."""
    person = world.child(_mother(world))
    one, other = _drafts(world, person, person)
    word = "之子" if person.sex == "male" else "之女"
    return replace(one, name=person.mother + word, parts=None, card=""), other


# -- two people ----------------------------------------------------------------------------------


def _mother(world: World) -> Person:
    born = date(1950, 1, 1) + timedelta(days=world.chance.randrange(13_000))
    return world.person(kind="card", sex="female", born=born)


def _strangers(world: World) -> Two:
    return _drafts(world, world.person(), world.person())


def _same_name(world: World) -> Two:
    one = world.person(kind="card")
    other = world.person(kind="card", family=one.family, given=one.given)
    return _drafts(world, one, other)


def _same_name_and_day(world: World) -> Two:
    one = world.person(kind="card")
    other = world.person(
        kind="card", family=one.family, given=one.given, born=one.born, sex=one.sex
    )
    return _drafts(world, one, other)


def _twins(world: World) -> Two:
    return _drafts(world, *world.twins(_mother(world)))


def _newborn_twins(world: World) -> Two:
    """Both without a name of their own, some on the mother's card."""
    mother = _mother(world)
    first, second = world.twins(mother)
    card = mother.card if world.chance.random() < 0.5 else ""
    words = ("之大双", "之小双") if world.chance.random() < 0.5 else ("之子", "之子")
    return tuple(  # type: ignore[return-value]
        replace(one, name=mother.name + word, parts=None, card=card, born=first.born.isoformat())
        for one, word in zip(_drafts(world, first, second), words, strict=True)
    )


def _mother_and_newborn(world: World) -> Two:
    """The child has the mother's card and phone, and often her name."""
    mother = _mother(world)
    child = world.child(mother)
    one, other = _drafts(world, mother, child)
    name = mother.name + world.chance.choice(("之子", "之女", "之婴", "婴儿", ""))
    born = child.born.isoformat()
    return one, replace(other, card=mother.card, name=name, parts=None, born=born)


def _siblings(world: World) -> Two:
    mother = _mother(world)
    one = world.child(mother)
    return _drafts(world, one, world.child(mother, family=one.family))


def _parent_and_child(world: World) -> Two:
    mother = _mother(world)
    return _drafts(world, mother, world.child(mother, family=mother.family))


def _couple(world: World) -> Two:
    one = world.person(kind="card")
    other = world.person(kind="card", home=one.home, address=one.address, phone=one.phone)
    return _drafts(world, one, other)


def _borrowed_card(world: World) -> Two:
    """Somebody was registered with another person's card."""
    one, other = _strangers(world)
    return one, replace(other, card=one.card or one.person.card)


def _used_number(world: World) -> Two:
    """A number of a hospital that was given out twice."""
    one, other = _strangers(world)
    return one, replace(other, institution="a", number=one.number)


def _near_numbers(world: World) -> Two:
    """Two people of one day whose numbers differ in the order and the check digit alone."""
    one = world.person(kind="card")
    other = world.person(kind="card", born=one.born, sex=one.sex)
    body = one.card[:14] + other.card[14:17]
    return _drafts(world, one, replace(other, card=with_check(body)))


def _same_latin_name(world: World) -> Two:
    one = world.person(kind="foreign")
    return _drafts(world, one, world.person(kind="foreign", family=one.family, given=one.given))


#: Kinds of pairs of one person and how often they come.
MATCHES: Mapping[Callable[[World], Two], int] = {
    _two_hospitals: 70, _careful: 10, _one_hospital: 5, _without_documents: 12, _named_since: 2,
    _one_fault: 1,
}  # fmt: skip
#: Kinds of pairs of two people; most are chosen because they look like one.
OTHERS: Mapping[Callable[[World], Two], int] = {
    _strangers: 10, _same_name: 15, _same_name_and_day: 8, _twins: 15, _newborn_twins: 6,
    _mother_and_newborn: 12, _siblings: 8, _parent_and_child: 6, _couple: 5, _borrowed_card: 6,
    _used_number: 3, _near_numbers: 4, _same_latin_name: 2,
}  # fmt: skip


def pairs(seed: int, count: int, *, same: float = 0.5) -> Iterator[Pair]:
    """So many labelled pairs; `same` is the share of those of one person."""
    world, chance = World(seed), random.Random(seed)
    tables = {True: _weighted(MATCHES), False: _weighted(OTHERS)}
    for _ in range(count):
        label = chance.random() < same
        make = chance.choices(*tables[label])[0]
        one, other = make(world)
        first, second = one.patient(), other.patient()
        if chance.random() < 0.5:
            first, second = second, first
        yield Pair(first, second, label, make.__name__.removeprefix("_").replace("_", "-"))


def _weighted(table: Mapping[Any, int]) -> tuple[list[Any], list[int]]:
    return list(table), list(table.values())


def population(seed: int, count: int) -> list[dict[str, Any]]:
    """Records of so many people of one city, each once; a third live with their relatives."""
    world = World(seed)
    people: list[Person] = []
    while len(people) < count:
        mother = _mother(world)
        people.append(mother)
        if world.chance.random() < 0.2:
            people.append(world.child(mother))
        people.append(world.person())
    return [blunder(draft(one, world.chance), world.chance).patient() for one in people[:count]]
