"""The way from an order to its booking: a reference that tells a booking page what was ordered.

The reference stands in a card's link. It names a recorded decision and one of its order lines, is
sealed with the store's secret, and holds for minutes; no patient, item or institution can be read
from it. Whoever opens it (GET /cds-services/booking/…) must speak for the institution that asked,
gets the parameters of Appointment/$find, and is on record. docs/cds-hooks.md, docs/adr/0054
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import orjson

from fhir_gateway.audit.events import read_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import call_of, disclose, entry
from fhir_gateway.recognition.record import logical_id
from fhir_gateway.recognition.recorded import read_decision
from fhir_gateway.security.actor import Actor

_SHAPE = struct.Struct(">16sHI")
_SEAL = 16
_DAY = 86_400_000_000


def seal(gateway: Gateway, number: int, line: int) -> str:
    """The reference to a line of a decision, good for `booking_link_minutes` from now on."""
    ends = gateway.clock.now() // 1_000_000 + gateway.settings.booking_link_minutes * 60
    said = _SHAPE.pack(number.to_bytes(16, "big"), line, ends)
    return urlsafe_b64encode(said + _sealed(gateway, said)).decode().rstrip("=")


def _sealed(gateway: Gateway, said: bytes) -> bytes:
    key = gateway.store.index_key[:64]
    return blake2b(said, key=key, digest_size=_SEAL, person=b"booking-link").digest()


def link_of(gateway: Gateway, number: int, line: int) -> dict[str, str] | None:
    """The link of a card, None where the operator has named no booking page."""
    page = gateway.settings.booking_page
    if not page:
        return None
    sealed = seal(gateway, number, line)
    if gateway.settings.booking_page_smart:
        context = orjson.dumps({"booking": sealed}).decode()
        return {"label": "预约检查", "url": page, "type": "smart", "appContext": context}
    sign = "&" if "?" in page else "?"
    return {"label": "预约检查", "url": f"{page}{sign}booking={sealed}", "type": "absolute"}


async def opened(gateway: Gateway, actor: Actor, sealed: str) -> bytes:
    """The Parameters of Appointment/$find for what a reference names.

    Raises NotFound for one that has ended, is none of ours or another institution's.
    """
    number, line = _read(gateway, sealed)
    async with gateway.store.snapshot(actor.access) as reader:
        decision = await read_decision(reader, actor, logical_id(number))
    if line >= len(decision.lines):
        raise _none()
    query = decision.inputs.query
    items = [item.code for item in decision.lines[line].items if item.code]
    event = read_event(
        call_of(gateway, actor),
        type="GuidanceResponse",
        id=decision.stored.id,
        patient=query.patient or None,
    )
    await disclose(gateway, [entry(gateway, event, home=query.home)])
    return orjson.dumps(find_parameters(gateway, query.patient, items))


def find_parameters(gateway: Gateway, patient: str, items: Iterable[str]) -> dict[str, Any]:
    """What is sent to Appointment/$find for these items of a patient ("" for nobody here)."""
    now = gateway.clock.now()
    until = now + gateway.settings.hook_slot_days * _DAY
    parameters: list[dict[str, Any]] = [
        {"name": "start", "valueDateTime": instant(now)},
        {"name": "end", "valueDateTime": instant(until)},
        *({"name": "service", "valueString": one} for one in dict.fromkeys(items)),
    ]
    if patient:
        reference = {"reference": f"Patient/{patient}"}
        parameters.append({"name": "patient-reference", "valueReference": reference})
    return {"resourceType": "Parameters", "parameter": parameters}


def _read(gateway: Gateway, sealed: str) -> tuple[int, int]:
    try:
        raw = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    except ValueError:
        raise _none() from None
    said, seal_ = raw[:-_SEAL], raw[-_SEAL:]
    if len(said) != _SHAPE.size or not hmac.compare_digest(seal_, _sealed(gateway, said)):
        raise _none()
    number, line, ends = _SHAPE.unpack(said)
    if ends * 1_000_000 <= gateway.clock.now():
        raise _none()
    return int.from_bytes(number, "big"), line


def _none() -> NotFound:
    return NotFound(
        "This reference to an order has ended, or is none: sign or select the order again and "
        "follow the link of the new card",
        rule="booking-link",
    )
