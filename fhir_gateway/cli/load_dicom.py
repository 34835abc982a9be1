"""DICOM files of a load: grouped into studies, so that a study of a thousand images is one version.

A module of its own because pydicom costs half a second to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.cli.load_files import read_start
from fhir_gateway.cli.load_tally import Tally
from fhir_gateway.cli.load_work import Task, count_checked
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.interactions.institutions import institution
from fhir_gateway.interactions.intake_dicom import receive_study, study_of
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.dicom import Image, read_image
from fhir_gateway.security.institution import Institution

#: Images that are held before their studies are stored; a header is a few kilobytes.
HELD = 2_000


class Found(NamedTuple):
    """An image and the file it is in."""

    path: Path
    image: Image


async def load_dicom(task: Task, paths: Sequence[Path]) -> Tally:
    """Stores the studies of the files, whose order does not matter."""
    tally = Tally(files=len(paths))
    owner = await institution(task.gateway, task.institution) if task.institution else None
    if owner is None:
        for path in paths:
            tally.refuse(str(path), "", _nobodys())
        return tally
    await follow(task.gateway, task.institution)
    for held in _held(task, owner, paths, tally):
        studies: dict[str, list[Found]] = {}
        for found in held:
            studies.setdefault(found.image.study["id"], []).append(found)
        for images in studies.values():
            await _store(task, images, tally)
    return tally


def _nobodys() -> Invalid:
    return Invalid("Whose images these are must be said: give --institution", rule="institution")


def _held(
    task: Task, owner: Institution, paths: Sequence[Path], tally: Tally
) -> Iterator[list[Found]]:
    """Images in handfuls of HELD; what is no readable DICOM is tallied as refused."""
    held: list[Found] = []
    for path in paths:
        try:
            mappings = task.gateway.settings.mappings
            held.append(Found(path, read_image(read_start(path), owner, mappings=mappings)))
        except GatewayError as error:
            tally.refuse(str(path), "", error)
        if len(held) == HELD:
            yield held
            held = []
    if held:
        yield held


async def _store(task: Task, images: list[Found], tally: Tally) -> None:
    try:
        study = study_of([found.image for found in images])
        if task.dry_run:
            for resource in (study.patient, study.study):
                count_checked(task, resource, tally, task.institution)
            return
        outcome = await receive_study(task.gateway, task.actor, study)
    except GatewayError as error:
        tally.refuse(str(images[0].path), f"study of {len(images)} files", error)
        return
    results = [item for item in outcome.results if not isinstance(item, bytes)]
    tally.count(results, task.institution, unmapped=outcome.unmapped)
