"""The files that `tabular load` reads: as they are, or packed by gzip or ZIP.

What a file is its first bytes say, not its name. Packed ones are read as a stream and never
unpacked to disk; whoever packs a table more than `MOST_TIMES`, or to more than `MOST_BYTES`, gets
no further than that. An archive with several tables needs them named.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast
from zipfile import BadZipFile, ZipFile, ZipInfo

from fhir_gateway.errors import Conflict, Invalid, Structure, Unprocessable
from fhir_gateway.interactions.intake_tabular_survey import Opener

#: Bytes of an unpacked table, and how many times more than packed ones they may be. Tables of
#: results pack 10 to 60 times; deflate can do a thousand.
MOST_BYTES, MOST_TIMES = 50 << 30, 200

#: Unpacked bytes from which on the ratio is judged: a few lines may repeat themselves.
_JUDGED = 4 << 20
_MOST_MEMBERS = 1_000

_GZIP, _ZIPS = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED, _UTF8 = 0x1, 0x800


class Table(NamedTuple):
    """A table of a file: the name that its load is known by, and what opens it."""

    name: str
    open: Opener


def tables_of(path: Path, members: Sequence[str] = ()) -> list[Table]:
    """The tables of a file: itself, or those of an archive that are named.

    Raises Invalid for names that it does not have, Structure for an archive that cannot be read,
    and Conflict, when opened, for a file that has changed meanwhile.
    """
    plain = opener(path)
    with plain() as file:
        head = file.read(4)
    if head in _ZIPS:
        return _archive(path, plain, members)
    if members:
        raise Invalid(f"{path.name} is no ZIP archive: it has no --member", rule="table-packed")
    if head.startswith(_GZIP):
        size = path.stat().st_size
        return [Table(path.name, lambda: _bounded(_gzip(plain()), size))]
    return [Table(path.name, plain)]


def opener(path: Path) -> Opener:
    """Opens a file, time and again. Raises Conflict when it has changed meanwhile."""
    first = _stamp(path.stat())

    def open_file() -> BinaryIO:
        file = path.open("rb")
        if _stamp(os.fstat(file.fileno())) != first:
            file.close()
            raise Conflict("The file was changed while it was read; load it again when it is "
                           "written", rule="table-changed")  # fmt: skip
        return file

    return open_file


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns


# -- gzip and ZIP ----------------------------------------------------------------------------------


def _gzip(file: BinaryIO) -> list[BinaryIO]:
    return [cast(BinaryIO, gzip.GzipFile(fileobj=file)), file]


def _archive(path: Path, plain: Opener, members: Sequence[str]) -> list[Table]:
    try:
        with plain() as file, ZipFile(file) as archive:
            found = {_name(one): one for one in archive.infolist() if _is_table(one)}
            several = len(archive.infolist()) > _MOST_MEMBERS
    except (BadZipFile, OSError, NotImplementedError):
        raise _damaged(path.name) from None
    if several:
        raise Unprocessable(f"{path.name} has more than {_MOST_MEMBERS} files inside",
                            rule="table-packed")  # fmt: skip
    if missing := [name for name in members if name not in found]:
        raise Invalid(f"{path.name} has no {missing[0]}; it has {_listed(found)}",
                      rule="table-packed")  # fmt: skip
    if not members and len(found) != 1:
        raise Invalid(f"{path.name} has {len(found)} tables: {_listed(found)}. Name those that "
                      "this map is for with --member", rule="table-packed")  # fmt: skip
    chosen = [(name, found[name]) for name in (members or found)]
    for name, one in chosen:
        _check(f"{path.name}/{name}", one)
    return [Table(f"{path.name}/{name}", _member(plain, one, path.name)) for name, one in chosen]


def _listed(found: Collection[str]) -> str:
    names = sorted(found)
    return ", ".join(names[:20]) + (" …" if len(names) > 20 else "") if names else "none"


def _is_table(one: ZipInfo) -> bool:
    """Whether it is a file that somebody put there; archivers of desktops add their own."""
    parts = one.filename.split("/")
    return not one.is_dir() and parts[0] != "__MACOSX" and not parts[-1].startswith(".")


def _name(one: ZipInfo) -> str:
    """Its name. One that is not said to be UTF-8 is of the archiver's code page, in China GBK."""
    if one.flag_bits & _UTF8:
        return one.filename
    try:
        return one.filename.encode("cp437").decode("gb18030")
    except UnicodeError:
        return one.filename


def _check(name: str, one: ZipInfo) -> None:
    if one.flag_bits & _ENCRYPTED:
        raise Unprocessable(f"{name} is encrypted; pack it without a password",
                            rule="table-packed")  # fmt: skip
    if name.lower().endswith((".zip", ".gz", ".rar", ".7z")):
        raise Unprocessable(f"{name} is packed twice; pack the table itself", rule="table-packed")
    _bound(one.file_size, one.compress_size)


def _member(plain: Opener, one: ZipInfo, name: str) -> Opener:
    def open_member() -> BinaryIO:
        file = plain()
        try:
            archive = ZipFile(file)
            found = [cast(BinaryIO, archive.open(one)), cast(BinaryIO, archive), file]
        except (BadZipFile, NotImplementedError, RuntimeError, OSError):
            file.close()
            raise _damaged(name) from None
        return _bounded(found, one.compress_size)

    return open_member


def _damaged(name: str) -> Structure:
    return Structure(f"{name} is damaged, or packed in a way that is not read here (gzip, and ZIP "
                     "with deflate, are); pack it again", rule="table-packed")  # fmt: skip


# -- limits ----------------------------------------------------------------------------------------


def _bound(size: int, packed: int) -> None:
    """Raises Unprocessable for more than a table is."""
    if size > MOST_BYTES:
        raise Unprocessable(f"The table has more than {MOST_BYTES >> 30} GB unpacked; cut it",
                            rule="table-packed")  # fmt: skip
    if size > _JUDGED and size > packed * MOST_TIMES:
        raise Unprocessable(f"The table is over {MOST_TIMES} times what it is packed to: no table "
                            "of results is; send it unpacked", rule="table-packed")  # fmt: skip


class _Bounded(io.RawIOBase):
    """A stream that is unpacked no further than a table is long. `held` are what it is read from,
    the first one the stream."""

    def __init__(self, held: Sequence[BinaryIO], packed: int) -> None:
        self._held, self._packed, self._size = held, packed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        found = self._read(len(buffer))
        buffer[: len(found)] = found
        self._size += len(found)
        _bound(self._size, self._packed)
        return len(found)

    def _read(self, most: int) -> bytes:
        try:
            return self._held[0].read(most)
        except (EOFError, OSError, zlib.error, BadZipFile):
            raise _damaged("The file") from None

    def close(self) -> None:
        for one in self._held if not self.closed else ():
            one.close()
        super().close()


def _bounded(held: Sequence[BinaryIO], packed: int) -> BinaryIO:
    return io.BufferedReader(_Bounded(held, packed), 1 << 18)
