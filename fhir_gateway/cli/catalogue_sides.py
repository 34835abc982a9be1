"""The sides of `catalogue diff`: an edition in the store, a folder of a catalogue, or a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fhir_gateway.cli.catalogue_frame import sheet_of
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions.lists import named
from fhir_gateway.terminology.catalogue import Kind, load_catalogue
from fhir_gateway.terminology.catalogue_columns import Header, find_header
from fhir_gateway.terminology.catalogue_import import read_entries
from fhir_gateway.terminology.edition import Edition, editions_of
from fhir_gateway.terminology.sheet import Sheet

#: Columns that only a list of examinations has.
_OF_IMAGING = frozenset({"modality", "body_part_zh", "contrast", "body_part_dicom"})


def sides(
    what: str, editions: Sequence[Edition], *, kind: Kind | None, encoding: str
) -> dict[Kind, Edition]:
    """The editions that a person named, one for each kind of items. Raises what is wrong."""
    path = Path(what)
    if path.is_dir():
        return {one.kind: one for one in editions_of(load_catalogue(path))}
    if path.is_file():
        one = _of_file(path, kind, encoding)
        return {one.kind: one}
    if path.suffix.lower() in (".csv", ".xlsx") or "/" in what:
        raise Invalid(f"There is no file {what}", rule="file")
    name, _, edition = what.partition("@")
    of_catalogue = [one for one in editions if one.is_catalogue and one.edition == name]
    if of_catalogue and not edition:
        return {one.kind: one for one in of_catalogue}
    chosen = max(named(editions, name, edition), key=lambda one: one.effective)
    return {chosen.kind: chosen}


def _of_file(path: Path, kind: Kind | None, encoding: str) -> Edition:
    sheet = sheet_of(path, encoding=encoding)
    kind = kind or _kind_of(sheet)
    header = find_header(sheet, kind)
    reading = read_entries(sheet, header, kind, name=path.stem, edition="")
    reading.check()
    items = {entry.item.code: entry.item for entry in reading.entries}
    if "validity_source" not in header.columns:  # read_entries named the file, for want of a list
        items = {code: replace(one, validity_source="") for code, one in items.items()}
    return Edition(
        name=path.name,
        kind=kind,
        edition="",
        effective="",
        items={code: one for code, one in items.items() if not one.retired},
        retired={code: one for code, one in items.items() if one.retired},
    )


def _kind_of(sheet: Sheet) -> Kind:
    """Examinations are told by their columns; a laboratory's list may have none of its own."""
    found: Header | None = None
    try:
        found = find_header(sheet, "imaging")
    except GatewayError:
        return "lab"
    return "imaging" if _OF_IMAGING & found.columns.keys() else "lab"
