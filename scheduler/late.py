"""What a window that is decided late still sends: the most valuable of it, ever less, and past a bound nothing.

A scheduler that was away comes back to windows whose hour has passed. To send all of them then would tell everybody at an hour that
nobody chose, and spend units that the next window, at its own hour, could spend better; so the least valuable sends are shed first.
What is shed is not lost: held rows stay held, and the sources propose the others again in the user's next window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.decisions import SEND
from lake.errors import InputError
from scheduler.decide import Rows

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LateConfig:
    """`grace_s`: a window up to this late sends all. `bound_s`: one later than this sends nothing; in between the share falls evenly.

    Raises InputError where the bound is under the grace.
    """

    grace_s: float = 1800.0
    bound_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.grace_s < self.bound_s:
            raise InputError(f"late: grace_s ({self.grace_s:g}) must be at least 0 and less than bound_s ({self.bound_s:g})")


def shed_share(late_s: Floats, config: LateConfig) -> Floats:
    """Return the share of its sends that a window sheds which is `late_s` seconds late."""
    return np.clip((late_s - config.grace_s) / (config.bound_s - config.grace_s), 0.0, 1.0)


def too_late(rows: Rows, disposition: npt.NDArray[np.uint8], late_s: Floats, config: LateConfig) -> Bools:
    """Return which rows, (n,), were to be sent and are shed: of all that were, the least valuable, over users as within them.

    `disposition`: as proposed. `late_s`: float64 (users,). Users are decided in chunks of some hundred, and each row's rank is that among
    its chunk's. Critical rows are never shed.
    """
    shed = np.zeros(len(rows.user), bool)
    share = shed_share(late_s, config)
    if not share.any():
        return shed
    sends = np.flatnonzero((disposition == SEND) & ~rows.critical)
    rank = np.empty(len(sends))
    rank[np.argsort(rows.value[sends], kind="stable")] = (np.arange(len(sends)) + 0.5) / max(len(sends), 1)
    shed[sends] = rank < share[rows.user[sends]]
    return shed
