"""Ways to choose what is sent, side by side: each lives through the same weeks of one world, through the real pipeline and its budgets.

First everybody is sent at random within their budgets, and models are trained on what came of it. Then each policy goes on from there,
under the same hard budget. Those without a threshold of their own making are paced, by one that steers to the soft budget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from budgets.thresholds import SteeredController
from lake.decision_log import unpack
from lake.decisions import Candidates, Lane
from lake.ids import combine, hash64
from scheduler.scoring import Scorer
from simulation.difference import Moments, difference
from simulation.filters import Filter, LabelName, Model, learned
from simulation.observed import Known, Observer
from simulation.offers import Scored, places
from simulation.policies import Random, popular, recent
from simulation.scenarios import ITEMS_A_WEEK, Keeper
from simulation.stage import Day, Stage, StageConfig
from simulation.tenths import tenth_of, volumes
from simulation.world import World
from simulation.world_parameters import WorldParameters

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ContestantName = Literal["random", "popular", "recent", "classifier", "discounted", "ours"]
CONTESTANTS: tuple[ContestantName, ...] = get_args(ContestantName)
WORDS: dict[ContestantName, str] = {
    "random": "a random eligible audience, within budgets and paced over the week",
    "popular": "what most people joined lately, paced",
    "recent": "what is newest, paced",
    "classifier": "a classifier of who joins, cut where it keeps 90 % of the joins",
    "discounted": "a regression of joins discounted by 1/n, cut at half of the sends",
    "ours": "the same classifier's probabilities, with a threshold that steers to the budget",
}

Told = Callable[[str, int], None]
"""(what is being lived through, days of it that have passed)."""


@dataclass(frozen=True)
class ContestConfig:
    """`soft`: weekly sends that pacing aims at. `hard`: the ledger's limit for everybody. `learn_days`: of random sends, whose last
    `hold_days` set the thresholds of cuts.

    `settle_days`: of each policy's life that its figures leave out, while thresholds find their place.
    """

    users: int = 300
    learn_days: int = 21
    hold_days: int = 7
    settle_days: int = 7
    days: int = 28
    seed: int = 1
    soft: float = 5.0
    hard: int = 7
    error: float = 0.7


@dataclass
class Watching:
    """Scores by `model` what an observer sees, or at random without one, and keeps what was seen of the rows."""

    observer: Observer
    model: Model | None = None
    rows: list[tuple[Ints, Ints, F32]] = field(default_factory=list)

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scored:
        """See scheduler.pipeline.Scorer."""
        user, item = places(rows.users, "u")[rows.user], places(rows.items, "i")[rows.item]
        seen = self.observer.see(user, item, now)
        if self.model is None:
            self.rows.append((user, item, seen))
            value = Random(self.observer.seed)(rows, channels, now, lane).value
            return Scored(value, value, "random")
        value = np.maximum(self.model(seen), 0.0)
        return Scored(value, value, "model")

    def count(self, day: Day) -> None:
        """Add a day to what is known of the users."""
        sends, answered = (column.sum(axis=1).astype(np.float64) for column in (day.sends, day.answered))
        self.observer.known = self.observer.known.then(sends, answered, day.active)


@dataclass(frozen=True)
class Lived:
    """What a policy's weeks were like, by day and user: `sends`, `answered` and `active`, (days, users). `opt_outs`, `joins`: by day."""

    sends: Ints
    answered: Ints
    active: Bools
    opt_outs: Ints
    joins: Ints

    @staticmethod
    def of(days: list[Day]) -> Lived:
        """Return the columns of days."""
        sends, answered = (np.stack([getattr(day, name).sum(axis=1) for day in days]).astype(np.int64) for name in ("sends", "answered"))
        counts = (np.array([getattr(day, name) for day in days], np.int64) for name in ("opt_outs", "joins"))
        return Lived(sends, answered, np.stack([day.active for day in days]), *counts)

    def after(self, days: int) -> Lived:
        """Return what came after some days."""
        return Lived(*(column[days:] for column in vars(self).values()))


def play(config: ContestConfig, told: Told | None = None) -> dict[str, Any]:
    """Return the report of all policies: figures of each, what each is beside `random`, and its course day by day."""
    weeks = -(-(config.learn_days + config.days) // 7)
    world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * weeks, weeks=weeks), config.seed)
    watching = Watching(Observer(world, Known.of(config.users), config.error, config.seed))
    stage = Stage(world, watching, StageConfig(hard=config.hard), seed=config.seed)
    with threadpool_limits(1):
        filters = _learned(stage, watching, config, told)
        active = watching.observer.known.active
        lives = {name: _lived(name, stage.branched(), filters, config, told) for name in CONTESTANTS}
    counted = {name: lived.after(config.settle_days) for name, lived in lives.items()}
    return {
        **{name: getattr(config, name) for name in ("users", "days", "settle_days", "learn_days", "seed", "soft", "hard")},
        "policies": {name: figures(lived, counted["random"], active, config) for name, lived in counted.items()},
        "filters": {name: {"cut": each.cut, "recall": each.recall} for name, each in filters.items()},
        "courses": {name: course(lived) for name, lived in lives.items()},
    }


def _learned(stage: Stage, watching: Watching, config: ContestConfig, told: Told | None) -> dict[LabelName, Filter]:
    """Send at random within budgets for the learning days, and return the filters that this teaches."""
    keeper, sent = Keeper(SteeredController(), stage, config.soft), []
    for number in range(config.learn_days):
        day = stage.play_day()
        keeper.pass_night(day, config.soft)
        watching.count(day)
        sent.append(_sent(day, watching, number))
        if told is not None:
            told("learning", number + 1)
    number_of, user, item, seen = (np.concatenate(column) for column in zip(*sent, strict=True))
    return learned(number_of, user, seen, _joined(stage, user, item), config.learn_days - config.hold_days)


def _sent(day: Day, watching: Watching, number: int) -> tuple[Ints, Ints, Ints, F32]:
    """Return the day, user, item and features of what was sent, out of all that was scored that day."""
    user, item, seen = (np.concatenate(column) for column in zip(*watching.rows, strict=True))
    watching.rows.clear()
    log, width = unpack(day.log), len(watching.observer.world.things.ids)
    log = log[log["disposition"] == "send"]
    there = np.isin(user * width + item, places(log["user_id"].tolist(), "u") * width + places(log["item_id"].tolist(), "i"))
    return np.full(int(there.sum()), number), user[there], item[there], seen[there]


def _joined(stage: Stage, user: Ints, item: Ints) -> Bools:
    """Return whether users have joined items by now as far as the feedback tells, tapped or not, (n,)."""
    people, things = hash64(stage.world.people.ids), hash64(stage.world.things.ids)
    seen = stage.seen.of(stage.world.people.ids.tolist())
    return np.isin(combine(people[user], things[item]), combine(people[seen.user], seen.keys))


def _lived(name: ContestantName, stage: Stage, filters: dict[LabelName, Filter], config: ContestConfig, told: Told | None) -> Lived:
    """Let a policy live on from a branched stage."""
    assert isinstance(stage.ranker, Watching)
    watching, label = stage.ranker, LABELS.get(name)
    stage.ranker = stage.pipeline.scorer = scorer_of(name, stage, filters)
    keeper = None
    if name in PACED:
        keeper = Keeper(SteeredController(), stage, config.soft)
    elif label is not None:
        stage.thresholds.tables.clear()
        stage.thresholds.write(dict.fromkeys(stage.config.channels, filters[label].threshold))
    days = []
    for number in range(config.days):
        days.append(stage.play_day())
        watching.rows.clear()
        watching.count(days[-1])
        if keeper is not None:
            keeper.pass_night(days[-1], config.soft)
        if told is not None:
            told(name, number + 1)
    return Lived.of(days)


LABELS: dict[ContestantName, LabelName] = {"classifier": "plain", "discounted": "discounted", "ours": "plain"}
PACED: tuple[ContestantName, ...] = ("random", "popular", "recent", "ours")


def scorer_of(name: ContestantName, stage: Stage, filters: dict[LabelName, Filter]) -> Scorer:
    """Return how a policy ranks on a stage whose ranker is Watching."""
    assert isinstance(stage.ranker, Watching)
    if name == "popular":
        return popular(stage.heat)
    if name == "recent":
        return recent(stage.pipeline.table)
    if name in LABELS:
        stage.ranker.model = filters[LABELS[name]].model
    return stage.ranker


def figures(lived: Lived, beside: Lived, active: Floats, config: ContestConfig) -> dict[str, Any]:
    """Return what a report says of a policy, per person and week where nothing else is said, and how it differs from another.

    `active`: days on which users were there while everything was learned, (users,), by which `by_activity_decile` parts them.
    Each difference has an interval of 95 % over draws of users; users of one world under two policies are taken for different ones, which
    makes intervals wider than they need be.
    """
    weeks, users = len(lived.sends) / 7, lived.sends.shape[1]
    rolling = np.lib.stride_tricks.sliding_window_view(lived.sends, min(7, len(lived.sends)), axis=0).sum(axis=-1)
    metrics = {
        "answered_per_person": (lived.answered, None, beside.answered, None),
        "answered_per_send": (lived.answered, lived.sends, beside.answered, beside.sends),
        "days_there_per_person": (lived.active, None, beside.active, None),
    }
    return {
        "sends": int(lived.sends.sum()),
        "sends_per_person": float(lived.sends.sum() / users / weeks),
        "joins_per_person": float(lived.joins.sum() / users / weeks),
        "opt_outs": int(lived.opt_outs.sum()),
        "people_told": float((lived.sends.sum(axis=0) > 0).mean()),
        "most_in_seven_days": int(rolling.max(initial=0)),
        "overspent": int(np.maximum(rolling - config.hard, 0).sum()),
        **{name: _beside(*columns, weeks) for name, columns in metrics.items()},
        "by_activity_decile": volumes(tenth_of(active), active, lived.sends.sum(axis=0), lived.answered.sum(axis=0)),
    }


def _beside(above: Any, below: Any, other_above: Any, other_below: Any, weeks: float) -> dict[str, float]:
    sums = [
        (column.sum(axis=0), np.full(column.shape[1], weeks) if under is None else under.sum(axis=0))
        for column, under in ((other_above, other_below), (above, below))
    ]
    arm = np.repeat([0, 1], [len(column) for column, _ in sums])
    moments = Moments.of(arm, np.concatenate([over for over, _ in sums]), np.concatenate([under for _, under in sums]), 2)
    found = difference(moments.take(0), moments.take(1))
    names = {"value": "treatment", "difference": "difference", "low": "low", "high": "high"}
    return {name: float(getattr(found, each)) for name, each in names.items()}


def course(lived: Lived) -> dict[str, list[float]]:
    """Return a policy's life day by day: mean sends of the last 7 days, the share of people who were there, opt-outs so far."""
    daily = np.concatenate([np.zeros(1), np.cumsum(lived.sends.mean(axis=1))])
    week = [float(daily[day] - daily[max(day - 7, 0)]) for day in range(1, len(daily))]
    there = np.convolve(lived.active.mean(axis=1), np.ones(7) / 7, "valid") if len(lived.active) >= 7 else lived.active.mean(axis=1)
    return {"weekly_sends": week, "share_there": there.tolist(), "opt_outs": np.cumsum(lived.opt_outs).astype(float).tolist()}
