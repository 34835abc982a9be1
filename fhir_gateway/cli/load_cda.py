"""CDA documents of a load: one in a file, taken in as the door takes it."""

from __future__ import annotations

from pathlib import Path

from fhir_gateway.cli.load_files import read_document
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.cli.load_work import Task, count_checked
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions.institutions import institution, institutions
from fhir_gateway.interactions.intake_cda import receive_cda
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.cda import Read, custodian_of, map_cda, read_cda
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.security.institution import Institution


async def load_document(task: Task, path: Path, tally: Tally) -> None:
    """Stores the document of a file, or says what would become of it."""
    raw = read_document(path)
    tally.messages += 1
    try:
        if task.dry_run:
            await _check(task, raw, tally)
        else:
            await _store(task, raw, tally, path)
    except GatewayError as error:
        tally.refuse(str(path), "document", error)


async def _store(task: Task, raw: bytes, tally: Tally, path: Path) -> None:
    answer = await receive_cda(task.gateway, task.actor, raw)
    tally.repeated += answer.repeated
    if answer.outcome is not None:
        outcomes = [item for item in answer.outcome.results if not isinstance(item, bytes)]
        tally.count(outcomes, task.institution, unmapped=answer.outcome.unmapped)
    tally.warn(str(path), "document", answer.issues)


async def _check(task: Task, raw: bytes, tally: Tally) -> None:
    """--dry-run: everything up to what the store alone can judge."""
    mappings = task.gateway.settings.mappings
    read = read_cda(parse_document(raw), mappings=mappings)
    sender = await _sender(task, read)
    await follow(task.gateway, sender.id)
    others = assigned_by_others(sender, await institutions(task.gateway))
    taken = map_cda(read, sender, mappings=mappings, others=others)
    for resource in (*taken.mapped.resources, *taken.studies):
        count_checked(task, resource, tally, sender.id)


async def _sender(task: Task, read: Read) -> Institution:
    """--institution, else the custodian of the document."""
    if task.institution:
        found = await institution(task.gateway, task.institution)
    else:
        found = custodian_of(read.header, await institutions(task.gateway))
    if found is None:
        raise Invalid(
            "No registered institution keeps this document; give --institution",
            expression="ClinicalDocument/custodian",
            rule="sender",
        )
    return found
