"""What reading documents costs: `python -m bench.cda`. One process, one core, no store.

A laboratory report of WS/T 500 of about 100 KB: parsed, its header read, mapped to resources, and
shown as a page. `--profile` prints where the time goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import NamedTuple

from fhir_gateway.mapping.cda import map_cda, read_cda
from fhir_gateway.mapping.cda_html import page
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings

AIM = 100  # documents of 100 KB a second, parsed
SIZE = 100_000
MAPPINGS = Settings().mappings
HOSPITAL = Institution(id="bench", name="示范医院")

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<templateId root="2.16.156.10011.2.1.1.27"/><id root="2.16.156.10011.1.1" extension="B1"/>
<code code="C0007" codeSystem="2.16.156.10011.2.4"/><title>检验报告</title>
<effectiveTime value="20261118113100"/><recordTarget><patientRole>
<id root="2.16.156.10011.1.13" extension="700123"/><id root="2.16.156.10011.1.33" extension="R1"/>
<patient><name>示例甲</name><administrativeGenderCode code="1"/><birthTime value="19580312"/>
</patient></patientRole></recordTarget>
<legalAuthenticator><time value="20261118113000"/><assignedEntity><assignedPerson>
<name>审核员乙</name></assignedPerson></assignedEntity></legalAuthenticator>
<component><structuredBody><component><section><code code="30954-2"/><text/>"""
_ITEM = """<entry><organizer classCode="CLUSTER" moodCode="EVN"><code code="SHQT"/><component>
<observation classCode="OBS" moodCode="EVN"><code code="DE04.30.019.00"/>
<value xsi:type="CD" code="X{n}" displayName="项目{n}"/><entryRelationship typeCode="COMP">
<observation><code code="DE04.50.134.00"/><effectiveTime><low value="202611180812"/>
<high value="202611180900"/></effectiveTime><value xsi:type="ST">血清</value></observation>
</entryRelationship><entryRelationship typeCode="COMP"><observation>
<code code="DE04.30.015.00"/><value xsi:type="REAL" value="{n}.5"/><entryRelationship>
<observation><code code="DE04.30.016.00"/><value xsi:type="ST">mmol/L</value></observation>
</entryRelationship></observation></entryRelationship></observation></component></organizer>
</entry>
"""
_TAIL = "</section></component></structuredBody></component></ClinicalDocument>"


class Measured(NamedTuple):
    """One row: what is done, and how many milliseconds one document takes."""

    what: str
    milliseconds: float


def document(size: int) -> bytes:
    """A document of about this many bytes."""
    items: list[str] = []
    total = len(_HEAD) + len(_TAIL)
    while total < size:
        items.append(_ITEM.replace("{n}", str(len(items) + 1)))
        total += len(items[-1].encode())
    return f"{_HEAD}{''.join(items)}{_TAIL}".encode()


def measure(raw: bytes, seconds: float) -> list[Measured]:
    """The rows of the table."""
    parsed = parse_document(raw)
    read = read_cda(parsed, mappings=MAPPINGS)
    work: dict[str, Callable[[], object]] = {
        "parse": lambda: parse_document(raw),
        "read the header": lambda: read_cda(parsed, mappings=MAPPINGS),
        "map to resources": lambda: map_cda(read, HOSPITAL, mappings=MAPPINGS),
        "show as a page": lambda: page(parsed, read.header, read.tables),
    }
    return [Measured(what, _each(function, seconds) * 1000) for what, function in work.items()]


def _each(function: Callable[[], object], seconds: float) -> float:
    """Seconds of processor time of one call, of as many as the time allows."""
    function()
    count, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        function()
        count += 1
    return spent / max(count, 1)


def whole(raw: bytes) -> object:
    """All that the door does before the store."""
    return map_cda(read_cda(parse_document(raw), mappings=MAPPINGS), HOSPITAL, mappings=MAPPINGS)


def main() -> None:
    """Prints the table, or the profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row")
    parser.add_argument("--size", type=int, default=SIZE, help="bytes of the document")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    chosen = parser.parse_args()
    raw = document(chosen.size)
    if chosen.profile:
        whole(raw)
        profile = cProfile.Profile()
        profile.runcall(lambda: [whole(raw) for _ in range(20)])
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)
        return
    print(f"| one document of {len(raw):,} bytes | ms | per second |\n| --- | --- | --- |")
    for row in measure(raw, chosen.seconds):
        print(f"| {row.what} | {row.milliseconds:.2f} | {1000 / row.milliseconds:.0f} |")
    each = _each(lambda: whole(raw), chosen.seconds) * 1000
    print(f"| all before the store | {each:.2f} | {1000 / each:.0f} (aim: {AIM} parsed) |")


if __name__ == "__main__":
    main()
