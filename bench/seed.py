"""Fills an empty store: patients, recognition facts, the results they stand on, the register.

Rows are made by the product's own functions (codings, index rows, facts, bodies) from one
template a catalogue item, then multiplied with each patient's own keys and written in key order,
as a bulk load would. Ten results a patient carry the fifty facts: facts share bodies.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.fhir.wire import tail
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.store import statements as sql
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Fact, IntRow
from fhir_gateway.store.engine import open_writer, use_wal
from fhir_gateway.terminology.identifier import valid_id_number

RESULTS = 10  # Observations of a patient
FACTS = 50  # recognition facts of a patient
ITEMS = tuple(f"L{number:03d}" for number in range(1, 41))
ISSUERS = tuple(f"bench-hospital-{number}" for number in range(20))
RECEIVER = "bench-receiver"
LOCAL = "urn:bench:result"
ID_SYSTEM = "urn:oid:2.16.840.1.113883.2.23.1.19.1"
DAY = 86_400_000_000


class Template(NamedTuple):
    """An Observation of one item of one issuer, taken apart into what changes and what stays."""

    tail: bytes
    ints: tuple[tuple[IntRow, bool, bool], ...]  # row, names the patient, names the date
    texts: tuple[tuple[int, str], ...]
    fact: Fact
    owner: int


_PATIENT, _DATE = "pXXXXXXX", "2026-01-02T03:04:05+08:00"


def id_number(patient: int) -> str:
    """An identity number with a valid check digit under an area code that nobody was born in."""
    body = f"1199{patient // 1000 % 100:02d}1970{1 + patient % 12:02d}15{patient % 1000:03d}"
    return next(body + last for last in "0123456789X" if valid_id_number(body + last))


def observation(item: str, issuer: str, gateway: Gateway) -> dict[str, Any]:
    """What a hospital's result of this item looks like."""
    return {
        "resourceType": "Observation",
        "id": "template",
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "laboratory",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": LOCAL, "code": f"B{item}", "display": f"项目{item}"}]},
        "subject": {"reference": f"Patient/{_PATIENT}"},
        "effectiveDateTime": _DATE,
        "issued": _DATE,
        "performer": [{"reference": f"Organization/{issuer}"}],
        "valueQuantity": {"value": 32, "unit": "U/L", "system": "http://unitsofmeasure.org"},
    }


def template(gateway: Gateway, item: str, issuer: str) -> Template:
    """Runs one Observation through the product's own preparation."""
    resource = observation(item, issuer, gateway)
    put = prepare(gateway, resource, op="create", institution=issuer)
    low, _ = date_range(_DATE, gateway.settings.zone)
    patient = key64(f"Patient/{_PATIENT}")
    ints = tuple((row, row[1] == patient, row[1] == low) for row in put.derived.ints)
    if not any(named for _, named, _ in ints) or not any(dated for _, _, dated in ints):
        raise RuntimeError("the template's patient and date rows were not found")
    return Template(tail(resource), ints, tuple(put.derived.texts), put.derived.facts[0], put.owner)


class Numbers(NamedTuple):
    """Where the store's counters stand."""

    t: int
    rid: int
    home: int


class Sink:
    """Rows by statement, written in batches; those with random keys are kept and sorted first."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        self._late: dict[str, list[tuple[Any, ...]]] = {}

    def add(self, statement: str, row: tuple[Any, ...]) -> None:
        """A row whose key follows the patients' order."""
        self._rows.setdefault(statement, []).append(row)

    def add_late(self, statement: str, row: tuple[Any, ...]) -> None:
        """A row whose key is a hash."""
        self._late.setdefault(statement, []).append(row)

    def flush(self) -> None:
        """Writes the ordered rows."""
        for statement, rows in self._rows.items():
            self._connection.executemany(statement, rows)
            rows.clear()

    def finish(self) -> None:
        """Writes the rest, sorted."""
        self.flush()
        for statement, rows in self._late.items():
            self._connection.executemany(statement, sorted(rows))


def seed(
    gateway: Gateway, path: Path, patients: int, report: Callable[[str], None]
) -> tuple[int, int]:
    """Writes `patients` patients into the closed store at `path`; returns resources and facts.

    Institutions and the register must be there (bench.run loads them through the product).
    """
    chance = random.Random(20261121)
    templates = [[template(gateway, item, issuer) for issuer in ISSUERS[:4]] for item in ITEMS]
    connection = open_writer(path)
    use_wal(connection)
    connection.pragma("synchronous", "OFF")  # a bulk load starts over when it is cut short
    connection.pragma("cache_size", -512_000)
    t, _, updated, rid, home = next(iter(connection.execute(sql.CLOCK)))
    sink = Sink(connection)
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    numbers = Numbers(t + 1, rid, home)
    for patient in range(patients):
        numbers = _patient(gateway, sink, patient, numbers, updated, templates, chance)
        if patient % 2_000 == 1_999:
            sink.flush()
            report(f"seeded {patient + 1:,} of {patients:,} patients")
    sink.finish()
    connection.execute(
        "UPDATE clock SET t = ?, rid = ?, home = ?", (numbers.t, numbers.rid, numbers.home)
    )
    connection.execute("COMMIT")
    connection.pragma("synchronous", "FULL")
    connection.wal_checkpoint(mode=3)
    connection.close()
    report(f"seeded in {time.perf_counter() - began:.0f} s")
    return patients * (RESULTS + 1), patients * FACTS


def _patient(
    gateway: Gateway, sink: Sink, patient: int, numbers: Numbers, updated: int,
    templates: list[list[Template]], chance: random.Random,
) -> Numbers:  # fmt: skip
    t, rid, home = numbers.t, numbers.rid + 1, numbers.home + 1
    id = f"p{patient:07d}"
    put = prepare(gateway, _patient_resource(id, patient), op="create", institution=ISSUERS[0])
    sink.add(sql.ADD_LOCATOR, (type_key("Patient"), id, home, rid))
    sink.add(
        sql.ADD_RESOURCE,
        (home, type_key("Patient"), rid, id, 1, t, patient, updated, 0, put.owner, 0, id, None,
         put.enc, put.body),
    )  # fmt: skip
    sink.add(sql.ADD_CHANGE, (t, patient, 0, home, type_key("Patient"), rid, 1, "create"))
    derived = put.derived
    for parameter, v1, v2 in derived.ints:
        sink.add(sql.ADD_INDEX_ROW, (home, parameter, v1, v2, rid))
    for parameter, text in derived.texts:
        sink.add(sql.ADD_INDEX_TEXT, (home, parameter, text, rid))
    for row in derived.global_ints:
        sink.add_late(sql.ADD_GLOBAL_ROW, (*row, home, rid))
    for text_row in derived.global_texts:
        sink.add_late(sql.ADD_GLOBAL_TEXT, (*text_row, home, rid))
    for key, kind in derived.identity:
        sink.add_late(sql.ADD_IDENTITY, (key, kind, home, rid))
    chosen = chance.sample(templates, RESULTS)
    results = [
        _result(gateway, sink, patient, k, (t, rid + 1 + k, home), updated, chance.choice(one))
        for k, one in enumerate(chosen)
    ]
    _facts(sink, id, home, t, results, chance)
    return Numbers(t, rid + RESULTS, home)


def _patient_resource(id: str, patient: int) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": id,
        "identifier": [{"system": ID_SYSTEM, "value": id_number(patient)}],
        "name": [{"text": f"测{patient:07d}"}],
        "gender": "female" if patient % 2 else "male",
        "birthDate": f"1970-{1 + patient % 12:02d}-15",
    }


class Result(NamedTuple):
    """A result as its facts need it."""

    rid: int
    source: str
    time: int
    template: Template


def _result(
    gateway: Gateway, sink: Sink, patient: int, k: int, place: tuple[int, int, int], updated: int,
    made: Template,
) -> Result:  # fmt: skip
    t, rid, home = place
    id, subject = f"o{patient:07d}{k}", f"p{patient:07d}"
    when = updated // DAY * DAY - (1 + (patient * 7 + k * 5) % 25) * DAY
    text = time.strftime("%Y-%m-%dT08:15:00+08:00", time.gmtime(when // 1_000_000))
    low, high = date_range(text, gateway.settings.zone)
    enc, body = pack(
        made.tail.replace(_PATIENT.encode(), subject.encode()).replace(
            _DATE.encode(), text.encode()
        )
    )
    named = key64.__wrapped__(f"Patient/{subject}")
    number = type_key("Observation")
    sink.add(sql.ADD_LOCATOR, (number, id, home, rid))
    sink.add(
        sql.ADD_RESOURCE,
        (home, number, rid, id, 1, t, patient, updated, 0, made.owner, 0, subject, None, enc,
         body),
    )  # fmt: skip
    sink.add(sql.ADD_CHANGE, (t, patient, 1 + k, home, number, rid, 1, "create"))
    for (parameter, v1, v2), is_patient, is_date in made.ints:
        values = (named, v2) if is_patient else (low, high) if is_date else (v1, v2)
        sink.add(sql.ADD_INDEX_ROW, (home, parameter, *values, rid))
    for parameter, words in made.texts:
        sink.add(sql.ADD_INDEX_TEXT, (home, parameter, words, rid))
    return Result(rid, f"Observation/{id}", low, made)


def _facts(
    sink: Sink, patient: str, home: int, t: int, results: list[Result], chance: random.Random
) -> None:
    rows = sorted(_fact_rows(patient, home, t, results, chance), key=lambda r: (r[1], -r[2]))
    for row in rows:
        sink.add(sql.ADD_FACT, row)


def _fact_rows(
    patient: str, home: int, t: int, results: list[Result], chance: random.Random
) -> Iterator[tuple[Any, ...]]:
    for ordinal in range(FACTS):
        one = results[ordinal % RESULTS]
        fact = one.template.fact
        when = one.time - ordinal // RESULTS * 30 * DAY
        yield (
            home, fact.item, when, one.rid, t, ordinal, 1, when, when, fact.kind, fact.status,
            fact.issuer, fact.specimen, fact.unit, fact.method, fact.value, fact.laterality,
            fact.flags, fact.mark, one.source, patient, key64.__wrapped__(one.source),
            one.template.owner, 0,
        )  # fmt: skip
