"""What a load did: counts by type, codes that no map knows, and what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fhir_gateway.errors import GatewayError
from fhir_gateway.interactions.outcome import Outcome
from fhir_gateway.store.blobs import unpack
from fhir_gateway.terminology.coder import DATA_QUALITY

KINDS = ("created", "updated", "unchanged")
_SYSTEM = DATA_QUALITY.encode()
_FLAGS = {"unmapped-item", "unmapped-order"}

#: Most codes that the summary and the report name for one institution.
MOST_CODES = 20


@dataclass(slots=True)
class Tally:
    """Counts of one file or of many; made in the workers, added up in the parent."""

    files: int = 0
    messages: int = 0
    repeated: int = 0
    coded: int = 0
    rate: float = 0.0  # resources a second
    resources: Counter[tuple[str, str]] = field(default_factory=Counter)  # (type, kind)
    unmapped: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # (who, code, name)
    refused: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Adds up."""
        self.files += other.files
        self.messages += other.messages
        self.repeated += other.repeated
        self.coded += other.coded
        self.resources.update(other.resources)
        self.unmapped.update(other.unmapped)
        self.refused += other.refused
        self.warnings += other.warnings

    def count(self, outcomes: Iterable[Outcome], institution: str, *, unmapped: int) -> None:
        """Counts what became of resources, and the codes among them that no map knows: `unmapped`
        says how many there are."""
        for outcome in outcomes:
            kind = outcome.kind if outcome.kind in KINDS else "unchanged"
            self.resources[outcome.type, kind] += 1
            if unmapped and outcome.kind != "deleted":
                tail = unpack(outcome.enc, outcome.packed)
                if _SYSTEM in tail:
                    self.flagged(msgspec.json.decode(outcome.body()), institution)

    def flagged(self, resource: dict[str, Any], institution: str) -> None:
        """Counts the code of a resource that carries our flag."""
        tags = {tag.get("code") for tag in resource.get("meta", {}).get("tag", ())}
        if tags.isdisjoint(_FLAGS):
            return
        concepts = [resource.get("code"), *resource.get("procedureCode", ())]
        concept: dict[str, Any] = next((concept for concept in concepts if concept), {})
        coding: dict[str, Any] = next(
            (item for item in concept.get("coding", ()) if item.get("code")), {}
        )
        name = concept.get("text") or coding.get("display", "")
        self.unmapped[institution, coding.get("code", ""), name] += 1

    def refuse(self, file: str, place: str, error: GatewayError) -> None:
        """Notes every issue of a refusal."""
        for issue in error.issues:
            self.refused.append(
                {
                    "file": file,
                    "place": place,
                    "element": issue.expression or "",
                    "rule": issue.rule or issue.code,
                    "reason": issue.diagnostics,
                }
            )

    def warn(self, file: str, place: str, issues: Iterable[Any]) -> None:
        """Notes what was stored in spite of a doubt."""
        for issue in issues:
            self.warnings.append(
                {
                    "file": file,
                    "place": place,
                    "element": issue.expression or "",
                    "rule": issue.rule or issue.code,
                    "reason": issue.diagnostics,
                }
            )

    def report(self) -> dict[str, Any]:
        """The whole as JSON values, for --report."""
        types = sorted({type for type, _ in self.resources})
        institutions = sorted({who for who, _, _ in self.unmapped})
        return {
            "files": self.files,
            "messages": self.messages,
            "repeated": self.repeated,
            "resources": {
                type: {kind: self.resources[type, kind] for kind in KINDS} for type in types
            },
            "unmapped": {who: self._codes(who) for who in institutions},
            "refused": self.refused,
            "warnings": self.warnings,
        }

    def _codes(self, institution: str) -> list[dict[str, Any]]:
        return [
            {"code": code, "name": name, "count": number}
            for (who, code, name), number in self.unmapped.most_common()
            if who == institution
        ]

    def lines(self) -> list[str]:
        """The summary, a line each."""
        lines = [f"{self.files} files" + (f", {self.messages} messages" if self.messages else "")]
        if self.repeated:
            lines[0] += f" ({self.repeated} received before)"
        types = sorted({type for type, _ in self.resources})
        if types:
            width = max(len(type) for type in (*types, "total"))
            lines.append(f"{'':{width}}" + "".join(f"{kind:>11}" for kind in KINDS))
            lines += [self._row(width, type, [type]) for type in types]
            lines.append(self._row(width, "total", types))
        if self.rate >= 1:
            lines.append(f"{self.rate:.0f} resources a second")
        for who in sorted({who for who, _, _ in self.unmapped}):
            lines += self._unmapped(who)
        return lines

    def _row(self, width: int, name: str, types: Iterable[str]) -> str:
        chosen = list(types)
        counts = (sum(self.resources[type, kind] for type in chosen) for kind in KINDS)
        return f"{name:{width}}" + "".join(f"{count:>11}" for count in counts)

    def _unmapped(self, institution: str) -> list[str]:
        codes = self._codes(institution)
        total = sum(code["count"] for code in codes)
        lines = [f"{institution or 'no institution'}: {total} with codes that no map knows"]
        for code in codes[:MOST_CODES]:
            lines.append(f"  {code['count']:>6}  {code['code']}  {code['name']}".rstrip())
        if len(codes) > MOST_CODES:
            lines.append(f"  … and {len(codes) - MOST_CODES} more codes; --report lists them")
        return lines
