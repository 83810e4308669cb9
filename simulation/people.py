"""Who lives in a made-up world: what they care for, when they look, whom they follow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lake.profiles import NO_OFFSET
from scheduler.windows import LocalTimes
from simulation.world_parameters import DAY_S, HABITS, PLACES, TOPICS, WEEK_S, WorldParameters

WEEK_HOURS = 168
Floats = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True)
class People:
    """Users: `interest` float32 (users, topics) and `hours` float32 (users, 168 local hours of the week), rows summing to 1.

    `place`: codes into PLACES. `visits_per_week`, `created_at` (seconds), `email_odds`: (users,). `authors`: users each follows,
    (users, 3).
    """

    ids: Texts
    place: Ints
    interest: F32
    hours: F32
    visits_per_week: Floats
    created_at: Floats
    email_odds: Floats
    authors: Ints

    @cached_property
    def times(self) -> LocalTimes:
        """The users' local times."""
        zones = np.array([place.zone for place in PLACES])[self.place]
        return LocalTimes.of(zones, np.full(len(zones), NO_OFFSET))


def writers_of(params: WorldParameters, rng: np.random.Generator) -> Ints:
    """Return the users who write, the busiest first."""
    return rng.choice(params.users, max(4, int(params.users * params.authors)), replace=False)


def share_of_each(count: int, params: WorldParameters) -> Floats:
    """Return each writer's share of all items, by Zipf's law."""
    share: Floats = 1 / np.arange(1, count + 1) ** params.author_spread
    share /= share.sum()
    return share


def people_of(params: WorldParameters, writers: Ints, rng: np.random.Generator) -> People:
    """Draw the people of a world; `writers`: codes of those who write, the busiest first."""
    n = params.users
    joined = np.where(
        rng.random(n) < params.new_users,
        rng.uniform(params.start_at, params.end_at - WEEK_S / 2, n),
        params.start_at - rng.exponential(200 * DAY_S, n),
    )
    joined[writers] = np.minimum(joined[writers], params.start_at)
    shares = np.array([place.share for place in PLACES])
    return People(
        ids=numbered("u", n),
        place=rng.choice(len(PLACES), n, p=shares / shares.sum()),
        interest=rng.dirichlet(np.full(len(TOPICS), params.interests), n).astype(np.float32),
        hours=_habits(params, rng),
        visits_per_week=params.visits_per_week * rng.lognormal(0, params.visit_spread, n),
        created_at=np.floor(joined),
        email_odds=rng.normal(params.email_odds, params.email_spread, n),
        authors=rng.choice(writers, (n, 3), p=share_of_each(len(writers), params)),
    )


def _habits(params: WorldParameters, rng: np.random.Generator) -> F32:
    """Return how each person's activity falls on the hours of their week: two habitual hours of their own, other ones at weekends."""
    n, shares = params.users, np.array([habit.share for habit in HABITS])
    habit = rng.choice(len(HABITS), n, p=shares / shares.sum())
    peaks = np.array([kind.hours for kind in HABITS])[habit] + rng.normal(0, 1.0, (n, 2))
    shift = np.abs(rng.normal(1.5, 1.0, (n, 1)))
    weight = rng.dirichlet((2.0, 2.0), n)
    days = [_bumps(peaks + later, weight, params.hour_spread_h) for later in (0.0, shift)]
    weekend = rng.lognormal(0, params.weekend_share, (n, 1))
    week = np.concatenate([days[0]] * 5 + [days[1] * weekend] * 2, axis=1)
    day_to_day = np.repeat(rng.lognormal(0, 0.25, (n, 7)), 24, axis=1)
    hours: F32 = (week * day_to_day + 0.02 / WEEK_HOURS * week.sum(axis=1, keepdims=True)).astype(np.float32)
    hours /= hours.sum(axis=1, keepdims=True)
    return hours


def _bumps(peaks: Floats, weight: Floats, spread_h: float) -> Floats:
    apart = np.abs((np.arange(24) + 0.5 - peaks[:, :, None] + 12) % 24 - 12)
    bumps: Floats = np.einsum("up,uph->uh", weight, np.exp(-0.5 * (apart / spread_h) ** 2))
    return bumps


def numbered(letter: str, count: int) -> Texts:
    """Return ids of a kind of thing, from one on."""
    return np.array([f"{letter}{number:06d}" for number in range(1, count + 1)], object)
