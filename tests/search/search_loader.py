"""A small database with the gateway's own schema, filled row by row; no writer, no batches."""

from __future__ import annotations

from typing import Any

import apsw

from fhir_gateway.fhir.home import home_of, institution_home
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.fhir.wire import tail
from fhir_gateway.search.index import Extractor
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import Access
from fhir_gateway.store.blobs import IN_JOURNAL, pack
from fhir_gateway.store.dialect import SQLITE
from fhir_gateway.store.migrate import migrations
from fhir_gateway.store.query import run
from fhir_gateway.store.search_sql import search
from fhir_gateway.store.store import Page

SECRET = b"0123456789abcdef"

#: 2024-01-01T00:00:00Z; each stored resource is one second younger.
START = 1_704_067_200_000_000


class Loader:
    """Puts resources into the tables as the writer would, and searches them."""

    def __init__(self) -> None:
        self.connection = apsw.Connection(":memory:")
        self.connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        for _, script in migrations():
            self.connection.execute(script)
        self.extractor = Extractor(SECRET)
        self.homes: dict[str, int] = {}
        self.places: dict[tuple[str, str], tuple[int, int]] = {}
        self.resources: dict[str, list[dict[str, Any]]] = {}
        self.rid = 0

    def put(
        self,
        resource: dict[str, Any],
        *,
        owner: int = 0,
        sensitivity: int = 0,
        journaled: bool = False,
    ) -> int:
        """Stores a resource as its first version; returns its rid."""
        type, id = resource["resourceType"], resource["id"]
        home, patient = self._home(resource)
        self.rid += 1
        rid, enc, body = self.rid, *pack(tail(resource))
        if journaled:
            self.connection.execute(
                "INSERT INTO journal VALUES (?, 0, 0, ?, ?, ?, ?, ?, 0, x'', x'', ?, ?)",
                (rid, type_key(type), id, home, START, patient, enc, body),
            )
            enc, body = IN_JOURNAL, None
        self.connection.execute(
            "INSERT INTO locator VALUES (?, ?, ?, ?)", (type_key(type), id, home, rid)
        )
        self.connection.execute(
            "INSERT INTO resource VALUES (?, ?, ?, ?, 1, ?, 0, ?, 0, ?, ?, ?, NULL, ?, ?, ?)",
            (home, type_key(type), rid, id, rid, START + rid * 1_000_000, owner, sensitivity,
             patient, enc, body, key64(f"{type}/{id}")),
        )  # fmt: skip
        rows = self.extractor.rows(type, resource)
        self._rows("px", [(home, p, v1, v2, rid) for p, v1, v2 in rows.ints])
        self._rows("px_text", [(home, p, text, rid) for p, text in rows.texts])
        self._rows("gx", [(p, v1, v2, home, rid) for p, v1, v2 in rows.global_ints])
        self._rows("gx_text", [(p, text, home, rid) for p, text in rows.global_texts])
        self.places[type, id] = (home, rid)
        self.resources.setdefault(type, []).append(resource)
        return rid

    def delete(self, type: str, id: str) -> None:
        """Marks a resource as deleted and leaves its rows: a search must not rely on their end."""
        home, rid = self.places[type, id]
        self.connection.execute(
            "UPDATE resource SET deleted = 1, body = NULL WHERE home = ? AND type = ? AND rid = ?",
            (home, type_key(type), rid),
        )
        self.resources[type] = [one for one in self.resources[type] if one["id"] != id]

    def plan(self, url: str, **options: Any) -> SearchPlan:
        """The plan of `Type?name=value&…`; values stand as they are, unescaped by nobody."""
        type, _, query = url.partition("?")
        pairs = [tuple(pair.split("=", 1)) for pair in query.split("&")] if query else []
        return plan_search(type, pairs, secret=SECRET, **options)  # type: ignore[arg-type]

    def page(
        self, url: str, access: Access | None = None, *, budget: int = 10_000, **options: Any
    ) -> Page:
        """The first page of a search."""
        return self.run(self.plan(url, **options), access, budget=budget)

    def run(self, plan: SearchPlan, access: Access | None = None, *, budget: int = 10_000) -> Page:
        """One page of a plan."""
        steps = search(plan, access or Access(), budget=budget, dialect=SQLITE)
        return run(steps, self.connection)

    def ids(self, url: str, access: Access | None = None, **options: Any) -> list[str]:
        """The ids of the first page, in order."""
        return [match.id for match in self.page(url, access, **options).matches]

    def _home(self, resource: dict[str, Any]) -> tuple[int, str | None]:
        wanted = home_of(resource)
        if wanted.patient:
            return self.homes.setdefault(wanted.patient, len(self.homes) + 1), wanted.patient
        if wanted.follow:
            type, _, id = wanted.follow.partition("/")
            return self.places.get((type, id), (0, 0))[0], None
        if wanted.institution:
            return institution_home(wanted.institution), None
        return 0, None

    def _rows(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" for _ in rows[0]) if rows else ""
        if rows:
            self.connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
