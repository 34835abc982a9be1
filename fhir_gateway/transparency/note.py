"""Signed notes: texts with signatures of named keys, and what the audit log says in them.

C2SP signed-note, tlog-checkpoint and tlog-cosignature (c2sp.org). A note is its text, an empty
line, and a line `— NAME BASE64` for each signature; the first four bytes of the base64 tell which
key it is of. Type 0x01 is Ed25519 over the text; type 0x04 is Ed25519 over the text and a time in
seconds, as witnesses sign. Reading is strict: what is not spelled as it would be written is
refused, so that no byte of a stored note can change unseen.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

PLAIN, TIMED = 0x01, 0x04

#: A note is never longer, and bears no more signatures.
LONGEST, MOST_SIGNATURES = 65_536, 32

_NAME = re.compile(r"[^\s+]{1,200}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")


class Malformed(ValueError):
    """A note, key or checkpoint that is not spelled as it must be; the text says what is wrong."""


class Verifier(NamedTuple):
    """A public key with its name: `NAME+HASH+BASE64` (signed-note), of type PLAIN or TIMED."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The four bytes that tell the key's signatures from others'."""
        whole = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return sha256(whole).digest()[:4]

    def __str__(self) -> str:
        coded = b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.id.hex()}+{coded}"

    def timed(self) -> Verifier:
        """The same key, for its signatures with a time."""
        return self._replace(kind=TIMED)


class Signature(NamedTuple):
    """One line: whose it is, the key's id, and the bytes behind it."""

    name: str
    id: bytes
    value: bytes

    def __str__(self) -> str:
        return f"— {self.name} {b64encode(self.id + self.value).decode()}\n"


class Note(NamedTuple):
    """A text, which ends with a line feed, and its signatures."""

    text: str
    signatures: tuple[Signature, ...]

    def __str__(self) -> str:
        return f"{self.text}\n{''.join(map(str, self.signatures))}"


class Checkpoint(NamedTuple):
    """What a head says: the log's origin, the size of the tree, and its root."""

    origin: str
    size: int
    root: bytes

    def __str__(self) -> str:
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


class Signer:
    """A private key with its name; signs as type PLAIN, or TIMED when it is given a time."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.seed = seed
        self.verifier = Verifier(name, PLAIN, public)

    def __repr__(self) -> str:
        return f"Signer({self.verifier})"

    def sign(self, text: str) -> Signature:
        """The signature of a text."""
        return Signature(self.verifier.name, self.verifier.id, self._key.sign(text.encode()))

    def cosign(self, text: str, seconds: int) -> Signature:
        """The signature of a text with the time (tlog-cosignature)."""
        value = self._key.sign(_timed(text, seconds))
        return Signature(
            self.verifier.name, self.verifier.timed().id, seconds.to_bytes(8, "big") + value
        )


def read_note(text: str) -> Note:
    """The note. Raises Malformed."""
    if len(text) > LONGEST:
        raise Malformed("the note is too long")
    body, gap, lines = text.rpartition("\n\n")
    if not gap or not lines.endswith("\n") or not body:
        raise Malformed("the note has no signatures")
    found = lines[:-1].split("\n")
    if len(found) > MOST_SIGNATURES:
        raise Malformed("the note has too many signatures")
    note = Note(body + "\n", tuple(map(_signature, found)))
    if str(note) != text:
        raise Malformed("the note is not spelled as it is signed")
    return note


def _signature(line: str) -> Signature:
    dash, _, rest = line.partition(" ")
    name, _, coded = rest.partition(" ")
    value = decoded(coded)
    if dash != "—" or not _NAME.fullmatch(name) or len(value) <= 4:
        raise Malformed("a line of the note is no signature")
    return Signature(name, value[:4], value[4:])


def read_signature(line: str) -> Signature:
    """A signature by itself, as it stands in a note. Raises Malformed."""
    signature = _signature(line.removesuffix("\n"))
    if str(signature) != line:
        raise Malformed("the signature is not spelled as it must be")
    return signature


def read_checkpoint(text: str) -> Checkpoint:
    """What a checkpoint's text says. Raises Malformed."""
    lines = text.split("\n")
    if len(lines) < 4 or lines[-1] or not lines[0] or not _NUMBER.fullmatch(lines[1]):
        raise Malformed("the text is no checkpoint")
    root = decoded(lines[2])
    if len(root) != 32:
        raise Malformed("the checkpoint's root is no SHA-256")
    return Checkpoint(lines[0], int(lines[1]), root)


def read_verifier(text: str) -> Verifier:
    """A public key from `NAME+HASH+BASE64`. Raises Malformed."""
    name, _, rest = text.strip().partition("+")
    hashed, _, coded = rest.partition("+")
    key = decoded(coded)
    if not _NAME.fullmatch(name) or len(key) != 33 or key[0] not in (PLAIN, TIMED):
        raise Malformed("a key is written NAME+HASH+BASE64")
    verifier = Verifier(name, key[0], key[1:])
    if verifier.id.hex() != hashed:
        raise Malformed("the key's hash does not fit it: something was changed or cut off")
    return verifier


def is_signed(note: Note, verifier: Verifier) -> bool:
    """Whether the note bears the key's signature, of its kind."""
    return any(holds(note.text, signature, verifier) for signature in note.signatures)


def holds(text: str, signature: Signature, verifier: Verifier) -> bool:
    """Whether the signature of a text is this key's."""
    if signature.name != verifier.name or signature.id != verifier.id:
        return False
    message, value = text.encode(), signature.value
    if verifier.kind == TIMED:
        if len(value) != 72:
            return False
        message, value = _timed(text, time_of(signature)), value[8:]
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public).verify(value, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def time_of(signature: Signature) -> int:
    """The seconds that a signature of type TIMED tells."""
    return int.from_bytes(signature.value[:8], "big")


def timed_by(note: Note, verifiers: Iterable[Verifier]) -> Sequence[tuple[Verifier, int]]:
    """Which of these keys have signed the note with a time, and when."""
    return [
        (verifier, time_of(signature))
        for verifier in verifiers
        for signature in note.signatures
        if holds(note.text, signature, verifier.timed())
    ]


def decoded(text: str) -> bytes:
    """The bytes of a base64 text. Raises Malformed unless it is spelled in the one right way."""
    try:
        value = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise Malformed("a text is no base64") from None
    if b64encode(value).decode() != text:
        raise Malformed("a text is no base64 in its one spelling")
    return value


def is_name(text: str) -> bool:
    """Whether a text can name a key: no blanks and no plus."""
    return bool(_NAME.fullmatch(text))


def _timed(text: str, seconds: int) -> bytes:
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()
