"""Dead letters: messages that were refused, until they are stored or set aside. docs/messages.md

A retry is the message once more, by its own door, from the bytes as they came: so it is judged by
the tables as they are now, stored in the name of its institution, and never twice. What came after
it stands: a door goes by the times that messages state, not by the order in which they come.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.audit.events import administration_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import (
    Conflict,
    Duplicate,
    GatewayError,
    Invalid,
    Issue,
    NotFound,
    NotSupported,
)
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.foresee import judge_v2
from fhir_gateway.interactions.institutions import institution, institutions
from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.interactions.intake_cda import receive_cda
from fhir_gateway.interactions.intake_merge import assigned_by_others
from fhir_gateway.interactions.intake_tabular import Source, receive_group
from fhir_gateway.interactions.intake_tabular_survey import groups_of, survey
from fhir_gateway.interactions.letters import RETRIED_BY
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.mapping.cda import map_cda, read_cda
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.mapping.tabular_map import read_map
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.message_changes import MessageSettled
from fhir_gateway.store.messages import (
    ASIDE,
    OPEN,
    Asked,
    Message,
    Place,
    find_message,
    id_of,
    message,
    messages,
    received_bytes,
)

#: Letters that are read at a time.
PAGE = 100


class Letter(NamedTuple):
    """A dead letter with its bytes, and whose it is."""

    message: Message
    sender: Institution
    raw: bytes


class Attempt(NamedTuple):
    """What became of a retry: stored, flagged or refused (still), or skipped. In a dry run: what
    would become of it."""

    message: Message
    outcome: str
    issues: Sequence[Issue] = ()


#: Tries a letter again in the name of a person; the issues of what is doubtful. Raises what is
#: wrong with it. A dry run stores nothing.
Retry = Callable[[Gateway, Letter, str, bool], Awaitable[Sequence[Issue]]]


async def dead(
    gateway: Gateway,
    institution: str,
    *,
    rule: str | None = None,
    door: str | None = None,
    state: str = OPEN,
    after: Place | None = None,
    limit: int = PAGE,
) -> list[Message]:
    """Dead letters of an institution, the oldest first."""
    asked = Asked(rule=rule, door=door, state=state)
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await messages(reader, institution, asked, after=after, limit=limit)


async def one(gateway: Gateway, id: str, *, institution: str | None = None) -> Message:
    """A message that was ever a dead letter. Raises NotFound, also for another institution's."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        if institution is not None:
            found = await message(reader, institution, id)
        else:
            found = await reader.steps(lambda _: find_message(id))
    if found is None or not found.state:
        raise NotFound("There is no such dead letter", rule="dead-letter")
    return found


async def bytes_of(gateway: Gateway, found: Message) -> tuple[str, bytes] | None:
    """Media type and bytes of a message; None when they are not kept any more."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        return await received_bytes(reader, found.hash)


# -- trying again ----------------------------------------------------------------------------------


async def retry(gateway: Gateway, found: Message, *, who: str, dry_run: bool = False) -> Attempt:
    """Tries one again, in the name of a person.

    One that is not open any more is skipped, so that a retry may be broken off and begun again.
    Raises Invalid when nobody answers for it; 5xx when the store cannot be reached.
    """
    if not who.strip():
        raise Invalid("Say who has it tried again: the name of a person", rule="operator")
    found = await one(gateway, found.id)
    if found.state != OPEN:
        return Attempt(found, "skipped")
    try:
        letter = await _letter(gateway, found)
        issues = await _retry_of(found.door)(gateway, letter, who, dry_run)
    except GatewayError as error:
        if error.status >= 500:
            raise
        return Attempt(found, "refused", error.issues)
    return Attempt(found, "flagged" if issues else "stored", issues)


async def retry_all(
    gateway: Gateway,
    institutions: Sequence[str],
    *,
    who: str,
    rule: str | None = None,
    door: str | None = None,
    dry_run: bool = False,
) -> AsyncIterator[Attempt]:
    """Tries all again that are open, the oldest first: what corrects comes after the corrected."""
    for id in institutions:
        after: Place | None = None
        while page := await dead(gateway, id, rule=rule, door=door, after=after):
            for found in page:
                yield await retry(gateway, found, who=who, dry_run=dry_run)
            after = page[-1].place


async def _letter(gateway: Gateway, found: Message) -> Letter:
    sender = await institution(gateway, found.institution)
    if sender is None:
        raise Conflict("Its institution is not registered any more", rule="institution")
    kept = await bytes_of(gateway, found)
    if kept is None:
        raise Conflict(
            "Its bytes are not kept any more: have the institution send it again",
            rule="bytes-gone",
        )
    return Letter(found, sender, kept[1])


def _retry_of(door: str) -> Retry:
    if door not in RETRIES:
        raise NotSupported(f"What came by the door {door} is sent again by its sender", rule="door")
    return RETRIES[door]


async def _retry_v2(gateway: Gateway, letter: Letter, who: str, dry_run: bool) -> Sequence[Issue]:
    if dry_run:
        await _check_number(gateway, letter.message)
        return (await judge_v2(gateway, letter.sender, letter.raw)).warnings
    answer = await receive_v2(gateway, _actor(letter, who), letter.raw, who=who)
    if answer.error is not None:
        raise answer.error
    return answer.warnings


async def _check_number(gateway: Gateway, found: Message) -> None:
    """Raises Duplicate when its control id stands for other content by now."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.once("v2", found.key)
    if stored is not None and not stored.startswith(found.hash):
        raise Duplicate(
            "This message control id was used before for a message with other content",
            expression="MSH[1]-10",
            rule="v2-control-id",
        )


async def _retry_table(
    gateway: Gateway, letter: Letter, who: str, dry_run: bool
) -> Sequence[Issue]:
    name = letter.message.name.partition(":")[0]
    path = Path(gateway.settings.mappings) / "tabular" / f"{name}.toml"
    table = read_map(path, mappings=gateway.settings.mappings)
    await follow(gateway, letter.sender.id)
    raw = letter.raw if letter.raw.endswith(b"\n") else letter.raw + b"\n"
    found = survey(lambda: BytesIO(raw), table, zone=letter.sender.zone, since="")
    if found.broken:
        raise found.broken[0]
    warnings: list[Issue] = []
    for group, wrong, _ in groups_of(lambda: BytesIO(raw), table, found):
        if wrong is not None:
            raise wrong
        source = Source(_actor(letter, who), letter.sender, table, found.head, who)
        became = await receive_group(gateway, source, group, dry_run=dry_run)
        warnings += became.warnings
    return warnings


async def _retry_cda(gateway: Gateway, letter: Letter, who: str, dry_run: bool) -> Sequence[Issue]:
    if dry_run:
        return await judge_cda(gateway, letter.sender, letter.raw)
    token = RETRIED_BY.set(who)
    try:
        return (await receive_cda(gateway, _actor(letter, who), letter.raw)).issues
    finally:
        RETRIED_BY.reset(token)


async def judge_cda(gateway: Gateway, sender: Institution, raw: bytes) -> Sequence[Issue]:
    """What is doubtful of a document, as it is mapped; what is stored is not looked at. Raises
    what is wrong with it."""
    mappings = gateway.settings.mappings
    read = read_cda(parse_document(raw), mappings=mappings)
    others = assigned_by_others(sender, await institutions(gateway))
    return map_cda(read, sender, mappings=mappings, others=others).mapped.warnings


def _actor(letter: Letter, who: str) -> Actor:
    """The institution, by the hand of the person who has it tried again."""
    return Actor("institution", letter.sender.name, institution=letter.sender.id, user=who)


#: Door -> how its letters are tried again.
RETRIES: dict[str, Retry] = {"hl7v2": _retry_v2, "table": _retry_table, "cda": _retry_cda}


# -- setting aside ---------------------------------------------------------------------------------


async def set_aside(
    gateway: Gateway, actor: Actor, found: Message, *, who: str, reason: str
) -> None:
    """Takes one off the list: a person says why it need not be stored. On record.

    Raises Invalid without a name or a reason, Conflict for one that is not open.
    """
    if not who.strip() or not reason.strip():
        raise Invalid("Setting aside takes the name of a person and a reason", rule="reason")
    if found.state != OPEN:
        raise Conflict(f"It is not open any more: {found.state}", rule="dead-letter-state")
    event = administration_event(
        call_of(gateway, actor)._replace(user=who),
        act="dead-letter",
        summary=f"{found.door} message set aside",
        details=[("message", found.id), ("rule", found.rule), ("reason", reason)],
    )
    change_set = ChangeSet(
        id=b"",
        journal=[entry(gateway, event)] if gateway.audit else [],
        settled=[MessageSettled(id_of(found.id), ASIDE, who, reason)],
    )
    await gateway.store.commit(change_set)
