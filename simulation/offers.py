"""What could be told to whom on a day of the world, and what a ranker with known errors makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri

from lake.decisions import Candidates, Lane
from lake.ids import combine
from simulation.world import World
from simulation.world_parameters import DAY_S, TOPICS

Floats = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SOURCE = "by_interest"
POOL_DAYS = 3.0


@dataclass(frozen=True)
class Offers:
    """Candidates as codes of the world, sorted by user and item: `user`, `item` (n,), and `chance` of an answer by a rested reader."""

    user: Ints
    item: Ints
    chance: Floats

    def __len__(self) -> int:
        return len(self.user)


def draw(world: World, users: Ints, now: float, per_user: int, rng: np.random.Generator, boom: Boom | None = None) -> Offers:
    """Return up to `per_user` items of the last days for each user: most by their interests, the others whatever there is.

    An item may be offered again on another day; within one draw it is offered once.
    """
    things = world.things
    first, last = np.searchsorted(things.created_at, [now - POOL_DAYS * DAY_S, now])
    pool = np.arange(first, last)
    pool = pool[things.expires_at[pool] > now]
    pool = pool[np.argsort(things.topic[pool], kind="stable")]
    if not len(pool) or not len(users):
        return Offers(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    starts = np.searchsorted(things.topic[pool], np.arange(len(TOPICS) + 1))
    user = np.repeat(users, per_user)
    topic = _topics(world, users, per_user, rng)
    if boom is not None and boom.is_on(now):
        topic = np.where(rng.random(len(topic)) < boom.share, boom.topic, topic)
    by_topic = (rng.random(len(user)) < 0.8) & (starts[topic + 1] > starts[topic])
    low, width = np.where(by_topic, starts[topic], 0), np.where(by_topic, starts[topic + 1] - starts[topic], len(pool))
    item = pool[low + (rng.random(len(user)) * width).astype(np.int64)]
    key = np.unique(user * len(things.ids) + item)
    user, item = key // len(things.ids), key % len(things.ids)
    kept = things.author[item] != user
    user, item = user[kept], item[kept]
    return Offers(user, item, expit(log_odds(world, user, item, now, boom)))


def _topics(world: World, users: Ints, per_user: int, rng: np.random.Generator) -> Ints:
    """Return topics drawn by each user's interests, users one after the other."""
    cumulative = np.cumsum(world.people.interest[users], axis=1, dtype=np.float64)
    cumulative = (cumulative / cumulative[:, -1:] + np.arange(len(users))[:, None]).ravel()
    drawn = np.repeat(np.arange(len(users)), per_user) + rng.random(len(users) * per_user)
    topic = np.searchsorted(cumulative, drawn, side="right") - np.repeat(np.arange(len(users)), per_user) * len(TOPICS)
    return np.asarray(np.minimum(topic, len(TOPICS) - 1), np.int64)


@dataclass(frozen=True)
class Boom:
    """For some days a topic is on everybody's mind: `share` of all candidates are of it, and it is worth `lift` more log odds."""

    topic: int
    since: float
    until: float
    share: float = 0.5
    lift: float = 1.0

    def is_on(self, now: float) -> bool:
        """Whether it is going on."""
        return self.since <= now < self.until


def log_odds(world: World, user: Ints, item: Ints, now: float, boom: Boom | None) -> Floats:
    """Return the true log odds of rows, (n,)."""
    odds = world.params.base + parts(world, user, item, now).sum(axis=1)
    if boom is not None and boom.is_on(now):
        odds += boom.lift * (world.things.topic[item] == boom.topic)
    return np.asarray(odds, np.float64)


def parts(world: World, user: Ints, item: Ints, now: float) -> Floats:
    """Return what interest, hour, author, age and quality add to the log odds of rows, (n, 5), as in World.true_probability."""
    params, people, things = world.params, world.people, world.things
    hour = world.hour_of_week(np.arange(len(people.ids)), np.full(len(people.ids), now))
    active = params.hour_weight * np.log(people.hours[np.arange(len(hour)), hour] * people.hours.shape[1])
    followed = (people.authors[user] == things.author[item][:, None]).any(axis=1)
    return np.stack(
        [
            params.interest_weight * np.log(people.interest[user, things.topic[item]] * len(TOPICS) + 0.02),
            active[user],
            params.author_bonus * followed,
            -np.log(2) * (now - things.created_at[item]) / things.half_life_s[item],
            things.quality[item],
        ],
        axis=1,
    )


@dataclass(frozen=True)
class Scored:
    """See scheduler.pipeline.Scores."""

    probability: F32
    value: F32
    model_id: str


@dataclass
class NoisyRanker:
    """A ranker whose errors are known: it sees the parts of the truth, each pair of user and item with an error of its own.

    `error`: standard deviation, in log odds; the same whenever the pair is scored, as a model's is. `shift`: what is added to everything,
    as a model with another calibration does. `boom`: what it has no feature for, yet sees in the counts.
    """

    world: World
    error: float = 0.7
    shift: float = 0.0
    seed: int = 0
    boom: Boom | None = None
    model_id: str = "noisy"

    def __call__(self, rows: Candidates, _channels: tuple[str, ...], now: float, _lane: Lane, /) -> Scored:
        """See scheduler.pipeline.Scorer."""
        user, item = places(rows.users, "u")[rows.user], places(rows.items, "i")[rows.item]
        chance = expit(self.log_odds(user, item, now)).astype(np.float32)
        return Scored(chance, chance, self.model_id)

    def log_odds(self, user: Ints, item: Ints, now: float) -> Floats:
        """Return what it makes of rows given as codes of the world, in log odds, (n,)."""
        odds = self.world.params.base + parts(self.world, user, item, now).sum(axis=1) + self.shift
        draw = (combine(user, item, np.full(len(user), self.seed)) >> np.uint64(11)) / np.float64(2**53)
        odds += self.error * ndtri(np.clip(draw, 1e-12, 1 - 1e-12))
        if self.boom is not None and self.boom.is_on(now):
            odds += self.boom.lift * (self.world.things.topic[item] == self.boom.topic)
        return np.asarray(odds, np.float64)


def places(ids: Sequence[str], letter: str) -> Ints:
    """Return the codes of the world's ids, which count from 1 after a letter."""
    return np.array([int(each.removeprefix(letter)) for each in ids], np.int64) - 1 if ids else np.empty(0, np.int64)


def item_rows(world: World, first: int, last: int) -> list[dict[str, Any]]:
    """Return the items from `first` to before `last`, in the order of time, as the item store takes them."""
    things, names = world.things, list(TOPICS)
    expires = things.expires_at[first:last]
    return [
        {
            "item_id": item_id,
            "created_at": created_at,
            "author_id": author,
            "topics": [names[topic]],
            "entity_id": entity,
            "version": version,
            "half_life_s": half_life_s,
            **({"expires_at": expires_at} if np.isfinite(expires_at) else {}),
        }
        for item_id, created_at, author, topic, entity, version, half_life_s, expires_at in zip(
            things.ids[first:last].tolist(),
            things.created_at[first:last].tolist(),
            world.people.ids[things.author[first:last]].tolist(),
            things.topic[first:last].tolist(),
            things.ids[things.entity[first:last]].tolist(),
            things.version[first:last].tolist(),
            things.half_life_s[first:last].tolist(),
            expires.tolist(),
            strict=True,
        )
    ]
