"""The product itself, `fhir-gateway serve`, with the bench's mapping tables (first argument)."""

from __future__ import annotations

import os
import sys

from fhir_gateway.cli.serve import command

if __name__ == "__main__":
    os.environ["FHIR_GATEWAY_MAPPINGS"] = sys.argv[1]
    command(sys.argv[2:])
