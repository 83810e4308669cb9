"""How many sends a week are best for each user: learned from weeks of assigned budgets, shared out under one total. Pure.

What was assigned is learned from, not what was sent: how much could be sent depends on how well a user's week went, an assignment does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Budgets = npt.NDArray[np.uint8]

AT_ONCE = 10_000
"""Users whose curves are worked on at once, to bound memory."""

TOUCHES = 1e-9
"""A curve touches its envelope where it is this near to it, as a share of the curve's range."""


@dataclass(frozen=True)
class LearnedConfig:
    """`most`: the largest budget to consider. `rounds`, `leaves`: trees of the model of engagements and leaves of each; `rate`: what a tree
    adds. `least`, `least_counts`: user-weeks, and counts expected in them, that a leaf holds at least.

    `rare_rounds`, `rare_leaves`: trees of the model of opt-outs and their leaves. Opt-outs are so rare, a few in a thousand weeks, that
    the model of engagements would learn them by heart, and tell less of other users than their mean does.
    """

    most: int = 10
    rounds: int = 120
    rate: float = 0.06
    leaves: int = 12
    least: int = 100
    least_counts: float = 4.0
    rare_rounds: int = 60
    rare_leaves: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.most <= 254:
            raise ValueError(f"the largest budget to consider lies between 1 and 254, not at {self.most}")


@dataclass(frozen=True)
class Weeks:
    """User-weeks to learn from: `features` (n, features), known before the week began; `assigned` (n,) sends a week that were allowed;
    `engagements` and `opt_outs` (n,) of that week, told of or not, none below 0.
    """

    features: Floats
    assigned: npt.NDArray[np.integer[Any]]
    engagements: Floats
    opt_outs: Floats

    def __post_init__(self) -> None:
        n = len(self.features)
        sizes = {name: len(getattr(self, name)) for name in ("assigned", "engagements", "opt_outs")}
        if self.features.ndim != 2 or any(size != n for size in sizes.values()):
            raise ValueError(f"user-weeks need a row of features for each of their values, not {self.features.shape} for {sizes}")
        for name in ("assigned", "engagements", "opt_outs"):
            if n and not getattr(self, name).min() >= 0:
                raise ValueError(f"{name} of user-weeks are counts: one of them is below 0 or not a number")

    def __len__(self) -> int:
        return len(self.assigned)


@dataclass(frozen=True)
class Responses:
    """What users of given features are expected to do in a week by the budget they are assigned; see `fit`."""

    engagement: Any
    opt_out: Any
    most: int

    def curves(self, features: Floats) -> tuple[Floats, Floats]:
        """Return expected engagements and opt-outs of a week, (users, most + 1) each: column n where n sends are assigned.

        `features`: (users, features), as in the user-weeks that were learned from. Neither ever falls along a row.
        """
        from threadpoolctl import threadpool_limits

        engagement, opt_out = (np.zeros((len(features), self.most + 1)) for _ in range(2))
        for start in range(0, len(features), AT_ONCE):
            part = features[start : start + AT_ONCE]
            budgets = np.tile(np.arange(self.most + 1.0), len(part))
            rows = np.column_stack([budgets, np.repeat(part, self.most + 1, axis=0)])
            for model, found in ((self.engagement, engagement), (self.opt_out, opt_out)):
                if model is not None:
                    with threadpool_limits(1):
                        found[start : start + AT_ONCE] = model.predict(rows).reshape(len(part), -1)
        return engagement, opt_out


def fit(weeks: Weeks, config: LearnedConfig | None = None) -> Responses:
    """Fit expected engagements and expected opt-outs to user-weeks: two Poisson models that never fall as more is assigned.

    What nobody ever did is expected of nobody. Raises ValueError where there are no user-weeks.
    """
    config = config or LearnedConfig()
    if not len(weeks):
        raise ValueError("no user-weeks to learn budgets from: assign budgets at random first")
    rows = np.column_stack([weeks.assigned, weeks.features]).astype(np.float64)
    engagement = _fitted(rows, weeks.engagements, config.rounds, config.leaves, config)
    return Responses(engagement, _fitted(rows, weeks.opt_outs, config.rare_rounds, config.rare_leaves, config), config.most)


def opt_out_cost(responses: Responses, weeks: Weeks, lost_weeks: float) -> float:
    """Return the engagements that an opt-out costs: what the mean user-week's budget is expected to bring, for `lost_weeks` of them."""
    engagement, _ = responses.curves(weeks.features)
    given = np.minimum(weeks.assigned, responses.most).astype(np.intp)
    return float(lost_weeks * (engagement[np.arange(len(weeks)), given] - engagement[:, 0]).mean())


def _fitted(rows: Floats, counts: Floats, rounds: int, leaves: int, config: LearnedConfig) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    if not counts.any():
        return None
    model = HistGradientBoostingRegressor(
        loss="poisson",
        max_iter=rounds,
        learning_rate=config.rate,
        max_leaf_nodes=leaves,
        min_samples_leaf=max(config.least, int(np.ceil(config.least_counts / counts.mean()))),
        monotonic_cst=[1, *[0] * (rows.shape[1] - 1)],
        early_stopping=False,
        random_state=0,
    )
    # On a core that others use too, threads that wait for one another take a hundred times as long as one does.
    with threadpool_limits(1):
        return model.fit(rows, counts)


def marginal_gains(net: Floats) -> Floats:
    """Return what each further unit adds on the least concave curve above each user's own, (users, most), falling along each row.

    `net`: (users, most + 1), what a user's week is worth by budget. The slopes of that curve are the antitonic regression of the steps,
    by the min-max formula (Robertson, Wright and Dykstra 1988).
    """
    most = net.shape[1] - 1
    gains = np.empty((len(net), most))
    first, last = np.arange(most)[:, None], np.arange(most)[None, :]
    for start in range(0, len(net), AT_ONCE):
        part = net[start : start + AT_ONCE]
        mean = (part[:, None, 1:] - part[:, :-1, None]) / np.maximum(last - first + 1, 1)
        best = np.maximum.accumulate(np.where(first <= last, mean, -np.inf)[:, :, ::-1], axis=2)[:, :, ::-1]
        gains[start : start + AT_ONCE] = np.where(first <= last, best, np.inf).min(axis=1)
    return gains


@dataclass(frozen=True)
class Allocation:
    """`budgets`: uint8 (users,). `multiplier`: what a further unit must add to be worth it, 0 where there were more units than worth it."""

    budgets: Budgets
    multiplier: float


def allocate(net: Floats, total: int) -> Allocation:
    """Share `total` units out so that they add the most: to the largest marginal gains, none of them where it would take away.

    `net`: (users, most + 1), what a user's week is worth by budget; not a number nowhere. Exact on the concave curves: no other sharing
    of as many units adds more. Where a user's own curve lies below, it is left at a place where the two meet, so that up to
    most - 1 units may stay unused. Raises ValueError for a negative total or a value that is not finite.
    """
    if total < 0 or not np.isfinite(net).all():
        raise ValueError(f"budgets are shared out of a total of at least 0 by finite values, not of {total} by values that are not")
    users, most = len(net), net.shape[1] - 1
    gains = marginal_gains(net)
    # By user among equal gains, so that one user at most is left amid a stretch of equal ones.
    order = np.lexsort((np.repeat(np.arange(users), most), -gains.ravel()))
    worthy = int(np.count_nonzero(gains > 0))
    taken = order[: min(total, worthy)]
    units = np.bincount(taken // most, minlength=users)
    multiplier = float(gains.ravel()[order[total]]) if total < worthy else 0.0
    return Allocation(_where_they_meet(net, gains, units), multiplier)


def _where_they_meet(net: Floats, gains: Floats, units: npt.NDArray[np.intp]) -> Budgets:
    """Return the most of each user's units at which their curve touches the concave one above it."""
    above = net[:, :1] + np.column_stack([np.zeros(len(net)), np.cumsum(gains, axis=1)])
    touches = net >= above - TOUCHES * np.maximum(np.ptp(net, axis=1, keepdims=True), 1e-300)
    reached = touches & (np.arange(net.shape[1]) <= units[:, None])
    budgets: Budgets = (reached * np.arange(net.shape[1])).max(axis=1, initial=0).astype(np.uint8)
    return budgets
