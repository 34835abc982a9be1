"""`fhir-gateway catalogue`: lists of items, their editions, imports, differences and exports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway, write
from fhir_gateway.cli.catalogue_import import import_, join
from fhir_gateway.cli.catalogue_sides import sides
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.interactions.lists import join_of, list_resources, named, stored_editions, today
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import Catalogue, Item, load_catalogue
from fhir_gateway.terminology.catalogue_diff import Change, as_csv, as_rows, compare, report
from fhir_gateway.terminology.catalogue_join import Joins
from fhir_gateway.terminology.catalogue_meaning import COLUMNS
from fhir_gateway.terminology.edition import Edition, edition_on


@click.group("catalogue")
def command() -> None:
    """Lists of items: the catalogue and imported official lists, edition by edition."""


command.add_command(import_)
command.add_command(join)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, as_json: bool) -> None:
    """Lists every edition: first and last day, items, retired codes, joined; * holds today."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        editions = await stored_editions(reader)
        joins = {one.id: (await join_of(reader, one))[0] for one in editions}
    rows = [_row(one, editions, joins[one.id], today(gateway)) for one in editions]
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    names = ("", "list", "edition", "kind", "period", "items", "retired", "joined", "publisher")
    table([
        names,
        *(
            (
                "*" if row["holds"] else "", row["list"], row["edition"], row["kind"],
                f"{row['effective']} – {row['until'] or '…'}", str(row["items"]),
                str(row["retired"]), "" if row["joined"] is None else str(row["joined"]),
                row["publisher"],
            )
            for row in rows
        ),
    ])  # fmt: skip


def _row(one: Edition, editions: Sequence[Edition], joins: Joins, day: str) -> dict[str, Any]:
    same = [other for other in editions if other.name == one.name]
    return {
        "list": one.name, "url": one.url, "edition": one.edition, "kind": one.kind,
        "holds": edition_on(same, day) is one, "effective": one.effective, "until": one.until,
        "items": len(one.items), "retired": len(one.retired),
        "joined": None if one.is_catalogue else len(joins), "publisher": one.publisher,
        "title": one.title,
    }  # fmt: skip


# -- show ------------------------------------------------------------------------------------------


@command.command("show")
@click.argument("code")
@click.option("--list", "name", default="", help="Only in this list.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def show(gateway: Gateway, *, code: str, name: str, as_json: bool) -> None:
    """Shows what CODE means in every list and edition that has it, and what it is joined to."""
    catalogue = load_catalogue(gateway.settings.terminology)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        editions = await stored_editions(reader)
        found = [
            (one, item, (await join_of(reader, one))[0].get(code, ()))
            for one in (named(editions, name) if name else editions)
            if (item := one.all_items().get(code)) is not None
        ]
    if not found:
        raise NotFound(f"No list has an item {code}", rule="list-code")
    shown = [_shown(one, item, joined, catalogue) for one, item, joined in found]
    if as_json:
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    for fields in shown:
        click.echo(f"{fields['list']} {fields['edition']}")
        for field, value in fields.items():
            if value and field not in ("list", "edition"):
                zh, en = COLUMNS.get(field, (field, field))
                said = ", ".join(value) if isinstance(value, list) else value
                click.echo(f"  {zh if zh == en else f'{zh} ({en})'}: {said}")


def _shown(one: Edition, item: Item, joined: Sequence[str], catalogue: Catalogue) -> dict[str, Any]:
    fields: dict[str, Any] = {"list": one.name, "edition": one.edition, "code": item.code}
    fields |= {column: getattr(item, column) for column in COLUMNS}
    panels = catalogue.panels_of.get(item.code, ()) if one.is_catalogue else ()
    fields["panels"] = [f"{code} {catalogue.panels[code].name_zh}" for code in panels]
    fields["covers"] = list(catalogue.covers(item))
    fields["retired"] = item.retired
    fields["joined to"] = [
        f"{code} {catalogue.items[code].name_zh}" for code in joined if code in catalogue.items
    ]
    return fields


# -- diff ------------------------------------------------------------------------------------------


@command.command("diff")
@click.argument("old")
@click.argument("new")
@click.option("--language", type=click.Choice(["zh", "en"]), default="zh", help="Of the report.")
@click.option(
    "--format", "form", type=click.Choice(["text", "csv", "json"]), default="text",
    help="Of the output.",
)  # fmt: skip
@click.option("--kind", type=click.Choice(["lab", "imaging"]), help="Items in a file.")
@click.option("--encoding", default="", help="Charset of CSV files: UTF-8, GB18030.")
@with_gateway
async def diff(gateway: Gateway, *, old: str, new: str, **options: Any) -> None:
    """Says what is different from OLD to NEW, in words that a committee reads.

    Each is LIST@EDITION, LIST (the latest edition), an edition of the catalogue, a folder of a
    catalogue, or a file (.csv, .xlsx). Exit code 1 when a code would change its meaning.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        editions = await stored_editions(reader)
    before, after = (
        sides(what, editions, kind=options["kind"], encoding=options["encoding"])
        for what in (old, new)
    )
    kinds = [kind for kind in before if kind in after]
    if not kinds:
        raise Invalid(f"{old} and {new} hold items of different kinds", rule="list-kind")
    changes = [change for kind in kinds for change in compare(before[kind], after[kind])]
    _print_changes(changes, options)
    if any(one.sort == "meaning" for one in changes):
        raise click.exceptions.Exit(1)


def _print_changes(changes: Sequence[Change], options: dict[str, Any]) -> None:
    language = options["language"]
    if options["form"] == "json":
        click.echo(json.dumps(as_rows(changes, language), ensure_ascii=False))
    elif options["form"] == "csv":
        click.echo(as_csv(changes, language), nl=False)
    else:
        click.echo(report(changes, language), nl=False)


# -- export ----------------------------------------------------------------------------------------


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--list", "name", default="", help="The list; the catalogue when left out.")
@click.option("--edition", default="", help="Its edition; the latest when left out.")
@click.option("--kind", type=click.Choice(["lab", "imaging"]), help="Of the catalogue's items.")
@click.option("--package", default="", help="Name of the FHIR package.")
@click.option("--package-version", default="", help="Its version; else the edition's day.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@with_gateway
async def export(gateway: Gateway, *, file: Path, **options: Any) -> None:
    """Writes a list into FILE: .csv and .xlsx for people, .tgz as a FHIR package.

    The CSV is what `import` reads. A package without --list holds everything: the catalogue, all
    imported lists and what joins them, with the notices that their codes need.
    """
    form = file.suffix.lower()
    if form not in (".csv", ".xlsx", ".tgz"):
        raise Invalid(f"{file.name}: name it .csv, .xlsx or .tgz", rule="list-format")
    content = await (_packed if form == ".tgz" else _written)(gateway, form, options)
    write(file, content, force=options["force"])
    click.echo(f"{file}: {len(content)} bytes")


async def _written(gateway: Gateway, form: str, options: dict[str, Any]) -> bytes:
    from fhir_gateway.terminology.catalogue_export import as_csv as csv_of  # noqa: PLC0415
    from fhir_gateway.terminology.catalogue_export import as_xlsx  # noqa: PLC0415

    name = options["name"] or (f"catalogue-{options['kind']}" if options["kind"] else "")
    if not name:
        raise Invalid("Say which list: --list NAME, or --kind lab or imaging", rule="list-kind")
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        chosen = max(
            named(await stored_editions(reader), name, options["edition"]),
            key=lambda one: one.effective,
        )
        joins, _ = await join_of(reader, chosen)
    return (csv_of if form == ".csv" else as_xlsx)(chosen, joins)


async def _packed(gateway: Gateway, form: str, options: dict[str, Any]) -> bytes:
    from fhir_gateway.terminology.catalogue_export import as_package, package_version  # noqa: PLC0415

    catalogue = load_catalogue(gateway.settings.terminology)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        editions = await stored_editions(reader)
        if options["name"]:
            editions = named(editions, options["name"], options["edition"])
        elif options["edition"] or options["kind"]:
            raise Invalid("--edition and --kind of a package need --list", rule="list-kind")
        resources = await list_resources(reader, editions, everything=not options["name"])
    newest = max(one.effective for one in editions)
    title = "Reference catalogue and imported lists"
    return as_package(
        resources,
        name=options["package"] or _package_name(options["name"]),
        version=options["package_version"] or package_version(newest),
        title=title if not options["name"] else editions[-1].title or options["name"],
        author=catalogue.publisher if not options["name"] else editions[-1].publisher,
        notices=_notices(resources),
    )


def _package_name(name: str) -> str:
    """The host of our canonical root turned round, as packages are named."""
    host = CANONICAL.split("/")[2].split(":")[0]
    return ".".join([*reversed(host.lower().split(".")), name or "catalogue"])


def _notices(resources: Sequence[dict[str, Any]]) -> list[str]:
    """What has to be said of the codes, each notice once."""
    found = (one.get("copyright", "") for one in resources)
    parts = (part for text in found for part in text.split("\n\n"))
    return list(dict.fromkeys(part for part in parts if part))
