"""What names a person in tests and may be in nothing that is written, and who listens for it.

The numbers are made so that they cannot be anybody's: the area of the identity numbers does not
exist. Every log record of the whole suite is looked through (faults.md 66, I14).
"""

from __future__ import annotations

import logging
import re

CANARIES = {
    "identity number": "990101199003077777",
    "name": "金丝雀乙",
    "latin name": "Canarybird",
    "phone": "19977777770",
    "card": "CANARYCARD7777",
    "address": "金丝雀胡同七号",
    "birth": "1907-07-17",
}
#: Canaries of earlier tests beside these.
_ALL = re.compile("|".join([*map(re.escape, CANARIES.values()), "金丝雀", "330102199003077777"]))


def found_in(text: str) -> list[str]:
    """The canaries in a text, whatever way it is escaped."""
    spelled = {one: kind for kind, one in CANARIES.items()}
    forms = {form: kind for one, kind in spelled.items() for form in _forms(one)}
    return sorted({kind for form, kind in forms.items() if form in text})


def _forms(text: str) -> set[str]:
    """A text as JSON, URLs, bytes in a repr and other charsets show it."""
    from base64 import b64encode
    from urllib.parse import quote

    escaped = text.encode("ascii", "backslashreplace").decode()
    packed = text.encode()
    return {
        text, escaped, quote(text), quote(text).lower(), repr(packed)[2:-1], packed.hex(),
        repr(text.encode("gb18030"))[2:-1], b64encode(packed).decode().rstrip("=")[:-1],
    }  # fmt: skip


class Listener(logging.Handler):
    """Notes every record that holds a canary. Put on the root logger for the whole suite."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.leaks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Looks at one record; what names the logger and the line is noted, not the message."""
        text = record.getMessage() + (str(record.exc_info[1]) if record.exc_info else "")
        if record.name.startswith(OURS) and _ALL.search(text):
            self.leaks.append(f"{record.name}, {record.pathname}:{record.lineno}")


#: Loggers of the gateway and of the libraries that it runs; a test's own client may say more.
OURS = ("fhir_gateway", "uvicorn", "asyncio", "asyncpg", "fastapi", "starlette")
LISTENER = Listener()


def listen() -> None:
    """Listens to every logger from now on."""
    logging.getLogger().addHandler(LISTENER)


def taken() -> list[str]:
    """What was heard since the last time."""
    leaks, LISTENER.leaks = LISTENER.leaks, []
    return leaks
