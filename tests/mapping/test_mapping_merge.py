"""What later messages change of earlier ones."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_gateway.errors import Conflict
from fhir_gateway.mapping import merge
from fhir_gateway.terminology.naming import IdentifierSystem, naming_of

DOCUMENT = "urn:oid:2.16.840.1.113883.2.23.1.19.1"


def person(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": "p", **elements}


def numbered(value: str, system: str = DOCUMENT) -> dict[str, Any]:
    return {"system": system, "value": value}


def test_what_a_message_leaves_empty_stays_as_it_was() -> None:
    stored = person(gender="male", birthDate="1958-03-12", meta={"versionId": "1"})
    assert merge.update(stored, person(gender="female")) == person(
        gender="female", birthDate="1958-03-12"
    )


def test_identifiers_of_other_systems_stay() -> None:
    stored = person(identifier=[numbered("1", "a"), numbered("2")])
    assert merge.update(stored, person(identifier=[numbered("3", "a")]))["identifier"] == [
        numbered("3", "a"), numbered("2"),
    ]  # fmt: skip


def test_a_poorer_source_only_fills_gaps() -> None:
    stored = person(name=[{"text": "张示一"}], identifier=[numbered("1")], active=False)
    new = person(
        name=[{"text": "ZHANG"}], gender="male", identifier=[numbered("9"), numbered("7", "a")]
    )
    assert merge.fill(stored, new) == person(
        name=[{"text": "张示一"}], gender="male", active=False,
        identifier=[numbered("1"), numbered("7", "a")],
    )  # fmt: skip


NAMED = person(name=[{"text": "张示一"}], birthDate="1958-03-12")


@pytest.mark.parametrize(
    ("stated", "wrong"),
    [
        ({}, []),
        ({"name": [{"text": "张 示一"}]}, []),
        ({"name": [{"text": "李示二"}]}, ["name"]),
        ({"birthDate": "1999-01-01"}, ["birthDate"]),
        ({"name": [{"text": "李示二"}], "birthDate": "1958-03-12"}, []),
        ({"name": [{"text": "张示一"}], "birthDate": "1999-01-01"}, []),
        ({"name": [{"text": "李示二"}], "birthDate": "1999-01-01"}, ["name", "birthDate"]),
        ({"identifier": [numbered("1x")], "name": [{"text": "李示二"}]}, []),
        ({"identifier": [numbered("2")], "name": [{"text": "张示一"}]}, ["identifier"]),
    ],
)
def test_a_statement_about_a_number_fits_or_names_what_contradicts(
    stated: dict[str, Any], wrong: list[str]
) -> None:
    stored = NAMED | {"identifier": [numbered("1X")]}
    assert merge.contradictions(stored, stated, [DOCUMENT]) == wrong
    assert merge.contradictions(person(), stated, [DOCUMENT]) == []


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        (person(identifier=[numbered("1")]), person(identifier=[numbered("2")])),
        (person(birthDate="1958-03-12", name=[{"text": "张示一"}]),
         person(birthDate="1999-01-01", name=[{"text": "李示二"}])),
    ],
)  # fmt: skip
def test_a_patient_number_of_two_people_is_a_conflict(
    stored: dict[str, Any], new: dict[str, Any]
) -> None:
    with pytest.raises(Conflict):
        merge.check_same_person(stored, new, [DOCUMENT])


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        (person(identifier=[numbered("1x")]), person(identifier=[numbered("1X")])),
        (person(identifier=[numbered("1")]), person(name=[{"text": "李"}])),
        (person(birthDate="1958-03-12", name=[{"text": "张 示一"}]),
         person(birthDate="1999-01-01", name=[{"text": "张示一"}])),
        (person(birthDate="1958-03-12", name=[{"text": "张"}]),
         person(birthDate="1958-03-12", name=[{"text": "李"}])),
    ],
)  # fmt: skip
def test_one_person_may_be_written_differently(stored: dict[str, Any], new: dict[str, Any]) -> None:
    merge.check_same_person(stored, new, [DOCUMENT])


@pytest.mark.parametrize(
    ("stored", "status", "issued", "stored_issued", "older"),
    [
        ("final", "final", 1, 2, True), ("final", "corrected", 3, 2, False),
        ("final", "preliminary", 2, 2, True), ("final", "preliminary", 3, 2, False),
        ("final", "preliminary", None, 2, True), ("preliminary", "final", 2, 2, False),
        ("preliminary", "partial", None, None, False), ("corrected", "final", 1, 2, True),
    ],
)  # fmt: skip
def test_an_overtaken_report_is_older(
    stored: str, status: str, issued: int | None, stored_issued: int | None, older: bool
) -> None:
    assert merge.is_older({"status": stored}, status, issued, stored_issued) is older


@pytest.mark.parametrize(
    ("status", "kept", "withdrawn"),
    [
        ("final", ["b", "a"], []), ("appended", ["b", "a"], []), ("corrected", ["b"], ["a"]),
        ("amended", ["b"], ["a"]), ("entered-in-error", ["b", "a"], ["a"]),
        ("cancelled", ["b", "a"], ["a"]),
    ],
)  # fmt: skip
def test_only_a_correction_or_a_void_report_withdraws_results(
    status: str, kept: list[str], withdrawn: list[str]
) -> None:
    stored = {"result": [{"reference": "a"}]}
    new = {"status": status, "result": [{"reference": "b"}]}
    results, gone = merge.results(stored, new)
    assert ([item["reference"] for item in results], gone) == (kept, withdrawn)


def test_documents_are_compared_under_every_name_of_their_system() -> None:
    naming = naming_of([IdentifierSystem("card", DOCUMENT, ("urn:oid:1.2.3",), "id-number")])
    stored = person(identifier=[{"system": "1.2.3", "value": "１x"}])
    merge.check_same_person(stored, person(identifier=[numbered("1X")]), [DOCUMENT], naming)
    with pytest.raises(Conflict):
        merge.check_same_person(stored, person(identifier=[numbered("2")]), [DOCUMENT], naming)
