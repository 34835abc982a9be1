"""A gateway that keeps no audit, as the benchmark builds one: the same answers, and no events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from city import POTASSIUM, City
from test_recognition_flow_ask import RECEIVER, question
from test_recognition_flow_past import moment

from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition.answer import Reply, record_answers
from fhir_gateway.recognition.answer_fetch import fetch_document
from fhir_gateway.recognition.ask import ask
from fhir_gateway.recognition.prior_results import PriorQuestion, prior_results
from fhir_gateway.recognition.relied import acknowledge_alert, open_alerts
from fhir_gateway.recognition.replay import replay_decision
from fhir_gateway.security.actor import SYSTEM_ACCESS

pytestmark = pytest.mark.drivers("sqlite")


def test_what_is_answered_is_the_same_and_no_event_is_kept(city: City) -> None:
    patient = city.patient()
    observation = city.result(patient)
    city.recognize(patient, POTASSIUM)
    then = date_range(moment(city))[0]
    bare = replace(city.gateway, audit=False)
    before = events(city)

    async def all_of_it() -> list[Any]:
        answer = await ask(bare, RECEIVER, question(patient, POTASSIUM))
        past = await ask(bare, RECEIVER, question(patient, POTASSIUM, as_of=then))
        reply = Reply("x", answer.id, None, "accepted")
        (kept,) = await record_answers(bare, RECEIVER, [reply], operation="$answer")
        document = await fetch_document(bare, RECEIVER, kept.answer.id)
        prior = await prior_results(bare, RECEIVER, PriorQuestion(patient, "receiver"))
        again = await replay_decision(bare, RECEIVER, answer.id)
        outcomes = [one.decision.items[0].outcome for one in (answer, past)]
        return [outcomes, document == kept.document, prior.total, again.verdict]

    assert city.running.run(all_of_it()) == [["recognize", "recognize"], True, 1, "agrees"]
    city.running.delete(f"/fhir/{observation}", headers=city.sender)

    async def close() -> Any:
        async with bare.store.snapshot(SYSTEM_ACCESS) as reader:
            (alert,) = [o for o in await open_alerts(reader, "receiver") if o.patient == patient]
        return await acknowledge_alert(bare, RECEIVER, alert.id, by="示例医师")

    assert city.running.run(close()).closed_by == "示例医师"
    assert events(city) == before + 1  # the deletion, which came by HTTP


def events(city: City) -> int:
    async def count() -> int:
        async with city.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return len(await reader.changes(type="AuditEvent", limit=1_000))

    counted: int = city.running.run(count())
    return counted
