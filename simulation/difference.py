"""Whether the arms of an experiment differ, and by how much: ratios of sums over users with intervals, and the sample-ratio check. Pure.

Users are the unit that was drawn, so they are the unit of every error: sends of one user are alike. A ratio of two sums over users gets its
variance by the delta method (Deng, Knoblich and Lu 2018); with 1 below it is a mean, and the test is Welch's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]

SURE = 1e-3
"""Below this p-value an arm has users that it should not have, or lacks some (Fabijan et al. 2019)."""


@dataclass(frozen=True)
class Moments:
    """Sums over the users of arms, any shape each: of how many, of what is `above` and `below`, of their squares and their product."""

    users: Floats
    above: Floats
    below: Floats
    above_squared: Floats
    below_squared: Floats
    product: Floats

    @staticmethod
    def of(arm: npt.NDArray[np.integer], above: npt.ArrayLike, below: npt.ArrayLike, arms: int) -> Moments:
        """Return the moments of each arm, (arms,). `arm`: code of each user; `above`, `below`: one number per user."""
        x, y = np.asarray(above, np.float64), np.asarray(below, np.float64)
        return Moments(*(np.bincount(arm, column, arms).astype(np.float64) for column in columns(x, y)))

    def take(self, arm: int) -> Moments:
        """Return the moments of one arm of those along the last axis."""
        return Moments(*(np.asarray(column[..., arm]) for column in vars(self).values()))

    @property
    def ratio(self) -> Floats:
        """The sum above over the sum below, NaN where nothing is below."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.below != 0, self.above / self.below, np.nan)

    @property
    def variance(self) -> Floats:
        """The variance of the ratio over draws of users, NaN for fewer than two users."""
        n, ratio = self.users, self.ratio
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = self.above_squared - 2 * ratio * self.product + ratio**2 * self.below_squared
            return np.where(n > 1, np.maximum(spread, 0.0) * n / ((n - 1) * self.below**2), np.nan)


def columns(above: Floats, below: Floats) -> tuple[Floats, ...]:
    """Return what Moments sums, each of the shape of `above` and `below`."""
    return np.ones_like(above), above, below, above * above, below * below, above * below


@dataclass(frozen=True)
class Difference:
    """What a treatment's ratio is beside the control's, any shape each. `low`, `high`: of the difference; `p_value`: two-sided.

    `lift`: the difference as a share of the control's ratio, with its own interval; NaN where that ratio is 0.
    """

    control: Floats
    treatment: Floats
    difference: Floats
    standard_error: Floats
    low: Floats
    high: Floats
    p_value: Floats
    lift: Floats
    lift_low: Floats
    lift_high: Floats


def difference(control: Moments, treatment: Moments, level: float = 0.95) -> Difference:
    """Return how a treatment differs from the control, with intervals that hold the truth with chance `level`.

    Student's t with Welch and Satterthwaite's degrees of freedom. Where no user differs from another there is no error, and p is NaN.
    """
    old, new = control.ratio, treatment.ratio
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = control.variance, treatment.variance
        total = parts[0] + parts[1]
        freedom = total**2 / (parts[0] ** 2 / (control.users - 1) + parts[1] ** 2 / (treatment.users - 1))
        error, apart = np.sqrt(total), new - old
        p_value = 2 * stats.t.sf(np.abs(np.where(error > 0, apart / error, np.nan)), freedom)
        wide = stats.t.ppf((1 + level) / 2, freedom)
        lift = np.where(old != 0, apart / old, np.nan)
        of_lift = np.sqrt(parts[1] + (new / old) ** 2 * parts[0]) / np.abs(np.where(old != 0, old, np.nan))
    return Difference(
        *(np.asarray(each, np.float64) for each in (old, new, apart, error, apart - wide * error, apart + wide * error)),
        *(np.asarray(each, np.float64) for each in (p_value, lift, lift - wide * of_lift, lift + wide * of_lift)),
    )


def sample_ratio(counts: npt.ArrayLike, shares: npt.ArrayLike) -> Floats:
    """Return the p-value of chi-square that users fell to arms by `shares`, over the last axis of `counts` (…, arms), NaN without users.

    Below SURE something takes users out of an arm or puts them into it, and no difference between the arms means anything.
    """
    seen = np.asarray(counts, np.float64)
    wanted = seen.sum(axis=-1, keepdims=True) * np.asarray(shares, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(stats.chisquare(seen, wanted, axis=-1).pvalue, np.float64)
