"""What the gateway may call: listed origins, public or listed networks, and nothing disguised."""

from __future__ import annotations

import pytest

from fhir_gateway.errors import Forbidden, GatewayError, Invalid
from fhir_gateway.security.outbound import (
    Policy,
    allowed_target,
    check_addresses,
    check_listed,
    read_policy,
)

LISTED = "https://his.example"
POLICY = read_policy(f"{LISTED}, https://his.example:8443,http://127.0.0.1:9", "")
PUBLIC = "203.0.114.7"


def test_a_listed_origin_is_a_target_with_host_port_path_and_query() -> None:
    target = allowed_target("https://HIS.example/fhir/Patient/1?_format=json", POLICY)
    assert target == ("https", "his.example", 443, "/fhir/Patient/1?_format=json")
    assert (target.origin, target.literal) == (LISTED, False)
    assert allowed_target("https://his.example:443", POLICY).rest == "/"
    assert allowed_target("https://his.example:8443/x", POLICY).origin == f"{LISTED}:8443"


@pytest.mark.parametrize(
    "url",
    [
        "https://other.example/",
        "https://his.example.evil.example/",
        "https://his.example:444/",
        "http://his.example/",
        "http://127.0.0.1/",
        "https://169.254.169.254/latest",
    ],
)
def test_what_is_not_listed_is_forbidden(url: str) -> None:
    with pytest.raises(Forbidden):
        allowed_target(url, POLICY)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "his.example",
        "//his.example/",
        "ftp://his.example/",
        "file:///etc/passwd",
        "https://user@his.example/",
        "https://his.example@127.0.0.1/",
        "https://his.example\\@127.0.0.1/",
        "https://his.example#@127.0.0.1/",
        "https://his.example/#x",
        "https://his.example /",
        "https://his.example/\r\nHost: x",
        "https://his%2eexample/",
        "https://h\u0131s.example/",
        "https://his.example\uff0f/",
        "https://his.example./",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://017700000001/",
        "https://127.1/",
        "https://127.0.0.01/",
        "https://[127.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://[::1/",
        "https://-his.example/",
        "https://his..example/",
        "https://his.example:0/",
        "https://his.example:65536/",
        "https://his.example:/",
        "https://his.example/" + "a" * 2_048,
    ],
)
def test_an_address_that_two_parsers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        allowed_target(url, Policy(frozenset({url, LISTED})))


def test_an_address_of_ipv4_in_ipv6_is_judged_as_the_one_it_is() -> None:
    policy = Policy().allowing(["http://127.0.0.1"])
    assert allowed_target("http://[::ffff:7f00:1]/", policy).host == "127.0.0.1"
    with pytest.raises(Forbidden):
        check_addresses(allowed_target(LISTED, POLICY), ["::ffff:127.0.0.1"], POLICY)


def usable(*addresses: str, networks: str = "", url: str = LISTED) -> bool:
    policy = read_policy(url, networks)
    try:
        chosen = check_addresses(allowed_target(url, policy), addresses, policy)
    except Forbidden:
        return False
    assert chosen == addresses[0]
    return True


def test_a_public_address_may_be_called() -> None:
    assert usable(PUBLIC)
    assert usable(PUBLIC, "2400:cb00::1")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "::",
        "no address",
    ],
)
def test_an_inner_address_is_refused_also_beside_a_public_one(address: str) -> None:
    assert not usable(address)
    assert not usable(PUBLIC, address)
    assert not usable()


def test_listed_networks_may_be_called() -> None:
    assert usable("10.20.3.4", networks="10.20.0.0/16")
    assert not usable("10.21.3.4", networks="10.20.0.0/16")
    assert usable("::1", networks="::1/128, 127.0.0.0/8")
    assert usable("169.254.7.7", networks="169.254.7.0/24")
    assert not usable("169.254.169.254", networks="168.0.0.0/8")
    assert not usable("169.254.169.254", networks="169.0.0.0/8")


def test_plain_http_goes_to_this_machine_only() -> None:
    local = "http://localhost:8081"
    assert usable("127.0.0.1", networks="127.0.0.0/8", url=local)
    assert not usable("127.0.0.1", url=local)
    assert not usable("10.0.0.1", networks="10.0.0.0/8", url=local)
    with pytest.raises(Invalid):
        check_listed("http://his.example/")
    with pytest.raises(Invalid):
        read_policy("http://10.0.0.1", "10.0.0.0/8")


@pytest.mark.parametrize(
    ("origins", "networks"),
    [
        ("his.example", ""),
        ("*", ""),
        ("", "0.0.0.0/0"),
        ("", "::/0"),
        ("", "10.0.0.1/8"),
        ("", "hospital"),
    ],
)
def test_a_list_that_cannot_be_meant_stops_the_start(origins: str, networks: str) -> None:
    with pytest.raises(GatewayError):
        read_policy(origins, networks)
