"""The column map of one table of one institution: a TOML file of mappings/tabular, checked whole.

Every fault of a file is told at once, with its place. What a map may say stands in
mappings/tabular/README.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fhir_gateway.mapping.tables import look_up, table
from fhir_gateway.mapping.tabular_fields import KEYS, KINDS, PARTS
from fhir_gateway.mapping.tabular_map_parts import (
    Faults,
    Filter,
    check_fields,
    filters,
    parts,
    texts,
    times,
    values,
)
from fhir_gateway.mapping.tabular_view import View, view

CSV, NDJSON = "csv", "ndjson"

#: setting of a map -> its default. Tables of a map have their own readers.
_PLAIN: dict[str, Any] = {
    "institution": "", "kind": "", "format": CSV, "code_page": "", "delimiter": ",", "quote": '"',
    "header": True, "open_end": False, "key": [], "watermark": "", "watermark_kind": "time",
}  # fmt: skip
_TABLES = frozenset({"columns", "constants", "values", "times", "parts", "filter", "database"})

#: What a file is, unless its map says otherwise: a CSV from a Chinese hospital, NDJSON by RFC 8259.
_DEFAULT_PAGE = {CSV: "GB 18030", NDJSON: "UTF-8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMap:
    """How the rows of a table are read; `digest` stands for all that it says."""

    name: str
    digest: str
    institution: str
    kind: str
    format: str
    codec: str
    delimiter: str
    quote: str
    header: bool
    open_end: bool
    key: tuple[str, ...]
    watermark: str
    watermark_kind: str
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    values: Mapping[str, Mapping[str, str]]
    times: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, tuple[str, str]]
    filters: tuple[Filter, ...]
    database: View | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that a table must have, each once."""
        named = [*self.columns.values(), *self.key, *(one.column for one in self.filters)]
        return tuple(dict.fromkeys([*named, *([self.watermark] if self.watermark else [])]))


def read_map(path: Path, *, mappings: str) -> TableMap:
    """The map of a file, its code page by the tables of the folder `mappings`.

    Raises Unprocessable with every fault.
    """
    faults = Faults(path.name)
    said, raw = _toml(path, faults)
    faults.check()
    made = _read(said, faults, path.stem, f"{mappings}/v2", sha256(raw).hexdigest())
    faults.check()
    return made


def _toml(path: Path, faults: Faults) -> tuple[dict[str, Any], bytes]:
    try:
        raw = path.read_bytes()
        return tomllib.loads(raw.decode("utf-8-sig")), raw
    except OSError:
        faults.add("", "the file cannot be read")
    except UnicodeDecodeError:
        faults.add("", "the file is not UTF-8")
    except tomllib.TOMLDecodeError as error:
        faults.add("", f"the file is no TOML: {error}")
    return {}, b""


def _read(said: dict[str, Any], faults: Faults, name: str, folder: str, digest: str) -> TableMap:
    plain = _plain(said, faults)
    columns, constants = texts(said, "columns", faults), texts(said, "constants", faults)
    if plain["kind"] in KINDS:
        check_fields(plain["kind"], columns, constants, faults)
    named = columns.keys() | constants.keys()
    declared = plain["code_page"] or _DEFAULT_PAGE.get(plain["format"], "")
    page = look_up(table(folder, "charsets"), declared)
    if page is None:
        faults.add("code_page", "this character set is not read here; see mappings/v2/charsets.csv")
    return TableMap(
        name=name,
        digest=digest,
        institution=plain["institution"],
        kind=plain["kind"],
        format=plain["format"],
        codec=page.code if page else "",
        delimiter=plain["delimiter"],
        quote=plain["quote"],
        header=plain["header"],
        open_end=plain["open_end"],
        key=_key(plain, columns, faults),
        watermark=plain["watermark"],
        watermark_kind=plain["watermark_kind"],
        columns=columns,
        constants=constants,
        values=values(said, named, faults),
        times=times(said, named, faults),
        parts=PARTS | parts(said, faults),
        filters=filters(said, faults),
        database=view(said, faults),
    )


def _plain(said: dict[str, Any], faults: Faults) -> dict[str, Any]:
    for name in sorted(said.keys() - _PLAIN.keys() - _TABLES):
        faults.add(name, "no setting of a map has this name")
    plain = dict(_PLAIN)
    for name, default in _PLAIN.items():
        if name in said and type(said[name]) is not type(default):
            faults.add(name, f"this must be a {_TYPES[type(default)]}")
        elif name in said:
            plain[name] = said[name]
    if not plain["institution"]:
        faults.add("institution", "name the logical id of the institution whose table it is")
    _among(plain, "kind", KINDS, faults)
    _among(plain, "format", (CSV, NDJSON), faults)
    _among(plain, "watermark_kind", ("time", "number"), faults)
    _check_signs(plain, faults)
    return plain


_TYPES = {str: "text", bool: "true or false", list: "list of texts"}


def _among(plain: dict[str, Any], name: str, known: tuple[str, ...], faults: Faults) -> None:
    if plain[name] not in known:
        faults.add(name, f"this is one of {', '.join(known)}")


def _check_signs(plain: dict[str, Any], faults: Faults) -> None:
    delimiter, quote = plain["delimiter"], plain["quote"]
    for name, sign in (("delimiter", delimiter), ("quote", quote)):
        optional = name == "quote" and sign == ""
        if not optional and (len(sign) != 1 or sign.isalnum() or sign in "\r\n" or sign > "\x7e"):
            faults.add(name, "this is one sign of ASCII, no letter and no digit")
    if delimiter == quote:
        faults.add("quote", "delimiter and quote are the same sign")


def _key(plain: dict[str, Any], columns: Mapping[str, str], faults: Faults) -> tuple[str, ...]:
    """The columns of the key: those that the map names, else those of the kind's own key."""
    if not all(isinstance(one, str) and one for one in plain["key"]):
        faults.add("key", "this must be a list of names of columns")
        return ()
    usual = (columns[one] for one in KEYS.get(plain["kind"], ()) if one in columns)
    key = tuple(dict.fromkeys(plain["key"])) or tuple(dict.fromkeys(usual))
    if not key and plain["kind"] in KINDS:
        faults.add("key", "name the columns that tell which rows belong together")
    return key
