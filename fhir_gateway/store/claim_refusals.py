"""Why a claim is refused: a table of rules, each with a sentence that says what would work."""

from __future__ import annotations

from fhir_gateway.errors import Conflict, GatewayError, Issue, Unprocessable


class ClaimLost(Conflict):
    """Another one has what is claimed, or the moment is not right: something else may work."""


class ClaimRefused(Unprocessable):
    """What is claimed is not to be had in this way, whoever else is there."""

    code = "business-rule"


_LOST = {
    "slot-closed": "Nothing of this Slot is sold any more; search for another one with $find",
    "slot-full": "All seats of this Slot are taken; search for another one with $find",
    "slot-taken": (
        "Persons have seats of this Slot: its time, bucket and kind stay, it stays open and its "
        "capacity not below what is taken, until they are rebooked or cancelled. To stop sales at "
        "once set the capacity to what is taken"
    ),
    "slot-changed": "What was read has changed meanwhile; read the Slot again and repeat",
    "channel-closed": (
        "This channel has no part in this Slot, or its time to book is over; book through a later "
        "channel"
    ),
    "channel-not-open": (
        "This channel is not open yet for this Slot; come back when it is, or ask for a Slot of "
        "an earlier date"
    ),
    "quota-full": (
        "The part of this channel is used up; ask for another date, or come back when reserves "
        "fall to it"
    ),
    "person-overlap": "The person has another appointment at this time; cancel or rebook that one",
    "person-limit": (
        "The person has as many appointments on this day as one may book; choose another day, or "
        "cancel one of them"
    ),
    "hold-expired": "The hold has ended; hold or book a Slot anew",
    "hold-unconfirmed": "The appointment is only held; book it or cancel it",
    "booking-ended": "The appointment has ended already and is not ended again in another way",
    "appointment-seated": "The appointment has a seat already; rebook or cancel it",
    "quota-stale": "Newer quotas are in force; read them, and settle them with a later serial",
}
_REFUSED = {
    "slot-unknown": "The Slot is not one that can be booked here; search with $find",
    "slot-past": "The Slot has begun; choose one that begins later",
    "slot-not-begun": "Nobody can have missed what has not begun; cancel the appointment instead",
    "person-barred": (
        "The person has missed too many appointments and cannot book for a time; an appeal, or "
        "the end of that time, opens booking again"
    ),
    "person-unproved": (
        "Only a person with a checked identity document may book this; add the document to the "
        "Patient first"
    ),
    "hold-unknown": "The appointment has no seat here; hold or book a Slot first",
    "no-show-unknown": "The appointment was not missed; there is nothing to excuse",
    "rebook-alone": "The appointment that is given up for another has to be given back with it",
    "quota-rows": (
        "Quotas need each channel once, no negative number, and channels of the same bucket to "
        "fall to, without a circle"
    ),
    "quota-capacity": (
        "The quotas do not add up to the capacity of the open Slots of this bucket and kind; "
        "divide that capacity anew"
    ),
    "quota-below-used": (
        "More seats of this bucket and kind are taken than the quotas would leave; rebook or "
        "cancel some first"
    ),
}

#: Every rule by which a claim is refused, and its sentence.
RULES = {**_LOST, **_REFUSED}


def refused(rule: str, *, expression: str | None = None) -> GatewayError:
    """The refusal by a rule of the table; to be raised."""
    kind = ClaimLost if rule in _LOST else ClaimRefused
    return kind(issues=(Issue(kind.code, RULES[rule], expression, rule),))
