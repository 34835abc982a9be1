"""`fhir-gateway institution validation` and `issues`: how an institution's resources are validated,
and what they break."""

from __future__ import annotations

import json
from dataclasses import replace

import click

from fhir_gateway.cli.institution_common import common, gateway_of, print_table
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.institutions import institutions, register
from fhir_gateway.interactions.profile_issues import issue_table
from fhir_gateway.security.institution import VALIDATION_MODES
from fhir_gateway.settings import CANONICAL, Settings

_NONE = "none"


@click.command("validation")
@click.argument("id")
@click.argument("mode", required=False, type=click.Choice((*VALIDATION_MODES, _NONE)))
@common
async def validation(settings: Settings, *, id: str, mode: str | None) -> None:
    """Shows or sets what becomes of a resource that breaks a profile.

    refuse: it is refused with all that is wrong. accept-and-flag: it is stored with the tag
    profile-issue. learn: it is stored as it is; `institution issues` shows what it breaks. none:
    as accept-and-flag, judged by R4 and by the profiles that a resource claims.
    """
    async with gateway_of(settings) as gateway:
        found = (await institutions(gateway)).get(id)
        if found is None:
            raise Invalid(f"No institution {id} is registered", rule="institution")
        if mode is not None:
            chosen = "" if mode == _NONE else mode
            await register(gateway, replace(found, validation=chosen))
            found = replace(found, validation=chosen)
    click.echo(f"{id} {found.name}: {found.validation or _NONE}")


@click.command("issues")
@click.argument("id")
@click.option("--type", help="Only resources of this type.")
@click.option("--last", default=2_000, show_default=True, type=click.IntRange(1, 1_000_000),
              help="How many of the newest resources are judged.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@common
async def issues(
    settings: Settings, *, id: str, type: str | None, last: int, as_json: bool
) -> None:
    """Counts what an institution's newest resources break, by profile, rule and element.

    They are judged as they are stored, by the profiles as they are now. No patient data is shown.
    """
    async with gateway_of(settings) as gateway:
        if id not in await institutions(gateway):
            raise Invalid(f"No institution {id} is registered", rule="institution")
        table = await issue_table(gateway, id, type=type, last=last)
    if as_json:
        lines = [line._asdict() for line in table.lines]
        told = {"judged": table.judged, "refused": table.refused, "lines": lines}
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    click.echo(f"{table.judged} resources judged, {table.refused} would be refused by mode refuse")
    if table.lines:
        header = ("profile", "type", "severity", "rule", "element", "issues", "resources")
        prefix = f"{CANONICAL}/StructureDefinition/"
        shown = [(line.profile.removeprefix(prefix), *line[1:]) for line in table.lines]
        print_table(header, shown)
