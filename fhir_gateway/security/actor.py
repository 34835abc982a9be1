"""The actor of a request, and the Access value that every read of the store takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["institution", "system", "open"]

#: Sensitivity classes of the `class` column, in rising order (GB/T 39725 grades follow later).
ORDINARY, RESTRICTED = 0, 1


@dataclass(frozen=True, slots=True)
class Access:
    """What a Reader may see.

    `owners` None means every institution's rows; otherwise only rows of these owner keys (and
    rows without owner, 0). `max_class` is the highest sensitivity class that is visible.
    """

    max_class: int = ORDINARY
    owners: frozenset[int] | None = None


#: For the gateway's own work (jobs, registers, definitions); never handed to a door's caller.
SYSTEM_ACCESS = Access(max_class=RESTRICTED)


@dataclass(frozen=True, slots=True)
class Actor:
    """The authenticated caller.

    `institution` is the logical id of the caller's Organization; None for the gateway itself and
    for the open-access mode. `name` stands in audit records.
    """

    role: Role
    name: str
    institution: str | None = None
    access: Access = Access()


GATEWAY = Actor(role="system", name="gateway", access=SYSTEM_ACCESS)
OPEN = Actor(role="open", name="open-access")
