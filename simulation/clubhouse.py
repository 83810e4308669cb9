"""Two labels that a filter of notifications can learn, each lived through: what its cuts do to people who tire, form habits and leave.

Clubhouse told that a plain classifier of who joins, cut at 90 % recall, dropped about 40 % of the sends, kept joins level and lowered
engagement, and that a regression of the label discounted by 1/n dropped about half of them and did not. Here both are trained on weeks in
which everything on offer was sent; then each lives through the same weeks, beside a life in which everything goes on being sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from simulation.crowd import Crowd, CrowdDay
from simulation.filters import Filter, LabelName, learned
from simulation.observed import Known, Observer
from simulation.world import World
from simulation.world_parameters import ResponseParameters, WorldParameters

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FilterName = Literal["all", "plain", "discounted"]
FILTERS: tuple[FilterName, ...] = get_args(FilterName)

WORLDS = 20
"""Worlds that are lived through, seeds 1 to 20: fixed before anything was looked at, as PEOPLE, LEVEL and what engagement is were."""
LEVEL = 0.05
"""Joins are level within this share of those where everything is sent."""

PEOPLE = WorldParameters(users=300, items=900, weeks=8, base=0.0, interest_weight=1.0, interests=0.4)
"""The busy and uneven world of tests/integration/test_clubhouse.py."""

Told = Callable[[str, int], None]
"""(what is being lived through, days of it that have passed)."""


@dataclass(frozen=True)
class StoryConfig:
    """`learn_days`: everything is sent, and learned from but for the last `hold_days`, which set thresholds. `live_days`: of each filter.

    `error`: standard deviation of what the model is wrong about in each pair of user and item, in log odds. `per_user`: offers of a day.
    """

    people: WorldParameters = PEOPLE
    response: ResponseParameters = field(default_factory=ResponseParameters)
    learn_days: int = 21
    hold_days: int = 7
    live_days: int = 28
    error: float = 0.7
    per_user: int = 12


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
    filters: dict[LabelName, Filter]

    def beside(self, name: FilterName) -> dict[str, float]:
        """Return what a filter cut of the sends, and its figures as shares of those where everything is sent."""
        mine, everything = vars(self.lives[name]), vars(self.lives["all"])
        shares = {figure: mine[figure] / max(everything[figure], 1) for figure in mine}
        return {"cut": 1 - shares.pop("sends"), **shares}


@dataclass
class Gate:
    """Lets pass what a filter does, or everything without one; `seen` then keeps what was seen of the sends."""

    observer: Observer
    filter: Filter | None = None
    seen: list[F32] = field(default_factory=list)

    def __call__(self, user: Ints, item: Ints, now: float) -> Bools:
        """See simulation.crowd.Passes."""
        seen = self.observer.see(user, item, now)
        if self.filter is None:
            self.seen.append(seen)
            return np.ones(len(user), bool)
        return np.asarray(self.filter.model(seen) >= self.filter.threshold, np.bool_)

    def pass_day(self, crowd: Crowd) -> CrowdDay:
        """Let a day pass and learn what a service does of it."""
        day, known = crowd.play_day(self), self.observer.known
        sends, answered = (np.bincount(user, minlength=len(known.sends)).astype(float) for user in (day.user, day.user[day.answered]))
        self.observer.known = known.then(sends, answered, day.active)
        return day


def tell(seed: int, config: StoryConfig, told: Told | None = None) -> Story:
    """Let one world live through learning and through each filter; `told` hears of every day."""
    world = World.of(config.people, seed)
    crowd = Crowd.of(world, config.response, config.per_user, seed)
    gate = Gate(Observer(world, Known.of(config.people.users), config.error, seed))
    # Models and days are small: more threads than one cost more than they gain.
    with threadpool_limits(1):
        days = _lived(crowd, gate, config.learn_days, "learning", told)
        number = np.repeat(np.arange(len(days)), [len(day.user) for day in days])
        user, item = (np.concatenate([getattr(day, name) for day in days]) for name in ("user", "item"))
        filters = learned(number, user, np.concatenate(gate.seen), crowd.joined[user, item], config.learn_days - config.hold_days)
        quiet = np.argsort(gate.observer.known.active, kind="stable")[: config.people.users // 4]
        lives: dict[FilterName, Life] = {}
        for name in FILTERS:
            mine = Gate(replace(gate.observer), None if name == "all" else filters[name])
            lives[name] = Life.of(_lived(crowd.branched(), mine, config.live_days, name, told), quiet)
    return Story(seed, lives, filters)


def _lived(crowd: Crowd, gate: Gate, days: int, what: str, told: Told | None) -> list[CrowdDay]:
    lived = []
    for number in range(days):
        lived.append(gate.pass_day(crowd))
        if told is not None:
            told(what, number + 1)
    return lived


def findings(stories: Sequence[Story]) -> dict[str, Any]:
    """Return what was published beside what the worlds say: means, and in how many worlds each finding holds.

    Engagement is days of users who were there, of their own accord or for what they were told. The figures of the quiet were added later.
    """
    found: dict[str, Any] = {"worlds": len(stories), "filters": {}}
    labels: tuple[LabelName, ...] = ("plain", "discounted")
    for name in labels:
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
