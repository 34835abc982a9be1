"""The image archive of the first hospital: enough of WADO-RS for its Endpoint to be checked.

It keeps one study and gives its metadata (PS3.18 10.4.1.1.2), over plain HTTP on this machine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: The study of demo/city/bundles, by its StudyInstanceUID.
STUDY = "1.2.826.0.1.3680043.8.498.70010023"
_BODY = json.dumps([{"0020000D": {"vr": "UI", "Value": [STUDY]}}]).encode()


class _Archive(BaseHTTPRequestHandler):
    """HEAD and GET of the metadata of that study; nothing else is here."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        known = self.path == f"/dicom-web/studies/{STUDY}/metadata"
        body = _BODY if known else b""
        self.send_response(200 if known else 404)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the story is told elsewhere."""


@contextmanager
def archive() -> Iterator[str]:
    """The archive's DICOMweb address on a free loopback port, until the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Archive)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dicom-web"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
