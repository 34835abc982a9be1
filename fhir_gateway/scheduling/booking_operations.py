"""The handlers of the operations of booking: parameters in, a verb of book.py or visit.py, FHIR
out. booking_definitions.py says what each takes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Issue
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.operation_definitions import Call, Taken
from fhir_gateway.scheduling.alternatives import with_alternatives
from fhir_gateway.scheduling.amend import Amendment, amend
from fhir_gateway.scheduling.appointment import CANCEL_REASONS, cancel_reasons
from fhir_gateway.scheduling.book import BookRequest, HoldRequest, book, cancel, hold, renew
from fhir_gateway.scheduling.book_resource import PARAMETER, book_resource
from fhir_gateway.scheduling.move import rebook
from fhir_gateway.scheduling.proposal import Proposal, is_proposal, read_proposal
from fhir_gateway.scheduling.seat_commit import Asked, Done
from fhir_gateway.scheduling.visit import check_if_match, excuse, take_step
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor

_LONGEST_KEY = 255

#: A code as searches spell it, with or without its system.
_TOKEN = re.compile(r"(?P<system>[^\s|]*)\|(?P<code>[^\s|]+(?: [^\s|]+)*)")
_KEY = "idempotency-key"
#: What $book takes where it is not given the whole Appointment.
_BESIDE = ("appointment-reference", "slot", "patient-reference", "based-on", "reason", "comment")


async def hold_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/$hold: a Bundle with the pending Appointment (ITI-116). Raises as book.hold, and
    where another one was faster says which seats come next."""
    asked, request = asked_of(call), await _seat(gateway, actor, call)
    try:
        done = await hold(gateway, actor, request, asked)
    except GatewayError as error:
        raise await with_alternatives(gateway, actor, request, error) from None
    return _bundle(call, done)


async def book_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/$book: a Bundle with the Appointment (ITI-117). Raises as book.book and
    book_resource.book_resource."""
    asked = asked_of(call)
    if call.one(PARAMETER) is not None:
        _check_alone(gateway, call, asked)
        resource = call.value(PARAMETER)
        return _bundle(call, await book_resource(gateway, actor, resource, asked, call.base))
    held = _held(call)
    if held:
        _no_slot(call)
        patient = id_of(call.one("patient-reference"), "Patient", call.base)
        request = BookRequest(held, None, orders_of(call), _text(call, "comment"), patient)
        return _bundle(call, await book(gateway, actor, request, asked))
    take = await _seat(gateway, actor, call)
    try:
        done = await book(gateway, actor, BookRequest(take=take), asked)
    except GatewayError as error:
        raise await with_alternatives(gateway, actor, take, error) from None
    return _bundle(call, done)


async def renew_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/[id]/$renew: the Appointment with its later hold-until."""
    return (await renew(gateway, actor, call.id, asked_of(call))).body


async def rebook_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/[id]/$rebook: a Bundle with the Appointment at its new time, or the one that
    replaces it at another hospital."""
    asked, to = asked_of(call), await _proposal(gateway, actor, call)
    check_if_match(gateway, asked)
    try:
        done = await rebook(
            gateway, actor, call.id, to.slot, asked, patient=to.patient, across=True
        )
    except GatewayError as error:
        raise await with_alternatives(gateway, actor, HoldRequest(to.slot, ""), error) from None
    return _bundle(call, done)


async def amend_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/[id]/$amend: the Appointment with what it says now. Raises as amend.amend."""
    asked = asked_of(call)
    check_if_match(gateway, asked)
    said = Amendment(reason_of(call.one("reason")), _text(call, "comment"), orders_of(call))
    return (await amend(gateway, actor, call.id, said, asked)).body


async def cancel_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/[id]/$cancel: the cancelled Appointment."""
    asked = asked_of(call)
    check_if_match(gateway, asked)
    done = await cancel(
        gateway, actor, call.id, asked, reason=_code(call), text=_text(call, "text")
    )
    return done.body


def step_operation(verb: str) -> Callable[[Gateway, Actor, Call], Awaitable[bytes]]:
    """The handler of one step of a visit (visit.STEPS)."""

    async def operate(gateway: Gateway, actor: Actor, call: Call) -> bytes:
        asked = asked_of(call)
        check_if_match(gateway, asked)
        reason = _code(call) if "reason" in call.parameters else ""
        text = _text(call, "text") if "text" in call.parameters else ""
        done = await take_step(gateway, actor, call.id, verb, asked, reason=reason, text=text)
        return done.body

    return operate


async def excuse_operation(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """Appointment/[id]/$excuse: the Appointment, missed for a good reason."""
    asked = asked_of(call)
    check_if_match(gateway, asked)
    return (await excuse(gateway, actor, call.id, asked, said=_text(call, "text"))).body


# -- what is asked for ----------------------------------------------------------------------------


def asked_of(call: Call) -> Asked:
    """The operation with its key and the digest of all that it says. Raises Invalid for a key that
    is none."""
    given = call.value(_KEY) if _KEY in call.parameters else None
    key = str(given or call.key)
    if given and call.key and given != call.key:
        raise Invalid("The header and the parameter name different keys; send one of them",
                      expression=_KEY, rule=_KEY)  # fmt: skip
    if len(key) > _LONGEST_KEY or not key.isprintable():
        raise Invalid(f"A key has {_LONGEST_KEY} printable characters at most",
                      expression=_KEY, rule=_KEY)  # fmt: skip
    said = {
        name: [one.value for one in taken]
        for name, taken in sorted(call.parameters.items())
        if name != _KEY and taken
    }
    whole = render([call.name, call.id, said])
    return Asked(call.name, key, sha256(whole).digest(), call.if_match)


async def _seat(gateway: Gateway, actor: Actor, call: Call) -> HoldRequest:
    """The seat that is asked for: what is not said stands in the proposal."""
    proposal = await _proposal(gateway, actor, call)
    named = id_of(call.one("patient-reference"), "Patient", call.base)
    if named and proposal.patient and named != proposal.patient:
        raise Invalid(
            "The proposal was made for another patient; search for this one, or name the Slot by "
            "slot",
            expression="patient-reference",
            rule="proposal",
        )
    patient = named or proposal.patient or (actor.patient if actor.role == "patient" else "")
    if not patient:
        raise Invalid(
            "patient-reference is required: the Patient who is to come",
            expression="patient-reference",
            rule="required",
        )
    return HoldRequest(
        proposal.slot, patient, orders_of(call) or proposal.orders,
        reason_of(call.one("reason")), _text(call, "comment"),
    )  # fmt: skip


async def _proposal(gateway: Gateway, actor: Actor, call: Call) -> Proposal:
    """What is to be booked: a proposal, or a Slot that is named by itself."""
    named = id_of(call.one("slot"), "Slot", call.base)
    given = call.one("appointment-reference")
    if given is None:
        if not named:
            raise Invalid("slot or appointment-reference is required: what is to be booked",
                          expression="slot", rule="required")  # fmt: skip
        return Proposal(named)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        id = id_of(given, "Appointment", call.base)
        proposal = await read_proposal(gateway, actor, whole, id)
    if named and named != proposal.slot:
        raise Invalid("slot and appointment-reference name different Slots; send one of them",
                      expression="slot", rule="proposal")  # fmt: skip
    return proposal


def _held(call: Call) -> str:
    """The held Appointment that is named, "" for a proposal or none."""
    id = id_of(call.one("appointment-reference"), "Appointment", call.base)
    return "" if is_proposal(id) else id


def _check_alone(gateway: Gateway, call: Call, asked: Asked) -> None:
    """The whole Appointment says all that there is to say. Raises Invalid, PreconditionFailed."""
    if others := [name for name in _BESIDE if call.parameters[name]]:
        raise Invalid(
            f"{PARAMETER} says it all: leave out {', '.join(others)}, or say it in the Appointment",
            expression=others[0],
            rule="book-resource",
        )
    if call.value(PARAMETER).get("status") in ("booked", "cancelled"):
        check_if_match(gateway, asked)


def _no_slot(call: Call) -> None:
    if call.one("slot") is not None:
        raise Invalid(
            "A held Appointment has its Slot: name it alone, or use $rebook to move it",
            expression="slot",
            rule="proposal",
        )


def orders_of(call: Call) -> tuple[str, ...]:
    """The references of the orders that are named."""
    found = [id_of(one, "ServiceRequest", call.base) for one in call.parameters["based-on"]]
    return tuple(f"ServiceRequest/{id}" for id in dict.fromkeys(found))


def id_of(taken: Taken | None, type: str, base: str = "") -> str:
    """The logical id of a reference, as "Type/id" or whole, below the base of this server; "" for
    none. Raises Invalid: another server's patient of the same id is another patient."""
    if taken is None:
        return ""
    value = taken.value
    text = str(value.get("reference", "")) if isinstance(value, Mapping) else str(value)
    found = parse_reference(text, base)
    if not isinstance(found, Reference) or found.type != type or found.version is not None:
        raise Invalid(f"This must name a {type} of this server, as {type}/[id]",
                      expression=taken.expression, rule="reference")  # fmt: skip
    return found.id


def reason_of(taken: Taken | None) -> dict[str, Any] | None:
    """A reason as a CodeableConcept."""
    if taken is None:
        return None
    value = taken.value
    if taken.element == "valueCodeableConcept":
        return dict(value)
    if isinstance(value, Mapping):
        return {"coding": [dict(value)]}
    found = _TOKEN.fullmatch(text := str(value).strip())
    if found is not None:
        coding = {"system": found["system"], "code": found["code"]}
        return {"coding": [{name: said for name, said in coding.items() if said}]}
    return {"text": text} if text else None


def _code(call: Call) -> str:
    """Why it is cancelled, "" where that is not said. Raises Invalid for no code of the system."""
    taken = call.one("reason")
    if taken is None:
        return ""
    coding = taken.value if isinstance(taken.value, Mapping) else {"code": taken.value}
    code = str(coding.get("code", ""))
    if code not in cancel_reasons() or coding.get("system", CANCEL_REASONS) != CANCEL_REASONS:
        raise Invalid(
            f"reason is a code of {CANCEL_REASONS}, such as pat, prov, maint or other; say in text "
            "what no code says",
            expression=taken.expression,
            rule="cancel-reason",
        )
    return code


def _text(call: Call, name: str) -> str:
    return str(call.value(name) or "").strip()


# -- what is answered -----------------------------------------------------------------------------


def _bundle(call: Call, done: Done) -> bytes:
    """One Appointment, and what is told of it; the same bytes for the same request again."""
    hits = [bundle.Hit(f"{call.base}/Appointment/{done.id}", done.body)]
    issues = [*_of_channel(done), *done.told.issues]
    if issues:
        hits.append(bundle.Hit("", operation_outcome(issues), "outcome"))
    return bundle.searchset(hits, links=[], total=1)


def _of_channel(done: Done) -> Sequence[Issue]:
    told = done.told
    if not told.channel:
        return ()
    why = f": {told.because}" if told.because else ""
    return (Issue("informational", f"Through {told.channel}{why}", None, "channel", "information"),)
