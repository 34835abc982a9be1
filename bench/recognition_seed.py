"""Stores for the bench of recognition: persons with facts that were generated, not ingested.

A fact is what the product derived from a result of a variant, under the person's own numbers. The
results themselves are not stored, and Patients have no rows of the search index: recognition reads
facts alone. Rows are written in key order, as
`bench.seed` does. Ages of results count from the day of seeding, so a store older than a few days
is made again.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from bench.copies import Add, Place, fact_row
from bench.people import ISSUERS, ITEMS, LOCAL, patient
from bench.prepare import sink_of
from bench.seed import COLUMNS, RANDOM_KEYS, Rows
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.fhir.wire import tail
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Put

#: Results of a report, and how many days ago the reports of a person are: the newest first.
RESULTS, AGES = 10, (1, 4, 9, 25, 80)
FACTS = RESULTS * len(AGES)
#: Every so many persons one has four times as many results; the last persons have none.
MANY, TIMES, NOBODY = 200, 4, 2_000
VARIANTS = 24
PIECE = 1_000

_key = key64.__wrapped__  # the product's cache is not for names that are met once
_FOREVER = (1 << 63) - 1


class Made(NamedTuple):
    """A result and what its report says of it, prepared by the product; `name` ends its id."""

    put: Put
    name: str
    report: str
    link: Any


def resources(variant: int, catalogue: Any, day: datetime) -> Iterator[dict[str, Any]]:
    """The reports of a person of this variant, each behind its results."""
    chance = random.Random(variant)
    for number, age in enumerate(AGES):
        moment = (day - timedelta(days=age)).isoformat()
        performer = [{"reference": f"Organization/{ISSUERS[(variant + number) % len(ISSUERS)]}"}]
        common = {
            "subject": {"reference": "Patient/p"}, "effectiveDateTime": moment, "issued": moment,
            "status": "final", "performer": performer,
        }  # fmt: skip
        names = []
        for place, item in enumerate(chance.sample(ITEMS, RESULTS)):
            entry = catalogue.items[item]
            names.append(f"o{number}{place}")
            yield {
                "resourceType": "Observation",
                "id": names[-1],
                "code": {"coding": [{"system": LOCAL, "code": f"B{item}"}]},
                "specimen": {"display": entry.specimen.partition("/")[0]},
                "valueQuantity": {
                    "value": round(chance.uniform(1, 99), 1),
                    "unit": entry.ucum_unit,
                    "system": "http://unitsofmeasure.org",
                    "code": entry.ucum_unit,
                },
                **common,
            }
        yield {
            "resourceType": "DiagnosticReport",
            "id": f"d{number}",
            "code": {"text": "生化"},
            "result": [{"reference": f"Observation/{name}"} for name in names],
            **common,
        }


def variants(gateway: Gateway, day: datetime) -> list[list[Made]]:
    """The results of every variant, as the product prepares them."""
    found = []
    for variant in range(VARIANTS):
        results: list[Made] = []
        waiting: list[Put] = []
        for resource in resources(variant, catalogue_of(gateway), day):
            issuer = resource["performer"][0]["reference"].partition("/")[2]
            put = prepare(gateway, resource, op="create", institution=issuer)
            if resource["resourceType"] == "Observation":
                waiting.append(put)
                continue
            links = {link.result: link for link in put.derived.links}
            results += [
                Made(one, one.id, put.id, links[_key(f"Observation/{one.id}")]) for one in waiting
            ]
            waiting = []
        found.append(results)
    return found


async def seed(gateway: Gateway, database: str, people: int) -> int:
    """Writes so many persons with facts, and NOBODY without; returns how many facts."""
    today = datetime.now(UTC).replace(hour=1, minute=0, second=0, microsecond=0)
    made, sink = variants(gateway, today), sink_of(database)
    t, rid, home, updated = await sink.begin()
    began, facts = time.perf_counter(), 0
    rows: Rows = {table: [] for table in COLUMNS}
    late = {table: rows.pop(table) for table in RANDOM_KEYS}
    both = {**rows, **late}

    def add(table: str, row: tuple[Any, ...]) -> None:
        both[table].append(row)

    for person in range(people + NOBODY):
        home, rid = home + 1, rid + 1
        place = Place(t + 1, rid, home, updated)
        _patient(person, place, add)
        if person < people:
            times = TIMES if person % MANY == MANY - 1 else 1
            count = _facts(made, person, times, place, rows)
            rid, facts = rid + 2 * count, facts + count
        if person % PIECE == PIECE - 1:
            await sink.write(rows)
            sys.stderr.write(f"seeded {person + 1:,} of {people:,} people with facts\r")
    await sink.write(rows)
    for table in RANDOM_KEYS:
        await sink.write({table: sorted(late[table])})
    await sink.finish(t + 1, rid, home)
    sys.stderr.write(f"seeded {facts:,} facts in {time.perf_counter() - began:.0f} s\n")
    return facts


def _patient(person: int, place: Place, add: Add) -> None:
    """The rows of a Patient with an identity document, without those of the search index."""
    number, subject = type_key("Patient"), f"p{person:07d}"
    enc, body = pack(tail(patient(person)))
    add("locator", (number, subject, place.home, place.rid))
    add("resource", (
        place.home, number, place.rid, subject, 1, place.t, person, place.updated, 0, 0, 0,
        subject, None, enc, body, _key(f"Patient/{subject}"),
    ))  # fmt: skip
    add("change", (place.t, person, 0, place.home, number, place.rid, 1, "create"))
    for kind in (1, 2):  # the product's are keyed hashes of document and name
        key = sha256(b"%d %d" % (kind, person)).digest()[:16]
        add("identity", (key, kind, place.home, place.rid))


def _facts(made: list[list[Made]], person: int, times: int, place: Place, rows: Rows) -> int:
    """The facts of a person, in the order of their keys; returns how many."""
    subject, facts, links, rid = f"p{person:07d}", [], [], place.rid
    for turn in range(times):
        for one in made[(person + turn) % VARIANTS]:
            rid += 2
            source = f"Observation/{one.name}-{person}-{turn}"
            for ordinal, fact in enumerate(one.put.derived.facts):
                at = place._replace(rid=rid)
                facts.append(fact_row(fact, source, subject, one.put, at, ordinal))
            report = f"DiagnosticReport/{one.report}-{person}-{turn}"
            links.append(
                (place.home, _key(source), rid + 1, place.t, _FOREVER, one.link.status,
                 one.link.issued, report, one.link.more)
            )  # fmt: skip
    rows["fact"] += sorted(facts, key=_place_of_fact)
    rows["result_of"] += sorted(links)
    return len(facts)


def _place_of_fact(row: tuple[Any, ...]) -> tuple[str, int, int]:
    return row[1], -row[2], row[3]


def is_fresh(day: str) -> bool:
    """Whether results of that day of seeding are still as old as they were meant to be."""
    age = datetime.now(UTC).date() - datetime.fromisoformat(day).date()
    return timedelta(0) <= age < timedelta(days=2)
