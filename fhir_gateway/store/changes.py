"""A change set: what a commit does, as data that can cross a socket.

A change set is new versions plus guards. Guards are judged in order under the write lock; when
one fails nothing of the change set is stored but its refusal (an audit entry), and the others in
the batch are not disturbed. All values are msgspec Structs so that a front process can send them
to the writer process as they are.
"""

from __future__ import annotations

import msgspec

from fhir_gateway.store.claim_rows import Claim, ScheduleRow, SlotRow
from fhir_gateway.store.message_changes import MessageRow, MessageSettled, RefusedBody

#: index rows, keyed by parameter hash (see search.index.parameter_key)
IntRow = tuple[int, int, int]  # (parameter, v1, v2)
TextRow = tuple[int, str]  # (parameter, normalised text)


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


class Opening(msgspec.Struct, frozen=True, array_like=True):
    """Why a party may look into a person's home for a time: a treatment relation, or an emergency.

    `party` is the owner key of the Organization (key64("Organization/id")), `kind` encounter,
    order, referral, appointment, decision, case or break-glass. `grade` 0 is a relation and no
    more, 1 opens ordinary rows whatever a consent says, 2 rows of every class; -1 is no relation
    and opens one row alone, whatever a consent says: that of the resource whose key is `source`.
    It holds from `since` until before `until` (µs).

    In `Derived` the resource itself says so: its home and its key take the places of `home` and
    `source`, which stay 0, and it holds as long as the version is current. In
    `ChangeSet.openings` `home` is a person's, and `source` any number that names the reason; one
    with the same home, party, kind and source is extended, never shortened, and its grade is the
    new one; where `until` is not after `since` it is closed with this commit.
    """

    home: int
    party: int
    kind: str
    grade: int
    since: int
    until: int
    source: int = 0


class ConsentRow(msgspec.Struct, frozen=True, array_like=True):
    """One sentence of a person's consent, flattened; its home is that of the Consent.

    `party` is whom it is about, 0 everybody who asks; `owner` whose rows, 0 every institution's
    (both owner keys, as in `Opening`); `class_` their sensitivity, -1 all of them, which a denial
    may say and a permission may not. Of several that meet a row the highest `rank` (0 or more)
    decides, at equal rank a denial. It holds from `since` until before `until` (µs).
    """

    party: int
    owner: int
    class_: int
    rank: int
    permit: bool
    since: int
    until: int


class Derived(msgspec.Struct, array_like=True):
    """All rows that a resource gives rise to beside itself; made by pure functions.

    Openings and consents are those of a resource in a person's home; elsewhere they say nothing.
    """

    ints: list[IntRow] = []  # patient-bound or home-bound rows (px)
    texts: list[TextRow] = []  # (px_text)
    global_ints: list[IntRow] = []  # rows of the small global index (gx)
    global_texts: list[TextRow] = []  # (gx_text)
    facts: list[Fact] = []
    links: list[ReportLink] = []
    evaluations: list[Evaluation] = []
    identity: list[tuple[bytes, int]] = []  # (key, kind): 1 document and name, 2 document alone
    aliases: list[tuple[str, str, str]] = []  # (Patient, Patient, cause): one person's
    proposals: list[tuple[str, str, str]] = []  # (Patient, Patient, grade): perhaps one person's
    openings: list[Opening] = []
    consents: list[ConsentRow] = []
    schedules: list[ScheduleRow] = []  # of a Schedule, one
    slots: list[SlotRow] = []  # of a Slot, one


class Put(msgspec.Struct, array_like=True):
    """One new version of one resource.

    `patient` names the Patient (logical id) whose home the row belongs to; `follow` names
    another local resource ("Type/id") whose home it shares; `home` is a fixed home (0, or an
    institution's). `body` is the tail of the resource (see fhir.wire.tail), encoded as `enc`
    says. `op` is create, update or delete; a create of an id that exists is an update.
    """

    type: str
    id: str
    op: str
    enc: int = 0
    body: bytes = b""
    patient: str | None = None
    follow: str | None = None
    home: int = 0
    owner: int = 0  # key64("Organization/id") of the owning institution, 0 for none
    sensitivity: int = 0
    derived: Derived = msgspec.field(default_factory=Derived)
    source: bytes | None = None  # hash of the received bytes it was made from
    only_if_changed: bool = False  # intake: the same content makes no new version
    raises_epoch: bool = False  # definitions, rule sets, registers, consents


class Reindex(msgspec.Struct, array_like=True):
    """Other derived rows for a version that is current; nothing is done when it is not any more,
    or when the same change set puts the resource.

    The resource stays as it is: no new version, no row in the change log. Index rows and identity
    keys are replaced. What a decision may have read (facts, links, evaluations) ends at this
    commit where it is not derived any more, begins where it is new, and stays where it is the same.
    So do openings and consents.
    """

    type: str
    id: str
    version: int
    derived: Derived


#: The version of what must never have been stored, not even be deleted.
NEVER = -2


class VersionIs(msgspec.Struct, frozen=True, array_like=True, tag_field="guard", tag="version"):
    """If-Match: the current version must be this one (0: must not exist, -1: must exist, NEVER)."""

    type: str
    id: str
    version: int


class Absent(msgspec.Struct, frozen=True, array_like=True, tag_field="guard", tag="absent"):
    """If-None-Exist: no current resource may carry this indexed token.

    (parameter, v1, v2) is looked up in the global index; v2 None matches any system. With `owners`
    only resources of these (and of nobody) count: one that the caller may not see is no match.
    """

    type: str
    parameter: int
    v1: int
    v2: int | None
    owners: tuple[int, ...] | None = None


class Exists(msgspec.Struct, frozen=True, array_like=True, tag_field="guard", tag="exists"):
    """Referential integrity: "Type/id" must be stored and not deleted (or be put in this set)."""

    reference: str
    expression: str


class Unique(msgspec.Struct, frozen=True, array_like=True, tag_field="guard", tag="unique"):
    """A business key that may be used once for ever."""

    kind: str
    key: bytes


class Counter(msgspec.Struct, frozen=True, array_like=True, tag_field="guard", tag="counter"):
    """A counted limit: the counter grows by `by` and must stay within 0..cap."""

    key: bytes
    by: int
    cap: int


class Settled(msgspec.Struct, frozen=True, array_like=True, tag_field="guard", tag="settled"):
    """A search still means what it meant: no version of these types was committed after `since`.

    For conditions that no index key stands for. `homes` limits it to what stands in these homes,
    empty means everywhere. It never misses a change; one that would not matter fails it too.
    """

    types: tuple[str, ...]
    homes: tuple[int, ...]
    since: int  # the commit that the search saw


Guard = VersionIs | Absent | Exists | Unique | Counter | Settled


class Entry(msgspec.Struct, array_like=True):
    """A record of the append-only journal: an AuditEvent or a GuidanceResponse.

    `home` is the person's home (0 when the act concerns nobody). `body` is a tail, as in Put.
    """

    type: str
    id: str
    home: int
    enc: int
    body: bytes
    owner: int = 0
    nonce: bytes = b""  # 16 random bytes, AuditEvent only
    leaf: bytes = b""  # audit.tree.leaf(nonce, tail), AuditEvent only
    patient: str | None = None  # resolves the home in the writer when given
    homes: list[int] = []  # persons' homes besides, whose record of accesses names the entry


class Once(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a repeat: (kind, key) is stored with its response in the same commit."""

    kind: str
    key: bytes
    response: bytes


class Received(msgspec.Struct, frozen=True, array_like=True):
    """What a door received, kept by hash (SHA-256) as it came."""

    hash: bytes
    media: str
    enc: int
    body: bytes


class Credential(msgspec.Struct, frozen=True, array_like=True):
    """A static bearer token of an institution, by its SHA-256; revoked when `active` is false."""

    hash: bytes
    institution: str
    active: bool = True


class ClientRow(msgspec.Struct, frozen=True, array_like=True):
    """A client that may ask for tokens; `body` is JSON (security.clients). It raises the epoch."""

    id: str
    active: bool
    body: bytes


class TokenRow(msgspec.Struct, frozen=True, array_like=True):
    """An access token of a client, by its SHA-256; ended when `active` is false. Times are µs."""

    hash: bytes
    client: str
    issued: int
    until: int
    body: bytes = b""
    active: bool = True


class ChangeSet(msgspec.Struct, array_like=True):
    """One atomic request to the store. Sent again with the same id it has no second effect.

    One that only records what was read, or derives rows again (with no guard but Settled), may do
    without an id (b""): it is not remembered. `reindex` follows the puts. `indexed` says that from
    this commit on the rows of all resources are of that version (search/version.py); 0 says
    nothing. `openings` are openings that no stored resource stands for. `messages` are what doors
    received, `refused` the bytes of those that were refused, `dropped` hashes of such bytes.
    """

    id: bytes  # 16 random bytes
    guards: list[Guard] = []
    puts: list[Put] = []
    journal: list[Entry] = []
    once: Once | None = None
    received: list[Received] = []
    credentials: list[Credential] = []
    refusal: Entry | None = None  # the audit entry of the refusal, should a guard fail
    institution: str = ""  # the institution that sends it, for the list of sources
    urgent: bool = False  # decisions and audit of reads go first
    reindex: list[Reindex] = []
    indexed: int = 0
    openings: list[Opening] = []
    clients: list[ClientRow] = []
    tokens: list[TokenRow] = []
    forgotten: list[bytes] = []  # hashes of tokens that have ended
    claims: list[Claim] = []  # judged in order after the guards, before Slots of this set are put
    messages: list[MessageRow] = []
    refused: list[RefusedBody] = []
    dropped: list[bytes] = []
    settled: list[MessageSettled] = []


class PutResult(msgspec.Struct, frozen=True, array_like=True):
    """What became of one Put: outcome is created, updated, unchanged or deleted."""

    type: str
    id: str
    version: int
    outcome: str
    home: int


class Committed(msgspec.Struct, frozen=True, array_like=True):
    """The durable outcome of a change set. `updated` is microseconds since 1970 UTC.

    `repeated` is true when the change set (or its Once key) had been committed before; then
    `response` carries the stored answer of the Once.
    """

    t: int
    n: int
    updated: int
    results: list[PutResult] = []
    repeated: bool = False
    response: bytes = b""
