"""What a unit of attention is worth: the least value that deserves one, from the values seen lately. Pure.

Three ways to keep it, under one protocol: last week's N-th highest value, a PID controller, and ours, which steers by a digest of values.
docs/thresholds.md compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import scipy

from budgets.approach import PERIOD_DAYS, next_day
from budgets.digest import ScoreDigest

Floats = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

BINS = 32
ODDS_MOST = 8.0
"""Log odds of values are counted in BINS bins between minus and plus this."""

LEAST = 1e-6
MOST_BIAS = 2.0
FEWEST_VALUES = 200
"""Of fewer new values nothing is said about how all of them have moved."""


def threshold(values: npt.ArrayLike, weights: npt.ArrayLike, sends_wanted: float) -> float:
    """Return the value that, over the sample, as many rows reach as sends are wanted: the N-th highest.

    `values`: (n,), of one channel over the last week; NaN (never scored) is left out. `weights`: (n,), rows that each
    stands for (1 / its chance of being logged). Too few rows for the sends wanted: -inf, everything may go. No sends
    wanted: +inf. Raises ValueError on a negative weight or wish.
    """
    value, weight = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if sends_wanted < 0 or np.any(weight < 0):
        raise ValueError("weights and sends_wanted must not be negative")
    if sends_wanted == 0:
        return float("inf")
    scored = ~np.isnan(value)
    order = np.argsort(-value[scored], kind="stable")
    reached = np.cumsum(weight[scored][order])
    place = int(np.searchsorted(reached, sends_wanted * (1 - 1e-12)))
    return float(value[scored][order[place]]) if place < len(order) else float("-inf")


@dataclass(frozen=True)
class Cells:
    """Pairs of user and channel whose thresholds are kept, (n,) each.

    `budget`: float64, the soft weekly budget, below the ledger's hard limit. `group`: int32 codes of cells that are alike, such as those of
    one channel and of users with about as many candidates.
    """

    budget: Floats
    group: Codes

    def __len__(self) -> int:
        return len(self.budget)


@dataclass(frozen=True)
class DayOfCells:
    """What the decision log says of one day.

    Per scored row: `cell` int32, `value` float32, `fresh` bool, whether the cell was offered the row's item for the first time of late.
    `sends`: (cells,), `observed`: whether the day is to be believed at all: False in an outage. `weight`: float32, how many rows each
    stands for (1 / its chance of being logged).
    """

    cell: Codes
    value: F32
    fresh: Bools
    sends: Floats
    observed: bool
    weight: F32


StateT = TypeVar("StateT")


class Controller(Protocol[StateT]):
    """Keeps a threshold per cell, once a day. Pure: a state and a day in, the next state out; no array of a state is changed."""

    def start(self, cells: Cells) -> StateT:
        """Return the state before the first day."""
        ...

    def step(self, state: StateT, day: DayOfCells, cells: Cells) -> StateT:
        """Return the state after a day. `cells`: as they are from now on; a budget may have changed."""
        ...

    def thresholds(self, state: StateT) -> F32:
        """Return the least value worth a unit tomorrow, float32 (cells,); -inf: everything may go."""
        ...


@dataclass(frozen=True)
class Sent:
    """The sends of the last 7 days, oldest first, float64 (cells, 7)."""

    days: Floats

    @staticmethod
    def steady(per_week: Floats) -> Sent:
        """Return seven days alike."""
        return Sent(np.repeat((per_week / PERIOD_DAYS)[:, None], PERIOD_DAYS, axis=1))

    def then(self, sends: Floats) -> Sent:
        """Return the days after one more."""
        return Sent(np.concatenate([self.days[:, 1:], sends[:, None]], axis=1))

    @property
    def week(self) -> Floats:
        """The rolling sum, (cells,)."""
        return np.asarray(self.days.sum(axis=1))


@dataclass(frozen=True)
class DigestState:
    """`digests`: one per cell of the running week. `day`: days since the start."""

    threshold: F32
    digests: list[ScoreDigest]
    day: int


@dataclass(frozen=True)
class DigestController:
    """Once a week: the N-th highest value of last week, N the budget, as Nextdoor first did, but each item counts once however often it was
    scored. A cell with less than N values lets everything go.
    """

    def start(self, cells: Cells) -> DigestState:
        """See Controller."""
        return DigestState(np.full(len(cells), -np.inf, np.float32), [ScoreDigest() for _ in range(len(cells))], 0)

    def step(self, state: DigestState, day: DayOfCells, cells: Cells) -> DigestState:
        """See Controller."""
        order = np.flatnonzero(day.fresh)[np.argsort(day.cell[day.fresh], kind="stable")]
        ends = np.searchsorted(day.cell[order], np.arange(len(cells)), side="right")
        digests = [
            ScoreDigest.merged((digest, ScoreDigest.of(part))) if len(part) else digest
            for digest, part in zip(state.digests, np.split(day.value[order], ends[:-1]), strict=True)
        ]
        if (state.day + 1) % PERIOD_DAYS:
            return DigestState(state.threshold, digests, state.day + 1)
        found = [digest.nth_highest(wanted) for digest, wanted in zip(digests, np.round(cells.budget).tolist(), strict=True)]
        return DigestState(np.array(found, np.float32), [ScoreDigest() for _ in digests], state.day + 1)

    def thresholds(self, state: DigestState) -> F32:
        """See Controller."""
        return state.threshold


@dataclass(frozen=True)
class PidState:
    """`level`: log odds of the threshold, (cells,). `error`: the last one. `total`: of all errors. `sent`: the last days."""

    level: Floats
    error: Floats
    total: Floats
    sent: Sent


@dataclass(frozen=True)
class PidController:
    """Once a day: a textbook PID on the relative excess of 7-day sends over the soft budget, in log odds of the threshold; as Nextdoor.

    `start_at`: the first threshold. The gains are of textbook size, not tuned to any data.
    """

    start_at: float = 0.2
    proportional: float = 0.6
    integral: float = 0.1
    derivative: float = 0.6

    def start(self, cells: Cells) -> PidState:
        """See Controller."""
        zero = np.zeros(len(cells))
        return PidState(np.full(len(cells), scipy.special.logit(self.start_at)), zero, zero, Sent(np.zeros((len(cells), PERIOD_DAYS))))

    def step(self, state: PidState, day: DayOfCells, cells: Cells) -> PidState:
        """See Controller."""
        sent = state.sent.then(day.sends)
        error = (sent.week - cells.budget) / np.maximum(cells.budget, 1.0)
        total = state.total + error
        start = scipy.special.logit(self.start_at)
        level = start + self.proportional * error + self.integral * total + self.derivative * (error - state.error)
        return PidState(level, error, total, sent)

    def thresholds(self, state: PidState) -> F32:
        """See Controller."""
        threshold: F32 = scipy.special.expit(state.level).astype(np.float32)
        return threshold


@dataclass(frozen=True)
class SteeredState:
    """What the steered controller knows.

    `threshold`: (cells,). `sent`: the last days.
    `own`, `of_group`: values offered, as decayed counts per
    bin, (cells, BINS) and (groups, BINS), with the decayed number of days in `own_days` and `group_days`. `expected`: sends that the last
    thresholds promised, (cells,).
    `promised`, `kept`: decayed sums of what was promised and sent, (cells,). `bias`: log of sent / promised by
    group. `shift`: how far all values have moved since the start, in log odds. `gap`: whether the last day was not observed.
    """

    threshold: F32
    sent: Sent
    own: F32
    own_days: float
    of_group: F32
    group_days: float
    expected: Floats
    promised: Floats
    kept: Floats
    bias: Floats
    shift: float
    gap: bool = False

    def taken(self, place: npt.NDArray[np.intp]) -> SteeredState:
        """Return the state of the cells at some places, (n,)."""
        cells = {name: getattr(self, name)[place] for name in _OF_CELLS}
        return replace(self, sent=Sent(self.sent.days[place]), **cells)


@dataclass(frozen=True)
class SteeredController:
    """Ours: asks the digest of values which threshold gives tomorrow's share of the budget, and corrects for what it got wrong.

    Feed-forward: tomorrow's wanted sends, budget / 7 times what the group's last days call for (`next_day`, by `evenness` and `crossing`),
    with `steer_own` of what the cell's own lack beyond the group's, are looked up in how many new
    items per day reach each threshold; so a new budget takes effect the next day, without a kick, and nothing winds up. A cell's own
    counts are mixed with its group's, worth `group_weight` days, so that one user's few values do not decide. Values that all move
    together (a model with another calibration, a topic that booms) move all counts with them, `follow` of the way per day. What the
    lookup promises is compared with what was sent: the ratio by group, and by cell in so far as it has volume (gamma-Poisson, `doubt` and
    `doubt_own` sends). With the numbers given here the group decides: a cell that is kept to its own budget
    spends it on worse candidates. A cell that could not send more (`most` a day, or everything goes already) teaches nothing
    (anti-windup). A day that is not observed teaches nothing. What it lacked is made up for only as far as the sum of seven days then lacks
    it, and never beyond the budget: no burst and no echo. The first day after it, and of all, offers what is left of several days' items,
    `stock` times what is new on a usual day: that much is promised of it after a gap, and it is counted for as many days.
    """

    start_at: float = 0.2
    evenness: float = 0.25
    crossing: float = 3.0
    steer_own: float = 0.0
    own_half_life_days: float = 14.0
    group_half_life_days: float = 4.0
    group_weight: float = 1e6
    follow: float = 0.5
    learn: float = 0.2
    doubt: float = 6.0
    doubt_own: float = 1e6
    stock: float = 1.6
    most: float = 2.5
    most_shares: float = 2.0

    def start(self, cells: Cells) -> SteeredState:
        """See Controller."""
        n, groups = len(cells), int(cells.group.max(initial=-1)) + 1
        return SteeredState(
            threshold=np.full(n, self.start_at, np.float32),
            sent=Sent.steady(np.zeros(n)),
            own=np.zeros((n, BINS), np.float32),
            own_days=0.0,
            of_group=np.zeros((groups, BINS), np.float32),
            group_days=0.0,
            expected=np.zeros(n),
            promised=np.zeros(n),
            kept=np.zeros(n),
            bias=np.zeros(groups),
            shift=0.0,
        )

    def step(self, state: SteeredState, day: DayOfCells, cells: Cells) -> SteeredState:
        """See Controller."""
        if day.observed:
            state = self._corrected(state, day, cells)
            state = self._counted(state, day, cells)
        else:
            state = replace(state, sent=state.sent.then(day.sends), gap=True)
        if state.group_days <= 0:
            return state
        wanted = self._wanted(state, cells)
        threshold, expected = self._look_up(state, wanted, cells)
        return replace(state, threshold=threshold, expected=expected)

    def thresholds(self, state: SteeredState) -> F32:
        """See Controller."""
        return state.threshold

    def usual(self, state: SteeredState) -> float:
        """See budgets.keeping.Keeping."""
        return float(state.of_group.sum() / max(state.group_days, 1e-9))

    def carried(self, state: SteeredState, place: npt.NDArray[np.intp], cells: Cells) -> SteeredState:
        """See budgets.keeping.Keeping."""
        known, fresh = place >= 0, self.start(cells)
        size = np.maximum(np.bincount(cells.group, minlength=len(state.bias)), 1)
        typical = state.of_group / np.float32(max(state.group_days, 1e-9)) / size[:, None]
        begun = replace(fresh, own=(typical[cells.group] * state.own_days).astype(np.float32))
        old = state.taken(np.where(known, place, 0)) if len(state.threshold) else begun
        merged: dict[str, Any] = {name: where_known(known, getattr(old, name), getattr(begun, name)) for name in _OF_CELLS}
        return replace(state, sent=Sent(where_known(known, old.sent.days, begun.sent.days)), **merged)

    def _wanted(self, state: SteeredState, cells: Cells) -> Floats:
        """Return the sends to aim at tomorrow, (cells,): a seventh of the budget, more or less by what the group's last days call for."""
        daily = cells.budget / PERIOD_DAYS
        counts = cells.budget > 0
        size = np.maximum(np.bincount(cells.group, counts), 1)
        budget = np.bincount(cells.group, cells.budget) / size
        days = np.stack([np.bincount(cells.group, day * counts) / size for day in state.sent.days.T], axis=1)
        calls_for = np.array(
            [
                next_day(days[group], budget[group], self.evenness, self.crossing) / (budget[group] / PERIOD_DAYS)
                if budget[group] > 0
                else 0.0
                for group in range(len(budget))
            ]
        )
        wanted = daily * calls_for[cells.group]
        if self.steer_own:
            lacking = daily * (PERIOD_DAYS - 1) - state.sent.days[:, 1:].sum(axis=1)
            # One cell's few sends are mostly chance, and nothing below zero can be asked: much of its own error would bias the mean.
            wanted += self.steer_own * (lacking - (np.bincount(cells.group, lacking * counts) / size)[cells.group])
        return np.asarray(np.clip(wanted, 0.0, np.minimum(self.most, self.most_shares * daily)), np.float64)

    def _corrected(self, state: SteeredState, day: DayOfCells, cells: Cells) -> SteeredState:
        """Learn from what was sent where something else was promised."""
        taught = state.expected > 0
        promised, kept = np.where(taught, state.expected, 0.0), np.where(taught, day.sends, 0.0)
        fade = 0.5 ** (1 / self.own_half_life_days)
        groups = len(state.bias)
        of_group = np.stack([np.bincount(cells.group, column, groups) for column in (kept, promised)])
        news = np.log((of_group[0] + self.doubt) / (of_group[1] + self.doubt))
        usual = np.bincount(cells.group, cells.budget / PERIOD_DAYS, groups)
        volume = np.minimum(2 * of_group[1] / np.maximum(of_group[1] + usual, 1e-9), 1.0)
        return replace(
            state,
            sent=state.sent.then(day.sends),
            promised=state.promised * fade + promised,
            kept=state.kept * fade + kept,
            bias=np.clip(state.bias + self.learn * volume * news, -MOST_BIAS, MOST_BIAS),
        )

    def _counted(self, state: SteeredState, day: DayOfCells, cells: Cells) -> SteeredState:
        """Count the day's new values, after finding out how far all of them have moved."""
        fresh = day.fresh
        cell, value, weight = day.cell[fresh], day.value[fresh], day.weight[fresh]
        odds = np.clip(scipy.special.logit(np.clip(value, LEAST, 1 - LEAST)) - np.float32(state.shift), -ODDS_MOST, ODDS_MOST)
        is_stock = state.gap or state.group_days <= 0
        moved = 0.0 if is_stock else self.follow * self._moved(state, odds, weight, cells)
        days = self.stock if is_stock else 1.0
        bins = bin_of(odds - np.float32(moved))
        n, groups = len(cells), len(state.bias)
        own = np.bincount(cell * np.int64(BINS) + bins, weight, minlength=n * BINS).reshape(n, BINS).astype(np.float32)
        of_group = np.bincount(cells.group[cell] * np.int64(BINS) + bins, weight, minlength=groups * BINS).reshape(groups, BINS)
        own_fade, group_fade = 0.5 ** (1 / self.own_half_life_days), 0.5 ** (1 / self.group_half_life_days)
        own += state.own * np.float32(own_fade)
        return replace(
            state,
            own=own,
            own_days=state.own_days * own_fade + days,
            of_group=(state.of_group * group_fade + of_group).astype(np.float32),
            group_days=state.group_days * group_fade + days,
            shift=state.shift + moved,
            gap=False,
        )

    def _moved(self, state: SteeredState, odds: F32, weight: F32, cells: Cells) -> float:
        """Return how far the value that the budgets buy, over all cells, has moved since the digest, in log odds."""
        share = cells.budget.sum() / PERIOD_DAYS / max(state.of_group.sum() / state.group_days, 1.0)
        if len(odds) < FEWEST_VALUES or not 0 < share < 1:
            return 0.0
        then = level_of(state.of_group.sum(axis=0, dtype=np.float64)[None, :], np.array([share * state.of_group.sum()]))[0]
        counts = np.bincount(bin_of(odds), weight, minlength=BINS)[None, :].astype(np.float64)
        now = level_of(counts, np.array([share * counts.sum()]))[0]
        return float(now - then) if np.isfinite(now) and np.isfinite(then) else 0.0

    def _look_up(self, state: SteeredState, wanted: Floats, cells: Cells) -> tuple[F32, Floats]:
        """Return the thresholds that give the wanted sends, and what they promise, (cells,) each."""
        size = np.maximum(np.bincount(cells.group, minlength=len(state.bias)), 1)
        typical = (state.of_group / np.float32(max(state.group_days, 1e-9)) / size[:, None]).astype(np.float32)
        per_day = (state.own + np.float32(self.group_weight) * typical[cells.group]) / np.float32(state.own_days + self.group_weight)
        trust = (state.kept + self.doubt_own) / (state.promised + self.doubt_own)
        ratio = np.exp(state.bias)[cells.group] * trust
        level = level_of(per_day * np.float32(self.stock if state.gap else 1.0), wanted / ratio)
        return scipy.special.expit(level + state.shift).astype(np.float32), np.where(np.isfinite(level), wanted, 0.0)


_OF_CELLS = ("threshold", "own", "expected", "promised", "kept")


def where_known(known: Bools, old: npt.NDArray[Any], new: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return rows of `old` where known, (n,), else of `new`."""
    return np.where(known.reshape(-1, *[1] * (old.ndim - 1)), old, new)


def bin_of(odds: F32) -> npt.NDArray[np.int64]:
    """Return the bin of each log odds, the highest first: 0 holds the most."""
    return np.clip(((ODDS_MOST - odds) * (BINS / (2 * ODDS_MOST))).astype(np.int64), 0, BINS - 1)


def level_of(counts: npt.NDArray[np.floating], wanted: Floats) -> Floats:
    """Return the log odds above which `wanted` (n,) of counts (n, BINS) lie, -inf where there are fewer; even within a bin."""
    reached = np.cumsum(counts, axis=1)
    place = (reached < wanted[:, None].astype(reached.dtype)).sum(axis=1)
    there = np.minimum(place, BINS - 1)
    rows = np.arange(len(wanted))
    inside = np.maximum(counts[rows, there], 1e-12)
    part = np.clip(1 - (reached[rows, there] - wanted) / inside, 0.0, 1.0)
    level: Floats = ODDS_MOST - (there + part) * (2 * ODDS_MOST / BINS)
    level[place >= BINS] = -np.inf
    return level
