"""What an urgent row will be worth in its user's next window, beside what it is worth now: by its age then, and by the hour. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.profiles import Profiles
from scheduler.activity import EPOCH_HOURS, F32, WEEK_HOURS, Ints
from scheduler.windows import LocalTimes

DAY_HOURS = 24
WEEKEND_FROM = 5 * DAY_HOURS


@dataclass(frozen=True)
class HourConfig:
    """How much the hour counts in waiting. `power`: a row is worth so much more at an hour at which its user is twice as likely to look, as
    an exponent: 0 not at all, 1 twice as much. `most`: how many times as much, or as little, at most.
    """

    power: float = 0.2
    most: float = 2.0

    def __post_init__(self) -> None:
        if not (0 <= self.power <= 1 and self.most >= 1):
            raise ValueError(f"the hour counts by a power of 0 to 1, and a most of 1 or more: {self}")


def hours_of(scores: F32) -> npt.NDArray[np.uint8]:
    """Return the `hours` of profiles, (n, 48), from scores of the local hours of the week, (n, 168): a working day's, then a weekend's."""
    days = scores.reshape(-1, 7, DAY_HOURS)
    kinds = np.concatenate([days[:, :5].mean(axis=1), days[:, 5:].mean(axis=1)], axis=1)
    shares = kinds / np.maximum(kinds.max(axis=1, keepdims=True, initial=0.0), np.float32(1e-12))
    return np.where(kinds > 0, np.clip(np.rint(255 * shares), 1, 255), 0).astype(np.uint8)


def likelier(
    profiles: Profiles, times: LocalTimes, now: float | npt.NDArray[np.float64], opens: npt.NDArray[np.float64], config: HourConfig
) -> F32:
    """Return how many times as much a row counts at the hour of `opens` as at that of `now`, (n,), NaN where the user's hours are unknown.

    `times`: of the users. `opens`: seconds, inf where no window opens. Hours count as unknown for those who chose a time of their own, too:
    that is a wish.
    """
    hours, rows = profiles["hours"], np.arange(len(profiles))
    there = np.isfinite(opens)
    then, at = (hours[rows, _cell(times, each)].astype(np.float32) for each in (np.where(there, opens, now), now))
    known = (then > 0) & (at > 0) & there & (profiles["digest_days"] == 0)
    ratio = np.divide(then, at, out=np.ones_like(then), where=known) ** np.float32(config.power)
    return np.where(known, np.clip(ratio, 1 / config.most, config.most), np.nan).astype(np.float32)


def _cell(times: LocalTimes, at: float | npt.NDArray[np.float64]) -> Ints:
    """Return the place of local hours in `hours`, (n,)."""
    seconds = np.floor(at).astype(np.int64)
    hour = ((seconds + times.offset_at(seconds)) // 3600 + EPOCH_HOURS) % WEEK_HOURS
    cell: Ints = hour % DAY_HOURS + np.where(hour >= WEEKEND_FROM, DAY_HOURS, 0)
    return cell


def value_later(value: F32, threshold: F32, kept: npt.NDArray[np.floating], likelier: F32, least_kept: float) -> F32:
    """Return what rows count in the next window, (n,), to be compared with what they are worth now.

    `kept`: share of the value that age leaves. `likelier`: see there. Where hours are unknown, windows are taken to be better than now, for
    that is what they are chosen by: what is worth a unit now and keeps `least_kept` of its value counts as worth waiting for.
    """
    unknown = np.where(value >= threshold, np.float32(1 / max(least_kept, 1e-6)), np.float32(1))
    return (value * kept * np.where(np.isnan(likelier), unknown, likelier)).astype(np.float32)
