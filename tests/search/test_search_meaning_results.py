"""The parameters that shape a result, as the plan carries them."""

from __future__ import annotations

import pytest
from search_rows import SECRET, World

from fhir_gateway.errors import GatewayError, NotFound
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.search.compartment import member_types, plan_compartment
from fhir_gateway.search.page import Holder, encode_cursor, resume, self_link
from fhir_gateway.search.plan import AnyOf, Ids, Include, Ref, SearchPlan, Sort
from fhir_gateway.search.registry import searchables

plan = World().plan


def rule(url: str) -> str | None:
    with pytest.raises(GatewayError) as caught:
        plan(url)
    assert caught.value.status == 400
    return caught.value.issues[0].rule


def test_sort_keys() -> None:
    def number(code: str) -> int:
        return parameter_key("Observation", code)

    codes = definitions().codes["http://hl7.org/fhir/ValueSet/observation-status"]
    ranks = tuple(key64(code, SECRET) for code in sorted(codes))
    assert plan("Observation?_sort=-date,status,code,-_id").sort == (
        Sort(number("date"), "int", True),
        Sort(number("status"), "token", False, ranks),
        Sort(number("code:text"), "text"),
        Sort(0, "id", True),
    )
    assert plan("Observation?_sort=subject,value-quantity,_lastUpdated,value-string").sort == (
        Sort(number("subject"), "value"),
        Sort(number("value-quantity"), "value"),
        Sort(0, "updated"),
        Sort(number("value-string"), "text"),
    )
    assert plan("Patient?_sort=active,-gender").sort[0].ranks == (
        key64("false", SECRET),
        key64("true", SECRET),
    )


def test_every_type_can_be_sorted_by_what_has_an_order() -> None:
    """Refused are identifiers and bare texts among the tokens, composites, and unions."""
    refused = {"identifier": 0, "bare": 0, "composite": 0, "union": 0}
    for type in definitions().resource_types:
        for code, one in searchables(type).items():
            if one.refused:
                continue
            ordered = one.kind != "token" or one.codes or one.text_number
            if one.kind == "composite" or one.parts != (code,):
                refused["union" if one.parts != (code,) else "composite"] += 1
                assert rule(f"{type}?_sort={code}") == "not-offered"
            elif "Identifier" in one.datatypes or not (ordered or code == "_id"):
                refused["identifier" if "Identifier" in one.datatypes else "bare"] += 1
                assert rule(f"{type}?_sort={code}") == "not-offered"
            else:
                assert len(plan(f"{type}?_sort={code}").sort) == 1
    assert refused == {"identifier": 123, "bare": 76, "composite": 70, "union": 6}


def include(text: str) -> tuple[Include, ...]:
    return plan(f"Observation?{text}").includes


def test_includes() -> None:
    def number(type: str, code: str) -> int:
        return parameter_key(type, code)

    assert include("_include=Observation:subject:Patient") == (
        Include("Observation", "subject", number("Observation", "subject"), "Patient"),
    )
    assert include("_include=*") == (Include("Observation", "*", 0, wildcard=True),)
    assert include("_include=Observation:*") == include("_include=*")
    assert include("_include=Observation:*:Patient")[0].target == "Patient"
    iterated = Include(
        "Patient", "organization", number("Patient", "organization"), iterate=True
    )  # fmt: skip
    assert include("_include:iterate=Patient:organization") == (iterated,)
    assert include("_include:recurse=Patient:organization") == (iterated,)
    assert include("_include=Observation:subject&_include=Observation:subject") == include(
        "_include=Observation:subject"
    )


def test_reverse_includes() -> None:
    number = parameter_key("DiagnosticReport", "result")
    reverse = Include("DiagnosticReport", "result", number, None, True, "homes")
    assert include("_revinclude=DiagnosticReport:result") == (reverse,)
    assert include("_revinclude=DiagnosticReport:*") == (reverse,)
    codes = {one.code for one in plan("Encounter?_revinclude=Observation:*").includes}
    assert codes == {"encounter", "focus"}
    (iterated,) = include("_revinclude:iterate=Provenance:target:DiagnosticReport")
    assert (iterated.iterate, iterated.target, iterated.within) == (
        True,
        "DiagnosticReport",
        "homes",
    )
    (media,) = include("_revinclude:iterate=DiagnosticReport:media")
    assert media.within == "homes"
    assert rule("Observation?_revinclude:iterate=Observation:performer") == (
        "revinclude-across-patients"
    )
    assert rule("Practitioner?_revinclude=Observation:*") == "revinclude-across-patients"


def test_elements_are_members_of_the_json() -> None:
    found = plan("Patient?_elements=name,birthDate,deceased,multipleBirthInteger").elements
    assert found == (
        "name",
        "birthDate",
        "deceasedBoolean",
        "deceasedDateTime",
        "multipleBirthInteger",
    )
    assert plan("Patient?_elements=resourceType,id,meta").elements == ("resourceType", "id", "meta")


@pytest.mark.parametrize("summary", ["true", "false", "text", "data", "count"])
def test_summary(summary: str) -> None:
    found = plan(f"Patient?_summary={summary}")
    assert (found.summary, found.only_count) == (summary, summary == "count")


def test_explain_and_contained() -> None:
    assert plan("Patient?__explain=true").explain
    assert not plan("Patient?__explain=false").explain
    assert plan("Patient?_contained=false").conditions == ()


def test_lenient_names_what_it_dropped() -> None:
    found = plan("Patient?nmae=secret&gender=male&_type=Patient&_sort=age", lenient=True)
    assert found.dropped == ("nmae", "_type", "_sort")
    assert found.applied == (("gender", "male"),)
    assert self_link("http://x", found) == "http://x/Patient?gender=male"


@pytest.mark.parametrize("name", ["_tag", "_profile", "_security", "_source"])
def test_what_every_type_has(name: str) -> None:
    for type in definitions().resource_types:
        assert len(plan(f"{type}?{name}=http://a.example").conditions) == 1


def compartment(owner: str, type: str, query: str = "") -> SearchPlan:
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&")] if query else []
    kind, _, id = owner.partition("/")
    return plan_compartment(kind, id, type, pairs, secret=SECRET)  # type: ignore[arg-type]


def test_a_compartment_is_what_hl7_says() -> None:
    key = key64("Patient/1")
    found = compartment("Patient/1", "Observation", "status=final&_count=5")
    refs = tuple(Ref(parameter_key("Observation", c), (key,)) for c in ("subject", "performer"))
    assert found.conditions[0] == AnyOf(refs)
    assert (found.patients, found.rest, found.compartment) == (("1",), True, ("Patient", "1"))
    assert self_link("http://x", found) == "http://x/Patient/1/Observation?status=final&_count=5"


@pytest.mark.parametrize(
    ("owner", "type", "patients", "follows", "home", "by_patient"),
    [
        ("Patient/1", "Encounter", ("1",), (), None, True),
        ("Patient/1", "Group", (), (), 0, False),
        ("Patient/1", "Appointment", (), (), None, False),
        ("Encounter/1", "Observation", (), (("Encounter", "1"),), None, False),
        ("RelatedPerson/1", "Observation", (), (("RelatedPerson", "1"),), None, False),
        ("Device/1", "Observation", (), (), None, False),
        ("Practitioner/1", "Encounter", (), (), None, False),
        ("Practitioner/1", "PractitionerRole", (), (), 0, False),
    ],
)
def test_what_binds_a_compartment(
    owner: str, type: str, patients: object, follows: object, home: object, by_patient: bool
) -> None:
    found = compartment(owner, type)
    assert (found.patients, found.follows, found.home, found.by_patient) == (
        patients, follows, home, by_patient
    )  # fmt: skip


def test_the_owner_is_in_its_compartment() -> None:
    assert compartment("Encounter/1", "Encounter").conditions == (Ids(("1",)),)
    (found,) = compartment("Patient/1", "Patient").conditions
    assert isinstance(found, AnyOf)
    assert found.conditions[0] == Ids(("1",))


def test_every_member_of_every_compartment_has_a_plan() -> None:
    counted = {name: len(member_types(name)) for name in definitions().compartments}
    for name in counted:
        for type in member_types(name):
            assert compartment(f"{name}/1", type).type == type
    assert counted == {
        "Device": 33, "Encounter": 25, "Patient": 66, "Practitioner": 59, "RelatedPerson": 32,
    }  # fmt: skip


def test_no_other_compartment() -> None:
    for owner, type in (("Organization/1", "Patient"), ("Patient/1", "Practitioner")):
        with pytest.raises(NotFound) as caught:
            compartment(owner, type)
        assert caught.value.issues[0].rule == "unknown-compartment"
    with pytest.raises(GatewayError) as refused:
        compartment("Patient/a b", "Observation")
    assert refused.value.issues[0].rule == "search-id"


def test_a_cursor_is_of_one_compartment() -> None:
    mine, other = (compartment(f"Patient/{id}", "Condition", "_count=1") for id in "12")
    cursor = encode_cursor(mine, (7,), Holder(SECRET, "me"))
    query = f"_count=1&_cursor={cursor}"
    assert resume(compartment("Patient/1", "Condition", query), Holder(SECRET, "me")).after
    for wrong in (compartment("Patient/2", "Condition", query), plan(f"Condition?{query}")):
        with pytest.raises(GatewayError) as caught:
            resume(wrong, Holder(SECRET, "me"))
        assert caught.value.issues[0].rule == "cursor"
    assert other.compartment == ("Patient", "2")
