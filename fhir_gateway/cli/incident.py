"""`fhir-gateway incident`: everything that the audit log knows of an incident, in one packet."""

from __future__ import annotations

import re
import zipfile
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fhir_gateway.accountability.incident import SIGNS, Asked, Packet, Prover, packet
from fhir_gateway.cli.answers_find import check_order
from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.cli.institution_common import tell_unknown
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.transparency.proofs import head_at, prove_entry, row_of

#: Records that are proved one by one, when nothing else is said: the head covers all.
PROVED = 1_000

_EVER = 1 << 62
_ZIP_TIME = (2000, 1, 1, 0, 0, 0)
_RESOURCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")


@click.group("incident")
def command() -> None:
    """Incidents: who, what, how many persons, since when."""


def _signs(function: Any) -> Any:
    texts = {
        "client": "Id of a registered client.",
        "user": "A person, as the log names it: Practitioner/id, or a name.",
        "institution": "Id of the institution whose acts they were.",
        "token": "What names a token in the log.",
        "address": "A network address.",
        "resource": "A resource, as Patient/id or Observation/id.",
    }
    for name in reversed(SIGNS):
        function = click.option(f"--{name}", default="", help=texts[name])(function)
    return function


@command.command("packet")
@click.option("--since", required=True, help="A day or a moment, as 2026-11-01T08:00+08:00.")
@click.option("--until", default="", help="A day or a moment; until now when left out.")
@_signs
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="A folder, or a file that ends with .zip; it must not be there.",
)
@click.option(
    "--proofs",
    type=click.IntRange(0),
    default=PROVED,
    show_default=True,
    help="Prove so many records one by one, where the log is signed; 0: none.",
)
@with_gateway
async def make(
    gateway: Gateway, *, since: str, until: str, output: Path, proofs: int, **signs: str
) -> None:
    """Writes the packet: summary in Chinese and English, the records, persons, proofs, digests.

    It holds no results and no identity numbers: persons are named by the ids of their records.
    """
    _check_free(output)
    asked = Asked(_moment(gateway, since)[0], _end(gateway, until), **signs)
    check_order(asked.start, asked.end)
    _check_resource(asked.resource)
    await tell_unknown(gateway, asked.institution)
    head, prover = await _proving(gateway, proofs)
    made = await packet(
        gateway, asked, prover=prover, head=head,
        progress=lambda read: click.echo(f"\r{read} records", nl=False, err=True),
    )  # fmt: skip
    _write(output, made)
    tally = made.tally
    click.echo("", err=True)
    click.echo(
        f"{tally.records} records, {len(tally.persons)} persons, "
        f"{tally.first or '-'} to {tally.last or '-'}: {output}"
    )


def _check_free(output: Path) -> None:
    if output.exists():
        raise Invalid(f"{output} is there: name another place", rule="file")


def _check_resource(resource: str) -> None:
    if resource and not _RESOURCE.fullmatch(resource):
        raise Invalid(
            f"--resource: {resource} is none, write it as Patient/id or Observation/id",
            rule="reference",
        )


def _end(gateway: Gateway, until: str) -> int:
    return _moment(gateway, until)[1] + 1 if until else _EVER


def _moment(gateway: Gateway, text: str) -> tuple[int, int]:
    try:
        return date_range(text, gateway.settings.zone)
    except Invalid:
        raise Invalid(
            f"{text} is no day and no moment, write it as 2026-11-01", rule="day"
        ) from None


async def _proving(gateway: Gateway, most: int) -> tuple[bytes, Prover | None]:
    """The newest signed head and what proves records in it; nothing where no head was signed."""
    try:
        head = await head_at(gateway.store, None)
    except GatewayError:
        return b"", None
    if not most:
        return head.note.encode(), None

    async def prove(ids: Sequence[str]) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for id in ids[:most]:
            try:
                proven = await prove_entry(
                    gateway.store, await row_of(gateway.store, id), head.size
                )
            except GatewayError:  # recorded after the head was signed
                continue
            found[id] = {
                "index": proven.number,
                "size": proven.size,
                "leaf": b64encode(proven.leaf).decode(),
                "root": b64encode(proven.root).decode(),
                "path": [b64encode(one).decode() for one in proven.path],
            }
        return found

    return head.note.encode(), prove


def _write(output: Path, made: Packet) -> None:
    try:
        if output.suffix == ".zip":
            with zipfile.ZipFile(output, "x", zipfile.ZIP_DEFLATED) as archive:
                for name, content in made.files.items():
                    archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), content)
            return
        output.mkdir(parents=True)
        for name, content in made.files.items():
            (output / name).write_bytes(content)
    except OSError as error:
        raise Invalid(f"{output} cannot be written: {error.strerror}", rule="file") from None
