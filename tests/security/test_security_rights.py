"""The table of rights: its files, what it compiles to, and the Access that follows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fhir_gateway.errors import Forbidden, Invalid
from fhir_gateway.fhir.home import HOME_RULES
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import RESTRICTED, SYSTEM_ACCESS, Access, Actor, Sight
from fhir_gateway.security.policy import Policy
from fhir_gateway.security.rights import Rights, case_party, compile_rights, rights_of
from fhir_gateway.security.rights_file import READS, ROLES, WRITES, read_files

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
RIGHTS = rights_of(str(PROFILES))
OWN = key64("Organization/north")


class Site:
    """A policy that asks for a relation and for consent."""

    def sight(self, institution: str, areas: object = (), day: str = "") -> Sight:
        return Sight(key64(f"Organization/{institution}"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped tables, to be spoilt."""
    return Path(shutil.copytree(PROFILES / "access", tmp_path / "access"))


def _edit(folder: Path, file: str, before: str, after: str) -> None:
    text = (folder / file).read_text(encoding="utf-8")
    assert before in text
    (folder / file).write_text(text.replace(before, after, 1), encoding="utf-8")


def _faults(folder: Path) -> str:
    with pytest.raises(Invalid) as caught:
        read_files(folder)
    assert all(issue.rule == "rights" for issue in caught.value.issues)
    return "\n".join(issue.diagnostics for issue in caught.value.issues)


# -- the files -------------------------------------------------------------------------------------


def test_every_type_has_a_group_and_every_role_a_reach_for_every_interaction() -> None:
    assert RIGHTS.files.groups.keys() == HOME_RULES.keys()
    for type in HOME_RULES:
        for act in (*READS, *WRITES):
            row = RIGHTS.row(type, act)
            assert row is not None and row.reason and row.reaches.keys() == set(ROLES)


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("groups.csv", "workflow,Task,", "workflow,Task Tusk,", "Tusk is no resource type of R4"),
        (
            "groups.csv",
            "workflow,Task,",
            "workflow,Task Consent,",
            "Consent is in workflow",
        ),
        ("groups.csv", "workflow,Task,", "workflow,,", "in no group: Task"),
        ("groups.csv", "workflow,Task,", "Workflow,Task,", "named in small letters"),
        ("groups.csv", "group,types", "group,kinds", "its columns must be group, types"),
        ("rights.csv", "door,metrics,none", "door,metrics,some", "institution is one of all, own"),
        ("rights.csv", "attachment,reads", "attachments,reads", "attachments is no group"),
        (
            "rights.csv",
            "consent,delete,own,own",
            "consent,erase,own,own",
            "erase is no inter",
        ),
        ("rights.csv", "*,$validate", "*,read", "read is no interaction with *"),
        ("rights.csv", "door,metrics", "door,$metrics", "$metrics is no interaction with door"),
        ("rights.csv", ",A feed is a system's", ",,A feed is a system's", "it has 11 cells"),
        ("rights.csv", "what,interaction", "what,act", "its columns must be what, interaction"),
        ("rights.csv", "audit,writes,", "decision,writes,", "decision create stands twice"),
    ],
)
def test_a_fault_of_the_files_stops_the_start_and_is_named(
    folder: Path, file: str, before: str, after: str, said: str
) -> None:
    _edit(folder, file, before, after)
    assert said in _faults(folder)


def test_all_faults_of_both_files_are_told_at_once(folder: Path) -> None:
    _edit(folder, "groups.csv", "workflow,Task,", "workflow,Tusk,")
    _edit(folder, "rights.csv", "door,metrics,none", "door,metrics,some")
    _edit(folder, "rights.csv", "Whoever stored it changes it", "")
    told = _faults(folder)
    for said in ("Tusk is no", "in no group: Task", "is one of all", "a row has a reason"):
        assert said in told


def test_what_has_no_row_is_a_fault_of_the_table(folder: Path) -> None:
    text = (folder / "rights.csv").read_text(encoding="utf-8")
    kept = [line for line in text.splitlines() if not line.startswith("figures,writes")]
    (folder / "rights.csv").write_text("\n".join(kept), encoding="utf-8")
    assert "no row for figures create, figures update" in _faults(folder)


def test_files_that_are_missing_or_no_utf_8_are_named(folder: Path) -> None:
    (folder / "rights.csv").unlink()
    (folder / "groups.csv").write_bytes(b"\xff\xfe")
    told = _faults(folder)
    assert "rights.csv: cannot be read" in told and "groups.csv: cannot be read" in told


def test_a_site_has_its_own_table_or_the_shipped_one(tmp_path: Path, folder: Path) -> None:
    assert rights_of(str(tmp_path / "elsewhere")).files == RIGHTS.files
    _edit(folder, "rights.csv", "door,metrics,none", "door,metrics,all")
    own = rights_of(str(tmp_path))
    assert own.may("institution", "door", "metrics")
    assert not RIGHTS.may("institution", "door", "metrics")


def test_a_row_of_a_type_stands_before_that_of_its_group(folder: Path) -> None:
    with (folder / "rights.csv").open("a", encoding="utf-8") as file:
        file.write(f"Flag,create,{','.join(['none'] * len(ROLES))},Nobody raises flags here\n")
    rights = compile_rights(read_files(folder))
    assert not rights.may("institution", "Flag", "create")
    assert rights.may("institution", "Flag", "update")
    assert rights.may("institution", "Observation", "create")


# -- what it says ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "type", "act", "may"),
    [
        ("institution", "Observation", "create", True),
        ("clinician", "Observation", "create", True),
        ("clinician", "Patient", "$export", False),
        ("clinician", "door", "hl7v2", False),
        ("patient", "Observation", "read", True),
        ("patient", "Observation", "create", False),
        ("patient", "Consent", "create", True),
        ("patient", "Consent", "delete", False),
        ("patient", "AuditEvent", "search-type", True),
        ("patient", "Patient", "$match", False),
        ("clinician", "AuditEvent", "read", False),
        ("regulator", "AuditEvent", "search-type", True),
        ("regulator", "GuidanceResponse", "$replay", True),
        ("regulator", "Observation", "create", False),
        ("administrator", "Observation", "read", False),
        ("administrator", "Patient", "$everything", False),
        ("administrator", "Organization", "update", True),
        ("administrator", "PlanDefinition", "create", True),
        ("evaluator", "VerificationResult", "create", True),
        ("evaluator", "Observation", "read", False),
        ("open", "Observation", "delete", True),
        ("open", "AuditEvent", "create", False),
        ("system", "GuidanceResponse", "update", False),
    ],
)
def test_the_shipped_table_says(role: str, type: str, act: str, may: bool) -> None:
    operation = act if act.startswith("$") else ""
    assert RIGHTS.may(role, type, act, operation) is may


@pytest.mark.parametrize("role", ["patient", "regulator", "administrator", "evaluator"])
def test_nobody_but_institutions_and_their_doctors_writes_a_record(role: str) -> None:
    for type, group in RIGHTS.files.groups.items():
        if group in ("record", "attachment", "workflow", "decision", "audit"):
            able = {act for act in WRITES if RIGHTS.may(role, type, act)}
            answers = (role, type) == ("patient", "AppointmentResponse")  # on the own bookings
            assert able == ({"create"} if answers else set()), type


@pytest.mark.parametrize("role", ROLES)
def test_definitions_are_readable_by_every_role(role: str) -> None:
    for type, group in RIGHTS.files.groups.items():
        if group in ("definition", "map", "knowledge", "directory"):
            assert all(RIGHTS.may(role, type, act) for act in READS), type


@pytest.mark.parametrize("role", ROLES)
def test_what_is_in_no_row_is_allowed_to_nobody(role: str) -> None:
    assert not RIGHTS.may(role, "Observation", "operation", "$unheard-of")
    assert not RIGHTS.may(role, "door", "back")
    assert not RIGHTS.may(role, "Nonsense", "read")


def test_a_refusal_names_role_type_interaction_and_the_row() -> None:
    error = RIGHTS.refusal("patient", "Observation", "create", "Observation")
    assert isinstance(error, Forbidden)
    (issue,) = error.issues
    assert (issue.rule, issue.expression) == ("rights", "Observation")
    for word in ("patient", "create of Observation", "reports in its own name"):
        assert word in issue.diagnostics
    assert "nobody" in RIGHTS.refusal("open", "door", "back").issues[0].diagnostics


def test_a_referral_partner_is_a_relation_and_no_login() -> None:
    assert "referral" not in ROLES
    row = RIGHTS.row("relation", "referral")
    assert row is not None and "no login" in row.reason
    reached = {role for role in ROLES if row.reaches[role] != "none"}
    assert reached == {"institution", "clinician"}
    case = RIGHTS.row("relation", "case")
    assert case is not None
    assert {role for role in ROLES if case.reaches[role] != "none"} == {"regulator"}


def test_those_who_speak_for_one_party_are_bound() -> None:
    bound = {role for role in ROLES if Actor(role, "x").bound}  # type: ignore[arg-type]  # of Role
    assert bound == {"institution", "clinician", "evaluator", "patient"}


# -- the Access ------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["institution", "clinician"])
@pytest.mark.parametrize("policy", [None, Policy()])
def test_under_the_open_policy_an_institution_sees_what_it_always_saw(role, policy) -> None:
    """But of the audit log what the table grants: its own acts, a clinician none."""
    acts = frozenset({OWN} if role == "institution" else ())
    assert RIGHTS.access_for(role, institution="north", policy=policy) == Access(acts=acts)


def test_an_institution_sees_its_own_and_by_its_sight_what_others_hold() -> None:
    access = RIGHTS.access_for("institution", institution="north", policy=Site())
    assert (access.owners, access.sight, access.max_class) == (frozenset({OWN}), Sight(OWN), 0)
    assert {"AuditEvent", "GuidanceResponse", "Binary", "Group", "Bundle"} <= access.closed
    assert access.closed.isdisjoint({"Observation", "Task", "Organization", "PlanDefinition"})
    assert access.homes is None and not access.whole


def test_a_patient_sees_the_own_homes_and_what_is_public() -> None:
    access = RIGHTS.access_for("patient", homes=frozenset({7}), policy=Site())
    assert (access.owners, access.homes, access.sight) == (frozenset(), frozenset({7}), None)
    assert {"Observation", "AuditEvent", "Group"} <= access.closed  # his homes stand beside that
    assert access.closed.isdisjoint({"Organization", "PlanDefinition", "ValueSet"})
    nobody = RIGHTS.access_for("patient", policy=Site())
    assert nobody.homes == frozenset()


def test_072_a_regulator_sees_decisions_whole_and_content_by_a_case_alone() -> None:
    for policy in (None, Policy(), Site()):
        access = RIGHTS.access_for("regulator", institution="office", policy=policy)
        assert {"AuditEvent", "GuidanceResponse", "Task", "MeasureReport"} == access.whole
        assert "Observation" not in access.closed and access.max_class < 0
        assert access.sight == Sight(case_party("office"), relation=True, permit=False)
    assert RIGHTS.access_for("regulator").sight is None


def test_an_administrator_sees_no_person_at_all() -> None:
    access = RIGHTS.access_for("administrator", institution="office", policy=Site())
    assert access.sight is None and not access.whole and access.max_class < 0
    persons = {type for type, rule in HOME_RULES.items() if rule.person} | {"Patient"}
    assert persons <= access.closed
    assert access.closed.isdisjoint({"Organization", "Endpoint", "PlanDefinition", "ConceptMap"})


def test_an_evaluator_sees_its_own_evaluations_and_no_patients_rows() -> None:
    access = RIGHTS.access_for("evaluator", institution="north", policy=Site())
    assert access.owners == frozenset({OWN}) and access.sight is None
    assert {"VerificationResult", "Observation", "Patient"} <= access.closed


def test_the_gateway_sees_all_and_open_access_what_is_ordinary() -> None:
    assert RIGHTS.access_for("system", policy=Site()) is SYSTEM_ACCESS
    assert SYSTEM_ACCESS.max_class == RESTRICTED
    assert RIGHTS.access_for("open", policy=Site()) == Access()


def test_an_access_is_made_once() -> None:
    rights = Rights(RIGHTS.files, RIGHTS.allowed, RIGHTS.unseen)
    first = rights.access_for("institution", institution="north", policy=Site())
    assert rights.access_for("institution", institution="north", policy=Site()) is first
    assert rights.access_for("institution", institution="south", policy=Site()) is not first
