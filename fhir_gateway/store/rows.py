"""The rows that new versions give rise to: gathered here, written by the driver table by table.

Each table's rows are tuples in the order of its insert statement. A driver first takes what is
`retired` out of the way: to `version`, its index rows gone, its facts ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store.changes import Derived, Fact
from fhir_gateway.store.placing import Placed

Row = tuple[Any, ...]


@dataclass(slots=True)
class Rows:
    """What a batch is to write, by table. `retired` are (type, home, rid, t).

    What is `gone` or `ended` is named by the whole key of its row, what is ended by (t, key).
    """

    retired: list[tuple[int, int, int, int]] = field(default_factory=list)
    px_gone: list[Row] = field(default_factory=list)
    px_text_gone: list[Row] = field(default_factory=list)
    gx_gone: list[Row] = field(default_factory=list)
    gx_text_gone: list[Row] = field(default_factory=list)
    fact_ended: list[Row] = field(default_factory=list)
    result_of_ended: list[Row] = field(default_factory=list)
    evaluation_ended: list[Row] = field(default_factory=list)
    identity_gone: list[Row] = field(default_factory=list)
    alias_ended: list[Row] = field(default_factory=list)
    person_ended: list[Row] = field(default_factory=list)
    proposal_ended: list[Row] = field(default_factory=list)
    opening_ended: list[Row] = field(default_factory=list)
    consent_ended: list[Row] = field(default_factory=list)
    opening_extended: list[Row] = field(default_factory=list)
    client_token_gone: list[Row] = field(default_factory=list)
    schedule_row_gone: list[Row] = field(default_factory=list)
    slot_row_gone: list[Row] = field(default_factory=list)
    slot_item_gone: list[Row] = field(default_factory=list)
    seat_gone: list[Row] = field(default_factory=list)
    quota_gone: list[Row] = field(default_factory=list)
    locator: list[Row] = field(default_factory=list)
    resource: list[Row] = field(default_factory=list)
    px: list[Row] = field(default_factory=list)
    px_text: list[Row] = field(default_factory=list)
    gx: list[Row] = field(default_factory=list)
    gx_text: list[Row] = field(default_factory=list)
    fact: list[Row] = field(default_factory=list)
    result_of: list[Row] = field(default_factory=list)
    evaluation: list[Row] = field(default_factory=list)
    identity: list[Row] = field(default_factory=list)
    alias: list[Row] = field(default_factory=list)
    person: list[Row] = field(default_factory=list)
    proposal: list[Row] = field(default_factory=list)
    opening: list[Row] = field(default_factory=list)
    consent: list[Row] = field(default_factory=list)
    change: list[Row] = field(default_factory=list)
    once: list[Row] = field(default_factory=list)
    counter: list[Row] = field(default_factory=list)
    received: list[Row] = field(default_factory=list)
    credential: list[Row] = field(default_factory=list)
    seen: list[Row] = field(default_factory=list)
    client: list[Row] = field(default_factory=list)
    client_token: list[Row] = field(default_factory=list)
    schedule_row: list[Row] = field(default_factory=list)
    slot_row: list[Row] = field(default_factory=list)
    slot_item: list[Row] = field(default_factory=list)
    seat: list[Row] = field(default_factory=list)
    quota: list[Row] = field(default_factory=list)
    booking: list[Row] = field(default_factory=list)
    change_set: list[Row] = field(default_factory=list)
    journal: list[Row] = field(default_factory=list)
    journal_home: list[Row] = field(default_factory=list)
    message: list[Row] = field(default_factory=list)
    message_repeated: list[Row] = field(default_factory=list)
    message_overtaken: list[Row] = field(default_factory=list)
    message_settled: list[Row] = field(default_factory=list)
    message_count: list[Row] = field(default_factory=list)
    refused: list[Row] = field(default_factory=list)
    refused_gone: list[Row] = field(default_factory=list)

    def add(self, others: Rows) -> None:
        """Takes over the rows of others, which are empty afterwards."""
        for name in TABLES:
            rows: list[Row] = getattr(others, name)
            if rows:
                getattr(self, name).extend(rows)
                rows.clear()

    def add_index(self, home: int, rid: int, derived: Any) -> None:
        """Index rows of one resource; a global row always has its twin in the home, once."""
        ints: dict[Any, None] = dict.fromkeys(derived.ints)
        texts: dict[Any, None] = dict.fromkeys(derived.texts)
        if derived.global_ints:
            ints |= dict.fromkeys(derived.global_ints)
            self.gx += [(*row, home, rid) for row in derived.global_ints]
        if derived.global_texts:
            texts |= dict.fromkeys(derived.global_texts)
            self.gx_text += [(*row, home, rid) for row in derived.global_texts]
        self.px += [(home, parameter, v1, v2, rid) for parameter, v1, v2 in ints]
        self.px_text += [(home, parameter, text, rid) for parameter, text in texts]

    def add_derived(self, placed: Placed, rid: int, version: int, t: int) -> None:
        """Index rows of one new version, and all else that it says: see `Derived`."""
        put, home = placed.put, placed.home
        derived: Derived = put.derived
        self.add_index(home, rid, derived)
        source = f"{put.type}/{put.id}"
        if home > 0:  # facts are facts of a person
            for ordinal, fact in enumerate(derived.facts):
                self.fact.append(_fact(fact, placed, rid, t, ordinal, version))
            for link in derived.links:
                self.result_of.append(
                    (home, link.result, rid, t, link.status, link.issued, source, link.more,
                     put.owner, put.sensitivity)
                )  # fmt: skip
            if derived.openings or derived.consents:
                self._add_access(derived, home, rid, key64(source), t)
        for ordinal, row in enumerate(derived.evaluations):
            self.evaluation.append(
                (row.institution, row.item, rid, ordinal, t, row.area, row.start, row.end,
                 int(row.passed), row.evaluator, row.round)
            )  # fmt: skip
        if derived.identity:
            self.identity += [(key, kind, home, rid) for key, kind in derived.identity]

    def _add_access(self, derived: Derived, home: int, rid: int, source: int, t: int) -> None:
        """What a resource says of who may see the rows of its person."""
        for ordinal, one in enumerate(derived.openings):
            self.opening.append(
                (home, one.party, one.kind, source, ordinal, t, rid, one.grade, one.since,
                 one.until)
            )  # fmt: skip
        for ordinal, row in enumerate(derived.consents):
            self.consent.append(
                (home, row.party, row.owner, row.class_, rid, ordinal, t, row.rank,
                 int(row.permit), row.since, row.until)
            )  # fmt: skip


#: What is gathered by table, but what is retired; rows of one name nothing of another that comes
#: later.
TABLES = tuple(table.name for table in fields(Rows) if table.name != "retired")


def _fact(fact: Fact, placed: Placed, rid: int, t: int, ordinal: int, version: int) -> Row:
    put = placed.put
    return (
        placed.home, fact.item, fact.time, rid, t, ordinal, version, fact.time_high, fact.issued,
        fact.kind, fact.status, fact.issuer, fact.specimen, fact.unit, fact.method, fact.value,
        fact.laterality, fact.flags, fact.mark, fact.source, placed.patient or "",
        key64(fact.source), put.owner, put.sensitivity, fact.more,
    )  # fmt: skip


def resource_row(placed: Placed, rid: int, version: int, at: tuple[int, int, int]) -> Row:
    """The row of the current version; `at` is (t, n, updated)."""
    put = placed.put
    deleted = put.op == "delete"
    return (
        placed.home, type_key(put.type), rid, put.id, version, *at, int(deleted), put.owner,
        put.sensitivity, placed.patient, put.source, 0 if deleted else put.enc,
        None if deleted else put.body, key64(f"{put.type}/{put.id}"),
    )  # fmt: skip
