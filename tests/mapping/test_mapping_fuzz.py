"""Messages that went wrong: each is mapped or refused with a condition, never a crash, and each has
an acknowledgement. 10,000 in CI, a million in torture."""

from __future__ import annotations

from collections import Counter

import pytest
from effort import TORTURE
from mapping_cases import SECOND, TABLES
from mutations import mutants, seeds

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import issues
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_ack import CONDITIONS, acknowledge, by_mode, read_header, refuse
from fhir_gateway.mapping.v2_adt import Statement
from fhir_gateway.mapping.v2_messages import map_message

BATCHES, EACH = (200, 5_000) if TORTURE else (10, 1_000)
GOLDENS = seeds()
OTHERS = frozenset({"s9", "2.999.9"})

#: Of so many mapped messages one is judged by the definitions of FHIR.
JUDGED = 25


def outcome_of(raw: bytes) -> tuple[str, bytes, list[dict[str, object]]]:
    """The code of table 0008, the acknowledgement, and what was made."""
    header = read_header(raw)
    try:
        message = parse(raw, default_charset=SECOND.charset, folder=TABLES)
        header = read_header(raw, message.decoded.codec)
        mapped = map_message(message, SECOND, folder=TABLES, others=OTHERS)
    except GatewayError as error:
        assert error.status < 500
        assert error.condition in CONDITIONS
        answer = refuse(header, error, time="20261118120000+0800", control_id="1")
        return error.acknowledgement, answer, []
    statement = isinstance(mapped, Statement)
    answer = acknowledge(
        header, time="20261118120000+0800", control_id="1", warnings=mapped.warnings,
        orders=() if statement else mapped.orders,
    )  # fmt: skip
    return "AA", answer, [] if statement else mapped.resources


def check_answer(raw: bytes, code: str, answer: bytes) -> None:
    """An acknowledgement that its receiver can read, whatever it acknowledges."""
    header = read_header(raw)
    lines = answer.split(b"\r")
    sign = lines[0][3:4]
    assert lines[0].startswith(b"MSH")
    assert lines[1].split(sign)[:2] == [b"MSA", code.encode()]
    assert all(line[:3] in (b"MSH", b"MSA", b"ERR", b"ORC") for line in lines[:-1])
    assert b"\x0b" not in answer and b"\x1c" not in answer
    codec = read_header(answer).codec
    for body in by_mode(header._replace(codec=codec), answer, stored=code == "AA"):
        assert body.startswith(b"MSH")


def _whole(resource: dict[str, object]) -> dict[str, object]:
    """An Encounter gets its status from what is stored, where a message says none."""
    if resource["resourceType"] != "Encounter":
        return resource
    return {"status": "unknown", **resource}


@pytest.mark.parametrize("seed", range(BATCHES))
def test_whatever_comes_is_mapped_or_refused(seed: int) -> None:
    found: Counter[str] = Counter()
    for raw in mutants(seed, EACH, GOLDENS):
        code, answer, resources = outcome_of(raw)
        check_answer(raw, code, answer)
        found[code] += 1
        if resources and found["AA"] % JUDGED == 0:
            assert [issue for one in resources for issue in issues(_whole(one))] == []
    assert set(found) == {"AA", "AE", "AR"}, "the mutations reach all outcomes"
