"""A FHIR package: what stands in it, and that the same input is the same bytes."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.terminology.package import fhir_package

SYSTEM = {
    "resourceType": "CodeSystem", "id": "colours", "url": "http://example.org/colours",
    "version": "1", "status": "draft", "content": "complete", "concept": [{"code": "红"}],
}  # fmt: skip
SET = {"resourceType": "ValueSet", "id": "colours", "status": "draft", "name": "Colours"}


def unpacked(package: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]


def test_a_package_holds_its_description_an_index_and_the_resources() -> None:
    files = unpacked(
        fhir_package(
            "example.colours",
            "1.0.0",
            "Colours",
            [SET, SYSTEM],
            about={"author": "Nobody"},
            notices=["Ours."],
        )
    )
    assert list(files) == [
        "package/package.json",
        "package/.index.json",
        "package/CodeSystem-colours.json",
        "package/ValueSet-colours.json",
        "package/other/NOTICE.txt",
    ]
    about = json.loads(files["package/package.json"])
    assert (about["name"], about["version"]) == ("example.colours", "1.0.0")
    assert (about["author"], about["description"]) == ("Nobody", "Colours")
    assert about["fhirVersions"] == ["4.0.1"]
    assert about["dependencies"] == {"hl7.fhir.r4.core": "4.0.1"}
    assert json.loads(files["package/CodeSystem-colours.json"]) == SYSTEM
    index = json.loads(files["package/.index.json"])
    assert index["index-version"] == 2
    assert index["files"][0] == {
        "filename": "CodeSystem-colours.json", "resourceType": "CodeSystem", "id": "colours",
        "url": "http://example.org/colours", "version": "1", "content": "complete",
    }  # fmt: skip


def test_examples_have_a_folder_and_an_index_of_their_own() -> None:
    patient = {"resourceType": "Patient", "id": "one"}
    files = unpacked(fhir_package("example.a", "1.0.0", "A", [SET], examples=[patient]))
    assert json.loads(files["package/example/Patient-one.json"]) == patient
    assert len(json.loads(files["package/example/.index.json"])["files"]) == 1
    assert len(json.loads(files["package/.index.json"])["files"]) == 1


def test_the_same_resources_in_any_order_are_the_same_bytes() -> None:
    one = fhir_package("example.a", "1.0.0", "A", [SET, SYSTEM])
    assert one == fhir_package("example.a", "1.0.0", "A", iter([SYSTEM, SET]))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": "Colours"}, "package-name"),
        ({"name": "../x.y"}, "package-name"),
        ({"version": "2026-11"}, "package-version"),
        ({"version": "01.2.3"}, "package-version"),
        ({"resources": [SET, SET]}, "package-twice"),
        ({"resources": [{"resourceType": "ValueSet"}]}, "package-id"),
        ({"resources": [{"resourceType": "ValueSet", "id": "../../x"}]}, "package-id"),
    ],
)
def test_what_no_reader_would_take_is_refused(change: dict[str, Any], rule: str) -> None:
    arguments = {"name": "example.a", "version": "1.0.0", "title": "A", "resources": [SET]}
    with pytest.raises(Invalid) as caught:
        fhir_package(**(arguments | change))
    assert caught.value.issues[0].rule == rule
