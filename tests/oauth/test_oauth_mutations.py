"""The token mutator: every bent token, at every route of every door, is 401, and nothing is asked.

Faults 31 to 34: none and confusion of algorithms, keys that a token brings along or points at,
extensions that are not understood, encrypted tokens, other audiences, issuers and kinds, tokens
that have ended.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384
from databases import Databases
from effort import TORTURE
from joserfc import jwk
from provider import KeyServer, Provider, System, new_key, part, public, sign
from running import Running

from fhir_gateway.rest.operations import METHODS, OPERATIONS
from fhir_gateway.rest.routes import TABLE

pytestmark = pytest.mark.drivers("sqlite")

#: What stands for each name in a path.
NAMES = {
    "{type}": "Observation", "{id}": "o-1", "{version}": "1", "{member}": "Observation",
    "{job}": "j-1", "{file}": "f-1",
}  # fmt: skip


def routes() -> list[tuple[str, str]]:
    """(method, path) of every route that wants a credential, operations one by one."""
    found = [
        (method, f"/fhir/{path}")
        for path, methods in TABLE.items()
        for method in methods
        if path != "metadata" and "{operation}" not in path
    ]
    found += [
        (method, f"/fhir{where}/{name}")
        for where in ("", "/{type}", "/{type}/{id}")
        for name in OPERATIONS
        for method in METHODS
    ]
    found += [
        ("POST", "/cds-services/recognition-order-sign"),
        ("POST", "/cds-services/recognition-order-sign/feedback"),
        ("POST", "/hl7v2"),
        ("GET", "/metrics"),
    ]
    return [(method, _filled(path)) for method, path in found]


def _filled(path: str) -> str:
    for name, value in NAMES.items():
        path = path.replace(name, value)
    return path


class Mutator:
    """Bends what a provider would sign for the institution h-1."""

    def __init__(self, provider: Provider, trap: str) -> None:
        self.provider, self.trap = provider, trap
        self.stranger = new_key("provider-1")
        self.rsa = jwk.RSAKey.generate_key(2048, parameters={"kid": "provider-1"})

    def claims(self, **more: Any) -> dict[str, Any]:
        return self.provider.claims(**{"role": "institution", "institution": "h-1", **more})

    def signed(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        return sign(self.provider.key, self.claims(**claims), **(header or {}))

    def forged(self, header: dict[str, Any], signature: bytes = b"x" * 96) -> str:
        head = {"alg": "ES384", "kid": "provider-1", "typ": "at+jwt", **header}
        return f"{part(head)}.{part(self.claims())}.{part(signature)}"

    def all(self) -> dict[str, str]:
        """Every bent token by what is wrong with it."""
        good = self.signed()
        head, claims, signature = good.split(".")
        now = int(time.time())
        return {
            **self._algorithms(claims, signature),
            **self._headers(claims, signature),
            "claims swapped": f"{head}.{part(self.claims(institution='h-2'))}.{signature}",
            "signature cut": f"{head}.{claims}.",
            "signature of another": sign(self.stranger, self.claims()),
            "ended": self.signed(iat=now - 400, exp=now - 100),
            "no end": self.signed(exp=...),
            "not begun": self.signed(nbf=now + 3_000),
            "holds for ever": self.signed(exp=now + 10**9),
            "other audience": self.signed(aud="https://other.example/fhir"),
            "no audience": self.signed(aud=...),
            "other issuer": self.signed(iss="https://evil.example"),
            "no issuer": self.signed(iss=...),
            "id token": self.signed(nonce="n", aud=[self.provider.audience, "app-1"]),
            "refresh token": self.signed(typ="Refresh"),
            "bound to a key": self.signed(cnf={"jkt": "x"}),
            "bound to a certificate": self.signed(cnf={"x5t#S256": "x" * 43}),
            "three letters": "a.b.c",
            "nothing": "",
            "static of nobody": "fgw_" + "x" * 43,
            "issued of nobody": "fgt_" + "x" * 43,
            "two tokens": f"{good}, Bearer {good}",
            "too long": good + "A" * 9_000,
        }

    def _algorithms(self, claims: str, signature: str) -> dict[str, str]:
        kind = {"kid": "provider-1", "typ": "at+jwt"}
        bent = {
            f"alg {alg}": f"{part({'alg': alg, **kind})}.{claims}.{end}"
            for alg, end in (
                ("none", ""), ("None", ""), ("nOnE", signature), ("", ""), ("ES256", signature),
                ("RS384", signature), ("ES512", signature), ("EdDSA", signature), (None, ""),
            )
        }  # fmt: skip
        for alg, digest in (("HS256", hashlib.sha256), ("HS384", hashlib.sha384)):
            text = f"{part({'alg': alg, **kind})}.{claims}"
            for name, secret in (
                ("pem", self.provider.key.as_pem(private=False)),
                ("jwk", json.dumps(public(self.provider.key)).encode()),
                ("empty", b""),
            ):
                mac = hmac.new(secret, text.encode(), digest).digest()
                bent[f"{alg} with {name}"] = f"{text}.{part(mac)}"
        return bent

    def _headers(self, claims: str, signature: str) -> dict[str, str]:
        signed = {
            "crit": {"crit": ["x"], "x": 1},
            "crit exp": {"crit": ["exp"], "exp": 1},
            "b64": {"crit": ["b64"], "b64": False},
            "zip": {"zip": "DEF"},
            "jku": {"jku": self.trap},
            "x5u": {"x5u": self.trap},
            "jwk": {"jwk": public(self.stranger)},
            "x5c": {"x5c": ["AAAA"]},
            "kid unknown": {"kid": "other"},
            "kid path": {"kid": "../../../etc/passwd"},
            "kid sql": {"kid": "x' UNION SELECT 'a"},
            "kid address": {"kid": self.trap},
            "kid missing": {"kid": ...},
            "kid number": {"kid": 5},
            "typ": {"typ": "JWT"},
            "typ id": {"typ": "id+jwt"},
        }
        bent = {}
        for name, header in signed.items():
            head = {"alg": "ES384", "kid": "provider-1", "typ": "at+jwt", **header}
            head = {key: value for key, value in head.items() if value is not ...}
            key = self.stranger if name in ("jwk", "jku", "x5u") else self.provider.key
            bent[name] = _signed_past_checks(key, head, self.claims())
        encrypted = {"alg": "PBES2-HS256+A128KW", "enc": "A128CBC-HS256", "p2c": 10**9, "p2s": "x"}
        bent["jwe of many rounds"] = f"{part(encrypted)}.{part(b'x')}.{part(b'y')}.{part(b'z')}.x"
        bent["jwe bomb"] = f"{part({**encrypted, 'zip': 'DEF'})}.{claims}.{signature}"
        return bent


def _signed_past_checks(key: jwk.ECKey, head: dict[str, Any], claims: dict[str, Any]) -> str:
    """Signed truly, whatever the header says: a library would refuse to."""
    text = f"{part(head)}.{part(claims)}"
    private: Any = key.private_key
    r, s = utils.decode_dss_signature(private.sign(text.encode(), ec.ECDSA(SHA384())))
    return f"{text}.{part(r.to_bytes(48, 'big') + s.to_bytes(48, 'big'))}"


class Attacked(Running):
    """A gateway whose provider publishes its keys at an address; another one is a trap."""

    def __init__(self, database: str, folder: Path) -> None:
        self.page, self.trap = KeyServer(), KeyServer()
        self.provider = Provider(folder, jwks_url=self.page.url)
        self.page.publish(self.provider.key)
        super().__init__(
            database,
            **self.provider.settings(),
            outbound_networks="127.0.0.0/8",
            outbound_origins=f"http://127.0.0.1:{self.trap.port}",
        )
        self.institution("h-1")
        self.run(self.page.start())
        self.run(self.trap.start())

    def close(self) -> None:
        self.page.close()
        self.trap.close()
        super().close()


@pytest.fixture(scope="module")
def attacked(
    shared_database: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Attacked]:
    one = Attacked(shared_database.url("attacked"), tmp_path_factory.mktemp("issuers"))
    yield one
    one.close()


def check(attacked: Attacked, method: str, path: str, name: str, token: str) -> None:
    kind = "application/hl7-v2" if path == "/hl7v2" else "application/fhir+json"
    headers = {"authorization": f"Bearer {token}", "content-type": kind}
    answer = attacked.request(method, path, headers=headers, content=b"{}")
    assert answer.status_code == 401, (name, method, path, answer.text)
    assert answer.headers["www-authenticate"].startswith("Bearer"), (name, method, path)
    assert "provider-1" not in answer.text


def test_a_good_token_opens_where_bent_ones_do_not(attacked: Attacked) -> None:
    headers = {"authorization": f"Bearer {Mutator(attacked.provider, '').signed()}"}
    assert attacked.get("/fhir/Organization/h-1", headers=headers).status_code == 200
    assert attacked.page.asked == 1


def test_031_032_033_034_every_bent_token_is_refused_and_nothing_is_asked(
    attacked: Attacked,
) -> None:
    bent = Mutator(attacked.provider, attacked.trap.url).all()
    assert len(bent) > 50
    for name, token in bent.items():
        for method, path in (
            ("GET", "/fhir/Observation/o-1"),
            ("POST", "/cds-services/recognition-order-sign"),
            ("POST", "/hl7v2"),
        ):
            check(attacked, method, path, name, token)
    assert (attacked.page.asked, attacked.trap.asked) == (1, 0)


def test_031_032_034_every_route_refuses_bent_tokens(attacked: Attacked) -> None:
    """Each route some of them, in turn; in torture each route all of them."""
    bent = list(Mutator(attacked.provider, attacked.trap.url).all().items())
    found = routes()
    assert len(found) > 100
    for number, (method, path) in enumerate(found):
        turn = bent if TORTURE else [bent[(number * 2 + i) % len(bent)] for i in range(2)]
        for name, token in turn:
            check(attacked, method, path, name, token)
    assert (attacked.page.asked, attacked.trap.asked) == (1, 0)


def test_033_an_encrypted_token_costs_no_time(attacked: Attacked) -> None:
    """PBES2 with a thousand million rounds would take hours if anybody began with it."""
    bent = Mutator(attacked.provider, "").all()
    for name in ("jwe of many rounds", "jwe bomb"):
        check(attacked, "GET", "/fhir/Observation/o-1", name, bent[name])


def test_032_assertions_are_refused_for_the_same_reasons(attacked: Attacked) -> None:
    system = System(institution="h-1", root="https://gw.example").register(attacked)
    now = int(time.time())
    claims = {
        "iss": system.id, "sub": system.id, "aud": "https://gw.example/oauth/token",
        "exp": now + 200,
    }  # fmt: skip
    for number, header in enumerate((
        {"crit": ["x"], "x": 1}, {"crit": ["b64"], "b64": False}, {"zip": "DEF"},
        {"jku": attacked.trap.url}, {"x5u": attacked.trap.url}, {"jwk": public(system.key)},
        {"x5c": ["AAAA"]}, {"kid": attacked.trap.url}, {"alg": "none"},
    )):  # fmt: skip
        head = {"alg": "ES384", "kid": system.key.kid, "typ": "JWT", **header}
        token = _signed_past_checks(system.key, head, {**claims, "jti": f"j-{number}"})
        answer = system.ask(attacked, token)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), header
    head = {"alg": "ES384", "kid": system.key.kid, "typ": "JWT"}
    fine = _signed_past_checks(system.key, head, {**claims, "jti": "fine"})
    assert system.ask(attacked, fine).status_code == 200
    assert attacked.trap.asked == 0
