"""`fhir-gateway convert FILE`: prints the FHIR that a message becomes, and explains each value."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from fhir_gateway.cli.convert_ground import Ground, declared, ground_of, table_of
from fhir_gateway.cli.convert_show import print_bundle, print_fields, print_origins, tell_issues
from fhir_gateway.cli.load_files import MAX_DOCUMENT, read_document
from fhir_gateway.errors import GatewayError, Invalid, Structure, TooLong
from fhir_gateway.interactions.conversion import (
    Conversion,
    bundle_of,
    cda_conversion,
    converted,
    finisher,
    kind_of,
    table_conversions,
    v2_conversion,
)
from fhir_gateway.mapping.origins import WORK, Finish, explain
from fhir_gateway.mapping.origins_asked import fields_at, is_element
from fhir_gateway.mapping.tables import table as rows_of
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.v2 import split_messages
from fhir_gateway.settings import Settings, load_settings

#: No limit to the work.
_EVER = 1 << 62


class _Asked(NamedTuple):
    """What is to be printed."""

    number: int
    explain: bool  # origins, in place of the Bundle
    field: str
    element: str
    format: str
    whole: bool


class _CannotStart(click.ClickException):
    exit_code = 2


@click.command("convert", short_help="Print the FHIR that a message becomes, and explain it.")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False,
                allow_dash=True, path_type=Path))  # fmt: skip
@click.option("--map", "map_name", default="", metavar="MAP",
              help="FILE is a table: its map, of mappings/tabular or a file.")  # fmt: skip
@click.option("--institution", default="", metavar="ID",
              help="Whose message it is. Without it: MSH-4, custodian or map.")  # fmt: skip
@click.option("--store", default="", metavar="DATABASE",
              help="Read institution and local codes there: sqlite:///PATH, …")  # fmt: skip
@click.option("--message", "number", type=click.IntRange(1), default=None,
              help="Of several messages (reports) in FILE this one alone.")  # fmt: skip
@click.option("--explain", is_flag=True,
              help="For each value the field that says it, its content, and how.")  # fmt: skip
@click.option("--explain-field", "field", default="", metavar="FIELD",
              help="What becomes of a field: OBX-5, OBX[2]-3.1; a column.")  # fmt: skip
@click.option("--element", default="", metavar="ELEMENT",
              help="Explain these values alone: Observation.value, Patient.")  # fmt: skip
@click.option("--whole", is_flag=True,
              help="Explain all of a large message, however long it takes.")  # fmt: skip
@click.option("--format", type=click.Choice(["json", "xml", "text"]), default=None,
              help="json (text when explaining): for people text, for programs json.")  # fmt: skip
@click.option("--charset", default="", help="Where MSH-18 names none: UTF-8, GB18030, …")
@click.option("--zone", default="", help="Of times without one: Asia/Shanghai, …")
@click.option("--mappings", help="Folder of the mapping tables.")
@click.option("--terminology", help="Folder of the catalogue.")
def command(file: Path, number: int | None, format: str | None, **given: Any) -> None:
    """Print what FILE (or - for the standard input) becomes: the FHIR Bundle of a v2 message, of
    a CDA document, or of the rows of a table. Nothing is stored or changed anywhere.

    It is what the gateway would store, but for what it has stored before: an older report that
    changes nothing is shown too. Without --store the codes of the catalogue are added as far as
    the tables of mappings/concepts and LOINC codes tell, and any institution is believed.

    Several messages: one Bundle a line. Warnings and refusals go to the other stream, each with
    its place, what to do, and its rule.

    \b
    Examples:
      fhir-gateway convert oru.hl7
      fhir-gateway convert oru.hl7 --explain
      fhir-gateway convert oru.hl7 --explain-field OBX-5
      fhir-gateway convert oru.hl7 --element Observation.value --format json
      fhir-gateway convert report.xml --element DiagnosticReport
      fhir-gateway convert lis.csv --map demo-second-results --message 3 --explain
      cat oru.hl7 | fhir-gateway convert - --store sqlite:///var/gateway.sqlite

    Exit code: 0 everything was converted; 1 something would be refused, and is told; 2 it could
    not start: options, FILE, folders, store.
    """
    asked = _asked(number or 0, format, given)
    try:
        settings = load_settings(database=given["store"] or None, mappings=given["mappings"],
                                 terminology=given["terminology"])  # fmt: skip
        raw, table = _read(file), table_of(settings, given["map_name"])
        if table is None:
            kind_of(raw)
        ground = asyncio.run(
            ground_of(settings, raw, table, given["institution"], with_store=bool(given["store"]))
        )
        ground = declared(ground, given["charset"], given["zone"])
    except GatewayError as error:
        raise _CannotStart("\n  ".join(one.diagnostics for one in error.issues)) from None
    sys.exit(1 if _run(settings, raw, table, ground, asked) else 0)


def _asked(number: int, format: str | None, given: dict[str, Any]) -> _Asked:
    """The options of what is printed. Raises UsageError for those that contradict."""
    field, element = given["field"], given["element"]
    if field and element:
        raise click.UsageError("--explain-field and --element ask for two things: give one")
    explaining = bool(given["explain"] or field or element)
    if explaining and format == "xml":
        raise click.UsageError("An explanation is no FHIR: --format json or text")
    shape = format or ("text" if explaining else "json")
    return _Asked(number, explaining, field, element, shape, given["whole"])


def _read(file: Path) -> bytes:
    """The bytes. Raises TooLong, Structure."""
    if str(file) != "-":
        return read_document(file)
    raw = sys.stdin.buffer.read(MAX_DOCUMENT + 1)
    if len(raw) > MAX_DOCUMENT:
        raise TooLong(f"The input has more than {MAX_DOCUMENT} bytes", rule="file-limit")
    return raw


def _conversions(
    settings: Settings, raw: bytes, table: TableMap | None, ground: Ground
) -> Iterator[tuple[str, Conversion | GatewayError]]:
    """Each message or report, or why it is refused, with a name to tell of it by."""
    own, mappings = ground.institution, settings.mappings
    if table is not None:
        for n, one in enumerate(table_conversions(raw, table, own, mappings=mappings), 1):
            yield (one.name if isinstance(one, Conversion) else f"report {n}"), one
        return
    if kind_of(raw) == "cda":
        try:
            yield "document", cda_conversion(raw, own, mappings=mappings, others=ground.others)
        except GatewayError as error:
            yield "document", error
        return
    messages = split_messages(raw)
    if not messages:
        raise Structure("The file holds no HL7 v2 message", rule="file")
    for n, message in enumerate(messages, 1):
        try:
            yield (
                f"message {n}",
                v2_conversion(message, own, mappings=mappings, charset=ground.charset),
            )
        except GatewayError as error:
            yield f"message {n}", error


def _run(
    settings: Settings, raw: bytes, table: TableMap | None, ground: Ground, asked: _Asked
) -> int:
    """Prints all that was asked for; how many were refused."""
    refused = 0
    try:
        found = list(_conversions(settings, raw, table, ground))
        if asked.number > len(found):
            raise Invalid(f"--message {asked.number}: the file holds {len(found)}", rule="message")
        chosen = found[asked.number - 1 : asked.number] if asked.number else found
        for name, one in chosen:
            if isinstance(one, GatewayError):
                refused += 1
                tell_issues("refused", name, one.issues)
                continue
            tell_issues("warning", name, one.warnings)
            finish = finisher(one.door, ground.institution.id, ground.coders)
            _print(settings, one, finish, asked, several=len(chosen) > 1)
    except Invalid as error:
        raise _CannotStart(str(error)) from None
    except GatewayError as error:
        tell_issues("refused", "file", error.issues)
        return 1
    return refused


def _print(
    settings: Settings, one: Conversion, finish: Finish, asked: _Asked, *, several: bool
) -> None:
    if not asked.explain:
        print_bundle(bundle_of(converted(one, finish)), asked.format, several=several)
        return
    if several and asked.format == "text":
        click.echo(f"-- {one.name}")
    only = fields_at(one.source.atoms, asked.field) if asked.field else None
    work = _EVER if asked.whole else WORK
    found = explain(one.source, finish=finish, only=only, work=work)
    if asked.field:
        print_fields(found, rows_of(f"{settings.mappings}/v2", "field-names"), asked.format)
        return
    wanted = [row for row in found.origins if not asked.element or is_element(row, asked.element)]
    if not wanted:
        names = (".".join(row.element.split(".")[:2]) for row in found.origins)
        known = sorted({name.partition("[")[0] for name in names})
        raise Invalid(f"Nothing was made of {asked.element}; there are {', '.join(known)}",
                      rule="convert-element")  # fmt: skip
    print_origins(found, wanted, asked.format)
