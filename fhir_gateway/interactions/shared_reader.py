"""A reader for what all callers share: the registry, the rules, the lists.

It is read once per epoch and kept for everybody, so what the scopes of one token leave out must not
be left out of it. Everything else that an Access hides is no part of it: the table of rights lets
every role read directory and definitions (security.rights_file).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fhir_gateway.context import Gateway
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.narrowed_reader import NarrowedReader
from fhir_gateway.store.store import Reader


@asynccontextmanager
async def shared_reader(gateway: Gateway, reader: Reader) -> AsyncIterator[Reader]:
    """The reader itself, or the gateway's own where a token's scopes narrow it."""
    if not isinstance(reader, NarrowedReader):
        yield reader
        return
    async with gateway.store.snapshot(SYSTEM_ACCESS) as whole:
        yield whole
