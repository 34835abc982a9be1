"""Conditions that name one resource: If-None-Exist, conditional update, conditional references.

A condition is one business identifier, `identifier=system|value`. It becomes an `Absent` guard
that the store judges under its write lock, so that concurrent conditional creates make one
resource; the search before it only spares the common repeat a refused commit.
hl7.org/fhir/R4/http.html#ccreate; docs/adr/0007.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, MultipleMatches, NotSupported, Structure
from fhir_gateway.search.plan import SearchPlan, Token
from fhir_gateway.search.planner import plan_search
from fhir_gateway.store.changes import Absent
from fhir_gateway.store.store import Reader


class Condition(NamedTuple):
    """A type and an identifier, as a plan to find it and a guard that nobody has it."""

    type: str
    plan: SearchPlan
    guard: Absent


def condition_of(gateway: Gateway, type: str, query: str) -> Condition:
    """Reads `identifier=system|value` as it stands in If-None-Exist or after `Type?`."""
    return condition(gateway, type, pairs_of(query.lstrip("?")))


def pairs_of(query: str) -> list[tuple[str, str]]:
    """The parameters of a query. Raises Structure when they are not UTF-8: read with replacement
    characters, different identifiers would be the same one."""
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Structure("The query is not UTF-8", rule="encoding") from None


def condition(gateway: Gateway, type: str, pairs: Sequence[tuple[str, str]]) -> Condition:
    """The condition `identifier=system|value`.

    Raises NotSupported for any other condition, Invalid when it names no value.
    """
    if [name for name, _ in pairs] != ["identifier"]:
        raise NotSupported(
            "A condition is one identifier here: identifier=system|value", rule="condition"
        )
    plan = plan_search(
        type,
        [("identifier", pairs[0][1]), ("_count", "2")],
        secret=gateway.store.index_key,
        base_url=gateway.settings.base_url,
        zone=gateway.settings.zone,
        lenient=False,
        page_limit=gateway.settings.page_limit,
    )
    token = plan.conditions[0] if len(plan.conditions) == 1 else None
    if not isinstance(token, Token) or token.negated or len(token.alternatives) != 1:
        raise NotSupported(
            "A condition names one identifier: no lists, no modifiers", rule="condition"
        )
    code, system = token.alternatives[0]
    if code is None:
        raise Invalid("The identifier of a condition needs a value", rule="condition")
    return Condition(type, plan, Absent(type, token.parameter, code, system))


def conditional_url(url: str) -> tuple[str, str] | None:
    """Type and query of `Type?query`; None for anything else."""
    type, mark, query = url.partition("?")
    return (type, query) if mark and type.isalpha() else None


def identifier_url(type: str, system: str, value: str) -> str:
    """The conditional reference to a business identifier."""
    escaped = "".join("\\" + sign if sign in ",|$\\" else sign for sign in value)
    return f"{type}?{urlencode({'identifier': f'{system}|{escaped}'})}"


async def match(reader: Reader, wanted: Condition, *, expression: str | None = None) -> str | None:
    """The logical id of the one resource that meets the condition; None when there is none.

    Raises MultipleMatches when there are several.
    """
    page = await reader.search(wanted.plan)
    if len(page.matches) > 1:
        raise MultipleMatches(
            f"More than one {wanted.type} has this identifier",
            expression=expression,
            rule="multiple-matches",
        )
    return page.matches[0].id if page.matches else None
