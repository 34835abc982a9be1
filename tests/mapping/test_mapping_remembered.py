"""What is remembered of an OBX is what would be read anew, as long as everything is the same."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from golden_cases import CASES, OTHERS
from mapping_cases import HEADER, ORDER, PERSON, SECOND, TABLES, message, results

from fhir_gateway.errors import GatewayError, Unprocessable
from fhir_gateway.fhir.validate import made_resource, read_resource
from fhir_gateway.fhir.wire import number, parse, read_number, render
from fhir_gateway.mapping import v2_kits
from fhir_gateway.mapping.doors import through
from fhir_gateway.mapping.tables import heard, table
from fhir_gateway.mapping.v2 import parse as parse_v2
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.mapping.v2_oru import Mapped, map_oru
from fhir_gateway.security.institution import Institution

LINE = "OBX|1|NM|K^钾^^^K||{value}|mmol/L|3.5-5.3|{flag}|||F"


def said(raw: bytes) -> tuple[str, list[str]]:
    """The resources of a message and what is told of it, or why it is refused."""
    try:
        read = parse_v2(raw, default_charset=SECOND.charset, folder=TABLES)
        mapped = map_message(read, SECOND, folder=TABLES, others=OTHERS)
    except GatewayError as error:
        return "", [repr(issue) for issue in error.issues]
    if not isinstance(mapped, Mapped):
        return "", []
    return render(mapped.resources).decode(), [repr(one) for one in mapped.warnings]


def test_a_message_says_the_same_when_everything_of_it_was_met_before() -> None:
    v2_kits._kinds.clear()
    for case in CASES:
        raw = case.read_bytes()
        first, again = said(raw), said(raw)
        with heard() as lookups:
            explained = said(raw)
        assert first == again == explained, case.name
        assert lookups or not first[0]  # who explains hears what is remembered elsewhere


def test_what_is_remembered_is_nobodys_to_change() -> None:
    first = results(LINE.format(value="4.1", flag="H"))[0]
    kept = render(first)
    first["code"]["text"] = "changed"
    first["valueQuantity"]["unit"] = "changed"
    assert render(results(LINE.format(value="4.1", flag="H"))[0]) == kept


def folder_of(path: Path) -> str:
    shutil.copytree(TABLES, path / "v2")
    return str(path / "v2")


def flags(folder: str, institution: Institution = SECOND) -> dict[str, Any]:
    lines = (HEADER, PERSON, ORDER, LINE.format(value="4.1", flag="H"))
    read = parse_v2(message(*lines), default_charset="GB18030", folder=folder)
    (found,) = [one for one in map_oru(read, institution, folder=folder).resources
                if one["resourceType"] == "Observation"]  # fmt: skip
    return found


def test_a_table_that_is_another_by_now_counts_at_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    before = flags(folder)
    assert before["interpretation"][0]["coding"][0]["code"] == "H"
    path = Path(folder, "abnormal-flags.csv")
    rows = path.read_text(encoding="utf-8").splitlines()
    rows = ["H,HH,Critical high" if row.startswith("H,") else row for row in rows]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    table.cache_clear()
    try:
        assert flags(folder)["interpretation"][0]["coding"][0]["code"] == "HH"
        assert flags(TABLES)["interpretation"][0]["coding"][0]["code"] == "H"
    finally:
        table.cache_clear()


def test_a_code_is_of_the_system_of_the_institution_that_sends_it() -> None:
    other = Institution(id="other", name="示范市第三医院", facilities=("S2",))
    systems = {flags(TABLES, one)["code"]["coding"][0]["system"] for one in (SECOND, other, SECOND)}
    assert len(systems) == 2


def test_what_is_wrong_is_told_of_each_segment_again() -> None:
    lines = [LINE.format(value="4.1", flag="")[:-1] + status for status in ("F", "?")]
    for _ in range(2):
        with pytest.raises(Unprocessable, match=r"OBX\[2\]-11"):
            results(lines[0], lines[1].replace("OBX|1", "OBX|2"))


def test_a_number_is_what_reading_its_json_gives() -> None:
    for text in ("5", "-5", "0", "-0", "5.10", "0.5", "1e3", "9" * 19, "9" * 30, "-0.0"):
        value = read_number(text)
        read = parse(f'{{"a":{text}}}'.encode())["a"]
        assert (type(value), str(value)) == (type(read), str(read)) or value == read == number(text)
        assert render(value) == text.encode()
    with pytest.raises(ValueError, match="number-length"):
        read_number("9" * 41)
    assert isinstance(read_number("5.10"), Decimal)


def kinds(value: Any) -> Any:
    """A resource with the type of each of its leaves."""
    if isinstance(value, dict):
        return {name: kinds(one) for name, one in value.items()}
    return [kinds(one) for one in value] if isinstance(value, list) else (type(value), str(value))


def test_a_mapped_resource_is_handed_on_as_reading_it_would_give_it() -> None:
    count = 0
    for case in CASES:
        try:
            read = parse_v2(case.read_bytes(), default_charset=SECOND.charset, folder=TABLES)
            mapped = map_message(read, SECOND, folder=TABLES, others=OTHERS)
        except GatewayError:
            continue
        for planned in mapped.resources if isinstance(mapped, Mapped) else ():
            resource = through("v2", planned)
            raw, type = render(resource), resource["resourceType"]
            if type == "Encounter" and "status" not in resource:
                continue  # intake says it
            assert kinds(made_resource(resource, raw, type=type)) == kinds(
                read_resource(raw, type=type)
            )
            count += 1
    assert count > 100


@pytest.mark.parametrize(
    "broken",
    [
        {"code": {}}, {"valueString": "a\u0001b"}, {"valueQuantity": {"value": 1, "x": 1}},
        {"code": {"coding": [{"system": "urn:a b", "code": "c"}]}}, {"status": "none"},
        {"effectivePeriod": {"start": "2026-02-02", "end": "2026-01-01"}}, {"valueString": None},
        {"component": [{"code": {"text": "a"}, "valueString": ""}]}, {"resourceType": "Patient"},
    ],
)  # fmt: skip
def test_a_mapped_resource_that_is_unsound_is_refused_as_if_it_had_come(broken: Any) -> None:
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "a"}} | broken
    with pytest.raises(GatewayError) as read:
        read_resource(render(resource), type="Observation")
    with pytest.raises(GatewayError) as made:
        made_resource(resource, render(resource), type="Observation")
    assert made.value.issues == read.value.issues


def test_minus_zero_keeps_its_sign_where_it_is_handed_on() -> None:
    resource = {"resourceType": "Observation", "status": "final", "code": {"text": "a"},
                "valueQuantity": {"value": read_number("-0")}}  # fmt: skip
    made = made_resource(resource, render(resource), type="Observation")
    assert render(made) == render(resource)


def test_members_that_were_sound_before_make_nothing_else_sound() -> None:
    good: dict[str, Any] = {"resourceType": "Observation", "status": "final", "code": {"text": "a"},
            "category": [{"text": "b"}], "performer": [{"reference": "Organization/o"}],
            "valueString": "c"}  # fmt: skip
    for _ in range(2):
        assert made_resource(good, render(good), type="Observation") is good
    wrong = [
        {k: v for k, v in good.items() if k != "code"}, {**good, "basedOn": good["performer"]},
        {**good, "method": good["category"]}, {**good, "valueInteger": 1}, {**good, "category": []},
        {**good, "performers": good["performer"]}, {**good, "performer": [{"reference": "X"}]},
        {**good, "resourceType": "ServiceRequest"},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(GatewayError) as read:
            read_resource(render(one), type="Observation")
        with pytest.raises(GatewayError) as made:
            made_resource(one, render(one), type="Observation")
        assert made.value.issues == read.value.issues
