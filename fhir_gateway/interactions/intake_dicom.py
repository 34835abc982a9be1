"""Receiving DICOM files: their headers become Patients and ImagingStudies. The pixels stay where
they are. Imported by the command line alone: pydicom costs more to import than the rest to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, PreconditionFailed
from fhir_gateway.interactions.intake import ATTEMPTS, entries_of
from fhir_gateway.interactions.letters import Letter, received
from fhir_gateway.interactions.outcome import TransactionOutcome
from fhir_gateway.interactions.reconcile import Planned, current
from fhir_gateway.interactions.transaction import transaction
from fhir_gateway.mapping import merge
from fhir_gateway.mapping.dicom import Image, join_studies
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import Received
from fhir_gateway.store.store import Reader

DICOM_MEDIA = "application/dicom"


class Study(NamedTuple):
    """Images of one study, joined, and the headers they were read from."""

    patient: dict[str, Any]
    study: dict[str, Any]
    headers: list[bytes]


def study_of(images: Sequence[Image]) -> Study:
    """The images of one study as one study. Raises Conflict when they name two patients."""
    patient, study = images[0].patient, images[0].study
    for image in images[1:]:
        _check_subject(study, image.study)
        patient = merge.fill(patient, image.patient)
        study = join_studies(study, image.study)
    return Study(patient, study, [image.header for image in images])


def _check_subject(stored: dict[str, Any], new: dict[str, Any]) -> None:
    if stored["subject"] != new["subject"]:
        raise Conflict(
            "The images of one StudyInstanceUID name two patients",
            expression="StudyInstanceUID",
            rule="dicom-study",
        )


async def receive_study(gateway: Gateway, actor: Actor, study: Study) -> TransactionOutcome:
    """Adds the images to what is stored of the study. Raises Conflict, Forbidden."""
    kept = _kept(study.headers)
    letter = Letter("dicom", b"".join(study.headers), DICOM_MEDIA, kind="study",
                    name=_uid(study), institution=actor.institution or "")  # fmt: skip
    with received(letter):
        return await _receive(gateway, actor, study, kept)


def _uid(study: Study) -> str:
    """The StudyInstanceUID as ImagingStudy.identifier spells it."""
    return next((one["value"] for one in study.study.get("identifier", ()) if "value" in one), "")


async def _receive(
    gateway: Gateway, actor: Actor, study: Study, kept: Received
) -> TransactionOutcome:
    for _ in range(ATTEMPTS):
        async with gateway.store.snapshot(actor.access) as reader:
            plan = await _plan(reader, study)
        try:
            return await transaction(
                gateway, actor, entries_of(plan, "dicom"), received=kept, only_if_changed=True
            )
        except PreconditionFailed:
            continue
    raise Conflict("Other requests change the same study; send it again", rule="overtaken")


async def _plan(reader: Reader, new: Study) -> Planned:
    """A header knows less of a person than a report: what is stored of the Patient stands."""
    patient, patient_version = await current(reader, f"Patient/{new.patient['id']}")
    study, study_version = await current(reader, f"ImagingStudy/{new.study['id']}")
    if patient is not None:
        merge.check_same_person(patient, new.patient, ())
    if study is not None:
        _check_subject(study, new.study)
    return Planned(
        [
            (merge.fill(patient, new.patient) if patient else new.patient, patient_version),
            (join_studies(study, new.study) if study else new.study, study_version),
        ],
        [],
    )


def _kept(headers: Sequence[bytes]) -> Received:
    raw = b"".join(headers)
    enc, body = pack(raw)
    return Received(sha256(raw).digest(), DICOM_MEDIA, enc, body)
