"""The seeded stores: institutions, register and rule set by the product's commands, then rows."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import NamedTuple

from bench.people import ISSUERS, ITEMS, LOCAL, ORDER, RECEIVER
from bench.seed import PostgresSink, Sink, SqliteSink, seed
from fhir_gateway.app import open_gateway
from fhir_gateway.cli import main as command_line
from fhir_gateway.interactions.institutions import register
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import load_settings

_COLUMNS = "kind,local_system,local_code,local_name,item,specimen,unit,method,note\n"
SQLITE = "sqlite:///"


class Seeded(NamedTuple):
    """A store that is ready to be served."""

    database: str  # its url
    people: int
    mappings: Path
    tokens: dict[str, str]
    resources: int


def prepare_store(folder: Path, database: str, people: int) -> Seeded:
    """The store of this size, made when it is not there yet; `folder` keeps the note of it."""
    mappings, note = folder / "mappings", folder / "seeded.json"
    if not note.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_maps(mappings)
        note.write_text(json.dumps(asyncio.run(_make(folder, database, mappings, people))))
    made = json.loads(note.read_text())
    return Seeded(database, people, mappings, made["tokens"], made["resources"])


def write_maps(folder: Path) -> None:
    """The tables of local codes that all institutions of the bench have."""
    (folder / "concepts").mkdir(parents=True, exist_ok=True)
    results = "".join(f"result,{LOCAL},B{item},,{item},,,,\n" for item in ITEMS)
    orders = "".join(f"order,{ORDER},B{item},,{item},,,,\n" for item in ITEMS)
    for issuer in ISSUERS:
        (folder / "concepts" / f"{issuer}.csv").write_text(_COLUMNS + results)
    (folder / "concepts" / f"{RECEIVER}.csv").write_text(_COLUMNS + orders)


async def _make(folder: Path, database: str, mappings: Path, people: int) -> dict[str, object]:
    tokens = await registered(folder, database, mappings)
    settings = load_settings({}, database=database, mappings=str(mappings))
    gateway = await open_gateway(settings)
    resources = await seed(gateway, sink_of(database), people, _progress)
    return {
        "tokens": {"receiver": tokens[RECEIVER], "issuer": tokens[ISSUERS[0]]},
        "resources": resources,
    }


async def registered(folder: Path, database: str, mappings: Path) -> dict[str, str]:
    """An empty store with institutions, evaluations and the rules in force; the tokens."""
    settings = load_settings({}, database=database, mappings=str(mappings))
    gateway = await open_gateway(settings)
    tokens: dict[str, str] = {}
    for id in (*ISSUERS, RECEIVER):
        one = Institution(id=id, name=id, level="3A", area="110105")
        tokens[id] = (await register(gateway, one, with_token=True)).token
    await gateway.store.close()
    table = folder / "evaluations.csv"
    rows = "".join(f"{id},*,110000,2020-01-01,2040-12-31,true,bench-body,1\n" for id in ISSUERS)
    table.write_text("institution,item,area,start,end,passed,evaluator,round\n" + rows)
    where = ["--database", database]
    body = ["bench-body", "bench", "--level", "city", "--area", "110000"]
    await asyncio.to_thread(_command, ["evaluations", "body", "add", *body, *where])
    await asyncio.to_thread(_command, ["evaluations", "import", str(table), *where])
    await asyncio.to_thread(_command, ["rules", "activate", "1.0.0", "--demonstration", *where])
    return tokens


def sink_of(database: str) -> Sink:
    """What fills the store of that url."""
    if database.startswith(SQLITE):
        return SqliteSink(Path(database.removeprefix(SQLITE)))
    return PostgresSink(database)


def _command(words: list[str]) -> None:
    command_line(words, standalone_mode=False)


def _progress(text: str) -> None:
    end = "\n" if text.startswith("seeded") and "in" in text.split() else "\r"
    sys.stderr.write(text + end)
