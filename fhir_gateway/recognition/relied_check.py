"""Whether an answer still rests on what it rested on: its results, and whose they are."""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.alert_task import alert_id, alert_of
from fhir_gateway.recognition.answer_model import DoctorAnswer, unversioned
from fhir_gateway.recognition.answer_task import relied_on
from fhir_gateway.recognition.relied_change import what_became
from fhir_gateway.recognition.relied_watch import Changed, Told, tell
from fhir_gateway.store.store import Reader, Stored


async def check(gateway: Gateway, reader: Reader, answer: DoctorAnswer) -> Told:
    """The alert that an answer calls for, unless it was told the same before; empty otherwise."""
    told = Told([], [], [])
    changed = [one for name in relied_on(answer) for one in await _changed(reader, answer, name)]
    if not changed:
        return told
    stored = await reader.read("Task", alert_id(answer.id))
    alert = alert_of(parse(stored.whole())) if stored is not None else None
    known = {(code, unversioned(one)) for code, one in alert.changes} if alert else set()
    new = [one for one in changed if (one.change, one.reference) not in known]
    if new:
        await tell(gateway, reader, told, answer, new)
    return told


async def _changed(reader: Reader, answer: DoctorAnswer, name: str) -> list[Changed]:
    type, _, id = name.partition("/")
    now = await reader.read(type, id)
    if now is None:
        return []
    found = []
    if await _is_anothers(reader, answer, now):
        found.append(Changed(name, now.version, "other-person"))
    then = await version_relied_on(reader, answer, name)
    if then is not None and then.version != now.version:
        change = what_became(parse(then.whole()), None if now.deleted else parse(now.whole()))
        if change:
            found.append(Changed(name, now.version, change))
    return found


async def _is_anothers(reader: Reader, answer: DoctorAnswer, now: Stored) -> bool:
    """Whether the result is in no home of the person for whom it was relied on."""
    person = await reader.person(answer.patient) if answer.patient else None
    return person is not None and now.home not in person.homes


async def version_relied_on(reader: Reader, answer: DoctorAnswer, name: str) -> Stored | None:
    """The version of "Type/id" that an answer rests on; None when that is not known any more."""
    named = (*answer.results, *answer.reports)
    version = next((one for one in named if unversioned(one) == name), "").rpartition("/")[2]
    type, _, id = name.partition("/")
    if not version.isdigit():
        return None
    stored = await reader.vread(type, id, int(version))
    return None if stored is None or stored.deleted else stored
