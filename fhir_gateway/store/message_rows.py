"""The register of messages in a batch: what is gathered, and how each driver writes it.

A message is one row by its id, which is made of institution, door, once key and content: sent again
it is the same row. Rows of one message within a batch are joined here, so that both databases
see the same. docs/messages.md
"""

# ruff: noqa: S608 - SQL is put together from names of the schema; values are always bound

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.message_changes import MessageRow
from fhir_gateway.store.rows import Row, Rows

if TYPE_CHECKING:
    import apsw

#: Outcome -> which of the counters it raises, by their place in a row of `message_count`.
_COUNTED = {"stored": 4, "flagged": 5, "refused": 6, "repeated": 7}

#: Places in a row of `message`.
_ID, _OUTCOME, _RECEIVED, _LAST, _ATTEMPTS = 0, 8, 15, 16, 17
_REFUSED = "refused"


def message_id(institution: str, door: str, key: bytes, hash: bytes) -> bytes:
    """The id of a message in the register: 16 bytes."""
    said = "\x1f".join((institution, door)).encode("utf-8", "surrogatepass")
    return sha256(b"%d:%s%d:%s%s" % (len(said), said, len(key), key, hash)).digest()[:16]


def add_messages(rows: Rows, change_set: ChangeSet, *, at: tuple[int, int, int]) -> None:
    """Gathers what a change set says of messages; `at` is (t, n, updated)."""
    for one in change_set.messages:
        _add(rows, one, *at)
    for kept in change_set.refused:
        rows.refused.append(
            (kept.hash, kept.institution, at[2], kept.size, kept.media, kept.enc, kept.body)
        )
    rows.refused_gone += [(hash,) for hash in change_set.dropped]
    rows.message_settled += [
        (one.state, at[2], one.who, one.reason, one.id) for one in change_set.settled
    ]


def _add(rows: Rows, one: MessageRow, t: int, n: int, updated: int) -> None:
    id = message_id(one.institution, one.door, one.key, one.hash)
    count = [one.institution, one.door, one.kind, 1, 0, 0, 0, 0, updated]
    count[_COUNTED[one.outcome]] = 1
    rows.message_count.append(tuple(count))
    if one.outcome == "repeated":
        rows.message_repeated.append((1, updated, id))
        return
    rows.message.append((
        id, one.institution, one.door, one.kind, one.name, one.key, one.hash, one.size,
        one.outcome, one.code, one.rule, one.issues, one.ack, one.stated, one.issued,
        updated, updated, 1, one.state, 0, one.who, "", t, n,
    ))  # fmt: skip
    if one.outcome != "refused":
        rows.message_overtaken.append((updated, one.key, one.institution, one.door, id, t, n))


# -- what is written, the same for both: the rows of a batch joined first -------------------------


def joined(messages: Sequence[Row]) -> list[Row]:
    """Each message once: as it is told last, first received when it was told first."""
    found: dict[Any, Row] = {}
    for row in messages:
        before = found.get(row[_ID])
        found[row[_ID]] = row if before is None else _both(before, row)
    return list(found.values())


def _both(before: Row, after: Row) -> Row:
    """Two rows of one message. What was stored stays so, whatever becomes of a repeat."""
    stands = before[_OUTCOME] != _REFUSED and after[_OUTCOME] == _REFUSED
    row = list(before if stands else after)
    row[_RECEIVED] = before[_RECEIVED]
    row[_LAST] = after[_LAST]
    row[_ATTEMPTS] = before[_ATTEMPTS] + after[_ATTEMPTS]
    return tuple(row)


def summed(counts: Sequence[Row]) -> list[Row]:
    """Each counter once, with all that was added to it."""
    found: dict[Row, Row] = {}
    for row in counts:
        key = tuple(row[:3])
        before = found.get(key, (*key, 0, 0, 0, 0, 0, 0))
        added = (one + other for one, other in zip(before[3:8], row[3:8], strict=True))
        found[key] = (*key, *added, max(before[8], row[8]))
    return list(found.values())


def bodies(refused: Sequence[Row]) -> list[Row]:
    """Bytes of each hash once."""
    return list({row[0]: row for row in refused}.values())


MESSAGE_COLUMNS = (
    "id", "institution", "door", "kind", "name", "key", "hash", "size", "outcome", "code", "rule",
    "issues", "ack", "stated", "issued", "received", "last", "attempts", "state", "settled", "who",
    "reason", "t", "n",
)  # fmt: skip

_NEW = "excluded.outcome <> 'refused'"
#: What was stored stays so, whatever becomes of a repeat.
_STANDS = "message.outcome <> 'refused' AND excluded.outcome = 'refused'"
_TOLD = ("outcome", "code", "rule", "issues", "ack", "stated", "issued", "t", "n")
_HELD = f"""
ON CONFLICT (id) DO UPDATE SET
  attempts = message.attempts + excluded.attempts,
  last = CASE WHEN excluded.last > message.last THEN excluded.last ELSE message.last END,
  settled = CASE WHEN message.state = 'open' AND {_NEW} THEN excluded.last
    ELSE message.settled END,
  who = CASE WHEN message.state = 'open' AND {_NEW} THEN excluded.who ELSE message.who END,
  state = CASE WHEN message.state = 'open' AND {_NEW} AND excluded.who <> '' THEN 'retried'
    WHEN message.state = 'open' AND {_NEW} THEN 'overtaken' ELSE message.state END,
  """ + ",\n  ".join(
    f"{name} = CASE WHEN {_STANDS} THEN message.{name} ELSE excluded.{name} END" for name in _TOLD
)

_COUNTERS = ("received", "stored", "flagged", "refused", "repeated")
_COUNT_HELD = f"""
ON CONFLICT (institution, door, kind) DO UPDATE SET
  {", ".join(f"{name} = message_count.{name} + excluded.{name}" for name in _COUNTERS)},
  last = CASE WHEN excluded.last > message_count.last THEN excluded.last
    ELSE message_count.last END"""


class Insert(NamedTuple):
    """How gathered rows are added; `kinds` are those of the columns: b, t, i."""

    gathered: str
    columns: tuple[str, ...]
    kinds: str
    held: str
    join: Callable[[Sequence[Row]], list[Row]]


class Change(NamedTuple):
    """How rows are changed by what was gathered: {0} … are the values of its rows."""

    gathered: str
    kinds: str
    verb: str
    where: str


INSERTS = (
    Insert("message", MESSAGE_COLUMNS, "btttt" "bbi" "ttt" "bb" "iiiii" "titt" "ii", _HELD,
           joined),
    Insert("refused", ("hash", "institution", "at", "size", "media", "enc", "body"), "btiitib",
           "ON CONFLICT (hash) DO NOTHING", bodies),
    Insert("message_count", ("institution", "door", "kind", *_COUNTERS, "last"), "tttiiiiii",
           _COUNT_HELD, summed),
)  # fmt: skip

CHANGES = (
    Change("message_repeated", "iib",
           "UPDATE message SET attempts = attempts + {0}, last = {1}", "id = {2}"),
    Change("message_overtaken", "ibttbii",
           "UPDATE message SET state = 'overtaken', settled = {0}",
           "key = {1} AND institution = {2} AND door = {3} AND id <> {4} AND state = 'open'"
           " AND (t, n) < ({5}, {6})"),
    Change("message_settled", "tittb",
           "UPDATE message SET state = {0}, settled = {1}, who = {2}, reason = {3}",
           "id = {4} AND state IN ('open', 'aside')"),
    Change("refused_gone", "b", "DELETE FROM refused", "hash = {0}"),
)  # fmt: skip


def repeats(rows: Sequence[Row]) -> list[Row]:
    """Each repeated message once, with the number of times."""
    found: dict[Any, Row] = {}
    for attempts, last, id in rows:
        before = found.get(id, (0, 0, id))
        found[id] = (before[0] + attempts, max(before[1], last), id)
    return list(found.values())


# -- SQLite ------------------------------------------------------------------------------------


def write_sqlite(connection: apsw.Connection, rows: Rows) -> None:
    """Writes what was gathered of messages, and forgets it."""
    for insert in INSERTS:
        if gathered := getattr(rows, insert.gathered):
            for row in insert.join(gathered) if len(gathered) > 1 else gathered:
                connection.execute(_sqlite_insert(insert), row)
            gathered.clear()
    for change in CHANGES:
        if gathered := getattr(rows, change.gathered):
            for row in gathered:
                connection.execute(_sqlite_change(change), row)
            gathered.clear()


@cache
def _sqlite_insert(insert: Insert) -> str:
    columns, marks = ", ".join(insert.columns), ", ".join("?" * len(insert.columns))
    return f"INSERT INTO {insert.gathered} ({columns}) VALUES ({marks}) {insert.held}"


@cache
def _sqlite_change(change: Change) -> str:
    marks = [f"?{place}" for place in range(1, len(change.kinds) + 1)]
    return f"{change.verb} WHERE {change.where}".format(*marks)


# -- PostgreSQL --------------------------------------------------------------------------------

_KINDS = {"b": "bytea", "t": "text", "i": "bigint"}


async def write_postgres(connection: Any, rows: Rows) -> None:
    """Writes what a batch has gathered of messages; the connection is asyncpg's. What is added to
    several tables is added by one statement: others wait for the batch."""
    added = tuple(insert for insert in INSERTS if getattr(rows, insert.gathered))
    if added:
        values = [zip(*one.join(getattr(rows, one.gathered)), strict=True) for one in added]
        await connection.execute(_postgres_inserts(added), *chain.from_iterable(values))
    for change in CHANGES:
        if gathered := getattr(rows, change.gathered):
            if change.gathered == "message_repeated":
                gathered = repeats(gathered)
            await connection.execute(_postgres_change(change), *zip(*gathered, strict=True))


def _unnested(kinds: str, first: int = 1) -> str:
    arrays = ", ".join(f"${place}::{_KINDS[kind]}[]" for place, kind in enumerate(kinds, first))
    return f"unnest({arrays})"


@cache
def _postgres_inserts(inserts: tuple[Insert, ...]) -> str:
    """One statement for all; each is into a table of its own."""
    parts, first = [], 1
    for one in inserts:
        columns = ", ".join(one.columns)
        source = f"SELECT * FROM {_unnested(one.kinds, first)}"
        parts.append(f"INSERT INTO {one.gathered} ({columns}) {source} {one.held}")
        first += len(one.kinds)
    *others, last = parts
    besides = ", ".join(f"add_{place} AS ({part})" for place, part in enumerate(others))
    return f"WITH {besides} {last}" if besides else last


@cache
def _postgres_change(change: Change) -> str:
    names = [f"v{place}" for place in range(len(change.kinds))]
    word = "USING" if change.verb.startswith("DELETE") else "FROM"
    source = f"{word} {_unnested(change.kinds)} q ({', '.join(names)})"
    return f"{change.verb} {source} WHERE {change.where}".format(*(f"q.{one}" for one in names))
