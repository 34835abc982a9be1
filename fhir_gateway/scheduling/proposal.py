"""Numbers of proposals: what `$find` offered to whom, in an id that `$hold` takes alone.

A proposal is not stored. Made for a patient, its id names Slot, Patient and orders by their row
numbers, enciphered and sealed for the caller that was told (SIV, as links of searches are), so that
a strict client of IHE Scheduling holds by `appointment-reference` and nothing else. It promises
nothing and needs no end: Slot, patient and orders are looked at anew, as this caller sees them.
Made for nobody, or for more than an id has room for, it names its Slot alone.
IHE Scheduling 1.0 ITI-115, ITI-116; docs/booking.md, docs/adr/0058
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.row_id_sql import ids_of
from fhir_gateway.store.store import Reader

#: How ids of proposals begin: of those that name a Slot alone, and of those that are sealed.
PLAIN, SEALED = "offer-", "offer."

_LONGEST = 64  # an id of FHIR
_MAC, _NUMBER, _NUMBERS = 13, 5, 6
_CHARACTERS = b"-."


class Proposal(NamedTuple):
    """What the id of a proposal names: logical ids, "" for no patient; references of orders."""

    slot: str
    patient: str = ""
    orders: tuple[str, ...] = ()


class Numbers(NamedTuple):
    """The same by row numbers, 0 for none."""

    slot: int
    patient: int = 0
    orders: tuple[int, ...] = ()


def is_proposal(id: str) -> bool:
    """Whether an id is spelled as those of proposals are."""
    return id.startswith((PLAIN, SEALED))


def id_of_proposal(secret: bytes, actor: Actor, slot: str, numbers: Numbers) -> str:
    """The id of a proposal, "" for a Slot that has too long an id to be named by one."""
    whole = (numbers.slot, numbers.patient, *numbers.orders)
    has_room = len(whole) <= _NUMBERS and all(0 < one < 1 << 8 * _NUMBER for one in whole)
    if not has_room:
        id = PLAIN + slot
        return id if len(id) <= _LONGEST else ""
    said = b"".join(one.to_bytes(_NUMBER, "big") for one in whole).ljust(_NUMBER * _NUMBERS, b"\0")
    mac = _mac(secret, actor, said)
    raw = mac + _enciphered(secret, mac, said)
    return SEALED + b64encode(raw, _CHARACTERS).decode().rstrip("=")


async def read_proposal(gateway: Gateway, actor: Actor, whole: Reader, id: str) -> Proposal:
    """What the id of a proposal names. Raises Invalid for one that was made for somebody else, or
    by nobody."""
    if id.startswith(PLAIN) and len(id) > len(PLAIN):
        return Proposal(id.removeprefix(PLAIN))
    numbers = _opened(gateway.store.index_key, actor, id)
    if numbers is None:
        raise _none()
    slots = await whole.steps(lambda seen: ids_of(seen.dialect, "Slot", [numbers.slot]))
    patients = await whole.steps(lambda seen: ids_of(seen.dialect, "Patient", [numbers.patient]))
    orders = await whole.steps(lambda seen: ids_of(seen.dialect, "ServiceRequest", numbers.orders))
    if not slots or not patients or len(orders) < len(numbers.orders):
        raise _none()
    return Proposal(
        slots[numbers.slot],
        patients[numbers.patient],
        tuple(f"ServiceRequest/{orders[one]}" for one in numbers.orders),
    )


def _opened(secret: bytes, actor: Actor, id: str) -> Numbers | None:
    try:
        raw = b64decode(id.removeprefix(SEALED) + "==", _CHARACTERS, validate=True)
    except ValueError:
        return None
    if not id.startswith(SEALED) or len(raw) != _MAC + _NUMBER * _NUMBERS:
        return None
    said = _enciphered(secret, raw[:_MAC], raw[_MAC:])
    spelled = SEALED + b64encode(raw, _CHARACTERS).decode().rstrip("=")
    if spelled != id or not compare_digest(raw[:_MAC], _mac(secret, actor, said)):
        return None
    pieces = range(0, len(said), _NUMBER)
    slot, patient, *orders = (int.from_bytes(said[n : n + _NUMBER], "big") for n in pieces)
    return Numbers(slot, patient, tuple(one for one in orders if one))


def caller_of(actor: Actor) -> Sequence[str]:
    """Who it was told to: another institution, client or patient is another caller."""
    return actor.role, actor.institution or "", actor.client, actor.patient


def _mac(secret: bytes, actor: Actor, said: bytes) -> bytes:
    who = "\n".join(caller_of(actor)).encode()
    key = secret[:64]
    told = len(who).to_bytes(4, "big") + who + said
    return blake2b(told, digest_size=_MAC, key=key, person=b"booking-offer").digest()


def _enciphered(secret: bytes, mac: bytes, said: bytes) -> bytes:
    """What is said against a stream of its own; twice gives it back."""
    stream = blake2b(mac, key=secret[:64], person=b"offer-stream").digest()
    return bytes(one ^ other for one, other in zip(said, stream, strict=False))


def _none() -> Invalid:
    return Invalid(
        "This is no proposal that $find made for you: search with $find, and hold what it gives "
        "you, or name a Slot by slot and the patient by patient-reference",
        expression="appointment-reference",
        rule="proposal",
    )
