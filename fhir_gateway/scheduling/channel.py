"""Through which channels a caller may book a slot, in order of preference, each with its reason.

Pure: what is known of the caller, the patient and the consortium is given as values. What is not
known opens nothing and is said, so that a clinic can mend it (register a residence, a membership,
a referral). The order: what is kept for somebody is taken before what everybody may take.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from fhir_gateway.scheduling.files import Page, read_page
from fhir_gateway.scheduling.membership import Memberships

PREFERENCE = (
    "in-consultation", "green-channel", "grassroots-referral", "out-of-town", "ordinary",
)  # fmt: skip
_REACHES = ("own", "any")
_NAMED = ("grassroots-referral", "green-channel", "out-of-town")


class ChannelRules(NamedTuple):
    """profiles/scheduling/channels.toml."""

    version: str
    grassroots_ranks: tuple[int, ...]
    grassroots_reach: str
    green_modalities: tuple[str, ...]
    green_reach: str
    referral_days: int
    area_digits: int


class Referral(NamedTuple):
    """A ServiceRequest that refers the patient of the call: from whom, to whom, since when.

    `items` are catalogue codes, () for any examination; `to` is "" when it names no hospital.
    """

    id: str
    institution: str
    to: str
    active: bool
    day: date
    items: tuple[str, ...] = ()


class Caller(NamedTuple):
    """Who asks, and what is known of the patient. `rank` is the grade of the caller's institution
    (1 primary care), None when it is not registered; `residence` an area code, "" not known."""

    role: Literal["patient", "clinician", "institution"]
    institution: str = ""
    rank: int | None = None
    encounter: bool = False  # the patient has one in progress at the hospital of the slot
    residence: str = ""
    referrals: tuple[Referral, ...] = ()


class Wanted(NamedTuple):
    """What is asked for: a slot's hospital, kind, modality and items, and today's date.

    Without items, which only slots outside the catalogue are, the modality is "".
    """

    hospital: str
    kind: str
    today: date
    modality: str = ""
    items: tuple[str, ...] = ()
    area: str = "110000"


class Verdict(NamedTuple):
    """One channel for one caller: open or not, by which rule, with what the sentence names."""

    channel: str
    open: bool
    rule: str
    facts: tuple[tuple[str, str], ...] = ()


def load_channel_rules(path: Path) -> ChannelRules:
    """The rules in a file. Raises Invalid with every fault of it."""
    page = read_page(path)
    rules = channel_rules_of(page)
    page.check()
    return rules


def channel_rules_of(page: Page) -> ChannelRules:
    """The rules of a page; to be used only when it has no fault."""
    page.unknown("", page.document, ("version", *_NAMED))
    tables = {}
    for name in _NAMED:
        table = page.document.get(name)
        if not isinstance(table, dict):
            page.fault(name, "channel-missing", f"[{name}] must say who comes through it")
            table = {}
        tables[name] = table
    grass, green, away = tables.values()
    page.unknown("grassroots-referral", grass, ("ranks", "reach", "source"))
    page.unknown("green-channel", green, ("modalities", "reach", "referral_days", "source"))
    page.unknown("out-of-town", away, ("digits", "source"))
    ranks, modalities = grass.get("ranks", []), green.get("modalities", [])
    if not isinstance(ranks, list) or not all(isinstance(one, int) for one in ranks):
        page.fault("grassroots-referral.ranks", "channel-ranks", "ranks is a list of grades, as "
                   "[1] for primary care")  # fmt: skip
        ranks = []
    if not isinstance(modalities, list) or not all(isinstance(one, str) for one in modalities):
        page.fault("green-channel.modalities", "channel-modalities", "modalities is a list, as "
                   '["MR", "US", "CT", "PT"]')  # fmt: skip
        modalities = []
    return ChannelRules(
        page.text("", page.document, "version"), tuple(ranks),
        page.word("grassroots-referral", grass, "reach", _REACHES, "own"), tuple(modalities),
        page.word("green-channel", green, "reach", _REACHES, "own"),
        page.number("green-channel", green, "referral_days", least=1, most=366, default=30),
        page.number("out-of-town", away, "digits", least=2, most=6, default=2),
    )  # fmt: skip


def channels_of(wanted: Wanted, caller: Caller, memberships: Memberships, rules: ChannelRules
                ) -> list[Verdict]:  # fmt: skip
    """Every channel in order of preference, open ones and closed ones, each with its reason."""
    judged = {
        "in-consultation": _in_consultation(wanted, caller),
        "green-channel": _green_channel(wanted, caller, memberships, rules),
        "grassroots-referral": _grassroots(wanted, caller, memberships, rules),
        "out-of-town": _out_of_town(wanted, caller, rules),
        "ordinary": Verdict("ordinary", True, "ordinary-everybody"),
    }
    return [judged[channel] for channel in PREFERENCE]


def open_channels(verdicts: Sequence[Verdict]) -> list[str]:
    """The open ones, the preferred first."""
    return [one.channel for one in verdicts if one.open]


def _in_consultation(wanted: Wanted, caller: Caller) -> Verdict:
    channel = "in-consultation"
    if caller.role == "patient":
        return Verdict(channel, False, "consultation-patient")
    if caller.institution != wanted.hospital:
        return Verdict(channel, False, "consultation-elsewhere", (("hospital", wanted.hospital),))
    if not caller.encounter:
        return Verdict(channel, False, "consultation-no-encounter")
    return Verdict(channel, True, "consultation-encounter")


def _green_channel(wanted: Wanted, caller: Caller, memberships: Memberships,
                   rules: ChannelRules) -> Verdict:  # fmt: skip
    channel = "green-channel"
    # A slot without an item of the catalogue tells no modality: its pool has a part for this
    # channel only where its table of quotas is for its modality.
    if wanted.kind != "exam" or wanted.modality not in ("", *rules.green_modalities):
        known = "、".join(rules.green_modalities)
        return Verdict(channel, False, "green-modality", (("modalities", known),))
    if not caller.referrals:
        return Verdict(channel, False, "green-no-referral")
    faults: list[Verdict] = []
    for referral in caller.referrals:
        rule, facts = _referral_fault(wanted, referral, memberships, rules)
        told = (("referral", referral.id), *facts)
        if not rule:
            return Verdict(channel, True, "green-referral", told)
        faults.append(Verdict(channel, False, rule, told))
    return faults[0]


def _referral_fault(wanted: Wanted, referral: Referral, memberships: Memberships,
                    rules: ChannelRules) -> tuple[str, tuple[tuple[str, str], ...]]:  # fmt: skip
    """Why a referral opens no green channel; "" when it does."""
    until = referral.day + timedelta(days=rules.referral_days)
    if not referral.active:
        return "green-referral-over", ()
    if wanted.today > until:
        return "green-referral-old", (("day", str(until)),)
    if referral.to and referral.to != wanted.hospital:
        return "green-referral-elsewhere", (("hospital", referral.to),)
    if referral.items and not set(referral.items) & set(wanted.items):
        return "green-referral-other", (("items", "、".join(referral.items)),)
    if not _member(referral.institution, wanted, memberships, rules.green_reach):
        return "green-no-member", (
            ("institution", referral.institution), ("hospital", wanted.hospital),
        )  # fmt: skip
    return "", (("institution", referral.institution),)


def _grassroots(wanted: Wanted, caller: Caller, memberships: Memberships, rules: ChannelRules
                ) -> Verdict:  # fmt: skip
    channel = "grassroots-referral"
    if caller.role == "patient" or not caller.institution:
        return Verdict(channel, False, "grassroots-patient")
    if caller.rank is None:
        return Verdict(channel, False, "grassroots-unregistered",
                       (("institution", caller.institution),))  # fmt: skip
    if caller.rank not in rules.grassroots_ranks:
        return Verdict(channel, False, "grassroots-grade", (("institution", caller.institution),))
    found = _member(caller.institution, wanted, memberships, rules.grassroots_reach)
    facts = (("institution", caller.institution), ("hospital", wanted.hospital))
    if not found:
        return Verdict(channel, False, f"grassroots-no-member-{rules.grassroots_reach}", facts)
    return Verdict(channel, True, "grassroots-member", (*facts, ("consortium", found)))


def _member(institution: str, wanted: Wanted, memberships: Memberships, reach: str) -> str:
    """The name of a consortium by which an institution is a partner; "" for none."""
    day = str(wanted.today)
    found = memberships.between(institution, wanted.hospital, day)
    if not found and reach == "any":
        found = memberships.of(institution, day)
    return found[0].name if found else ""


def _out_of_town(wanted: Wanted, caller: Caller, rules: ChannelRules) -> Verdict:
    channel = "out-of-town"
    if len(caller.residence) < rules.area_digits:
        return Verdict(channel, False, "residence-unknown")
    if caller.residence[: rules.area_digits] == wanted.area[: rules.area_digits]:
        return Verdict(channel, False, "residence-here")
    return Verdict(channel, True, "residence-elsewhere")
