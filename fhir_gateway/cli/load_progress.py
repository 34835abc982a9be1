"""How far a load is: a line that is written anew on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time

#: Seconds between two lines, on a terminal and elsewhere.
_TERMINAL, _ELSEWHERE = 0.5, 30.0


class Progress:
    """Counts bytes that were read and resources that were stored or refused."""

    def __init__(self, total: int, *, hidden: bool) -> None:
        self._total, self._hidden = max(total, 1), hidden
        self._bytes = self._resources = 0
        self._started = self._said = time.monotonic()
        self._on_terminal = sys.stderr.isatty()

    def reach(self, done: int, total: int, resources: int) -> None:
        """So much of so much is done, and so many more resources."""
        self._total = max(total, 1)
        self.add(done - self._bytes, resources)

    def add(self, size: int, resources: int) -> None:
        """So much more is done."""
        self._bytes = min(self._bytes + size, self._total)
        self._resources += resources
        now = time.monotonic()
        if self._hidden or now - self._said < (_TERMINAL if self._on_terminal else _ELSEWHERE):
            return
        self._said = now
        print(self._line(now), end="\r" if self._on_terminal else "\n", file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        seconds = max(now - self._started, 0.001)
        part = self._bytes / self._total
        left = f", {_shown(seconds / part - seconds)} left" if part else ""
        return f"{part:4.0%}  {self._resources} resources, {self.rate():.0f}/s{left}".ljust(70)

    def rate(self) -> float:
        """Resources a second since the start."""
        return self._resources / max(time.monotonic() - self._started, 0.001)

    def close(self) -> None:
        """Leaves the terminal's line empty."""
        if self._on_terminal and not self._hidden:
            print(" " * 70, end="\r", file=sys.stderr, flush=True)


def _shown(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
