"""The SQLite engine: which versions are safe, and how its connections are opened.

sqlite.org/wal.html: versions 3.7.0 to 3.51.2 can lose commits when the write-ahead log is reset
("WAL-reset bug"); 3.51.3 is the first without it, 3.50.7 and 3.44.6 have it back-ported.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from fhir_gateway.errors import Unavailable
from fhir_gateway.store.refusals import no_database

_FIXED = (3, 51, 3)
_BACKPORTED = {(3, 44): 6, (3, 50): 7}

PAGE_SIZE = 8192


def is_safe(version: str) -> bool:
    """True for a SQLite without the WAL-reset bug."""
    major, minor, patch = (int(part) for part in version.split(".")[:3])
    if (major, minor, patch) >= _FIXED:
        return True
    return patch >= _BACKPORTED.get((major, minor), 1 << 30)


def check_engine(version: str | None = None) -> None:
    """Raises Unavailable when the SQLite that is loaded could lose commits."""
    version = version or apsw.sqlite_lib_version()
    if not is_safe(version):
        raise Unavailable(
            f"SQLite {version} can lose commits (WAL-reset bug); 3.51.3 or newer is needed",
            rule="sqlite-version",
        )


def create_file(path: Path) -> None:
    """Makes the empty database file, readable by its owner only; leaves an existing one alone.

    An existing file must not even be opened here: closing any descriptor of it would drop the
    locks that SQLite holds in this process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return


def check_begun(path: Path) -> None:
    """Raises Invalid when there is no store at a path, where none is to be begun."""
    if not path.is_file() or not path.stat().st_size:
        raise no_database(f"at {path}")


def open_writer(path: Path) -> apsw.Connection:
    """The one connection that writes. Nothing in the file is touched yet."""
    connection = _open(path, cache_kib=64_000)
    connection.set_busy_timeout(5_000)
    return connection


def use_wal(connection: apsw.Connection) -> None:
    """Write-ahead log, every commit synced, checkpoints left to the writer.

    Raises Unavailable when the file system cannot carry a write-ahead log.
    """
    connection.pragma("page_size", PAGE_SIZE)  # takes effect on an empty file only
    if connection.pragma("journal_mode", "wal") != "wal":
        raise Unavailable("The file system cannot carry a write-ahead log", rule="no-wal")
    connection.pragma("synchronous", "FULL")
    connection.pragma("journal_size_limit", 64 << 20)
    connection.wal_autocheckpoint(0)


def open_reader(path: Path) -> apsw.Connection:
    """A connection that reads. It may recover the log after a crash, so it is not read-only."""
    connection = _open(path, cache_kib=8_000)
    connection.set_busy_timeout(1_000)
    connection.pragma("query_only", True)
    return connection


def _open(path: Path, *, cache_kib: int) -> apsw.Connection:
    connection = apsw.Connection(
        str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX,
        statementcachesize=200,
    )  # fmt: skip
    # One plan a statement: without this SQLite prepares some statements anew for every binding
    # (36 of the 40 µs that reading facts would take).
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.pragma("cache_size", -cache_kib)
    connection.pragma("temp_store", "memory")
    return connection
