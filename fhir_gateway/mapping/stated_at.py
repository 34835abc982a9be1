"""When a source said what a resource says, so that messages which overtake each other end alike.

Orders and appointments have no element for it that fits: `authoredOn` and `created` are when they
were made, `meta.lastUpdated` is when the gateway stored them. So an extension of ours says it.
"""

from __future__ import annotations

from typing import Any

from fhir_gateway.mapping.v2_time import Moment
from fhir_gateway.settings import CANONICAL

URL = f"{CANONICAL}/StructureDefinition/stated-at"


def stated_at(resource: dict[str, Any], moment: Moment | None) -> None:
    """Says on the resource when it was said; nothing where that is not known to the second."""
    if moment is not None and moment.exact:
        others = [one for one in resource.get("extension", ()) if one.get("url") != URL]
        resource["extension"] = [*others, {"url": URL, "valueDateTime": moment.text}]


def when_stated(resource: dict[str, Any]) -> str:
    """When it was said (FHIR dateTime), "" when it does not tell."""
    for one in resource.get("extension", ()):
        if one.get("url") == URL:
            return str(one.get("valueDateTime", ""))
    return ""
