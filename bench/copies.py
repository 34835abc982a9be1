"""Rows of one person, copied from a variant that went through the product's own preparation.

What depends on the person's number is found once: ids and references, identifiers, texts. The rest
of a row stays as the product made it, so a copy is what the product would have stored; `check`
proves it for one person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from bench.people import MARK, RESOURCES, VARIANTS, patient, record
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.fhir.wire import tail
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Fact, Put, ReportLink

Add = Callable[[str, tuple[Any, ...]], None]
_key = key64.__wrapped__  # the product's cache is not for names that are met once
_FOLDED = MARK.lower()
FOREVER = (1 << 63) - 1


class Place(NamedTuple):
    """Where a person's rows begin."""

    t: int
    rid: int
    home: int
    updated: int


class Made(NamedTuple):
    """A prepared resource of a variant. Moving values are named by what they are the key of."""

    put: Put
    tail: bytes
    ints: list[tuple[int, int, int]]
    moving_ints: list[tuple[int, int | str, int | str]]
    texts: list[tuple[int, str]]
    moving_texts: list[tuple[int, str]]
    global_numbers: set[int]


class Copier:
    """The variants of a store, ready to be copied."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._secret = gateway.store.index_key
        self._variants = [
            [_made(gateway, resource) for resource in record(number)] for number in range(VARIANTS)
        ]

    def copy(self, person: int, place: Place, add: Add) -> int:
        """Gives all rows of a person to `add`; returns how many resources they are."""
        number, subject = f"{person:07d}", f"p{person:07d}"
        patient_rows(self._gateway, person, place, add)
        known: dict[str, int] = {}
        variant = self._variants[person % VARIANTS]
        for offset, made in enumerate(variant, 1):
            self._copy_one(
                made, number, subject, place._replace(rid=place.rid + offset), add, known
            )
        return 1 + len(variant)

    def _copy_one(
        self, made: Made, number: str, subject: str, place: Place, add: Add, known: dict[str, int]
    ) -> None:
        put, id = made.put, made.put.id.replace(MARK, number)
        enc, body = pack(made.tail.replace(MARK.encode(), number.encode()))
        row = _resource_row(put, place, place.rid, int(number), subject, enc, body, id)
        _place(add, put, id, place, place.rid, row)
        ints = [
            *made.ints,
            *(
                (parameter, self._value(v1, number, known), self._value(v2, number, known))
                for parameter, v1, v2 in made.moving_ints
            ),
        ]
        texts = [
            *made.texts,
            *((p, text.replace(_FOLDED, number).replace(MARK, number))
              for p, text in made.moving_texts),
        ]  # fmt: skip
        _index(add, ints, texts, made.global_numbers, place.home, place.rid)
        self._facts(put, number, subject, place, add)

    def _value(self, value: int | str, number: str, known: dict[str, int]) -> int:
        """The key that a moving value stands for: `=text` of a token, else of a reference."""
        if isinstance(value, int):
            return value
        key = known.get(value)
        if key is None:
            text = value.replace(MARK, number)
            token = text.startswith("=")
            key = known[value] = _key(text[1:], self._secret) if token else _key(text)
        return key

    def _facts(self, put: Put, number: str, subject: str, place: Place, add: Add) -> None:
        t, rid, home, _ = place
        for ordinal, fact in enumerate(put.derived.facts):
            source = fact.source.replace(MARK, number)
            add("fact", fact_row(fact, source, subject, put, place, ordinal))
        for link in put.derived.links:
            name = _LINKED[link.result].replace(MARK, number)
            source = f"{put.type}/{put.id.replace(MARK, number)}"
            row = (home, _key(name), rid, t, FOREVER, link.status, link.issued, source, link.more)
            add("result_of", row)


def patient_rows(gateway: Gateway, person: int, place: Place, add: Add) -> None:
    """Gives the rows of a person's Patient to `add`."""
    subject = f"p{person:07d}"
    put = prepare(gateway, patient(person), op="create", institution="bench-hospital-0")
    resource = _resource_row(put, place, place.rid, person, subject, put.enc, put.body)
    _place(add, put, subject, place, place.rid, resource)
    _index(add, put.derived.ints, put.derived.texts, _globals(put), place.home, place.rid)
    for key, kind in put.derived.identity:
        add("identity", (key, kind, place.home, place.rid))


def fact_row(
    fact: Fact, source: str, subject: str, put: Put, place: Place, ordinal: int
) -> tuple[Any, ...]:
    """The row of a fact that was read from `source`."""
    return (
        place.home, fact.item, fact.time, place.rid, place.t, ordinal, FOREVER, 1, fact.time_high,
        fact.issued, fact.kind, fact.status, fact.issuer, fact.specimen, fact.unit, fact.method,
        fact.value, fact.laterality, fact.flags, fact.mark, source, subject, _key(source),
        put.owner, put.sensitivity, fact.more,
    )  # fmt: skip


#: References of links, by their key: filled while variants are made.
_LINKED: dict[int, str] = {}


def _made(gateway: Gateway, resource: dict[str, Any]) -> Made:
    issuer = _issuer(resource)
    put = prepare(gateway, resource, op="create", institution=issuer)
    names = _names(resource, gateway.store.index_key)
    _LINKED.update(
        (link.result, name)
        for link in put.derived.links
        for key, name in names.items()
        if key == link.result
    )
    still, moving = [], []
    for row in put.derived.ints:
        parameter, v1, v2 = row
        if v1 in names or v2 in names:
            moving.append((parameter, names.get(v1, v1), names.get(v2, v2)))
        else:
            still.append(row)
    texts, moving_texts = [], []
    for parameter, text in put.derived.texts:
        place = moving_texts if _FOLDED in text.lower() else texts
        place.append((parameter, text))
    return Made(put, tail(resource), still, moving, texts, moving_texts, _globals(put))


def _globals(put: Put) -> set[int]:
    rows = [*put.derived.global_ints, *put.derived.global_texts]
    return {row[0] for row in rows}


def _issuer(resource: dict[str, Any]) -> str | None:
    performers = resource.get("performer") or [{}]
    reference: str = performers[0].get("reference", "")
    return reference.partition("/")[2] or None


def _names(value: Any, secret: bytes) -> dict[int, str]:
    """For every text with MARK the keys that it may have become."""
    found: dict[int, str] = {}
    for text in _texts(value):
        if MARK in text:
            found[_key(text)] = text
            found[_key(text, secret)] = f"={text}"
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _resource_row(
    put: Put, place: Place, rid: int, n: int, subject: str, enc: int, body: bytes, id: str = ""
) -> tuple[Any, ...]:
    id = id or put.id
    return (
        place.home, type_key(put.type), rid, id, 1, place.t, n, place.updated, 0, put.owner, 0,
        subject, None, enc, body, _key(f"{put.type}/{id}"),
    )  # fmt: skip


def _place(add: Add, put: Put, id: str, place: Place, rid: int, resource: tuple[Any, ...]) -> None:
    number = type_key(put.type)
    add("locator", (number, id, place.home, rid))
    add("resource", resource)
    n, i = resource[6], rid % (RESOURCES + 1)
    add("change", (place.t, n, i, place.home, number, rid, 1, "create"))


def _index(add: Add, ints: Any, texts: Any, global_numbers: set[int], home: int, rid: int) -> None:
    for parameter, v1, v2 in ints:
        add("px", (home, parameter, v1, v2, rid))
        if parameter in global_numbers:
            add("gx", (parameter, v1, v2, home, rid))
    for parameter, text in texts:
        add("px_text", (home, parameter, text, rid))
        if parameter in global_numbers:
            add("gx_text", (parameter, text, home, rid))


def check(gateway: Gateway, copier: Copier) -> None:
    """Compares a copy with what the product makes of the same person. Raises RuntimeError."""
    person, rows = 1_234, []
    copier.copy(person, Place(1, 1, 1, 0), lambda table, row: rows.append((table, row)))
    copied = {row for row in rows if row[0] in ("px", "px_text")}
    made: set[tuple[str, tuple[Any, ...]]] = set()
    resources = record(person % VARIANTS)
    for offset, resource in enumerate([patient(person), *resources]):
        whole = _filled(resource, f"{person:07d}")
        put = prepare(gateway, whole, op="create", institution=_issuer(whole))
        made |= {("px", (1, *row, 1 + offset)) for row in put.derived.ints}
        made |= {("px_text", (1, *row, 1 + offset)) for row in put.derived.texts}
    if copied != made:
        raise RuntimeError(f"{len(copied ^ made)} index rows of a copy differ from the product's")


def _filled(value: Any, number: str) -> Any:
    if isinstance(value, str):
        return value.replace(MARK, number)
    if isinstance(value, dict):
        return {name: _filled(one, number) for name, one in value.items()}
    if isinstance(value, list):
        return [_filled(one, number) for one in value]
    return value


__all__ = ["Copier", "Place", "ReportLink", "check"]
