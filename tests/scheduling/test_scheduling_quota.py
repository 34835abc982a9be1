"""Quotas: exact division by largest remainder, leasts, experts; and the files that say them."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from math import ceil
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.errors import Invalid
from fhir_gateway.scheduling.files import Page, share_of
from fhir_gateway.scheduling.quota import apportion, divide, largest_remainder, table_for
from fhir_gateway.scheduling.quota_file import load_quotas, quota_of, read_quotas
from fhir_gateway.scheduling.template import Site

FOLDER = Path(__file__).resolve().parents[2] / "profiles" / "scheduling" / "quotas"
TABLES = load_quotas(FOLDER)
BY_NAME = {table.table: table for table in TABLES}
DAY = date(2026, 12, 7)
SEATS = st.integers(0, 2_000)


def site(**said):
    return Site("h", "h", "3A", 3, False, False, "")._replace(**said)


def totals(caps):
    return [sum(part[kind] for part in caps.seats.values()) for kind in ("expert", "ordinary")]


def seats(caps, channel):
    return sum(caps.seats[channel].values())


@settings(max_examples=examples(50))
@given(st.integers(0, 10_000), st.lists(st.fractions(0, 1), min_size=1, max_size=6))
def test_largest_remainder_adds_up_and_stays_within_one_of_the_exact_share(total, weights):
    found = largest_remainder(total, weights)
    assert sum(found) == total
    if whole := sum(weights):
        assert all(abs(n - total * w / whole) < 1 for n, w in zip(found, weights, strict=True))


@settings(max_examples=examples(50))
@given(st.integers(0, 500), st.lists(st.tuples(st.fractions(0, 1), st.integers(0, 60)),
                                     min_size=1, max_size=6))  # fmt: skip
def test_dividing_meets_every_least_while_there_is_enough(total, parts):
    weights, least = [list(column) for column in zip(*parts, strict=True)]
    found = divide(total, weights, least)
    assert sum(found) == total
    assert all(n >= 0 for n in found)
    if sum(least) <= total:
        assert all(n >= m for n, m in zip(found, least, strict=True))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.table)
@settings(max_examples=examples(25))
@given(expert=SEATS, ordinary=SEATS)
def test_caps_are_the_capacity_of_each_class_whatever_the_table(table, expert, ordinary):
    caps = apportion(table, expert, ordinary)
    assert totals(caps) == [expert, ordinary]
    assert all(n >= 0 for part in caps.seats.values() for n in part.values())


@settings(max_examples=examples(50))
@given(expert=SEATS, ordinary=SEATS)
def test_primary_care_gets_its_30_percent_and_half_of_it_with_experts_or_it_is_told(
    expert, ordinary
):
    for name in ("visits-level-3", "visits-municipal"):
        caps = apportion(BY_NAME[name], expert, ordinary)
        least = ceil(Fraction(3, 10) * (expert + ordinary))
        assert seats(caps, "grassroots-referral") >= least
        told = [one.rule for one in caps.findings]
        enough = caps.seats["grassroots-referral"]["expert"] >= ceil(Fraction(least, 2))
        assert enough or told == ["quota-expert-short"]
        assert enough or caps.seats["grassroots-referral"]["expert"] == expert


@settings(max_examples=examples(50))
@given(total=SEATS, expert=st.integers(0, 2_000))
def test_what_is_guaranteed_never_falls_when_seats_are_added(total, expert):
    table = BY_NAME["visits-level-3"]
    one, more = (apportion(table, min(expert, n), n - min(expert, n)) for n in (total, total + 1))
    grown = seats(more, "grassroots-referral") - seats(one, "grassroots-referral")
    assert grown in (0, 1)
    assert seats(more, "ordinary") - seats(one, "ordinary") == 1 - grown


@pytest.mark.parametrize(("total", "guaranteed"), [
    (0, 0), (1, 1), (2, 1), (3, 1), (4, 2), (9, 3), (10, 3), (11, 4), (99, 30), (100, 30),
    (101, 31),
])  # fmt: skip
def test_thirty_percent_is_rounded_up_at_every_edge(total, guaranteed):
    caps = apportion(BY_NAME["visits-level-3"], 0, total)
    assert seats(caps, "grassroots-referral") == guaranteed


def test_a_municipal_hospital_gives_the_rest_to_primary_care():
    caps = apportion(BY_NAME["visits-municipal"], 40, 60)
    told = {channel: seats(caps, channel) for channel in caps.seats}
    assert told == {
        "out-of-town": 10, "in-consultation": 20, "grassroots-referral": 70, "ordinary": 0,
    }  # fmt: skip
    assert caps.findings == ()


def test_too_few_experts_are_told_with_what_is_missing():
    caps = apportion(BY_NAME["visits-level-3"], 10, 90)
    assert caps.seats["grassroots-referral"] == {"expert": 10, "ordinary": 20}
    assert caps.findings[0].rule == "quota-expert-short"
    assert "add 5 seats with experts" in caps.findings[0].said


def test_leasts_that_are_more_than_the_seats_are_told():
    text = table(
        '[[channels]]\nchannel = "green-channel"\nat_least = "60%"\ndemonstration = true\n' + AT,
        '[[channels]]\nchannel = "ordinary"\nat_least = "40%"\ndemonstration = true\n' + AT,
    )
    caps = apportion(read(text)[1], 0, 1)
    assert {channel: seats(caps, channel) for channel in caps.seats} == {
        "green-channel": 1, "ordinary": 0,
    }  # fmt: skip
    assert [one.rule for one in caps.findings] == ["quota-short"]


@pytest.mark.parametrize(("said", "kind", "modality", "table"), [
    ({"municipal": True}, "visit", "", "visits-municipal"),
    ({}, "visit", "", "visits-level-3"),
    ({"rank": 2, "level": "2A"}, "visit", "", "visits-other"),
    ({"rank": 2, "level": "2A", "core": True}, "visit", "", "visits-level-3"),
    ({"rank": 1}, "exam", "CT", "exams-green-channel"),
    ({}, "exam", "MR", "exams-green-channel"),
    ({}, "exam", "ES", "exams-other"),
    ({}, "exam", "DX", "exams-other"),
])  # fmt: skip
def test_which_table_holds_is_said_by_data(said, kind, modality, table):
    assert table_for(TABLES, site(**said), kind, modality, DAY).table == table


def test_before_a_table_is_in_force_none_holds():
    assert table_for(TABLES, site(), "visit", "", date(2023, 12, 31)) is None
    assert table_for(TABLES, site(), "visit", "", date(2024, 1, 1)) is not None


def test_numbers_that_no_rule_gives_say_so_in_what_is_shipped():
    for one in TABLES:
        for share in one.shares:
            assert share.demonstration or share.source or share.share in (None, 0)
    told = BY_NAME["visits-municipal"]
    assert told.share_of("out-of-town").demonstration
    assert told.share_of("in-consultation").demonstration


@pytest.mark.parametrize(("text", "share"), [
    ("30%", Fraction(3, 10)), ("12.5 %", Fraction(1, 8)), ("1/3", Fraction(1, 3)),
    ("100%", Fraction(1)), ("101%", None), ("4/3", None), ("1/0", None), ("0.3", None),
    ("-1%", None), (0.3, None),
])  # fmt: skip
def test_shares_are_exact(text, share):
    assert share_of(text) == share


HEAD = """table = "t"
version = "1"
title_zh = "t"
title_en = "t"
effective_from = 2026-01-05
kind = "visit"
period = "week"
"""
AT = 'opens = { days_before = 7, at = "07:00" }\n'
REST = '[[channels]]\nchannel = "ordinary"\nshare = "rest"\n' + AT
EARLY = 'opens = { days_before = 21, at = "07:00" }\n'
LATE = 'closes = { days_before = 2, at = "18:00" }\n'


def table(*channels, head=HEAD):
    return head + "\n".join(channels)


def read(text):
    page = Page("t.toml", text)
    return page, None if page.faults else quota_of(page)


def channel(name="grassroots-referral", *lines, share='share = "30%"\n'):
    return f'[[channels]]\nchannel = "{name}"\nsource = "s"\n{share}{"".join(lines)}'


FAULTS = {
    "above 100 %": ("quota-sum", table(
        channel("grassroots-referral", EARLY, LATE, 'falls_to = "ordinary"\n'),
        channel("ordinary", AT, share='share = "71%"\n'))),
    "seats for nobody": ("quota-rest", table(channel("ordinary", AT))),
    "two rests": ("quota-rest", table(
        channel("green-channel", AT, share='share = "rest"\n'), REST)),
    "no ordinary": ("quota-ordinary", table(
        channel("green-channel", AT, share='share = "rest"\n'))),
    "cut-off before release": ("quota-cutoff", table(
        channel("green-channel", AT, 'closes = { days_before = 7, at = "07:00" }\n',
                'falls_to = "ordinary"\n'), REST)),
    "falls to nobody": ("quota-chain", table(channel("green-channel", EARLY, LATE), REST)),
    "falls to a stranger": ("quota-chain", table(
        channel("green-channel", EARLY, LATE, 'falls_to = "out-of-town"\n'), REST)),
    "a gap after the cut-off": ("quota-chain", table(
        channel("green-channel", EARLY, 'closes = { days_before = 9, at = "18:00" }\n',
                'falls_to = "ordinary"\n'), REST)),
    "falls without cut-off": ("quota-chain", table(
        channel("green-channel", EARLY, 'falls_to = "ordinary"\n'), REST)),
    "ordinary is closed": ("quota-chain", table(
        channel("green-channel", EARLY, LATE, 'falls_to = "ordinary"\n'), REST + LATE)),
    "released too late": ("quota-lead", table(
        channel("green-channel", 'opens = { days_before = 20, at = "07:00" }\n',
                "before_ordinary_days = 14\n"), REST)),
    "a number without source": ("quota-source", table(
        '[[channels]]\nchannel = "green-channel"\nshare = "5%"\n' + AT, REST)),
    "twice": ("quota-twice", table(REST, REST)),
    "no share": ("quota-share", table(channel("green-channel", AT, share=""), REST)),
    "a share that is none": ("quota-share", table(
        channel("green-channel", AT, share='share = "130%"\n'), REST)),
    "least above share": ("quota-least", table(
        channel("green-channel", AT, 'at_least = "40%"\n'), REST)),
    "least above the rest": ("quota-least", table(
        channel("green-channel", AT, share='share = "80%"\n'), REST + 'at_least = "30%"\n')),
    "no release": ("quota-opens", table(channel("green-channel"), REST)),
    "begins within a week": ("quota-effective", table(
        REST, head=HEAD.replace("2026-01-05", "2026-01-07"))),
    "ends before it begins": ("quota-order", table(
        REST, head=HEAD + "effective_to = 2026-01-01\n")),
    "a stranger": ("file-word", table(channel("vip", AT), REST)),
    "a misspelt key": ("file-key", table(REST + "cutoff = 3\n")),
    "no TOML": ("file-syntax", "table = \n"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_with_line_and_rule(name):
    rule, text = FAULTS[name]
    page, found = read(text)
    assert rule in [fault.rule for fault in page.faults], page.faults
    assert found is None
    assert all(fault.line or fault.rule == "quota-order" for fault in page.faults)


def test_two_files_that_hold_at_once_are_told(tmp_path):
    (tmp_path / "a.toml").write_text(table(REST))
    (tmp_path / "b.toml").write_text(table(REST, head=HEAD.replace('"1"', '"2"')))
    assert [fault.rule for fault in read_quotas(tmp_path)[1]] == ["quota-overlap"]
    (tmp_path / "b.toml").write_text(table(REST, head=HEAD.replace('"t"', '"u"')))
    assert [fault.rule for fault in read_quotas(tmp_path)[1]] == ["quota-ambiguous"]
    with pytest.raises(Invalid):
        load_quotas(tmp_path)
    until = HEAD.replace("2026-01-05", "2025-01-06") + "effective_to = 2026-01-04\n"
    (tmp_path / "b.toml").write_text(table(REST, head=until))
    assert read_quotas(tmp_path)[1] == []
