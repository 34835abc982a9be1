"""Golden cases: a message in `golden/NAME.hl7`, and all that is made of it in `golden/NAME.facts`.

The facts are the whole Bundle, an element a line, ids as ordinals, so that a reviewer can read
them and a difference is one line. `PYTHONPATH=tests python tests/mapping/golden_cases.py` writes
them anew; what changes then has to be read like any other change.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from golden_lines import lines_of, shown
from mapping_cases import SECOND, TABLES

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_ack import acknowledge, read_header, refuse
from fhir_gateway.mapping.v2_adt import Statement
from fhir_gateway.mapping.v2_messages import map_message

FOLDER = Path(__file__).parent / "golden"
CASES = sorted(FOLDER.glob("*.hl7"))

#: What another registered institution calls itself.
OTHERS = frozenset({"s9", "2.999.9"})


def facts_of(raw: bytes) -> str:
    """All that the mapper makes of a message, as text."""
    header = read_header(raw)
    try:
        message = parse(raw, default_charset=SECOND.charset, folder=TABLES)
        header = read_header(raw, message.decoded.codec)
        mapped = map_message(message, SECOND, folder=TABLES, others=OTHERS)
    except GatewayError as error:
        answer = refuse(header, error, time="NOW", control_id="1")
        return "\n".join(("refused", *_answer(answer, header.codec))) + "\n"
    orders = () if isinstance(mapped, Statement) else mapped.orders
    answer = acknowledge(
        header, time="NOW", control_id="1", warnings=mapped.warnings, orders=orders
    )
    lines = [*_answer(answer, header.codec), *_made(mapped)]
    return f"codec {message.decoded.codec}\n" + "\n".join(lines) + "\n"


def _answer(answer: bytes, codec: str) -> Iterator[str]:
    """The acknowledgement but for its header, which has a time."""
    for segment in answer.decode(codec).split("\r")[1:]:
        if segment:
            yield segment


def _made(mapped: Any) -> Iterator[str]:
    if isinstance(mapped, Statement):
        for pair in mapped.pairs:
            yield f"{mapped.verb} {pair.goes.place} -> {pair.stays.place}"
            yield f"  goes: {shown(pair.goes.stated, {})}"
            yield f"  stays: {shown(pair.stays.stated, {})}"
        return
    yield from lines_of(mapped.resources)
    for report in mapped.reports:
        if report.finalised:
            yield f"finalised {len(report.finalised)}"
        if report.removed:
            yield f"removed {len(report.removed)}"


def write(path: Path, text: str) -> None:
    """Writes facts beside their message."""
    path.with_suffix(".facts").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for case in CASES:
        write(case, facts_of(case.read_bytes()))
