"""What learned budgets are worth in a world with known truth: weeks of random budgets, then learned ones beside every fixed one.

Every arm goes on from the same moment of the same world, decided by the real pipeline under the budgets of users' profiles, each for as
many weeks. What is learned from is what a deployment would know; who people are is looked at only to report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from budgets.learned import Allocation, LearnedConfig, Responses, Weeks, allocate, fit, opt_out_cost
from lake.meta import MAX_CHANNELS
from lake.profiles import DEFAULT_BUDGET
from simulation.offers import NoisyRanker
from simulation.scenarios import ITEMS_A_WEEK
from simulation.stage import Stage, StageConfig
from simulation.world import World, stream
from simulation.world_parameters import WorldParameters

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

WEEK_DAYS = 7
MEMORY_DAYS = 28
NEVER_DAYS = 60.0
"""Days since a user was there, where it was longer ago or never."""
FAST = 0.9
"""Whoever tires faster than this share of the people tires fast."""

Told = Callable[[str, int], None]


@dataclass(frozen=True)
class BudgetingConfig:
    """`explored`: weeks of random budgets, of a `share` of the users; the others have their mean then. `weeks`: of each arm after them.
    `means`: mean budgets that are shared out by what was learned.

    `threshold`: least value that is sent. `lost_weeks`: an opt-out costs what notifications bring a reader in that time: the world's log
    has no end of a membership, and half a year is the least for which losing a reader is worse than a bad month.
    """

    users: int = 1_000
    explored: int = 8
    share: float = 1.0
    weeks: int = 8
    seed: int = 1
    threshold: float = 0.1
    lost_weeks: float = 26.0
    means: tuple[int, ...] = (2, 4, 6)
    learned: LearnedConfig = field(default_factory=LearnedConfig)


@dataclass
class Lived:
    """What users did each day so far, (days, users) each: `sends`, `answered`, `joined`, `active`. `gone`: (users,) by now."""

    sends: Ints
    answered: Ints
    joined: Ints
    active: Bools
    gone: Bools

    @staticmethod
    def nothing(users: int) -> Lived:
        """Return no days."""
        counts = np.zeros((0, users), np.int64)
        return Lived(counts, counts, counts, counts.astype(bool), np.zeros(users, bool))

    def week(self, stage: Stage) -> Lived:
        """Return the days with those of another week after them."""
        days = [stage.play_day() for _ in range(WEEK_DAYS)]
        return Lived(
            sends=np.concatenate([self.sends, [day.sends.sum(axis=1) for day in days]]),
            answered=np.concatenate([self.answered, [day.answered.sum(axis=1) for day in days]]),
            joined=np.concatenate([self.joined, [day.joined for day in days]]),
            active=np.concatenate([self.active, [day.active for day in days]]),
            gone=np.logical_and.reduce(stage.readers.gone, axis=1),
        )

    def features(self) -> Floats:
        """Return what is known of users by now, (users, features): what they were sent and did lately, when they were there."""
        lately = slice(-MEMORY_DAYS, None)
        days = np.arange(len(self.active), 0, -1)[:, None]
        since = np.where(self.active, days, NEVER_DAYS).min(axis=0, initial=NEVER_DAYS)
        sums = [each[lately].sum(axis=0) for each in (self.sends, self.answered, self.joined, self.active)]
        vain = (self.sends - self.answered)[-2 * WEEK_DAYS :].sum(axis=0)
        share = (self.answered.sum(axis=0) + 1) / (self.sends.sum(axis=0) + 5)
        unasked = (self.joined - self.answered)[lately].sum(axis=0)
        return np.column_stack([*sums, vain, share, unasked, since]).astype(np.float64)


def compare(config: BudgetingConfig, told: Told | None = None) -> dict[str, Any]:
    """Return the report: what was learned from, the cost of an opt-out, and every arm's totals; `told` hears of an arm's weeks.

    `net`: engagements less what opt-outs cost. An arm's `ahead` is its net a user-week beyond the fixed budget of the same mean, and
    `ahead_95` the interval of it over the users.
    """
    told = told or (lambda _arm, _week: None)
    stage = staged(config)
    lived, weeks = explore(stage, config, told)
    responses = fit(weeks, config.learned)
    cost = opt_out_cost(responses, weeks, config.lost_weeks)
    groups = groups_of(stage, lived)
    arms: dict[str, Arm] = {}
    for fixed in range(config.learned.most + 1):

        def always(_now: Lived, fixed: int = fixed) -> Ints:
            return np.full(config.users, fixed)

        arms[f"fixed {fixed}"] = play(f"fixed {fixed}", stage, lived, config.weeks, always, told)
    for mean in config.means:

        def learned(now: Lived, mean: int = mean) -> Ints:
            return shared_out(responses, now, cost, mean).budgets.astype(np.int64)

        arms[f"learned {mean}"] = play(f"learned {mean}", stage, lived, config.weeks, learned, told)
    figures = {name: arm.figures(cost, groups) for name, arm in arms.items()}
    for mean in config.means:
        figures[f"learned {mean}"] |= ahead(arms[f"learned {mean}"], arms[f"fixed {mean}"], cost, config)
    return {
        **{name: getattr(config, name) for name in ("users", "explored", "share", "weeks", "seed", "threshold", "lost_weeks")},
        "user_weeks": len(weeks),
        "explored_opt_outs": int(weeks.opt_outs.sum()),
        "cost": cost,
        "groups": {name: int(each.sum()) for name, each in groups.items()},
        "arms": figures,
    }


def staged(config: BudgetingConfig) -> Stage:
    """Return the world before its first day."""
    weeks = config.explored + config.weeks
    world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * weeks, weeks=weeks), config.seed)
    stage = Stage(world, NoisyRanker(world, seed=config.seed), StageConfig(hard=config.learned.most), seed=config.seed)
    stage.thresholds.write({"in_app": config.threshold})
    return stage


def assign(stage: Stage, budgets: Ints) -> None:
    """Let each user have a weekly budget of their own, (users,)."""
    ids = stage.world.people.ids.tolist()
    rows = np.full((len(ids), MAX_CHANNELS), DEFAULT_BUDGET, np.uint8)
    rows[:, 0] = budgets
    stage.profiles.write(ids, "budget", rows)


def explore(stage: Stage, config: BudgetingConfig, told: Told) -> tuple[Lived, Weeks]:
    """Let weeks pass under budgets drawn for each user and week, and return them, with what there is to learn from."""
    rng, lived, parts = stream(config.seed, "budgets"), Lived.nothing(config.users), list[Weeks]()
    for week in range(config.explored):
        before, features = lived.gone, lived.features()
        drawn, random = rng.random(config.users) < config.share, rng.integers(0, config.learned.most + 1, config.users)
        assigned = np.where(drawn, random, config.learned.most // 2)
        assign(stage, assigned)
        lived = lived.week(stage)
        there, joined = ~before, lived.joined[-WEEK_DAYS:].sum(axis=0).astype(np.float64)
        if week:  # Of a first week nothing was known before.
            parts.append(Weeks(features[there], assigned[there], joined[there], (lived.gone & ~before)[there].astype(np.float64)))
        told("random", week + 1)
    columns = ("features", "assigned", "engagements", "opt_outs")
    return lived, Weeks(*(np.concatenate([getattr(part, name) for part in parts]) for name in columns))


def shared_out(responses: Responses, lived: Lived, cost: float, mean: float) -> Allocation:
    """Return the budgets of a week by what is known of users: `mean` times as many units as there are users who may be sent something."""
    engagement, opt_out = responses.curves(lived.features())
    net = np.where(lived.gone[:, None], 0.0, engagement - cost * opt_out)
    return allocate(net, int(mean * np.count_nonzero(~lived.gone)))


@dataclass
class Arm:
    """What users did under a way to assign budgets, (users,) each: `assigned`, `sends`, `joined` in all weeks; `left`: whether they did."""

    weeks: int
    assigned: Ints
    sends: Ints
    joined: Ints
    left: Bools
    gone_before: Bools

    def net(self, cost: float) -> Floats:
        """Return each user's engagements less what their opt-out costs, (users,)."""
        return np.asarray(self.joined - cost * self.left, np.float64)

    def figures(self, cost: float, groups: dict[str, Bools]) -> dict[str, Any]:
        """Return what a report says."""
        there = ~self.gone_before
        return {
            "assigned": int(self.assigned.sum()),
            "sends": int(self.sends.sum()),
            "engagements": int(self.joined.sum()),
            "opt_outs": int(self.left.sum()),
            "net": float(self.net(cost).sum()),
            "mean_budget": {name: float(self.assigned[each & there].mean() / self.weeks) for name, each in groups.items()},
        }


def play(name: str, start: Stage, lived: Lived, weeks: int, budgets: Callable[[Lived], Ints], told: Told) -> Arm:
    """Let a twin of the stage live on for weeks, each under the budgets that follow from what was lived before it."""
    stage, gone = start.branched(), lived.gone
    assigned = np.zeros(len(gone), np.int64)
    for week in range(weeks):
        given = budgets(lived)
        assign(stage, given)
        assigned += np.where(lived.gone, 0, given)
        lived = lived.week(stage)
        told(name, week + 1)
    days = weeks * WEEK_DAYS
    sends, joined = (each[-days:].sum(axis=0) for each in (lived.sends, lived.joined))
    return Arm(weeks, assigned, sends, joined, lived.gone & ~gone, gone)


def groups_of(stage: Stage, lived: Lived) -> dict[str, Bools]:
    """Return who belongs to the groups that a report tells of, bool (users,) each: by who people truly are, not by what is known.

    `dormant_responding`: came by themselves never, by habit, when the world began, and answered a greater share of what they were sent than
    half of the people. `heavy`: visit several times as often as others. `tiring`: the tenth that tires fastest.
    """
    answered = (lived.answered.sum(axis=0) + 1) / (lived.sends.sum(axis=0) + 5)
    readers, people = stage.readers, stage.world.people
    heavy = readers.visits_per_day > people.visits_per_week / WEEK_DAYS * 1.5
    return {
        "everybody": np.ones(len(answered), bool),
        "dormant_responding": stage.dormant & (answered > np.median(answered)),
        "heavy": heavy,
        "tiring": readers.sensitivity >= np.quantile(readers.sensitivity, FAST),
    }


def ahead(arm: Arm, other: Arm, cost: float, config: BudgetingConfig) -> dict[str, Any]:
    """Return how far an arm's net a user-week is beyond another's, with the interval of 95 % over those who were there."""
    there = ~arm.gone_before
    difference = (arm.net(cost) - other.net(cost))[there] / config.weeks
    mean, error = float(difference.mean()), float(difference.std(ddof=1) / np.sqrt(len(difference)))
    return {"ahead": mean, "ahead_95": [mean - 1.96 * error, mean + 1.96 * error]}
