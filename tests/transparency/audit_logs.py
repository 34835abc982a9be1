"""Small audit logs for the tests of the transparency room: a store, records, a sequencer."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from pathlib import Path
from typing import Any

from fhir_gateway.audit.events import administration_event
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.settings import Settings
from fhir_gateway.store import log
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.opening import open_store
from fhir_gateway.transparency import keys
from fhir_gateway.transparency.note import Signer, read_checkpoint, read_note
from fhir_gateway.transparency.sequencer import Sequencer
from fhir_gateway.transparency.verify import Wanted, verify
from fhir_gateway.transparency.verify_found import Report

START = 1_790_000_000_000_000
NAME = "gw.example/audit-log"


class Ticking:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> int:
        return self.time


def standalone() -> Any:
    """The verifier that shares no code with the gateway, as a module."""
    path = Path(__file__).parents[2] / "docs" / "verify" / "verify_audit.py"
    spec = importlib.util.spec_from_file_location("verify_audit", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SmallLog:
    """A store with a key of its own; nothing runs between two calls."""

    def __init__(self, database: str, key: Path, *, name: str = NAME) -> None:
        self.runner = asyncio.Runner()
        self.clock = Ticking()
        self.key = key
        if not key.exists():
            keys.write_new(key, Signer(name, bytes(32)))
        self.settings = Settings(database=database, log_key=str(key))
        self.counted: dict[str, int] = {}
        self.gateway = self.open()
        self.sequencer = Sequencer(self.gateway)

    def restart(self) -> None:
        """Another process takes over, after this one has left its seat."""
        self.gateway = self.open()
        self.sequencer = Sequencer(self.gateway)

    def stop(self) -> None:
        """Leaves the seat and the store."""
        self.run(self.sequencer.vacate())
        self.run(self.gateway.store.close())

    def open(self) -> Gateway:
        """Another gateway on the same store, with this log's clock."""
        store = self.run(
            open_store(self.settings.database, clock=self.clock, random=os.urandom, rows=None)
        )
        return Gateway(
            settings=self.settings, store=store, extractor=None, clock=self.clock,  # type: ignore[arg-type]
            count=self._count,
        )  # fmt: skip

    def _count(self, name: str, by: int) -> None:
        self.counted[name] = self.counted.get(name, 0) + by

    def run(self, work: Any) -> Any:
        async def awaited() -> Any:
            return await work

        return self.runner.run(awaited())

    def record(self, count: int, *, batch: int = 7) -> None:
        """So many records, in commits of a few."""
        while count:
            entries = [
                entry(
                    self.gateway,
                    administration_event(
                        call_of(self.gateway, GATEWAY), act="test", summary=f"{count} {n}"
                    ),
                    home=n * 3,
                    patient=f"p{n}" if n else None,
                )
                for n in range(min(batch, count))
            ]
            self.run(self.gateway.store.commit(ChangeSet(id=b"", journal=entries, urgent=True)))
            self.clock.time += 1_000_000
            count -= len(entries)

    def tell(self, act: str, details: list[tuple[str, str]]) -> None:
        """One record of the gateway's own, with details."""
        event = administration_event(
            call_of(self.gateway, GATEWAY), act=act, summary="1", details=details
        )
        told = [entry(self.gateway, event)]
        self.run(self.gateway.store.commit(ChangeSet(id=b"", journal=told, urgent=True)))

    def sign(self) -> int:
        return self.run(self.sequencer.all())

    def head(self) -> log.Head:
        found = self.run(log.last_head(self.gateway.store))
        assert found is not None
        return found

    def root(self) -> bytes:
        return read_checkpoint(read_note(self.head().note).text).root

    def rows(self) -> list[log.JournalRow]:
        return self.run(log.entries(self.gateway.store, log.NOWHERE, limit=100_000))

    def verify(self, **wanted: Any) -> Report:
        return verify(self.settings.database, Wanted(**wanted))

    def close(self) -> None:
        self.run(self.gateway.store.close())
        self.runner.close()
