"""Proposals as a table: for batch tools that compare whole registers (splink and others), and back.

A tool reads the Patients of an export, and its pairs come back as a CSV of logical ids with a
probability. They become questions for a reviewer and never links; the gateway compares each pair
itself too, and what its rules rule out is asked about as no more than possible. docs/identity.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Issue, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.identity.link import CONFIRM, Question, pair
from fhir_gateway.identity.record import record_of
from fhir_gateway.identity.review_propose import KEPT, Proposal, edition, levels_of, propose
from fhir_gateway.identity.score import Grade, match, weights
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.sheet import Sheet

#: What an export has; an import needs the first three and passes over the others.
COLUMNS = (
    "record", "other", "score", "question", "code", "status", "grade", "levels", "edition",
    "source", "asked",
)  # fmt: skip
REQUIRED = COLUMNS[:3]

#: Names by which batch tools call the columns.
_CALLED = {
    "record": ("record", "id_l", "unique_id_l", "left"),
    "other": ("other", "id_r", "unique_id_r", "right"),
    "score": ("score", "match_probability", "probability"),
}

#: Faults that are named; what lies beyond is counted.
MOST_FAULTS = 50


class Row(NamedTuple):
    """One pair of a table, and the row that it stands in."""

    number: int
    records: tuple[str, str]
    score: float


def cells_of(question: Question) -> tuple[str, ...]:
    """A question as a row of the table."""
    one, other = question.records
    return (
        one, other, f"{question.score:.4f}", question.id, question.code, question.status,
        question.grade, question.levels, question.edition, question.source, question.authored,
    )  # fmt: skip


def read_table(table: Sheet) -> list[Row]:
    """The pairs of a table, each once. Raises Unprocessable with every fault, by row and column."""
    places = _places(table)
    issues: list[Issue] = []
    rows: dict[tuple[str, str], Row] = {}
    for cells in table.rows[1:]:
        number = cells.number
        text = {
            name: cells.cell(place).text.removeprefix("Patient/") for name, place in places.items()
        }
        score = _score(text["score"])
        for name in ("record", "other"):
            if not text[name]:
                issues.append(table.issue("links-record", "names no record", number, places[name]))
        if score is None:
            sentence = "is no probability from 0 to 1"
            issues.append(table.issue("links-score", sentence, number, places["score"]))
        if text["record"] == text["other"] and text["record"]:
            issues.append(table.issue("links-self", "names one record twice", number))
        records = pair(text["record"], text["other"])
        rows[records] = Row(number, records, score or 0.0)
    if issues:
        raise Unprocessable(issues=_first(issues))
    return list(rows.values())


def _places(table: Sheet) -> Mapping[str, int]:
    header = [cell.text.casefold() for cell in table.rows[0].cells] if table.rows else []
    found = {
        name: header.index(one)
        for name, called in _CALLED.items()
        for one in called
        if one in header
    }
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise Invalid(
            f"{table.where(1)}: the columns {', '.join(missing)} are missing; a table of pairs has "
            f"{', '.join(REQUIRED)}",
            rule="links-columns",
        )
    return found


def _score(text: str) -> float | None:
    try:
        score = float(text)
    except ValueError:
        return None
    return score if 0 <= score <= 1 else None


def _first(issues: Sequence[Issue]) -> tuple[Issue, ...]:
    if len(issues) <= MOST_FAULTS:
        return tuple(issues)
    more = Issue("invalid", f"and {len(issues) - MOST_FAULTS} more faults", rule="links-more")
    return (*issues[:MOST_FAULTS], more)


async def proposals_of(
    gateway: Gateway, table: Sheet, rows: Sequence[Row], *, source: str
) -> list[Proposal]:
    """The proposals of a table. Raises Unprocessable for records that are not stored here."""
    found, issues = list[Proposal](), list[Issue]()
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for row in rows:
            patients = [await _patient(reader, id) for id in row.records]
            for id, patient in zip(row.records, patients, strict=True):
                if patient is None:
                    sentence = f"no Patient/{id} is stored here"
                    issues.append(table.issue("links-unknown", sentence, row.number))
            if all(patients):
                found.append(_proposal(gateway, row, [one or {} for one in patients], source))
    if issues:
        raise Unprocessable(issues=_first(issues))
    return found


async def _patient(reader: Reader, id: str) -> dict[str, object] | None:
    stored = await reader.read("Patient", id)
    return parse(stored.whole()) if stored is not None and not stored.deleted else None


def _proposal(
    gateway: Gateway, row: Row, patients: Sequence[dict[str, object]], source: str
) -> Proposal:
    """What the tool says, held by what our own comparison rules out."""
    one, other = (record_of(patient, gateway.extractor.naming) for patient in patients)
    ours = match(one, other)
    held = ours.rules and ours.grade not in ("probable", "certain")
    grade: Grade = "possible" if held or row.score < weights().probable else "probable"
    return Proposal(
        row.records, CONFIRM, grade, round(row.score, 4), levels_of(ours), source, edition()
    )


async def ask_all(gateway: Gateway, proposals: Sequence[Proposal]) -> dict[str, int]:
    """Asks about each pair; what became of them, by number."""
    became: dict[str, int] = {}
    for proposal in proposals:
        result = await propose(gateway, proposal)
        became[result] = became.get(result, 0) + 1
    became.setdefault(KEPT, 0)
    return became
