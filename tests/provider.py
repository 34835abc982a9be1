"""A small OpenID provider for tests: keys, a page of them, and access tokens for anybody.

It signs what an outside provider would sign; a gateway believes it by its file of issuers. Nothing
listens unless `serve` is called: the keys stand in the file. One call gives the settings, another
the headers of a request:

    provider = Provider(tmp_path)
    gateway = start(**provider.settings())
    headers = provider.token(role="clinician", institution="h-1", user="Practitioner/p-1")

A System is the other kind of caller: it signs its own assertions and asks the gateway for tokens.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from joserfc import jwk, jws
from running import Running

from fhir_gateway.interactions.clients import add_client
from fhir_gateway.security.clients import Client

ISSUER = "https://login.example"
#: Whom its tokens are meant for: the FHIR base, as the settings name it.
AUDIENCE = "https://gw.example/fhir"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def new_key(kid: str, curve: str = "P-384") -> jwk.ECKey:
    """A key of an elliptic curve."""
    return jwk.ECKey.generate_key(curve, parameters={"kid": kid})


def public(key: Any) -> dict[str, Any]:
    """The public half of a key, as a JWK."""
    found: dict[str, Any] = key.as_dict(private=False)
    return found


def sign(key: Any, claims: Any, *, alg: str = "ES384", **header: Any) -> str:
    """A token with these claims; what the header says can be overridden, `...` takes it out."""
    said = {"alg": alg, "kid": key.kid, "typ": "at+jwt", **header}
    said = {name: value for name, value in said.items() if value is not ...}
    registry = jws.JWSRegistry(algorithms=[said["alg"]], strict_check_header=False)
    text = claims if isinstance(claims, bytes) else json.dumps(claims)
    return jws.serialize_compact(said, text, key, registry=registry)


def part(value: Any) -> str:
    """One part of a token that nobody signed."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(text).decode().rstrip("=")


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"authorization": f"Bearer {token}"}


class Clock:
    """The time, moved by hand."""

    def __init__(self) -> None:
        self.us = time.time_ns() // 1_000

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return self.us

    def pass_by(self, seconds: float) -> None:
        """So many seconds later."""
        self.us += int(seconds * 1_000_000)


class KeyServer:
    """A page of keys on this machine, and how often it was asked for."""

    def __init__(self, *keys: Any) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/jwks.json"
        self.published, self.asked = [public(key) for key in keys], 0
        self.status, self.cache = "200 OK", "max-age=86400"

    async def start(self) -> None:
        """Listens, in the loop of whoever asks: a gateway's `run` does."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def publish(self, *keys: Any) -> None:
        """What the page says from now on."""
        self.published = [public(key) for key in keys]

    def close(self) -> None:
        """Listens no more."""
        self._listening.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        body = json.dumps({"keys": self.published})
        head = f"HTTP/1.1 {self.status}\r\ncache-control: {self.cache}\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


class Provider:
    """An issuer with one key and a file that makes a gateway believe it."""

    def __init__(
        self,
        folder: Path,
        *,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
        jwks_url: str = "",
        more: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self.issuer, self.audience, self.now = issuer, audience, now
        self.key = new_key("provider-1")
        keys = json.dumps(public(self.key)).replace('":', '" =')
        where = f'jwks_url = "{jwks_url}"' if jwks_url else f"keys = [{keys}]"
        self.file = folder / "issuers.toml"
        self.file.write_text(
            f'[[issuer]]\nissuer = "{issuer}"\naudience = ["{audience}"]\n{where}\n{more}\n'
        )

    def settings(self) -> dict[str, Any]:
        """Settings of a gateway that believes this provider."""
        return {"issuers": str(self.file), "base_url": self.audience}

    def claims(
        self,
        *,
        role: str = "clinician",
        institution: str = "",
        user: str = "",
        patient: str = "",
        scopes: str | Sequence[str] | None = None,
        purpose: str = "",
        seconds: int = 300,
        **more: Any,
    ) -> dict[str, Any]:
        """What a token says; `...` takes a claim out."""
        now = int(self.now())
        said: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": user or f"{role}-1",
            "iat": now,
            "exp": now + seconds,
            "jti": str(uuid4()),
            "role": role,
            "client_id": "app-1",
        }
        if scopes is not None:
            said["scope"] = scopes if isinstance(scopes, str) else " ".join(scopes)
        if purpose:
            said["extensions"] = {"ihe_iua": {"purpose_of_use": purpose}}
        said |= {"fhirUser": user} if user else {}
        said |= {"institution": institution} if institution else {}
        said |= {"patient": patient} if patient else {}
        said |= more
        return {name: value for name, value in said.items() if value is not ...}

    def signed(self, header: dict[str, Any] | None = None, **said: Any) -> str:
        """A token as text."""
        return sign(self.key, self.claims(**said), **(header or {}))

    def token(self, **said: Any) -> dict[str, str]:
        """The headers of a request by this role, institution, user, patient, scopes, purpose."""
        return bearer(self.signed(**said))


class System:
    """A system of an institution that is given tokens for its own assertions."""

    def __init__(
        self, id: str = "his-1", *, root: str = "http://127.0.0.1",
        now: Callable[[], float] = time.time, **about: Any,
    ) -> None:  # fmt: skip
        self.id, self.root, self.now = id, root, now
        self.key = new_key(f"{id}-key")
        self.client = Client(
            id=id, **{"jwks": (public(self.key),), "scopes": ("system/*.cruds",), **about}
        )

    def register(self, running: Running) -> System:
        """Puts it into the registry of a gateway; its institution must be there."""
        running.run(add_client(running.gateway, self.client))
        return self

    def assertion(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """What it signs for one request; `...` takes a claim or a header parameter out."""
        now = int(self.now())
        said = {
            "iss": self.id,
            "sub": self.id,
            "aud": f"{self.root}/oauth/token",
            "exp": now + 240,
            "jti": str(uuid4()),
            **claims,
        }
        said = {name: value for name, value in said.items() if value is not ...}
        return sign(self.key, said, **{"typ": "JWT", **(header or {})})

    def form(self, assertion: str = "", **fields: Any) -> dict[str, str]:
        """The form of a request for a token; `...` takes a field out."""
        said = {
            "grant_type": "client_credentials",
            "scope": "system/*.rs",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion or self.assertion(),
            **fields,
        }
        return {name: value for name, value in said.items() if value is not ...}

    def ask(self, running: Running, assertion: str = "", **fields: Any) -> httpx.Response:
        """The answer of the token endpoint; `headers` go with the request."""
        headers = fields.pop("headers", {})
        form = self.form(assertion, **fields)
        return running.request("POST", "/oauth/token", data=form, headers=headers)

    def headers(self, running: Running, **fields: Any) -> dict[str, str]:
        """The headers of a request with a new token."""
        return bearer(self.ask(running, **fields).json()["access_token"])
