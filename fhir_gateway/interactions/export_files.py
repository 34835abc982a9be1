"""Files of asynchronous answers: gzip, written page by page, each page durable before it counts.

A file is one gzip member however often its writer was replaced: every page is compressed by itself
and ends on a byte boundary (RFC 1951, 3.2.4), so that a page more can follow a page that another
process wrote, and what a checkpoint does not name is cut off. Readers that stop after the first
member, as some do, lose nothing.
"""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from fhir_gateway.settings import Settings

_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK = b"\x03\x00"
_SQLITE = "sqlite:///"
_LEVEL = 6
_PACKED, _PART = ".gz", ".part"
_CHUNK = 1 << 16


class File(msgspec.Struct, frozen=True):
    """A file as far as it is written. `size` is on the disk, `length` and `crc` are of what is
    packed; `kind` says which list of the manifest it stands in."""

    name: str
    kind: str
    type: str
    count: int = 0
    size: int = 0
    length: int = 0
    crc: int = 0


def folder_of(settings: Settings, job: str) -> Path:
    """Where the files of a job lie."""
    return _root(settings) / job


def _root(settings: Settings) -> Path:
    if settings.exports:
        return Path(settings.exports)
    if settings.database.startswith(_SQLITE):
        return Path(f"{settings.database.removeprefix(_SQLITE)}.exports")
    return Path("var/exports")


def remove(settings: Settings, job: str) -> None:
    """Removes all files of a job; a no-op when there are none."""
    shutil.rmtree(folder_of(settings, job), ignore_errors=True)


def make_folder(settings: Settings, job: str) -> Path:
    """The folder of a job, which nobody but this user can read."""
    folder = folder_of(settings, job)
    _root(settings).mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def path_of(folder: Path, name: str) -> Path:
    """Where a file that has its name lies on the disk."""
    return folder / (name + _PACKED)


class Writer:
    """Writes one file. `file` is what a checkpoint may name; `finish` gives it its own name."""

    def __init__(self, folder: Path, file: File, *, instead_of: str = "") -> None:
        """A new file, or one that goes on where `file` ends.

        What another process left under the name `instead_of` is copied as far as it counts: that
        process may not know yet that it was replaced, and write on.
        """
        self._folder, self.file = folder, file
        self._path = folder / (file.name + _PACKED + _PART)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._stream = os.fdopen(descriptor, "r+b")
        if instead_of:
            _copy(_found(folder, instead_of), self._stream, file.size)

    def add(self, lines: Sequence[bytes]) -> None:
        """Appends lines; durable when this returns."""
        data = b"\n".join(lines) + b"\n"
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
        if not self.file.size:
            packed = _HEAD + packed
        self._write(packed)
        self.file = msgspec.structs.replace(
            self.file,
            count=self.file.count + len(lines),
            size=self.file.size + len(packed),
            length=self.file.length + len(data),
            crc=zlib.crc32(data, self.file.crc),
        )

    def finish(self) -> File:
        """The whole file, under its name."""
        end = _LAST_BLOCK + struct.pack("<II", self.file.crc, self.file.length & 0xFFFF_FFFF)
        self._write(end)
        self.close()
        os.replace(self._path, path_of(self._folder, self.file.name))
        _sync_folder(self._folder)
        return msgspec.structs.replace(self.file, size=self.file.size + len(end))

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Lets go of the file as it is."""
        self._stream.close()


def _found(folder: Path, name: str) -> Path:
    """A file that was being written; it may have got its name just before its writer ended."""
    part = folder / (name + _PACKED + _PART)
    return part if part.exists() else path_of(folder, name)


def _copy(path: Path, target: IO[bytes], size: int) -> None:
    with path.open("rb") as source:
        left = size
        while left:
            data = source.read(min(left, _CHUNK))
            if not data:
                raise OSError("a file is shorter than its checkpoint says")
            target.write(data)
            left -= len(data)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_only(folder: Path, names: Sequence[str], *, fence: int) -> None:
    """Removes what is left of writers that were replaced, and of the one with this fence.

    What a later one has made stays: whoever was replaced without knowing it yet must not take the
    ground from under it.
    """
    for path in folder.iterdir():
        if path.name.removesuffix(_PACKED) not in names and fence_of(path.name) <= fence:
            path.unlink(missing_ok=True)


def fence_of(name: str) -> int:
    """The fence of the worker that made a file, 0 when its name does not say."""
    number = name.partition(".")[0].rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def packed(path: Path) -> Iterator[bytes]:
    """The file as it lies on the disk, in pieces."""
    with path.open("rb") as stream:
        while data := stream.read(_CHUNK):
            yield data


def unpacked(path: Path) -> Iterator[bytes]:
    """What is in the file, in pieces. Raises OSError when it is damaged."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for data in packed(path):
        if piece := unpacker.decompress(data):
            yield piece
    if not unpacker.eof:
        raise OSError("a file ends too early")
