"""What a criterion finds of a result: verdict, reason, and an effect other than its own.

`PASSED` and `NOT_APPLICABLE` are looked for by identity, which costs nothing in the usual case.
"""

from __future__ import annotations

from fhir_gateway.recognition.model import Effect, Verdict

Finding = tuple[Verdict, str, Effect | None]

PASSED: Finding = ("pass", "", None)
NOT_APPLICABLE: Finding = ("not-applicable", "", None)
