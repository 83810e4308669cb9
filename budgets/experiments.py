"""Who is in which arm of an experiment, and who is held out of all that is scheduled: by a salted hash of the user. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine, hash64

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Arms = npt.NDArray[np.uint8]

MOST_ARMS = 255
MOST_HELD_OUT = 0.5


def draws(keys: Keys64, salt: str) -> Floats:
    """Return a number in [0, 1) per user, float64 (n,): the same for one salt wherever it is asked, independent between salts.

    `keys`: lake.ids.hash64 of the users.
    """
    mixed = combine(np.full(len(keys), hash64([salt])[0]), keys)
    return np.asarray((mixed >> np.uint64(11)) / np.float64(2**53))


@dataclass(frozen=True)
class Experiment:
    """A test of arms, the first of which is the control.

    `weights`: in which proportion users fall to the arms, all alike where none are given. `salt`: by default the name; another one draws
    anew. Arms follow each other along the draw, so a change of weights moves only those between the old and the new bounds.

    Raises ValueError where there are fewer than two arms, a name twice, or weights that are no proportion.
    """

    name: str
    arms: tuple[str, ...] = ("control", "treatment")
    weights: tuple[float, ...] = ()
    salt: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("an experiment needs a name: it decides who falls to which arm")
        if not 2 <= len(self.arms) <= MOST_ARMS or len(set(self.arms)) < len(self.arms) or "" in self.arms:
            raise ValueError(f"experiment {self.name}: give 2 to {MOST_ARMS} arms of different names, not {', '.join(self.arms) or 'none'}")
        weights = np.array(self.weights or (1.0,), np.float64)
        if len(self.weights) not in (0, len(self.arms)) or not (np.isfinite(weights) & (weights > 0)).all():
            raise ValueError(f"experiment {self.name}: give each arm a weight above 0, or none at all")

    @property
    def shares(self) -> Floats:
        """The share of the users that each arm is to have, (arms,)."""
        weights = np.array(self.weights or (1.0,) * len(self.arms), np.float64)
        return np.asarray(weights / weights.sum())

    def assign(self, users: Sequence[str] | npt.NDArray[np.object_]) -> Arms:
        """Return the arm of each user, uint8 codes into `arms`, (n,)."""
        return self.of_keys(hash64(users))

    def of_keys(self, keys: Keys64) -> Arms:
        """Return the arm of each user by key (lake.ids.hash64), as `assign` does."""
        ends = np.cumsum(self.shares)[:-1]
        return np.searchsorted(ends, draws(keys, f"experiment\x1f{self.salt or self.name}"), side="right").astype(np.uint8)


@dataclass(frozen=True)
class Holdout:
    """Users who get nothing that is scheduled, as long as `salt` stays: what they do tells what all sends together are worth.

    `share`: of all users, 0: nobody. A larger share holds out everybody that a smaller one does. Independent of every experiment.
    Raises ValueError for a share that is none.
    """

    share: float = 0.0
    salt: str = "holdout"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= MOST_HELD_OUT:
            raise ValueError(f"the holdout's share lies between 0 and {MOST_HELD_OUT}, not at {self.share}")

    def holds(self, users: Sequence[str] | npt.NDArray[np.object_]) -> Bools:
        """Return which users are held out, bool (n,)."""
        return self.of_keys(hash64(users)) if self.share else np.zeros(len(users), bool)

    def of_keys(self, keys: Keys64) -> Bools:
        """Return who is held out by key (lake.ids.hash64), as `holds` does."""
        return np.asarray(draws(keys, f"holdout\x1f{self.salt}") < self.share, np.bool_)
