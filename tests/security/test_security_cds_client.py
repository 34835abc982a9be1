"""The file of CDS clients: whom it trusts, and every fault of it at once."""

from __future__ import annotations

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.security.cds_client import Clients, read_clients

GOOD = """
[[client]]
institution = "h-1"
issuer = "https://his.h-1.example"
jwks_urls = ["https://his.h-1.example/jwks.json"]
fhir_servers = ["https://his.h-1.example/fhir/"]

[[client]]
issuer = "https://cloud.example"
keys = [{ kty = "EC", kid = "1", crv = "P-384", x = "AA", y = "AA" }]
tenants = { north = "h-2", south = "h-3" }
fhir_servers = ["https://cloud.example/fhir"]

[[client]]
institution = "h-2"
fhir_servers = ["http://127.0.0.1:8000/fhir"]
"""


def test_issuers_and_servers_are_known_by_institution() -> None:
    clients = read_clients(GOOD)
    assert set(clients.by_issuer) == {"https://his.h-1.example", "https://cloud.example"}
    assert clients.by_issuer["https://cloud.example"].tenants == {"north": "h-2", "south": "h-3"}
    assert clients.may_ask("h-1", "https://his.h-1.example/fhir")
    assert clients.may_ask("h-1", "https://his.h-1.example/fhir/")
    assert clients.may_ask("h-2", "https://cloud.example/fhir")
    assert clients.may_ask("h-2", "http://127.0.0.1:8000/fhir")
    for institution, server in (
        ("h-2", "https://his.h-1.example/fhir"),
        ("h-1", "https://his.h-1.example/other"),
        ("h-1", "https://his.h-1.example/fhir/../x"),
        (None, "https://his.h-1.example/fhir"),
    ):
        assert not clients.may_ask(institution, server)


def test_an_empty_file_trusts_nobody() -> None:
    assert read_clients("") == Clients()
    assert not Clients().may_ask("h-1", "https://his.h-1.example/fhir")


def test_all_faults_of_the_file_are_told_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        read_clients("""
client = [
  5,
  { issuer = "https://a.example" },
  { institution = "h-1", jwks_urls = ["https://a.example/jwks"] },
  { institution = "h-1", issuer = "https://a.example", keys = [{ kty = "oct", kid = "1" }, 3] },
  { institution = "h-1", issuer = "https://b.example", jwks_urls = ["http://b.example/", 5] },
  { institution = 5, isuer = "x", fhir_servers = ["https://user@c.example/fhir"] },
  { institution = "h-1", issuer = "https://b.example", keys = [{ kty = "EC", kid = "1", d = "" }] },
  { issuer = "https://d.example", keys = [{ kty = "EC", kid = "1" }], tenants = { a = 5 } },
]
""")
    assert [issue.expression for issue in caught.value.issues] == [
        "client[0]",
        "client[1].institution",
        "client[1]",
        "client[2]",
        "client[3].keys[0]",
        "client[3].keys[1]",
        "client[3].issuer",
        "client[4].jwks_urls[0]",
        "client[4].jwks_urls[1]",
        "client[5].institution",
        "client[5].isuer",
        "client[5].institution",
        "client[5].fhir_servers[0]",
        "client[6].keys[0]",
        "client[6].issuer",
        "client[7].tenants.a",
    ]


@pytest.mark.parametrize("text", ["x = ", "client = 5", "[other]\nx = 1"])
def test_what_is_no_list_of_clients_stops_the_start(text: str) -> None:
    with pytest.raises(Invalid):
        read_clients(text)
