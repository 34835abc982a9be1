"""The work of an export: page after page into files, then the audit, then the end.

Everything is as of the commit `t` of the request. A checkpoint after every page says which pages
and bytes count, so that a worker that was killed is followed by one that goes on there, and the
files are the same as if nothing had happened. Law of audit: before the job is done, and with that
before anybody can fetch a file, every person whose resources are in the files stands in the ledger
of disclosures (export_ledger.py); each download is then an event of its own (docs/api/bulk.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant, render
from fhir_gateway.interactions.asynchronous import Asked, acting, asked_of, wanted_of
from fhir_gateway.interactions.audit import patient_of
from fhir_gateway.interactions.conditional import pairs_of
from fhir_gateway.interactions.export import Export
from fhir_gateway.interactions.export_files import File, Writer, keep_only, make_folder
from fhir_gateway.interactions.export_filter import Filter, filter_of
from fhir_gateway.interactions.export_ledger import PERSONS, Ledger
from fhir_gateway.interactions.export_persons import Persons
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.interactions.narrowing import scoped
from fhir_gateway.interactions.permits import Asked as Request
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.jobs import Job
from fhir_gateway.store.store import Stored

#: Resources of one page, and lines of one file, at most (a file may be over by one page).
PAGE, FILE_LINES = 1_000, 100_000

#: The filters of each type that has some: one of them must be met.
Filters = Mapping[str, Sequence[Filter]]

#: The lists of the manifest, in the order in which their files are written.
OUTPUT, DELETED = "output", "deleted"


class State(msgspec.Struct):
    """The checkpoint. `place` counts through the types of the output, then of what was deleted;
    `rid` is the last resource of the type that counts. `writing` is a file that is not whole;
    `persons` bytes of the list of persons count, `audited` of them are in the ledger, which names
    `named` persons by then."""

    place: int = 0
    rid: int = 0
    files: list[File] = []
    writing: File | None = None
    persons: int = 0
    audited: int = 0
    count: int = 0
    named: int = 0


def state_of(job: Job) -> State:
    """How far a job is; when it is done, what came out."""
    return msgspec.json.decode(job.checkpoint, type=State) if job.checkpoint else State()


def manifest(job: Job, *, base: str) -> bytes:
    """The manifest of an export that is done, with addresses under this base."""
    asked, files = asked_of(job), state_of(job).files
    lists: dict[str, list[dict[str, Any]]] = {OUTPUT: [], DELETED: [], "error": []}
    for file in files:
        url = f"{base}/_async/{job.id}/{file.name}"
        lists[file.kind].append({"type": file.type, "url": url, "count": file.count})
    return render({
        "transactionTime": instant(asked.updated),
        "request": asked.request,
        "requiresAccessToken": True,
        **lists,
    })  # fmt: skip


async def work(held: Held) -> Done:
    """Does an export. Raises Lost and Stopped as `Held.step` does."""
    asked, wanted = asked_of(held.job), wanted_of(held.job, Export)
    place = "Patient" if wanted.persons else ""
    request = Request("operation", place, operation="$export")
    actor = await scoped(held.gateway, await acting(held.gateway, asked), request)
    filters = await _filters(held.gateway, asked, wanted)
    return await _Work(held, asked, wanted, actor, filters).run()


class _Work:
    """One worker at one export."""

    def __init__(
        self, held: Held, asked: Asked, wanted: Export, actor: Actor, filters: Filters
    ) -> None:
        self.held, self.gateway = held, held.gateway
        self.asked, self.wanted, self.actor = asked, wanted, actor
        self.state = state_of(held.job)
        self.folder: Path = make_folder(held.gateway.settings, held.job.id)
        self.filters = filters
        self.persons = Persons(self.folder, held.job.fence, counted=self.state.persons)
        self.writer: Writer | None = None

    async def run(self) -> Done:
        try:
            await self._write()
            await self._audit()
        finally:
            self.persons.close()
            if self.writer is not None:
                self.writer.close()
        names = [file.name for file in self.state.files]
        keep_only(self.folder, names, fence=self.held.job.fence)
        return Done(f"{self.state.count} resources", self._checkpoint())

    async def _write(self) -> None:
        """All pages of all types that are not written yet."""
        types = [(OUTPUT, type) for type in self.wanted.types]
        if self.wanted.since is not None:
            types += [(DELETED, type) for type in self.wanted.types]
        self._resume()
        for place in range(self.state.place, len(types)):
            kind, type = types[place]
            while rows := await self._page(kind, type):
                await self._step(type)
                if rows < PAGE:
                    break
            self._finish(after=kind if kind == DELETED and place + 1 < len(types) else "")
            self.state.place, self.state.rid = place + 1, 0
        await self._step("")

    def _resume(self) -> None:
        """Goes on with the file that another worker left, under a name of our own."""
        left = self.state.writing
        if left is not None:
            name = _name(left.kind, left.type, len(self.state.files), self.held.job.fence)
            renamed = msgspec.structs.replace(left, name=name)
            self.writer = Writer(self.folder, renamed, instead_of=left.name)

    async def _page(self, kind: str, type: str) -> int:
        """Writes the next page of a type; says of how many resources it was chosen."""
        wanted = self.wanted
        async with self.gateway.store.snapshot(self.actor.access) as reader:
            page = await reader.scan(
                type,
                until_t=self.asked.t,
                after_rid=self.state.rid,
                limit=PAGE,
                updated_from=wanted.since,
                patients=wanted.patients,
                deleted=kind == DELETED,
            )
        if page:
            self.state.rid = page[-1].rid
        chosen = [stored for stored in page if self._is_wanted(kind, stored)]
        if chosen:
            lines = [_bundle(chosen)] if kind == DELETED else [one.whole() for one in chosen]
            self._open(kind, type).add(lines)
            self.persons.add((one.home, patient_of(one)) for one in chosen if one.home > 0)
            self.state.count += len(chosen)
        return len(page)

    def _is_wanted(self, kind: str, stored: Stored) -> bool:
        if self.wanted.persons and stored.home <= 0:
            return False
        filters = self.filters.get(stored.type)
        return kind == DELETED or filters is None or any(meets(stored) for meets in filters)

    def _open(self, kind: str, type: str) -> Writer:
        """The file that the next page of a type goes to."""
        if self.writer is not None and self.writer.file.count >= FILE_LINES:
            self._finish()
        if self.writer is None:
            shown = "Bundle" if kind == DELETED else type
            name = _name(kind, shown, len(self.state.files), self.held.job.fence)
            self.writer = Writer(self.folder, File(name, kind, shown))
        return self.writer

    def _finish(self, after: str = "") -> None:
        """Ends the file; Bundles of deletions of several types share one."""
        if self.writer is not None and not after:
            self.state.files = [*self.state.files, self.writer.finish()]
            self.writer = None

    async def _audit(self) -> None:
        """The ledger of the persons in the files, then one event of the whole."""
        types = sorted({file.type for file in self.state.files})
        ledger = Ledger(self.gateway, self.actor, self.asked, self.held.job.id, types)
        while (piece := self.persons.after(self.state.audited, PERSONS)).people:
            await ledger.name(piece.people, at=self.state.audited)
            self.state.audited, self.state.named = piece.end, self.state.named + len(piece.people)
            await self._step("")
        await ledger.close(
            resources=self.state.count, persons=self.state.named, files=len(self.state.files)
        )

    async def _step(self, type: str) -> None:
        self.state.persons = self.persons.sync()
        about = f" ({type})" if type else ""
        await self.held.step(f"{self.state.count} resources{about}", self._checkpoint())

    def _checkpoint(self) -> str:
        self.state.writing = None if self.writer is None else self.writer.file
        return msgspec.json.encode(self.state).decode()


async def _filters(gateway: Gateway, asked: Asked, wanted: Export) -> Filters:
    found: dict[str, list[Filter]] = {}
    for type, query in wanted.filters:
        found.setdefault(type, []).append(
            await filter_of(gateway, type, pairs_of(query), base=asked.base)
        )
    return found


def _name(kind: str, type: str, number: int, fence: int) -> str:
    """A name of its own for each file and each worker."""
    told = "deleted" if kind == DELETED else type
    return f"{number:04d}-{told}-{fence}.ndjson"


def _bundle(deleted: Sequence[Stored]) -> bytes:
    """What was deleted, as the Bundle that would delete it elsewhere."""
    entries = [
        {"request": {"method": "DELETE", "url": f"{stored.type}/{stored.id}"}} for stored in deleted
    ]
    return render({"resourceType": "Bundle", "type": "transaction", "entry": entries})
