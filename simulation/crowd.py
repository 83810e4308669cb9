"""A world lived through in arrays alone: whoever is offered something is told what a filter lets pass, without any other bound. Vectorised.

There is no budget, ledger or log, which is why many worlds can be lived through in the time of one. People tire and form habits as those of
`stage.py` do. They join what they want to join if they look at a notification of it, or if they come by themselves and see it; those who
come often follow more, are told more, and would have come anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from simulation.offers import draw
from simulation.response import Readers
from simulation.stage import TICKS, favourite_ticks
from simulation.world import World, stream
from simulation.world_parameters import DAY_S, CrowdParameters, ResponseParameters

F32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Passes = Callable[[Ints, Ints, Ints, float], Bools]
"""(users, items, numbers, now): which notifications a filter lets pass. `numbers`: how many of the item the user had on offer before it."""


@dataclass(frozen=True)
class CrowdDay:
    """What happened on one day. `user`, `item`, `number` of each send, and `joined`: whether its user joined the item that day, anyhow.

    `active`: who was there, bool (users,). `joins`: engagements, each pair of user and item once. `caused`: those through a notification.
    `opt_outs`: of users.
    """

    user: Ints
    item: Ints
    number: Ints
    joined: Bools
    active: Bools
    joins: int
    caused: int
    opt_outs: int


@dataclass
class Crowd:
    """The state of a world's people. `told`, `joined`: bool (users, items). `usual`: notifications on offer to each in a day, (users,).

    `attention`: log odds that each looks at a notification when rested, (users,).
    """

    world: World
    readers: Readers
    params: CrowdParameters
    rng: np.random.Generator
    tick: Ints
    told: Bools
    joined: Bools
    usual: Floats
    attention: Floats
    day: int = 0

    @staticmethod
    def of(world: World, response: ResponseParameters, params: CrowdParameters, seed: int) -> Crowd:
        """Return people who have been told nothing yet."""
        readers = Readers.of(world.people.visits_per_week, 1, response, stream(seed, "readers"))
        blank = np.zeros((len(world.people.ids), len(world.things.ids)), bool)
        rng = stream(seed, "attention")
        usual = params.per_day * (7 * readers.visits_per_day / world.params.visits_per_week) ** params.following
        attention = logit(params.attention) + params.attention_spread * rng.standard_normal(len(blank))
        usual = np.minimum(usual, params.most_per_day)
        return Crowd(world, readers, params, stream(seed, "crowd"), favourite_ticks(world), blank, blank.copy(), usual, attention)

    def branched(self) -> Crowd:
        """Return people whose lives can go on another way; the world's truth is shared, and chance begins alike."""
        return deepcopy(self, {id(self.world): self.world})

    def play_day(self, passes: Passes) -> CrowdDay:
        """Let a day pass and return what happened."""
        visits = self.rng.poisson(self.readers.visits_per_day * self.readers.habit)
        active, parts, counts = visits > 0, [], np.zeros(3, np.int64)
        for number, at in enumerate(TICKS):
            now = self.world.params.start_at + self.day * DAY_S + float(at)
            users = np.flatnonzero(self.tick == number)
            offers = draw(self.world, np.repeat(users, self.rng.poisson(self.usual[users])), now, 1, self.rng)
            user, item = offers.user, offers.item
            wanted = (self.rng.random(len(user)) < offers.chance) & ~self.joined[user, item]
            row, nth = self._notified(user, item)
            sent = passes(user[row], item[row], nth, now)
            row, nth = row[sent], nth[sent]
            told = np.bincount(row, minlength=len(user)) > 0
            through = wanted & told & (self.rng.random(len(user)) < self._looks(user))
            seen = through | self._browsing(user, wanted & ~through, visits, through)
            self.joined[user[seen], item[seen]] = True
            active[user[through]] = True
            left = self._tell(user[row], item[row], through[row])
            parts.append((user[row], item[row], nth, seen[row]))
            counts += (int(seen.sum()), int(through.sum()), left)
        self.readers.pass_day(active)
        self.day += 1
        user, item, nth, seen = (np.concatenate(column) for column in zip(*parts, strict=True))
        joins, caused, opt_outs = counts.tolist()
        return CrowdDay(user, item, nth, seen, active, joins, caused, opt_outs)

    def _notified(self, user: Ints, item: Ints) -> tuple[Ints, Ints]:
        """Return the notifications of offers: which offer each is of, and how many of the same came before it."""
        news = np.flatnonzero(~self.told[user, item] & ~self.joined[user, item] & ~self.readers.gone[user, 0])
        many = self.rng.geometric(1 - self.params.again, len(news))
        starts = np.cumsum(many) - many
        return np.repeat(news, many), np.arange(int(many.sum())) - np.repeat(starts, many)

    def _looks(self, user: Ints) -> Floats:
        """Return the chance that each offer's notifications are looked at: together, for updates lie in their place."""
        return self.readers.answers(np.asarray(expit(self.attention[user]), np.float64), user)

    def _browsing(self, user: Ints, wanted: Bools, visits: Ints, through: Bools) -> Bools:
        """Return which offers are found and joined by those who came, of their own accord or through a notification of another."""
        came = visits + (np.bincount(user[through], minlength=len(visits)) > 0)
        found = np.flatnonzero(wanted & (self.rng.random(len(user)) < 1 - (1 - self.params.browses) ** came[user]))
        found = found[np.lexsort((self.rng.random(len(found)), user[found]))]
        rank = np.arange(len(found)) - np.searchsorted(user[found], user[found])
        there = np.zeros(len(user), bool)
        there[found[rank < self.params.rooms_a_visit * came[user[found]]]] = True
        return there

    def _tell(self, user: Ints, item: Ints, joined: Bools) -> int:
        """Let users tire of what they were sent, and leave; return how many left."""
        readers, usual = self.readers, self.usual[user]
        rested = usual * readers.params.recovery_days
        risk = readers.params.opt_out * self.params.asked_for / usual * readers.load[user] * readers.sensitivity[user] / rested
        leaves = ~joined & (self.rng.random(len(user)) < np.minimum(risk, readers.params.opt_out_most))
        readers.told(user, joined)
        self.told[user, item] = True
        readers.gone[user[leaves], 0] = True
        return len(np.unique(user[leaves]))
