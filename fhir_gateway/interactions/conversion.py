"""What a message would become, without a store: read, mapped, coded, ready to be explained.

The same readers and mappers as at the doors, so that what is shown is what would be stored, but
for what stands in the store already (docs/v2.md, what overtakes what). Nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from fhir_gateway.context import Coder
from fhir_gateway.errors import GatewayError, Issue, NotSupported, Structure
from fhir_gateway.interactions.intake_tabular_survey import groups_of, survey
from fhir_gateway.mapping.cda import map_cda, read_cda
from fhir_gateway.mapping.cda_header import Header
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.mapping.doors import through
from fhir_gateway.mapping.origins import Finish, Source
from fhir_gateway.mapping.origins_cda import CdaSource
from fhir_gateway.mapping.origins_table import TableSource
from fhir_gateway.mapping.origins_v2 import V2Source
from fhir_gateway.mapping.tabular import map_group
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.v2 import Message, parse
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.security.institution import Institution


class Conversion(NamedTuple):
    """One message, or the rows of one report: what it is, its door, what it is explained by, and
    what was doubtful. `message` is the tree of a v2 message."""

    name: str
    door: str
    source: Source
    warnings: Sequence[Issue]
    message: Message | None = None


def v2_conversion(
    raw: bytes,
    institution: Institution,
    *,
    mappings: str,
    charset: str = "",
    others: frozenset[str] = frozenset(),
) -> Conversion:
    """A v2 message. `others` are the names of other registered institutions.

    Raises GatewayError with the place that is wrong, as the doors do.
    """
    folder = f"{mappings}/v2"
    message = parse(raw, default_charset=charset or institution.charset, folder=folder)
    warnings = map_message(message, institution, folder=folder, others=others).warnings
    header = message.header
    kind = "^".join(part for part in (header.text(9), header.text(9, 2)) if part)
    source = V2Source(message, institution, folder=folder, others=others)
    return Conversion(f"{kind} {header.text(10)}", "v2", source, warnings, message)


def cda_conversion(
    raw: bytes, institution: Institution, *, mappings: str, others: frozenset[str] = frozenset()
) -> Conversion:
    """A CDA document: what its report becomes, and the DocumentReference of its first version. Its
    bytes are kept beside it as a Binary (docs/cda.md). Raises GatewayError with its element."""
    document = parse_document(raw)
    taken = map_cda(
        read_cda(document, mappings=mappings), institution, mappings=mappings, others=others
    )
    id = taken.read.header.id
    source = CdaSource(document, institution, mappings=mappings, others=others)
    return Conversion(f"CDA {id.extension or id.root}", "cda", source, taken.mapped.warnings)


def cda_custodian(raw: bytes, *, mappings: str) -> Header:
    """The header of a document, for whoever has to know whose it is. Raises GatewayError."""
    return read_cda(parse_document(raw), mappings=mappings).header


def table_conversions(
    raw: bytes, table: TableMap, institution: Institution, *, mappings: str
) -> Iterator[Conversion | GatewayError]:
    """The reports (orders, studies, patients) of a table, in the order of the file, or why one is
    refused. Raises GatewayError where the file cannot be read at all."""
    found = survey(lambda: BytesIO(raw), table, zone=institution.zone, since="")
    yield from found.broken
    for group, wrong, _ in groups_of(lambda: BytesIO(raw), table, found):
        if wrong is not None:
            yield wrong
            continue
        try:
            taken = map_group(table, group, institution, mappings=mappings)
        except GatewayError as error:
            yield error
            continue
        source = TableSource(table, group, institution, mappings=mappings)
        name = f"line {group.records[0].line}, {' '.join(filter(None, group.key))}"
        yield Conversion(name, "table", source, taken.mapped.warnings)


def finisher(door: str, institution: str, coders: Sequence[Coder]) -> Finish:
    """What intake adds to mapped resources: the door, catalogue codings, flags."""

    def finish(resources: list[dict[str, Any]]) -> None:
        for n, resource in enumerate(resources):
            resources[n] = coded = through(door, resource)
            for coder in coders:
                coder(coded, institution)

    return finish


def converted(conversion: Conversion, finish: Finish) -> list[dict[str, Any]]:
    """The resources, in an order in which each only points to earlier ones."""
    resources = conversion.source.map(None, "")
    finish(resources)
    return resources


def bundle_of(resources: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A transaction that would store them at any FHIR server (hl7.org/fhir/R4/http.html)."""
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "transaction"}
    entries = [
        {
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for one in resources
    ]
    return bundle | ({"entry": entries} if entries else {})


def kind_of(raw: bytes) -> str:
    """v2, cda or fhir by the first bytes. Raises Structure for anything else."""
    start = raw[:200].removeprefix(b"\xef\xbb\xbf").lstrip(b"\x0b\r\n\t ")
    if start.startswith((b"MSH", b"FHS", b"BHS")):
        return "v2"
    if start.startswith(b"{"):
        raise NotSupported("This is FHIR already, or NDJSON: name the map of a table with --map",
                           rule="convert-kind")  # fmt: skip
    if start.startswith(b"<"):
        return "cda"
    raise Structure(
        "This is no HL7 v2 message and no CDA document; a table needs its map (--map)",
        rule="convert-kind",
    )
