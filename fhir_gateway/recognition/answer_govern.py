"""Answers and alerts are written by the gateway alone: no PUT, PATCH, DELETE or transaction does.

What an institution answered is evidence, and what it was told is, too. They change by $answer, by
feedback and by $acknowledge, which keep every version. Runs on the one path of every write.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.recognition.answer_model import ANSWER_SYSTEM, TASK_SYSTEM
from fhir_gateway.recognition.answer_task import answer_of, task_code
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader

_MARKERS = (TASK_SYSTEM.encode(), ANSWER_SYSTEM.encode())


async def govern(
    gateway: Gateway, reader: Reader, actor: Actor, steps: Sequence[Step], guards: Guards
) -> None:
    """Raises Forbidden for a step that would write an answer or an alert, whoever asks."""
    for step in steps:
        if step.type not in ("Task", "Communication") or step.matched:
            continue
        if _is_ours(step):
            text = (
                "The gateway alone writes doctors' answers and alerts: answer by "
                "GuidanceResponse/[id]/$answer or feedback, close alerts by Task/[id]/$acknowledge"
            )
            raise Forbidden(text, expression=step.root, rule="governed")


def _is_ours(step: Step) -> bool:
    """Whether a step says that it is an answer or alert, or changes what is one."""
    if step.resource is not None:
        if task_code(step.resource):
            return True
        if step.type == "Communication" and answer_of(step.resource) is not None:
            return True
    current = step.current
    if current is None or current.deleted or not any(one in current.tail for one in _MARKERS):
        return False
    stored = msgspec.json.decode(current.whole())
    return bool(task_code(stored)) or answer_of(stored) is not None
