"""The files of `load`: found, unpacked within bounds, told apart by what they hold."""

from __future__ import annotations

import bz2
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

from fhir_gateway.errors import GatewayError, NotSupported, Structure, TooLong

Kind = Literal["json", "ndjson", "v2", "dicom", "cda"]

#: What one document may unpack to: a packed file of kilobytes can hold gigabytes.
MAX_DOCUMENT = 256_000_000
#: What one line of NDJSON may be.
MAX_LINE = 20_000_000
#: Of a DICOM file nothing beyond its header is read.
MAX_DICOM = 8_000_000

_SUFFIXES: dict[str, Kind] = {
    ".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".hl7": "v2", ".er7": "v2",
    ".dcm": "dicom", ".cda": "cda",
}  # fmt: skip
_PACKED = (".gz", ".bz2")

#: Bytes in which a file shows what it is; before the root of XML may stand comments.
_HEAD = 4_096
_CDA = re.compile(rb"<(?:[A-Za-z_][\w.\-]*:)?ClinicalDocument[\s>]")

#: Words in the name of a file whose resources others refer to.
_FIRST = ("hospital", "organization", "organisation", "location", "practitioner", "institution")


class File(NamedTuple):
    """A file to load: `rank` 0 before 1, `size` as it lies on the disk."""

    path: Path
    rank: int
    size: int


def find(paths: Iterable[Path]) -> tuple[list[File], list[tuple[Path, GatewayError]]]:
    """The files under the paths, those that others refer to first; and what is none of ours.

    In folders only files are taken whose name or first bytes say what they are; links and hidden
    files are passed over. A file that is named is always tried.
    """
    files: list[File] = []
    refused: list[tuple[Path, GatewayError]] = []
    for path in paths:
        if path.is_dir():
            files += [_file(found) for found in sorted(_walk(path))]
        elif path.is_file():
            files.append(_file(path))
        else:
            refused.append((path, NotSupported("This is neither a file nor a folder")))
    unique = {file.path.resolve(): file for file in reversed(files)}
    return sorted(unique.values(), key=lambda file: (file.rank, str(file.path))), refused


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            yield from _walk(path)
        elif path.is_file() and _is_ours(path):
            yield path


def _is_ours(path: Path) -> bool:
    """By its name; a .txt or a file without a known suffix by its first bytes."""
    if _suffix(path) in _SUFFIXES:
        return True
    try:
        with _open(path) as file:
            head = file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return False
    return _sniff(head) in ("v2", "dicom", "cda")


def _suffix(path: Path) -> str:
    suffixes = path.suffixes
    if suffixes and suffixes[-1].lower() in _PACKED:
        suffixes = suffixes[:-1]
    return suffixes[-1].lower() if suffixes else ""


def _file(path: Path) -> File:
    name = path.name.lower()
    return File(path, 0 if any(word in name for word in _FIRST) else 1, path.stat().st_size)


def kind_of(path: Path) -> Kind:
    """What a file holds, by its first bytes and then by its name. Raises Structure for neither."""
    try:
        with _open(path) as file:
            head = file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        raise _unreadable() from None
    named = _SUFFIXES.get(_suffix(path))
    kind = _sniff(head)
    if kind in ("v2", "dicom", "cda"):
        return kind
    if named == "ndjson" or (kind is None and named):
        return named
    if kind is None:
        raise Structure(
            "The file is no FHIR JSON, HL7 v2 message, CDA document or DICOM object", rule="file"
        )
    return kind


def _sniff(head: bytes) -> Kind | None:
    if head[128:132] == b"DICM":
        return "dicom"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x0b\r\n\t ")
    if text.startswith((b"MSH", b"FHS", b"BHS")):
        return "v2"
    if text.startswith(b"<") and _CDA.search(text):
        return "cda"
    return "json" if text.startswith(b"{") else None


def _open(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    return bz2.open(path, "rb") if path.suffix.lower() == ".bz2" else path.open("rb")


def read_document(path: Path, *, limit: int = MAX_DOCUMENT) -> bytes:
    """The whole file, unpacked. Raises Structure when it is damaged, TooLong beyond the limit."""
    try:
        with _open(path) as file:
            content = file.read(limit + 1)
    except (OSError, EOFError, zlib.error):
        raise _unreadable() from None
    if len(content) > limit:
        raise TooLong(f"The file unpacks to more than {limit} bytes", rule="file-limit")
    return content


def read_start(path: Path) -> bytes:
    """The first bytes of a DICOM file, as many as a header may have."""
    try:
        with _open(path) as file:
            return file.read(MAX_DICOM)
    except (OSError, EOFError, zlib.error):
        raise _unreadable() from None


def read_head(path: Path) -> bytes:
    """The first bytes, unpacked. Raises Structure."""
    try:
        with _open(path) as file:
            return file.read(4096)
    except (OSError, EOFError, zlib.error):
        raise _unreadable() from None


def read_lines(path: Path) -> Iterator[tuple[int, bytes, int]]:
    """(line number, line, place on the disk after it) of an NDJSON file, without empty ones.

    Raises Structure, TooLong.
    """
    try:
        with path.open("rb") as raw, _unpacked(raw, path) as file:
            number = 0
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise TooLong(f"Line {number} has more than {MAX_LINE} bytes", rule="line")
                if stripped := line.strip():
                    yield number, stripped, raw.tell()
    except (OSError, EOFError, zlib.error):
        raise _unreadable() from None


def _unpacked(raw: IO[bytes], path: Path) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    return cast(IO[bytes], bz2.BZ2File(raw)) if suffix == ".bz2" else raw


def _unreadable() -> Structure:
    return Structure("The file cannot be read or unpacked: it is damaged", rule="file")
