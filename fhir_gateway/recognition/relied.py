"""Who is to be told that a result is not what it was when they relied on it.

Alerts are Tasks of the institution that is told (alert_task.py). They are stored in the commit of
the very correction (relied_watch.py); this module finds those that are open.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.audit.events import update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, NotFound, PreconditionFailed
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.recognition.alert_task import Alert, alert_of, task_of_alert
from fhir_gateway.recognition.answer_rows import OPEN_ALERT
from fhir_gateway.recognition.answered import any_tasks
from fhir_gateway.recognition.relied_watch import put_of_task
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.search.plan import Ref, SearchPlan
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.changes import ChangeSet, Entry, VersionIs
from fhir_gateway.store.store import Reader

#: Alerts of one person that are told at once; the work list has all.
MOST = 50

#: Persons of a page of the work list, and alerts of one of them: never near that many.
_PAGE, _MOST_OF_ONE = 200, 1_000

#: A person who takes note of an alert that changes each time is told to look again.
ATTEMPTS = 16


async def notices_for(reader: Reader, institution: str, homes: Sequence[int] | int) -> list[Alert]:
    """The open alerts of an institution about a person, the newest first.

    `homes` are those of the person. Empty for a caller that is no institution.
    """
    if not institution:
        return []
    condition = Ref(OPEN_ALERT, (key64(f"Organization/{institution}"),))
    found: list[Alert] = []
    among = [homes] if isinstance(homes, int) else homes
    if not await any_tasks(reader, among):
        return found
    for home in among:
        page = await reader.search(SearchPlan("Task", (condition,), home=home, count=MOST))
        alerts = (alert_of(parse(stored.whole())) for stored in page.matches)
        found += [one for one in alerts if one is not None and one.institution == institution]
    return sorted(found, key=lambda one: (one.at, one.id), reverse=True)


async def open_alerts(reader: Reader, institution: str) -> list[Alert]:
    """All open alerts of an institution, the oldest first."""
    found: dict[str, Alert] = {}
    row, after = (OPEN_ALERT, key64(f"Organization/{institution}")), None
    while groups := await reader.listed(
        "Task", row, after=after, limit=_PAGE, examples=_MOST_OF_ONE
    ):
        page = (one for group in groups for one in group.examples.values())
        alerts = (alert_of(parse(stored.whole())) for stored in page)
        ours = (one for one in alerts if one is not None and one.institution == institution)
        found |= {one.id: one for one in ours}
        after = groups[-1].value
    return sorted(found.values(), key=lambda one: (one.at, one.id))


async def acknowledge_alert(
    gateway: Gateway, actor: Actor, id: str, *, by: str, text: str = ""
) -> Alert:
    """Closes an alert in the name of a person; as it stands when somebody has done so already.

    Raises NotFound when there is none, or it is another institution's; Conflict when it changes
    again and again meanwhile.
    """
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            stored = await reader.read("Task", id)
        before = alert_of(parse(stored.whole())) if stored is not None else None
        if before is None or not _is_its_own(actor, before):
            raise NotFound("There is no such alert", rule="alert")
        if not before.is_open:
            return before
        closed = instant(gateway.clock.now())
        after = before._replace(closed=closed, closed_by=by, text=text)
        change_set = ChangeSet(
            id=gateway.random(16),
            guards=[VersionIs("Task", id, before.version)],
            puts=[put_of_task(gateway, task_of_alert(after, catalogue_of(gateway)), after)],
            journal=_audit(gateway, actor, after) if gateway.audit else [],
        )
        try:
            await gateway.store.commit(change_set)
        except PreconditionFailed:
            continue
        gateway.count("alerts_acknowledged", 1)
        return after._replace(version=before.version + 1)
    raise Conflict("The alert changes again and again; send it again", rule="overtaken")


def _is_its_own(actor: Actor, alert: Alert) -> bool:
    return not actor.bound or alert.institution == actor.institution


def _audit(gateway: Gateway, actor: Actor, alert: Alert) -> list[Entry]:
    event = update_event(
        call_of(gateway, actor)._replace(user=alert.closed_by),
        type="Task",
        id=alert.id,
        version=alert.version + 1,
        patient=alert.patient or None,
    )
    return [entry(gateway, event, patient=alert.patient or None)]
