"""A recorder of answers: whom each one named, to be joined with the audit log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, NamedTuple

import httpx
from running import Running

from fhir_gateway.accountability.journal import Place, since
from fhir_gateway.audit.events_parts import PERSONS_NAMED
from fhir_gateway.audit.events_read import Act
from fhir_gateway.security.actor import SYSTEM_ACCESS

Json = dict[str, Any]

_NAMED = re.compile(r"\bPatient/([A-Za-z0-9\-.]{1,64})")


class Told(NamedTuple):
    """One answer: the id of its request, whom the request named, whom the answer named, and the
    number of the last commit when its first byte left."""

    request: str
    asked: str
    status: int
    named: frozenset[str]
    at: int


class Recorder:
    """Sends requests and remembers whom the answers named. `newest` tells the last commit."""

    def __init__(self, running: Running, newest: Callable[[], int]) -> None:
        self.running, self.told = running, list[Told]()
        self._newest, self._numbers = newest, count(1)
        self._left = 0
        transport = httpx.ASGITransport(app=self._watching)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")

    async def _watching(self, scope: Any, receive: Any, send: Any) -> None:
        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._left = self._newest() if self._watched() else 1 << 62
            await send(message)

        await self.running.application.asgi(scope, receive, watched)

    def _watched(self) -> bool:
        """Another connection looks at the store at the first byte of every sixteenth answer."""
        return len(self.told) % 16 == 0

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        """One request; what it tells is remembered."""
        request = f"rq-{_letters(next(self._numbers))}"
        content = json.dumps(body).encode() if body is not None else None
        if content is not None:
            headers.setdefault("content-type", "application/fhir+json")
        headers["x-request-id"] = request
        answer: httpx.Response = self.running.run(
            self._http.request(method, path, content=content, headers=headers)
        )
        asked = f"{path} {content.decode() if content else ''}"
        named = named_in(answer.text) if answer.status_code < 400 else frozenset()
        self.told.append(Told(request, asked, answer.status_code, named, self._left))
        return answer

    def close(self) -> None:
        self.running.run(self._http.aclose())


def named_in(text: str) -> frozenset[str]:
    """Every Patient that a text names, by a reference or by being there."""
    found = set(_NAMED.findall(text))
    for line in text.splitlines() if text[:1] == "{" and "\n{" in text else [text]:
        try:
            found.update(_patients(json.loads(line)))
        except ValueError:
            continue
    return frozenset(found)


def _patients(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("resourceType") == "Patient" and "id" in value:
            yield value["id"]
        for one in value.values():
            yield from _patients(one)
    elif isinstance(value, list):
        for one in value:
            yield from _patients(one)


def _letters(number: int) -> str:
    """A number in letters: runs of digits might be somebody's."""
    text = ""
    while number:
        number, rest = divmod(number, 26)
        text = chr(ord("a") + rest) + text
    return text


def acts_of(running: Running) -> list[tuple[Place, Act]]:
    """Every act of the audit log, oldest first."""

    async def read() -> list[tuple[Place, Act]]:
        found: list[tuple[Place, Act]] = []
        place: Place = (0, 0, 0)
        while True:
            async with running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                after = place
                rows = await reader.steps(
                    lambda seen, after=after: since(seen, after, until=1 << 62, limit=500)
                )
            found += [(row.place, row.act) for row in rows]
            if len(rows) < 500:
                return found
            place = rows[-1].place

    acts: list[tuple[Place, Act]] = running.run(read())
    return acts


def named_by(act: Act) -> set[str]:
    """Every Patient that an act names: one by one, or in the ledger of an export."""
    ledger = dict(act.details).get(PERSONS_NAMED, "")
    return {one.partition("/")[2] for one in act.patients} | set(ledger.split())
