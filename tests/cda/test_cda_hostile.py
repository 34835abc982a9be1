"""Documents made to harm, and good ones with damage: refused or read, never a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cda_cases import MAPPINGS, SECOND, exam, item, lab, results_document, section, taken
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from running import Running

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.validate import issues
from fhir_gateway.fhir.wire import parse as parse_json
from fhir_gateway.fhir.wire import render
from fhir_gateway.mapping.cda import map_cda, read_cda
from fhir_gateway.mapping.cda_html import page
from fhir_gateway.mapping.cda_parse import parse_document

BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
)
FILE = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]>'
REMOTE = '<!DOCTYPE x SYSTEM "http://192.0.2.1/x.dtd">'


@pytest.mark.parametrize("prolog", [BOMB, FILE, REMOTE])
@pytest.mark.parametrize("after", ["", '<?xml-stylesheet href="a.xsl"?>'])
def test_004_a_document_type_is_refused(prolog: str, after: str) -> None:
    for raw in (lab(prolog=prolog + after), lab(prolog=after + prolog)):
        with pytest.raises(GatewayError) as caught:
            parse_document(raw)
        assert caught.value.issues[0].rule in ("dtd", "xml")


def test_004_an_entity_in_gb_18030_is_refused_too() -> None:
    raw = lab(prolog=BOMB).decode().replace('"UTF-8"', '"GB18030"', 1).encode("gb18030")
    with pytest.raises(GatewayError) as caught:
        parse_document(raw)
    assert caught.value.issues[0].rule == "dtd"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"", 400),
        (b"\x00\x01\x02", 400),
        (lab()[:1_500], 400),
        (lab().decode().encode("utf-16"), 400),
        (lab().replace(b"UTF-8", b"GBK", 1) + b"\xff\xff", 400),
        (lab("<observation>" * 300 + "</observation>" * 300), 413),
        (lab().replace(b"urn:hl7-org:v3", b"urn:other"), 400),
        (lab(item() + "<a " + "x".join(f'b{n}="" ' for n in range(200)) + "/>"), 413),
    ],
)
def test_what_is_no_clean_document_is_refused(raw: bytes, status: int) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_document(raw)
    assert caught.value.status == status


def test_deep_sections_and_narratives_are_read_and_shown() -> None:
    deep = "<content>" * 200 + "底" + "</content>" * 200
    raw = exam(section("10154-3", text=f"<text>{deep}</text>"))
    document = parse_document(raw)
    read = read_cda(document, mappings=MAPPINGS)
    assert "底" in page(document, read.header, read.tables)


NASTY = [
    "<script>alert(1)</script>", '<content onclick="x()">a</content>', '<linkHtml href="data:x"/>',
    '<renderMultiMedia referencedObject="a&quot; onerror=&quot;x"/>', "<svg><style/></svg>",
    '<table styleCode="expression(1)"><tr><td>&lt;script&gt;</td></tr></table>',
    '<h:script xmlns:h="http://www.w3.org/1999/xhtml">alert(1)</h:script>',
    "<content><![CDATA[<img src=x onerror=alert(1)>]]></content>",
    "<caption>&lt;/style&gt;&lt;script&gt;</caption>",
]  # fmt: skip


@pytest.mark.parametrize("nasty", NASTY)
def test_061_no_narrative_runs_or_fetches_anything(nasty: str) -> None:
    raw = exam(section("10154-3", text=f"<text>{nasty}</text>", title="x<y/>"))
    document = parse_document(raw)
    read = read_cda(document, mappings=MAPPINGS)
    shown = page(document, read.header, read.tables).replace("<style>", "", 1)
    shown = shown.replace("</style>", "", 1)
    for bad in ("<script", "<img", "<svg", "<style", " onclick=", "href="):
        assert bad not in shown


# -- damage ----------------------------------------------------------------------------------------

GOOD = [
    lab(
        item(flag="异常"),
        item("GLU", "葡萄糖", quantity="", result='<value xsi:type="ST">x</value>'),
    ),
    exam(),
    results_document(
        '<section><templateId root="2.16.840.1.113883.10.20.22.2.3.1"/><entry><organizer>'
        '<id root="2.999.20"/><code code="1"/><component><observation><code code="2"/>'
        '<value xsi:type="PQ" value="4.2" unit="mmol/L"/></observation></component></organizer>'
        "</entry></section>"
    ),
]
PIECES = [b"", b'"', b"<", b">", b"&amp;", b"\xe4", b"\x00", b"nullFlavor", b"value", b"code",
          b"20261399", b"\xe9\x98\xb4", b"extension=\"\"", b"xsi:type=\"PQ\"", b"-1e9999", b"  ",
          b"<id/>", b"<observation/>", b"<effectiveTime value='x'/>", b"<!--", b"NaN"]  # fmt: skip


@some.composite
def damaged(draw: some.DrawFn) -> bytes:
    """A good document with some of its parts put elsewhere, doubled, cut or changed."""
    raw = bytearray(draw(some.sampled_from(GOOD)))
    for _ in range(draw(some.integers(1, 6))):
        start = draw(some.integers(300, len(raw) - 1))
        length = draw(some.sampled_from([0, 1, 2, 8, 40, 200]))
        kind = draw(some.sampled_from(["replace", "double", "cut", "attribute"]))
        if kind == "attribute":  # keeps the XML whole, so that the mappers see it
            first = raw.find(b'="', start)
            last = raw.find(b'"', first + 2) if first > 0 else -1
            if last > 0:
                raw[first + 2 : last] = draw(some.sampled_from(
                    [b"", b"x", b"-1", b"2.16.156.10011.1.33", b"DE04.30.019.00", b"RPLC", b"PQ",
                     b"ST", b"CD", b"IVL_PQ", b"20261118", b"9" * 400, "阴".encode()]))  # fmt: skip
        elif kind == "double":
            raw[start:start] = raw[start : start + length]
        elif kind == "cut":
            del raw[start : start + length]
        else:
            raw[start : start + length] = draw(some.sampled_from(PIECES))
    return bytes(raw)


@settings(max_examples=examples(150), suppress_health_check=list(HealthCheck))
@given(damaged())
def test_damage_is_refused_with_a_rule_or_read_soundly(raw: bytes) -> None:
    try:
        document = parse_document(raw)
        read = read_cda(document, mappings=MAPPINGS)
        page(document, read.header, read.tables)
        found = map_cda(read, SECOND, mappings=MAPPINGS)
    except GatewayError as error:
        assert error.status < 500
        assert all(issue.rule for issue in error.issues)
        return
    for resource in found.mapped.resources:
        assert not list(issues(parse_json(render(resource))))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, dict[str, str]]]:
    running = Running(tmp_path_factory.mktemp("cda") / "store.sqlite")
    yield running, running.institution("second", "示范市第二医院")
    running.close()


@settings(max_examples=examples(20), suppress_health_check=list(HealthCheck))
@given(raw=damaged())
def test_the_door_stores_damage_whole_or_not_at_all(served: Any, raw: bytes) -> None:
    running, headers = served
    body = raw.replace(b"123456789PDY00001A", b"")
    before = _count(running, headers)
    answer = running.request("POST", "/cda", content=body, headers=headers)
    assert answer.status_code < 500
    after = _count(running, headers)
    assert (after > before) <= (answer.status_code == 200)


def _count(running: Running, headers: dict[str, str]) -> int:
    found = running.get("/fhir/DocumentReference?_summary=count", headers=headers)
    return int(found.json()["total"])


# -- the samples of C-CDA --------------------------------------------------------------------------

SAMPLES = Path(__file__).resolve().parents[3] / "shared/data/samples/ccda-results"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the public samples are not beside the project")
def test_every_sample_of_c_cda_is_structured() -> None:
    files = sorted(SAMPLES.glob("*/*.xml"))
    assert len(files) == 14
    values: dict[str, int] = {}
    for file in files:
        found = taken(results_document(file.read_text(encoding="utf-8")))
        assert found.structured
        for resource in found.mapped.resources:
            assert not list(issues(parse_json(render(resource))))
            if resource["resourceType"] == "Observation":
                kind = next((name for name in resource if name.startswith("value")), "none")
                values[kind] = values.get(kind, 0) + 1
    assert values["valueQuantity"] >= 15
    assert values["none"] == 1  # the component that is pending
