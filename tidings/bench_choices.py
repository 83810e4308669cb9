"""Made-up choices of users for `tidings bench assignment` and tests of plans, and the exact optimum of one user by HiGHS."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, milp

from scheduler.assignment import Choices


def choices_of(seed: int, users: int, items: int, windows: int, channels: int, *, near: float = 0.2, scarce: int = 3) -> Choices:
    """Return choices with decay, expiry, quiet windows and a taste per window and channel; `scarce`: most budget per channel."""
    rng = np.random.default_rng(seed)
    base = rng.gamma(2.0, 0.1, (users, items, 1, 1))
    at = np.sort(rng.uniform(0, 7, (users, windows)), axis=1)
    decay = np.exp2(-at[:, None, :, None] / rng.choice([0.5, 2.0, 30.0], (users, items, 1, 1)))
    taste = rng.uniform(0.4, 1.6, (users, 1, windows, 1)) * rng.uniform(0.5, 1.5, (users, items, 1, channels))
    alive = at[:, None, :, None] < rng.choice([1.0, 3.0, 9.0], (users, items, 1, 1))
    loud = rng.random((users, 1, windows, channels)) > 0.1
    value = np.where(alive & loud, base * decay * taste, -1).astype(np.float32)
    apart = np.abs(at[:, :, None] - at[:, None, :])
    return Choices(
        value=value,
        budget=rng.integers(0, scarce + 1, (users, channels)),
        day=np.minimum(at.astype(np.int64), windows - 1) if windows < 7 else at.astype(np.int64),
        day_cap=np.full((users, windows), 3),
        window_cap=2,
        near=apart < near,
    )


def exact(choices: Choices, user: int) -> float:
    """Return the value of a user's best plan, an integer program."""
    value = choices.value[user]
    items, windows, channels = value.shape
    size = value.size
    where = np.arange(size).reshape(value.shape)
    rows: list[npt.NDArray[np.float64]] = []
    most: list[float] = []

    def limit(taken: npt.NDArray[np.int64], upper: float, used: tuple[int, float] | None = None) -> None:
        row = np.zeros(size + windows)
        row[taken.reshape(-1)] = 1
        if used is not None:
            row[size + used[0]] = used[1]
        rows.append(row)
        most.append(upper)

    for item in range(items):
        limit(where[item], 1)
    for channel in range(channels):
        limit(where[:, :, channel], float(choices.budget[user, channel]))
    for window in range(windows):
        limit(where[:, window], 0, (window, -float(choices.window_cap)))
    for day in np.unique(choices.day[user]):
        limit(where[:, choices.day[user] == day], float(choices.day_cap[user][choices.day[user] == day].min()))
    for one, two in zip(*np.nonzero(np.triu(choices.near[user], 1)), strict=True):
        row = np.zeros(size + windows)
        row[[size + one, size + two]] = 1
        rows.append(row)
        most.append(1)
    upper = np.append((value.reshape(-1) > 0).astype(float), np.ones(windows))
    cost = np.append(-np.maximum(value.reshape(-1), 0), np.zeros(windows))
    found = milp(cost, constraints=LinearConstraint(np.array(rows), ub=most), bounds=Bounds(0, upper), integrality=np.ones(size + windows))
    return -float(found.fun)
