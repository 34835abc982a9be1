"""What a request may be before any door looks at it: its method, address and headers.

The server's limits of bytes and time stand in cli.serve_connections; these hold under any ASGI
server. RFC 9110 15.5 (405, 414), RFC 6585 (431).
"""

from __future__ import annotations

from fhir_gateway.errors import AddressTooLong, HeadersTooLong, MethodNotAllowed
from fhir_gateway.rest.exchange import Scope

#: Headers of a request; browsers behind three proxies send some forty.
MOST_HEADERS = 100
#: Bytes of path and query. A longer search goes by POST to _search.
MOST_ADDRESS = 60_000

#: What some door offers. TRACE would give back credentials, CONNECT lead elsewhere.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def check_head(scope: Scope) -> None:
    """Raises MethodNotAllowed, AddressTooLong or HeadersTooLong for what no client needs."""
    if scope["method"] not in _METHODS:
        raise MethodNotAllowed("This method is not offered anywhere here", rule="method")
    if len(scope["query_string"]) + len(scope["path"]) > MOST_ADDRESS:
        raise AddressTooLong(
            f"An address may have {MOST_ADDRESS} bytes; send a search by POST to _search",
            rule="address-limit",
        )
    if len(scope["headers"]) > MOST_HEADERS:
        raise HeadersTooLong(f"A request may have {MOST_HEADERS} headers", rule="headers-limit")
