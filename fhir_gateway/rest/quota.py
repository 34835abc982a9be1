"""What requests to the FHIR door cost their callers, and what counts as a miss.

The kinds of the tariff by route; the answer says how much is left
(draft-ietf-httpapi-ratelimit-headers). A miss is a 404, or a search that finds nothing.
"""

from __future__ import annotations

from fhir_gateway.context import Gateway
from fhir_gateway.interactions.quota import missed, spend
from fhir_gateway.rest.exchange import Answer, Exchange
from fhir_gateway.rest.headers import rate_limit
from fhir_gateway.security.quotas import LOOKUPS

#: Bytes of a Bundle for a point.
_BYTES_A_POINT = 100
#: A page of results that holds none is shorter.
_EMPTY_PAGE = 8_192

#: By template and method, where the template alone or the method alone does not say it.
_BY_ROUTE = {
    ("{type}/{id}", "GET"): "read",
    ("metadata", "GET"): "metadata",
    ("_async/{job}", "GET"): "job",
    ("_async/{job}", "DELETE"): "job",
    ("_async/{job}/{file}", "GET"): "file",
    ("", "POST"): "bundle",
}
_BY_METHOD = {"GET": "search", "POST": "create", "PUT": "update", "PATCH": "patch",
              "DELETE": "delete"}  # fmt: skip


def kind_of(exchange: Exchange) -> str:
    """The kind of a request, as the tariff names it."""
    path = exchange.path
    if exchange.operation:
        return exchange.operation
    kind = _BY_ROUTE.get((path, exchange.method))
    if kind is not None:
        return kind
    if path.endswith("_search"):
        return "search"
    return "history" if "_history" in path else _BY_METHOD.get(exchange.method, "read")


def charge(gateway: Gateway, exchange: Exchange) -> None:
    """Takes from the caller's purse what the request costs. Raises Throttled."""
    kind = kind_of(exchange)
    more = _size(exchange) // _BYTES_A_POINT if kind == "bundle" else 0
    exchange.scope["kind"] = kind
    exchange.scope["purse"] = spend(gateway, exchange.actor, kind, more=more)


def settle_quota(gateway: Gateway, exchange: Exchange, answer: Answer) -> Answer:
    """The answer with what is left of the purse. Counts it when nothing was found."""
    purse = exchange.scope.get("purse")
    if purse is None:
        return answer
    if exchange.scope["kind"] in LOOKUPS and _is_miss(answer):
        missed(gateway, exchange.actor)
    left = rate_limit(
        int(purse.points), int(purse.size), purse.window, purse.seconds_until(purse.size)
    )
    return answer._replace(headers=(*answer.headers, *left))


def _is_miss(answer: Answer) -> bool:
    """Whether nothing was there: no such resource, or a searchset without a match."""
    if answer.status != 200:
        return answer.status == 404
    body = answer.body
    return (
        len(body) < _EMPTY_PAGE
        and b'"searchset"' in body
        and b'"match"' not in body
        and b'"_summary=count"' not in body
    )


def _size(exchange: Exchange) -> int:
    text = exchange.headers.get("content-length", "")
    return int(text[:12]) if text.isdigit() else 0
