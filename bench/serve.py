"""The product without its audit, for comparison with servers that keep none; bench only.

`python -m bench.serve DATABASE-URL MAPPINGS WORKERS` prints its port. No setting leads here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import uvicorn
import uvloop

from fhir_gateway.app import build
from fhir_gateway.cli.serve import listen, server_config, settle
from fhir_gateway.settings import load_settings


async def serve(listener: socket.socket, *, tell: bool) -> None:
    """Serves until it is told to stop."""
    settings = load_settings({}, database=sys.argv[1], mappings=sys.argv[2])
    application = await build(settings, audit=False)
    settle()
    if tell:
        print(listener.getsockname()[1], flush=True)
    try:
        await uvicorn.Server(server_config(application.asgi)).serve(sockets=[listener])
    finally:
        await application.close()


def main() -> None:
    """The first process serves too, and takes the others with it."""
    listener = listen("127.0.0.1", 0)
    children: list[int] = []
    for _ in range(int(sys.argv[3]) - 1):
        child = os.fork()
        if child == 0:
            children.clear()
            break
        children.append(child)
    first = bool(children) or sys.argv[3] == "1"
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has stopped
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(listener, tell=first))
    for child in children:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
