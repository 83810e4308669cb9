"""Which delivery windows a week of scores makes: local quarter-hours, spread over its days."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.profiles import MAX_WINDOWS
from scheduler.activity import F32, WEEK_HOURS, Ints


def best_windows(
    scores: F32, weekly: int = 7, quarter: npt.NDArray[np.uint16] | None = None, least_apart_hours: int = 4
) -> npt.NDArray[np.uint16]:
    """Return delivery windows, local quarter-hours of the week in ascending order, uint16 (n, weekly).

    Up to 7 a week: each on a day of its own at that day's best hour, the best days first but spread over the week. More: a
    second one on the best days, at least `least_apart_hours` from the first. `quarter`: 0..3 within the hour, shape (n,).
    Raises ValueError where `weekly` is more than a profile holds.
    """
    if not 0 <= weekly <= MAX_WINDOWS:
        raise ValueError(f"weekly must be between 0 and {MAX_WINDOWS}, not {weekly}")
    hour, value = _best_per_day(scores)
    chosen = _spread_days(value, min(weekly, 7))
    windows = np.take_along_axis(hour, chosen, axis=1)
    if weekly > 7:
        apart = np.abs(np.arange(WEEK_HOURS) - hour[:, :, None])
        near = (np.minimum(apart, WEEK_HOURS - apart) < least_apart_hours).any(axis=1)
        second, value = _best_per_day(np.where(near, np.float32(-1), scores))
        windows = np.concatenate([windows, np.take_along_axis(second, _spread_days(value, weekly - 7), axis=1)], axis=1)
    shift = np.zeros(len(scores), np.int64) if quarter is None else quarter.astype(np.int64)
    return np.sort(windows * 4 + shift[:, None], axis=1).astype(np.uint16)


def _best_per_day(scores: F32) -> tuple[Ints, F32]:
    """Return the best hour of the week on each day, (n, 7), and its score."""
    by_day = scores.reshape(-1, 7, 24)
    best = by_day.argmax(axis=2)
    return best + np.arange(7) * 24, np.take_along_axis(by_day, best[:, :, None], axis=2)[:, :, 0]


def _spread_days(value: F32, count: int) -> npt.NDArray[np.intp]:
    """Return `count` days per row, (n, count): the most valuable first, then days not beside a chosen one while there are any."""
    chosen = np.empty((len(value), count), np.intp)
    apart = 7 // max(count, 1)
    rank = value.astype(np.float64)
    rows = np.arange(len(value))
    for place in range(count):
        day = rank.argmax(axis=1)
        chosen[:, place] = day
        for step in range(1, apart):
            rank[rows, (day + step) % 7] -= 2
            rank[rows, (day - step) % 7] -= 2
        rank[rows, day] = -np.inf
    return chosen
