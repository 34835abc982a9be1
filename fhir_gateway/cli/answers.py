"""`fhir-gateway answers`: what doctors answered to reminders, what it lacks, who is to be told."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from fhir_gateway.cli.answers_alerts import alerts
from fhir_gateway.cli.answers_find import Filter, filters, period
from fhir_gateway.cli.rules_common import with_gateway
from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound
from fhir_gateway.recognition.answer import Reply, answers_of, record_answers
from fhir_gateway.recognition.answer_figures import Figures, answers_since
from fhir_gateway.recognition.answer_figures import figures as figures_of
from fhir_gateway.recognition.answer_model import DoctorAnswer
from fhir_gateway.recognition.answered import read_answer
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS


@click.group("answers")
def command() -> None:
    """Doctors' answers to reminders: list, show and complete them, and who relied on results that
    were corrected since.

    The store may be served meanwhile.
    """


def told(answer: DoctorAnswer) -> dict[str, Any]:
    """An answer as JSON, without what is empty."""
    members = answer._asdict()
    members["key"] = answer.key
    return {name: value for name, value in members.items() if value not in ("", None, (), 0, False)}


def line(answer: DoctorAnswer) -> str:
    """An answer as one line."""
    ground = (answer.ground or {}).get("code", "")
    parts = [
        answer.authored, answer.institution, answer.state, ground, *answer.flags,
        " ".join(answer.items), answer.user, f"Task/{answer.id}",
    ]  # fmt: skip
    return "  ".join(filter(None, parts))


def _print(answers: Iterable[DoctorAnswer], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([told(one) for one in answers], ensure_ascii=False, indent=2))
        return
    count = 0
    for count, one in enumerate(answers, 1):  # noqa: B007 - the count is told at the end
        click.echo(line(one))
    click.echo(f"{count} answers")


@command.command("list")
@filters
@click.option("--limit", type=click.IntRange(1), default=1_000, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def list_(gateway: Gateway, *, limit: int, as_json: bool, **chosen: Any) -> None:
    """Lists answers, those that changed last first.

    What still lacks its ground: --answer repeated --reason reason-missing.
    """
    wanted, found = Filter.of(gateway, **chosen), []
    async for answer in answers_since(gateway, wanted.start):
        if wanted.has(answer):
            found.append(answer)
            if len(found) == limit:
                break
    _print(found, as_json=as_json)


@command.command("show")
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@with_gateway
async def show(gateway: Gateway, *, id: str, as_json: bool) -> None:
    """Shows all answers to a decision, or all versions of one answer, the newest first.

    ID is the logical id of a GuidanceResponse or of a Task; its type may stand before it.
    """
    name = id.rpartition("/")[2]
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        history = await reader.history("Task", name)
        found = [one for stored in history if (one := read_answer(stored)) is not None]
        found = found or await answers_of(reader, name)
        if not found and await reader.read("GuidanceResponse", name) is None:
            raise NotFound(f"{id} is no decision and no answer", rule="answer")
    _print(found, as_json=as_json)


@command.command("complete")
@click.argument("id")
@click.option("--by", required=True, help="Who completes it: the name of a person.")
@click.option("--reason", default="", help="Code of the ground, such as N1.")
@click.option("--text", default="", help="The doctor's words.")
@click.option("--informed/--not-informed", default=None, help="Whether the patient was told.")
@click.option("--informed-at", default="", help="When, as 2026-11-22T08:00:00+08:00.")
@with_gateway
async def complete(gateway: Gateway, *, id: str, by: str, **said: Any) -> None:
    """Completes a repeat that lacked its ground or its text.

    ID is the logical id of the Task. Time and doctor of the answer stay; who completed it is kept.
    """
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read("Task", id.rpartition("/")[2])
    answer = read_answer(stored) if stored is not None else None
    if answer is None:
        raise NotFound(f"{id} is no answer", rule="answer")
    reply = Reply(
        expression="answers complete",
        decision=answer.decision,
        line=answer.line,
        outcome="completed",
        reason={"code": said["reason"]} if said["reason"] else None,
        text=said["text"].strip(),
        informed=said["informed"],
        user=by,
        informed_at=said["informed_at"],
    )
    (kept,) = await record_answers(gateway, GATEWAY, [reply], operation="answers complete")
    click.echo(line(kept.answer))
    click.echo("completed" if kept.changed else "nothing has changed")


@command.command("figures")
@click.option("--institution", default="", help="Id of an institution; all when left out.")
@click.option("--since", default="", help="First day, as 2026-11-01; the beginning.")
@click.option("--until", default="", help="Last day; today.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@with_gateway
async def figures(
    gateway: Gateway, *, institution: str, since: str, until: str, as_json: bool
) -> None:
    """Counts reminders and answers of a period by institution, repeats by ground.

    Rates are not printed: without a reminder there is none.
    """
    start, end = period(gateway, since, until)
    counted = await figures_of(gateway, start=start, end=end, institution=institution)
    if as_json:
        found = {name: dict(_counts(one)) for name, one in counted.items()}
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for name, one in counted.items():
        click.echo(f"{name or '(no institution)'}: {_spelled(dict(_counts(one)))}")
    click.echo(f"{len(counted)} institutions")


def _counts(one: Figures) -> Iterator[tuple[str, Any]]:
    for name in (
        "reminded", "recognizable", "recognised", "refused", "not_given", "text_missing",
        "cited", "viewed", "revoked", "unanswered",
    ):  # fmt: skip
        yield name, getattr(one, name)
    yield "repeated", dict(sorted(one.repeated.items()))


def _spelled(counts: Mapping[str, Any]) -> str:
    grounds = ", ".join(f"{ground} {number}" for ground, number in counts["repeated"].items())
    shown = [f"{name} {value}" for name, value in counts.items() if name != "repeated"]
    return ", ".join([*shown, f"repeated: {grounds or 'none'}"])


command.add_command(alerts)
