"""A gateway in the test's own process, for the tests of every room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import copy_context
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import httpx
import sown

from fhir_gateway.app import Application, build
from fhir_gateway.interactions.institutions import issue_token, register
from fhir_gateway.security import policy
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.security.tokens import Known, hash_token
from fhir_gateway.settings import Settings

BASE = "http://127.0.0.1"


class Running:
    """A gateway in this process, called without a network; its loop runs between calls only."""

    def __init__(
        self, database: Path | str, *, beside: Running | None = None, **chosen: Any
    ) -> None:
        """`beside` shares the loop of another one, for two that write to one database: a gateway
        whose loop stands still may hold a lock."""
        address = database if isinstance(database, str) else f"sqlite:///{database}"
        self.folder = mkdtemp()  # for files that a server database has no place for
        if not address.startswith("sqlite:"):
            chosen.setdefault("exports", self.folder)
        usual = type(self).build is Running.build and sown.is_usual(chosen)
        # spelled out, so that workers of this gateway have the same policy
        chosen.setdefault("policy", str(policy.default_path()))
        self.settings = Settings(database=address, **chosen)
        self.loop = beside.loop if beside is not None else asyncio.Runner()
        self._context = beside._context if beside is not None else copy_context()
        self._is_beside = beside is not None
        try:
            if usual and address.startswith("sqlite:///"):
                sown.begin(Path(address.removeprefix("sqlite:///")), self.run)
            self.application: Application = self.run(self.build(self.settings))
        except BaseException:  # settings that stop the start
            self.loop.close()
            rmtree(self.folder)
            raise
        self.gateway = self.application.gateway
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.application.asgi), base_url=BASE
        )

    def build(self, settings: Settings) -> Awaitable[Application]:
        """The application; a test with a clock of its own says so here."""
        return build(settings)

    def run(self, work: Awaitable[Any]) -> Any:
        """The result of a coroutine. Not by the runner's own `run`: for Ctrl-C it writes out what
        the task came to, which of a gateway takes longer than most requests."""

        async def awaited() -> Any:
            return await work

        loop = self.loop.get_loop()
        return loop.run_until_complete(loop.create_task(awaited(), context=self._context))

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; `json` goes out as FHIR JSON."""
        if "json" in options:
            options.setdefault("headers", {})
            headers = {"content-type": "application/fhir+json", **options["headers"]}
            options["content"] = httpx.Request("POST", BASE, json=options.pop("json")).content
            options["headers"] = headers
        return self.run(self.http.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("POST", path, json=body, **options)

    def put(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.request("PUT", path, json=body, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)

    def institution(self, id: str, name: str = "") -> dict[str, str]:
        """Registers an institution; the headers that carry its token."""
        entry = Institution(id=id, name=name or id, area="110105")
        self.run(register(self.gateway, entry))
        token = self.run(issue_token(self.gateway, id))
        return {"authorization": f"Bearer {token}"}

    def metrics(self) -> str:
        """The page of figures, as the operator sees it."""
        token, now = "operator", self.gateway.clock.now()
        actor = Actor("administrator", "operator")
        known = Known(actor, now + 1_000_000, 1 << 60, "issued")
        self.gateway.tokens[hash_token(token)] = known
        return self.get("/metrics", headers={"authorization": f"Bearer {token}"}).text

    def close(self) -> None:
        """Closes the store and the loop."""
        self.run(self.http.aclose())
        self.run(self.application.close())
        if not self._is_beside:
            self.loop.close()
        rmtree(self.folder)
