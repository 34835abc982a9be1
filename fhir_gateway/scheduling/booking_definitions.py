"""The operations of booking as data: IHE Scheduling's three, and what follows a booking.

profiles.ihe.net/ITI/Scheduling (ITI-115 Find, ITI-116 Hold, ITI-117 Book); each parameter says what
it is; `docs/booking.md` walks through them.
"""

from __future__ import annotations

from fhir_gateway.interactions.operation_definitions import MANY, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P

_KEY = P(
    "idempotency-key", "string", "Number of this request, in place of the Idempotency-Key header: "
    "the same request under the same key is answered as the first time",
)  # fmt: skip
_REASON = P("reason", "string code Coding CodeableConcept", "Why the patient comes")
_COMMENT = P("comment", "string", "Words for the hospital")
_ORDERS = P(
    "based-on", "Reference string", "ServiceRequest: the order or referral that this is for", 0,
    MANY,
)  # fmt: skip
_RETURN = P("return", "Appointment", "The Appointment as it stands now", 1)
_BUNDLE = P(
    "return", "Bundle", "One Appointment, and an OperationOutcome: the channel and why, warnings "
    "for other bookings of the patient", 1,
)  # fmt: skip

FIND = Definition(
    code="find",
    title="Find appointments",
    says=(
        "Free seats that the caller's channels sell now, as proposed Appointments with their "
        "Slots (IHE ITI-115). Held and full Slots are not found; total is exact. Of a parameter "
        "that repeats one value must fit, different ones must all fit. Where nothing is found, an "
        "OperationOutcome says what is sold later or to others."
    ),
    types=("Appointment",),
    levels=("type",),
    takes=(
        P("start", "dateTime", "Not before", 1, MANY),
        P("end", "dateTime", "Before; as many as start, the periods must overlap or touch", 1,
          MANY),
        P("service", "string", "Item of the catalogue: code, or system|code", 0, MANY),
        P("specialty", "string", "Specialty of the HealthcareService: code, or system|code", 0,
          MANY),
        P("visit-type", "string", "expert or ordinary (slot-class), visit or exam (booking-kind)",
          0, MANY),
        P("reason", "string", "Carried into the proposals; it leaves nothing out"),
        P("practitioner", "Reference string", "Practitioner or PractitionerRole", 0, MANY),
        P("organization", "Reference string", "Hospital, the preferred first", 0, MANY),
        P("location-reference", "Reference string", "Location of the Schedule", 0, MANY),
        P("location-string", "string", "Part of the name of a Location", 0, MANY),
        P("district", "string", "Area code, the preferred first", 0, MANY),
        P("schedule", "Reference string", "Schedule", 0, MANY),
        P("department", "string", "Key of a department", 0, MANY),
        P("patient-reference", "Reference string", "Patient who is to come"),
        P("patient-resource", "Patient", "The same, where no Patient is stored yet: sex, age and "
          "residence are read"),
        P("referral-identifier", "Identifier string", "Identifier of an order or referral", 0,
          MANY),
        _ORDERS,
        P("timing", "Timing", "Not offered: name periods by start and end"),
        P("insurance-reference", "Reference string", "Not offered: insurance decides of no seat"),
        P("sort", "code", "earliest, or preference: by the first list that repeats among "
          "organization, practitioner and district, then the earliest; district: by district"),
        P("_count", "positiveInt", "Offers on a page"),
        P("_cursor", "string", "Of the link to the next page"),
    ),
    gives=(P("return", "Bundle", "Searchset of proposed Appointments", 1),),
)  # fmt: skip

HOLD = Definition(
    code="hold",
    title="Hold an appointment",
    says=(
        "Holds a seat for some minutes while a booking is made (IHE ITI-116): nobody else gets it "
        "until it is booked, cancelled or has expired. The Appointment is pending and says until "
        "when. Whoever comes too late gets an OperationOutcome with the next offers."
    ),
    types=("Appointment",),
    levels=("type",),
    affects=True,
    takes=(
        P("appointment-reference", "Reference string", "A proposal of $find; it or slot"),
        P("slot", "Reference string", "The Slot itself"),
        P("patient-reference", "Reference string", "Patient who is to come; a patient's own token "
          "names him"),
        _ORDERS, _REASON, _COMMENT, _KEY,
    ),
    gives=(_BUNDLE,),
)  # fmt: skip

BOOK = Definition(
    code="book",
    title="Book an appointment",
    says=(
        "Books a hold, or a seat straight (IHE ITI-117): all of it or nothing, once for one "
        "Idempotency-Key. The gateway chooses the caller's channel and says which and why. Where "
        "the hospital sells its slots itself, the booking is pending until it confirms."
    ),
    types=("Appointment",),
    levels=("type",),
    affects=True,
    takes=(
        P("appointment-reference", "Reference string", "The held Appointment, or a proposal of "
          "$find; it or slot"),
        P("slot", "Reference string", "The Slot itself"),
        P("patient-reference", "Reference string", "Patient who is to come"),
        P("appointment-resource", "Appointment", "The whole Appointment in place of the others: "
          "status pending books it, booked moves or amends it, cancelled cancels it"),
        _ORDERS, _REASON, _COMMENT, _KEY,
    ),
    gives=(_BUNDLE,),
)  # fmt: skip


def _step(code: str, title: str, says: str, *takes: P, gives: P = _RETURN) -> Definition:
    """An operation on one Appointment."""
    return Definition(
        code=code, title=title, says=says, types=("Appointment",), levels=("instance",),
        affects=True, takes=(*takes, _KEY), gives=(gives,),
    )  # fmt: skip


RENEW = _step(
    "renew", "Hold longer", "A hold that lives is held longer, as often as the site's limits say.",
)  # fmt: skip
REBOOK = _step(
    "rebook", "Move a booking",
    "Takes a seat of another Slot and gives the old one back, in one step: without the new one the "
    "old one stays. If-Match is heeded.",
    P("slot", "Reference string", "The Slot to move to; it or appointment-reference"),
    P("appointment-reference", "Reference string", "A proposal of $find"), gives=_BUNDLE,
)  # fmt: skip
AMEND = _step(
    "amend", "Change what a booking says",
    "Reason, words for the hospital or the order of a hold or a booking; what is left out stays. "
    "Time and seat change by $rebook. If-Match is heeded.",
    _REASON, _COMMENT, _ORDERS,
)  # fmt: skip
CANCEL = _step(
    "cancel", "Cancel a booking",
    "Gives a seat back, by the patient, by who booked or by the hospital. If-Match is heeded.",
    P("reason", "code Coding", "A code of appointment-cancellation-reason; pat or prov when left "
      "out"),
    P("text", "string", "Words on it"),
)  # fmt: skip
CONFIRM_BOOKING = _step(
    "confirm", "Confirm a booking",
    "The hospital that sells its slots itself confirms a booking before its deadline.",
)  # fmt: skip
REFUSE = _step(
    "refuse", "Refuse a booking",
    "The hospital that sells its slots itself refuses a booking; the seat is released.",
    P("reason", "code Coding", "A code of appointment-cancellation-reason; prov when left out"),
    P("text", "string", "Words on it, for the patient"),
)  # fmt: skip
ARRIVE = _step("arrive", "The patient has come", "The hospital says that the patient is there.")
CHECK_IN = _step("check-in", "Check in", "The patient, or the hospital, says that he is ready.")
FULFIL = _step("fulfil", "The appointment took place", "The hospital says that it is done.")
NO_SHOW = _step(
    "no-show", "The patient did not come",
    "The hospital says that the patient did not come; three times in a year bar booking for a "
    "time, until an excuse is accepted.",
)  # fmt: skip
EXCUSE = _step(
    "excuse", "Excuse a missed appointment",
    "The hospital accepts why the patient did not come: it counts no more.",
    P("text", "string", "Why"),
)  # fmt: skip
VOID = _step(
    "void", "Entered in error", "The hospital says that this appointment never was one; a seat is "
    "released.",
)  # fmt: skip
WHY_NOT = Definition(
    code="why-not",
    title="Why can this Slot not be booked",
    says=(
        "Everything that stands between the caller and a Slot: of the Slot, of the patient, and of "
        "each channel; and the channel by which a booking would go through now, if there is one."
    ),
    types=("Slot",),
    levels=("instance",),
    takes=(
        P("patient-reference", "Reference string", "Patient who is to come"),
        P("patient", "Reference string", "The same"),
        _ORDERS,
    ),
    gives=(
        P("bookable", "boolean", "Whether a booking would go through now", 1),
        P("channel", "code", "By which channel"),
        P("because", "string", "Why this channel is open to the caller"),
        P("reason", "", "One obstacle", 0, MANY, (
            P("rule", "code", "Its rule", 1), P("channel", "code", "Of which channel; of all where "
              "there is none"), P("zh", "string", "In Chinese", 1), P("en", "string", "In English",
                                                                       1),
        )),
    ),
)  # fmt: skip
