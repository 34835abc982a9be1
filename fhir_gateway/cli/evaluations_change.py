"""`fhir-gateway evaluations suspend`, `resume`, `expire`: from a day on, with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from fhir_gateway.cli.catalogue_frame import with_gateway
from fhir_gateway.cli.evaluations_store import register_of, store
from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotFound
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.recognition import register_change
from fhir_gateway.recognition.register_change import Chosen
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.terminology.evaluation import is_day


def _command(name: str, done: str, says: str) -> click.Command:
    @click.command(name, help=says)
    @click.argument("institution")
    @click.option("--from", "day", required=True, help="First day on which it holds, 2027-01-31.")
    @click.option("--reason", required=True, help="Why; kept with the evaluation.")
    @click.option("--item", "items", multiple=True, help="An item; repeatable. Else all of them.")
    @click.option("--body", "evaluator", default="", help="Evaluations of this body alone.")
    @click.option("--round", "round_", default="", help="Evaluations of this round alone.")
    @click.option("--dry-run", is_flag=True, help="Count, and store nothing.")
    @with_gateway
    async def run(gateway: Gateway, **options: Any) -> None:
        await _run(gateway, name, done, options)

    command: click.Command = run
    return command


async def _run(gateway: Gateway, name: str, done: str, options: dict[str, Any]) -> None:
    institution, day, reason = options["institution"], options["day"], options["reason"].strip()
    if not is_day(day):
        raise Invalid(f"--from: {day} is no day, write it as 2027-01-31", rule="evaluation-days")
    if not reason:
        raise Invalid("--reason: say why", rule="evaluation-reason")
    known = catalogue_of(gateway).items
    if unknown := [code for code in options["items"] if code not in known]:
        raise Invalid(f"--item: {', '.join(unknown)}: no item of the catalogue", rule="item")
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if institution not in await institutions_at(gateway, reader):
            raise NotFound(f"No institution {institution} is registered", rule="institution")
        register = await register_of(reader)
    chosen = Chosen(
        institution, frozenset(options["items"]), options["evaluator"], options["round_"]
    )
    changes = _CHANGES[name](register, chosen, day, reason)
    if not changes:
        raise NotFound(
            f"No evaluation of {institution} can be {done} from {day} on; look at: "
            f"fhir-gateway evaluations list --institution {institution}",
            rule="evaluation",
        )
    if not options["dry_run"]:
        await store(gateway, changes)
    rest = "; nothing stored (dry run)" if options["dry_run"] else ""
    click.echo(f"{institution}: {len(changes)} evaluations {done} from {day} on{rest}")


_CHANGES: dict[str, Callable[..., list[Any]]] = {
    "suspend": register_change.suspend,
    "resume": register_change.resume,
    "expire": register_change.expire,
}

suspend = _command(
    "suspend",
    "suspended",
    "Takes the mark of an INSTITUTION away from a day on, until it is resumed. Results of earlier "
    "days keep it, and what was decided before can be decided again to the byte.",
)
resume = _command(
    "resume",
    "resumed",
    "Lets suspended evaluations of an INSTITUTION count again from a day on.",
)
expire = _command(
    "expire",
    "expired",
    "Ends evaluations of an INSTITUTION from a day on, for good.",
)
