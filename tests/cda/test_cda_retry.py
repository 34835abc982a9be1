"""A document that was refused for a table is a dead letter, and is tried again."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cda_cases import MAPPINGS, SECOND, lab

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.institution_samples import judge_samples
from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.dead_letters import dead, one, retry
from fhir_gateway.interactions.institutions import register
from fhir_gateway.interactions.intake_cda import receive_cda
from fhir_gateway.security.actor import Actor
from fhir_gateway.settings import Settings

ACTOR = Actor("institution", SECOND.name, institution=SECOND.id)


def test_a_document_is_tried_again_after_its_table_was_mended(tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    shutil.copytree(MAPPINGS, lacking)
    kinds = lacking / "cda" / "identifiers.csv"
    head = kinds.read_text("utf-8").splitlines()[0]
    kinds.write_text(f"{head}\n", "utf-8")
    sample = tmp_path / "document.xml"
    sample.write_bytes(lab())

    async def scenario() -> None:
        address = f"sqlite:///{tmp_path}/store.sqlite"
        gateway = await open_gateway(Settings(database=address, mappings=str(lacking)))
        try:
            await register(gateway, SECOND)
            with pytest.raises(GatewayError):
                await receive_cda(gateway, ACTOR, lab())
            (finding,) = await judge_samples(gateway, SECOND, [sample])
            assert finding.verdict == "fail"
            (letter,) = await dead(gateway, SECOND.id, door="cda")
            assert (await retry(gateway, letter, who="Operator")).outcome == "refused"
            mended = replace(gateway, settings=Settings(database=address))
            (finding,) = await judge_samples(mended, SECOND, [sample])
            assert finding.verdict == "pass"
            dry = await retry(mended, letter, who="Operator", dry_run=True)
            assert dry.outcome in ("stored", "flagged")
            assert (await one(mended, letter.id)).state == "open"
            assert (await retry(mended, letter, who="Operator")).outcome == dry.outcome
            row = await one(mended, letter.id)
            assert (row.state, row.who, row.attempts) == ("retried", "Operator", 3)
        finally:
            await gateway.store.close()

    asyncio.run(scenario())
