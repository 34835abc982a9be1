"""The ledger of an export: who is in its files, written before anybody can fetch one.

An event for each of a million persons would be a database of its own. So an AuditEvent names a
thousand of them at once, in its own bytes, which the audit log covers; one row for each person
leads there (`Entry.homes`), and by a key of the job every download is found too. Whoever asks who
looked at their data finds all of it. BALP Privacy Disclosure at Source; docs/adr/0038.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from fhir_gateway.audit.events import Event, disclosure_event
from fhir_gateway.audit.events_parts import PERSONS_NAMED
from fhir_gateway.audit.query import masked
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.asynchronous import Asked
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.jobs import Job

#: Persons of one event.
PERSONS = 1_000

_OPERATION = "$export"


def job_key(job: str) -> int:
    """The number under which the ledger finds what belongs to a job; no home has a negative one
    that is no institution's."""
    return -abs(key64(f"_async/{job}")) or -1


class Ledger:
    """The ledger of one job. What is written again by the next worker has no second effect."""

    def __init__(
        self, gateway: Gateway, actor: Actor, asked: Asked, job: str, types: Sequence[str]
    ) -> None:
        self._gateway, self._actor, self._job = gateway, actor, job
        path = asked.request.removeprefix(f"{asked.base}/")
        self._query = masked(f"{path}#{job}", gateway.store.index_key)
        self._types = " ".join(types)

    async def name(self, people: Sequence[tuple[int, str | None]], *, at: int) -> None:
        """Puts persons into the ledger: (home, logical id of the Patient or None)."""
        named = " ".join(patient for _, patient in people if patient)
        event = self._event(f"{len(people)} persons", (PERSONS_NAMED, named))
        await self._record(event, str(at), [home for home, _ in people])

    async def close(self, *, resources: int, persons: int, files: int) -> None:
        """One event of the whole: the counts, for whoever reads the log and not one person's."""
        said = f"{resources} resources of {persons} persons in {files} files"
        await self._record(self._event(said), "all", [])

    def _event(self, said: str, *more: tuple[str, str]) -> Event:
        return disclosure_event(
            call_of(self._gateway, self._actor),
            operation=_OPERATION,
            file=self._job,
            details=[("types", self._types or "-"), *more],
            query=self._query,
            summary=said,
        )

    async def _record(self, event: Event, place: str, homes: list[int]) -> None:
        gateway = self._gateway
        if not gateway.audit:
            return
        id = blake2b(f"{self._job} {place}".encode(), digest_size=16).digest()
        told = entry(gateway, event)
        told.homes = [job_key(self._job), *homes]
        await gateway.store.commit(ChangeSet(id=id, journal=[told]))
        gateway.count("disclosures", 1)


async def hand_out(
    gateway: Gateway, actor: Actor, *, job: Job, file: str, details: Sequence[tuple[str, str]]
) -> None:
    """Audits that a file of a job is handed out; each download is an event of its own, durable
    before the first byte. `details` are what the file is: its type, its lines, its size."""
    if not gateway.audit:
        return
    event = disclosure_event(
        call_of(gateway, actor),
        operation=_OPERATION if job.kind == "export" else "async",
        file=f"{job.id}/{file}",
        details=details,
        query=f"_async/{job.id}/{file}",
    )
    told = entry(gateway, event)
    told.homes = [job_key(job.id)]
    await disclose(gateway, [told])
