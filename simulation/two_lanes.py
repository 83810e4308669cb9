"""What two lanes are worth beside one: at once, in windows only, or by the rule that serves, at equal volume in a world of known truth.

Every item has an audience, a ranker with known errors says what telling each of them is worth at a moment, and the share of tellings that
are answered is known. What is compared is when things are told, nothing else: the budgets and the readers' weariness stay out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from scheduler.decide import DecideConfig, Rows, can_wait
from simulation.world import World, stream
from simulation.world_parameters import DAY_S, KINDS, WorldParameters

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Lanes = Literal["urgent", "scheduled", "both"]
LANES: tuple[Lanes, ...] = get_args(Lanes)
ITEMS_A_WEEK = 190
TOPICS_EACH = 3
"""A user is in the audience of items of so many topics, those that interest them most, and of the authors they follow."""
OFFERED = 3
"""In how many of a user's windows an item is offered."""
HALVINGS = 30
"""How often the threshold that gives the volume is narrowed down."""


@dataclass(frozen=True)
class LanesWorld:
    """`per_week`: mean sends of a user and week, of each way alike. `error`: of the ranker, standard deviation in log odds."""

    users: int = 300
    weeks: int = 4
    seed: int = 1
    per_week: float = 5.0
    error: float = 0.7
    top_n: int = 3


@dataclass(frozen=True)
class Told:
    """What a way of telling comes to: `when`, (pairs,), the moment each pair of user and item is told, NaN: never; `urgent`: at once."""

    when: Floats
    urgent: Bools


@dataclass(frozen=True)
class Audience:
    """Pairs of a user and an item, (n,) each, of a world, and when each could be told."""

    config: LanesWorld
    world: World
    user: Ints
    item: Ints
    error: Floats

    @staticmethod
    def of(config: LanesWorld) -> Audience:
        """Return everybody's pairs."""
        world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * config.weeks, weeks=config.weeks), config.seed)
        people, things = world.people, world.things
        liked = np.argsort(-people.interest, axis=1)[:, :TOPICS_EACH]
        wants = (liked[:, :, None] == things.topic).any(axis=1) | (people.authors[:, :, None] == things.author).any(axis=1)
        inside = (things.created_at >= world.params.start_at) & (things.created_at < world.params.end_at - OFFERED * DAY_S)
        user, item = np.nonzero(wants & inside)
        return Audience(config, world, user, item, stream(config.seed, "two lanes").normal(0, config.error, len(user)))

    @cached_property
    def windows(self) -> Floats:
        """The moments of each user's windows, (users, days): the hour of each day at which they are likeliest to look."""
        params, people = self.world.params, self.world.people
        hours = params.start_at + 3600.0 * np.arange(int((params.end_at - params.start_at) // 3600))
        everybody = np.repeat(np.arange(len(people.ids)), len(hours))
        local = self.world.hour_of_week(everybody, np.tile(hours, len(people.ids))).reshape(len(people.ids), -1)
        likely = np.take_along_axis(people.hours, local, axis=1).reshape(len(people.ids), -1, 24)
        return np.asarray(hours.reshape(-1, 24)[np.arange(likely.shape[1]), likely.argmax(axis=2)])

    @cached_property
    def first(self) -> Ints:
        """The first window of each pair's user that opens once the item is there, (n,)."""
        return np.asarray((self.windows[self.user] < self.created_at[:, None]).sum(axis=1), np.int64)

    @cached_property
    def created_at(self) -> Floats:
        """When each pair's item was made."""
        return np.asarray(self.world.things.created_at[self.item], np.float64)

    def chance(self, at: Floats) -> Floats:
        """Return the true chance that pairs are answered when told at moments, (n,)."""
        return self.world.true_probability(self.user, self.item, at)

    def score(self, at: Floats) -> Floats:
        """Return what the ranker says of that, (n,)."""
        with np.errstate(divide="ignore"):
            return np.asarray(expit(logit(self.chance(at)) + self.error), np.float64)

    @cached_property
    def at_once(self) -> Floats:
        """The scores of telling each pair as soon as its item is there."""
        return self.score(self.created_at)

    @cached_property
    def in_windows(self) -> tuple[Floats, Floats]:
        """The moments and scores of telling each pair in the next windows, (OFFERED, n) each; -1 where there is no such window."""
        number = self.first + np.arange(OFFERED)[:, None]
        there = number < self.windows.shape[1]
        at = self.windows[self.user, np.minimum(number, self.windows.shape[1] - 1)]
        return at, np.where(there, np.stack([self.score(row) for row in at]), -1.0)


def told(audience: Audience, lanes: Lanes, threshold: float) -> Told:
    """Return what is told when nothing under a threshold is; in each window the best `top_n`."""
    now = audience.at_once >= threshold
    if lanes == "scheduled":
        now[:] = False
    elif lanes == "both":
        now &= ~_waits(audience, threshold)
    when = np.where(now, audience.created_at, np.nan)
    if lanes != "urgent":
        _open_windows(audience, threshold, when)
    return Told(when, now)


def _waits(audience: Audience, threshold: float) -> Bools:
    """Return which pairs the rule that serves holds for the next window, by the half-lives of their kinds."""
    n = len(audience.user)
    half_life_s = np.array([kind.half_life_h * 3600 for kind in KINDS])[audience.world.things.kind[audience.item]]
    opens = audience.in_windows[0][0]
    later = audience.at_once * np.exp2(-(opens - audience.created_at) / half_life_s)
    later[audience.world.things.expires_at[audience.item] <= opens] = -np.inf
    codes, least = np.zeros(n, np.uint8), np.full(n, threshold, np.float32)
    values, keys = audience.at_once.astype(np.float32), audience.item.astype(np.uint64)
    user, item = audience.user.astype(np.int32), audience.item.astype(np.int32)
    return can_wait(Rows(user, item, keys, codes, values, least, later.astype(np.float32), np.zeros(n, bool)), DecideConfig())


def _open_windows(audience: Audience, threshold: float, when: Floats) -> None:
    """Tell in each day's windows the best of what is offered and was not told, and write when."""
    at, score = audience.in_windows
    for day in range(audience.windows.shape[1]):
        offer = day - audience.first
        rows = np.flatnonzero((offer >= 0) & (offer < OFFERED) & np.isnan(when))
        worth = score[offer[rows], rows]
        rows, worth = rows[worth >= threshold], worth[worth >= threshold]
        order = np.lexsort((-worth, audience.user[rows]))
        rows = rows[order]
        rank = np.arange(len(rows)) - np.searchsorted(audience.user[rows], audience.user[rows])
        best = rows[rank < audience.config.top_n]
        when[best] = at[day - audience.first[best], best]


def at_volume(audience: Audience, lanes: Lanes) -> Told:
    """Return what is told with the threshold that comes closest to the volume from below."""
    wanted, low, high = audience.config.per_week * audience.config.users * audience.config.weeks, 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        many = np.isfinite(told(audience, lanes, middle).when).sum() > wanted
        low, high = (middle, high) if many else (low, middle)
    return told(audience, lanes, high)


def report(config: LanesWorld, step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Return what each way is worth: sends, expected answers, the median hours between an item and its telling, and the same by lane."""
    audience, found = Audience.of(config), {}
    for lanes in LANES:
        step(f"telling {'by ' + lanes if lanes != 'both' else 'by both lanes'}")
        found[lanes] = figures(audience, at_volume(audience, lanes))
    best = max(found[name]["answers"] for name in LANES if name != "both")
    return {**asdict(config), "pairs": len(audience.user), "ways": found, "both_beside_best_single": found["both"]["answers"] / best}


def figures(audience: Audience, made: Told) -> dict[str, Any]:
    """Return the figures of one way, overall and by lane."""
    sent = np.isfinite(made.when)
    chance = audience.chance(np.where(sent, made.when, audience.created_at))
    delay_h = (made.when - audience.created_at) / 3600

    def of(rows: Bools) -> dict[str, Any]:
        sends = int(rows.sum())
        median = round(float(np.median(delay_h[rows])), 2) if sends else None
        return {
            "sends": sends,
            "answers": round(float(chance[rows].sum()), 1),
            "per_send": round(float(chance[rows].mean()), 4) if sends else 0.0,
            "delay_h_median": median,
        }

    return {**of(sent), "lanes": {"urgent": of(sent & made.urgent), "scheduled": of(sent & ~made.urgent)}}
