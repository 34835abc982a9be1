"""The check of a whole audit log: records, tree, heads, statements, index rows, witnesses.

Every record's stored bytes are hashed again and compared with its leaf, the tree is built anew from
the leaves and must give every node that is stored and every head that was signed, and what is made
of the journal must still lead to it. So a byte that was changed, a record that was removed, added,
moved or back-dated, a head or a statement that is not the log's own is found and named. What only
somebody outside can know, that a whole database was set back, is found by a witness's file.

`python docs/verify/verify_audit.py` does the same without a line of this code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, NamedTuple

from fhir_gateway.store.log import NOWHERE, Place
from fhir_gateway.transparency.note import Checkpoint, Malformed, Verifier
from fhir_gateway.transparency.purged import Span, unaccounted
from fhir_gateway.transparency.statement import RECOVERY, Statement, check_chain
from fhir_gateway.transparency.told import encoded
from fhir_gateway.transparency.verify_found import Finding, Report
from fhir_gateway.transparency.verify_heads import (
    Signed,
    check_head,
    check_nodes,
    check_order,
    check_roots,
    check_statements,
    check_witness,
    read_witness,
)
from fhir_gateway.transparency.verify_index import check_rows, check_whole
from fhir_gateway.transparency.verify_leaves import (
    Checked,
    Piece,
    behind,
    check_piece,
    pieces_of,
)
from fhir_gateway.transparency.verify_read import DAMAGE, Reading, open_reading

#: Records and heads of a quick check, from the end.
QUICK = 10_000

#: Heads whose signatures are checked in one go.
_HEADS = 500

Progress = Callable[[str, int, int], None]


class Wanted(NamedTuple):
    """What is to be checked: from which leaf on, whether the index rows too, against which witness
    file, and with which key the log must have begun."""

    start: int = 0
    quick: bool = False
    witness: str = ""
    key: Verifier | None = None
    jobs: int = 1


def verify(
    database: str,
    wanted: Wanted | None = None,
    progress: Progress = lambda what, done, of: None,
) -> Report:
    """Checks the log of a store. Raises Invalid or Unavailable when it cannot be opened."""
    report = Report()
    try:
        reading = open_reading(database)
        try:
            _Check(reading, database, wanted or Wanted(), progress, report).run()
        finally:
            reading.close()
    except DAMAGE as error:
        why = f"it cannot be read ({error.__class__.__name__})"
        report.add(Finding("damage", "database", why))
    return report


class _Check:
    """One run of the check."""

    def __init__(
        self,
        reading: Reading,
        database: str,
        wanted: Wanted,
        progress: Progress,
        report: Report,
    ) -> None:
        self._reading, self._database = reading, database
        self._wanted, self._progress, self.report = wanted, progress, report
        self._events: dict[str, bytes] = {}  # AuditEvents that must tell of statements
        self._seen: dict[str, bool] = {}
        self._gone: list[Place] = []  # of records that were removed
        self._spans: list[Span] = []  # that events of the log say were removed

    def run(self) -> None:
        """Everything, in order."""
        reading, wanted, report = self._reading, self._wanted, self.report
        chain = self._statements()
        heads = reading.rows("SELECT size, t, n, i, signed, note, beat FROM log_head ORDER BY size")
        kept = self._witnessed()
        size, last = (heads[-1][0], tuple(heads[-1][1:4])) if heads else (0, NOWHERE)
        size = self._filled(size)
        report.size, report.heads = size, len(heads)
        signed = heads[-QUICK:] if wanted.quick else heads
        sizes = [*(head[0] for head in signed), *(each.size for each in chain)]
        sizes += [said.size for _, said in kept]
        roots, report.nodes, found = check_nodes(
            reading,
            size,
            [each for each in sizes if 0 <= each <= size],
            lambda number: self._progress("nodes", number * 256, size),
        )
        self._add(found)
        with _Work(self._database, wanted.jobs, reading) as work:
            self._heads(work, signed, chain, roots)
            self._leaves(work, size, (last[0], last[1], last[2]))
        self._add(check_statements(chain, roots))
        self._add(check_witness(kept, chain, roots, size))
        report.recoveries = [
            f"{each.origin} goes on from size {each.size}: {each.reason}"
            for each in chain
            if each.kind == RECOVERY
        ]

    def _filled(self, size: int) -> int:
        """The size as far as there are tiles: whoever wrote a larger one may not keep us busy."""
        there: int = self._reading.rows("SELECT count(*) FROM log_tile WHERE level = 0")[0][0] * 256
        if 0 <= size <= there:
            return size
        what = f"there are tiles for {there} leaves only"
        self.report.add(Finding("removed", f"head {size}", what))
        return there if size > there else 0

    def _statements(self) -> list[Statement]:
        """The chain of statements; what they ask of the journal is kept."""
        rows = self._reading.rows(
            "SELECT ordinal, size, kind, note, event FROM log_turn ORDER BY ordinal"
        )
        try:
            chain = check_chain([row[3] for row in rows])
        except (Malformed, TypeError) as error:
            self.report.add(Finding("changed", "statements", str(error)))
            return []
        for row, statement in zip(rows, chain, strict=True):
            said = (statement.number, statement.size, statement.kind, statement.number > 1)
            if (*row[:3], bool(row[4])) != said:
                what = "its row says something else"
                self.report.add(Finding("changed", f"statement {statement.number}", what))
        key = self._wanted.key
        if key is not None and (not chain or chain[0].key != key):
            what = "the log did not begin with the given key"
            self.report.add(Finding("signature", "statement 1", what))
        self._events = {row[4]: encoded(row[3]) for row in rows if row[4]}
        return chain

    def _witnessed(self) -> list[tuple[str, Checkpoint]]:
        try:
            kept = read_witness(self._wanted.witness)
        except Malformed as error:
            self.report.add(Finding("witness", "witness file", f"it cannot be read: {error}"))
            return []
        self.report.witnessed = len(kept)
        return kept

    def _heads(
        self,
        work: _Work,
        heads: Sequence[Sequence[Any]],
        chain: list[Statement],
        roots: Mapping[int, bytes],
    ) -> None:
        """Signatures, times and roots of all heads."""
        parts = [(heads[at : at + _HEADS], chain) for at in range(0, len(heads), _HEADS)]
        checked: list[tuple[int, Signed]] = []
        for part in work.run(_signatures, parts):
            checked += part
            self._progress("heads", len(checked), len(heads))
        for _, signed in checked:
            self._add(signed.findings)
        self._add(check_order(checked))
        self._add(check_roots(checked, roots))

    def _leaves(self, work: _Work, size: int, last: Place) -> None:
        """Records against leaves, and index rows against records."""
        reading, wanted, report = self._reading, self._wanted, self.report
        start = max(wanted.start, size - QUICK) if wanted.quick else wanted.start
        pieces = pieces_of(reading, size, last, start=start)
        for checked, found in work.run(
            _piece, [(piece, self._events, wanted.quick) for piece in pieces]
        ):
            self._take(checked)
            self._add(found)
            self._progress("records", report.leaves, size)
        unsigned = check_piece(reading, behind(last), self._events, numbered=False)
        self._take(unsigned._replace(leaves=0))
        report.unsigned = unsigned.leaves
        if wanted.quick:
            return
        self._add(check_whole(reading))
        if start == 0:
            self._accounts()

    def _accounts(self) -> None:
        """Whether the log itself tells of its statements, and of every record that is gone."""
        for place in unaccounted(self._gone, self._spans):
            what = "it is gone, and no event of the log says that it was lawfully removed"
            self.report.add(Finding("removed", f"record at place {place}", what))
        for id in self._events:
            if not self._seen.get(id, False):
                what = "the log does not hold the event that tells of a statement"
                self.report.add(Finding("removed", f"AuditEvent/{id}", what))

    def _take(self, checked: Checked) -> None:
        self.report.leaves += checked.leaves
        self.report.purged += len(checked.gone)
        self._add(checked.findings)
        self._seen.update(checked.events)
        self._gone += checked.gone
        self._spans += checked.spans

    def _add(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.report.add(finding)


# -- work that may run side by side --------------------------------------------------------------


class _Work:
    """Runs checks in this process, or in several, each with a reading of its own."""

    def __init__(self, database: str, jobs: int, reading: Reading) -> None:
        self._reading = reading
        self._pool = (
            ProcessPoolExecutor(
                jobs, mp_context=get_context("spawn"), initializer=_open, initargs=(database,)
            )
            if jobs > 1
            else None
        )

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def run(self, check: Callable[[Reading, Any], Any], asked: Sequence[Any]) -> Iterator[Any]:
        """What the check says of each, in order."""
        if self._pool is None or len(asked) < 2:
            return (check(self._reading, each) for each in asked)
        return self._pool.map(_run, [(check, each) for each in asked], chunksize=1)


_readings: list[Reading] = []


def _open(database: str) -> None:
    _readings.append(open_reading(database))


def _run(asked: tuple[Callable[[Reading, Any], Any], Any]) -> Any:
    check, each = asked
    return check(_readings[0], each)


def _signatures(reading: Reading, part: tuple[Any, list[Statement]]) -> list[tuple[int, Signed]]:
    heads, chain = part
    return [(head[0], check_head(head, chain)) for head in heads]


def _piece(
    reading: Reading, asked: tuple[Piece, Mapping[str, bytes], bool]
) -> tuple[Checked, list[Finding]]:
    piece, events, quick = asked
    return check_piece(reading, piece, events), [] if quick else check_rows(reading, piece)
