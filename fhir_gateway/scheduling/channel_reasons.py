"""Why can this clinic not book this slot? Every obstacle as a sentence, from a state as values.

All obstacles are told, not the first alone: those of the slot, of the person, and of each channel
that the caller may or might come through. The first channel without obstacle, if there is one, is
the one by which a booking would go through now. Nothing here names a patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.scheduling.calendar import moment_at
from fhir_gateway.scheduling.channel import Verdict
from fhir_gateway.scheduling.quota_plan import Row

#: rule -> (Chinese, English); {…} are facts.
SENTENCES: Mapping[str, tuple[str, str]] = {
    "slot-unknown": ("没有此号源，请重新查找", "there is no such slot; search again"),
    "slot-closed": ("此号源已停用，请另选", "this slot is not sold any more; choose another one"),
    "slot-past": ("此号源已开始，请选择之后的时间", "this slot has begun; choose a later one"),
    "slot-full": ("此号源已约满，请另选或加入候补",
                  "all seats are taken; choose another slot or join the waiting list"),
    "slot-held": ("余号正被他人占用，最早于{until}释放",
                  "what is left is held by others; the first hold ends {until}"),
    "person-unproved": ("患者未实名，请先登记有效身份证件",
                        "the patient has no checked identity document; register it first"),
    "person-overlap": ("患者此时段已有其他预约，请先改约或取消",
                       "the patient has another booking at this time; rebook or cancel that one"),
    "person-limit": ("患者当日预约数已达上限，请改日",
                     "the patient has as many bookings on this day as are allowed; take another"),
    "person-barred": ("患者因多次爽约暂停预约至{until}，可申诉",
                      "the patient is barred until {until} for missed bookings; he may appeal"),
    "channel-no-part": ("{channel}在此号源池没有配额", "{channel} has no part in this pool"),
    "channel-not-open": ("{channel}于{opens}开放", "{channel} opens {opens}"),
    "channel-closed": ("{channel}已于{closes}截止，余号转入{falls_to}",
                       "{channel} closed {closes}; what was left fell to {falls_to}"),
    "quota-full": ("{channel}配额{cap}个已用完，请改日或等待释放",
                   "all {cap} seats of {channel} are used; take another day or wait for reserves"),
    "consultation-patient": ("诊间预约由接诊医生办理",
                             "bookings in consultation are made by the doctor"),
    "consultation-elsewhere": ("诊间预约仅限号源医院{hospital}的医生",
                               "in consultation only doctors of {hospital} book"),
    "consultation-no-encounter": ("患者在该院没有进行中的就诊",
                                  "the patient has no encounter in progress at the hospital"),
    "consultation-encounter": ("接诊中的患者", "the patient is in consultation there"),
    "green-modality": ("绿色通道仅限{modalities}检查", "the green channel is for {modalities}"),
    "green-no-referral": ("没有有效的转诊申请，请先开具转诊单",
                          "there is no referral of this patient; write one first"),
    "green-referral-over": ("转诊单{referral}已完成或撤销，请重新开具",
                            "the referral {referral} is no longer active; write a new one"),
    "green-referral-old": ("转诊单{referral}已于{day}过期，请重新开具",
                           "the referral {referral} ended {day}; write a new one"),
    "green-referral-elsewhere": ("转诊单{referral}转往{hospital}",
                                 "the referral {referral} is to {hospital}"),
    "green-referral-other": ("转诊单{referral}的项目为{items}",
                             "the referral {referral} is for {items}"),
    "green-no-member": ("开单机构{institution}与{hospital}不在同一医联体，请联系管理员登记成员关系",
                        "{institution} is in no consortium with {hospital}; have the membership "
                        "registered"),
    "green-referral": ("{institution}的有效转诊", "referred by {institution}"),
    "grassroots-patient": ("基层转诊号源由基层医疗机构预约",
                           "this channel is for institutions of primary care"),
    "grassroots-unregistered": ("机构{institution}未登记等级，请联系管理员",
                                "{institution} is not registered with a grade; ask the operator"),
    "grassroots-grade": ("机构{institution}不是基层医疗机构",
                         "{institution} is no institution of primary care"),
    "grassroots-no-member-own": ("机构{institution}今日不是{hospital}医联体成员，请联系管理员登记",
                                 "{institution} is today no member of a consortium of {hospital}; "
                                 "have the membership registered"),
    "grassroots-no-member-any": ("机构{institution}今日不属于任何医联体，请联系管理员登记",
                                 "{institution} belongs to no consortium today; have the "
                                 "membership registered"),
    "grassroots-member": ("{consortium}成员机构", "a member of {consortium}"),
    "residence-unknown": ("患者常住地未登记，无法判断是否外埠",
                          "the patient's residence is not registered; register it"),
    "residence-here": ("患者为本地居民", "the patient lives here"),
    "residence-elsewhere": ("外埠患者", "the patient lives elsewhere"),
    "ordinary-everybody": ("普通号源面向所有人", "open to everybody"),
}  # fmt: skip

#: As CodeSystem/booking-channel names them.
CHANNELS_ZH = {
    "out-of-town": "外埠患者", "in-consultation": "诊间预约",
    "grassroots-referral": "基层转诊预约", "green-channel": "绿色通道", "ordinary": "普通预约",
}  # fmt: skip


class SlotState(NamedTuple):
    """A slot as it stands: seats that are free, and when the first hold on another ends (µs)."""

    start: int
    open: bool
    free: int
    held_until: int = 0
    known: bool = True


class PersonState(NamedTuple):
    """What stands against a person: rules of the store (`person-overlap` …), the end of a bar."""

    rules: tuple[str, ...] = ()
    barred_until: int = 0


class Reason(NamedTuple):
    """One obstacle. `channel` is "" for what holds for all of them."""

    rule: str
    channel: str
    zh: str
    en: str


class Answer(NamedTuple):
    """Through which channel the slot can be booked now ("": through none), and all obstacles."""

    channel: str
    because: Reason | None
    reasons: tuple[Reason, ...]


def why(slot: SlotState, rows: Mapping[str, tuple[Row, int]], verdicts: Sequence[Verdict],
        person: PersonState, now: int, zone: ZoneInfo) -> Answer:  # fmt: skip
    """What stands between a caller and a slot. `rows`: channel -> (its part as settled, used).

    A slot without rows is in no pool and open to all channels.
    """
    reasons = [*_of_slot(slot, now, zone), *_of_person(person, zone)]
    blocked = bool(reasons)
    channel, because = "", None
    for verdict in verdicts:
        facts = dict(verdict.facts)
        if not verdict.open:
            reasons.append(reason(verdict.rule, verdict.channel, facts))
            continue
        found = list(_of_channel(verdict.channel, rows, now, zone)) if rows else []
        reasons += found
        if not found and not channel:
            channel, because = verdict.channel, reason(verdict.rule, verdict.channel, facts)
    return Answer("" if blocked else channel, None if blocked else because, tuple(reasons))


def _of_slot(slot: SlotState, now: int, zone: ZoneInfo) -> Iterator[Reason]:
    if not slot.known:
        yield reason("slot-unknown")
        return
    if not slot.open:
        yield reason("slot-closed")
    if slot.start <= now:
        yield reason("slot-past")
    if slot.free <= 0 and slot.held_until > now:
        yield reason("slot-held", "", {"until": _said(slot.held_until, zone)})
    elif slot.free <= 0:
        yield reason("slot-full")


def _of_person(person: PersonState, zone: ZoneInfo) -> Iterator[Reason]:
    for rule in person.rules:
        until = _said(person.barred_until, zone)
        yield reason(rule, "", {"until": until} if rule == "person-barred" else {})


def _of_channel(channel: str, rows: Mapping[str, tuple[Row, int]], now: int, zone: ZoneInfo
                ) -> Iterator[Reason]:  # fmt: skip
    row, used = rows.get(channel, (None, 0))
    facts = {"channel": channel}
    if row is None:
        yield reason("channel-no-part", channel, facts)
    elif now < row.opens:
        yield reason("channel-not-open", channel, facts | {"opens": _said(row.opens, zone)})
    elif row.closes and now >= row.closes:
        facts |= {"closes": _said(row.closes, zone), "falls_to": row.falls_to}
        yield reason("channel-closed", channel, facts)
    elif used >= row.cap:
        yield reason("quota-full", channel, facts | {"cap": str(row.cap)})


def reason(rule: str, channel: str = "", facts: Mapping[str, str] | None = None) -> Reason:
    """A rule as its two sentences. Channels have their own names in Chinese."""
    zh, en = SENTENCES[rule]
    said = dict(facts or {})
    chinese = {
        key: CHANNELS_ZH.get(value, value) if key in ("channel", "falls_to") else value
        for key, value in said.items()
    }
    return Reason(rule, channel, zh.format(**chinese), en.format(**said))


def _said(us: int, zone: ZoneInfo) -> str:
    return f"{moment_at(us, zone):%Y-%m-%d %H:%M}"
