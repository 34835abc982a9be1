"""Who is the writer of a database: the process that holds the lock on the file beside it.

The lock is a flock(2) on `<database>.lock`; the kernel lets go of it when the process ends, however
it ends. The file says where the writer listens, for the others.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from hashlib import blake2b
from pathlib import Path

import msgspec

from fhir_gateway.errors import Unavailable

#: sun_path holds 108 bytes; some systems less.
_LONGEST_SOCKET_PATH = 99


class Holder(msgspec.Struct, frozen=True):
    """What the lock file says of the writer."""

    pid: int
    socket: str


class Lock:
    """The held lock. Released by `release`, or by the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets go; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def take(database: Path) -> Lock | None:
    """The lock, when nobody holds it; else None."""
    descriptor = os.open(_lock_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    holder = Holder(pid=os.getpid(), socket=str(socket_path(database)))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, msgspec.json.encode(holder), 0)
    return Lock(descriptor)


def holder(database: Path) -> Holder | None:
    """Who holds the lock, as far as the file can say; None when it says nothing."""
    try:
        return msgspec.json.decode(_lock_path(database).read_bytes(), type=Holder)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def socket_path(database: Path) -> Path:
    """Where the writer of this database listens: beside it, or in a private folder when too long.

    Raises Unavailable when that private folder belongs to somebody else.
    """
    beside = database.with_name(database.name + ".sock")
    if len(os.fsencode(beside)) <= _LONGEST_SOCKET_PATH:
        return beside
    digest = blake2b(os.fsencode(database), digest_size=12).hexdigest()
    return _private_folder() / f"{digest}.sock"


def _private_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"fhir-gateway-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Unavailable(f"{folder} is not private to this user", rule="socket-folder")
    return folder


def _lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")
