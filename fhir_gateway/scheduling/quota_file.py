"""Files of quotas, read and linted: profiles/scheduling/quotas/*.toml, one version of a table each.

Which numbers are a rule and which are shown for demonstration stands beside each of them: a share
has a source, or says `demonstration = true`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from fractions import Fraction
from itertools import combinations, product
from pathlib import Path
from typing import Any, cast

from fhir_gateway.scheduling.files import Fault, Page, read_page, refused, share_of
from fhir_gateway.scheduling.generate import Period, period_start
from fhir_gateway.scheduling.quota import CHANNELS, Moment, QuotaTable, Scope, Share, covers
from fhir_gateway.scheduling.template import Kind, Site

_KEYS = (
    "table", "version", "title_zh", "title_en", "note", "effective_from", "effective_to", "kind",
    "modalities", "priority", "period", "holds_for", "channels",
)  # fmt: skip
_CHANNEL = (
    "channel", "share", "at_least", "expert", "expert_of", "opens", "closes", "falls_to",
    "before_ordinary_days", "demonstration", "source",
)  # fmt: skip


def load_quotas(folder: Path) -> tuple[QuotaTable, ...]:
    """All tables of a folder. Raises Invalid with every fault of every file."""
    tables, faults = read_quotas(folder)
    if faults:
        raise refused(faults)
    return tables


def read_quotas(folder: Path) -> tuple[tuple[QuotaTable, ...], list[Fault]]:
    """The sound tables of a folder, and every fault of its files alone and together."""
    tables: list[QuotaTable] = []
    faults: list[Fault] = []
    for path in sorted(folder.glob("*.toml")):
        page = read_page(path)
        table = quota_of(page) if not page.faults else None
        faults += page.faults
        if table is not None:
            tables.append(table)
    faults += _together(tables)
    return tuple(tables), faults


def quota_of(page: Page) -> QuotaTable | None:
    """The table of a page; None, and faults noted, when it has some."""
    document = page.document
    page.unknown("", document, _KEYS)
    period = cast(Period, page.word("", document, "period", ("day", "week", "month"), "week"))
    since = page.day("", document, "effective_from", need=True)
    until = page.day("", document, "effective_to")
    _effective(page, since, until, period)
    kind = cast(Kind, page.word("", document, "kind", ("visit", "exam")))
    modalities = document.get("modalities", [])
    if not isinstance(modalities, list) or (modalities and kind == "visit"):
        page.fault("modalities", "quota-modalities", "modalities is a list, for exams alone")
        modalities = []
    shares = _shares(page)
    texts = [page.text("", document, key) for key in ("table", "version", "title_zh", "title_en")]
    scopes, priority = _scopes(page), page.number("", document, "priority", default=0)
    if page.faults or since is None:
        return None
    name, version, title_zh, title_en = texts
    return QuotaTable(
        page.name, name, version, title_zh, title_en, since, until, kind,
        tuple(map(str, modalities)), scopes, priority, period, shares,
    )  # fmt: skip


def _effective(page: Page, since: date | None, until: date | None, period: Period) -> None:
    if since and until and until < since:
        page.fault("effective_to", "quota-order", f"effective_to {until} lies before {since}")
    if since and period_start(since, period) != since:
        page.fault("effective_from", "quota-effective", f"a table that counts by {period} begins "
                   f"with one: {period_start(since, period)} would do")  # fmt: skip


def _scopes(page: Page) -> tuple[Scope, ...]:
    found = []
    for place, table in page.tables("holds_for"):
        page.unknown(place, table, ("ranks", "municipal", "consortium_core"))
        ranks = table.get("ranks", [])
        if not isinstance(ranks, list) or not set(map(str, ranks)) <= {"0", "1", "2", "3"}:
            page.fault(f"{place}.ranks", "quota-ranks", "ranks is a list of 0, 1, 2 and 3")
            ranks = []
        flags = [page.flag(place, table, key) for key in ("municipal", "consortium_core")]
        found.append(Scope(tuple(ranks), flags[0], flags[1]))
    return tuple(found)


def _shares(page: Page) -> tuple[Share, ...]:
    found: list[tuple[str, Share, int]] = []
    for place, table in page.tables("channels"):
        share = _share(page, place, table)
        if share is None:
            continue
        if any(share.channel == one.channel for _, one, _ in found):
            page.fault(f"{place}.channel", "quota-twice", f"{share.channel} stands twice")
        lead = page.number(place, table, "before_ordinary_days", most=365, default=0)
        found.append((place, share, lead))
    shares = {share.channel: share for _, share, _ in found}
    if "ordinary" not in shares:
        page.fault("channels", "quota-ordinary", "the channel ordinary must be in every table: "
                   "what nobody else takes is sold there")  # fmt: skip
    _sums(page, list(shares.values()))
    for place, share, lead in found:
        _chain(page, place, share, shares)
        ordinary = shares.get("ordinary")
        if ordinary and share.opens.before - ordinary.opens.before < lead * 1440:
            page.fault(f"{place}.opens", "quota-lead", f"{share.channel} must open {lead} days "
                       "before ordinary: open it earlier, or ordinary later")  # fmt: skip
    order = sorted(shares.values(), key=lambda one: CHANNELS.index(one.channel))
    return tuple(order)


def _share(page: Page, place: str, table: Mapping[str, Any]) -> Share | None:
    before = len(page.faults)
    page.unknown(place, table, _CHANNEL)
    channel = page.word(place, table, "channel", CHANNELS)
    at_least = _part(page, place, table, "at_least") or Fraction()
    rest = table.get("share") == "rest"
    share = None if rest else _part(page, place, table, "share")
    if not rest and "share" not in table:
        share = at_least
        if "at_least" not in table:
            page.fault(place, "quota-share", 'share ("30%", "1/3" or "rest") or at_least must say '
                       "how much this channel gets")  # fmt: skip
    if share is not None and at_least > share:
        page.fault(f"{place}.at_least", "quota-least", "at_least must not be more than share")
    opens, closes = (_moment(page, place, table, key) for key in ("opens", "closes"))
    if opens is None and "opens" not in table:
        page.fault(place, "quota-opens", "opens must say when this channel is released, as "
                   'opens = { days_before = 7, at = "07:00" }')  # fmt: skip
    if opens and closes and closes.before >= opens.before:
        page.fault(f"{place}.closes", "quota-cutoff", "the cut-off comes before the release: "
                   "close later, or open earlier")  # fmt: skip
    demonstration = bool(page.flag(place, table, "demonstration"))
    source = page.text(place, table, "source", need=False)
    if not demonstration and not source and share != 0 and not rest:
        page.fault(place, "quota-source", "source must name the rule that this share comes from; "
                   "a number that no rule gives says demonstration = true")  # fmt: skip
    expert = _part(page, place, table, "expert") or Fraction()
    guaranteed = page.word(place, table, "expert_of", ("all", "guaranteed"), "all") != "all"
    falls_to = page.text(place, table, "falls_to", need=False)
    if len(page.faults) > before or opens is None:
        return None
    return Share(channel, share, at_least, expert, guaranteed, opens, closes, falls_to,
                 demonstration, source)  # fmt: skip


def _part(page: Page, place: str, table: Mapping[str, Any], key: str) -> Fraction | None:
    if key not in table:
        return None
    share = share_of(table[key])
    if share is None:
        page.fault(f"{place}.{key}", "quota-share", f'{key} must be a share of at most all, as '
                   '"30%", "12.5%" or "1/3"')  # fmt: skip
    return share


def _moment(page: Page, place: str, table: Mapping[str, Any], key: str) -> Moment | None:
    said = table.get(key)
    if said is None:
        return None
    place = f"{place}.{key}"
    if not isinstance(said, dict):
        page.fault(
            place, "file-shape", f'{key} must be written {{ days_before = 7, at = "07:00" }}'
        )
        return None
    page.unknown(place, said, ("days_before", "at"))
    days = page.number(place, said, "days_before", most=400)
    minutes = page.clock(place, said, "at")
    return None if minutes is None else Moment(days, minutes)


def _sums(page: Page, shares: Sequence[Share]) -> None:
    said = sum((one.share for one in shares if one.share is not None), Fraction())
    rests = [one.channel for one in shares if one.share is None]
    floors = sum((one.at_least for one in shares), Fraction())
    if said > 1 or floors > 1:
        page.fault("channels", "quota-sum", f"the channels get {_percent(max(said, floors))} of "
                   "the seats together: lower one of them")  # fmt: skip
    if len(rests) > 1:
        page.fault("channels", "quota-rest", f"{' and '.join(rests)} cannot both get the rest")
    elif not rests and said < 1 and shares:
        page.fault("channels", "quota-rest", f"{_percent(1 - said)} of the seats go to nobody: "
                   'give one channel share = "rest"')  # fmt: skip
    for one in shares:
        if one.share is None and one.at_least > 1 - said:
            page.fault("channels", "quota-least", f"{one.channel} is to get at least "
                       f"{_percent(one.at_least)}, and {_percent(1 - said)} are left")  # fmt: skip


def _chain(page: Page, place: str, share: Share, shares: Mapping[str, Share]) -> None:
    """Notes gaps: seats that after a cut-off nobody can take, for a time or for ever."""
    to = shares.get(share.falls_to)
    if share.closes is None:
        if share.falls_to:
            page.fault(f"{place}.falls_to", "quota-chain", "without cut-off nothing falls: say "
                       "closes, or leave falls_to out")  # fmt: skip
    elif share.channel == "ordinary":
        page.fault(f"{place}.closes", "quota-chain", "ordinary is the last channel and has no "
                   "cut-off")  # fmt: skip
    elif to is None:
        page.fault(place, "quota-chain", f"after its cut-off what {share.channel} has left falls "
                   f"to {share.falls_to or 'nobody'}: name a channel of this table")  # fmt: skip
    elif to.opens.before < share.closes.before:
        page.fault(f"{place}.closes", "quota-chain", f"{to.channel} opens only after this cut-off:"
                   " nobody could book what is left in between")  # fmt: skip
    elif to.closes is not None and to.closes.before >= share.closes.before:
        page.fault(f"{place}.falls_to", "quota-chain", f"{to.channel} is closed by then: let it "
                   f"fall to {to.falls_to or 'ordinary'}")  # fmt: skip


def _together(tables: Sequence[QuotaTable]) -> Iterable[Fault]:
    """Faults of tables beside each other: which one holds must never be a matter of chance."""
    modalities = sorted({one for table in tables for one in table.modalities} | {""})
    for one, other in combinations(tables, 2):
        if not _meet(one, other):
            continue
        if one.table == other.table:
            yield Fault(other.file, 0, "quota-overlap", f"{one.name} and {other.name} are in force "
                        "at the same time: end the older with effective_to")  # fmt: skip
        elif (
            one.priority == other.priority
            and one.kind == other.kind
            and any(
                covers(one, site, one.kind, modality) and covers(other, site, one.kind, modality)
                for site, modality in product(_SITES, modalities)
            )
        ):
            yield Fault(other.file, 0, "quota-ambiguous", f"{one.name} and {other.name} hold for "
                        "the same institutions: give one of them a higher priority")  # fmt: skip


_SITES = tuple(
    Site("", "", "", rank, municipal, core, "")
    for rank, municipal, core in product(range(4), (False, True), (False, True))
)


def _meet(one: QuotaTable, other: QuotaTable) -> bool:
    return (one.effective_to is None or other.effective_from <= one.effective_to) and (
        other.effective_to is None or one.effective_from <= other.effective_to
    )


def _percent(share: Fraction) -> str:
    return f"{float(share * 100):g} %"
