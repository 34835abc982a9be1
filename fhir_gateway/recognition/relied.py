"""Who is to be told that a result is not what it was when they relied on it.

Alerts are Tasks of the institution that is told (alert_task.py). They are stored in the commit of
the very correction (relied_watch.py); this module finds those that are open.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.recognition.alert_task import Alert, alert_of
from fhir_gateway.recognition.answer_rows import OPEN_ALERT
from fhir_gateway.search.plan import Ref, SearchPlan
from fhir_gateway.store.store import Reader

#: Alerts of one person that are told at once; the work list has all.
MOST = 50


async def notices_for(reader: Reader, institution: str, homes: Sequence[int] | int) -> list[Alert]:
    """The open alerts of an institution about a person, the newest first.

    `homes` are those of the person. Empty for a caller that is no institution.
    """
    if not institution:
        return []
    condition = Ref(OPEN_ALERT, (key64(f"Organization/{institution}"),))
    found: list[Alert] = []
    for home in [homes] if isinstance(homes, int) else homes:
        page = await reader.search(SearchPlan("Task", (condition,), home=home, count=MOST))
        alerts = (alert_of(parse(stored.whole())) for stored in page.matches)
        found += [one for one in alerts if one is not None and one.institution == institution]
    return sorted(found, key=lambda one: (one.at, one.id), reverse=True)
