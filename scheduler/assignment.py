"""Which item goes in which of a user's upcoming windows and by which channel: whole shards at once, close to the exact optimum.

The exact problem is an integer program per user. Here a plan is filled greedily, best row first, and then improved: a row that is not in
the plan is forced in, or some that are are put out, the gaps are filled again, each row being passed over now and then, and a plan
that is better than or close to the best so far is gone on from (ruin and recreate with blinks: Christiaens & Vanden Berghe 2020;
record-to-record acceptance: Dueck 1993). Prices of the limits then bound what any plan can be worth, and what the bound leaves open is
searched to the end, so that most plans are known to be within `gap` of the best. The loops are in `assignment_loops.py` (improving),
`assignment_exact.py` (bound and search) and `assignment_plans.py` (a user after another).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NOT_PLANNED = -1


@dataclass(frozen=True)
class AssignConfig:
    """`rounds`: attempts to improve a user's plan before it is bounded; `most_rounds` where `nodes` choices of the search do not settle it.
    `gap`: share of its worth by which a plan may be short of the best. `slack`: share of the best plan's worth that may be given up on the
    way, falling to nothing. `promise_bonus`: share by which what was promised before is preferred, so that a plan changes only for a clear
    gain.
    """

    rounds: int = 12
    most_rounds: int = 180
    gap: float = 0.002
    slack: float = 0.1
    nodes: int = 20_000
    promise_bonus: float = 0.05


@dataclass(frozen=True)
class Choices:
    """What may be planned for n users.

    `value`: float32 (n, items, windows, channels), what a row is worth there; not above 0 where it must not go (expired by then,
    quiet, under its threshold, no such window). `budget`: int (n, channels), units left. `day`: int (n, windows), 0 <= day < windows,
    the windows of one local day alike. `day_cap`: int (n, windows), most sends of the window's day, alike for the windows of a day.
    `window_cap`: most sends of a window. `near`: bool
    (n, windows, windows), which windows are too close for both to be used; symmetric, its diagonal is ignored.
    """

    value: F32
    budget: npt.NDArray[np.integer]
    day: npt.NDArray[np.integer]
    day_cap: npt.NDArray[np.integer]
    window_cap: int
    near: Bools

    def __len__(self) -> int:
        return len(self.value)


def assign(choices: Choices, config: AssignConfig | None = None, promised: Bools | None = None) -> Ints:
    """Return each item's row, window * channels + channel, or NOT_PLANNED, int64 (n, items).

    `promised`: bool (n, items), planned before and waiting since; those count `promise_bonus` more.
    """
    from scheduler.assignment_plans import plan_all  # the compiler takes a second to load, and most deployments don't plan ahead

    config = config or AssignConfig()
    users, items, windows, channels = choices.value.shape
    value = np.maximum(choices.value, 0).reshape(users, items, windows * channels).astype(np.float32)
    if promised is not None:
        value = value * np.where(promised, np.float32(1 + config.promise_bonus), np.float32(1))[:, :, None]
    plan = np.full(value.shape[:2], NOT_PLANNED, np.int64)
    if value.size:
        order = np.argsort(-value.reshape(users, -1), axis=1, kind="stable")
        limits = (
            np.ascontiguousarray(choices.budget, np.int64),
            np.ascontiguousarray(choices.day, np.int64),
            np.ascontiguousarray(choices.near),
            np.ascontiguousarray(choices.day_cap, np.int64),
        )
        plan_all(
            np.ascontiguousarray(value),
            order,
            limits,
            choices.window_cap,
            (config.rounds, config.most_rounds, config.gap, config.slack, config.nodes),
            plan,
        )
    return plan


def worth(choices: Choices, plan: Ints) -> npt.NDArray[np.float64]:
    """Return what each user's plan is worth, (n,)."""
    rows = choices.value.reshape(*plan.shape, choices.value.shape[2] * choices.value.shape[3])
    chosen = np.take_along_axis(rows, np.maximum(plan, 0)[:, :, None], axis=2)[:, :, 0]
    return np.asarray(np.where(plan >= 0, chosen, 0).sum(axis=1, dtype=np.float64))
