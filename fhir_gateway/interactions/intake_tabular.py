"""Receiving rows of a table: one report, order, study or patient in one commit, with its rows.

The same way as a message (interactions.intake): mapped, compared with what is stored, stored whole
or not at all with the bytes it came as and its AuditEvent. What would change nothing is not
committed at all, so a table that is sent every night leaves no trace where nothing is new.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Issue, PreconditionFailed
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import refused
from fhir_gateway.interactions.foresee import foresee
from fhir_gateway.interactions.intake import ATTEMPTS, entries_of
from fhir_gateway.interactions.letters import Letter, received, under_way
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.interactions.reconcile import Planned, current, reconcile
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping.tabular import Taken, map_group
from fhir_gateway.mapping.tabular_fields import ORDERS, PATIENTS, STUDIES
from fhir_gateway.mapping.tabular_map import CSV, TableMap
from fhir_gateway.mapping.tabular_rows import Group, told
from fhir_gateway.security.actor import Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Received
from fhir_gateway.store.store import Reader

DOOR = "table"
MEDIA = {CSV: "text/csv"}
_NDJSON_MEDIA = "application/x-ndjson"

#: kind -> the type of what its rows are about; of the rest it is the report.
_MAIN = {ORDERS: "ServiceRequest", PATIENTS: "Patient", STUDIES: "ImagingStudy"}


class Source(NamedTuple):
    """Whose table it is, and how it is read. `head` is the header as it came, "" where there is
    none: rows are kept with it."""

    actor: Actor
    sender: Institution
    table: TableMap
    head: bytes = b""
    who: str = ""  # who has a group that was refused tried again


class Became(NamedTuple):
    """What became of a group: for each resource its type, kind (created, updated, unchanged) and
    content; and what was doubtful."""

    resources: list[tuple[str, str, dict[str, Any]]]
    warnings: Sequence[Issue]

    @property
    def changed(self) -> bool:
        """Whether anything is new."""
        return any(kind != "unchanged" for _, kind, _ in self.resources)


async def receive_group(
    gateway: Gateway, source: Source, group: Group, *, dry_run: bool = False
) -> Became:
    """Stores what a group of rows says; a dry run only says what would become of it.

    Raises with the lines and columns that are wrong; what is stored stays as it was.
    """
    with received(_letter(source, group)):
        try:
            return await _taken(gateway, source, group, dry_run=dry_run)
        except GatewayError as error:
            if error.status < 500 and not (dry_run or getattr(error, "audited", False)):
                await refused(gateway, source.actor, error, interaction="transaction")
            raise


def _letter(source: Source, group: Group) -> Letter:
    """What the register is told of a group: it is known by its table and its key."""
    table, who = source.table, source.sender.id
    said = "\x1f".join((who, table.name, *group.key))
    return Letter(
        DOOR, source.head + group.raw, MEDIA.get(table.format, _NDJSON_MEDIA),
        key=sha256(said.encode("utf-8", "surrogatepass")).digest(), kind=table.kind,
        name=f"{table.name}:{' '.join(group.key)}", institution=who, who=source.who,
    )  # fmt: skip


async def _taken(gateway: Gateway, source: Source, group: Group, *, dry_run: bool) -> Became:
    taken = map_group(source.table, group, source.sender, mappings=gateway.settings.mappings)
    try:
        return await _receive(gateway, source, group, taken, dry_run=dry_run)
    except GatewayError as error:
        if error.status >= 500:
            raise
        found = told(source.table, taken.rows, error)
        vars(found)["audited"] = getattr(error, "audited", False)
        raise found from None


async def _receive(
    gateway: Gateway, source: Source, group: Group, taken: Taken, *, dry_run: bool
) -> Became:
    kept = _kept(source, group)
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(source.actor.access) as reader:
            plan = await _plan(gateway, reader, source, taken)
        entries = entries_of(plan, DOOR)
        if (letter := under_way()) is not None:
            letter.warnings = tuple(plan.warnings)
        if dry_run or _is_known(source.table, plan):
            foreseen = Became(await foresee(gateway, source.actor, entries, kept),
                              plan.warnings)  # fmt: skip
            if dry_run or not foreseen.changed:
                return foreseen
        try:
            outcome = await transaction(
                gateway, source.actor, entries, received=kept, only_if_changed=True
            )
        except PreconditionFailed:
            continue
        return Became(list(_stored(outcome.results)), plan.warnings)
    raise Conflict("Other requests change the same resources; load again", rule="overtaken")


def _kept(source: Source, group: Group) -> Received:
    """The rows with their header: by themselves a table that can be read again."""
    raw = source.head + group.raw
    enc, body = pack(raw)
    media = MEDIA.get(source.table.format, _NDJSON_MEDIA)
    return Received(sha256(raw).digest(), media, enc, body)


async def _plan(gateway: Gateway, reader: Reader, source: Source, taken: Taken) -> Planned:
    naming = gateway.extractor.naming
    folder = f"{gateway.settings.mappings}/v2"
    plan = await reconcile(reader, taken.mapped, source.sender, folder=folder, naming=naming)
    if taken.study is None:
        return plan
    return Planned([*plan.resources, await _study(reader, taken.study)], plan.warnings)


async def _study(reader: Reader, study: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The study with what is stored of it: rows and images add to one another."""
    from fhir_gateway.mapping.dicom import join_studies  # noqa: PLC0415 - takes half a second

    stored, version = await current(reader, f"ImagingStudy/{study['id']}")
    if stored is None:
        return study, version
    if stored["subject"] != study["subject"]:
        raise Conflict(
            "This study was stored before for another patient; nothing was stored",
            expression="StudyInstanceUID",
            rule="dicom-study",
        )
    return join_studies(stored, study), version


def _is_known(table: TableMap, plan: Planned) -> bool:
    """Whether what the rows are about is stored already, so that they may say nothing new; or
    was left out of the plan, as older than what is."""
    main = _MAIN.get(table.kind, "DiagnosticReport")
    versions = [version for one, version in plan.resources if one["resourceType"] == main]
    return not versions or any(versions)


def _stored(results: Iterable[Outcome | bytes]) -> Iterable[tuple[str, str, dict[str, Any]]]:
    for result in results:
        if isinstance(result, Outcome):
            yield result.type, result.kind, parse(result.body())
