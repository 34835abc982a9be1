"""A process that signs an audit log and is stopped on the way.

crash_signer.py DATABASE KEY kill POINT      ends by SIGKILL at a point of the store
crash_signer.py DATABASE KEY sleep -         stops itself (SIGSTOP) with a head in its hand
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from audit_logs import SmallLog

from fhir_gateway.store import points
from fhir_gateway.store.log import Seal


def main(database: str, key: str, what: str, point: str) -> None:
    small = SmallLog(database, Path(key))
    if what == "kill":
        small.run(small.sequencer.sit())
        small.run(small.sequencer.tree())

        def reached(name: str) -> None:
            if name == point:
                os.kill(os.getpid(), signal.SIGKILL)

        points.reached = reached
    else:
        store, real = small.gateway.store, small.gateway.store.log

        async def log(command: Any) -> int:
            if isinstance(command, Seal):
                print("asleep", flush=True)
                os.kill(os.getpid(), signal.SIGSTOP)
            return await real(command)

        store.log = log  # type: ignore[method-assign]
    print("signed", small.sign(), flush=True)
    small.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
