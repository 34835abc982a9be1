"""What `load` does with one file: read it, store it, tally it. Runs in the process of a worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.cli import load_files
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, Structure
from fhir_gateway.interactions.institutions import institution, institution_of_facility
from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.interactions.intake_bundle import (
    Stored,
    check_entries,
    is_bundle,
    receive_bundle,
    receive_resources,
)
from fhir_gateway.mapping.v2 import parse, split_messages
from fhir_gateway.mapping.v2_ack import read_header
from fhir_gateway.mapping.v2_oru import map_oru
from fhir_gateway.security.actor import GATEWAY, Actor
from fhir_gateway.security.institution import Institution

#: Lines of NDJSON that are stored together.
LINES = 500

#: A refusal with one of these rules may be cured by a file that comes later.
_WAITS = frozenset({"reference", "reference-unknown"})


class Task(NamedTuple):
    """A gateway, whose data it is, and whether anything is stored at all."""

    gateway: Gateway
    institution: str
    dry_run: bool

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


async def load_file(task: Task, path: Path, *, last: bool) -> tuple[Tally, bool]:
    """Stores a file. The second value is true when the file should be tried again after the
    others, because something that it refers to is not stored yet; `last` says not to ask."""
    tally = Tally(files=1)
    try:
        kind = load_files.kind_of(path)
        if kind == "json":
            await _load_json(task, path, tally)
        elif kind == "ndjson":
            await _load_lines(task, path, tally)
        else:
            await _load_messages(task, path, tally)
    except GatewayError as error:
        tally.refuse(str(path), "", error)
    waits = any(line["rule"] in _WAITS for line in tally.refused)
    return (Tally(), True) if waits and not last else (tally, False)


async def _load_json(task: Task, path: Path, tally: Tally) -> None:
    raw = load_files.read_document(path)
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


async def _load_lines(task: Task, path: Path, tally: Tally) -> None:
    numbers: list[int] = []
    lines: list[bytes] = []
    for number, line in load_files.read_lines(path):
        numbers.append(number)
        lines.append(line)
        if len(lines) == LINES:
            await _store_lines(task, path, numbers, lines, tally)
            numbers, lines = [], []
    if lines:
        await _store_lines(task, path, numbers, lines, tally)


async def _store_lines(
    task: Task, path: Path, numbers: list[int], lines: list[bytes], tally: Tally
) -> None:
    if task.dry_run:
        for number, line in zip(numbers, lines, strict=True):
            _check(task, line, tally, str(path), partial(_line, number))
        return
    stored = await receive_resources(task.gateway, task.actor, lines)
    _tally(task, stored, tally, str(path), lambda index: _line(numbers[index or 0]))


def _line(number: int, _: int | None = None) -> str:
    return f"line {number}"


def _tally(
    task: Task, stored: Stored, tally: Tally, file: str, place: Callable[[int | None], str]
) -> None:
    tally.count(stored.outcomes, task.institution)
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
        tally.count(outcomes, sender.id)
    tally.warn(file, place, answer.warnings)


async def _check_message(task: Task, raw: bytes, tally: Tally) -> None:
    sender = await _sender(task, raw)
    folder = f"{task.gateway.settings.mappings}/v2"
    message = parse(raw, default_charset=sender.charset, folder=folder)
    for resource in map_oru(message, sender, folder=folder).resources:
        count_checked(task, resource, tally, sender.id)
