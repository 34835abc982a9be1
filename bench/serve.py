"""The product without its audit, for comparison with servers that keep none; bench only.

`python -m bench.serve DATABASE MAPPINGS` prints its port. No setting leads here.
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn
import uvloop

from fhir_gateway.app import build
from fhir_gateway.cli.serve import listen, server_config, settle
from fhir_gateway.settings import load_settings


async def serve() -> None:
    """Serves until it is told to stop."""
    settings = load_settings({}, database=f"sqlite:///{sys.argv[1]}", mappings=sys.argv[2])
    application = await build(settings, audit=False)
    settle()
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    try:
        await uvicorn.Server(server_config(application.asgi)).serve(sockets=[listener])
    finally:
        await application.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
