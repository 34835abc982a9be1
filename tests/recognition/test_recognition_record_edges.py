"""What a record and a sentence say where little is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from recognition_cases import CATALOGUE, query

from fhir_gateway.recognition.legible import legible
from fhir_gateway.recognition.model import Decision, Line
from fhir_gateway.recognition.record import Inputs, Occasion, Sources, render_tail


@pytest.mark.parametrize(("stale", "told"), [("h1 h2", True), ("", False)])
def test_a_record_names_stale_sources_only_where_there_are_any(stale: str, told: bool) -> None:
    decided = Decision((), "", 0, 0)
    tail = render_tail(Inputs(query()), decided, Occasion("order-sign"), Sources(3, stale))
    assert (b'"name":"stale","valueString":"h1 h2"' in tail) is told
    assert b'"name":"sources","valueInteger":3' in tail


def test_a_sentence_names_an_item_and_leaves_what_has_no_name() -> None:
    code, entry = next(iter(CATALOGUE.items.items()))
    names = cast(Any, SimpleNamespace(catalogue=CATALOGUE))
    lines = [Line("wider-examination@1", "fail", "", "information", "", "", {"item": one})
             for one in (code, "no-such-item")]  # fmt: skip
    told = [legible(line, names).values["item"] for line in lines]
    assert told == [entry.name_zh, "no-such-item"]
