"""VerificationResult/$register: which items of which institutions are recognised where on a day.

For doctors, institutions and regulators: the register itself and no patient. A page is of whole
(institution, item) pairs in their order; its cursor holds the commit of the first page, so that a
reader who turns pages sees one register, whatever is imported meanwhile. docs/evaluations.md
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from hashlib import blake2b
from hmac import compare_digest
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.evaluations import areas_of
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.lists import today
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.recognition.marks import marks_at
from fhir_gateway.recognition.situation import midnight
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.area import AREA_SYSTEM, Areas
from fhir_gateway.terminology.catalogue import Item
from fhir_gateway.terminology.evaluation import is_day

REGISTER = Definition(
    code="register",
    title="Which items of which institutions are recognised where on a day",
    says=(
        "The register of quality evaluations as it counts on a day: one entry for each registered "
        "institution, item of the catalogue and area in which results of that day are marked. "
        "Pages show the register as of the commit of the first one."
    ),
    types=("VerificationResult",),
    levels=("type",),
    takes=(
        P("on", "date", "The day of collection or examination; today when left out"),
        P("area", "code", "Only marks that reach this area"),
        P("item", "code", "Only this item of the catalogue"),
        P("institution", "id", "Only this institution"),
        P("count", "integer", "Most pairs of institution and item on a page; 100 when left out"),
        P("after", "string", "Where the page before ended; part of the address in next"),
    ),
    gives=(
        P("on", "date", "The day", 1),
        P(
            "recognised",
            "",
            "An item of an institution that is recognised in an area on that day",
            0,
            MANY,
            parts=(
                P("institution", "Reference", "The institution", 1),
                P("item", "Coding", "The item", 1),
                P("area", "Coding", "The area of the mark", 1),
                P("body", "string", "The evaluating body", 1),
                P("round", "string", "Its round"),
                P("start", "date", "First day of this stretch"),
                P("end", "date", "Last day of this stretch"),
            ),
        ),
        P("next", "uri", "Address of the next page; absent on the last one"),
    ),
)

#: Institutions that one page looks at: each is one read of all its items.
_MOST_INSTITUTIONS = 20
_NOON = 12 * 3_600 * 1_000_000
_MAC = 12

_cursor = msgspec.msgpack.Decoder(tuple[int, str, str])


class _Asked(NamedTuple):
    """What is asked, sound. `reaching` None: marks of all areas."""

    on: str
    area: str
    item: str
    institution: str
    size: int
    reaching: frozenset[str] | None

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """As the parameters of an address."""
        given = {"area": self.area, "item": self.item, "institution": self.institution}
        named = [("on", self.on), *((name, text) for name, text in given.items() if text)]
        return [*named, ("count", str(self.size))]


class _Page(NamedTuple):
    rows: list[Evaluation]
    last: tuple[str, str] | None  # (institution, item) after which the next page begins


async def read_register(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """A page of the register. Raises Invalid for a day, area, item or cursor that is none."""
    asked = _asked(gateway, call)
    t, after = _read_cursor(gateway, actor, asked, call.value("after"))
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        t = min(t, reader.t) if t is not None else reader.t
        known = await institutions_at(gateway, reader)
        page = await _read(gateway, reader, asked, sorted(known), t, after)
    parameters: list[dict[str, Any]] = [{"name": "on", "valueDate": asked.on}]
    items, areas = catalogue_of(gateway).items, areas_of(gateway)
    parameters += [_told(row, known, items, areas) for row in page.rows]
    if page.last is not None:
        cursor = _write_cursor(gateway, actor, asked, (t, *page.last))
        query = urlencode([*asked.pairs, ("after", cursor)])
        address = f"{call.base}/VerificationResult/$register?{query}"
        parameters.append({"name": "next", "valueUri": address})
    return {"resourceType": "Parameters", "parameter": parameters}


def _asked(gateway: Gateway, call: Call) -> _Asked:
    on = call.value("on") or today(gateway)
    if not is_day(on):
        raise Invalid("on is one day, such as 2026-01-31", expression="on", rule="register-day")
    area, item = call.value("area") or "", call.value("item") or ""
    reaching = areas_of(gateway).within(area) if area else None
    if area and not reaching:
        raise Invalid(
            f"{area} is no area of the table of areas", expression="area", rule="register-area"
        )
    if item and item not in catalogue_of(gateway).items:
        raise Invalid(
            f"{item} is no item of the catalogue", expression="item", rule="register-item"
        )
    count, most = call.value("count"), gateway.settings.page_limit
    if count is not None and count < 1:
        raise Invalid("count is at least 1", expression="count", rule="register-count")
    count = min(100 if count is None else count, most)
    return _Asked(on, area, item, call.value("institution") or "", count, reaching)


async def _read(
    gateway: Gateway,
    reader: Reader,
    asked: _Asked,
    known: Sequence[str],
    t: int,
    after: tuple[str, str],
) -> _Page:
    """The marks of the pairs behind `after`, up to the end of a page."""
    codes = [asked.item] if asked.item else sorted(catalogue_of(gateway).items)
    chosen = [
        id for id in known if id >= after[0] and asked.institution in ("", id)
    ]  # those before are done
    zone = gateway.settings.zone
    moment = midnight(_ordinal(asked.on), zone) + _NOON
    rows: list[Evaluation] = []
    pairs = 0
    for number, id in enumerate(chosen):
        if number == _MOST_INSTITUTIONS:
            return _Page(rows, (chosen[number - 1], "\uffff"))
        left = [code for code in codes if id != after[0] or code > after[1]]
        found = await reader.evaluations([(id, code) for code in left], t)
        found.sort(key=lambda row: row.item)
        for item, own in groupby(found, key=lambda row: row.item):
            marks = marks_at(_reaching(own, asked.reaching), moment, zone)
            if marks:
                rows += marks
                pairs += 1
                if pairs == asked.size:
                    return _Page(rows, (id, item))
        await asyncio.sleep(0)  # others are served between two institutions
    return _Page(rows, None)


def _reaching(rows: Iterator[Evaluation], within: frozenset[str] | None) -> list[Evaluation]:
    return [row for row in rows if within is None or row.area in within]


def _ordinal(day: str) -> int:
    return date.fromisoformat(day).toordinal()


def _told(
    row: Evaluation,
    institutions: Mapping[str, Institution],
    items: Mapping[str, Item],
    areas: Areas,
) -> dict[str, Any]:
    listed = areas.areas.get(row.area)
    area = {"system": AREA_SYSTEM, "code": row.area, "display": listed.name if listed else ""}
    part: list[dict[str, Any]] = [
        {
            "name": "institution",
            "valueReference": {
                "reference": f"Organization/{row.institution}",
                "display": institutions[row.institution].name,
            },
        },
        {"name": "item", "valueCoding": items[row.item].coding()},
        {"name": "area", "valueCoding": {name: text for name, text in area.items() if text}},
        {"name": "body", "valueString": row.evaluator or "-"},
    ]
    part += [{"name": "round", "valueString": row.round}] if row.round else []
    part += [{"name": "start", "valueDate": row.start}] if row.start else []
    part += [{"name": "end", "valueDate": row.end}] if row.end else []
    return {"name": "recognised", "part": part}


# -- cursors -----------------------------------------------------------------------------------


def _write_cursor(
    gateway: Gateway, actor: Actor, asked: _Asked, place: tuple[int, str, str]
) -> str:
    raw = msgspec.msgpack.encode(place)
    mac = _mac_of(gateway, actor, asked, raw)
    return urlsafe_b64encode(mac + raw).rstrip(b"=").decode()


def _read_cursor(
    gateway: Gateway, actor: Actor, asked: _Asked, text: str | None
) -> tuple[int | None, tuple[str, str]]:
    """The commit that is shown and the place behind which the page begins."""
    if text is None:
        return None, ("", "")
    try:
        held = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
        mac, raw = held[:_MAC], held[_MAC:]
        if not compare_digest(mac, _mac_of(gateway, actor, asked, raw)):
            raise ValueError("mac")
        t, institution, item = _cursor.decode(raw)
    except (ValueError, msgspec.DecodeError):
        raise Invalid(
            "This page is not of this question and this caller; start from the first page",
            expression="after",
            rule="cursor",
        ) from None
    return t, (institution, item)


def _mac_of(gateway: Gateway, actor: Actor, asked: _Asked, raw: bytes) -> bytes:
    bound = msgspec.msgpack.encode((asked.pairs, actor.name, raw))
    key = gateway.store.index_key
    return blake2b(bound, digest_size=_MAC, key=key, person=b"register-cursor").digest()
