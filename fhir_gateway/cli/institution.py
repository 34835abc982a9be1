"""`fhir-gateway institution`: register the senders and receivers of results, and check them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import click

from fhir_gateway.cli.institution_common import common, gateway_of, print_table
from fhir_gateway.cli.institution_status import status
from fhir_gateway.cli.institution_told import judge_institutions
from fhir_gateway.cli.institution_validation import issues as issues_command
from fhir_gateway.cli.institution_validation import validation
from fhir_gateway.errors import GatewayError, Invalid, Unprocessable
from fhir_gateway.interactions.institutions import (
    has_token,
    institutions,
    institutions_at,
    issue_token,
    register,
    revoke_token,
)
from fhir_gateway.interactions.local_codes import stored_rows
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import (
    DEFAULT_CHARSET,
    DEFAULT_ZONE,
    NUMBER_KINDS,
    VALIDATION_MODES,
    Institution,
    level_of,
)
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.area import Areas, load_areas
from fhir_gateway.terminology.catalogue import Catalogue, load_catalogue
from fhir_gateway.terminology.concept_map import load_concept_map
from fhir_gateway.terminology.local_map import LocalMap, Row, local_map
from fhir_gateway.terminology.local_map_check import doubts
from fhir_gateway.terminology.registry import problems

R = TypeVar("R")


@click.group("institution")
def command() -> None:
    """Institutions that send and receive results: add, list, check, token."""


command.add_command(validation)
command.add_command(issues_command)
command.add_command(status)


@command.command("add")
@click.argument("id")
@click.argument("name")
@click.option("--level", default="未定级", show_default=True, help="Grade: 三级甲等 … 社区, or 3A.")
@click.option("--area", required=True, help="Area code (GB/T 2260), e.g. 110105.")
@click.option("--zone", default=DEFAULT_ZONE, show_default=True, help="Time zone of its times.")
@click.option("--charset", default=DEFAULT_CHARSET, show_default=True, help="Of v2 and tables.")
@click.option("--credit-code", default="", help="统一社会信用代码 (GB 32100).")
@click.option("--institution-code", default="", help="医疗机构代码.")
@click.option("--facility", multiple=True, help="Name in MSH-4 of its v2 messages; repeatable.")
@click.option(
    "--system", "systems", multiple=True, metavar="KIND=URI",
    help=f"Identifier system of its own numbers; KIND is one of {', '.join(NUMBER_KINDS)}.",
)  # fmt: skip
@click.option(
    "--validation", type=click.Choice(VALIDATION_MODES),
    help="What becomes of a resource that breaks a profile; as it was when not given.",
)  # fmt: skip
@click.option("--inactive", is_flag=True, help="Keep the entry, but list it as no source.")
@click.option("--no-token", is_flag=True, help="Do not make a token for a new institution.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@common
async def add(settings: Settings, **options: Any) -> None:
    """Registers an institution, or changes its entry.

    ID is the logical id of its Organization and the name of its code map. A new institution is
    given a bearer token, which is shown once and kept only as a hash.
    """
    entry = _entry(options)
    mode = options["validation"]
    issues = problems(entry, load_areas(settings.terminology))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    async with gateway_of(settings, begin=True) as gateway:
        known = (await institutions(gateway)).get(entry.id)
        entry = replace(entry, validation=mode or (known.validation if known else ""))
        outcome, token = await register(gateway, entry, with_token=not options["no_token"])
    if options["as_json"]:
        click.echo(json.dumps({"id": entry.id, "outcome": outcome, "token": token}))
        return
    click.echo(f"{entry.id} {entry.name}: {outcome}")
    if token:
        _show(token)


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@common
async def list_(settings: Settings, *, as_json: bool) -> None:
    """Lists institutions: level, area, last received, and how many codes are mapped."""
    areas, catalogue = load_areas(settings.terminology), load_catalogue(settings.terminology)
    async with gateway_of(settings) as gateway, gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = sorted((await institutions_at(gateway, reader)).values(), key=lambda one: one.id)
        received = await reader.last_received()
        rows = await stored_rows(reader, catalogue)
    zone = ZoneInfo(settings.zone)
    lines = [
        _line(one, areas, received.get(one.id), zone, _map_of(settings, one.id, catalogue, rows)[0])
        for one in found
    ]
    if as_json:
        click.echo(json.dumps([line._asdict() for line in lines], ensure_ascii=False))
        return
    print_table(("id", "name", "level", "area", "last received", "mapped", "unmapped"), lines)


@command.command("check")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--sample", "samples", multiple=True, metavar="FILE",
              type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A message, document or Bundle: judged, not stored; repeatable.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON each.")
@common
async def check(
    settings: Settings, *, ids: tuple[str, ...], samples: tuple[Path, ...], as_json: bool
) -> None:
    """Checks entries, code maps and credentials of all institutions, and says what to do.

    Of those named by ID it checks all that can be known before they go live, too: senders, charset,
    codes of what came, messages by door and kind, dead letters, clock, identity numbers,
    evaluations, samples. Each is pass, FAIL, or not known yet (?), with what to do.

    Ends with exit code 1 when something has to be done; what is not known yet does not count.
    """
    if samples and len(ids) != 1:
        raise Invalid("Samples are those of one institution: name it", rule="institution")
    if ids:
        good = await judge_institutions(settings, ids, samples, _map_of, as_json=as_json)
    else:
        good = await _check_entries(settings, as_json=as_json)
    if not good:
        raise click.exceptions.Exit(1)


async def _check_entries(settings: Settings, *, as_json: bool) -> bool:
    """The short check of all."""
    areas, catalogue = load_areas(settings.terminology), load_catalogue(settings.terminology)
    async with gateway_of(settings) as gateway, gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        found = await institutions_at(gateway, reader)
        armed = {id: await has_token(reader, id) for id in found}
        rows = await stored_rows(reader, catalogue)
    wrong = 0
    for id in sorted(found):
        to_do = [issue.diagnostics for issue in problems(found[id], areas)]
        if not armed[id]:
            to_do.append(f"It has no token: fhir-gateway institution token {id}")
        to_do += _map_of(settings, id, catalogue, rows)[1]
        wrong += len(to_do)
        if as_json:
            click.echo(json.dumps({"id": id, "ok": not to_do, "toDo": to_do}, ensure_ascii=False))
            continue
        click.echo(f"{id} {found[id].name}: {'to do' if to_do else 'ok'}")
        for line in to_do:
            click.echo(f"  - {line}")
    return not wrong


@command.command("token")
@click.argument("id", required=False)
@click.option("--revoke", is_flag=True, help="End a token instead; it is asked for, not shown.")
@common
async def token(settings: Settings, *, id: str | None, revoke: bool) -> None:
    """Makes a new bearer token for an institution, or ends one.

    The token is shown once. Older tokens stay valid until they are revoked, so that a hospital
    can change over without a gap.
    """
    if not revoke and not id:
        raise Invalid("Say for which institution", rule="institution")
    async with gateway_of(settings) as gateway:
        if revoke:
            click.echo(f"A token of {await revoke_token(gateway, _asked())} is ended")
            return
        _show(await issue_token(gateway, str(id)))


# -- helpers -------------------------------------------------------------------------------------


class _Line(NamedTuple):
    id: str
    name: str
    level: str
    area: str
    last_received: str
    mapped: int
    unmapped: int


def _entry(options: dict[str, Any]) -> Institution:
    level = level_of(options["level"])
    systems = dict(text.partition("=")[::2] for text in options["systems"])
    return Institution(
        id=options["id"],
        name=options["name"],
        level=level.name_zh if level else options["level"],
        area=options["area"],
        zone=options["zone"],
        charset=options["charset"],
        identifier_systems=systems,
        credit_code=options["credit_code"],
        institution_code=options["institution_code"],
        facilities=tuple(options["facility"]),
        active=not options["inactive"],
    )


def _map_of(
    settings: Settings, id: str, catalogue: Catalogue, stored: dict[str, list[Row]]
) -> tuple[LocalMap | None, list[str]]:
    """The institution's code map, of its table and of the store, and what has to be done."""
    path = Path(settings.mappings) / "concepts" / f"{id}.csv"
    rows = stored.get(id, [])
    if not path.exists():
        if rows:
            return local_map(id, rows), doubts(rows)
        return None, [
            f"It has no code map: write {path.name} into {path.parent}, or begin with "
            f"fhir-gateway codes worklist {id}"
        ]
    try:
        rows = [*rows, *load_concept_map(path, catalogue).rows]
    except GatewayError as error:
        return None, [issue.diagnostics for issue in error.issues]
    return local_map(id, rows), doubts(rows)


def _line(
    one: Institution, areas: Areas, received: int | None, zone: ZoneInfo, found: LocalMap | None
) -> _Line:
    area = areas.areas.get(one.area)
    last = "never"
    if received is not None:
        last = datetime.fromtimestamp(received / 1e6, zone).strftime("%Y-%m-%d %H:%M")
    mapped, unmapped = found.counts() if found else (0, 0)
    where = f"{one.area} {area.name}" if area else one.area
    return _Line(one.id, one.name, one.level, where, last, mapped, unmapped)


def _asked() -> str:
    """A token typed in, or piped: never an argument, which other users of the machine can see."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().strip()
    return str(click.prompt("Token to end", hide_input=True)).strip()


def _show(token: str) -> None:
    click.echo("Bearer token, shown this once; only its hash is kept:")
    click.echo(token)
