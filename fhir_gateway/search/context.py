"""What the meaning of a search value depends on beside itself."""

from __future__ import annotations

from typing import NamedTuple

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class Context(NamedTuple):
    """The store's index key, the server's own base url, and the zone of dates without one."""

    secret: bytes
    base_url: str = ""
    zone: str = "Asia/Shanghai"
