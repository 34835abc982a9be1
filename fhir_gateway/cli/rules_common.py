"""What the commands of `fhir-gateway rules` share: the store, files, errors as sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.fhir.validate import read_resource
from fhir_gateway.recognition import publish
from fhir_gateway.recognition.known import area_depth, stored_rule_sets
from fhir_gateway.recognition.lint import lint
from fhir_gateway.recognition.lists import Views
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.vocabulary import catalogue_of, vocabulary_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import CANONICAL, load_settings
from fhir_gateway.terminology.catalogue import Catalogue

_SIGNS = {"error": "E", "fatal": "E", "warning": "W", "information": "i"}


def with_gateway(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Opens the store beside a running server or alone, and says errors as sentences."""

    @click.option("--database", help="Where the data is: sqlite:///PATH or postgresql://…")
    @wraps(function)
    def run(database: str | None, **options: Any) -> None:
        async def opened() -> None:
            gateway = await open_gateway(load_settings(database=database), begin=False)
            try:
                await function(gateway, **options)
            finally:
                await gateway.store.close()

        try:
            asyncio.run(opened())
        except GatewayError as error:
            raise refusal(error) from None

    return run


def refusal(error: GatewayError) -> click.ClickException:
    """A refusal as sentences, one line each."""
    return click.ClickException("\n  ".join(map(_line, error.issues)))


def _line(issue: Issue) -> str:
    if not issue.expression:
        return issue.diagnostics
    return f"{issue.expression}: {issue.diagnostics}"


def severity_sign(issue: Issue) -> str:
    """A letter for the beginning of a line."""
    return _SIGNS[issue.severity]


def on_file(what: str) -> dict[str, Any] | None:
    """The PlanDefinition in a file; None when there is no such file. Raises GatewayError."""
    path = Path(what)
    if not path.is_file():
        return None
    raw = path.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode())
    return read_resource(raw, type="PlanDefinition")


async def linted(gateway: Gateway, what: str) -> list[Issue]:
    """What is to be said of a rule set in a file or in the store, beside those in the store."""
    definition = on_file(what)
    if definition is None:
        definition = publish.named(await publish.rule_sets(gateway), what).definition
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await stored_rule_sets(reader)
    others = [one for _, one in stored if one.get("id") != definition.get("id")]
    catalogue = await _catalogue(gateway, definition)
    issues = lint(
        definition,
        catalogue or catalogue_of(gateway),
        others,
        depth=partial(area_depth, gateway),
        contexts=vocabulary_of(gateway),
    )
    if catalogue is None:
        text = "A list that the rule set speaks of is not in force today: nothing could be decided"
        path = "PlanDefinition.relatedArtifact"
        issues.append(Issue("business-rule", text, path, "lint-list", "warning"))
    return issues


async def _catalogue(gateway: Gateway, definition: dict[str, Any]) -> Catalogue | None:
    """The catalogue as the rule set sees it today; None when a list is not in force."""
    try:
        rule_set = load_rule_set(definition)
    except GatewayError:
        return catalogue_of(gateway)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        view = await Views().view(gateway, reader, rule_set, gateway.clock.now())
    return view.catalogue if view else None
