"""`fhir-gateway check`: is everything in place, and is the store sound?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import click

from fhir_gateway.app import open_gateway, profile_resources
from fhir_gateway.errors import GatewayError, Invalid, Unavailable
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.recognition.model import CONTEXTS
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.search.registry import searchables
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings, load_settings
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.opening import SQLITE
from fhir_gateway.terminology.concept_map import load_concept_maps
from fhir_gateway.terminology.context_table import load_contexts
from fhir_gateway.terminology.value_set import load_vocabulary


@click.command("check")
@click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(database: str | None, as_json: bool) -> None:
    """Check the installation, the data folders and the store.

    Reads every table and rule set, opens the store (beside a running server, too), has SQLite
    examine its file, and commits an empty change set. Exit code 1 when something is wrong.
    """
    try:
        settings = load_settings(database=database)
    except GatewayError as error:
        raise click.ClickException(str(error)) from None
    results = asyncio.run(_run(settings))
    if as_json:
        click.echo(json.dumps({name: {"ok": ok, "found": said} for name, ok, said in results}))
    else:
        for name, ok, said in results:
            click.echo(f"{'ok    ' if ok else 'FAILED'}  {name}: {said}")
    if not all(ok for _, ok, _ in results):
        raise SystemExit(1)


Result = tuple[str, bool, str]


async def _run(settings: Settings) -> list[Result]:
    return [await _try(name, step, settings) for name, step in _STEPS.items()]


async def _try(name: str, step: Callable[[Settings], Awaitable[str]], settings: Settings) -> Result:
    try:
        return name, True, await step(settings)
    except GatewayError as error:
        return name, False, "; ".join(issue.diagnostics for issue in error.issues)
    except OSError as error:
        return name, False, f"{error.strerror}: {error.filename}"
    except apsw.Error as error:
        return name, False, str(error)


async def _definitions(settings: Settings) -> str:
    known = definitions()
    parameters = sum(len(searchables(type)) for type in known.resource_types)
    return f"R4 {known.version}, {len(known.resource_types)} types, {parameters} search parameters"


async def _terminology(settings: Settings) -> str:
    vocabulary = load_vocabulary(settings.terminology)
    load_contexts(settings.terminology, CONTEXTS)
    return f"{len(vocabulary.catalogue.items)} catalogue items"


async def _mappings(settings: Settings) -> str:
    catalogue = load_vocabulary(settings.terminology).catalogue
    maps = load_concept_maps(Path(settings.mappings) / "concepts", catalogue)
    rows = sum(sum(local_map.counts()) for local_map in maps.values())
    return f"{len(maps)} institutions, {rows} rows"


async def _rule_sets(settings: Settings) -> str:
    found = [
        load_rule_set(resource).version
        for resource in profile_resources(settings.profiles)
        if resource["resourceType"] == "PlanDefinition"
    ]
    return ", ".join(found) or "none"


#: A store that is not there is not made by looking at it.
_NONE_YET = "none there yet: `serve`, `load` and `institution add` begin one"


async def _store(settings: Settings) -> str:
    try:
        gateway = await open_gateway(settings, begin=False)
    except Invalid as error:
        if error.issues[0].rule != "no-database":
            raise
        return _NONE_YET
    try:
        committed = await gateway.store.commit(ChangeSet(id=gateway.random(16)))
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            counts, index = await reader.counts(), reader.index
        older = "" if index.is_current else "; the index is older: run `fhir-gateway reindex`"
        return f"{sum(counts.values())} resources, commit {committed.t}{older}"
    finally:
        await gateway.store.close()


async def _integrity(settings: Settings) -> str:
    if not settings.database.startswith(SQLITE):
        return "left to PostgreSQL: see docs/operate.md"
    path = settings.database.removeprefix(SQLITE)
    if not Path(path).is_file():  # noqa: ASYNC240 - nothing else waits
        return _NONE_YET
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows: list[Any] = connection.execute("PRAGMA quick_check").fetchall()
    finally:
        connection.close()
    said = "; ".join(str(row[0]) for row in rows)
    if said != "ok":
        raise Unavailable(f"{path} is damaged: {said}", rule="integrity")
    return "ok"


_STEPS: dict[str, Callable[[Settings], Awaitable[str]]] = {
    "definitions": _definitions,
    "terminology": _terminology,
    "mappings": _mappings,
    "rule sets": _rule_sets,
    "store": _store,
    "integrity": _integrity,
}
