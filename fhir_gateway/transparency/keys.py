"""The file of the log's private keys, and the note beside it of what was signed last.

A line a key, oldest first, the last one is the newest:
`PRIVATE+KEY+NAME+HASH+BASE64` (C2SP signed-note; BASE64 is 0x01 and the seed of Ed25519). The file
is its owner's alone and is written whole or not at all; one that was cut off or that others may
read is refused. Beside it lies `FILE.last`: the last head that was signed with it. A database that
was set back to an earlier day does not know that head any more, and that is how it is found out.
"""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

from fhir_gateway.errors import Invalid
from fhir_gateway.transparency.note import PLAIN, Malformed, Signer, decoded, is_name

_PREFIX = "PRIVATE+KEY+"


def read_keys(path: Path) -> list[Signer]:
    """The keys of a file, oldest first.

    Raises Invalid when there is none, it is cut off or changed, or others may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise Invalid(
            f"There is no key of the audit log at {path}; `fhir-gateway audit key new` makes one",
            rule="log-key-missing",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error.__class__.__name__) from None
    if mode & 0o077:
        raise Invalid(
            f"Others may read the key of the audit log: chmod 600 {path}", rule="log-key-open"
        )
    if not text.endswith("\n"):  # an empty one too
        raise _unreadable(path, "it is cut off")
    return [_signer(line, path) for line in text.splitlines()]


def new_signer(name: str) -> Signer:
    """A new key. Raises Invalid for a name that no key can have."""
    if not is_name(name):
        raise Invalid(
            "A log's name is such as gw.example/audit-log, without blanks and plus signs",
            rule="log-name",
        )
    return Signer(name, secrets.token_bytes(32))


def write_new(path: Path, signer: Signer) -> None:
    """Makes the file with its first key. Raises Invalid when it exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, [signer])
    try:
        os.link(draft, path)  # unlike rename it never replaces another's
    except FileExistsError:
        raise Invalid(f"{path} exists; no key is overwritten", rule="log-key-exists") from None
    finally:
        draft.unlink()
    _sync_folder(path)


def add_key(path: Path, signers: list[Signer]) -> None:
    """Replaces the file with one of these keys."""
    os.replace(_draft(path, signers), path)
    _sync_folder(path)


def last_signed(path: Path) -> str | None:
    """The last head that was signed with this file's keys, as a note; None when none was.

    Raises Invalid when it cannot be read.
    """
    try:
        return _last_file(path).read_text("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(_last_file(path), error.__class__.__name__) from None


def keep_last(path: Path, note: str) -> None:
    """Remembers the last head beside the keys."""
    target = _last_file(path)
    draft = target.with_name(f"{target.name}.{os.getpid()}.new")
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(note)
    os.replace(draft, target)


def forget_last(path: Path) -> None:
    """Forgets it: a recovery was recorded instead."""
    with suppress(FileNotFoundError):
        _last_file(path).unlink()


def _last_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.last")


def _signer(line: str, path: Path) -> Signer:
    try:
        name, hashed, coded = line.removeprefix(_PREFIX).split("+", 2)
        key = decoded(coded)
    except (ValueError, Malformed):
        raise _unreadable(path, "a line is no key") from None
    if not line.startswith(_PREFIX) or len(key) != 33 or key[0] != PLAIN or not is_name(name):
        raise _unreadable(path, "a line is no key")
    signer = Signer(name, key[1:])
    if signer.verifier.id.hex() != hashed:
        raise _unreadable(path, "a key does not fit its hash: it was changed or cut off")
    return signer


def _line(signer: Signer) -> str:
    verifier = signer.verifier
    coded = b64encode(bytes([PLAIN]) + signer.seed).decode()
    return f"{_PREFIX}{verifier.name}+{verifier.id.hex()}+{coded}\n"


def _draft(path: Path, signers: list[Signer]) -> Path:
    """The file as it is to be, under another name, on the disk."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.writelines(map(_line, signers))
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unreadable(path: Path, why: str) -> Invalid:
    return Invalid(
        f"The file {path} cannot be used ({why}); put back a copy of it", rule="log-key-broken"
    )
