"""Samples of an institution, judged as its door would judge them, and not stored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fhir_gateway.cli.institution_selftest import FAIL, PASS, UNKNOWN, Finding
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.interactions.conversion import kind_of
from fhir_gateway.interactions.dead_letters import judge_cda
from fhir_gateway.interactions.foresee import judge_v2
from fhir_gateway.interactions.intake_bundle import check_entries
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.v2 import split_messages
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution


async def judge_samples(gateway: Gateway, one: Institution, paths: Iterable[Path]) -> list[Finding]:
    """A finding for each message, document or Bundle of these files, with all that is wrong."""
    await follow(gateway, one.id)
    found: list[Finding] = []
    for path in paths:
        raw = path.read_bytes()
        if raw.lstrip()[:1] == b"{":
            found.append(_fhir(one, path, raw))
            continue
        try:
            kind = kind_of(raw)
        except GatewayError as error:
            found.append(Finding(f"sample {path.name}", FAIL, _said(error.issues)))
            continue
        if kind == "cda":
            found.append(await _judged(gateway, one, path.name, raw, is_cda=True))
            continue
        for number, message in enumerate(split_messages(raw) or [raw], 1):
            name = f"{path.name}" if number == 1 else f"{path.name} message {number}"
            found.append(await _judged(gateway, one, name, message))
    return found


async def _judged(
    gateway: Gateway, one: Institution, name: str, raw: bytes, *, is_cda: bool = False
) -> Finding:
    try:
        if is_cda:
            warnings = await judge_cda(gateway, one, raw)
            return Finding(f"sample {name}", PASS, "can be read" + _doubts(warnings))
        judged = await judge_v2(gateway, one, raw)
    except GatewayError as error:
        return Finding(f"sample {name}", FAIL, _said(error.issues), "docs/integrate/errors.md")
    kinds = ", ".join(f"{number} {type}" for type, number in sorted(judged.kinds.items()))
    return Finding(f"sample {name}", PASS, (kinds or "nothing new") + _doubts(judged.warnings))


def _fhir(one: Institution, path: Path, raw: bytes) -> Finding:
    """JSON is judged entry by entry: its form and the values of R4."""
    actor = Actor("institution", one.name, institution=one.id)
    try:
        resources, refused = check_entries(actor, raw)
    except GatewayError as error:
        return Finding(f"sample {path.name}", FAIL, _said(error.issues), "docs/integrate/fhir.md")
    if refused:
        issues = [issue for each in refused for issue in each.error.issues]
        return Finding(f"sample {path.name}", FAIL, _said(issues), "docs/integrate/fhir.md")
    if not resources:
        return Finding(f"sample {path.name}", UNKNOWN, "holds no resource")
    return Finding(f"sample {path.name}", PASS, f"{len(resources)} resources")


def _doubts(warnings: Iterable[Issue]) -> str:
    said = _said(warnings)
    return f"; doubtful: {said}" if said else ""


def _said(issues: Iterable[Issue]) -> str:
    return "; ".join(
        f"{issue.expression}: {issue.diagnostics}" if issue.expression else issue.diagnostics
        for issue in issues
    )
