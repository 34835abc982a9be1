"""What a change set says of messages: the register of what doors received. docs/messages.md"""

from __future__ import annotations

import msgspec


class MessageRow(msgspec.Struct, frozen=True, array_like=True):
    """What a door received and what became of it: one row of the register (docs/messages.md).

    `door` is hl7v2, table, cda, fhir or dicom; `key` what makes a message the same one; `name` what
    a person asks for; `hash` the SHA-256 of the received bytes; `kind` what the message is
    ("ORU^R01"); outcome stored, flagged, refused, or repeated, which only counts and changes the
    time of a row that is there. `issues` is JSON, `ack` what was answered, b"" where it stands in
    `once` under the same key. `stated` and `issued` are the times (µs) that message and report say
    of themselves, 0 for none. `state` open puts a refused one on the list of dead letters; `who`
    names who had it tried again, "" for the sender.
    """

    institution: str
    door: str
    key: bytes
    name: str
    hash: bytes
    size: int
    outcome: str
    code: str = ""
    rule: str = ""
    issues: bytes = b""
    ack: bytes = b""
    stated: int = 0
    kind: str = ""
    issued: int = 0
    state: str = ""
    who: str = ""


class RefusedBody(msgspec.Struct, frozen=True, array_like=True):
    """The bytes of a message that was refused: kept apart, since they go when there is no room."""

    hash: bytes
    institution: str
    size: int
    media: str
    enc: int
    body: bytes


class MessageSettled(msgspec.Struct, frozen=True, array_like=True):
    """What a person decided of a dead letter; `state` is aside, or open again."""

    id: bytes
    state: str
    who: str
    reason: str
