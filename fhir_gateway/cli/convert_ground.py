"""Whose message `convert` shows, and what codes it: by the data folders, or as a store has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fhir_gateway.cli.institution_common import gateway_of
from fhir_gateway.context import Coder
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.conversion import cda_custodian, kind_of
from fhir_gateway.interactions.institutions import institution_of_facility, institutions
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.local_codes import catch_up
from fhir_gateway.mapping.cda import custodian_of
from fhir_gateway.mapping.tabular_map import TableMap, read_map
from fhir_gateway.mapping.v2 import split_messages
from fhir_gateway.mapping.v2_ack import read_header
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.concept_map import load_concept_maps
from fhir_gateway.terminology.local_codes import LocalCodes
from fhir_gateway.terminology.value_set import load_vocabulary


def table_of(settings: Settings, name: str) -> TableMap | None:
    """The column map of a name or a file, None for no name. Raises Invalid, Unprocessable."""
    if not name:
        return None
    folder = Path(settings.mappings, "tabular")
    for path in (Path(name), folder / f"{name}.toml"):
        if path.is_file():
            return read_map(path, mappings=settings.mappings)
    raise Invalid(f"There is no map {name}: name one of {folder}, or a file", rule="table-map")


class Ground(NamedTuple):
    """Whose message it is, and what codes it."""

    institution: Institution
    coders: Sequence[Coder]
    charset: str = ""
    others: frozenset[str] = frozenset()  # names of the other institutions of the store


async def ground_of(
    settings: Settings, raw: bytes, table: TableMap | None, id: str, *, with_store: bool
) -> Ground:
    """Raises Invalid where the store does not know the institution."""
    catalogue = load_vocabulary(settings.terminology).catalogue
    maps = load_concept_maps(Path(settings.mappings) / "concepts", catalogue)
    codes = LocalCodes(catalogue, maps)
    kind = "table" if table is not None else kind_of(raw)
    own = _believed(settings, raw, kind)
    named = id or (table.institution if table is not None else "")
    if not with_store:
        return Ground(_fit(replace(own, id=named or own.id), named), codes.coders)
    async with gateway_of(settings) as small:
        gateway = replace(small, local_codes=codes)
        known = await institutions(gateway)
        if named:
            found = known.get(named)
        elif kind == "cda":
            header = cda_custodian(raw, mappings=settings.mappings)
            found = custodian_of(header, known)
        else:
            found = await institution_of_facility(gateway, own.name)
        if found is None:
            raise Invalid(
                f"No institution {named or own.name} is registered in that store; name one with "
                "--institution, or leave --store out",
                rule="institution",
            )
        await catch_up(gateway, found.id)
        others = assigned_by_others(found, known)
        return Ground(found, codes.coders, others=others)


def _believed(settings: Settings, raw: bytes, kind: str) -> Institution:
    """The institution as the message itself names it. Raises GatewayError for a document that
    cannot be read."""
    if kind == "cda":
        header = cda_custodian(raw, mappings=settings.mappings)
        code = header.custodian.extension
        return Institution(id=code, name=header.custodian_name, institution_code=code)
    facility = read_header(_first(raw)).facility if kind == "v2" else ""
    return Institution(id=facility, name=facility, facilities=(facility,) if facility else ())


def _fit(own: Institution, named: str) -> Institution:
    """An id that FHIR has, whatever the message says, and a name."""
    id = "".join(c for c in own.id if c.isascii() and (c.isalnum() or c in "-."))[:64]
    return replace(own, id=id or "institution", name=own.name or named or "institution")


def declared(ground: Ground, charset: str, zone: str) -> Ground:
    """The same with a zone and a charset that were named. Raises Invalid for no zone."""
    if zone:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise Invalid(f"--zone {zone}: no such zone; for instance Asia/Shanghai",
                          rule="zone") from None  # fmt: skip
        own = replace(ground.institution, zone=zone, zone_registered=True)
        ground = ground._replace(institution=own)
    return ground._replace(charset=charset)


def _first(raw: bytes) -> bytes:
    return next(iter(split_messages(raw)), raw)
