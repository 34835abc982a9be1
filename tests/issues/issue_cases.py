"""Short ways of the tests of closed bugs."""

from __future__ import annotations

from typing import Any


def rule_of(answer: Any) -> tuple[int, str]:
    """Status and the name of the broken rule of a refusal."""
    issue = answer.json()["issue"][0]
    return answer.status_code, issue.get("details", {}).get("text", "")


def bundle(*entries: tuple[str, str, dict[str, Any] | None], type: str = "transaction") -> Any:
    """A Bundle of (method, url, resource); a resource with an id has Type/id as its fullUrl."""
    rows = []
    for method, url, resource in entries:
        row: dict[str, Any] = {"request": {"method": method, "url": url}}
        if resource is not None:
            row["resource"] = resource
        rows.append(row)
    return {"resourceType": "Bundle", "type": type, "entry": rows}
