"""What two lanes are worth beside one: at once, in windows only, or by the rule that serves, at equal volume in a world of known truth.

Every item has an audience, a ranker with known errors says what telling each of them is worth at a moment, and the share of tellings that
are answered is known. Windows and hours are learned from the weeks before, as a deployment does. What is compared is when things are told,
nothing else: the budgets and the readers' weariness stay out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from lake.profiles import Profiles
from scheduler.decide import DecideConfig, Rows, can_wait
from scheduler.loading import seconds, told_of
from scheduler.send_time import fit
from scheduler.waiting import HourConfig, hours_of, likelier, value_later
from scheduler.windows import LocalTimes
from simulation.world import World, stream
from simulation.world_parameters import DAY_S, KINDS, WEEK_S, WorldParameters

Floats = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Lanes = Literal["urgent", "scheduled", "both", "both_by_age"]
LANES: tuple[Lanes, ...] = get_args(Lanes)
"""`both_by_age`: without the hour, waiting where half of the value is left in the next window, as where a user's hours are not known."""
LEARNED_WEEKS = 4
"""Weeks of visits and engagement that hours and windows are learned from."""
SPOKEN: dict[Lanes, str] = {
    "urgent": "at once only",
    "scheduled": "in windows only",
    "both": "by both lanes",
    "both_by_age": "by both lanes, blind to the hour",
}
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
    hours: HourConfig = field(default_factory=HourConfig)


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
    profiles: Profiles
    scores: F32

    @staticmethod
    def of(config: LanesWorld) -> Audience:
        """Return everybody's pairs of the weeks that are told of, and what is known of everybody's hours by then."""
        weeks = LEARNED_WEEKS + config.weeks
        world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * weeks, weeks=weeks), config.seed)
        people, things = world.people, world.things
        liked = np.argsort(-people.interest, axis=1)[:, :TOPICS_EACH]
        wants = (liked[:, :, None] == things.topic).any(axis=1) | (people.authors[:, :, None] == things.author).any(axis=1)
        inside = (things.created_at >= begins(world)) & (things.created_at < world.params.end_at - OFFERED * DAY_S)
        user, item = np.nonzero(wants & inside)
        profiles, scores = learned(world)
        return Audience(config, world, user, item, stream(config.seed, "two lanes").normal(0, config.error, len(user)), profiles, scores)

    @cached_property
    def windows(self) -> Floats:
        """The moments of each user's windows, (users, days): the hour of each day at which they are thought likeliest to look."""
        since, ids = begins(self.world), self.world.people.ids
        hours = since + 3600.0 * np.arange(int((self.world.params.end_at - since) // 3600))
        local = self.world.hour_of_week(np.repeat(np.arange(len(ids)), len(hours)), np.tile(hours, len(ids))).reshape(len(ids), -1)
        likely = np.take_along_axis(self.scores, local, axis=1).reshape(len(ids), -1, 24)
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
    def kept(self) -> Floats:
        """What age leaves of the value of each pair until the next window, by the half-life of its kind."""
        half_life_s = np.array([kind.half_life_h * 3600 for kind in KINDS])[self.world.things.kind[self.item]]
        return np.asarray(np.exp2(-(self.in_windows[0][0] - self.created_at) / half_life_s))

    @cached_property
    def better(self) -> F32:
        """How many times as much each pair counts at the hour of the next window, by what is known of hours and zones."""
        profiles = self.profiles[self.user]
        times = LocalTimes.of(self.profiles["zone"], self.profiles["utc_offset_minutes"]).take(self.user)
        return likelier(profiles, times, self.created_at, self.in_windows[0][0], self.config.hours)

    @cached_property
    def in_windows(self) -> tuple[Floats, Floats]:
        """The moments and scores of telling each pair in the next windows, (OFFERED, n) each; -1 where there is no such window."""
        number = self.first + np.arange(OFFERED)[:, None]
        there = number < self.windows.shape[1]
        at = self.windows[self.user, np.minimum(number, self.windows.shape[1] - 1)]
        return at, np.where(there, np.stack([self.score(row) for row in at]), -1.0)


def begins(world: World) -> float:
    """Return when telling begins: after the weeks that are learned from."""
    return world.params.start_at + LEARNED_WEEKS * WEEK_S


def learned(world: World) -> tuple[Profiles, F32]:
    """Return everybody's profile, with hours, and the scores of their hours of the week (users, 168), as of when telling begins."""
    tables, since = world.tables(), begins(world)
    events, users, ids = tables["events"], tables["users"], world.people.ids.tolist()
    scores = fit(events[seconds(events["at"]) < since], users, now=since).for_users(ids)
    profiles = told_of(users.set_index("user_id", drop=False).loc[ids])
    profiles["hours"] = hours_of(scores)
    return profiles, scores


def told(audience: Audience, lanes: Lanes, threshold: float) -> Told:
    """Return what is told when nothing under a threshold is; in each window the best `top_n`."""
    now = audience.at_once >= threshold
    if lanes == "scheduled":
        now[:] = False
    elif lanes != "urgent":
        now &= ~_waits(audience, threshold, by_hour=lanes == "both")
    when = np.where(now, audience.created_at, np.nan)
    if lanes != "urgent":
        _open_windows(audience, threshold, when)
    return Told(when, now)


def _waits(audience: Audience, threshold: float, *, by_hour: bool) -> Bools:
    """Return which pairs the rule that serves holds for the next window, by half-lives of kinds and what is known of hours."""
    n = len(audience.user)
    values, least = audience.at_once.astype(np.float32), np.full(n, threshold, np.float32)
    half = DecideConfig().least_kept
    better = audience.better if by_hour else np.full(n, np.nan, np.float32)
    later = value_later(values, least, audience.kept, better, half)
    later[audience.world.things.expires_at[audience.item] <= audience.in_windows[0][0]] = -np.inf
    user, item, codes = audience.user.astype(np.int32), audience.item.astype(np.int32), np.zeros(n, np.uint8)
    rows = Rows(user, item, audience.item.astype(np.uint64), codes, values, least, later, np.zeros(n, bool))
    return can_wait(rows, DecideConfig(least_kept=1.0))


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
    """Return what each way is worth: sends, expected answers, the median hours between an item and its telling, and the same by lane.

    `both_beside`: the answers of both lanes over those of each other way; `both_beside_best_single`: over the better of the single lanes.
    """
    audience, found = Audience.of(config), {}
    for lanes in LANES:
        step(f"world {config.seed}: telling {SPOKEN[lanes]}")
        found[lanes] = figures(audience, at_volume(audience, lanes))
    beside = {name: found["both"]["answers"] / row["answers"] for name, row in found.items() if name != "both"}
    best = min(beside["urgent"], beside["scheduled"])
    return {**asdict(config), "pairs": len(audience.user), "ways": found, "both_beside": beside, "both_beside_best_single": best}


def over_worlds(config: LanesWorld, worlds: int, step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Return the reports of worlds whose seeds follow one another, what each way comes to in all, and in how many both lanes win."""
    reports = [report(replace(config, seed=config.seed + number), step) for number in range(worlds)]
    ways = {name: _together([each["ways"][name] for each in reports]) for name in LANES}
    wins = {name: sum(each["both_beside"][name] > 1 for each in reports) for name in LANES if name != "both"}
    beside = [each["both_beside_best_single"] for each in reports]
    return {
        **asdict(config),
        "ways": ways,
        "both_wins": wins,
        "both_beside_best_single": float(np.mean(beside)),
        "least_beside_best_single": min(beside),
        "worlds": reports,
    }


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one way over several worlds: sums, and the mean of their median delays in hours."""
    sends, answers = (sum(row[name] for row in rows) for name in ("sends", "answers"))
    delay_h, at_once = ([row["delay_h_median"] for row in rows], sum(row["lanes"]["urgent"]["sends"] for row in rows))
    mean = round(float(np.mean(delay_h)), 2) if sends else None
    return {
        "sends": sends,
        "answers": round(answers, 1),
        "per_send": round(answers / max(sends, 1), 4),
        "delay_h": mean,
        "at_once": at_once,
    }


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
