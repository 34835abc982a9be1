"""What may become of an appointment and of an entry of the waiting list: tables, and who may.

Status codes are R4's (hl7.org/fhir/R4/valueset-appointmentstatus.html); verbs are ours. "" is what
there is before: nothing. A step that is not in a table is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fhir_gateway.errors import Conflict, Forbidden

#: Who takes a step: the patient, the institution that books for him, the hospital whose slot it
#: is, the gateway itself (jobs, expiry).
PATIENT, BOOKER, HOSPITAL, GATEWAY = "patient", "booker", "hospital", "gateway"
PARTIES = (PATIENT, BOOKER, HOSPITAL, GATEWAY)

#: (status, verb) -> status
APPOINTMENT: Mapping[tuple[str, str], str] = MappingProxyType({
    ("", "propose"): "proposed",
    ("", "hold"): "pending",
    ("", "book"): "booked",
    ("", "wait"): "waitlist",
    ("proposed", "hold"): "pending",
    ("proposed", "book"): "booked",
    ("proposed", "cancel"): "cancelled",
    ("proposed", "expire"): "cancelled",
    ("pending", "hold"): "pending",  # held longer
    ("pending", "book"): "booked",
    ("pending", "confirm"): "booked",
    ("pending", "refuse"): "cancelled",
    ("pending", "rebook"): "pending",
    ("pending", "amend"): "pending",  # what it says beside its place
    ("pending", "cancel"): "cancelled",
    ("pending", "expire"): "cancelled",
    ("booked", "rebook"): "booked",
    ("booked", "amend"): "booked",
    ("booked", "cancel"): "cancelled",
    ("booked", "arrive"): "arrived",
    ("booked", "check-in"): "checked-in",
    ("booked", "fulfil"): "fulfilled",  # a hospital that tells no arrivals
    ("booked", "no-show"): "noshow",
    ("arrived", "check-in"): "checked-in",
    ("arrived", "fulfil"): "fulfilled",
    ("arrived", "no-show"): "noshow",  # came and left
    ("checked-in", "fulfil"): "fulfilled",
    ("checked-in", "no-show"): "noshow",
    ("waitlist", "offer"): "waitlist",  # the seat is held; the entry waits for an answer
    ("waitlist", "accept"): "booked",
    ("waitlist", "decline"): "waitlist",
    ("waitlist", "expire"): "waitlist",
    ("waitlist", "cancel"): "cancelled",
    **{(status, "void"): "entered-in-error" for status in (
        "proposed", "pending", "booked", "arrived", "checked-in", "fulfilled", "noshow",
        "cancelled", "waitlist",
    )},
})  # fmt: skip

#: Where the hospital is master: $book asks, and only its `confirm` books.
ASKED: Mapping[tuple[str, str], str] = MappingProxyType({
    ("", "book"): "pending", ("proposed", "book"): "pending", ("pending", "book"): "pending",
    ("waitlist", "accept"): "pending", ("booked", "rebook"): "pending",
})  # fmt: skip

#: What an answer to an appointment that has a seat is (AppointmentResponse.participantStatus,
#: Appointment.status, whether the hospital gives it) -> verb; what is not here changes nothing.
ANSWER: Mapping[tuple[str, str, bool], str] = MappingProxyType({
    ("accepted", "pending", True): "confirm",
    ("declined", "pending", True): "refuse",
    ("declined", "pending", False): "cancel",
    **{("declined", status, by_hospital): "cancel"
       for status in ("booked", "arrived", "checked-in") for by_hospital in (True, False)},
})  # fmt: skip

#: An entry of the waiting list, beside the status of its Appointment.
ENTRY: Mapping[tuple[str, str], str] = MappingProxyType({
    ("", "wait"): "waiting",
    ("waiting", "offer"): "offered",
    ("waiting", "cancel"): "ended",
    ("waiting", "end"): "ended",  # asked too often without answer, or its days are over
    ("offered", "accept"): "accepted",
    ("offered", "decline"): "waiting",
    ("offered", "expire"): "waiting",
    ("offered", "cancel"): "ended",
})  # fmt: skip

#: verb -> who may take it
WHO: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "propose": frozenset({GATEWAY}),
        "hold": frozenset({PATIENT, BOOKER, HOSPITAL}),
        "book": frozenset({PATIENT, BOOKER, HOSPITAL}),
        "wait": frozenset({PATIENT, BOOKER, HOSPITAL}),
        "rebook": frozenset({PATIENT, BOOKER, HOSPITAL}),
        "amend": frozenset({PATIENT, BOOKER, HOSPITAL}),
        "cancel": frozenset({PATIENT, BOOKER, HOSPITAL}),
        "confirm": frozenset({HOSPITAL}),
        "refuse": frozenset({HOSPITAL}),
        "arrive": frozenset({HOSPITAL}),
        "check-in": frozenset({PATIENT, HOSPITAL}),
        "fulfil": frozenset({HOSPITAL}),
        "no-show": frozenset({HOSPITAL}),
        "void": frozenset({HOSPITAL}),
        "offer": frozenset({GATEWAY, HOSPITAL}),
        "accept": frozenset({PATIENT, BOOKER}),
        "decline": frozenset({PATIENT, BOOKER}),
        "expire": frozenset({GATEWAY}),
        "end": frozenset({GATEWAY}),
    }
)

#: What has a seat, and what is over.
SEATED = frozenset({"pending", "booked", "arrived", "checked-in"})
OVER = frozenset({"fulfilled", "noshow", "cancelled", "entered-in-error"})


def step(status: str, verb: str, party: str, *, master: str = "gateway") -> str:
    """The status of an appointment after a step.

    Raises Forbidden when this party may not, Conflict when the status does not allow it.
    """
    _check(verb, party)
    after = APPOINTMENT.get((status, verb))
    if master == "hospital":
        after = ASKED.get((status, verb), after)
    if after is None:
        raise _refused(APPOINTMENT, "appointment", status, verb, "appointment-state")
    return after


def entry_step(state: str, verb: str, party: str) -> str:
    """The state of an entry of the waiting list after a step. Raises Forbidden and Conflict."""
    _check(verb, party)
    after = ENTRY.get((state, verb))
    if after is None:
        raise _refused(ENTRY, "entry of the waiting list", state, verb, "waitlist-state")
    return after


def verbs(status: str, party: str) -> list[str]:
    """What a party may do with an appointment of this status, in the order of the table."""
    return [verb for (before, verb) in APPOINTMENT if before == status and party in WHO[verb]]


def _check(verb: str, party: str) -> None:
    if party not in WHO.get(verb, frozenset()):
        may = " or ".join(sorted(WHO.get(verb, ()))) or "nobody"
        raise Forbidden(f"{verb} is for {may}, not for {party}", rule="appointment-party")


def _refused(table: Mapping[tuple[str, str], str], what: str, status: str, verb: str,
             rule: str) -> Conflict:  # fmt: skip
    can = sorted(step for (before, step) in table if before == status)
    would = f"; what can be done is {', '.join(can)}" if can else "; it is over"
    return Conflict(f"An {what} that is {status or 'not made'} takes no {verb}{would}", rule=rule)
