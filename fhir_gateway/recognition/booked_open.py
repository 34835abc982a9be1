"""Notices of a booking that stand: those that nobody has taken note of, and those taken back.

A notice is a Task in the home of its patient (booked_task.py). docs/adr/0054
"""

from __future__ import annotations

from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.answer_model import NOTICE
from fhir_gateway.recognition.booked_task import appointment_of, is_notice
from fhir_gateway.store.store import Reader, Stored

_PAGE = 200
_MARK = NOTICE.encode()


async def open_notices(reader: Reader, booking: Stored, patient: str) -> list[Stored]:
    """The Tasks about results of a booking that nobody has taken note of."""
    found: list[Stored] = []
    after: tuple[str, int] | None = None
    while page := await reader.record(
        booking.home, patient, types=["Task"], after=after, limit=_PAGE
    ):
        found += [one for one in page if not one.deleted and _tells(one, booking.id)]
        after = (page[-1].type, page[-1].rid)
    return found


def _tells(stored: Stored, appointment: str) -> bool:
    if _MARK not in stored.tail:
        return False
    task = parse(stored.whole())
    is_open = is_notice(task) and task.get("status") == "requested"
    return is_open and appointment_of(task) == f"Appointment/{appointment}"


def is_withdrawn(stored: Stored) -> bool:
    """Whether the gateway took a notice back: what it told of may come again."""
    return bool(parse(stored.whole()).get("status") == "cancelled")
