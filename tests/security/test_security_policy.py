"""The site's policy: what it says, and that every fault of its files is named."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.security.policy import Policy, load_policy

SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "access"
OPEN = Path(__file__).resolve().parents[1] / "policies" / "open.toml"


def changed(tmp_path: Path, *edits: tuple[str, str], file: str = "policy.toml") -> Path:
    """A copy of the shipped policy in which some lines are others."""
    folder = copytree(SHIPPED, tmp_path / "access")
    path = folder / file
    text = path.read_text(encoding="utf-8")
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text, encoding="utf-8")
    return folder / "policy.toml"


def test_the_shipped_policy_asks_for_a_relation_and_for_consent_at_each_encounter() -> None:
    policy = load_policy(SHIPPED / "policy.toml")
    sight = policy.sight("hospital-a")
    assert sight is not None
    assert (sight.relation, sight.permit, sight.denials) == (True, False, True)
    assert policy.rule().permits == "encounter"
    assert policy.guardian_age == 14
    assert not policy.is_open
    assert [one.code for one in policy.classes.rows][-1] == "hiv"


def test_a_policy_that_asks_for_nothing_is_no_sight_at_all() -> None:
    policy = load_policy(OPEN)
    assert policy.sight("hospital-a") is None
    assert policy.is_open
    assert Policy().is_open


def test_the_most_particular_override_of_the_day_wins(tmp_path: Path) -> None:
    text = (
        '\n[[override]]\narea = "110000"\nbasis = "opt-out"\n'
        '\n[[override]]\narea = "110105"\nbasis = "emergency"\n'
        'since = "2026-02-01"\nuntil = "2026-02-14"\n'
        '\n[[override]]\ninstitution = "hospital-b"\nbasis = "standing-opt-in"\n'
    )
    path = changed(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    policy = load_policy(path)
    within = ("110105", "110000")

    def basis(institution: str, areas: tuple[str, ...], day: str) -> str:
        return policy.rule(institution, areas, day).name

    assert basis("hospital-a", within, "2026-01-31") == "opt-out"
    assert basis("hospital-a", within, "2026-02-01") == "emergency"
    assert basis("hospital-a", within, "2026-02-14") == "emergency"
    assert basis("hospital-a", within, "2026-02-15") == "opt-out"
    assert basis("hospital-b", within, "2026-02-14") == "standing-opt-in"
    assert basis("hospital-c", ("120000",), "2026-02-14") == "opt-in-per-encounter"


@pytest.mark.parametrize(
    ("edit", "where"),
    [
        (('basis = "opt-in-per-encounter"', 'basis = "opt-in"'), "basis"),
        (('basis = "opt-in-per-encounter"', 'basiss = "legal-duty"'), "basiss"),
        (("guardian_age = 14", 'guardian_age = "14"'), "guardian_age"),
        (("guardian_age = 14", "guardian_age = true"), "guardian_age"),
        (("guardian_age = 14", "guardian_age = 99"), "guardian_age"),
        (('permits = "none"', 'permits = "some"'), "bases.legal-duty.permits"),
        (("relation = true", ""), "bases.legal-duty.relation"),
        (("[bases.opt-in-per-encounter]", "[bases.opt-in-perhaps]"), "bases.opt-in-perhaps"),
        (("minutes = 240", "minutes = 1"), "break_glass.minutes"),
        (("usual_minutes = 60", "usual_minutes = 241"), "break_glass.usual_minutes"),
        (("privacy_office = []", 'privacy_office = ["a b"]'), "break_glass.privacy_office[0]"),
        (('{ code = "other"', '{ code = "urgent-care"'), "break_glass.reasons[4].code"),
        (('roles = ["clinician"', 'roles = ["anybody"'), "break_glass.roles"),
        (("decision_hours = 72", "decision_hours = -1"), "relation.decision_hours"),
        (('classes = "classes.csv"', 'classes = "nothing.csv"'), "file"),
    ],
)
def test_a_fault_of_the_policy_is_named(tmp_path: Path, edit: tuple[str, str], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        load_policy(changed(tmp_path, edit))
    assert where in [issue.expression for issue in caught.value.issues]


@pytest.mark.parametrize(
    ("file", "edit", "where"),
    [
        ("classes.csv", ("6,hiv", "5,hiv"), "row 7"),
        ("classes.csv", ("6,hiv", "0,hiv"), "row 7"),
        ("classes.csv", ("6,hiv", "6,HIV"), "row 7"),
        ("classes.csv", (",yes,,,O03", ",perhaps,,,O03"), "row 3"),
        ("classes.csv", ("MolecularSequence", "Sequence"), "row 4"),
        ("classes.csv", ("number,", "numero,"), "row 1"),
        ("purposes.csv", ("TREAT,诊疗", "Treat me,诊疗"), "row 2"),
        ("purposes.csv", ("institution clinician,institution", "doctor,institution"), "row 2"),
        ("purposes.csv", ("ETREAT,", "TREAT,"), "row 3"),
        ("purposes.csv", (",yes,", ",maybe,"), "row 2"),
    ],
)
def test_a_fault_of_a_table_is_named(
    tmp_path: Path, file: str, edit: tuple[str, str], where: str
) -> None:
    with pytest.raises(Invalid) as caught:
        load_policy(changed(tmp_path, edit, file=file))
    assert where in [issue.expression for issue in caught.value.issues]
    assert file in caught.value.issues[0].diagnostics


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    edits = (("guardian_age = 14", "guardian_age = 99"), ("minutes = 240", "minutes = 1"))
    with pytest.raises(Invalid) as caught:
        load_policy(changed(tmp_path, *edits))
    assert len(caught.value.issues) >= 2


@pytest.mark.parametrize("text", ["version = ", "\x00"])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Invalid, match="TOML"):
        load_policy(path)
    with pytest.raises(Invalid, match="cannot be read"):
        load_policy(tmp_path / "missing.toml")


def test_a_purpose_is_stated_by_those_who_may() -> None:
    purposes = load_policy(SHIPPED / "policy.toml").purposes
    assert purposes.usual_of("clinician") == "TREAT"
    assert purposes.allows("clinician", "ETREAT")
    assert not purposes.allows("patient", "TREAT")
    assert purposes.opens("TREAT")
    assert not purposes.opens("HPAYMT")


@pytest.mark.parametrize(
    ("coding", "code"),
    [
        ({"system": "http://loinc.org", "code": "56888-1"}, "hiv"),
        ({"system": "http://loinc.org", "code": "2823-3"}, None),
        ({"system": "http://hl7.org/fhir/sid/icd-10", "code": "F32.1"}, "psychiatry"),
        ({"system": "http://hl7.org/fhir/sid/icd-10", "code": "b20.0"}, "hiv"),
        ({"system": "urn:other", "code": "F32.1"}, None),
        ({"code": "56888-1"}, None),
    ],
)
def test_a_resource_is_classified_by_every_coding_in_it(
    coding: dict[str, str], code: str | None
) -> None:
    classes = load_policy(SHIPPED / "policy.toml").classes
    number = (classes.numbered(code) if code else 0) or 0
    for resource in (
        {"resourceType": "Observation", "code": {"coding": [coding]}},
        {"resourceType": "Observation", "component": [{"code": {"coding": [coding]}}]},
        {"resourceType": "Condition", "code": {"coding": [{"system": "a", "code": "b"}, coding]}},
    ):
        assert classes.of(resource) == number
    assert classes.of({"resourceType": "MolecularSequence"}) == classes.numbered("genetics")


def test_of_several_classes_the_strictest_counts() -> None:
    classes = load_policy(SHIPPED / "policy.toml").classes
    codes = [{"system": "http://loinc.org", "code": one} for one in ("20507-0", "56888-1")]
    resource = {"resourceType": "Observation", "code": {"coding": codes}}
    assert classes.of(resource) == classes.numbered("hiv")
