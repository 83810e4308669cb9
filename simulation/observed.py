"""What a service can see of a world: its rows, blurred where nobody can look into heads, and the past of its users."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from lake.ids import combine
from simulation.offers import parts
from simulation.world import World

Floats = npt.NDArray[np.float64]
F32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

BLURRED = ((0, 1), (4, 2))
"""Columns of simulation.offers.parts that a service is wrong about, interest and quality, each with a salt of its own."""


@dataclass
class Known:
    """What is known of users by now, (users,) each: sends and how many were answered, and days on which they were there."""

    sends: Floats
    answered: Floats
    active: Floats
    days: int = 0

    @staticmethod
    def of(users: int) -> Known:
        """Return what is known of nobody."""
        return Known(np.zeros(users), np.zeros(users), np.zeros(users))

    def then(self, sends: Floats, answered: Floats, active: npt.NDArray[np.bool_]) -> Known:
        """Return what is known a day later, (users,) each."""
        return Known(self.sends + sends, self.answered + answered, self.active + active, self.days + 1)


@dataclass
class Observer:
    """Sees rows. `error`: standard deviation of what it is wrong about in each pair of user and item, in log odds, always the same."""

    world: World
    known: Known
    error: float
    seed: int

    def see(self, user: Ints, item: Ints, now: float) -> F32:
        """Return the features of rows, float32 (n, 8): the parts of their truth and what their users did before."""
        found = parts(self.world, user, item, now)
        for column, salt in BLURRED:
            draw = (combine(user, item, np.full(len(user), self.seed), np.full(len(user), salt)) >> np.uint64(11)) / np.float64(2**53)
            found[:, column] += self.error / np.sqrt(len(BLURRED)) * ndtri(np.clip(draw, 1e-12, 1 - 1e-12))
        known, days = self.known, max(self.known.days, 1)
        past = np.stack([(known.answered + 1) / (known.sends + 4), known.answered / days, known.active / days], axis=1)
        return np.concatenate([found, past[user]], axis=1).astype(np.float32)
