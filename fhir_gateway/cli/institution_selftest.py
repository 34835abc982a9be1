"""What `fhir-gateway institution check ID` looks at: everything that can be known before and after
an institution goes live, each found good, found bad, or not known yet, with what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, TooCostly
from fhir_gateway.interactions.audit import owner_of
from fhir_gateway.interactions.clients import clients
from fhir_gateway.interactions.evaluations import stored_evaluations
from fhir_gateway.interactions.institutions import has_token
from fhir_gateway.interactions.letters import CORRECTION
from fhir_gateway.interactions.local_codes_coverage import coverage, share
from fhir_gateway.interactions.message_figures import Figures, figures
from fhir_gateway.recognition.register_plan import held
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.security.institution import Institution
from fhir_gateway.security.mllp_senders import read_senders
from fhir_gateway.terminology.area import load_areas
from fhir_gateway.terminology.identifier_checks import check_number
from fhir_gateway.terminology.registry import problems

PASS, FAIL, UNKNOWN = "pass", "fail", "unknown"

#: Of the newest messages at most this share may be refused, and this share of the volume of results
#: must have an item, before the connection counts as good.
MOST_REFUSED, LEAST_MAPPED = 0.02, 0.9

#: Seconds by which a sender's clock may be ahead, and messages may be late (median).
AHEAD, LATE = 60, 3_600

#: Patients whose numbers are looked at, and results whose codes are.
_PATIENTS, _RESULTS = 2_000, 50_000
_MONTH = 30 * 86_400_000_000


class Finding(NamedTuple):
    """One thing that was looked at: pass, fail or unknown, what was found, what to do."""

    check: str
    verdict: str
    found: str
    do: str = ""


class Looked(NamedTuple):
    """What all checks share."""

    gateway: Gateway
    one: Institution
    figures: Figures
    faults: Sequence[str]  # of its code map


Check = Callable[[Looked], Awaitable[list[Finding]]]


async def look(gateway: Gateway, one: Institution, faults: Sequence[str]) -> list[Finding]:
    """All findings on an institution. `faults` are those of its code map."""
    looked = Looked(gateway, one, await figures(gateway, one.id), faults)
    return [finding for check in _CHECKS for finding in await check(looked)]


async def _entry(it: Looked) -> list[Finding]:
    wrong = [issue.diagnostics for issue in problems(it.one, load_areas(
        it.gateway.settings.terminology))]  # fmt: skip
    if not it.one.active:
        wrong.append("it is inactive: no source")
    if wrong:
        again = f"fhir-gateway institution add {it.one.id} … with the right entry"
        return [Finding("registered", FAIL, "; ".join(wrong), again)]
    return [Finding("registered", PASS, f"{it.one.name}, active")]


async def _credential(it: Looked) -> list[Finding]:
    async with it.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        token = await has_token(reader, it.one.id)
    mine = [one.id for one, _ in await clients(it.gateway)
            if one.institution == it.one.id and one.active]  # fmt: skip
    said = ["a token"] * token + [f"client {id}" for id in mine]
    if said:
        return [Finding("credential", PASS, ", ".join(said))]
    do = f"fhir-gateway institution token {it.one.id}, or fhir-gateway clients add"
    return [Finding("credential", FAIL, "It has no token and no client", do)]


async def _mllp(it: Looked) -> list[Finding]:
    path = it.gateway.settings.mllp_senders
    do = f'For MLLP add [[sender]] institution = "{it.one.id}" (docs/mllp.md)'
    if not path:
        return [Finding("mllp sender", UNKNOWN, "No file of senders is set", do)]
    try:
        text = await asyncio.to_thread(Path(path).read_text, "utf-8")
        listed = read_senders(text).listed
    except (OSError, UnicodeDecodeError, GatewayError) as error:
        return [Finding("mllp sender", FAIL, f"{path} cannot be read: {error}", "Mend the file")]
    mine = [sender for sender in listed if sender.institution == it.one.id]
    if not mine:
        return [Finding("mllp sender", UNKNOWN, "Not listed: it cannot send over MLLP", do)]
    certificates = any(sender.certificates for sender in mine)
    return [Finding("mllp sender", PASS, "by certificate" if certificates else "by address")]


async def _declared(it: Looked) -> list[Finding]:
    one, found = it.one, [Finding("charset and zone", PASS, f"{it.one.charset}, {it.one.zone}")]
    if one.facilities:
        found.append(Finding("MSH-4", PASS, ", ".join(one.facilities)))
    else:
        found.append(Finding("MSH-4", UNKNOWN, "No name of MSH-4 is declared",
                             "For HL7 v2: institution add … --facility NAME"))  # fmt: skip
    if "patient" in one.identifier_systems:
        found.append(Finding("patient numbers", PASS, one.identifier_systems["patient"]))
    else:
        found.append(Finding("patient numbers", UNKNOWN, "No system of its own is declared",
                             "institution add … --system patient=URI"))  # fmt: skip
    return found


async def _codes(it: Looked) -> list[Finding]:
    work = f"fhir-gateway codes worklist {it.one.id}"
    found = [Finding("code map", FAIL, fault, "Mend the table of codes") for fault in it.faults]
    if not found:
        found = [Finding("code map", PASS, "without faults")]
    since = max(it.gateway.clock.now() - _MONTH, 1)
    try:
        covered = await coverage(
            it.gateway, it.one.id, access=SYSTEM_ACCESS, since=since, most=_RESULTS
        )
    except TooCostly:
        said = f"More than {_RESULTS} results in 30 days: too many to look at here"
        coverage_ = f"fhir-gateway codes coverage {it.one.id}"
        return [*found, Finding("codes mapped", UNKNOWN, said, coverage_)]
    for use, figure in covered.items():
        part = share(figure.mapped, figure.volume)
        if part is None:
            found.append(Finding(f"codes of {use}s", UNKNOWN, "None came in 30 days", "Send some"))
            continue
        said = f"{figure.mapped} of {figure.volume} have an item ({float(part):.0%})"
        good = float(part) >= LEAST_MAPPED
        found.append(Finding(f"codes of {use}s", PASS if good else FAIL, said,
                             "" if good else work))  # fmt: skip
    return found


async def _messages(it: Looked) -> list[Finding]:
    """The newest by door and kind, with how many of them were refused."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in it.figures.recent:
        groups.setdefault((one.door, one.kind), []).append(one.outcome)
    if not groups:
        return [Finding("messages", UNKNOWN, "None came yet", "docs/integrate: the first day")]
    found = []
    for (door, kind), outcomes in sorted(groups.items()):
        refused = outcomes.count("refused")
        said = f"{len(outcomes)} of the newest, {refused} refused"
        good = refused <= MOST_REFUSED * len(outcomes)
        do = f"fhir-gateway messages dead list --institution {it.one.id}"
        found.append(Finding(f"{door} {kind}", PASS if good else FAIL, said, "" if good else do))
    return found


#: What an institution has to have shown before it goes live: by parts of what messages are called.
_NEEDED = {
    "report": ("ORU^R01", "OUL^R22", "results", "reports", "CDA", "DiagnosticReport", "transaction",
               "studies"),
    "correction": (CORRECTION,),
    "order": ("ORM^", "OML^", "orders", "ServiceRequest"),
    "merge of patients": ("ADT^A40", "Linkage"),
}  # fmt: skip


async def _kinds(it: Looked) -> list[Finding]:
    stored = [row.kind for row in it.figures.counts if row.stored + row.flagged + row.repeated]
    found = []
    for name, words in _NEEDED.items():
        seen = sorted({kind for kind in stored if any(word in kind for word in words)})
        if seen:
            found.append(Finding(f"{name} seen", PASS, ", ".join(seen)))
        else:
            found.append(Finding(f"{name} seen", UNKNOWN, "None was stored yet", "Send one"))
    return found


async def _dead(it: Looked) -> list[Finding]:
    if not it.figures.waiting:
        return [Finding("dead letters", PASS, "none")]
    said = ", ".join(f"{row.letters} {row.rule}" for row in it.figures.waiting)
    do = f"fhir-gateway messages dead list --institution {it.one.id}; then retry or set-aside"
    return [Finding("dead letters", FAIL, said, do)]


async def _clock(it: Looked) -> list[Finding]:
    lag = it.figures.message
    if lag is None:
        return [Finding("clock", UNKNOWN, "No message states its time", "Fill MSH-7")]
    said = f"messages come {lag.median:.0f} s after the time they state (median of {lag.of})"
    if lag.median < -AHEAD:
        return [Finding("clock", FAIL, said, "Its clock is ahead, or its zone is wrong: NTP, "
                                             "institution add … --zone")]  # fmt: skip
    if lag.median > LATE:
        return [Finding("clock", FAIL, said, "Its clock is behind, its zone is wrong, or messages "
                                             "wait at the sender")]  # fmt: skip
    return [Finding("clock", PASS, said)]


async def _numbers(it: Looked) -> list[Finding]:
    """Identity numbers of the persons that it sent, by their check digits; none is shown."""
    naming, good, bad = it.gateway.extractor.naming, 0, 0
    async with it.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        patients, _ = await reader.owned("Patient", owner_of(it.one.id), after_rid=0,
                                         visit=_PATIENTS)  # fmt: skip
    for stored in patients:
        for one in json.loads(stored.whole()).get("identifier", ()):
            system = naming.find(one.get("system", ""))
            if system is None or system.id not in _PERSONAL or not one.get("value"):
                continue
            wrong = check_number(system.id, one["value"])
            good, bad = good + (wrong is None), bad + (wrong is not None)
    if not good + bad:
        return [Finding("identity numbers", UNKNOWN, "No person came with one",
                        "Send PID-19, PID-3 with its type, or the identifier")]  # fmt: skip
    said = f"{good} of {good + bad} have a right check digit"
    if bad:
        return [Finding("identity numbers", FAIL, said, "Check them where they are typed in")]
    return [Finding("identity numbers", PASS, said)]


_PERSONAL = frozenset({"resident-id-card", "hk-macao-taiwan-residence-permit"})


async def _evaluations(it: Looked) -> list[Finding]:
    async with it.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        known = held(await stored_evaluations(reader))
    mine = [entry for one in known for entry in one.entries if entry.institution == it.one.id]
    passed = sum(entry.passed for entry in mine)
    if not mine:
        return [Finding("evaluations", UNKNOWN, "None on file: nothing of it can be recognised",
                        "The operator imports them: fhir-gateway evaluations import")]  # fmt: skip
    return [Finding("evaluations", PASS, f"{len(mine)} on file, {passed} passed")]


_CHECKS: tuple[Check, ...] = (
    _entry, _credential, _mllp, _declared, _codes, _messages, _kinds, _dead, _clock, _numbers,
    _evaluations,
)  # fmt: skip
