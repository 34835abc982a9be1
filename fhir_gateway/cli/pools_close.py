"""`fhir-gateway pools close`: write a closure into a file of supply, checked before it stands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from fhir_gateway.cli.catalogue_frame import content_of
from fhir_gateway.errors import GatewayError
from fhir_gateway.scheduling.files import refused
from fhir_gateway.scheduling.site_files import items_of, load_site, path_of
from fhir_gateway.scheduling.template import Supply
from fhir_gateway.scheduling.template_file import read_supply
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.catalogue import load_catalogue


@click.command("close")
@click.argument("template")
@click.option("--first", required=True, metavar="DAY", help="First day, as 2026-12-07.")
@click.option("--last", default="", metavar="DAY", help="Last day; the first when left out.")
@click.option("--from", "since", default="", metavar="TIME", help="From this time of each day.")
@click.option("--to", "until", default="", metavar="TIME", help="Until this time of each day.")
@click.option("--department", default="", help="This department alone.")
@click.option("--resource", default="", help="This doctor, machine or room alone.")
@click.option("--reason", required=True, help="Why; whoever asks about the slots is told.")
def close(template: str, reason: str, **said: str) -> None:
    """Close days of an institution, a department or a resource, in its TEMPLATE file.

    The file is checked with the closure in it; nothing is written when it has a fault. Nothing is
    stored yet: `pools diff` shows what it means, `pools generate` does it.
    """
    try:
        path = path_of(Path(load_settings().profiles), template)
        supply = _written(path, _block(said, reason))
    except (GatewayError, UnicodeDecodeError, OSError) as error:
        issues = error.issues if isinstance(error, GatewayError) else ()
        told = "\n  ".join(issue.diagnostics for issue in issues) or f"{template}: {error}"
        raise click.ClickException(told) from None
    found = supply.closures[-1]
    what = found.department or found.resource or supply.site.id
    click.echo(f"{path.name}: {what} closed from {found.first} to {found.last}")


def _block(said: Mapping[str, str], reason: str) -> str:
    """The table of a closure."""
    names = {"since": "from", "until": "to"}
    pairs = [(names.get(key, key), text) for key, text in said.items() if text]
    lines = [
        f"{key} = {json.dumps(text, ensure_ascii=False)}"
        for key, text in (*pairs, ("reason", reason))
    ]
    return "\n[[closures]]\n" + "\n".join(lines) + "\n"


def _written(path: Path, block: str) -> Supply:
    """Adds a block to a file, which stays as it was when the whole then has a fault.

    Raises Invalid with every fault, UnicodeDecodeError and OSError.
    """
    settings = load_settings()
    calendar = load_site(Path(settings.profiles)).calendar
    items = items_of(load_catalogue(settings.terminology))
    text = content_of(path).decode("utf-8").rstrip("\n") + "\n" + block
    made = path.with_name(f".{path.stem}.{os.getpid()}.new")
    try:
        made.write_text(text, encoding="utf-8")
        page, supply = read_supply(made, items, calendar)
        if page.faults:
            raise refused(fault._replace(file=path.name) for fault in page.faults)
        os.replace(made, path)
    finally:
        with suppress(OSError):
            made.unlink()
    return supply
