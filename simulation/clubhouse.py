"""Two labels that a filter of notifications can learn, each lived through: what its cuts do to people who tire, form habits and leave.

Clubhouse told that a plain classifier of who joins, cut at 90 % recall, dropped about 40 % of the sends, kept joins level and lowered
engagement, and that a regression of the label discounted by 1/n dropped about half of them and did not. Here both are trained on weeks in
which everything on offer was sent; then each lives through the same weeks, beside a life in which everything goes on being sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from lake.ids import combine
from ranking.evaluation import cut_at, recall_at, threshold_at_recall
from ranking.labels import discounted
from simulation.crowd import Crowd, CrowdDay
from simulation.offers import parts
from simulation.world import World
from simulation.world_parameters import ResponseParameters, WorldParameters

Floats = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Model = HistGradientBoostingClassifier | HistGradientBoostingRegressor

FilterName = Literal["all", "plain", "discounted"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)

RECALL, CUT = 0.9, 0.5
"""What the plain classifier keeps of the engagements, and what the discounted regression drops of the sends: the published figures."""

PEOPLE = WorldParameters(users=300, items=900, weeks=8, base=0.0, interest_weight=1.0, interests=0.4)
"""The busy and uneven world of tests/integration/test_clubhouse.py."""

Told = Callable[[str, int], None]
"""(what is being lived through, days of it that have passed)."""


@dataclass(frozen=True)
class StoryConfig:
    """`learn_days`: everything is sent, and learned from but for the last `hold_days`, which set the thresholds. `live_days`: of each filter.

    `error`: standard deviation of what the model is wrong about in each pair of user and item, in log odds. `per_user`: offers of a day.
    """

    people: WorldParameters = PEOPLE
    response: ResponseParameters = field(default_factory=ResponseParameters)
    learn_days: int = 21
    hold_days: int = 7
    live_days: int = 28
    error: float = 0.7
    per_user: int = 12


@dataclass
class Known:
    """What a service knows of its users by now, (users,) each: sends and how many were answered, and days on which they were there."""

    sends: Floats
    answered: Floats
    active: Floats
    days: int = 0

    @staticmethod
    def of(users: int) -> Known:
        """Return what is known of nobody."""
        return Known(*(np.zeros(users) for _ in range(3)))

    def then(self, day: CrowdDay) -> Known:
        """Return what is known a day later."""
        sends, answered = (np.bincount(day.user, weights, len(self.sends)) for weights in (None, day.answered))
        return Known(self.sends + sends, self.answered + answered, self.active + day.active, self.days + 1)


@dataclass(frozen=True)
class Filter:
    """A model and the least score that passes. `cut`, `recall`: of the held-out sends, what it drops and what of the joins it keeps."""

    model: Model
    threshold: float
    cut: float
    recall: float


@dataclass(frozen=True)
class Life:
    """What a filter's weeks were like, totals. `active`: days of users who were there. `joins`: told of or not.

    `quiet_told`, `quiet_active`: days of the quietest quarter of the users on which they were sent anything, and were there.
    """

    sends: int
    joins: int
    active: int
    quiet_told: int
    quiet_active: int
    opt_outs: int

    @staticmethod
    def of(days: Sequence[CrowdDay], quiet: Ints) -> Life:
        """Return the totals of some days. `quiet`: who the quietest users were before."""
        return Life(
            quiet_told=sum(len(np.intersect1d(day.user, quiet)) for day in days),
            quiet_active=sum(int(day.active[quiet].sum()) for day in days),
            sends=sum(len(day.user) for day in days),
            joins=sum(day.joins for day in days),
            active=sum(int(day.active.sum()) for day in days),
            opt_outs=sum(day.opt_outs for day in days),
        )


@dataclass(frozen=True)
class Story:
    """One world's lives by filter."""

    seed: int
    lives: dict[FilterName, Life]
    filters: dict[FilterName, Filter]

    def beside(self, name: FilterName) -> dict[str, float]:
        """Return what a filter cut of the sends, and its figures as shares of those where everything is sent."""
        mine, everything = vars(self.lives[name]), vars(self.lives["all"])
        shares = {figure: mine[figure] / max(everything[figure], 1) for figure in mine}
        return {"cut": 1 - shares.pop("sends"), **shares}


@dataclass
class Gate:
    """Lets pass what a filter does, or everything without one; `seen` keeps what was seen of the rows of a day."""

    world: World
    known: Known
    error: float
    seed: int
    filter: Filter | None = None
    seen: list[F32] = field(default_factory=list)

    def __call__(self, user: Ints, item: Ints, now: float) -> Bools:
        """See simulation.crowd.Passes."""
        self.seen.append(self.features(user, item, now))
        if self.filter is None:
            return np.ones(len(user), bool)
        return np.asarray(scored(self.filter.model, self.seen.pop()) >= self.filter.threshold, np.bool_)

    def features(self, user: Ints, item: Ints, now: float) -> F32:
        """Return what a service sees of rows, float32 (n, 8): parts of their truth, two of them blurred, and their users' past."""
        found = parts(self.world, user, item, now)
        for column, salt in ((0, 1), (4, 2)):
            draw = (combine(user, item, np.full(len(user), self.seed), np.full(len(user), salt)) >> np.uint64(11)) / np.float64(2**53)
            found[:, column] += self.error / np.sqrt(2) * ndtri(np.clip(draw, 1e-12, 1 - 1e-12))
        known, days = self.known, max(self.known.days, 1)
        past = np.stack([(known.answered + 1) / (known.sends + 4), known.answered / days, known.active / days], axis=1)
        return np.concatenate([found, past[user]], axis=1).astype(np.float32)

    def pass_day(self, crowd: Crowd) -> CrowdDay:
        """Let a day pass and learn what a service does of it."""
        day = crowd.play_day(self)
        self.known = self.known.then(day)
        return day


def tell(seed: int, config: StoryConfig, told: Told | None = None) -> Story:
    """Let one world live through learning and through each filter; `told` hears of every day."""
    world = World.of(config.people, seed)
    crowd = Crowd.of(world, config.response, config.per_user, seed)
    gate = Gate(world, Known.of(config.people.users), config.error, seed)
    # Models and days are small: more threads than one cost more than they gain.
    with threadpool_limits(1):
        days = _lived(crowd, gate, config.learn_days, "learning", told)
        filters, lives = learned(days, np.concatenate(gate.seen), crowd.joined, config), dict[FilterName, Life]()
        quiet = np.argsort(gate.known.active, kind="stable")[: config.people.users // 4]
        for name in FILTERS:
            mine = Gate(world, gate.known, config.error, seed, filters.get(name))
            lives[name] = Life.of(_lived(crowd.branched(), mine, config.live_days, name, told), quiet)
    return Story(seed, lives, filters)


def _lived(crowd: Crowd, gate: Gate, days: int, what: str, told: Told | None) -> list[CrowdDay]:
    lived = []
    for number in range(days):
        lived.append(gate.pass_day(crowd))
        if told is not None:
            told(what, number + 1)
    return lived


def learned(days: Sequence[CrowdDay], seen: F32, joined: Bools, config: StoryConfig) -> dict[FilterName, Filter]:
    """Return the filters that the sends of some days teach. `seen`: features of each send; `joined`: bool (users, items), by now."""
    day = np.repeat(np.arange(len(days)), [len(each.user) for each in days])
    user, item = (np.concatenate([getattr(each, name) for each in days]) for name in ("user", "item"))
    label, early = joined[user, item], day < config.learn_days - config.hold_days
    later, one = ~early, np.ones(int((~early).sum()))
    shape: dict[str, Any] = {"max_iter": 120, "learning_rate": 0.08, "max_leaf_nodes": 16, "early_stopping": False, "random_state": 0}
    plain = HistGradientBoostingClassifier(**shape).fit(seen[early], label[early])
    regression = HistGradientBoostingRegressor(**shape).fit(seen[early], discounted(user, day, label)[early])

    def filtering(model: Model, threshold: float, score: F32) -> Filter:
        return Filter(model, threshold, cut_at(score, one, threshold), recall_at(score, label[later], one, threshold))

    scores = scored(plain, seen[later]), scored(regression, seen[later])
    return {
        "plain": filtering(plain, threshold_at_recall(scores[0], label[later], one, RECALL), scores[0]),
        "discounted": filtering(regression, float(np.quantile(scores[1], CUT)), scores[1]),
    }


def scored(model: Model, features: F32) -> F32:
    """Return what a model says of rows, float32 (n,)."""
    if not len(features):
        return np.empty(0, np.float32)
    found = model.predict_proba(features)[:, 1] if isinstance(model, HistGradientBoostingClassifier) else model.predict(features)
    return np.asarray(found, np.float32)


WORLDS = 20
"""Worlds that are lived through, seeds 1 to 20: fixed before anything was looked at, as LEVEL and the figures of `findings` were."""
LEVEL = 0.05
"""Joins are level within this share of those where everything is sent."""


def findings(stories: Sequence[Story]) -> dict[str, Any]:
    """Return what was published beside what the worlds say: means, and in how many worlds each finding holds.

    Engagement is days of users who were there, of their own accord or for what they were told.
    """
    found: dict[str, Any] = {"worlds": len(stories), "filters": {}}
    for name in FILTERS[1:]:
        beside = [story.beside(name) for story in stories]
        columns = {figure: np.array([each[figure] for each in beside]) for figure in beside[0]}
        found["filters"][name] = {
            "held_out_cut": float(np.mean([story.filters[name].cut for story in stories])),
            "held_out_recall": float(np.mean([story.filters[name].recall for story in stories])),
            **{figure: float(column.mean()) for figure, column in columns.items()},
            "worlds_with_level_joins": int((np.abs(columns["joins"] - 1) <= LEVEL).sum()),
            "worlds_with_lower_engagement": int((columns["active"] < 1).sum()),
            "worlds_with_quieter_quiet": int((columns["quiet_active"] < 1).sum()),
        }
    both = [(story.beside("plain"), story.beside("discounted")) for story in stories]
    for figure in ("joins", "active", "quiet_told", "quiet_active"):
        found[f"worlds_where_discounted_has_more_{figure}"] = sum(other[figure] > plain[figure] for plain, other in both)
    return found
