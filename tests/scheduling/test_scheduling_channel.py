"""Channels of a caller, and why a slot cannot be booked: every obstacle as a sentence."""

from __future__ import annotations

import json
import string
from datetime import date, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fhir_gateway.errors import Invalid
from fhir_gateway.scheduling.calendar import instant_at
from fhir_gateway.scheduling.channel import (
    PREFERENCE,
    Caller,
    Referral,
    Wanted,
    channels_of,
    load_channel_rules,
    open_channels,
)
from fhir_gateway.scheduling.channel_reasons import (
    CHANNELS_ZH,
    SENTENCES,
    PersonState,
    SlotState,
    why,
)
from fhir_gateway.scheduling.membership import Membership, memberships_of
from fhir_gateway.scheduling.quota import CHANNELS
from fhir_gateway.scheduling.quota_plan import Row
from fhir_gateway.store.claim_refusals import RULES

FOLDER = Path(__file__).resolve().parents[2] / "profiles"
RULESET = load_channel_rules(FOLDER / "scheduling" / "channels.toml")
OWN = RULESET._replace(grassroots_reach="own")
ZONE = ZoneInfo("Asia/Shanghai")
DAY = date(2026, 12, 7)
MEMBERS = memberships_of([
    Membership("east", "示范东部医联体", "city-group", "h-1", "clinic-1", "2026-01-01",
               "2026-12-07"),
])  # fmt: skip
VISIT = Wanted("h-1", "visit", DAY)
CT = Wanted("h-1", "exam", DAY, "CT", ("I001",))
CLINIC = Caller("clinician", "clinic-1", 1)
REFERRAL = Referral("r-1", "clinic-1", "h-1", True, DAY - timedelta(days=3), ("I001",))


def verdicts(wanted, caller, rules=RULESET):
    return {one.channel: one for one in channels_of(wanted, caller, MEMBERS, rules)}


def opened(wanted, caller, rules=RULESET):
    return open_channels(channels_of(wanted, caller, MEMBERS, rules))


def test_every_channel_is_judged_and_named_in_both_languages():
    assert set(PREFERENCE) == set(CHANNELS) == set(CHANNELS_ZH)
    codes = json.loads((FOLDER / "CodeSystem" / "booking-channel.json").read_text("utf-8"))
    assert {one["code"]: one["display"] for one in codes["concept"]} == CHANNELS_ZH
    assert [one.channel for one in channels_of(VISIT, CLINIC, MEMBERS, RULESET)] == [*PREFERENCE]


@pytest.mark.parametrize(("wanted", "caller", "channels"), [
    (VISIT, CLINIC, ["grassroots-referral", "ordinary"]),
    (VISIT, Caller("patient"), ["ordinary"]),
    (VISIT, Caller("patient", residence="130100"), ["out-of-town", "ordinary"]),
    (VISIT, Caller("patient", residence="110105"), ["ordinary"]),
    (VISIT, Caller("clinician", "h-1", 3, encounter=True), ["in-consultation", "ordinary"]),
    (VISIT, Caller("clinician", "h-1", 3), ["ordinary"]),
    (VISIT, Caller("clinician", "h-2", 3, encounter=True), ["ordinary"]),
    (VISIT, Caller("clinician", "clinic-9", 1), ["ordinary"]),
    (VISIT, Caller("institution", "clinic-1", None), ["ordinary"]),
    (CT, CLINIC._replace(referrals=(REFERRAL,)),
     ["green-channel", "grassroots-referral", "ordinary"]),
    (CT, Caller("patient", referrals=(REFERRAL,)), ["green-channel", "ordinary"]),
    (CT._replace(modality="DX"), Caller("patient", referrals=(REFERRAL,)), ["ordinary"]),
    (VISIT, Caller("patient", referrals=(REFERRAL,)), ["ordinary"]),
])  # fmt: skip
def test_which_channels_are_open_to_whom_in_order_of_preference(wanted, caller, channels):
    assert opened(wanted, caller) == channels


@pytest.mark.parametrize(("said", "rule"), [
    ({}, "green-referral"),
    ({"active": False}, "green-referral-over"),
    ({"day": DAY - timedelta(days=30)}, "green-referral"),
    ({"day": DAY - timedelta(days=31)}, "green-referral-old"),
    ({"to": "h-2"}, "green-referral-elsewhere"),
    ({"to": ""}, "green-referral"),
    ({"items": ("I002",)}, "green-referral-other"),
    ({"items": ()}, "green-referral"),
    ({"institution": "clinic-9"}, "green-no-member"),
])  # fmt: skip
def test_what_a_referral_needs_for_the_green_channel(said, rule):
    caller = Caller("patient", referrals=(REFERRAL._replace(**said),))
    assert verdicts(CT, caller)["green-channel"].rule == rule


def test_a_slot_outside_the_catalogue_takes_a_referral_that_names_no_item_of_it():
    mr = Wanted("h-1", "exam", DAY)
    for items, rule in (((), "green-referral"), (("I001",), "green-referral-other")):
        caller = Caller("patient", referrals=(REFERRAL._replace(items=items),))
        assert verdicts(mr, caller)["green-channel"].rule == rule
    assert verdicts(mr, Caller("patient"))["green-channel"].rule == "green-no-referral"


def test_one_good_referral_among_bad_ones_is_enough():
    bad = REFERRAL._replace(active=False)
    assert opened(CT, Caller("patient", referrals=(bad, REFERRAL)))[0] == "green-channel"


@pytest.mark.parametrize(("day", "open"), [
    (date(2025, 12, 31), False), (date(2026, 1, 1), True), (DAY, True),
    (DAY + timedelta(days=1), False),
])  # fmt: skip
def test_a_membership_opens_on_its_days_both_ends_included(day, open):
    assert verdicts(VISIT._replace(today=day), CLINIC)["grassroots-referral"].open is open


def test_reach_says_whether_any_consortium_opens_or_the_hospitals_own():
    elsewhere = VISIT._replace(hospital="h-2")
    assert verdicts(elsewhere, CLINIC)["grassroots-referral"].open
    closed = verdicts(elsewhere, CLINIC, OWN)["grassroots-referral"]
    assert (closed.open, closed.rule) == (False, "grassroots-no-member-own")


def test_what_is_not_known_opens_nothing_and_is_said():
    assert verdicts(VISIT, CLINIC)["out-of-town"].rule == "residence-unknown"
    nobody = Caller("institution", "clinic-1", None)
    assert verdicts(VISIT, nobody)["grassroots-referral"].rule == "grassroots-unregistered"


START = instant_at(DAY, 480, ZONE)
OPENS, CLOSES = instant_at(DAY, -20160, ZONE), instant_at(DAY, -2880, ZONE)
NOW = instant_at(DAY, -10080, ZONE)
PRIMARY = Row("ordinary", "grassroots-referral", 3, OPENS, CLOSES, "ordinary")
ROWS = {
    "grassroots-referral": (PRIMARY, 1),
    "ordinary": (Row("ordinary", "ordinary", 7, NOW + 1, 0, ""), 0),
}  # fmt: skip
SLOT = SlotState(START, True, 2)
NOBODY = PersonState()


def ask(caller=CLINIC, slot=SLOT, rows=ROWS, person=NOBODY, now=NOW, rules=RULESET):
    judged = channels_of(VISIT, caller, MEMBERS, rules)
    return why(slot, rows, judged, person, now, ZONE)


def told(answer):
    return [(one.rule, one.channel) for one in answer.reasons]


def test_a_clinic_that_can_book_is_told_through_which_channel_and_why():
    answer = ask()
    assert (answer.channel, answer.because.rule) == ("grassroots-referral", "grassroots-member")
    assert answer.because.zh == "示范东部医联体成员机构"
    assert ("channel-not-open", "ordinary") in told(answer)


@pytest.mark.parametrize(("now", "used", "channel", "rule"), [
    (OPENS - 1, 0, "", "channel-not-open"),
    (OPENS, 0, "grassroots-referral", None),
    (NOW, 2, "grassroots-referral", None),
    (NOW, 3, "", "quota-full"),
    (CLOSES - 1, 0, "grassroots-referral", None),
    (CLOSES, 0, "ordinary", "channel-closed"),
])  # fmt: skip
def test_at_each_edge_of_release_cut_off_and_quota(now, used, channel, rule):
    rows = ROWS | {"grassroots-referral": (PRIMARY, used)}
    answer = ask(rows=rows, now=now)
    assert answer.channel == channel
    found = [one.rule for one in answer.reasons if one.channel == "grassroots-referral"]
    assert found == ([rule] if rule else [])


def test_times_are_said_on_the_clock_of_the_site_and_what_fell_where():
    answer = ask(now=CLOSES)
    closed = next(one for one in answer.reasons if one.rule == "channel-closed")
    assert closed.zh == "基层转诊预约已于2026-12-05 00:00截止，余号转入普通预约"
    assert (
        closed.en == "grassroots-referral closed 2026-12-05 00:00; what was left fell to ordinary"
    )


@pytest.mark.parametrize(("slot", "rule"), [
    (SLOT._replace(known=False), "slot-unknown"),
    (SLOT._replace(open=False), "slot-closed"),
    (SLOT._replace(start=NOW), "slot-past"),
    (SLOT._replace(free=0), "slot-full"),
    (SLOT._replace(free=0, held_until=NOW + 1), "slot-held"),
])  # fmt: skip
def test_what_stands_against_the_slot_stands_against_every_channel(slot, rule):
    answer = ask(slot=slot)
    assert (answer.channel, answer.because) == ("", None)
    assert told(answer)[0] == (rule, "")


def test_what_stands_against_the_person_is_told_beside_everything_else():
    person = PersonState(("person-limit", "person-barred"), instant_at(DAY, 0, ZONE))
    answer = ask(person=person)
    assert answer.channel == ""
    assert told(answer)[:2] == [("person-limit", ""), ("person-barred", "")]
    assert answer.reasons[1].zh == "患者因多次爽约暂停预约至2026-12-07 00:00，可申诉"


def test_a_clinic_outside_every_consortium_learns_what_would_help():
    stranger = Caller("clinician", "clinic-9", 1)
    answer = ask(stranger)
    assert answer.channel == ""
    told_in = {one.rule: one.en for one in answer.reasons}
    assert "have the membership registered" in told_in["grassroots-no-member-any"]


def test_a_slot_in_no_pool_is_open_to_everybody():
    assert ask(Caller("patient"), rows={}).channel == "ordinary"


def test_a_channel_without_part_in_the_pool_is_told():
    patient = Caller("patient", residence="130100")
    assert ("channel-no-part", "out-of-town") in told(ask(patient))


def test_sentences_are_in_both_languages_name_the_same_facts_and_no_patient():
    for rule, sentences in SENTENCES.items():
        names = [{name for _, name, _, _ in string.Formatter().parse(text) if name}
                 for text in sentences]  # fmt: skip
        assert names[0] == names[1], rule
        assert "patient_id" not in names[0]
    of_the_store = {
        rule for rule in RULES if rule.startswith(("person-", "channel-", "quota-full"))
    }
    assert of_the_store <= set(SENTENCES)


@pytest.mark.parametrize(("text", "rule"), [
    ("version = 1\n", "file-text"),
    ('version = "1"\n', "channel-missing"),
    ('version = "1"\n[grassroots-referral]\nranks = "1"\n', "channel-ranks"),
    ('version = "1"\n[grassroots-referral]\nreach = "all"\n', "file-word"),
    ('version = "1"\n[green-channel]\nreferral_days = 0\n', "file-number"),
    ('version = "1"\n[out-of-town]\ndigit = 2\n', "file-key"),
])  # fmt: skip
def test_faults_of_the_file_are_told(tmp_path, text, rule):
    file = tmp_path / "channels.toml"
    file.write_text(text)
    with pytest.raises(Invalid) as caught:
        load_channel_rules(file)
    assert rule in [issue.rule for issue in caught.value.issues]
