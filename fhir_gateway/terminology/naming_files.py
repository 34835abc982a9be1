"""The identifier systems that a site knows, out of profiles/NamingSystem (see naming.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fhir_gateway.errors import GatewayError, Issue, Unprocessable
from fhir_gateway.fhir.wire import parse
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.naming import Naming, naming_from


def load_naming(profiles: Path | str) -> Naming:
    """The table of the NamingSystems in this folder; empty when it has none.

    Raises Unprocessable with the faults of all files at once.
    """
    resources, issues = list[dict[str, Any]](), list[Issue]()
    for path in sorted((Path(profiles) / "NamingSystem").glob("*.json")):
        try:
            resources.append(parse(path.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode())))
        except GatewayError as error:
            said = "; ".join(issue.diagnostics for issue in error.issues)
            issues.append(Issue("invalid", f"{path.name}: {said}", rule="naming-file"))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return naming_from(resources)
