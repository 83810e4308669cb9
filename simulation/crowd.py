"""A world lived through in arrays alone: whoever is offered something is sent what a filter lets pass, without any other bound. Vectorised.

The people are those of `stage.py`: they tire, form habits and leave by the same rules. There is no budget, ledger or log, which is why
many worlds can be lived through in the time of one.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulation.offers import draw
from simulation.response import Readers
from simulation.stage import TICKS, favourite_ticks
from simulation.world import World, stream
from simulation.world_parameters import DAY_S, ResponseParameters

F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

Passes = Callable[[Ints, Ints, float], Bools]
"""(users, items, now): which of the rows a filter lets pass."""


@dataclass(frozen=True)
class CrowdDay:
    """What happened on one day. `user`, `item`, `answered`: of each send. `active`: who was there, bool (users,).

    `joins`: engagements, told of or not, each pair of user and item once. `opt_outs`: of users.
    """

    user: Ints
    item: Ints
    answered: Bools
    active: Bools
    joins: int
    opt_outs: int


@dataclass
class Crowd:
    """The state of a world's people. `told`, `joined`: bool (users, items). `per_user`: offers of a day."""

    world: World
    readers: Readers
    rng: np.random.Generator
    tick: Ints
    told: Bools
    joined: Bools
    per_user: int
    day: int = 0

    @staticmethod
    def of(world: World, params: ResponseParameters, per_user: int, seed: int) -> Crowd:
        """Return people who have been told nothing yet."""
        readers = Readers.of(world.people.visits_per_week, 1, params, stream(seed, "readers"))
        blank = np.zeros((len(world.people.ids), len(world.things.ids)), bool)
        return Crowd(world, readers, stream(seed, "crowd"), favourite_ticks(world), blank, blank.copy(), per_user)

    def branched(self) -> Crowd:
        """Return people whose lives can go on another way; the world's truth is shared, and chance begins alike."""
        return deepcopy(self, {id(self.world): self.world})

    def play_day(self, passes: Passes) -> CrowdDay:
        """Let a day pass and return what happened."""
        visiting = self.readers.visiting(self.rng)
        active, parts, counts = visiting.copy(), [], np.zeros(2, np.int64)
        for number, at in enumerate(TICKS):
            now = self.world.params.start_at + self.day * DAY_S + float(at)
            offers = draw(self.world, np.flatnonzero(self.tick == number), now, self.per_user, self.rng)
            user, item, chance = offers.user, offers.item, offers.chance
            fresh = ~self.told[user, item] & ~self.joined[user, item] & ~self.readers.gone[user, 0]
            sent = np.flatnonzero(fresh)[passes(user[fresh], item[fresh], now)]
            answered, left = self._deliver(user[sent], item[sent], chance[sent])
            active[user[sent][answered]] = True
            browsed = visiting[user] & (self.rng.random(len(user)) < chance * self.readers.params.browses) & ~self.joined[user, item]
            self.joined[user[browsed], item[browsed]] = True
            counts += (int(answered.sum()) + int(browsed.sum()), left)
            parts.append((user[sent], item[sent], answered))
        self.readers.pass_day(active)
        self.day += 1
        user, item, answered = (np.concatenate(column) for column in zip(*parts, strict=True))
        return CrowdDay(user, item, answered, active, *counts.tolist())

    def _deliver(self, user: Ints, item: Ints, chance: npt.NDArray[np.float64]) -> tuple[Bools, int]:
        """Let users answer what they were sent, tire of it, and leave; return which sends were answered and how many users left."""
        answered = self.rng.random(len(user)) < self.readers.answers(chance, user)
        leaves = ~answered & (self.rng.random(len(user)) < self.readers.opt_out_risk(user))
        self.readers.told(user, answered)
        self.told[user, item] = True
        self.joined[user[answered], item[answered]] = True
        self.readers.gone[user[leaves], 0] = True
        return answered, len(np.unique(user[leaves]))
