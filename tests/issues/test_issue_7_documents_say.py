"""Issue 7: documents that say what is not so, not yet, or two things at once (CDA R2, RIM)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.errors import Unprocessable

sys.path.append(str(Path(__file__).parents[1] / "cda"))
from cda_cases import exam, item, lab, of, results_document, taken

ACT = b'<observation classCode="OBS" moodCode="EVN"><code code="%s"'
CCDA = (
    '<section><templateId root="2.16.840.1.113883.10.20.22.2.3.1"/><text/><entry>'
    '<organizer classCode="BATTERY" moodCode="{mood}"><id root="2.999.1" extension="R9"/>'
    '<code code="24323-8" codeSystem="2.16.840.1.113883.6.1"/><statusCode code="completed"/>'
    '<component><observation classCode="OBS" moodCode="EVN"{said}>'
    '<code code="1742-6" displayName="ALT" codeSystem="2.16.840.1.113883.6.1"/>'
    '<statusCode code="completed"/><value xsi:type="PQ" value="32" unit="U/L"/>'
    "</observation></component></organizer></entry></section>"
)


def refused(raw: bytes) -> str:
    with pytest.raises(Unprocessable) as caught:
        taken(raw)
    return str(caught.value.issues[0].rule)


@pytest.mark.parametrize("said", ['moodCode="EVN" negationInd="true"', 'moodCode="RQO"'])
@pytest.mark.parametrize("code", ["DE04.30.019.00", "DE04.30.015.00", "DE04.50.134.00"])
def test_a_negated_or_ordered_result_is_refused(code: str, said: str) -> None:
    act = ACT % code.encode()
    assert act in lab()
    assert refused(lab().replace(act, act.replace(b'moodCode="EVN"', said.encode()))) == (
        "cda-not-stated"
    )


def test_what_stands_in_a_negated_relationship_is_refused() -> None:
    raw = exam().replace(b'entryRelationship typeCode="COMP"',
                         b'entryRelationship typeCode="COMP" negationInd="1"')  # fmt: skip
    assert refused(raw) == "cda-not-stated"


def test_negated_results_of_c_cda_are_refused() -> None:
    fine = results_document(CCDA.format(mood="EVN", said=' negationInd="false"'))
    assert of(taken(fine), "Observation")[0]["valueQuantity"]["unit"] == "U/L"
    for more in ({"mood": "INT", "said": ""}, {"mood": "EVN", "said": ' negationInd="true"'}):
        assert refused(results_document(CCDA.format(**more))) == "cda-not-stated"


def value(quantity: str) -> dict[str, Any]:
    (one,) = of(taken(lab(item(quantity=quantity, unit=""))), "Observation")
    return {name: one[name] for name in one if name.startswith("value")}


def test_a_second_value_is_refused_and_a_null_one_is_none() -> None:
    one = '<value xsi:type="PQ" value="{}" unit="g/L"/>'
    assert refused(lab(item(quantity=one.format(5) + one.format(6)))) == "cda-values"
    said = value('<value xsi:type="PQ" nullFlavor="NI"/>' + one.format("5.10"))
    assert str(said["valueQuantity"]["value"]) == "5.10"


@pytest.mark.parametrize("flavor", ["NI", "UNK", "MSK", "PINF"])
def test_a_number_that_is_said_not_to_be_known_is_no_number(flavor: str) -> None:
    said = value(f'<value xsi:type="PQ" value="5.10" unit="g/L" nullFlavor="{flavor}"/>')
    assert said == {"valueString": f"5.10 ({flavor})"}


def test_a_titre_is_a_ratio_and_a_range_of_two_units_a_text() -> None:
    titre = value('<value xsi:type="RTO"><numerator xsi:type="INT" value="1"/>'
                  '<denominator xsi:type="INT" value="80"/></value>')  # fmt: skip
    assert titre["valueRatio"] == {"numerator": {"value": 1}, "denominator": {"value": 80}}
    said = value('<value xsi:type="IVL_PQ"><low value="5" unit="mg/L"/>'
                 '<high value="9" unit="g/L"/></value>')  # fmt: skip
    assert said == {"valueString": "5 mg/L - 9 g/L"}


def test_a_file_in_a_value_belongs_to_the_report() -> None:
    file = '<value xsi:type="ED" mediaType="application/pdf" representation="B64">JVBERi0=</value>'
    found = taken(lab(item(), item("PDF", "报告", quantity=file)))
    (report,) = of(found, "DiagnosticReport")
    assert report["presentedForm"] == [
        {"contentType": "application/pdf", "data": "JVBERi0=", "title": "报告"}
    ]
    assert len(of(found, "Observation")) == 1
