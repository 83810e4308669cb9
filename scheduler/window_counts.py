"""How many windows a user's week has: as many as their hours are good for, and no more than twice what may be sent in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from budgets.allowance import weekly_budget
from lake.meta import Meta
from lake.profiles import MAX_WINDOWS, NO_WINDOW, Profiles
from scheduler.activity import F32
from scheduler.best_windows import best_windows

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WindowRule:
    """`channels`: what windows send on. `weekly`: default budgets by channel, `weekly_default` where a channel is absent.

    A day has a window where its best hour is at least `least` as likely as the week's best, and a second one, four hours apart, where that
    is at least `second` as likely. `fewest`: windows of everybody who may be sent anything, for hours may be misjudged. `per_unit`: windows
    per unit of the weekly budget, so that there is a choice of when to spend it. `ahead_s`: seconds by which windows
    open earlier, for messages are on their way so long (`scheduler/delivery_delays.py`).
    """

    channels: tuple[str, ...] = ("in_app",)
    weekly: Mapping[str, int] = field(default_factory=dict)
    weekly_default: int = 7
    least: float = 0.2
    second: float = 0.8
    fewest: int = 3
    per_unit: int = 2
    ahead_s: float = 0.0


def window_counts(scores: F32, profiles: Profiles, meta: Meta, rule: WindowRule) -> Ints:
    """Return how many windows users have, (n,), 1 to MAX_WINDOWS. `scores`: of their local hours of the week, (n, 168)."""
    return np.clip(np.minimum(by_habit(scores, rule), rule.per_unit * units(profiles, meta, rule)), 1, MAX_WINDOWS).astype(np.int64)


def by_habit(scores: F32, rule: WindowRule) -> Ints:
    """Return how many windows users' hours are good for, (n,)."""
    likeliest = scores.max(axis=1, keepdims=True)
    hours = best_windows(scores, MAX_WINDOWS).astype(np.intp) // 4
    share = np.take_along_axis(scores, hours, axis=1) / np.maximum(likeliest, np.float32(1e-12))
    day = hours // 24
    first, second = np.zeros((len(scores), 7), bool), np.zeros((len(scores), 7), np.int64)
    np.logical_or.at(first, (np.arange(len(scores))[:, None], day), share >= rule.least)
    np.add.at(second, (np.arange(len(scores))[:, None], day), share >= rule.second)
    windows: Ints = np.maximum(first.sum(axis=1) + (second >= 2).sum(axis=1), rule.fewest).astype(np.int64)
    return windows


def units(profiles: Profiles, meta: Meta, rule: WindowRule) -> Ints:
    """Return what users may be sent in their windows in a week, over all channels, (n,)."""
    default = np.array([rule.weekly.get(name, rule.weekly_default) for name in meta.channels], np.uint8)
    weekly = weekly_budget(profiles["budget"], default, profiles["dial"], profiles["learned"])
    codes = [code for code, name in enumerate(meta.channels) if name in rule.channels]
    found: Ints = weekly[:, codes].sum(axis=1, dtype=np.int64)
    return found


def spread(scores: F32, counts: Ints, quarter: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Return so many of the best windows of each user, (n, MAX_WINDOWS), NO_WINDOW padded."""
    found = np.full((len(scores), MAX_WINDOWS), NO_WINDOW, np.uint16)
    for count in np.unique(counts).tolist():
        mine = np.flatnonzero(counts == count)
        found[mine, :count] = best_windows(scores[mine], count, quarter[mine])
    return found
