"""`fhir-gateway evaluations body`: who may evaluate, at what level, for which area."""

from __future__ import annotations

from pathlib import Path

import click

from fhir_gateway.cli.catalogue_frame import sheet_of, table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, NotFound, Unprocessable
from fhir_gateway.interactions.evaluations import areas_of, bodies_at, register_bodies
from fhir_gateway.interactions.institutions import issue_token
from fhir_gateway.interactions.types import check_id
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.evaluating_body import KINDS, LEVELS, EvaluatingBody

_COLUMNS = ("id", "name", "level", "kind", "area")


@click.group("body")
def body() -> None:
    """Evaluating bodies: add, import, list, token."""


@body.command("add")
@click.argument("id")
@click.argument("name")
@click.option("--level", type=click.Choice(list(LEVELS)), required=True, help="What it is.")
@click.option("--area", required=True, help="Area that it speaks for: CN, JJJ, 110000, 110105.")
@click.option("--kind", type=click.Choice(KINDS), default="general", show_default=True,
              help="Health administration, or that of traditional Chinese medicine.")  # fmt: skip
@click.option("--inactive", is_flag=True, help="Keep the entry; it judges nobody any more.")
@with_gateway
async def add(
    gateway: Gateway, *, id: str, name: str, level: str, area: str, kind: str, inactive: bool
) -> None:
    """Registers an evaluating body, or changes its entry. What it judged before stays."""
    check_id(id)
    entry = EvaluatingBody(id=id, name=name, level=level, area=area, kind=kind, active=not inactive)
    outcomes = await register_bodies(gateway, [entry])
    click.echo(f"{id} {name}: {outcomes[id]}")


@body.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--sheet", default="", help="Sheet of a workbook, when it has several.")
@click.option("--encoding", default="", help="Charset of a CSV file: UTF-8, GB18030.")
@with_gateway
async def import_(gateway: Gateway, *, file: Path, sheet: str, encoding: str) -> None:
    """Registers the bodies of a table with the columns id, name, level, kind, area; all or none."""
    found = sheet_of(file, sheet=sheet, encoding=encoding)
    header = [cell.text.lower() for cell in found.rows[0].cells] if found.rows else []
    if missing := [name for name in _COLUMNS if name not in header]:
        raise Unprocessable(
            f"{found.where()}: no column for {', '.join(missing)}", rule="body-columns"
        )
    places = {name: header.index(name) for name in _COLUMNS}
    bodies: dict[str, EvaluatingBody] = {}
    issues: list[Issue] = []
    for row in found.rows[1:]:
        cells = {name: row.cell(place).text for name, place in places.items()}
        if cells["id"] in bodies or not cells["id"]:
            sentence = "must not be empty, and stand once"
            issues.append(found.issue("body-id", sentence, row.number, places["id"], "id"))
        if cells["kind"] not in KINDS:
            sentence = f"must be one of {', '.join(KINDS)}"
            issues.append(found.issue("body-kind", sentence, row.number, places["kind"], "kind"))
        bodies[cells["id"]] = EvaluatingBody(
            id=cells["id"], name=cells["name"], level=cells["level"], kind=cells["kind"],
            area=cells["area"],
        )  # fmt: skip
    if issues:
        raise Unprocessable(issues=tuple(issues))
    for id in bodies:
        check_id(id)
    outcomes = await register_bodies(gateway, list(bodies.values()))
    for id, outcome in outcomes.items():
        click.echo(f"{id} {bodies[id].name}: {outcome}")


@body.command("list")
@with_gateway
async def list_(gateway: Gateway) -> None:
    """Lists the evaluating bodies: level, kind, area."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        bodies = sorted((await bodies_at(gateway, reader)).values(), key=lambda one: one.id)
    areas = areas_of(gateway).areas
    rows = [
        (one.id, one.name, one.level, one.kind,
         f"{one.area} {areas[one.area].name}" if one.area in areas else one.area,
         "yes" if one.active else "no")
        for one in bodies
    ]  # fmt: skip
    table([("id", "name", "level", "kind", "area", "active"), *rows])


@body.command("token")
@click.argument("id")
@with_gateway
async def token(gateway: Gateway, *, id: str) -> None:
    """Makes a bearer token with which a body writes its evaluations itself.

    The token is shown once. It reads no patient's data. End it with: institution token --revoke
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if id not in await bodies_at(gateway, reader):
            raise NotFound(f"No evaluating body {id} is registered", rule="evaluating-body")
    click.echo("Bearer token, shown this once; only its hash is kept:")
    click.echo(await issue_token(gateway, id))
