"""How many may go: the weekly budget of each user and channel, and what is left of it. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

DEFAULT_BUDGET = 255
"""In a user's budgets: the deployment's default of the channel applies."""

MAX_WEEKLY = 254
DIAL_FACTORS = np.array([0.25, 0.5, 1.0, 1.5, 2.0])
"""What the dial's places -2..2 make of a budget."""


def weekly_budget(
    budget: npt.NDArray[np.uint8],
    default: npt.NDArray[np.uint8],
    dial: npt.NDArray[np.int8] | None = None,
    learned: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the most sends per rolling 7 days, uint8 (users, channels).

    `budget`: uint8 (users, >= channels), DEFAULT_BUDGET where the user has set none. `default`: uint8 (channels,). `dial`:
    int8 (users,), -2 (fewer) to 2 (more). Turned up it raises the default only: a number that the user set is a promise.
    Turned down it leaves at least one of what was at least one. `learned`: uint8 (users, >= channels), in the place of the default
    where it is above 0, and then the budget plus 1.
    """
    given = budget[:, : len(default)]
    own = given != DEFAULT_BUDGET
    others = default[None, :]
    if learned is not None:
        known = learned[:, : len(default)]
        others = np.where(known > 0, np.minimum(known - np.minimum(known, 1), MAX_WEEKLY), others)
    weekly = np.where(own, given, others)
    if dial is None:
        return weekly.astype(np.uint8)
    factor = DIAL_FACTORS[np.clip(dial, -2, 2).astype(np.intp) + 2][:, None]
    dialled = np.floor(weekly * np.where(own, np.minimum(factor, 1.0), factor) + 0.5)
    return np.clip(dialled, np.minimum(weekly, 1), MAX_WEEKLY).astype(np.uint8)


def allowance(used: npt.NDArray[np.int16], weekly: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Return the units that may go now, int16 (users, channels): the weekly budget less what its rolling 7 days hold.

    `used`: int16, `weekly`: uint8, both (users, channels). Never negative, also where a budget was lowered.
    """
    left: npt.NDArray[np.int16] = np.maximum(weekly.astype(np.int16) - used, 0)
    return left
