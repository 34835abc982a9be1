"""Narratives: one form, nothing that runs (hl7.org/fhir/R4/narrative.html)."""

from __future__ import annotations

import pytest

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.primitives import checker
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.xhtml import canonical_text
from fhir_gateway.fhir.xml_read import json_of, read_xml
from fhir_gateway.fhir.xml_write import write_xml

SPACE = 'xmlns="http://www.w3.org/1999/xhtml"'


def _xml(div: str) -> bytes:
    text = f'<text><status value="additional"/>{div}</text>'
    return f'<Patient xmlns="http://hl7.org/fhir" xmlns:x="urn:x">{text}</Patient>'.encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<p>x</p>", "<p>x</p>"),
        (" \n x ", " \n x "),
        ("<br></br><hr/><td/><p></p>", "<br/><hr/><td></td><p></p>"),
        ("<p class='a\"b'>'\"&gt;</p>", '<p class="a&quot;b">\'"&gt;</p>'),
        ("<!-- c --><p>x<?pi?>y</p>", "<p>xy</p>"),
        ("&#160;&#x7532;甲", "\u00a0甲甲"),
        ("<![CDATA[<b>]]>", "&lt;b&gt;"),
        ('<p xml:lang="zh">x</p>', '<p xml:lang="zh">x</p>'),
        ('<img src="data:image/png;base64,AA=="/>', '<img src="data:image/png;base64,AA=="/>'),
        ('<a href="#x" title="a&#10;b">x</a>', '<a href="#x" title="a&#10;b">x</a>'),
        ('<td style="background: url(data:image/png;base64,AA==)">x</td>',
         '<td style="background: url(data:image/png;base64,AA==)">x</td>'),
    ],
)  # fmt: skip
def test_a_narrative_has_one_form(given: str, expected: str) -> None:
    div = read_xml(_xml(f"<div {SPACE}>{given}</div>"))["text"]["div"]
    assert div == f"<div {SPACE}>{expected}</div>"
    assert checker("xhtml")(div)
    assert canonical_text(div) == div
    assert div.encode() in write_xml(read_xml(_xml(div)))


def test_a_prefix_makes_no_difference() -> None:
    prefixed = '<h:div xmlns:h="http://www.w3.org/1999/xhtml" class="a"><h:br/>x<h:p/></h:div>'
    expected = f'<div {SPACE} class="a"><br/>x<p></p></div>'
    assert read_xml(_xml(prefixed))["text"]["div"] == expected
    assert canonical_text(prefixed) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("<div>a&nbsp;b&eacute;</div>", "a\u00a0bé"),
        ("<div>a<br>b</div>", "a<br/>b"),
        ("<div><p>a<p>b</div>", "<p>a</p><p>b</p>"),
        ("<div>a&zzz;b & c</div>", "a&amp;zzz;b &amp; c"),
        ("<div>\ufffe</div>", "\ufffd"),
        ('<div><p v:x="1" x="2" id="3">a<br></p></div>', '<p id="3">a<br/></p>'),
        ('<div><p xmlns:v="urn:v" v:x="1">a</p></div>', "<p>a</p>"),
        ("<div>a<b></div>", "a<b></b>"),
    ],
)
def test_what_json_lets_in_goes_out_as_xml(given: str, expected: str) -> None:
    assert canonical_text(given) == f"<div {SPACE}>{expected}</div>"
    resource = {"resourceType": "Patient", "text": {"status": "additional", "div": given}}
    assert read_resource(json_of(write_xml(resource)))["text"]["div"] == canonical_text(given)


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("<script>x</script>", "element script"),
        ("<SCRIPT>x</SCRIPT>", "element SCRIPT"),
        ("<style>p {}</style>", "element style"),
        ('<link rel="stylesheet" href="http://x.example/a.css"/>', "element link"),
        ("<iframe/><object/><embed/>", "element iframe"),
        ("<form><input/></form>", "element form"),
        ("<base href='x'/>", "element base"),
        ("<svg/>", "element svg"),
        ('<svg xmlns="http://www.w3.org/2000/svg"/>', "outside"),
        ('<p xmlns="">x</p>', "outside"),
        ('<p onclick="x">a</p>', "event handler"),
        ('<p ONCLICK="x">a</p>', "event handler"),
        ('<a href="javascript:x">a</a>', "script"),
        ('<a href=" java&#10;script:x">a</a>', "script"),
        ('<a href="VBScript:x">a</a>', "script"),
        ('<a href="data:text/html,x">a</a>', "script"),
        ('<p style="background:url(http://x.example/a)">a</p>', "style"),
        ('<p style="background:URL( //x.example/a)">a</p>', "style"),
        ('<p style="width:expression(x)">a</p>', "style"),
        ('<p style="\\75rl(http://x)">a</p>', "style"),
        ('<p style="@import x">a</p>', "style"),
        ('<a x:href="y">a</a>', "another namespace"),
        ("<甲/>", "element (name)"),
    ],
)
def test_what_runs_or_fetches_is_refused(inside: str, says: str) -> None:
    with pytest.raises(Unprocessable) as refusal:
        read_xml(_xml(f"\n<div {SPACE}>\n{inside}</div>"))
    issue = refusal.value.issues[0]
    assert (issue.expression, issue.rule) == ("Patient.text.div", "xhtml")
    assert issue.diagnostics.startswith("line 3: ")
    assert says in issue.diagnostics
