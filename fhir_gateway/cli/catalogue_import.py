"""`fhir-gateway catalogue import` and `join`: an official list beside the catalogue."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import content_of, sheet_of, with_gateway, write
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.lists import (
    Plan,
    commit_join,
    commit_plan,
    join_of,
    named,
    plan_import,
    stored_editions,
    today,
)
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.catalogue import Catalogue, Kind, is_date, load_catalogue
from fhir_gateway.terminology.catalogue_columns import find_header
from fhir_gateway.terminology.catalogue_diff import Change, compare, report
from fhir_gateway.terminology.catalogue_import import Reading, check_meaning, read_entries
from fhir_gateway.terminology.catalogue_join import (
    Joined,
    Joins,
    join_map,
    propose,
    read_joins,
    review_table,
    wrong_items,
)
from fhir_gateway.terminology.edition import Edition
from fhir_gateway.terminology.local_map import LOCAL_SUFFIX

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_EDITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]*")
_LONGEST = 31  # a name and an edition are a logical id together, which has 64 characters
_OURS = "catalogue"


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--list", "name", required=True, help="Name of the list: the end of its URL.")
@click.option("--kind", type=click.Choice(["lab", "imaging"]), required=True, help="Its items.")
@click.option("--edition", required=True, help="Name of the edition, as its publisher says it.")
@click.option("--effective", required=True, help="First day on which it holds, as 2027-01-01.")
@click.option("--until", default="", help="Last day, where it has one.")
@click.option("--title", default="", help="Title of the list; else that of the former edition.")
@click.option("--publisher", default="", help="Who published it; else as for the former edition.")
@click.option("--source", default="", help="Where it was published: document, number, date.")
@click.option("--map", "pairs", multiple=True, metavar="COLUMN=HEADER", help="name_zh=项目名称 …")
@click.option("--columns", type=click.Path(path_type=Path), help="The same in a TOML file.")
@click.option("--sheet", default="", help="Sheet of a workbook, when it has several.")
@click.option("--encoding", default="", help="Charset of a CSV file: UTF-8, GB18030.")
@click.option(
    "--same-meaning", "confirmed", multiple=True, metavar="CODE",
    help="The code means what it meant, under another name; repeatable.",
)  # fmt: skip
@click.option("--joins", type=click.Path(path_type=Path), help="Table of accepted joins.")
@click.option("--review", type=click.Path(path_type=Path), help="Write what is to be reviewed.")
@click.option("--replace", "replaces", is_flag=True, help="Replace an edition not yet in force.")
@click.option("--dry-run", is_flag=True, help="Check and show everything, store nothing.")
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", help="Of the changes.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@with_gateway
async def import_(gateway: Gateway, *, file: Path, **options: Any) -> None:
    """Imports an official list from FILE (.csv or .xlsx) as a CodeSystem of its own.

    The gateway calls no list official: it says who published it, in your words. All faults are
    told at once, by row and column, and then nothing is stored. A code keeps its meaning through
    all editions of its list.
    """
    _check_options(options)
    catalogue = load_catalogue(gateway.settings.terminology)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await stored_editions(reader)
        kept = await _kept_joins(reader, stored, options)
        same = [one for one in stored
                if (one.name, one.edition) == (options["name"], options["edition"])]  # fmt: skip
        join = (await join_of(reader, same[0]))[1] if same else ""
    reading = _read(file, options)
    edition = _edition(reading, options, stored, catalogue)
    same_list = [one for one in stored if one.name == edition.name]
    check_meaning(reading, same_list, edition.effective, options["confirmed"])
    _check_joins(reading, edition, catalogue)
    reading.check()
    joined = _joined(reading, edition, catalogue, kept, options["joins"])
    plan = plan_import(
        edition, joined.joins, stored, catalogue,
        day=today(gateway), replaces=options["replaces"], join=join,
    )  # fmt: skip
    if not options["dry_run"] and plan.outcome != "unchanged":
        await commit_plan(gateway, plan)
    if options["review"]:
        table = b"\xef\xbb\xbf" + review_table(joined.proposals).encode()
        write(options["review"], table, force=True)
    _say(plan, reading, joined, options)


def _check_options(options: dict[str, Any]) -> None:
    name, edition = options["name"], options["edition"]
    reserved = name.startswith(_OURS) or name.endswith(LOCAL_SUFFIX)
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or reserved:
        raise Invalid(
            f"--list: {name} must be up to {_LONGEST} small letters, digits and -, and not begin "
            f"with {_OURS}, which is the project's own, nor end with {LOCAL_SUFFIX}, as the codes "
            f"of institutions do",
            rule="list-name",
        )
    if not _EDITION.fullmatch(edition) or len(edition) > _LONGEST:
        raise Invalid(
            f"--edition: {edition} must be up to {_LONGEST} letters, digits, - and .",
            rule="list-edition",
        )
    for option in ("effective", "until"):
        text = options[option]
        if (text or option == "effective") and not is_date(text):
            raise Invalid(f"--{option}: {text} is no day, write it as 2027-01-01", rule="list-date")
    if options["until"] and options["until"] < options["effective"]:
        raise Invalid("--until lies before --effective", rule="list-date")


def _read(file: Path, options: dict[str, Any]) -> Reading:
    """The entries of the file; faults of rows stay in the Reading."""
    sheet = sheet_of(file, sheet=options["sheet"], encoding=options["encoding"])
    kind: Kind = options["kind"]
    header = find_header(sheet, kind, _mapping(options["pairs"], options["columns"]))
    return read_entries(sheet, header, kind, name=options["name"], edition=options["edition"])


def _mapping(pairs: Sequence[str], file: Path | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if file is not None:
        try:
            found |= {str(k): str(v) for k, v in tomllib.loads(content_of(file).decode()).items()}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"{file.name} cannot be read: {error}", rule="list-columns") from None
    for pair in pairs:
        column, sign, header = pair.partition("=")
        if not sign or not column.strip() or not header.strip():
            raise Invalid(f"--map: {pair} is not COLUMN=HEADER", rule="list-columns")
        found[column.strip()] = header.strip()
    return {"item_class" if column == "class" else column: text for column, text in found.items()}


def _edition(
    reading: Reading, options: dict[str, Any], stored: Sequence[Edition], catalogue: Catalogue
) -> Edition:
    former = [one for one in stored if one.name == options["name"]]
    last = max(former, key=lambda one: one.effective, default=None)
    same = next((one for one in former if one.edition == options["edition"]), None)
    last = same or last
    publisher = options["publisher"] or (last.publisher if last else "")
    if not publisher:
        raise Invalid("--publisher: say who published the list", rule="list-publisher")
    items = {entry.item.code: entry.item for entry in reading.entries}
    source = options["source"]
    return Edition(
        name=options["name"],
        kind=options["kind"],
        edition=options["edition"],
        effective=options["effective"],
        until=options["until"],
        title=options["title"] or (last.title if last else "") or options["name"],
        publisher=publisher,
        description=same.description
        if same is not None and not source
        else (
            f"List of {publisher}, imported by the operator of this gateway"
            + (f" from: {source}. " if source else ". ")
            + "The operator answers for the copy; the gateway vouches for neither."
        ),
        notice=catalogue.loinc_notice if any(one.loinc for one in items.values()) else "",
        items={code: one for code, one in items.items() if not one.retired},
        retired={code: one for code, one in items.items() if one.retired},
    )


def _check_joins(reading: Reading, edition: Edition, catalogue: Catalogue) -> None:
    rows = {row.number: row for row in reading.sheet.rows}
    for entry in reading.entries:
        for sentence in wrong_items(entry.joined, edition.kind, catalogue):
            reading.fault(rows[entry.row], "item", sentence, "join-item")


async def _kept_joins(reader: Reader, stored: Sequence[Edition], options: dict[str, Any]) -> Joins:
    """What the edition before this one, or this one itself, was joined to."""
    same = [
        one
        for one in stored
        if one.name == options["name"] and one.effective <= options["effective"]
    ]
    former = max(same, key=lambda one: one.effective, default=None)
    return (await join_of(reader, former))[0] if former is not None else {}


def _joined(
    reading: Reading, edition: Edition, catalogue: Catalogue, kept: Joins, accepted: Path | None
) -> Joined:
    """What joins the list to the catalogue. Raises Unprocessable for the table of joins.

    A code keeps its meaning from edition to edition, and so what it was joined to stays.
    """
    given = {code: items for code, items in kept.items() if code in edition.items}
    given |= {entry.item.code: entry.joined for entry in reading.entries if entry.joined}
    if accepted is not None:
        given |= read_joins(sheet_of(accepted), edition, catalogue)
    return propose(list(edition.items.values()), catalogue, given)


def _say(plan: Plan, reading: Reading, joined: Joined, options: dict[str, Any]) -> None:
    edition, dry = plan.edition, options["dry_run"]
    outcome = f"would be {plan.outcome}" if dry and plan.outcome != "unchanged" else plan.outcome
    changes: list[Change] = []
    if plan.former is not None and plan.outcome != "unchanged":
        changes = compare(plan.former, edition, options["confirmed"])
    mapped = sum(1 for items in joined.joins.values() if items)
    if options["as_json"]:
        said = {
            "list": edition.url, "edition": edition.edition, "outcome": plan.outcome,
            "stored": not dry and plan.outcome != "unchanged", "items": len(edition.items),
            "retired": len(edition.retired), "joined": mapped,
            "review": len(joined.proposals), "changes": len(changes), "notices": reading.notices,
        }  # fmt: skip
        click.echo(json.dumps(said, ensure_ascii=False))
        return
    for line in reading.header.shown():
        click.echo(f"  {line}")
    for line in reading.notices:
        click.echo(f"note: {line}")
    if plan.former is not None and plan.outcome != "unchanged":
        click.echo(f"Since edition {plan.former.edition}:")
        click.echo(report(changes, options["language"]), nl=False)
    click.echo(
        f"{edition.name} {edition.edition} {outcome}: {len(edition.items)} items, "
        f"{len(edition.retired)} retired, from {edition.effective}; {mapped} joined to the "
        f"catalogue, {len(joined.proposals)} to review"
    )
    if joined.proposals and not options["review"]:
        click.echo("Write the table for review with --review FILE.csv, then: catalogue join")


@click.command("join")
@click.argument("name", metavar="LIST")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--edition", default="", help="Edition of the list; the latest when left out.")
@click.option("--encoding", default="", help="Charset of a CSV file: UTF-8, GB18030.")
@click.option("--dry-run", is_flag=True, help="Check everything, store nothing.")
@with_gateway
async def join(
    gateway: Gateway, *, name: str, file: Path, edition: str, encoding: str, dry_run: bool
) -> None:
    """Joins entries of a list to items of the catalogue, as a person accepted them in FILE.

    FILE is the table that `import --review` wrote: rows with yes in `accept` count. What is joined
    already stays unless the table says another item. It counts from the next question on.
    """
    catalogue = load_catalogue(gateway.settings.terminology)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        editions = named(await stored_editions(reader), name, edition)
        chosen = max(editions, key=lambda one: one.effective)
        if chosen.is_catalogue:
            raise Invalid(f"{name} is the catalogue itself", rule="list-name")
        joins, seen = await join_of(reader, chosen)
    accepted = read_joins(sheet_of(file, encoding=encoding), chosen, catalogue)
    joins = {code: items for code, items in {**joins, **accepted}.items() if items}
    changed = False
    if not dry_run:
        changed = await commit_join(gateway, chosen, join_map(chosen, joins, catalogue), seen=seen)
    click.echo(
        f"{name} {chosen.edition}: {len(accepted)} accepted, {len(joins)} of "
        f"{len(chosen.items)} joined{'' if changed else ', nothing stored'}"
    )
