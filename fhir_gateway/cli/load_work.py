"""What `load` does with one file: read it, store it, tally it. Runs in the process of a worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.cli import load_files
from fhir_gateway.cli.load_pieces import Piece
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Structure
from fhir_gateway.interactions.institutions import (
    institution,
    institution_of_facility,
    institutions,
)
from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.interactions.intake_bundle import (
    Stored,
    check_entries,
    is_bundle,
    is_received,
    receive_bundle,
    receive_resources,
)
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.v2 import parse, split_messages
from fhir_gateway.mapping.v2_ack import read_header
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.security.actor import GATEWAY, Actor
from fhir_gateway.security.institution import Institution

#: A refusal with one of these rules may be cured by a file that comes later.
_WAITS = frozenset({"reference", "reference-unknown"})


class Task(NamedTuple):
    """A gateway, whose data it is, whether anything is stored at all, and whether what was stored
    before is passed over."""

    gateway: Gateway
    institution: str
    dry_run: bool
    resume: bool = False

    @property
    def actor(self) -> Actor:
        """The institution whose data is loaded, or the gateway itself."""
        if not self.institution:
            return GATEWAY
        return Actor("institution", "load", institution=self.institution)


async def check_institution(gateway: Gateway, id: str) -> None:
    """Raises Invalid for an institution that is not registered."""
    if id and await institution(gateway, id) is None:
        raise Invalid(
            f"No institution {id} is registered; see `fhir-gateway institution list`",
            rule="institution",
        )


class Result(NamedTuple):
    """What came of a piece: what to count, and what is to be tried again after the others because
    something that it refers to is not stored yet (the numbers of lines, or all of the piece)."""

    tally: Tally
    lines: tuple[int, ...] = ()
    again: bool = False


async def load_piece(task: Task, piece: Piece, *, last: bool) -> Result:
    """Stores a piece of a file; `last` says that nothing is tried again."""
    tally = Tally()
    if task.dry_run:
        await follow(task.gateway, task.institution)
    if piece.is_lines:
        return await _load_lines(task, piece, tally, last=last)
    try:
        kind = load_files.kind_of(piece.path)
        if kind == "json":
            await _load_json(task, piece.path, tally)
        elif kind == "cda":
            from fhir_gateway.cli.load_cda import load_document  # noqa: PLC0415 - it needs a Task

            await load_document(task, piece.path, tally)
        else:
            await _load_messages(task, piece.path, tally)
    except GatewayError as error:
        tally.refuse(str(piece.path), "", error)
    waits = any(line["rule"] in _WAITS for line in tally.refused)
    return Result(Tally(), again=True) if waits and not last else Result(tally)


async def _load_json(task: Task, path: Path, tally: Tally) -> None:
    raw = load_files.read_document(path)
    if task.resume and await is_received(task.gateway, [raw]):
        tally.repeated += 1
        return
    if task.dry_run:
        _check(task, raw, tally, str(path), _entry)
        return
    if is_bundle(raw):
        stored = await receive_bundle(task.gateway, task.actor, raw)
    else:
        stored = await receive_resources(task.gateway, task.actor, [raw])
    _tally(task, stored, tally, str(path), _entry)


def _entry(place: int | None) -> str:
    return "" if place is None else f"entry {place + 1}"


async def _load_lines(task: Task, piece: Piece, tally: Tally, *, last: bool) -> Result:
    path, numbers = str(piece.path), piece.numbers
    if task.dry_run:
        for number, line in zip(numbers, piece.lines, strict=True):
            _check(task, line, tally, path, partial(_line, number))
        return Result(tally)
    if task.resume and await is_received(task.gateway, piece.lines):
        tally.repeated += len(numbers)
        return Result(tally)
    stored = await receive_resources(task.gateway, task.actor, piece.lines)
    tally.count(stored.outcomes, task.institution, unmapped=stored.unmapped)
    waiting: list[int] = []
    for refused in stored.refused:
        if not last and refused.entry is not None and _waits(refused.error):
            waiting.append(numbers[refused.entry])
        else:
            tally.refuse(path, _line(numbers[refused.entry or 0]), refused.error)
    return Result(tally, tuple(waiting))


def _waits(error: GatewayError) -> bool:
    return any(issue.rule in _WAITS for issue in error.issues)


def _line(number: int, _: int | None = None) -> str:
    return f"line {number}"


def _tally(
    task: Task, stored: Stored, tally: Tally, file: str, place: Callable[[int | None], str]
) -> None:
    tally.count(stored.outcomes, task.institution, unmapped=stored.unmapped)
    for refused in stored.refused:
        tally.refuse(file, place(refused.entry), refused.error)


def _check(
    task: Task,
    raw: bytes,
    tally: Tally,
    file: str,
    place: Callable[[int | None], str],
) -> None:
    """--dry-run: everything up to the references, which only the store can judge."""
    resources, refused = check_entries(task.actor, raw)
    for resource in resources:
        count_checked(task, resource, tally, task.institution)
    for refusal in refused:
        tally.refuse(file, place(refusal.entry), refusal.error)


def count_checked(task: Task, resource: dict[str, Any], tally: Tally, who: str) -> None:
    """Counts a resource that a dry run found sound, and its codes that no map knows."""
    for coder in task.gateway.coders:
        coder(resource, who)
    tally.resources[str(resource["resourceType"]), "created"] += 1
    tally.flagged(resource, who)


async def _load_messages(task: Task, path: Path, tally: Tally) -> None:
    messages = split_messages(load_files.read_document(path))
    if not messages:
        raise Structure("The file holds no HL7 v2 message", rule="file")
    for number, raw in enumerate(messages, start=1):
        tally.messages += 1
        place = f"message {number}"
        try:
            if task.dry_run:
                await _check_message(task, raw, tally)
            else:
                await _store_message(task, raw, tally, str(path), place)
        except GatewayError as error:
            tally.refuse(str(path), place, error)


async def _sender(task: Task, raw: bytes) -> Institution:
    """--institution, else the one that MSH-4 names."""
    if task.institution:
        found = await institution(task.gateway, task.institution)
    else:
        found = await institution_of_facility(task.gateway, read_header(raw).facility)
    if found is None:
        raise Invalid(
            "No registered institution sends this message; give --institution",
            expression="MSH[1]-4",
            rule="sender",
        )
    return found


async def _store_message(task: Task, raw: bytes, tally: Tally, file: str, place: str) -> None:
    sender = await _sender(task, raw)
    actor = Actor("institution", "load", institution=sender.id)
    answer = await receive_v2(task.gateway, actor, raw)
    if answer.error is not None:
        raise answer.error
    tally.repeated += answer.repeated
    if answer.outcome is not None:
        outcomes = [item for item in answer.outcome.results if not isinstance(item, bytes)]
        tally.count(outcomes, sender.id, unmapped=answer.outcome.unmapped)
    tally.warn(file, place, answer.warnings)


async def _check_message(task: Task, raw: bytes, tally: Tally) -> None:
    sender = await _sender(task, raw)
    await follow(task.gateway, sender.id)
    folder = f"{task.gateway.settings.mappings}/v2"
    message = parse(raw, default_charset=sender.charset, folder=folder)
    others = assigned_by_others(sender, await institutions(task.gateway))
    mapped = map_message(message, sender, folder=folder, others=others)
    for resource in mapped.resources if isinstance(mapped, Mapped) else ():
        count_checked(task, resource, tally, sender.id)
