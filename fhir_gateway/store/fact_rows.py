"""What decisions read as rows: facts, the reports that carry them, the register of evaluations."""

from __future__ import annotations

import msgspec


class Fact(msgspec.Struct, frozen=True, array_like=True):
    """One recognition fact: what one resource says of one catalogue item.

    Times are microseconds since 1970 UTC. `result` is key64("Type/id") of the resource itself.
    """

    item: str  # catalogue code such as L001, I003, or "" when not mapped
    time: int  # clinical time: collection or exam; lower bound
    time_high: int  # upper bound of a partial date, else equal to time
    issued: int  # when the report was issued, 0 when unknown
    kind: str  # "lab" | "imaging"
    status: str  # the resource's own status code
    issuer: str  # logical id of the issuing Organization, "" when unknown
    specimen: str  # canonical specimen class of the catalogue, "" when unknown
    unit: str  # UCUM unit of the value, "" when none
    method: str
    value: str  # value as spelled, for the card
    laterality: str
    flags: int  # bits: see recognition.facts
    mark: str  # printed mark as received, "" when none
    source: str  # "Observation/abc": the resource the fact was read from
    more: str = ""  # what few facts say, packed: see recognition.facts_more


class ReportLink(msgspec.Struct, frozen=True, array_like=True):
    """A report's status, for one of its results. `result` is key64("Observation/id")."""

    result: int
    status: str
    issued: int
    more: str = ""  # what the report says for all of them: see recognition.facts_more


class Evaluation(msgspec.Struct, frozen=True, array_like=True):
    """One row of the register of quality evaluations: institution x item x area x period."""

    institution: str
    item: str
    area: str
    start: str  # date, inclusive
    end: str  # date, inclusive
    passed: bool
    evaluator: str
    round: str
