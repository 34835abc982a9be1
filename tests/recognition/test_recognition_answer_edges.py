"""Stored Tasks that are odd: read as far as they say something, counted as nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_gateway.recognition.answer_figures import Figures, add
from fhir_gateway.recognition.answer_model import ANSWER, LINE_SYSTEM, coding, concept
from fhir_gateway.recognition.answer_rows import moment
from fhir_gateway.recognition.answer_task import answer_of


def task(*identifiers: dict[str, Any], state: str = "accepted") -> dict[str, Any]:
    return {
        "resourceType": "Task",
        "id": "t",
        "identifier": list(identifiers),
        "code": concept(ANSWER, task=True),
        "businessStatus": {"coding": [coding(state)]},
    }


def line(value: str) -> dict[str, Any]:
    return {"system": LINE_SYSTEM, "value": value}


@pytest.mark.parametrize("value", ["d", "d#", "d#first", ""])
def test_an_order_line_without_a_number_is_none(value: str) -> None:
    lost = answer_of(task(line(value)))
    assert lost is not None
    assert (lost.decision, lost.line) == ("", 0)
    found = answer_of(task({"system": "urn:other", "value": "o#9"}, line(value), line("d#2")))
    assert found is not None
    assert (found.decision, found.line) == ("d", 2)


def test_an_answer_of_a_state_that_is_not_known_is_counted_as_nothing() -> None:
    figures = Figures()
    for state in ("of-a-later-release", "accepted"):
        answer = answer_of(task(line("d#0"), state=state))
        assert answer is not None
        assert answer.state == ("accepted" if state == "accepted" else "")
        add(figures, answer, {})
    assert figures == Figures(recognised=1)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-31", "2026-13"])
def test_what_is_no_time_is_the_moment_zero(text: str) -> None:
    assert moment(text) == 0


def test_a_time_is_its_first_moment() -> None:
    assert moment("1970-01-01T00:00:01Z") == 1_000_000
