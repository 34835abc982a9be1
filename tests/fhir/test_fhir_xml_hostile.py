"""XML that wants to do harm is refused in one sentence, before it is worked on."""

from __future__ import annotations

import random
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from minimal import minimal
from xml_cases import generated

from fhir_gateway.errors import GatewayError, Structure, TooLong
from fhir_gateway.fhir import xml_parse
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.fhir.xhtml import canonical_text
from fhir_gateway.fhir.xml_parse import parse_xml
from fhir_gateway.fhir.xml_read import json_of, read_xml
from fhir_gateway.fhir.xml_write import write_xml

NS = 'xmlns="http://hl7.org/fhir"'
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))


def _doctype(inside: str, name: str = "x") -> str:
    value = f'<Patient {NS}><language value="&{name};"/></Patient>'
    return f'<?xml version="1.0"?>\n<!-- c --><!DOCTYPE Patient {inside}>{value}'


@pytest.mark.parametrize(
    "body",
    [
        _doctype(f'[<!ENTITY l0 "ha">{LAUGHS}]', "l11"),
        _doctype('[<!ENTITY x SYSTEM "file:///etc/passwd">]'),
        _doctype('[<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]'),
        _doctype('[<!ENTITY % p SYSTEM "http://127.0.0.1:9/x"> %p;]'),
        _doctype('SYSTEM "http://127.0.0.1:9/x.dtd"'),
        _doctype(f'[<!ENTITY x "{"x" * 10_000}">]'),
        _doctype('[<!ATTLIST Patient id ID "x">]', "lt"),
        f" \n<?pi?>\n<!DOCTYPE Patient><Patient {NS}/>",
    ],
    ids=["laughs", "file", "network", "parameter", "external", "quadratic", "defaults", "late"],
)
def test_a_document_type_is_not_taken(body: str) -> None:
    with pytest.raises(Structure) as refusal:
        read_xml(body.encode())
    assert refusal.value.issues[0].rule == "dtd"


def test_the_word_doctype_elsewhere_is_only_a_word() -> None:
    inside = '<language value="&lt;!DOCTYPE"/><!-- <!DOCTYPE x> -->'
    assert read_xml(f"<!-- <!DOCTYPE x> --><Patient {NS}>{inside}</Patient>".encode())


@pytest.mark.parametrize(
    ("body", "says", "rule"),
    [
        (b"", "no XML element", "xml"),
        (b"  ", "", "xml"),
        (b"{}", "no XML element", "xml"),
        (b"<Patient", "line 1, column ", "xml"),
        (f"<Patient {NS}>\n<active></Patient>".encode(), "line 2, column ", "xml"),
        (f"<Patient {NS}/><Patient {NS}/>".encode(), "goes on after its root", "xml"),
        (f'<Patient {NS} id="1" id="2"/>'.encode(), "stands twice", "xml"),
        (f"<Patient {NS}>&nbsp;</Patient>".encode(), "no such entity", "xml"),
        (f"<Patient {NS}><x:active/></Patient>".encode(), "prefix has no namespace", "xml"),
        (f'<Patient {NS}><language value="&#1;"/></Patient>'.encode(), "does not allow", "xml"),
        (f'<Patient {NS}><language value="a<b"/></Patient>'.encode(), "write &lt;", "xml"),
        (f"<Patient {NS} a=1/>".encode(), "value in quotes", "xml"),
        (f'<Patient {NS}><language value="\xff"/></Patient>'.encode("latin-1"), "not UTF-8",
         "encoding"),
        (f'<?xml version="1.0"?><Patient {NS}/>'.encode("utf-16"), "UTF-16", "encoding"),
        (f'<?xml version="1.0"?><Patient {NS}/>'.encode("utf-16-le"), "UTF-16", "encoding"),
        (f'<?xml version="1.0"?><Patient {NS}/>'.encode("utf-32"), "UTF-32", "encoding"),
        (f'<?xml version="1.0" encoding="GB18030"?><Patient {NS}/>'.encode(), "says GB18030",
         "encoding"),
        (f"<?xml version='1.0' encoding='iso-8859-1'?><Patient {NS}/>".encode(),
         "says iso-8859-1", "encoding"),
        (f' <?xml version="1.0"?><Patient {NS}/>'.encode(), "not the first thing", "xml"),
    ],
)  # fmt: skip
def test_what_is_not_clean_xml_is_refused_with_its_place(body: bytes, says: str, rule: str) -> None:
    with pytest.raises(Structure) as refusal:
        read_xml(body)
    (issue,) = refusal.value.issues
    assert (issue.rule, says in issue.diagnostics) == (rule, True), issue.diagnostics


def test_deep_nesting_is_refused() -> None:
    def nested(levels: int) -> bytes:
        inside = '<extension url="u">' * levels + "</extension>" * levels
        return f"<Patient {NS}>{inside}</Patient>".encode()

    assert read_xml(nested(60))
    for levels in (64, 200):
        with pytest.raises(Structure) as refusal:
            read_xml(nested(levels))
        assert refusal.value.issues[0].rule == "depth"
    for levels in (300, 100_000):
        with pytest.raises(TooLong):
            read_xml(nested(levels))
    with pytest.raises(Structure) as refusal:  # the limit of JSON, where arrays count too
        read_resource(json_of(nested(50)))
    assert refusal.value.issues[0].rule == "depth"


def test_a_deep_narrative_is_refused_and_a_usual_one_is_not() -> None:
    def told(levels: int) -> bytes:
        space = 'xmlns="http://www.w3.org/1999/xhtml"'
        inside = "<b>" * levels + "</b>" * levels
        text = f'<text><status value="additional"/><div {space}>{inside}</div></text>'
        return f"<Patient {NS}>{text}</Patient>".encode()

    assert read_resource(json_of(told(200)))
    with pytest.raises(TooLong):
        read_xml(told(300))


def test_many_tags_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    body = f"<Patient {NS}>{'<a/>' * xml_parse.MAX_NODES}</Patient>".encode()
    tracemalloc.start()
    with pytest.raises(TooLong) as refusal:
        read_xml(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refusal.value.issues[0].rule == "xml-size"
    assert peak < 10_000_000
    monkeypatch.setattr(xml_parse, "MAX_NODES", 10)
    with pytest.raises(TooLong):
        read_xml(f"<Patient {NS} {' '.join(f'a{n}=' for n in range(11))}/>".encode())


def test_a_value_of_ten_megabytes_is_the_largest() -> None:
    def binary(size: int) -> bytes:
        inside = f'<contentType value="a/b"/><data value="{"A" * size}"/>'
        return f"<Binary {NS}>{inside}</Binary>".encode()

    assert len(read_xml(binary(9_000_000))["data"]) == 9_000_000
    with pytest.raises(TooLong):
        read_xml(binary(11_000_000))


def test_nothing_is_fetched_and_nothing_is_included(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    inside = (
        f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{secret}" parse="text"/>'
    )
    with pytest.raises(GatewayError) as refusal:
        read_xml(f"<Patient {NS}>{inside}</Patient>".encode())
    assert "SECRET" not in str(refusal.value)


def test_the_parser_is_loaded_when_xml_first_comes() -> None:
    program = (
        "import sys, fhir_gateway.fhir.xml_read as read, fhir_gateway.fhir.xml_write;"
        "before = 'lxml' in sys.modules;"
        f"read.read_xml(b'<Patient {NS}/>');"
        "print(before, 'lxml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == [b"False", b"True"]


# -- broken documents of every kind ---------------------------------------------------------------

_PIECES = [
    "<", ">", "/", '"', "&", "&amp;", "&#0;", "]]>", "<![CDATA[", "<!--", "-->", "<?x", "?>",
    "<!DOCTYPE a>", " xmlns=''", " value=''", "<a>", "</a>", "<extension url='u'/>",
    "<id value='x'/>", "<div xmlns='http://www.w3.org/1999/xhtml'/>", "\x00", "\ud7ff", "甲",
]  # fmt: skip


@given(st.data())
@settings(max_examples=examples(150))
def test_whatever_comes_is_read_or_refused(data: st.DataObject) -> None:
    type = data.draw(st.sampled_from(definitions().resource_types))
    seed = data.draw(st.integers(0, 1_000))
    whole = write_xml(generated(type, random.Random(seed)) if seed % 3 else minimal(type)).decode()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(whole)))
        end = min(len(whole), start + data.draw(st.sampled_from([0, 0, 1, 5, 40])))
        whole = whole[:start] + data.draw(st.sampled_from(_PIECES)) + whole[end:]
    try:
        read_resource(json_of(whole.encode()))
    except GatewayError as error:
        assert error.status < 500


@given(st.binary(max_size=60) | st.text("<>/=&;!?[]- \"'aP", max_size=60).map(str.encode))
@settings(max_examples=examples(100))
def test_any_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(GatewayError) as refusal:
        read_xml(body)
    assert refusal.value.status < 500


# -- every way in ---------------------------------------------------------------------------------

ENTRIES = {
    "parse": parse_xml,
    "read": read_xml,
    "as json": json_of,
    "narrative": lambda body: canonical_text(body.decode("utf-8", "replace")),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_001_no_entity_brings_a_file_or_a_connection(entry: str, tmp_path: Path) -> None:
    """Whatever is asked, the file's words are nowhere and nothing is opened or called."""
    secret = tmp_path / "canary.txt"
    secret.write_text("CANARY-OF-A-FILE")
    bodies = [
        _doctype(f'[<!ENTITY x SYSTEM "{secret.as_uri()}">]'),
        _doctype(f'[<!ENTITY % p SYSTEM "{secret.as_uri()}"> %p;]'),
        _doctype(f'SYSTEM "{secret.as_uri()}"'),
        _doctype('[<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]'),
        f'<?xml-stylesheet href="{secret.as_uri()}"?><Patient {NS}/>',
        f'<Patient {NS} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="http://hl7.org/fhir {secret.as_uri()}"/>',
    ]
    opened: list[str] = []
    WATCHES.append(opened)
    try:
        for body in bodies:
            try:
                said = str(ENTRIES[entry](body.encode()))
            except GatewayError as error:
                assert error.status in {400, 422}
                said = str(error)
            assert "CANARY-OF-A-FILE" not in said
    finally:
        WATCHES.remove(opened)
    assert [one for one in opened if "canary" in one or "socket" in one] == []


#: Lists that hear which files and connections this process opens; a hook cannot be taken off.
WATCHES: list[list[str]] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if WATCHES and event in ("open", "socket.connect", "socket.getaddrinfo"):
        for one in WATCHES:
            one.append(f"{event} {arguments[0]!r} {arguments[-1]!r}")


sys.addaudithook(_watch)


@pytest.mark.parametrize(
    "prolog",
    ['<?xml-stylesheet type="text/xsl" href="x.xsl"?>', "<!-- c --><?XML-Stylesheet x?>"],
)
def test_002_a_stylesheet_is_not_taken(prolog: str) -> None:
    with pytest.raises(Structure) as refusal:
        read_xml(f"{prolog}<Patient {NS}/>".encode())
    assert refusal.value.issues[0].rule in ("stylesheet", "xml")


@pytest.mark.parametrize("entry", ENTRIES)
def test_003_a_bomb_takes_no_memory(entry: str) -> None:
    quadratic = _doctype(f'[<!ENTITY x "{"x" * 50_000}">]').replace("&x;", "&x;" * 10_000)
    for body in (_doctype(f'[<!ENTITY l0 "ha">{LAUGHS}]', "l11"), quadratic):
        tracemalloc.start()
        with suppress(GatewayError):
            assert len(str(ENTRIES[entry](body.encode()))) < 2 * len(body)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 32_000_000


@pytest.mark.parametrize("number", [101, 100_000])
@pytest.mark.parametrize("name", ['a{0}="x"', 'xmlns:n{0}="urn:{0}"', "a{0}\n=\n'x'"])
@pytest.mark.parametrize("before", ["", '<active value="true"/><!-- c -->', "甲<a b='>'/>"])
def test_005_a_tag_has_a_hundred_attributes_at_most(number: int, name: str, before: str) -> None:
    crowd = " ".join(name.format(count) for count in range(number))
    with pytest.raises(TooLong) as refusal:
        parse_xml(f"<Patient {NS}>{before}<x {crowd}/></Patient>".encode())
    assert refusal.value.issues[0].rule == "xml-size"
    assert "CROWD" not in canonical_text(f'<div xmlns="urn:x"><p {crowd}>CR</p></div>')


def test_005_a_hundred_attributes_are_not_too_many() -> None:
    crowd = " ".join(f'a{count}="x=y > \'z"' for count in range(99))
    assert len(parse_xml(f"<Patient {NS} {crowd}/>".encode()).attrib) == 99
