"""Certificates that a proxy hands on: how they are spelled, and of whom they are believed."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode
from hashlib import sha256
from urllib.parse import quote

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.security.certificate import (
    check_certificate_header,
    presented,
    read_thumbprint,
    thumbprint_of,
)
from fhir_gateway.settings import Settings

DER = b"\x30\x82" + bytes(range(200))
SPELLED = b64encode(DER).decode()
PEM = f"-----BEGIN CERTIFICATE-----\n{SPELLED[:64]}\n{SPELLED[64:]}\n-----END CERTIFICATE-----\n"
DIGEST = sha256(DER).digest()
THUMBPRINT = urlsafe_b64encode(DIGEST).decode().rstrip("=")
SETTINGS = Settings(client_certificate_header="Client-Cert", trusted_proxies="10.0.0.0/8")


@pytest.mark.parametrize("text", [f":{SPELLED}:", SPELLED, quote(PEM), PEM, PEM.replace("\n", " ")])
def test_every_proxys_spelling_is_the_same_certificate(text: str) -> None:
    assert thumbprint_of(text) == THUMBPRINT


@pytest.mark.parametrize("text", ["", "x", "::", ":AAAA:", quote("<pem>"), "A" * 20_000, "é"])
def test_what_is_no_certificate_is_none(text: str) -> None:
    assert thumbprint_of(text) == ""


def test_043_only_the_proxy_is_believed() -> None:
    headers = {"client-cert": f":{SPELLED}:"}
    assert presented(headers, "10.1.2.3", SETTINGS) == THUMBPRINT
    for peer in ("11.1.2.3", "127.0.0.1", "::1", "", "proxy"):
        assert presented(headers, peer, SETTINGS) == ""
    assert presented({}, "10.1.2.3", SETTINGS) == ""
    assert presented(headers, "10.1.2.3", Settings(trusted_proxies="10.0.0.0/8")) == ""


def test_a_thumbprint_is_given_in_any_usual_spelling() -> None:
    digits = DIGEST.hex()
    pairs = ":".join(digits[i : i + 2] for i in range(0, 64, 2)).upper()
    for text in (THUMBPRINT, digits, pairs, f" {digits}\n"):
        assert read_thumbprint(text) == THUMBPRINT
    for text in ("", "abc", digits[:-2], "z" * 64):
        with pytest.raises(Invalid):
            read_thumbprint(text)


@pytest.mark.parametrize(
    "settings",
    [{"client_certificate_header": "client-cert"},
     {"client_certificate_header": "bad header", "trusted_proxies": "10.0.0.0/8"},
     {"client_certificate_header": "Authorization", "trusted_proxies": "10.0.0.0/8"}],
)  # fmt: skip
def test_a_header_that_anybody_could_send_stops_the_start(settings: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        check_certificate_header(Settings(**settings))  # type: ignore[arg-type]
    check_certificate_header(SETTINGS)
    check_certificate_header(Settings())
