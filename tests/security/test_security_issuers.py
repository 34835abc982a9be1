"""The file of outside providers: what it may say, and that every fault of it is told at once."""

from __future__ import annotations

from typing import Any

import pytest
from provider import new_key, public

from fhir_gateway.errors import Invalid, Login
from fhir_gateway.security.issuers import Issuer, read_issuers
from fhir_gateway.security.jwt import Unverified
from fhir_gateway.security.jwt_access import Said, judge

NOW = 1_800_000_000
BASE = "https://gw.example/fhir"
ISSUER = "https://login.example"
CLAIMS = {
    "iss": ISSUER, "aud": BASE, "sub": "s-1", "iat": NOW - 10, "exp": NOW + 200, "jti": "j",
    "role": "clinician", "institution": "h-1", "client_id": "app",
}  # fmt: skip
KEY = public(new_key("k"))
SPELLED = ", ".join(f'{name} = "{value}"' for name, value in KEY.items())
ONE = f'[[issuer]]\nissuer = "{ISSUER}"\naudience = ["{BASE}"]\n'


def issuer(more: str = "") -> Issuer:
    return read_issuers(f"{ONE}keys = [{{ {SPELLED} }}]\n{more}")[ISSUER]


def said(more: str = "", typ: str = "at+jwt", **claims: Any) -> Said:
    given = {name: value for name, value in {**CLAIMS, **claims}.items() if value is not ...}
    token = Unverified("", "ES384", "k", typ, "", ISSUER, given)
    return judge(token, issuer(more), BASE, NOW * 1_000_000)


def test_a_file_of_nothing_lists_nobody() -> None:
    assert read_issuers("") == {}


def test_every_fault_of_the_file_is_told_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        read_issuers("""
[[issuer]]
issuer = "http://login.example"
audience = []
algorithms = ["HS256", "none"]
lifetime = 0
what = 1
keys = [{ kty = "EC" }, { kty = "oct", kid = "x" }]
role = "king"
[issuer.claims]
rolle = "x"
[issuer.roles]
doctor = "god"

[[issuer]]
issuer = 5
jwks_url = "ftp://x"
""")
    told = [issue.expression for issue in caught.value.issues]
    for expected in (
        "issuer[0].issuer", "issuer[0].audience", "issuer[0].algorithms", "issuer[0].lifetime",
        "issuer[0].what", "issuer[0].keys[0]", "issuer[0].keys[1]", "issuer[0].roles.role",
        "issuer[0].claims.rolle", "issuer[0].roles.doctor", "issuer[1].issuer",
        "issuer[1].jwks_url", "issuer[1].audience",
    ):  # fmt: skip
        assert expected in told


@pytest.mark.parametrize(
    "text",
    ["not toml", "[other]", "issuer = 1", f"{ONE}", f"{ONE}keys=[{{{SPELLED}, d = 'x'}}]",
     f"{ONE}keys = [{{ {SPELLED} }}]\n" * 2, "issuer = [1]", f"{ONE}jwks_url = 'http://x.example/'",
     f"{ONE}keys = [{{ {SPELLED} }}]\nlifetime = true",
     f"{ONE}keys = [{{ kty = 'RSA', kid = 'x', n = 'AQAB', e = 'AQAB' }}]"],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read_issuers(text)


def test_a_token_is_read_as_the_file_says() -> None:
    found = said(
        fhirUser=f"{BASE}/Practitioner/p-1",
        scope="user/*.rs openid",
        extensions={"ihe_iua": {"purpose_of_use": [{"system": "x", "code": "TREAT"}]}},
    )
    assert found == Said(
        issuer=ISSUER, role="clinician", institution="h-1", subject="s-1",
        user="Practitioner/p-1", patient="", client="app", scopes=("user/*.rs", "openid"),
        purpose="TREAT", jti="j", thumbprint="", until=(NOW + 200) * 1_000_000,
    )  # fmt: skip


def test_claims_may_stand_elsewhere_and_mean_something_else() -> None:
    more = """
purpose = "HOPERAT"
[issuer.claims]
role = "realm_access.roles"
institution = "https://login.example/org"
[issuer.roles]
physician = "clinician"
doctor = "clinician"
auditor = "regulator"
[issuer.institutions]
ORG7 = "h-7"
"""
    found = said(
        more, role=..., institution=..., realm_access={"roles": ["offline", "doctor", "physician"]},
        **{"https://login.example/org": "ORG7"},
    )  # fmt: skip
    assert (found.role, found.institution, found.purpose) == ("clinician", "h-7", "HOPERAT")
    for claims in (
        {"realm_access": {"roles": ["doctor", "auditor"]}},
        {"realm_access": {"roles": ["clinician"]}},
        {"realm_access": "doctor"},
        {},
        {"realm_access": {"roles": ["doctor"]}, "https://login.example/org": "ORG8"},
    ):
        with pytest.raises(Login):
            said(more, **{"https://login.example/org": "ORG7", **claims})


def test_an_issuer_may_speak_for_several_tenants() -> None:
    more = '[issuer.tenants]\nnorth = "h-2"\n'
    assert said(more, tenant="north").institution == "h-2"
    for claims in ({}, {"tenant": "south"}, {"tenant": ["north"]}):
        with pytest.raises(Login, match="tenant"):
            said(more, **claims)


def test_what_a_token_does_not_say_may_stand_in_the_file() -> None:
    found = said('role = "regulator"\ninstitution = "board"\n', role=..., institution=...)
    assert (found.role, found.institution, found.user) == ("regulator", "board", "s-1")


def test_a_patient_is_bound_by_claim_or_by_user() -> None:
    assert said(role="patient", patient="p-1").patient == "p-1"
    assert said(role="patient", fhirUser="Patient/p-2").patient == "p-2"
    assert said(role="patient", fhirUser=f"{BASE}/Patient/p-2").patient == "p-2"
    foreign = said(role="patient", fhirUser="https://other.example/fhir/Patient/p-2")
    assert foreign.patient == ""
    assert foreign.user == "https://other.example/fhir/Patient/p-2"


@pytest.mark.parametrize(
    "claims",
    [{"aud": "https://other.example/fhir"}, {"aud": f"{BASE}/"}, {"aud": ...}, {"aud": {}},
     {"aud": BASE.upper()}, {"aud": ["x", "y"]}, {"aud": "app"}, {"aud": [BASE, "app"]},
     {"nonce": "n"}, {"at_hash": "h"}, {"c_hash": "h"}, {"typ": "ID"}, {"typ": "Refresh"},
     {"token_use": "id"}],
)  # fmt: skip
def test_034_a_token_for_another_or_an_id_token_is_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Login):
        said(**claims)


@pytest.mark.parametrize("typ", ["", "JWT", "id+jwt", "logout+jwt", "dpop+jwt"])
def test_034_a_token_of_another_kind_is_refused(typ: str) -> None:
    with pytest.raises(Login):
        said(typ=typ)
    assert said('types = ["JWT"]', typ="jwt").role == "clinician"


@pytest.mark.parametrize(
    "claims",
    [{"exp": ...}, {"exp": NOW - 31}, {"exp": NOW + 4_000}, {"exp": NOW + 9_000, "iat": ...},
     {"iat": NOW + 31}, {"nbf": NOW + 31}, {"exp": "x"}, {"exp": 1e300}, {"iat": []},
     {"sub": ...}, {"sub": ""}, {"sub": 5}, {"sub": "x" * 300}, {"scope": 5}],
)  # fmt: skip
def test_036_times_and_names_that_cannot_be_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(Login):
        said(**claims)


def test_036_clocks_may_be_apart_a_little() -> None:
    assert said(exp=NOW - 29)
    assert said(iat=NOW + 29, exp=NOW + 600)
    assert said("lifetime = 7200", exp=NOW + 7_000)


def test_043_a_token_that_is_bound_to_something_else_is_refused() -> None:
    assert said(cnf={"x5t#S256": "abc"}).thumbprint == "abc"
    for bound in ({"jkt": "x"}, {"x5t#S256": "a", "jkt": "x"}, {"x5t#S256": ""}, "x", {}):
        with pytest.raises(Login, match="bound"):
            said(cnf=bound)


def test_a_purpose_is_a_code_or_nothing() -> None:
    for value, code in (
        ("TREAT", "TREAT"), ({"code": "ETREAT"}, "ETREAT"), ([], ""), (["TREAT", "X"], "TREAT"),
        ("no code", ""), (5, ""), ({"code": 5}, ""),
    ):  # fmt: skip
        assert said(extensions={"ihe_iua": {"purpose_of_use": value}}).purpose == code
