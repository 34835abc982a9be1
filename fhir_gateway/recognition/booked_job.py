"""Behind the change log: a result has come for an examination that is booked.

A job of the worker looks at each result, report, study, booking, consent and Patient that has
changed since the last one, and at the bookings of those persons that are still to come. When an
evaluation or a rule set has changed it looks at all bookings that are to come. What can be
recognised now, and could not when the booking was made, gives one Task for each Appointment and
result (booked_task.py): a job that was killed goes on at its checkpoint and tells nothing twice. A
notice is withdrawn when its result can be recognised no more or a newer one stands in its place,
when who booked may not see it any more, and when the booking is over. docs/adr/0054
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.audit.events import update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    Conflict,
    GatewayError,
    Internal,
    NotFound,
    PreconditionFailed,
    TooCostly,
    Unavailable,
)
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.following import Following
from fhir_gateway.interactions.jobs import Done, Held
from fhir_gateway.interactions.prepare import prepare
from fhir_gateway.recognition.booked_look import Booked, booked, look, patient_of
from fhir_gateway.recognition.booked_open import is_withdrawn, open_notices
from fhir_gateway.recognition.booked_task import (
    closed_notice,
    is_notice,
    notice_id,
    result_of,
    task_of_notice,
    withdrawn_notice,
)
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store import jobs
from fhir_gateway.store.booked_sql import Coming, coming_after, coming_of
from fhir_gateway.store.changes import ChangeSet, Guard, Put, VersionIs
from fhir_gateway.store.jobs import OPEN_STATES, Job
from fhir_gateway.store.person_sql import homes_of
from fhir_gateway.store.store import Change, Reader, Stored

KIND = "booked-result"

#: Changes or bookings of a page; µs between two jobs.
PAGE, EVERY = 200, 60_000_000

#: What is about one person: only that person's bookings are looked at. A checkpoint counts them.
_PERSONAL = ("Observation", "DiagnosticReport", "ImagingStudy", "Appointment", "Consent", "Patient")
#: What is about everybody's results: all bookings that are to come are looked at.
_GENERAL = ("VerificationResult", "PlanDefinition")

#: A booking that others change meanwhile is looked at again so often.
_ATTEMPTS = 16


class Order(msgspec.Struct, frozen=True):
    """What a job looks at: persons of whom something changed behind the commit `low`, up to and
    with `high`; all bookings that are to come when `whole`."""

    low: int
    high: int
    whole: bool


class State(msgspec.Struct):
    """How far a job is: the type and the place in the change log, newest first, or the place of
    the last booking; how many bookings were looked at, and how many notices given."""

    type: int = 0
    place: tuple[int, int, int] | None = None
    after: tuple[int, int] = (-(1 << 63), -(1 << 63))
    looked: int = 0
    told: int = 0


async def plan(gateway: Gateway) -> Job | None:
    """Makes the job for what has changed since the last one; None when there is nothing, or one
    is at work. The first looks at all bookings that are to come."""
    known = await jobs.find_all(gateway.store, kind=KIND, limit=1)
    if known and known[0].state in OPEN_STATES:
        return None
    usable = bool(known) and known[0].state not in ("failed", "cancelled")
    low = _high(known[0]) if usable else 0
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        high = reader.t
        newest = {}
        for type in (*_PERSONAL, *_GENERAL):
            found = await reader.changes(type=type, limit=1)
            newest[type] = found[0].t if found else 0
    if low and all(t <= low for t in newest.values()):
        return None
    whole = not low or any(newest[type] > low for type in _GENERAL)
    number = int(known[0].id.split("_")[1]) + 1 if known else 1
    return await jobs.enqueue(
        gateway.store,
        id=f"{KIND}_{number:09}_{high}",
        kind=KIND,
        payload=msgspec.json.encode(Order(low, high, whole)).decode(),
    )


def _high(job: Job) -> int:
    return int(job.id.split("_")[2])


#: Sees that results or bookings have changed, and plans. A worker has one.
Watch = partial(Following, plan=plan, every=EVERY)


async def work(held: Held) -> Done:
    """Does a job. Raises Lost and Stopped as `Held.step` does."""
    order, state = _order(held.job), State()
    if held.job.checkpoint:
        state = msgspec.json.decode(held.job.checkpoint, type=State)
    async for page in _pages(held.gateway, order, state):
        for one in page:
            state.looked += 1
            state.told += await tell(held.gateway, one)
            await asyncio.sleep(0)
        await held.step(_told(state), msgspec.json.encode(state).decode())
    return Done(_told(state), msgspec.json.encode(state).decode())


async def _pages(gateway: Gateway, order: Order, state: State) -> AsyncIterator[Sequence[Coming]]:
    """What has changed first: only there are bookings that are over. The first job of all looks at
    no changes, since nothing was told before it."""
    if order.low:
        async for page in _changed(gateway, order, state):
            yield page
    if order.whole:
        async for page in _all(gateway, state):
            yield page


def _told(state: State) -> str:
    return f"{state.looked} bookings looked at, {state.told} notices"


def _order(job: Job) -> Order:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(job.payload, type=Order)
    raise Internal("It is not known what this job was to do", rule="booked-job")


async def _all(gateway: Gateway, state: State) -> AsyncIterator[Sequence[Coming]]:
    """Every booking that is to come, in pages."""
    while True:
        now = gateway.clock.now()
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await _page(reader, state.after, now)
        if not page:
            return
        state.after = page[-1].place
        yield page


async def _changed(gateway: Gateway, order: Order, state: State) -> AsyncIterator[Sequence[Coming]]:
    """The bookings of persons of whom something changed, a page of the change log at a time; and
    bookings that have changed themselves, which may be over."""
    while state.type < len(_PERSONAL):
        try:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                found = await reader.changes(
                    type=_PERSONAL[state.type],
                    until_t=order.high,
                    before=state.place,
                    limit=PAGE,
                )
                new = [one for one in found if one.t > order.low]
                homes = await _homes(reader, new)
                now = gateway.clock.now()
                coming = await _coming(reader, homes, now)
        except TooCostly:
            raise Unavailable("The database is too slow to read", rule="deadline") from None
        if len(new) < PAGE:
            state.type, state.place = state.type + 1, None
        else:
            state.place = (new[-1].t, new[-1].n, new[-1].i)
        yield [*coming, *_others(new, coming)]


def _others(changes: Iterable[Change], coming: Iterable[Coming]) -> list[Coming]:
    """Appointments that have changed and are not to come any more."""
    known = {one.id for one in coming}
    found = {
        one.stored.id: Coming(one.stored.home, key64(f"Appointment/{one.stored.id}"),
                              one.stored.id, 0, ())
        for one in changes
        if one.stored.type == "Appointment" and one.stored.id not in known
    }  # fmt: skip
    return list(found.values())


async def _homes(reader: Reader, changes: Iterable[Change]) -> list[int]:
    """The homes of the persons of whom something changed: as they are now, and of a Patient as
    they were before, since records are parted, too."""
    mine = {(one.stored.home, reader.t) for one in changes}
    mine |= {(one.stored.home, one.t - 1) for one in changes if one.stored.type == "Patient"}
    found = {
        one
        for home, t in mine
        if home  # else about nobody
        for one in await _of_person(reader, home, t)
    }
    return sorted(found)


async def _page(reader: Reader, after: tuple[int, int], now: int) -> list[Coming]:
    return await reader.steps(lambda _: coming_after(after, now, PAGE))


async def _coming(reader: Reader, homes: Sequence[int], now: int) -> list[Coming]:
    return await reader.steps(lambda seen: coming_of(seen.dialect, homes, now))


async def _of_person(reader: Reader, home: int, t: int) -> tuple[int, ...]:
    return await reader.steps(lambda seen: homes_of(seen.dialect, home, t)) or (home,)


# -- one booking -------------------------------------------------------------------------------


async def tell(gateway: Gateway, one: Coming) -> int:
    """Gives the notices that a booking calls for, and takes back those that hold no more; how many
    were given."""
    for _ in range(_ATTEMPTS):
        booking = await booked(gateway, one)
        wanted = await (_wanted(gateway, booking) if booking else _over(gateway, one))
        if not wanted.puts:
            return 0
        change_set = ChangeSet(id=gateway.random(16), guards=wanted.guards, puts=wanted.puts)
        try:
            await gateway.store.commit(change_set)
        except GatewayError as error:
            if getattr(error, "guard", -1) < 0:
                raise
            continue
        if wanted.given:
            gateway.count("booked_results", wanted.given)
        return wanted.given
    raise Unavailable("Others write the same notice; it is tried again", rule="overtaken")


class _Wanted(NamedTuple):
    """Tasks as puts, the guards under which they are true, and how many of them are new."""

    puts: list[Put]
    guards: list[Guard]
    given: int


async def _wanted(gateway: Gateway, booking: Booked) -> _Wanted:
    """What is to be told of a booking that was not told before, and what holds no more."""
    seen, at = await look(gateway, booking), instant(gateway.clock.now())
    found = _Wanted([], [VersionIs("Appointment", booking.stored.id, booking.stored.version)], 0)
    names = {one.result.partition("/_history/")[0]: one for one in seen.new}
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        for name, hit in names.items():
            id = notice_id(booking.stored.id, name)
            stored = await reader.read("Task", id)
            version = stored.version if stored is not None else 0
            if stored is not None and not stored.deleted and not is_withdrawn(stored):
                continue
            found.puts.append(put_of_notice(gateway, task_of_notice(
                hit, id, at, catalogue_of(gateway))))  # fmt: skip
            found.guards.append(VersionIs("Task", id, version))
        given = len(found.puts)
        for stored in await open_notices(reader, booking.stored, booking.patient):
            if result_of(parse(stored.whole())) not in seen.standing:
                _take_back(gateway, found, stored)
    return found._replace(given=given)


async def _over(gateway: Gateway, one: Coming) -> _Wanted:
    """What was told of a booking that is over is withdrawn: nobody has to cancel it any more."""
    found = _Wanted([], [], 0)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Appointment", one.id)
        if stored is None or stored.deleted:
            return found
        resource = parse(stored.whole())
        patient = patient_of(resource)
        if resource.get("status") not in _OVER or not patient:
            return found
        found.guards.append(VersionIs("Appointment", stored.id, stored.version))
        for task in await open_notices(reader, stored, patient):
            _take_back(gateway, found, task)
    return found


_OVER = frozenset({"cancelled", "noshow", "fulfilled", "entered-in-error"})


def _take_back(gateway: Gateway, found: _Wanted, stored: Stored) -> None:
    found.puts.append(put_of_notice(gateway, withdrawn_notice(parse(stored.whole()))))
    found.guards.append(VersionIs("Task", stored.id, stored.version))


def put_of_notice(gateway: Gateway, task: dict[str, Any]) -> Put:
    """A notice in the home of its patient, owned by the institution that is told."""
    owner = task.get("owner", {}).get("reference", "").partition("/")[2]
    return prepare(gateway, task, op="create", institution=owner or None)


async def acknowledge_notice(
    gateway: Gateway, actor: Actor, id: str, *, by: str, text: str = ""
) -> str | None:
    """Closes a notice in the name of a person; the reference to the version that says so, None
    when the Task is none of these notices.

    Raises NotFound for another institution's, Conflict when it changes again and again.
    """
    for _ in range(_ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            stored = await reader.read("Task", id)
        if stored is None or stored.deleted or not is_notice(before := parse(stored.whole())):
            return None
        owner = before.get("owner", {}).get("reference", "").partition("/")[2]
        if actor.bound and owner != actor.institution:
            raise NotFound("There is no such alert", rule="alert")
        if before["status"] != "requested":
            return f"Task/{id}/_history/{stored.version}"
        after = closed_notice(before, by=by, at=instant(gateway.clock.now()), text=text)
        patient = after["for"]["reference"].partition("/")[2]
        call = call_of(gateway, actor)._replace(user=by)
        event = update_event(call, type="Task", id=id, version=stored.version + 1, patient=patient)
        change_set = ChangeSet(
            id=gateway.random(16),
            guards=[VersionIs("Task", id, stored.version)],
            puts=[put_of_notice(gateway, after)],
            journal=[entry(gateway, event, patient=patient)] if gateway.audit else [],
        )
        try:
            await gateway.store.commit(change_set)
        except PreconditionFailed:
            continue
        return f"Task/{id}/_history/{stored.version + 1}"
    raise Conflict("The notice changes again and again; send it again", rule="overtaken")
