"""The persons whose resources are in the files of an export: each once, durable page by page.

Homes are remembered as bits, so that a city of millions takes megabytes; the list on the disk says
the Patient of each home, for whoever reads the audit log.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_NAME = "persons"
_BITS = 16  # homes of one block: 2 ** 16


class Piece(NamedTuple):
    """Some of the list: (home, logical id of the Patient or None), and where it ends."""

    people: list[tuple[int, str | None]]
    end: int


class Persons:
    """The list of one worker. What another one left counts as far as the checkpoint says."""

    def __init__(self, folder: Path, fence: int, *, counted: int) -> None:
        self._path = folder / f"{_NAME}-{fence}"
        self._blocks: dict[int, bytearray] = {}
        earlier = _before(folder, fence, counted)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        self._stream = os.fdopen(descriptor, "r+b")
        self._stream.write(earlier)
        self._size = len(earlier)
        for line in earlier.splitlines():
            self._is_new(int(line.partition(b" ")[0]))

    def add(self, people: Iterable[tuple[int, str | None]]) -> None:
        """Notes those who are not noted yet."""
        for home, patient in people:
            if self._is_new(home):
                self._size += self._stream.write(b"%d %s\n" % (home, (patient or "").encode()))

    def _is_new(self, home: int) -> bool:
        """Marks a home; True when it was not marked before."""
        block = self._blocks.setdefault(home >> _BITS, bytearray(1 << (_BITS - 3)))
        place = home & ((1 << _BITS) - 1)
        bit = 1 << (place & 7)
        is_new = not block[place >> 3] & bit
        block[place >> 3] |= bit
        return is_new

    def sync(self) -> int:
        """Makes the list durable; its size."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return self._size

    def after(self, place: int, most: int) -> Piece:
        """The next persons of the list."""
        self._stream.flush()
        people: list[tuple[int, str | None]] = []
        with self._path.open("rb") as stream:
            stream.seek(place)
            for _ in range(most):
                line = stream.readline()
                if not line:
                    break
                home, _, patient = line.strip().partition(b" ")
                people.append((int(home), patient.decode() or None))
            return Piece(people, stream.tell())

    def close(self) -> None:
        """Lets go of the file."""
        self._stream.close()


def _before(folder: Path, fence: int, counted: int) -> bytes:
    """What the newest worker before this one had noted, as far as it counts."""
    if not counted:
        return b""
    for number in range(fence - 1, 0, -1):
        path = folder / f"{_NAME}-{number}"
        if path.exists() and path.stat().st_size >= counted:
            with path.open("rb") as stream:
                return stream.read(counted)
    raise OSError("the list of persons is shorter than the checkpoint says")
