"""Who is one person, who is a conflict, and who is nobody's match: pairs of Patient records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.identity.cross_reference import DOCUMENT, DOCUMENT_AND_NAME, derive
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.identifier import normalise_id_number
from fhir_gateway.terminology.naming_files import load_naming

CASES = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))
NAMING = load_naming(Path(__file__).parents[2] / "profiles")
ID_SYSTEM = "urn:oid:2.16.840.1.113883.2.23.1.19.1"


def patient(record: dict[str, Any]) -> dict[str, Any]:
    resource: dict[str, Any] = {"resourceType": "Patient", "id": "p"}
    if "id" in record:
        identifier = {"value": record["id"]}
        if "kind" in record:
            coding = {"system": "urn:example:CV02.01.101", "code": record["kind"]}
            identifier["type"] = {"coding": [coding]}
        else:
            identifier["system"] = record.get("system", ID_SYSTEM)
        resource["identifier"] = [identifier | _only(record, "use")]
    if "name" in record:
        resource["name"] = [{"text": record["name"]}]
    elif "family" in record:
        resource["name"] = [{"family": record["family"], "given": record["given"]}]
    if "born" in record:
        resource["birthDate"] = record["born"]
    return resource


def _only(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {name: record[name]} if name in record else {}


def keys(resource: dict[str, Any], kind: int) -> set[bytes]:
    rows = Derived()
    derive(resource, rows, naming=NAMING)
    return {key for key, found in rows.identity if found == kind}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_pair(case: dict[str, Any]) -> None:
    a, b = patient(case["a"]), patient(case["b"])
    same = bool(keys(a, DOCUMENT_AND_NAME) & keys(b, DOCUMENT_AND_NAME))
    shared = bool(keys(a, DOCUMENT) & keys(b, DOCUMENT))
    assert (same, shared and not same) == (case["same"], case["conflict"])


def test_keys_have_sixteen_bytes_and_say_nothing_of_the_number() -> None:
    found = keys(patient(CASES[0]["a"]), DOCUMENT) | keys(patient(CASES[0]["a"]), DOCUMENT_AND_NAME)
    assert {len(key) for key in found} == {16}


def test_the_official_name_counts_and_former_names_do_not() -> None:
    record = patient(CASES[0]["a"])
    named = record | {
        "name": [
            {"text": "小芳", "use": "nickname"},
            {"text": "李丽", "use": "old"},
            {"text": "芳芳", "use": "usual"},
            {"text": "王芳", "use": "official"},
        ]
    }
    assert keys(named, DOCUMENT_AND_NAME) == keys(record, DOCUMENT_AND_NAME)


def test_other_resources_have_no_identity() -> None:
    assert keys({"resourceType": "Practitioner", "id": "p"}, DOCUMENT) == set()


def _number(body: int) -> str:
    """A well-formed number from fifteen digits, 1950 to 1999."""
    day, month, year = body % 28 + 1, body // 28 % 12 + 1, body // 336 % 50 + 50
    rest = body // 16_800
    old = f"{110_100 + rest % 9:06}{year:02}{month:02}{day:02}{rest // 9 % 1000:03}"
    return normalise_id_number(old)


@settings(max_examples=examples(100), deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from(("王芳", "李丽")))
def test_two_numbers_never_meet(one: int, two: int, name: str) -> None:
    first, second = (patient({"id": _number(body), "name": name}) for body in (one, two))
    meet = bool(keys(first, DOCUMENT) & keys(second, DOCUMENT))
    assert meet == (_number(one) == _number(two))
    assert len(keys(first, DOCUMENT)) == 1


@settings(max_examples=examples(100), deadline=None)
@given(st.text(max_size=25), st.text(max_size=12))
def test_any_text_is_read_without_failing(number: str, name: str) -> None:
    keys(patient({"id": number, "name": name}), DOCUMENT)
    keys(patient({"id": number, "name": name, "kind": "04"}), DOCUMENT_AND_NAME)
