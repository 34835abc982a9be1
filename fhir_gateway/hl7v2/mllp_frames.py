"""Frames of MLLP: <SB> message <EB><CR>, cut out of whatever pieces a connection brings.

HL7 Version 3 Transport Specification: MLLP, release 1 and 2; the same framing carries v2. Bytes
outside of frames are dropped, as the specification asks. A lone EB ends a frame too: many senders
leave out the CR that follows it. Nothing here waits, and memory is bounded by the limit.
"""

from __future__ import annotations

from typing import NamedTuple

START, END, RETURN = b"\x0b", b"\x1c", b"\x0d"


class Frame(NamedTuple):
    """What came between SB and EB. `fault` says why it is no whole message: "too-long" (its first
    bytes are there, for the header), "cut-off" (another SB came before the EB), or ""."""

    message: bytes
    fault: str = ""


def framed(message: bytes) -> bytes:
    """The message as it goes over the wire."""
    return START + message + END + RETURN


class Frames:
    """The reading half of one connection. `limit` is the largest message in bytes."""

    #: So much of a message that is too long is kept, so that its header can be answered.
    KEPT = 8_192

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.inside = False  # of a frame: its end is still to come

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that end in these bytes, in order."""
        found: list[Frame] = []
        at = 0
        while at < len(data):
            if not self.inside:
                begin = data.find(START, at)
                if begin < 0:
                    break
                self.inside, at = True, begin + 1
            else:
                at = self._within(data, at, found)
        return found

    def _within(self, data: bytes, at: int, found: list[Frame]) -> int:
        """Takes what belongs to the open frame; returns where to go on."""
        end = data.find(END, at)
        start = data.find(START, at, end if end >= 0 else len(data))
        if start >= 0:
            self._keep(data[at:start])
            found.append(self._taken("cut-off"))
            return start + 1
        if end < 0:
            self._keep(data[at:])
            return len(data)
        self._keep(data[at:end])
        found.append(self._taken(""))
        self.inside = False
        return end + 1

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(part)
        else:
            self._parts = [(b"".join(self._parts) + part)[: min(self.KEPT, self._limit)]]

    def _taken(self, fault: str) -> Frame:
        message = b"".join(self._parts)
        if self._size > self._limit:
            fault = "too-long"
        self._parts, self._size = [], 0
        return Frame(message, fault)
