"""Tokens: a revoked one is none, for the operator's check and for a clock that steps back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fhir_gateway.cli.institution import command
from fhir_gateway.errors import Login
from fhir_gateway.interactions.authenticate import authenticate
from fhir_gateway.interactions.delete import delete
from fhir_gateway.interactions.institutions import has_token, issue_token, revoke_token
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS


def test_check_misses_a_token_that_was_revoked(tmp_path: Path) -> None:
    (tmp_path / "mappings" / "concepts").mkdir(parents=True)

    def operator(*arguments: str, stdin: str = "") -> list[str]:
        common = ["--database", f"sqlite:///{tmp_path}/g.sqlite", "--mappings"]
        done = CliRunner().invoke(
            command, [*arguments, *common, f"{tmp_path}/mappings"], input=stdin
        )
        return done.output.splitlines()

    token = operator("add", "demo", "示范医院", "--area", "110102")[-1]
    missing = "  - It has no token: fhir-gateway institution token demo"
    assert missing not in operator("check")
    operator("token", "--revoke", stdin=f"{token}\n")
    assert missing in operator("check")


def test_one_of_two_tokens_is_a_token(start: Callable[..., Any]) -> None:
    running = start()
    running.institution("demo")
    second = running.run(issue_token(running.gateway, "demo"))
    running.run(revoke_token(running.gateway, second))

    async def asked() -> bool:
        async with running.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await has_token(reader, "demo")

    assert running.run(asked()) is True


class Hands:
    """A clock that is set by hand."""

    def __init__(self, at: int) -> None:
        self.at = at

    def now(self) -> int:
        return self.at


def test_a_revoked_token_does_not_live_on_when_the_clock_steps_back(
    start: Callable[..., Any],
) -> None:
    running = start()
    headers = running.institution("demo")
    clock = Hands(running.gateway.clock.now())
    gateway = replace(running.gateway, clock=clock)
    running.run(authenticate(gateway, headers))
    running.run(revoke_token(gateway, headers["authorization"].removeprefix("Bearer ")))
    clock.at -= 3_600_000_000
    with pytest.raises(Login):
        running.run(authenticate(gateway, headers))


def test_the_token_of_an_institution_that_left_the_registry_is_dead(
    start: Callable[..., Any],
) -> None:
    running = start()
    headers = running.institution("demo")
    assert running.get("/fhir/Patient", headers=headers).status_code == 200
    running.run(delete(running.gateway, GATEWAY, type="Organization", id="demo"))
    running.gateway.tokens.clear()
    assert running.get("/fhir/Patient", headers=headers).status_code == 401
