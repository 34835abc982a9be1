"""Credentials that were none, counted by the address they came from (password spraying, faults 44).

The count refuses nobody with a good credential: it is taken when the answer would be 401, and says
429 in its place once an address has spent its purse of misses. Hooks keep their 401, so that a
workstation with an old token is told so.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from fhir_gateway.errors import Throttled
from fhir_gateway.interactions.audit import ORIGIN
from fhir_gateway.rest.exchange import Scope, headers_of
from fhir_gateway.security.origin import client_of
from fhir_gateway.security.quotas import Quotas

_log = logging.getLogger("fhir_gateway.quotas")


@dataclass(frozen=True, slots=True)
class Strangers:
    """Whoever is not known. `now` is in microseconds, `count` the operator's figures."""

    quotas: Quotas
    now: Callable[[], int]
    count_event: Callable[[str, int], None]
    proxies: str = ""

    def count(self, scope: Scope) -> None:
        """Counts one. Raises Throttled when its address has spent what it may."""
        address = client_of(scope, headers_of(scope), self.proxies)
        after, first = self.quotas.stranger(address, self.now())
        if first:
            self.count_event("quota_alarms", 1)
            said = {"event": "alarm", "rule": "credentials", "id": ORIGIN.get().request_id}
            _log.warning(json.dumps(said))
        if after and not scope["path"].startswith("/cds-services"):
            error = Throttled(
                f"Too many unknown credentials: come again in {after} s", rule="quota-credentials"
            )
            error.after = after
            raise error
