"""JSON on the wire: what is refused, what is kept, and the split into identity and tail."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Structure
from fhir_gateway.fhir.wire import instant, parse, render, splice, tail

CONTROL = "".join(map(chr, range(32)))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL))
NUMBER = st.from_regex(r"\A-?(0|[1-9][0-9]{0,9})\.[0-9]{1,9}\Z|\A[1-9](\.[0-9])?[eE][+-]?[0-9]\Z")
JSON = st.recursive(
    st.booleans() | st.integers(-(10**30), 10**30) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=examples(80), deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_parse_is_the_inverse_of_render(value: dict[str, Any]) -> None:
    assert parse(render(value)) == value


@settings(max_examples=examples(80), deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_parse_agrees_with_another_reader_however_it_is_written(
    value: dict[str, Any], ascii: bool, indent: int | None
) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii, indent=indent).encode()) == value


@settings(max_examples=examples(150), deadline=None)
@given(NUMBER)
def test_numbers_come_back_as_they_were_spelled(spelling: str) -> None:
    raw = f'{{"a":[{spelling}]}}'.encode()
    parsed = parse(raw)
    assert render(parsed) == raw
    assert parsed["a"][0] == Decimal(spelling)
    assert str(parsed["a"][0]) == spelling


@settings(max_examples=examples(80), deadline=None)
@given(st.dictionaries(TEXT, JSON, min_size=1, max_size=4), st.data())
def test_member_that_stands_twice_is_refused_wherever_it_is(
    value: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(value)))
    twice = json.dumps(name, ensure_ascii=data.draw(st.booleans()))
    inner = render(value)[:-1] + f",{twice}:1}}".encode()
    with pytest.raises(Structure) as refusal:
        parse(b'{"a":[%b]}' % inner)
    assert [issue.rule for issue in refusal.value.issues] == ["duplicate-key"]


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"", "json"),
        (b"null", "json-object"),
        (b"[]", "json-object"),
        (b'{"a":1}{', "json"),
        (b'{"a":01}', "json"),
        (b'{"a":.5}', "json"),
        (b"{'a':1}", "json"),
        (b'{"a":1,}', "json"),
        (b'{"a":NaN}', "json"),
        (b'{"a":"\xff"}', "encoding"),
        (b'{"a":"\xc0\x80"}', "encoding"),
        (b'{"a":"\xed\xa0\x80"}', "encoding"),
        ('{"a":"血糖"}'.encode("gb18030"), "encoding"),
        ('{"a":1}'.encode("utf-16"), "json"),
        (b'{"a":"\\u0000"}', "control-character"),
        (b'{"a":"\\u001B[31m"}', "control-character"),
        (b'{"a":"\\b"}', "control-character"),
        (b'{"\\u0007":1}', "control-character"),
        (b'{"a":1e309}', "number-range"),
        (b'{"a":1E+400}', "number-range"),
        (b'{"a":1e-400}', "number-range"),
        (b'{"a":%b}' % (b"1" * 41), "number-length"),
        (b'{"a":%b}' % (b"1" * 5000), "number-length"),
        (b'{"a":1.%b}' % (b"1" * 40), "number-length"),
        (b'{"a":1,"a":-0}', "duplicate-key"),
        (b'{"a":"\\u0022:","\\u0061":2}', "duplicate-key"),
        (b'{"a":%b1%b}' % (b"[" * 64, b"]" * 64), "depth"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "depth"),
        (b"[" * 1_000_000, "depth"),
    ],
)
def test_body_that_is_not_one_clean_object_is_refused(body: bytes, rule: str) -> None:
    with pytest.raises(Structure) as refusal:
        parse(body)
    assert [issue.rule for issue in refusal.value.issues] == [rule]


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":%b1%b}' % (b"[" * 63, b"]" * 63),
        b'{"a":%b}' % (b"1" * 40),
        b'{"a":"tab\\t line\\n return\\r \\/ \\" \\u4e2d"}',
        b'{"a":"\\\\u0000 is spelled out"}',
        b'{"a":"%b"}' % (b"1" * 100),
        b'{"a":"x\\":y"}',
    ],
)
def test_body_at_the_edge_is_read(body: bytes) -> None:
    assert parse(body) == json.loads(body)


def test_byte_order_mark_is_skipped() -> None:
    assert parse(b'\xef\xbb\xbf{"a":1}') == {"a": 1}


def test_refusal_does_not_quote_the_body() -> None:
    with pytest.raises(Structure) as refusal:
        parse('{"a":1,"身份证 110":2,"身份证 110":3}'.encode())
    assert refusal.value.issues[0].diagnostics == "a key stands twice in one object"


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Basic", "id": "b"}, b"}}"),
        ({"resourceType": "Basic", "id": "b", "meta": {"versionId": "7"}}, b"}}"),
        (
            {
                "resourceType": "Basic",
                "id": "b",
                "meta": {"lastUpdated": "x", "tag": [{"code": "t"}]},
            },
            b',"tag":[{"code":"t"}]}}',
        ),
        ({"resourceType": "Basic", "id": "b", "language": "zh"}, b'},"language":"zh"}'),
    ],
)
def test_tail_is_what_follows_identity_and_version(
    resource: dict[str, Any], expected: bytes
) -> None:
    assert tail(resource) == expected


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(TEXT, JSON, max_size=4), st.dictionaries(TEXT, JSON, max_size=3))
def test_splice_is_the_inverse_of_tail(others: dict[str, Any], meta: dict[str, Any]) -> None:
    identity = {"resourceType": "Basic", "id": "b-1"}
    version = {"versionId": "3", "lastUpdated": "2026-05-01T00:00:00.000Z"}
    whole = {**others, **identity, "meta": {**meta, **version}}
    assert parse(splice("Basic", "b-1", 3, 1_777_593_600_000_000, tail(whole))) == whole


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_777_593_600_123_456, "2026-05-01T00:00:00.123Z"),
        (-1_000, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_instant_is_utc_to_the_millisecond(us: int, text: str) -> None:
    assert instant(us) == text
