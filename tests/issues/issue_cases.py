"""The city of the recognition tests, for bugs that show in its answers; by path, because every
folder has modules of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_CITY = Path(__file__).parents[1] / "recognition_flow" / "city.py"


def city_module() -> ModuleType:
    """The module `city` of tests/recognition_flow."""
    if "city" not in sys.modules:
        spec = importlib.util.spec_from_file_location("city", _CITY)
        assert spec is not None and spec.loader is not None
        sys.modules["city"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["city"]


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
