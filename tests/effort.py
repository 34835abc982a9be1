"""How many examples a property test tries: modest in CI, fifty times as many in torture."""

from __future__ import annotations

import os

TORTURE = bool(os.environ.get("GATEWAY_TORTURE"))


def examples(modest: int) -> int:
    """The number for this run."""
    return modest * 50 if TORTURE else modest
