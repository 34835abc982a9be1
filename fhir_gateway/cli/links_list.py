"""`fhir-gateway links list` and `show`: what reviewers were asked, and what they said."""

from __future__ import annotations

import json
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import table, with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.fhir.wire import parse
from fhir_gateway.identity.link import QUESTIONS, Question, patients_of, read_question
from fhir_gateway.identity.review_store import questions
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Reader, Stored


def said(question: Question) -> dict[str, Any]:
    """A question as JSON."""
    return {
        "id": question.id, "code": question.code, "status": question.status,
        "grade": question.grade, "score": question.score, "records": list(question.records),
        "levels": question.levels, "edition": question.edition, "source": question.source,
        "asked": question.authored, "owner": question.owner,
    }  # fmt: skip


@click.command("list")
@click.option("--all", "everything", is_flag=True, help="Also questions that were answered.")
@click.option("--code", type=click.Choice(sorted(QUESTIONS)), help="Questions of this code.")
@click.option("--patient", default="", help="Questions about this Patient (logical id).")
@click.option("--limit", type=click.IntRange(1), default=200, help="At most so many; 200.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(
    gateway: Gateway, *, everything: bool, code: str | None, patient: str, limit: int, as_json: bool
) -> None:
    """Lists open questions about two records, those asked first at the top."""
    found: list[Question] = []
    more = False
    async for question in questions(gateway):
        if not (everything or question.is_open) or code not in (None, question.code):
            continue
        if patient and patient.removeprefix("Patient/") not in question.records:
            continue
        more = len(found) == limit
        if more:
            break
        found.append(question)
    if as_json:
        click.echo(json.dumps([said(one) for one in found], ensure_ascii=False))
        return
    rows = [
        (one.id, one.code, one.status, one.grade, f"{one.score:.4f}", *one.records,
         one.authored[:10])
        for one in found
    ]  # fmt: skip
    table([("question", "code", "status", "grade", "score", "record", "other", "asked"), *rows])
    click.echo(f"{len(rows)} questions" + (", and more: say --limit" if more else ""))


@click.command("show")
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
@with_gateway
async def show(gateway: Gateway, *, id: str, as_json: bool) -> None:
    """Shows one question or link: the comparison in levels, and every answer with its person.

    No name or number of a patient is printed; read the two records for that.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        question = _question(await reader.read("Task", id))
        versions = await reader.history("Linkage", id)
        people = await _homes(reader, versions)
    if question is None and not versions:
        raise NotFound(f"There is no question and no link {id}", rule="question-unknown")
    history = [_version(one) for one in versions if not one.deleted]
    told = {
        "question": said(question) if question is not None else None,
        "active": bool(history and history[0]["active"]),
        "homes": people,
        "history": history,
    }
    if as_json:
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    if question is not None:
        for name, value in said(question).items():
            click.echo(f"{name}: {' '.join(value) if isinstance(value, list) else value}")
    click.echo(f"link: {'active' if told['active'] else 'not active'}; homes {people or '-'}")
    for one in history:
        click.echo(f"  version {one['version']}: active {one['active']}, by {one['author']}")


def _question(stored: Stored | None) -> Question | None:
    return read_question(parse(stored.whole())) if stored and not stored.deleted else None


async def _homes(reader: Reader, versions: list[Stored]) -> list[list[int]]:
    """The homes of each record's person as they are now."""
    if not versions or versions[0].deleted:
        return []
    people = [await reader.person(id) for id in patients_of(parse(versions[0].whole()))]
    return [list(one.homes) for one in people if one is not None]


def _version(stored: Stored) -> dict[str, Any]:
    resource = parse(stored.whole())
    author = resource.get("author", {})
    return {
        "version": stored.version,
        "active": resource.get("active") is True,
        "author": author.get("display") or author.get("reference", ""),
        "updated": resource["meta"]["lastUpdated"],
    }
