"""The floor: the same HTTP server, a bare ASGI handler, the same lookup, ready bytes out.

No FHIR, no parameters, no access rules, no audit: what is left when everything is left out. Run as
`python -m bench.floor DATABASE`; prints its port.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import apsw
import uvicorn

from bench.people import LOCAL
from fhir_gateway.cli.serve import listen, server_config
from fhir_gateway.fhir.keys import key64, parameter_key, type_key
from fhir_gateway.fhir.wire import splice
from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.engine import open_reader

READ = """
SELECT r.version, r.updated, r.enc, r.body
FROM locator l JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
WHERE l.type = ?1 AND l.id = ?2"""
SEARCH = """
SELECT r.id, r.version, r.updated, r.enc, r.body
FROM locator l
JOIN px c ON c.home = l.home AND c.parameter = ?3 AND c.v1 = ?4 AND c.v2 = ?5
JOIN px d ON d.home = l.home AND d.parameter = ?6 AND d.v1 >= ?7 AND d.rid = c.rid
JOIN resource r ON r.home = l.home AND r.type = ?8 AND r.rid = c.rid
WHERE l.type = ?1 AND l.id = ?2"""
_OBSERVATION, _PATIENT = type_key("Observation"), type_key("Patient")
_CODE, _DATE = parameter_key("Observation", "code"), parameter_key("Observation", "date")


def application(connection: apsw.Connection, secret: bytes) -> Any:
    """ASGI: /o/<id> reads an Observation, /s/<patient>/<item> searches one item."""
    system = key64(LOCAL, secret)

    def read(id: str) -> bytes:
        version, updated, enc, body = next(iter(connection.execute(READ, (_OBSERVATION, id))))
        return splice("Observation", id, version, updated, unpack(enc, body))

    def search(patient: str, item: str) -> bytes:
        code = key64(f"B{item}", secret)
        rows = connection.execute(
            SEARCH, (_PATIENT, patient, _CODE, code, system, _DATE, 0, _OBSERVATION)
        )
        entries = [
            splice("Observation", id, version, updated, unpack(enc, body))
            for id, version, updated, enc, body in rows
        ]
        return b'{"resourceType":"Bundle","entry":[' + b",".join(entries) + b"]}"

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        words = scope["path"].split("/")
        body = read(words[2]) if words[1] == "o" else search(words[2], words[3])
        head = [(b"content-type", b"application/fhir+json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": body})

    return handle


def main() -> None:
    """Serves the floor on a free port until it is told to stop."""
    connection = open_reader(Path(sys.argv[1]))
    secret = next(iter(connection.execute("SELECT index_key FROM clock")))[0]
    listener = listen("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(server_config(application(connection, secret))).run(sockets=[listener])


if __name__ == "__main__":
    main()
