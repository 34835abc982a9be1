"""Who sends over MLLP: by certificate, by address; every fault of the file at once."""

from __future__ import annotations

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.security.mllp_senders import read_senders

ONE, TWO = "ab" * 32, "cd" * 32
FILE = f"""
[[sender]]
institution = "h-1"
networks = ["10.1.0.0/16", "2001:db8::/32"]

[[sender]]
institution = "h-2"
certificates = ["{":".join(ONE[n : n + 2] for n in range(0, 64, 2)).upper()}"]

[[sender]]
institution = "h-3"
networks = ["10.1.2.3"]
certificates = ["{TWO}"]
"""


@pytest.mark.parametrize(("address", "certificate", "institution"), [
    ("10.1.2.3", "", "h-1"),
    ("::ffff:10.1.2.3", "", "h-1"),
    ("2001:db8::7", "", "h-1"),
    ("10.2.0.1", "", None),
    ("10.2.0.1", ONE, "h-2"),
    ("10.1.2.3", ONE, "h-2"),  # a certificate says more than an address
    ("10.1.2.3", TWO, "h-3"),
    ("10.9.2.3", TWO, None),  # the right certificate from the wrong place
    ("10.1.2.4", TWO, "h-1"),
    ("", ONE, "h-2"),
    ("not an address", "", None),
    ("10.2.0.1", "ef" * 32, None),
])  # fmt: skip
def test_a_connection_is_one_institutions(
    address: str, certificate: str, institution: str | None
) -> None:
    assert read_senders(FILE).institution(address, certificate) == institution


@pytest.mark.parametrize(("text", "told"), [
    ("x = [", "not TOML"),
    ("[client]\na = 1", "[[sender]] tables only"),
    ("[[sender]]\ninstitution = 'h-1'", "everybody could send"),
    ("[[sender]]\nnetworks = ['10.0.0.1']", "logical id"),
    ("[[sender]]\ninstitution = 'h-1'\nnetworks = ['10.0.0.1/8']", "no network"),
    ("[[sender]]\ninstitution = 'h-1'\nnetworks = '10.0.0.1'", "a list of texts"),
    ("[[sender]]\ninstitution = 'h-1'\ncertificates = ['ab']", "64 hex digits"),
    ("[[sender]]\ninstitution = 'h-1'\nnetwork = ['10.0.0.1']", "is not known"),
    ("[[sender]]\ninstitution = 'a'\nnetworks = ['10.0.0.0/8']\n"
     "[[sender]]\ninstitution = 'b'\nnetworks = ['10.1.0.0/16']", "another institution's"),
    (f"[[sender]]\ninstitution = 'a'\ncertificates = ['{ONE}']\n"
     f"[[sender]]\ninstitution = 'b'\ncertificates = ['{ONE}']", "another institution's"),
])  # fmt: skip
def test_a_fault_of_the_file_is_told(text: str, told: str) -> None:
    with pytest.raises(Invalid, match=told.replace("[", r"\[").replace("]", r"\]")):
        read_senders(text)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(Invalid) as raised:
        read_senders("[[sender]]\nnetworks = ['x']\n[[sender]]\ninstitution = 'h'\nport = 1")
    assert [issue.expression for issue in raised.value.issues] == [
        "sender[0].institution", "sender[0].networks", "sender[1].port", "sender[1]",
    ]  # fmt: skip
