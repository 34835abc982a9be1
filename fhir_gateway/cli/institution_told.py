"""`fhir-gateway institution check ID`: the self-test of a vendor, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.institution_samples import judge_samples
from fhir_gateway.cli.institution_selftest import FAIL, PASS, UNKNOWN, Finding, look
from fhir_gateway.errors import Invalid
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.local_codes import stored_rows
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.terminology.catalogue import load_catalogue

_SIGNS = {PASS: "pass", FAIL: "FAIL", UNKNOWN: "?"}


async def judge_institutions(
    settings: Settings,
    ids: Sequence[str],
    samples: Sequence[Path],
    map_of: Callable[..., tuple[Any, list[str]]],
    *,
    as_json: bool,
) -> bool:
    """Tests institutions and tells what was found; whether nothing failed.

    Raises Invalid for one that is not registered. `map_of` gives a code map with its faults.
    """
    gateway = await open_gateway(settings, begin=False)
    try:
        known = await institutions(gateway)
        if unknown := [id for id in ids if id not in known]:
            raise Invalid(f"No institution {', '.join(unknown)} is registered", rule="institution")
        catalogue = load_catalogue(settings.terminology)
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            rows = await stored_rows(reader, catalogue)
        good = True
        for id in ids:
            faults = map_of(settings, id, catalogue, rows)[1]
            found = await look(gateway, known[id], faults)
            found += await judge_samples(gateway, known[id], samples)
            good = _tell(id, known[id].name, found, as_json=as_json) and good
        return good
    finally:
        await gateway.store.close()


def _tell(id: str, name: str, found: Sequence[Finding], *, as_json: bool) -> bool:
    failed = sum(one.verdict == FAIL for one in found)
    open_ = sum(one.verdict == UNKNOWN for one in found)
    if as_json:
        checks = [one._asdict() for one in found]
        told = {"id": id, "ok": not failed, "failed": failed, "unknown": open_, "checks": checks}
        click.echo(json.dumps(told, ensure_ascii=False))
        return not failed
    verdict = "to do" if failed else "ok"
    click.echo(f"{id} {name}: {verdict} ({failed} failed, {open_} not known yet)")
    for one in found:
        click.echo(f"  {_SIGNS[one.verdict]:<4}  {one.check}: {one.found}")
        if one.do and one.verdict != PASS:
            click.echo(f"          -> {one.do}")
    return not failed
