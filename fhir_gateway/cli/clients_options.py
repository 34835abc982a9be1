"""What the options of `fhir-gateway clients` name: keys, certificates; and how one is shown."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from fhir_gateway.errors import Invalid
from fhir_gateway.security.certificate import read_thumbprint
from fhir_gateway.security.certificate import thumbprint_of as spelled
from fhir_gateway.security.clients import Client, keys_in


def keys_of(file: str) -> tuple[dict[str, Any], ...]:
    """The public keys in a file, or of standard input. Raises Invalid."""
    try:
        document = json.loads(sys.stdin.read() if file == "-" else Path(file).read_text("utf-8"))
    except (OSError, ValueError):
        raise Invalid(
            f"{file} must be a file of JSON: a JWK Set, or one JWK", rule="client-keys"
        ) from None
    return keys_in(document)


def thumbprint_of(text: str) -> str:
    """The thumbprint of a certificate's file, or one that was given itself. Raises Invalid."""
    path = Path(text)
    if not path.is_file():
        return read_thumbprint(text)
    found = spelled(path.read_text("latin-1"))
    return found or read_thumbprint("")


def described(client: Client, changed: str) -> dict[str, Any]:
    """A client as JSON, with the time of its last change."""
    return {**asdict(client), "changed": changed}
