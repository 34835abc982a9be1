"""The values of recognition: what is asked, what is known, what is decided.

All are frozen msgspec Structs, so that a decision and its inputs can be recorded as JSON and
decided again years later: `msgspec.json.decode(msgspec.json.encode(x), type=type(x)) == x`.
The one function over them is

    decide(query: Query, candidates: Sequence[Candidate], rule_set: RuleSet | None,
           catalogue: Catalogue) -> Decision

in `recognition.decide`. Times are microseconds since 1970 UTC; calendar days are those of
`Query.zone`. The four outcomes are those of docs/flows: a doctor decides, the gateway reminds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from fhir_gateway.store.changes import Evaluation

Outcome = Literal["recognize", "view-only", "not-recognizable", "cannot-decide"]
Verdict = Literal["pass", "fail", "unknown", "not-applicable"]

#: What a rule does when it is not met. `no-suggestion` keeps the reminder and withholds the offer
#: to replace the order; `information` is only told.
Effect = Literal["not-recognizable", "view-only", "no-suggestion", "information"]

#: Bits of Fact.flags and Candidate.flags.
CRITICAL = 1  # a critical (panic) value: interpretation HH, LL, AA
ABNORMAL = 2  # any other interpretation than normal
PENDING = 4  # no result yet: registered, preliminary, or without a value
TEXT_ONLY = 8  # the value is words, no number and no code
IMAGES = 16  # the images can be fetched: an endpoint is known
NO_IMAGES = 32  # it is known that there are no images to fetch
PRINTED_MARK = 64  # a recognition mark was printed on the report
DATA_ABSENT = 128  # dataAbsentReason: not done, failed, asked but unknown
VALUELESS = 256  # a final result that carries no value at all
CONTRADICTORY = 512  # reports or studies of one accession number say different items

#: Statuses of a result or report that is still to come.
COMING = frozenset({"registered", "preliminary", "partial"})

#: What may be said of the patient's situation in Query.context; each points to a lawful ground.
CONTEXTS = (
    "emergency",
    "pre-operation",
    "pre-transfusion",
    "forensic",
    "inpatient-new",
    "pregnancy",
    "intensive-care",
    "dialysis",
    "newborn",
    "chemotherapy",
    "anticoagulation",
)


class OrderedItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order line. `item` is the catalogue code, None when the order could not be mapped."""

    key: str  # id of the line, given back in the answer
    item: str | None
    display: str = ""
    specimen: str = ""  # canonical specimen class, "" when the order does not say
    laterality: str = ""  # R, L, B or ""
    contrast: str = ""  # none, with, without-with or ""
    method: str = ""


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """How sure it is who the patient is; see store.Person."""

    documented: bool = False
    contested: bool = False
    #: An open proposal names a record of another person, who has a result of an ordered item.
    doubtful: bool = False


class Query(msgspec.Struct, frozen=True, omit_defaults=True):
    """One question of one workstation about one patient."""

    patient: str  # logical id of the Patient the order names
    home: int
    items: tuple[OrderedItem, ...]
    receiver: str  # logical id of the ordering Organization
    receiver_area: str  # GB/T 2260 code of its area, "" when unknown
    as_of_us: int
    zone: str = "Asia/Shanghai"
    context: frozenset[str] = frozenset()
    identity: Identity = Identity()
    t: int = 0  # commit number of the snapshot that the candidates were read from
    #: `Areas.within(receiver_area)`, sorted: all areas whose mark reaches the receiver.
    receiver_within: tuple[str, ...] = ()
    homes: tuple[int, ...] = ()  # all homes of the person when there are several, else empty
    context_known: bool = True  # whether the caller said anything of the patient's situation
    born: str = ""  # date of birth as far as it is known, a FHIR date


class Candidate(msgspec.Struct, frozen=True):
    """What the engine sees of one stored result."""

    source: str  # "Observation/abc"
    rid: int
    version: int
    patient: str  # logical id of the Patient the result names
    item: str
    kind: Literal["lab", "imaging"]
    time: int  # collection or exam: lower bound
    time_high: int  # upper bound, equal to `time` when exact
    issued: int  # 0 when unknown
    status: str  # the resource's own status
    report_status: str = ""  # status of the report that carries it, "" when there is none
    report_source: str = ""  # "DiagnosticReport/id" or ""
    issuer: str = ""
    specimen: str = ""
    unit: str = ""
    method: str = ""
    value: str = ""
    laterality: str = ""
    flags: int = 0
    mark: str = ""
    images: bool | None = None  # retrievable; None when nobody knows
    evaluations: tuple[Evaluation, ...] = ()  # the issuer's rows of the register for the item
    t_from: int = 0
    time_of: str = ""  # which time `time` is: collected, performed, started, issued or ""
    zone_known: bool = True  # False: the stamp had no zone and its source has none registered
    quantity: str = ""  # value in the catalogue's UCUM unit, as spelled decimal; "" if not exact
    instrument: str = ""
    region: str = ""  # DICOM body part, upper case
    contrast: str = ""  # none, with, without-with or ""
    accession: str = ""
    panel: str = ""  # catalogue item of the panel whose report carries it
    interval: str = ""  # kind of the reference interval
    door: str = ""  # fhir, v2, dicom, cda, table or ""
    retrievable: bool | None = None  # an active Endpoint whose last check passed; None unknown


class Line(msgspec.Struct, frozen=True):
    """What one rule says of one candidate. Its sentence is rendered by `recognition.texts`."""

    rule: str  # criterion and version, such as report-final@1
    verdict: Verdict
    reason: str  # short code, "" when passed; (rule, reason) selects the sentence
    effect: Effect  # what the rule does when it is not met
    evidence: str  # "Observation/abc/_history/2" of another result; "" for the line's own
    clause: str  # what the rule set cites for it
    values: dict[str, str | int] = {}


class Other(msgspec.Struct, frozen=True):
    """A candidate that was not chosen, with the first line that decided so.

    `superseded`: older than a chosen one that can be recognised, and therefore not judged.
    """

    source: str
    version: int
    outcome: Outcome | Literal["superseded"]
    line: Line


class Newer(msgspec.Struct, frozen=True):
    """A result of the item that is, or may be, newer than the chosen one. Always shown."""

    candidate: Candidate
    outcome: Outcome
    pending: bool


class ItemOutcome(msgspec.Struct, frozen=True):
    """The answer for one order line."""

    key: str
    item: str | None
    outcome: Outcome
    reason: str  # code of the deciding line: usable, none-available-to-you, too-old …
    chosen: Candidate | None = None
    lines: tuple[Line, ...] = ()  # all lines of the chosen candidate
    others: tuple[Other, ...] = ()
    newer: tuple[Newer, ...] = ()
    suggest: bool = False  # the workstation may offer to use the result in place of the order
    window_days: int | None = None
    window_source: str = ""  # published:HUB, compiled, rule-set, "" when there is no window
    ground: str = ""  # N1 … N6: lawful ground that the patient's situation points to
    window_from: int = 0  # the chosen result's time from which the window counts, 0 when unknown


class Decision(msgspec.Struct, frozen=True):
    """The answer to a Query. `rule_set` is "url|version", "" when none was in force; `layers` are
    those of all levels where the rules of several were resolved, the nation's first."""

    items: tuple[ItemOutcome, ...]
    rule_set: str
    as_of_us: int
    t: int
    catalogue: str = ""  # edition
    layers: tuple[str, ...] = ()
