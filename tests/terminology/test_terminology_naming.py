"""Identifier systems and their names: the table, its faults, and the files that are shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.security.institution import CREDIT_CODE_SYSTEM, INSTITUTION_CODE_SYSTEM
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.naming import (
    FORM_URL,
    FORMS,
    NO_NAMES,
    IdentifierSystem,
    naming_from,
    naming_of,
)
from fhir_gateway.terminology.naming_files import load_naming
from fhir_gateway.terminology.table import Table

ROOT = Path(__file__).parents[2]
SHIPPED = load_naming(ROOT / "profiles")
CARD = "urn:oid:2.16.840.1.113883.2.23.1.19.1"
NUMBER = "11010519491231002X"
SPELLINGS = [NUMBER, NUMBER.lower(), "110105 19491231 002x", "１１０１０５１９４９１２３１００２Ｘ"]


def naming_system(**changes: Any) -> dict[str, Any]:
    resource = {
        "resourceType": "NamingSystem", "id": "n", "kind": "identifier", "status": "draft",
        "uniqueId": [{"type": "uri", "value": "http://n.example/a", "preferred": True},
                     {"type": "oid", "value": "1.2.3"}],
    }  # fmt: skip
    return {name: value for name, value in {**resource, **changes}.items() if value is not ...}


@pytest.mark.parametrize(
    "system",
    [CARD, CARD.removeprefix("urn:oid:"), "urn:oid:2.16.156.10011.1.3", "2.16.156.10011.1.3",
     "URN:OID:2.16.156.10011.1.3"],
)  # fmt: skip
@pytest.mark.parametrize(
    "value",
    [NUMBER, NUMBER.lower(), "110105 19491231 002x", "１１０１０５１９４９１２３１００２Ｘ"],
)
def test_an_identity_card_is_the_same_under_every_name_and_spelling(
    system: str, value: str
) -> None:
    assert SHIPPED.normal(system, value) == (CARD, NUMBER)


@pytest.mark.parametrize(
    ("system", "value", "expected"),
    [
        ("http://h.example/mrn", "m-1x", ("http://h.example/mrn", "m-1x")),
        ("", "m-1x", ("", "m-1x")),
        ("1.2.9", "x", ("urn:oid:1.2.9", "x")),
        ("urn:oid:1.2.9", "x", ("urn:oid:1.2.9", "x")),
        ("1.02.9", "x", ("1.02.9", "x")),
        ("12", "x", ("12", "x")),
        ("urn:uuid:1", "x", ("urn:uuid:1", "x")),
        ("http://hl7.org/fhir/sid/passport-CHN", "e1234 5678",
         ("http://hl7.org/fhir/sid/passport-CHN", "E12345678")),
        ("urn:oid:2.16.840.1.113883.4.330.156", "E12345678",
         ("http://hl7.org/fhir/sid/passport-CHN", "E12345678")),
        (f"{CANONICAL}/NamingSystem/military-officer-card", "军字第 1号",
         (f"{CANONICAL}/NamingSystem/military-officer-card", "军字第 1号")),
        (f"{CANONICAL}/NamingSystem/electronic-health-card", "abCD",
         (f"{CANONICAL}/NamingSystem/electronic-health-card", "abCD")),
    ],
)  # fmt: skip
def test_what_the_index_has(system: str, value: str, expected: tuple[str, str]) -> None:
    assert SHIPPED.normal(system, value) == expected


def test_fifteen_digits_stay_fifteen_in_the_index() -> None:
    assert SHIPPED.normal("2.16.156.10011.1.3", "110105491231002") == (CARD, "110105491231002")


@given(st.sampled_from(sorted(FORMS)), st.text(max_size=24))
@settings(max_examples=examples(300))
def test_a_form_of_a_form_is_itself(form: str, text: str) -> None:
    once = FORMS[form](text)
    assert FORMS[form](once) == once


@given(st.sampled_from(sorted(SHIPPED._by_name)), st.text(max_size=20))
@settings(max_examples=examples(300))
def test_normal_is_its_own_normal(system: str, value: str) -> None:
    once = SHIPPED.normal(system, value)
    assert SHIPPED.normal(*once) == once


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"uniqueId": [{"type": "uri", "value": "http://n.example/a"}]}, "one uniqueId that is"),
        ({"uniqueId": []}, "one uniqueId that is preferred"),
        ({"uniqueId": [{"type": "other", "value": "NI", "preferred": True}]}, "one uniqueId"),
        ({"uniqueId": [{"type": "uri", "value": "http://a", "preferred": True},
                       {"type": "oid", "value": "1.2", "preferred": True}]}, "one uniqueId"),
        ({"extension": [{"url": FORM_URL, "valueCode": "rot13"}]}, "must be one of exact"),
    ],
)  # fmt: skip
def test_a_naming_system_that_cannot_be_used_is_named(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Unprocessable, match="NamingSystem/n") as caught:
        naming_from([naming_system(**changes)])
    assert sentence in caught.value.issues[0].diagnostics


def test_two_systems_with_one_name_are_refused_with_both_names() -> None:
    other = naming_system(
        id="m", uniqueId=[{"type": "uri", "value": "http://m.example", "preferred": True},
                          {"type": "oid", "value": "1.2.3"}],
    )  # fmt: skip
    with pytest.raises(Unprocessable) as caught:
        naming_from([naming_system(), other])
    assert [issue.diagnostics for issue in caught.value.issues] == [
        "NamingSystem/n: urn:oid:1.2.3 stands for NamingSystem/m too"
    ]


def test_what_is_retired_or_no_identifier_names_nothing() -> None:
    found = naming_from([
        naming_system(status="retired"), naming_system(kind="codesystem"),
        {"resourceType": "CodeSystem", "id": "c"},
    ])  # fmt: skip
    assert (found.systems, found.digest) == ((), NO_NAMES.digest)


def test_the_digest_tells_of_what_rows_depend_on_and_of_nothing_else() -> None:
    one = naming_from([naming_system()])
    assert 0 < one.digest < 1 << 31
    assert naming_from([naming_system(description="other words", status="active")]).digest == (
        one.digest
    )
    others = [
        naming_system(uniqueId=naming_system()["uniqueId"][:1]),
        naming_system(extension=[{"url": FORM_URL, "valueCode": "upper"}]),
        naming_system(type={"coding": [{"system": "s", "code": "c"}]}),
    ]
    assert len({one.digest, *(naming_from([other]).digest for other in others)}) == 4
    assert NO_NAMES.digest == 0


def test_order_of_files_and_aliases_does_not_matter() -> None:
    systems = [IdentifierSystem("a", "http://a", ("urn:oid:1.1", "urn:oid:1.2")),
               IdentifierSystem("b", "http://b")]  # fmt: skip
    swapped = [systems[1], systems[0]._replace(aliases=("urn:oid:1.2", "urn:oid:1.1"))]
    assert naming_of(systems).digest == naming_of(swapped).digest


def test_files_that_cannot_be_read_are_all_named(tmp_path: Path) -> None:
    folder = tmp_path / "NamingSystem"
    folder.mkdir()
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_bytes(b"\xff")
    with pytest.raises(Unprocessable) as caught:
        load_naming(tmp_path)
    said = [issue.diagnostics for issue in caught.value.issues]
    assert [text.split(":")[0] for text in said] == ["a.json", "b.json"]
    assert load_naming(tmp_path / "nothing").systems == ()


# -- what is shipped ---------------------------------------------------------------------------

FILES = sorted((ROOT / "profiles" / "NamingSystem").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_is_a_valid_naming_system_that_claims_nothing(path: Path) -> None:
    raw = path.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode())
    resource = json.loads(raw)
    read_resource(raw, type="NamingSystem")
    assert (resource["id"], resource["status"]) == (path.stem, "draft")
    assert re.fullmatch(r"[A-Z]([A-Za-z0-9_]){0,254}", resource["name"])  # nsd-0
    kinds = [one["type"] for one in resource["uniqueId"] if one.get("preferred")]
    assert len(kinds) == len(set(kinds)) == 1  # nsd-2, and one preferred system in all
    assert "no part in this file" in resource["responsible"]
    assert re.search("[\u4e00-\u9fff]", resource["description"])
    assert resource["_description"]["extension"][0]["extension"][0]["valueCode"] == "en"


def test_all_kinds_that_the_gateway_speaks_of_are_shipped() -> None:
    assert {one.id for one in SHIPPED.systems} >= {
        "resident-id-card", "hk-macao-taiwan-residence-permit", "foreign-permanent-resident-id",
        "passport-chn", "hk-macao-travel-permit", "taiwan-travel-permit", "electronic-health-card",
        "resident-health-card", "medical-insurance-number", "institution-code",
        "unified-social-credit-code", "practitioner-certificate",
    }  # fmt: skip
    for system in (CREDIT_CODE_SYSTEM, INSTITUTION_CODE_SYSTEM):
        assert SHIPPED.find(system) is not None
        assert SHIPPED.preferred(system) == system


def test_the_codes_of_pid_3_lead_to_preferred_systems() -> None:
    columns = ("received", "code", "display", "system")
    table = Table(ROOT / "mappings" / "v2" / "identifier-types.csv", columns)
    named = [cells["system"] for _, cells in table.rows() if cells["system"]]
    assert len(named) > 10
    for system in named:
        assert SHIPPED.find(system) is not None, system
        assert SHIPPED.preferred(system) == system
