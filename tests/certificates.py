"""Certificates for the tests of TLS: an authority, and what it certifies for 127.0.0.1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PEM = serialization.Encoding.PEM


class Authority(NamedTuple):
    """A certificate that others descend from, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path) -> str:
        """The path of its certificate (PEM) in this folder."""
        path = folder / "authority.pem"
        path.write_bytes(self.certificate.public_bytes(_PEM))
        return str(path)


class Certified(NamedTuple):
    """The files of a certificate and its key, and its SHA-256 in hex."""

    chain: str
    key: str
    fingerprint: str


def authority() -> Authority:
    """A new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("test authority")
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(True, None), True)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return Authority(builder.add_extension(usage, True).sign(key, hashes.SHA256()), key)


def certified(root: Authority, folder: Path, name: str) -> Certified:
    """A certificate of this name for 127.0.0.1, for servers and clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    made = (
        _builder(_name(name), root.certificate.subject, key)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.ExtendedKeyUsage(purposes), False)
        .sign(root.key, hashes.SHA256())
    )
    chain, own = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(made.public_bytes(_PEM))
    own.write_bytes(
        key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    digest = sha256(made.public_bytes(serialization.Encoding.DER)).hexdigest()
    return Certified(str(chain), str(own), digest)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
    )
