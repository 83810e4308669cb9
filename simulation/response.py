"""How the people of a world change by what they are told: they tire and recover, form habits or lose them, and leave. Vectorised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from simulation.world_parameters import ResponseParameters

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass
class Readers:
    """The state of every user, (users,) each, changed in place as days pass.

    `load`: sends of late, by weight.
    `sensitivity`: how much faster than others a person tires, 1 on average. `habit`: from 0 to 1. `visits_per_day`:
    at full habit. `gone`: whether they have opted out of a channel, (users, channels).
    """

    params: ResponseParameters
    load: Floats
    sensitivity: Floats
    habit: Floats
    visits_per_day: Floats
    gone: Bools

    @staticmethod
    def of(visits_per_week: Floats, channels: int, params: ResponseParameters, rng: np.random.Generator) -> Readers:
        """Return rested readers, a share of them dormant and a share heavy users."""
        n = len(visits_per_week)
        kind = rng.random(n)
        heavy, dormant = kind < params.heavy, kind > 1 - params.dormant
        visits = visits_per_week / 7 * np.where(heavy, params.heavy_factor, 1.0)
        return Readers(
            params,
            load=np.zeros(n),
            sensitivity=rng.lognormal(-(params.fatigue_spread**2) / 2, params.fatigue_spread, n),
            habit=np.where(dormant, 0.0, params.habit_gain / (params.habit_gain + params.habit_loss)),
            visits_per_day=visits,
            gone=np.zeros((n, channels), bool),
        )

    def answers(self, chance: Floats, user: Ints) -> Floats:
        """Return the chance that users answer what they would answer with `chance` if they were rested, (n,)."""
        tired = self.params.fatigue * self.sensitivity[user] * self.load[user]
        with np.errstate(divide="ignore"):
            answered: Floats = expit(logit(chance) - tired)
        return answered

    def opt_out_risk(self, user: Ints) -> Floats:
        """Return the chance that each user opts out after an unanswered send, (n,): it grows with what they were sent in vain."""
        risk = self.params.opt_out * self.load[user] * self.sensitivity[user] / self.params.opt_out_load
        return np.minimum(risk, self.params.opt_out_most)

    def told(self, user: Ints, answered: Bools) -> None:
        """Add sends, of which some were answered, to the load of their users."""
        np.add.at(self.load, user, np.where(answered, 1.0, self.params.tiring))

    def visiting(self, rng: np.random.Generator) -> Bools:
        """Draw who comes of their own accord today, (users,)."""
        return rng.random(len(self.habit)) < -np.expm1(-self.visits_per_day * self.habit)

    def pass_day(self, active: Bools) -> None:
        """Let a day pass for everybody: `active` says who was there, (users,)."""
        self.load *= np.exp(-1 / self.params.recovery_days)
        gain, loss = self.params.habit_gain, self.params.habit_loss
        self.habit = np.where(active, self.habit + gain * (1 - self.habit), self.habit * (1 - loss))
