"""The references of a write: rewritten to what they name here, and guarded where they point
outside of it. Works on one snapshot; hl7.org/fhir/R4/bundle.html#references, http.html#trules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue, TooCostly, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.conditional import condition_of, conditional_url, match
from fhir_gateway.interactions.links import Prefixes, links, relink
from fhir_gateway.interactions.references import JOURNAL_TYPES, Slot, full_url_base, local, slots
from fhir_gateway.interactions.steps import Guards, Step
from fhir_gateway.security.actor import Access
from fhir_gateway.store.changes import Exists
from fhir_gateway.store.record_sql import seen_among
from fhir_gateway.store.store import Reader

#: Different conditional references of one request. Each is a search in one snapshot.
MOST_CONDITIONS = 1_000


async def link(
    gateway: Gateway,
    reader: Reader,
    steps: Sequence[Step],
    guards: Guards,
    *,
    base: str = "",
    access: Access | None = None,
) -> None:
    """Rewrites the references of all steps and guards those that point outside.

    `base` is the FHIR base as the client called it, beside the one that is configured. Under an
    `access` that hides rows a reference to one of them is refused, unless it stood there before.
    """
    linker = _Linker(gateway, reader, steps, base)
    issues: list[Issue] = []
    for step in steps:
        if step.resource is None or step.matched:
            continue
        step.resource["id"] = step.id
        around = full_url_base(step.full_url, step.type)
        if linker.names:
            linker.follow_links(step, around)
        await linker.follow_all(step, around, issues)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    unknown = {n: at for n, at in linker.wanted.items() if n not in linker.known}
    await _check_seen(reader, access, unknown)
    for name, where in linker.wanted.items():
        guards.add(Exists(name, where))


def _stood(step: Step, name: str) -> bool:
    """Whether the version that is replaced refers to the resource already. Only a reference counts:
    whoever wrote its name into another element would be told whether it is there."""
    current = step.current
    if current is None or current.deleted or f'"{name}"'.encode() not in current.tail:
        return False
    return any(slot.text == name for slot in slots(parse(current.whole())))


async def _check_seen(reader: Reader, access: Access | None, wanted: Mapping[str, str]) -> None:
    """Raises Unprocessable for references to what the caller does not see: the same as for what
    is not there, so that nobody learns by writing what stands elsewhere, or opens a record by it.
    """
    if access is None or (access.owners is None and access.sight is None and access.homes is None):
        return
    names = [(type, id) for type, _, id in (name.partition("/") for name in wanted)]
    seen = await reader.steps(lambda seen: seen_among(seen, names))
    issues = [
        Issue("invalid", "The reference names a resource that is not stored here", where,
              "reference-unknown")
        for (name, where), pair in zip(wanted.items(), names, strict=True)
        if pair not in seen
    ]  # fmt: skip
    if issues:
        raise Unprocessable(issues=tuple(issues))


class _Linker:
    """Resolves the references of one attempt: full URLs, conditions, plain names."""

    def __init__(self, gateway: Gateway, reader: Reader, steps: Sequence[Step], base: str) -> None:
        self.gateway, self.reader = gateway, reader
        bases = {gateway.settings.base_url.rstrip("/"), base.rstrip("/")} - {""}
        self.ours = tuple(f"{one}/" for one in bases)
        self.names = {step.full_url: step.name for step in steps if step.full_url}
        self.prefixes = Prefixes(self.names)
        self.stored = {
            step.name for step in steps if step.op != "delete" and step.current is None
        } | {step.name for step in steps if step.op == "update"}
        self.deleted = {step.name for step in steps if step.op == "delete"}
        self.conditions: dict[str, str | None] = {}
        self.settled: dict[str, str] = {}  # what references say that were met before
        self.wanted: dict[str, str] = {}  # what stands outside, and the first place that names it
        self.known = set[str]()  # what of it the version before named already
        self.promised = {
            step.condition.key: step.id
            for step in steps
            if step.condition is not None and step.op != "delete"
        }

    def follow_links(self, step: Step, base: str) -> None:
        """Rewrites the links beside the References that name entries of this Bundle."""
        if step.links is None:
            more = self.prefixes.in_more_than(step.slots, step.raw)
            step.links = links(step.resource or {}) if more else []
        relink(step.links, lambda text: self.entry(text, base))

    def entry(self, text: str, base: str) -> str | None:
        """The name of the entry with this full URL, or with it below the base of another one."""
        return self.names.get(text) or (self.names.get(base + text) if base else None)

    async def follow_all(self, step: Step, base: str, issues: list[Issue]) -> None:
        """Rewrites the references of a step, and notes what they name outside of the Bundle."""
        settled = self.settled if not base else {}
        for slot in step.slots:
            again = settled.get(slot.text)
            if again is None:
                await self._follow(slot, step, base, issues)
            else:
                slot.holder["reference"] = again

    async def _follow(self, slot: Slot, step: Step, base: str, issues: list[Issue]) -> None:
        text = slot.text
        if self.names or local(text) is None:  # else it is Type/id already and names no entry
            text = await self.resolve(slot, step, base, issues)
        slot.holder["reference"] = text
        target = local(text, self.gateway.settings.base_url)
        if target is None or target.type in JOURNAL_TYPES:
            return
        name = f"{target.type}/{target.id}"
        if name in self.deleted:
            self.broken(slot, step, issues, "This Bundle deletes the resource")
            return
        if not base:
            self.settled[slot.text] = text
        if name not in self.stored and name not in self.wanted:
            self.wanted[name] = step.place_of(slot)
            self.known |= {name} if _stood(step, name) else set()

    async def resolve(self, slot: Slot, step: Step, base: str, issues: list[Issue]) -> str:
        """What the slot must say. Adds an issue when it points to nothing."""
        text = slot.text
        if text.startswith("#"):
            return text
        if name := self.entry(text, base):
            return name
        if text.startswith("urn:"):
            return self.broken(slot, step, issues, "No entry of this Bundle has this fullUrl")
        conditional = conditional_url(text)
        if conditional is None:
            own = next((one for one in self.ours if text.startswith(one)), "")
            relative = text.removeprefix(own)
            return relative if local(relative) is not None else text
        if text not in self.conditions:
            if len(self.conditions) >= MOST_CONDITIONS:
                raise TooCostly(
                    f"A request has {MOST_CONDITIONS} different conditional references at most",
                    expression=step.root,
                    rule="conditional-references",
                )
            self.conditions[text] = await self._find(*conditional, slot, step)
        id = self.conditions[text]
        if id is None:
            return self.broken(slot, step, issues, "No resource meets this conditional reference")
        return f"{conditional[0]}/{id}"

    async def _find(self, type: str, query: str, slot: Slot, step: Step) -> str | None:
        where = step.place_of(slot)
        wanted = condition_of(self.gateway, type, query)
        if wanted.key in self.promised:
            return self.promised[wanted.key]
        return await match(self.reader, wanted, expression=where)

    @staticmethod
    def broken(slot: Slot, step: Step, issues: list[Issue], sentence: str) -> str:
        """Adds the issue of a reference that names nothing."""
        where = step.place_of(slot)
        issues.append(Issue("not-found", sentence, where, "reference"))
        return slot.text
