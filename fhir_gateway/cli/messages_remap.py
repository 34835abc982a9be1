"""`fhir-gateway messages remap`: what changed tables would change of what an institution sent."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fhir_gateway.cli.answers_find import period
from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.interactions.remap_messages import DOORS, Foreseen, foresee_remap
from fhir_gateway.store.messages import Asked

#: Lines that are printed, the most frequent first.
_MOST = 200


@click.command("remap")
@click.option("--institution", "id", required=True, metavar="ID", help="Whose messages.")
@click.option("--with", "folder", required=True, metavar="FOLDER",
              type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Tables as they would be: a changed copy of mappings/.")  # fmt: skip
@click.option("--door", type=click.Choice(DOORS), help="Only what came by this door.")
@click.option("--since", default="", help="From this day on, as 2026-11-01.")
@click.option("--until", default="", help="Up to this day.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@with_gateway
async def remap_command(
    gateway: Gateway, *, id: str, folder: Path, door: str | None, since: str, until: str,
    quiet: bool, as_json: bool,
) -> None:  # fmt: skip
    """Tell what the tables of another folder would change of the messages of an institution.

    Each kept message is mapped by the tables of today and by those of FOLDER. Nothing is stored;
    what differs is counted by element and value, with the id of one message as an example.

    \b
    Example:
      cp -r mappings new-mappings, change a row, then
      fhir-gateway messages remap --institution h-1 --with new-mappings --since 2026-11-01
    """
    own = await institution(gateway, id)
    if own is None:
        raise Invalid(f"No institution {id} is registered; see `fhir-gateway institution list`",
                      rule="institution")  # fmt: skip
    if not (folder / "v2").is_dir():
        raise Invalid(f"{folder} is no folder of mapping tables: there is no {folder / 'v2'}",
                      rule="mappings")  # fmt: skip
    start, end = period(gateway, since, until)

    def progress(done: int) -> None:
        if not (quiet or as_json) and done % 100 == 0:
            click.echo(f"{done} messages", err=True)

    asked = Asked(door=door, since=start, until=end)
    found = await foresee_remap(gateway, own, str(folder), asked, progress)
    if as_json:
        click.echo(json.dumps(_as_json(found), ensure_ascii=False))
    else:
        click.echo("\n".join(_text(found)))


def _text(found: Foreseen) -> list[str]:
    lines = [f"{found.messages} messages, {found.changed} would become something else"]
    if found.gone:
        lines.append(f"{found.gone} more whose bytes are not kept any more")
    for line, count in _sorted(found)[:_MOST]:
        lines.append(f"{count:6}  {line}  (message {found.examples[line]})")
    if len(found.lines) > _MOST:
        lines.append(f"… and {len(found.lines) - _MOST} more; --json lists them")
    return lines


def _sorted(found: Foreseen) -> list[tuple[str, int]]:
    return sorted(found.lines.items(), key=lambda line: (-line[1], line[0]))


def _as_json(found: Foreseen) -> dict[str, object]:
    return {
        "messages": found.messages,
        "changed": found.changed,
        "gone": found.gone,
        "changes": [
            {"change": line, "count": count, "message": found.examples[line]}
            for line, count in _sorted(found)
        ],
    }
