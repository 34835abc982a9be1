"""`fhir-gateway profiles`: which profiles there are, whether they hold, and their package."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fhir_gateway.app import profile_resources
from fhir_gateway.cli import profiles_check
from fhir_gateway.cli.profiles_package import PACKAGE, package, with_snapshots
from fhir_gateway.errors import GatewayError
from fhir_gateway.settings import Settings, load_settings


@click.group("profiles")
def command() -> None:
    """Profiles and extensions: list them, check them, publish them as a FHIR package.

    They are the StructureDefinitions of the profiles folder; a change counts when the gateway
    starts again. No store is opened.
    """


def _with_settings(function: Callable[..., None]) -> Callable[..., None]:
    """Reads the settings, and says errors as sentences."""

    @wraps(function)
    def run(**options: Any) -> None:
        try:
            function(load_settings(), **options)
        except GatewayError as error:
            lines = [_line(issue.expression, issue.diagnostics) for issue in error.issues]
            raise click.ClickException("\n  ".join(lines)) from None

    return run


def _line(expression: str | None, sentence: str) -> str:
    return f"{expression}: {sentence}" if expression else sentence


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@_with_settings
def list_(settings: Settings, *, as_json: bool) -> None:
    """Lists profiles and extensions: id, what it constrains, version, examples, title."""
    counts = profiles_check.counts(settings.profiles)
    rows = [
        {
            "id": one["id"],
            "url": one["url"],
            "type": one["type"],
            "version": one.get("version", ""),
            "status": one.get("status", ""),
            "good": counts.get(one["id"], (0, 0))[0],
            "bad": counts.get(one["id"], (0, 0))[1],
            "title": one.get("title", ""),
        }
        for one in profile_resources(settings.profiles)
        if one["resourceType"] == "StructureDefinition"
    ]
    rows.sort(key=lambda row: (row["type"] == "Extension", row["id"]))
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        shown = f"{row['good']} good, {row['bad']} bad" if row["good"] or row["bad"] else ""
        click.echo(f"{row['id']:36} {row['type']:20} {row['version']:8} {shown:16} {row['title']}")


@command.command("check")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@_with_settings
def check(settings: Settings, *, as_json: bool) -> None:
    """Checks that every profile compiles and that every example is judged as it says.

    A good example has no error. A bad one has those that profiles/examples/expected.csv names, and
    no other error. Exit code 1 when something is wrong.
    """
    found = profiles_check.check(settings)
    if as_json:
        shown = {"profiles": found.profiles, "examples": found.examples, "faults": found.faults}
        click.echo(json.dumps(shown, ensure_ascii=False))
    else:
        for fault in found.faults:
            click.echo(f"FAILED  {fault}")
        click.echo(
            f"{found.profiles} profiles and extensions, {found.examples} examples, "
            f"{len(found.faults)} faults"
        )
    if found.faults:
        raise SystemExit(1)


@command.command("package")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="The .tgz to write; an existing file is replaced.")  # fmt: skip
@_with_settings
def package_(settings: Settings, *, out: Path) -> None:
    """Writes the FHIR package: profiles with snapshots, terminology, operations, examples.

    The same folders give the same bytes. The terminology carries the notices of LOINC and UCUM,
    which go with it wherever it goes.
    """
    packed = package(settings)
    draft = out.with_name(f"{out.name}.part")
    try:
        draft.write_bytes(packed)
        draft.replace(out)
    except OSError as error:
        raise click.ClickException(f"{out} cannot be written: {error.strerror}") from None
    click.echo(f"{out}: {PACKAGE}, {len(packed) // 1024} kB")


@command.command("show")
@click.argument("id")
@_with_settings
def show(settings: Settings, *, id: str) -> None:
    """Shows what a profile asks for: every element that it names, with limits and rules."""
    for one in with_snapshots(profile_resources(settings.profiles)):
        if one["resourceType"] == "StructureDefinition" and one["id"] == id:
            for line in profiles_check.described(one):
                click.echo(line)
            return
    raise click.ClickException(f"There is no profile {id}; `fhir-gateway profiles list` has all")
