"""How good a ranking and its probabilities are, on rows whose outcome is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Column = npt.NDArray[Any]

DRAWS = 500
LEVEL = 0.95
FEW_OWNERS = 30
"""With fewer owners that engaged, intervals that draw owners are too narrow."""


def ndcg(group: Column, score: Column, label: Bools, k: int = 5, seed: int = 0) -> float:
    """Return the mean NDCG@k over groups with at least one positive, NaN where there is none; ties are broken at random."""
    each = ndcg_each(group, score, label, k, seed)[1]
    return float(each.mean()) if len(each) else float("nan")


def ndcg_each(group: Column, score: Column, label: Bools, k: int = 5, seed: int = 0) -> tuple[Column, Floats]:
    """Return the groups with at least one positive, ascending, and the NDCG@k of each (Järvelin and Kekäläinen 2002)."""
    tie = np.random.default_rng(seed).random(len(score))
    order = np.lexsort((tie, -score, group))
    group, gained = group[order], label[order]
    start = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(group) else np.empty(0, np.intp)
    size = np.diff(np.append(start, len(group)))
    rank = np.arange(len(group)) - np.repeat(start, size)
    worth = np.where(rank < k, 1 / np.log2(rank + 2), 0.0)
    positives = np.add.reduceat(gained, start, dtype=np.int64) if len(start) else np.empty(0, np.int64)
    if not positives.any():
        return group[:0], np.empty(0)
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))[np.clip(positives, 1, k) - 1]
    return group[start][positives > 0], (np.add.reduceat(worth * gained, start) / ideal)[positives > 0]


def auc(score: Column, label: Bools, weight: Column) -> float:
    """Return the weighted chance that a positive scores above a negative (ties count half), NaN without both."""
    order = np.argsort(score, kind="stable")
    _, place = np.unique(score[order], return_inverse=True)
    positive = np.bincount(place, (weight * label)[order])
    negative = np.bincount(place, (weight * ~label)[order])
    if not positive.sum() or not negative.sum():
        return float("nan")
    below = np.cumsum(negative) - negative / 2
    return float((positive * below).sum() / positive.sum() / negative.sum())


def log_loss(probability: Column, label: Bools, weight: Column) -> float:
    """Return the weighted mean of -log of the probability given to what happened."""
    likelihood = np.where(label, probability, 1 - probability).astype(np.float64)
    return float((-np.log(np.maximum(likelihood, 1e-15)) * weight).sum() / weight.sum())


def expected_over_observed(probability: Column, label: Bools, weight: Column) -> float:
    """Return the sum of probabilities over the sum of outcomes: 1 where calibrated overall, NaN without outcomes."""
    observed = float((label * weight).sum())
    return float((probability * weight).sum() / observed) if observed else float("nan")


@dataclass(frozen=True)
class Resampled:
    """Owners (users, or whoever rows belong together by) drawn with replacement: `times` (draws, owners), `owner` codes (n,).

    Rows of one owner are alike, so an interval that draws rows one by one is too narrow (Efron and Tibshirani 1993, ch. 8).
    """

    owner: npt.NDArray[np.intp]
    times: Floats

    @staticmethod
    def of(owner: Column, draws: int = DRAWS, seed: int = 0) -> Resampled:
        """Return the draws for rows of some owners; the same seed gives the same draws."""
        distinct, codes = np.unique(owner, return_inverse=True)
        n, random = max(len(distinct), 1), np.random.default_rng(seed)
        times = np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(draws)]).astype(np.float64)
        return Resampled(codes.ravel(), times)

    def ratio(self, above: Column, below: Column) -> tuple[float, float]:
        """Return the interval of sum(above) / sum(below) at LEVEL, NaN where there is nothing below in most draws."""
        sums = [self.times @ np.bincount(self.owner, values, self.times.shape[1]) for values in (above, below)]
        some = sums[1] > 0
        if some.sum() * 2 < len(some):
            return float("nan"), float("nan")
        low, high = np.quantile(sums[0][some] / sums[1][some], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def mean(self, values: Column) -> tuple[float, float]:
        """Return the interval of the mean of values at LEVEL."""
        return self.ratio(values, np.ones(len(values)))


@dataclass(frozen=True)
class Tenth:
    """A tenth of the rows: the highest probability in it, how much was expected over how much came, and with how many positives."""

    upto: float
    expected_over_observed: float
    interval: tuple[float, float]
    positives: int


def tenths(probability: Column, label: Bools, weight: Column, owner: Column, *, of: str = "rows") -> list[Tenth]:
    """Return the calibration of ten parts of the rows, lowest first, with intervals that resample owners (see `interval_of_few`).

    `of`: "rows" makes parts of equal weight, "engagement" parts that promise equally many engagements. Where few rows are
    engaged with, the low tenths of rows hold next to no engagement and their ratios mean little: see `positives`.
    """
    order = np.argsort(probability, kind="stable")
    mass = np.cumsum((weight if of == "rows" else weight * probability)[order])
    part = np.empty(len(order), np.intp)
    part[order] = np.minimum((mass / mass[-1] * 10 * (1 - 1e-12)).astype(np.intp), 9)
    resampled, found = Resampled.of(owner), []
    for place in range(10):
        here = part == place
        expected, observed = weight * probability * here, weight * label * here
        ratio = expected_over_observed(probability[here], label[here], weight[here])
        upto = float(probability[here].max()) if here.any() else float("nan")
        engaged = np.bincount(resampled.owner, observed).astype(np.float64)
        few = (engaged > 0).sum() < FEW_OWNERS
        interval = interval_of_few(float(expected.sum()), engaged) if few else resampled.ratio(expected, observed)
        found.append(Tenth(upto, ratio, interval, int(label[here].sum())))
    return found


def interval_of_few(expected: float, observed: Floats) -> tuple[float, float]:
    """Return the interval at LEVEL of expected over observed where few owners engaged, NaN where none did.

    `observed`: what came, one per owner. Garwood's exact interval (1936) of a Poisson count, at the effective number of owners that
    engaged (Kish 1965). Drawing owners says nothing of how much else could have come: where one engaged, no draw holds another.
    """
    total = float(observed.sum())
    if not total:
        return float("nan"), float("nan")
    effective = effective_owners(observed)
    least, most = scipy.special.gammaincinv(effective, (1 - LEVEL) / 2), scipy.special.gammaincinv(effective + 1, (1 + LEVEL) / 2)
    return expected / total * effective / float(most), expected / total * effective / float(least)


def effective_owners(observed: Floats) -> float:
    """Return how many owners who engage alike would say as much as these (Kish 1965), 0 where none did; `observed`: one per owner."""
    squares = float((observed**2).sum())
    return float(observed.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True)
class ActivityTenth:
    """A tenth of the users by their activity, the least active first: what a threshold leaves them, and what comes of it.

    `events`: the most that one of them had before. `share_of_volume`: of all rows kept; an even hand gives each tenth its share of
    the users. `kept`: the share of their rows that is kept. `engaged_per_kept`: engagements per row kept. `recall`: the share of
    their engagements that is kept, NaN without any.
    """

    users: int
    events: int
    share_of_volume: float
    kept: float
    engaged_per_kept: float
    recall: float


def by_activity(active: Column, user: Column, above: Bools, label: Bools, weight: Column) -> list[ActivityTenth]:
    """Return the tenths of the users who have rows; users alike in activity are cut in the order of their codes.

    `active`: events of each user code. `user`, `above` (whether kept), `label`, `weight`: one per row.
    """
    people, place = np.unique(user, return_inverse=True)
    tenth = np.empty(len(people), np.int64)
    tenth[np.argsort(active[people], kind="stable")] = np.arange(len(people)) * 10 // max(len(people), 1)
    of_row = tenth[place.ravel()]

    def total(values: Column) -> Floats:
        return np.bincount(of_row, values, 10).astype(np.float64)

    rows, kept, engaged, engaged_kept = (total(weight * values) for values in (np.ones(len(user)), above, label, above & label))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = np.stack([kept / kept.sum(), kept / rows, engaged_kept / kept, engaged_kept / engaged], axis=1).tolist()
    there = [np.flatnonzero(tenth == part) for part in range(10)]
    return [ActivityTenth(len(mine), int(active[people[mine]].max(initial=0)), *shares[part]) for part, mine in enumerate(there)]


def threshold_at_recall(score: Column, label: Bools, weight: Column, recall: float) -> float:
    """Return the highest threshold that at least `recall` of the engagements, by weight, score at or above.

    -inf where there are no engagements: nothing is known to be worth leaving out.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"a recall lies above 0 and at most at 1, not at {recall}")
    order = np.argsort(-score[label], kind="stable")
    if not len(order):
        return float("-inf")
    kept = np.cumsum(weight[label][order])
    place = int(np.searchsorted(kept, recall * kept[-1] * (1 - 1e-12)))
    return float(score[label][order][min(place, len(order) - 1)])


def recall_at(score: Column, label: Bools, weight: Column, threshold: float) -> float:
    """Return the share of engagements, by weight, that score at or above a threshold, NaN without engagements."""
    total = float((weight * label).sum())
    return float((weight * label)[score >= threshold].sum() / total) if total else float("nan")


def cut_at(score: Column, weight: Column, threshold: float) -> float:
    """Return the share of rows, by weight, that score below a threshold."""
    return float(weight[score < threshold].sum() / weight.sum())


def reached(user: Column, day: Column, engaged: Bools) -> int:
    """Return how many days of users hold at least one engaged row: who cares that day, however often."""
    return len(np.unique(np.stack([user[engaged], day[engaged]], axis=1), axis=0))


def rounded(value: Any, digits: int = 4) -> Any:
    """Return numbers of a report with few digits, in whatever dicts, lists and tuples they are; NaN becomes None.

    `digits`: after the point, and of what is below 1, such as a probability, that many that signify.
    """
    if isinstance(value, float):
        if not np.isfinite(value):
            return None
        return round(value, digits) if abs(value) >= 1 else float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {name: rounded(part, digits) for name, part in value.items()}
    return [rounded(part, digits) for part in value] if isinstance(value, list | tuple) else value
