"""What `convert` prints: the Bundle, a table of origins, what became of one field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from fhir_gateway.cli.institution_common import print_table
from fhir_gateway.errors import Issue
from fhir_gateway.fhir.wire import render
from fhir_gateway.fhir.xml_write import write_xml
from fhir_gateway.mapping.origins import Atom, Explained, Origin, Seen
from fhir_gateway.mapping.origins_diff import leaves, shown
from fhir_gateway.mapping.origins_how import HOW
from fhir_gateway.mapping.tables import Table

#: Characters of a value or a content that a table shows.
_WIDE = 48


def print_bundle(bundle: dict[str, Any], format: str, *, several: bool) -> None:
    """The Bundle: as JSON (of several messages one a line), XML, or lines of text."""
    if format == "xml":
        click.echo(write_xml(bundle, pretty=True).decode())
    elif format == "text":
        for entry in bundle.get("entry", ()):
            resource = entry["resource"]
            click.echo(f"{resource['resourceType']}/{resource['id']}")
            for path, value in leaves(resource):
                if path not in ("resourceType", "id"):
                    click.echo(f"  {path} = {_cut(shown(value))}")
    else:
        body = render(bundle)
        click.echo((body if several else msgspec.json.format(body, indent=2)).decode())


def print_origins(found: Explained, origins: Sequence[Origin], format: str) -> None:
    """A row for each value: element, value, the fields that say it, how."""
    if format == "json":
        click.echo(json.dumps([as_json_row(one) for one in origins], ensure_ascii=False, indent=2))
        return
    rows = [
        (
            one.element,
            _cut(one.value),
            _fields(one.sources),
            _how(one),
            _fields(one.also, text=False),
        )
        for one in origins
    ]
    print_table(("element", "value", "from", "how", "also decided by"), rows)
    used = [how for how in HOW if any(one.how == how for one in origins)]
    click.echo("")
    click.echo("\n".join(f"{how}: {HOW[how]}" for how in used))
    _tell_left_out(found)


def print_fields(found: Explained, names: Table, format: str) -> None:
    """For each field what it becomes, what else depends on it, and whether it may be left out."""
    told = [_field(found, seen, names) for seen in found.fields]
    if format == "json":
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    for one in told:
        said = f" = {_cut(one['content'])}" if one["content"] else ""
        click.echo(f"{one['field']}{' ' + one['name'] if one['name'] else ''}{said}")
        for word in ("becomes", "decides"):
            for element in one[word]:
                click.echo(f"  {word} {element}")
        for word in ("required", "checked"):
            if one[word]:
                click.echo(f"  {word}: {one[word]}")
        if not any(one[word] for word in ("becomes", "decides", "required", "checked")):
            click.echo("  nothing is taken from it; the message is kept as it came")
    _tell_left_out(found)


def _field(found: Explained, seen: Seen, names: Table) -> dict[str, Any]:
    atom = seen.atom
    becomes = [one for one in found.origins if atom in one.sources and one.how != "rule"]
    decides = [
        one
        for one in found.origins
        if atom in one.also or (atom in one.sources and one.how == "rule")
    ]
    return {
        "field": atom.place,
        "name": field_name(names, atom.place),
        "content": atom.text,
        "becomes": [f"{_named(one)} = {_cut(one.value)} ({_how(one)})" for one in becomes],
        "decides": list(dict.fromkeys(map(_named, decides))),
        "required": seen.required.issues[0].diagnostics if seen.required else "",
        "checked": seen.checked.issues[0].diagnostics if seen.checked else "",
    }


def field_name(names: Table, place: str) -> str:
    """What the standard calls a field, by field-names.csv; "" where it has no row."""
    segment, _, rest = place.partition("[")
    field = rest.partition("-")[2].partition(".")[0].partition("(")[0]
    row = names.get(f"{segment}-{field}") if field else None
    return row.display if row is not None else ""


def _named(origin: Origin) -> str:
    return f"{origin.element} of entry {origin.number + 1}"


def _how(origin: Origin) -> str:
    return f"{origin.how} ({origin.detail})" if origin.detail else origin.how


def _fields(atoms: Iterable[Atom], *, text: bool = True) -> str:
    return ", ".join(
        f"{atom.place} {_cut(atom.text, 20)}" if text and atom.text else atom.place
        for atom in atoms
    )


def as_json_row(origin: Origin) -> dict[str, Any]:
    """An origin for programs."""
    return {
        "resource": origin.resource,
        "entry": origin.number + 1,
        "element": origin.element,
        "value": origin.value,
        "how": origin.how,
        **({"detail": origin.detail} if origin.detail else {}),
        "from": [{"field": atom.place, "content": atom.text} for atom in origin.sources],
        "also": [atom.place for atom in origin.also],
    }


def _tell_left_out(found: Explained) -> None:
    if found.left_out:
        click.echo(
            f"The message is too large to be explained at once: {len(found.left_out)} fields from "
            f"{found.left_out[0].place} on were not looked at. Name one with "
            "--explain-field, or say --whole.",
            err=True,
        )


def tell_issues(kind: str, name: str, issues: Iterable[Issue]) -> None:
    """Warnings and refusals with their places, on the other stream."""
    for issue in issues:
        place = f"{issue.expression}: " if issue.expression else ""
        said = issue.diagnostics.removeprefix(place)
        click.echo(f"{kind}: {name}: {place}{said} [{issue.rule or issue.code}]", err=True)


def _cut(text: str, wide: int = _WIDE) -> str:
    text = " ".join(text.split())
    return text if len(text) <= wide else f"{text[: wide - 1]}…"
