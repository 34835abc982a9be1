"""One examination from several rows: by reference, by accession number, by Endpoint, by report."""

from __future__ import annotations

from typing import Any

import pytest
from facts_cases import derived, lab, report, study

from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions import endpoint_rows
from fhir_gateway.recognition.candidates import (
    Register,
    add_rows,
    candidates,
    evaluations_to_read,
)
from fhir_gateway.recognition.model import CONTRADICTORY, PRINTED_MARK, Candidate
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Evaluation
from fhir_gateway.store.store import StoredFact

MARK = {"url": f"{CANONICAL}/StructureDefinition/recognition-mark", "valueString": "全国HR"}
ADDRESS = "https://pacs.example/dicom-web"


def stored(*resources: dict[str, Any], t_from: int = 3) -> list[StoredFact]:
    """The rows of these resources as a store reads them, reports joined by their references."""
    made = [(resource, derived(resource)) for resource in resources]
    links = {
        link.result: (link, f"DiagnosticReport/{resource['id']}")
        for resource, rows in made
        for link in rows.links
    }
    found = []
    for number, (_, rows) in enumerate(made, 1):
        for fact in rows.facts:
            link, source = links.get(key64(fact.source), (None, ""))
            told = (link.status, source, link.more) if link else ("", "", "")
            found.append(StoredFact(fact, number, 1, t_from, "p", *told))
    return found


def seen(*resources: dict[str, Any], register: Register | None = None) -> list[Candidate]:
    return candidates(stored(*resources), register or {})


def endpoint(status: str = "active", address: str = ADDRESS) -> list[Evaluation]:
    rows = Derived()
    resource = {"resourceType": "Endpoint", "id": "pacs", "status": status, "address": address}
    endpoint_rows.derive(resource, rows)
    return rows.evaluations


def check(*, passed: bool, address: str = ADDRESS, at: str = "2026-11-20T08:00:00Z") -> list[Any]:
    rows = Derived()
    resource = endpoint_rows.verification_result(
        "pacs", address, passed=passed, at=at, process="HEAD: answered", by="FHIR gateway"
    )
    endpoint_rows.derive(resource, rows)
    return rows.evaluations


def register_of(*rows: list[Evaluation]) -> Register:
    register: Register = {}
    found = [row for some in rows for row in some]
    pairs = [("Endpoint/pacs", endpoint_rows.STATE), ("Endpoint/pacs", endpoint_rows.CHECK)]
    add_rows(register, pairs, found)
    return register


# -- by accession number --------------------------------------------------------------------------


def test_a_report_and_a_study_with_one_number_are_one_examination() -> None:
    agent = {"extension": [{"url": "agent", "valueString": "ISOVUE"}]}
    site = {"bodySite": {"display": "Knee"}, "laterality": {"code": "R"}}
    (found,) = seen(
        report(accession="A7", effectiveDateTime=None),
        study(accession="A7", series=[{**agent, **site}]),
    )
    assert (found.source, found.item, found.accession) == (
        "DiagnosticReport/x", "CT-HEAD", "A7",
    )  # fmt: skip
    assert (found.region, found.contrast, found.laterality) == ("KNEE", "with", "R")
    assert (found.time_of, found.zone_known, found.flags & CONTRADICTORY) == ("started", True, 0)


def test_a_coded_study_is_told_by_its_report() -> None:
    (found,) = seen(report(accession="A7"), study("CT-HEAD", accession="A7"))
    assert found.source == "DiagnosticReport/x"
    alone = seen(report(), study("CT-HEAD"))
    assert [one.source for one in alone] == ["DiagnosticReport/x", "ImagingStudy/s"]


@pytest.mark.parametrize("other", [{"accession": "A8"}, {"accession": ""}])
def test_other_numbers_are_other_examinations(other: dict[str, Any]) -> None:
    (found,) = seen(report(accession="A7"), study(**other, series=[{"bodySite": {"code": "X"}}]))
    assert (found.region, found.images) == ("HEAD", None)


def test_other_institutions_give_the_same_numbers() -> None:
    elsewhere = [{"reference": "Organization/elsewhere"}]
    (found,) = seen(
        report(accession="A7", performer=elsewhere),
        study(accession="A7", series=[{"bodySite": {"code": "X"}}]),
    )
    assert (found.issuer, found.region) == ("elsewhere", "HEAD")


def test_a_number_of_an_unknown_institution_joins_nothing() -> None:
    (found,) = seen(
        report(accession="A7", performer=None),
        study(accession="A7", series=[{"bodySite": {"code": "X"}}]),
    )
    assert (found.issuer, found.region) == ("", "HEAD")


def test_two_reports_of_different_items_with_one_number_are_not_guessed() -> None:
    other = report("CT-HEAD-WITH", id="y", accession="A7")
    image = study(accession="A7", series=[{"bodySite": {"code": "KNEE"}}])
    for rows in (stored(report(accession="A7"), other, image), stored(image, other)):
        # the other one was not asked for: only what stands under no item is read of it
        read = [one for one in rows if one.fact.item in ("", "CT-HEAD")]
        for found in candidates(read, {}):
            assert found.flags & CONTRADICTORY
            assert (found.region, found.images) == ("HEAD", None)
    (asked,) = candidates(
        [one for one in stored(report(accession="A7"), other) if one.fact.item != "CT-HEAD-WITH"],
        {},
    )
    assert asked.flags & CONTRADICTORY


def test_a_void_report_contradicts_nobody() -> None:
    void = report("CT-HEAD-WITH", id="y", accession="A7", status="entered-in-error")
    image = study(accession="A7", series=[{"bodySite": {"code": "KNEE"}}])
    one, _ = seen(report(accession="A7"), void, image)
    assert (one.flags & CONTRADICTORY, one.region) == (0, "KNEE")


def test_a_study_of_another_item_contradicts_the_report() -> None:
    found = seen(report(accession="A7"), study("CT-HEAD-WITH", accession="A7"))
    assert [bool(one.flags & CONTRADICTORY) for one in found] == [True, True]


def test_a_reference_joins_even_where_the_number_does_not() -> None:
    image = study(accession="A8", series=[{"bodySite": {"code": "KNEE"}}])
    (found,) = seen(report(accession="A7", imagingStudy=[{"reference": "ImagingStudy/s"}]), image)
    assert found.region == "KNEE"


def test_a_study_that_another_report_refers_to_is_not_lent_by_its_number() -> None:
    image = study(accession="A7", series=[{"bodySite": {"code": "KNEE"}}])
    bound = report(id="y", accession="A7", imagingStudy=[{"reference": "ImagingStudy/s"}])
    one, other = seen(report(accession="A7"), bound, image)
    assert (one.region, other.region) == ("HEAD", "KNEE")


def test_the_order_of_rows_changes_nothing() -> None:
    rows = stored(
        report(accession="A7"),
        study("CT-HEAD", accession="A7", series=[{"bodySite": {"code": "KNEE"}}]),
        study(id="s2", accession="A7", series=[{"bodySite": {"code": "HEAD"}}]),
    )
    one, other = candidates(rows, {}), candidates(rows[::-1], {})
    assert one == other
    assert one[0].region == "HEAD+KNEE"


@pytest.mark.parametrize(
    ("words", "agent", "contrast"),
    [
        ("CT平扫", "ISOVUE", "with"), ("CT平扫+增强", "ISOVUE", "without-with"),
        ("CT增强", "ISOVUE", "with"), ("CT增强", "NONE", ""), ("CT平扫", "NONE", "none"),
        ("CT增强", "", "with"), ("CT平扫", "", "none"),
    ],
)  # fmt: skip
def test_contrast_of_code_and_images(words: str, agent: str, contrast: str) -> None:
    series = [{"extension": [{"url": "agent", "valueString": agent}]}] if agent else [{}]
    (found,) = seen(report(words=words, accession="A7"), study(accession="A7", series=series))
    assert found.contrast == contrast


def test_a_time_whose_zone_is_not_known_is_not_known_of_the_examination() -> None:
    image = study(accession="A7", tag="unknown-zone")
    (found,) = seen(report(accession="A7", effectiveDateTime=None), image)
    assert (found.time_of, found.zone_known) == ("started", False)
    (dated,) = seen(report(accession="A7"), image)
    assert (dated.time_of, dated.zone_known) == ("performed", True)


# -- laboratory -----------------------------------------------------------------------------------


def test_a_result_takes_mark_and_panel_of_its_report() -> None:
    whole = report(
        code={"text": "血脂"}, id="r", extension=[MARK], result=[{"reference": "Observation/x"}]
    )
    (found,) = seen(lab(), whole)
    assert (found.mark, found.panel, found.report_source) == (
        "全国HR", "lipids", "DiagnosticReport/r",
    )  # fmt: skip
    assert found.flags & PRINTED_MARK
    (own,) = seen(lab(extension=[{**MARK, "valueString": "北京HR"}]), whole)
    assert own.mark == "北京HR"


def test_a_candidate_says_all_that_its_row_does() -> None:
    (found,) = seen(
        lab(
            "CRP",
            valueQuantity={"value": "0.51", "unit": "mg/dL"},
            device={"display": "AU5800"},
            referenceRange=[{"high": {"value": 5}}],
            door="v2",
        )
    )
    assert (found.value, found.unit, found.quantity) == ("0.51", "mg/dL", "5.10")
    assert (found.instrument, found.interval, found.door) == ("AU5800", "normal", "v2")
    assert (found.time_of, found.zone_known, found.retrievable) == ("collected", True, None)


def test_a_row_from_before_says_nothing_more() -> None:
    (row,) = stored(lab())
    old = row._replace(fact=type(row.fact)(*list(_members(row.fact))[:15]))
    (found,) = candidates([old], {})
    assert (found.time_of, found.quantity, found.door, found.zone_known) == ("", "", "", True)


def _members(struct: Any) -> Any:
    return (getattr(struct, name) for name in struct.__struct_fields__)


def test_quantities_of_one_item_are_in_one_unit() -> None:
    (new,) = stored(lab("CRP", valueQuantity={"value": "1", "unit": "g/L"}), t_from=9)
    (old,) = stored(lab("CRP", id="y", valueQuantity={"value": "2", "unit": "mg/L"}))
    assert [one.quantity for one in candidates([new, old], {})] == ["1000", "2"]
    # the catalogue's unit was g/L when this row was made
    fact = old.fact
    changed = type(fact)(*[*list(_members(fact))[:15], "c\x1f\x1f2\x1fg/L"])
    (words,) = stored(lab("CRP", id="z", valueQuantity=None, valueString="升高"))
    rows = [new, old._replace(fact=changed), words]
    assert [one.quantity for one in candidates(rows, {})] == ["1000", "", ""]


# -- whether images can be fetched ----------------------------------------------------------------


def _image(**fields: Any) -> list[dict[str, Any]]:
    images = {"endpoint": [{"reference": "Endpoint/pacs"}]}
    return [report(accession="A7"), study(accession="A7", **{**images, **fields})]


def test_the_pairs_of_the_register_that_are_read() -> None:
    assert evaluations_to_read(stored(*_image())) == [
        ("hospital", "CT-HEAD"),
        ("Endpoint/pacs", "endpoint-status"),
        ("Endpoint/pacs", "endpoint-check"),
    ]


@pytest.mark.parametrize(
    ("rows", "retrievable"),
    [
        ((), None),
        ((endpoint(),), None),
        ((endpoint(), check(passed=True)), True),
        ((endpoint(), check(passed=False)), False),
        ((check(passed=True),), None),
        ((endpoint("suspended"), check(passed=True)), False),
        ((endpoint("error"),), False),
        ((endpoint(address="https://new.example"), check(passed=True)), None),
        ((endpoint(), check(passed=False), check(passed=True, at="2026-11-21T08:00:00Z")), True),
    ],
)
def test_images_are_retrievable_by_an_active_endpoint_whose_last_check_passed(
    rows: tuple[list[Evaluation], ...], retrievable: bool | None
) -> None:
    (found,) = seen(*_image(), register=register_of(*rows))
    assert found.retrievable is retrievable
    assert found.images is True  # as images-retrievable@1 saw it


@pytest.mark.parametrize(
    ("fields", "images"),
    [({"endpoint": None}, None), ({"endpoint": None, "numberOfInstances": 0}, False)],
)
def test_without_an_endpoint_nothing_can_be_fetched(
    fields: dict[str, Any], images: bool | None
) -> None:
    (found,) = seen(*_image(**fields), register=register_of(endpoint(), check(passed=True)))
    assert (found.images, found.retrievable) == (images, images)


def test_an_endpoint_elsewhere_is_not_known() -> None:
    there = [{"reference": "https://else.example/Endpoint/pacs"}]
    (found,) = seen(*_image(endpoint=there), register=register_of(endpoint(), check(passed=True)))
    assert (found.images, found.retrievable) == (True, None)


def test_what_is_no_check_of_an_endpoint_gives_no_row() -> None:
    for resource in (
        {"resourceType": "Endpoint"},
        {"resourceType": "Patient", "id": "p"},
        {"resourceType": "VerificationResult", "id": "v", "status": "validated"},
        {"resourceType": "VerificationResult", "id": "v", "status": "attested"},
    ):
        rows = Derived()
        endpoint_rows.derive(resource, rows)
        assert rows.evaluations == []
