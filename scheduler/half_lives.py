"""How fast items lose value: a half-life for each kind, learned from how engagement with what was sent falls with its age."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from lake.ids import Keys64, hash64

Floats = npt.NDArray[np.float64]

ANSWERED_S = 2 * 86400.0
"""A send counts as engaged with within this time, and is counted once it is over."""
READ_S = 90 * 86400.0
SHORTEST_S, LONGEST_S = 600.0, 90 * 86400.0
STEPS = 241


@dataclass(frozen=True)
class HalfLifeConfig:
    """`default_s`: the half-life of a kind that nothing is known of. `spread`: how far kinds are from it, the standard deviation of the
    logarithm; a kind moves away from the default as its sends outweigh that.
    """

    default_s: float = 86400.0
    spread: float = 1.5


class HalfLives(Protocol):
    """Where the learned half-lives live, in seconds by kind. One round trip per call."""

    def read(self) -> dict[str, float]:
        """Return the half-lives; a kind that is absent has the default."""
        ...

    def write(self, learned: Mapping[str, float]) -> None:
        """Replace the half-lives."""
        ...


@dataclass
class MemoryHalfLives:
    """Half-lives in a dictionary, for tests and replay."""

    learned: dict[str, float] = field(default_factory=dict)

    def read(self) -> dict[str, float]:
        """See HalfLives."""
        return dict(self.learned)

    def write(self, learned: Mapping[str, float]) -> None:
        """See HalfLives."""
        self.learned = dict(learned)


def half_life(age_s: Floats, engaged: npt.NDArray[np.bool_], config: HalfLifeConfig) -> float:
    """Return the likeliest half-life, in seconds, of things that were sent at some ages and engaged with or not, (n,) each.

    Engagements are taken as rare: their rate at age t is a 2^(-t/h). Given h the best a is known in closed form, which leaves one number
    to look for, with a log-normal prior around the default.
    """
    choices = np.exp(np.linspace(np.log(SHORTEST_S), np.log(LONGEST_S), STEPS))
    prior = -0.5 * (np.log(choices / config.default_s) / config.spread) ** 2
    if not engaged.any():
        return config.default_s
    exposed = np.array([np.exp2(-age_s / each).sum() for each in choices])
    likelihood = -np.log(2) * age_s[engaged].sum() / choices - engaged.sum() * np.log(np.maximum(exposed, 1e-300))
    return float(choices[int(np.argmax(likelihood + prior))])


def learned_half_lives(dataset: Dataset, now: float, config: HalfLifeConfig | None = None) -> dict[str, float]:
    """Return the half-life of each kind of item that was sent, in seconds by kind, from the sends of the 90 days before `now` (seconds).

    An item that says its own half-life, or was sent before it was made, tells nothing of its kind. Ages are few where all is sent at once;
    such a kind stays near the default. A ranker that sends old items only where they are good makes half-lives look longer than they are.
    """
    rows = answered(dataset, now)
    config = config or HalfLifeConfig()
    return {
        str(kind): half_life(mine["age_s"].to_numpy(np.float64), mine["engaged"].to_numpy(bool), config)
        for kind, mine in rows.groupby("kind")
    }


def answered(dataset: Dataset, now: float) -> pd.DataFrame:
    """Return the sends whose time to be answered is over: the item's `kind`, its `age_s` then, and whether the user `engaged` with it."""
    items, sends = dataset.items, dataset.sends
    if "kind" not in items or not len(sends):
        return pd.DataFrame({"kind": [], "age_s": [], "engaged": []})
    about = items.loc[items["kind"].notna(), [name for name in ("item_id", "kind", "created_at", "half_life_s") if name in items]]
    if "half_life_s" in about:
        about = about[about["half_life_s"].isna()]
    since, until = (pd.Timestamp(at, unit="s", tz="UTC") for at in (now - READ_S, now - ANSWERED_S))
    rows = sends.loc[(sends["at"] >= since) & (sends["at"] < until), ["user_id", "item_id", "at"]].astype({"item_id": object})
    rows = rows.merge(about.astype({"item_id": object}), on="item_id")
    rows["age_s"] = (rows["at"] - rows["created_at"]).dt.total_seconds()
    rows = rows[rows["age_s"] >= 0].reset_index(drop=True)
    acts = dataset.events[["user_id", "item_id", "at"]].dropna().rename(columns={"at": "acted_at"}).astype({"item_id": object})
    both = rows.reset_index().astype({"user_id": object}).merge(acts.astype({"user_id": object}), on=["user_id", "item_id"])
    after_s = (both["acted_at"] - both["at"]).dt.total_seconds()
    rows["engaged"] = rows.index.isin(both.loc[(after_s >= 0) & (after_s <= ANSWERED_S), "index"])
    return rows[["kind", "age_s", "engaged"]]


@dataclass(frozen=True)
class OfKinds:
    """Half-lives by the key of their kind, ascending: `key` uint64, `half_life_s` float32, (n,) each."""

    key: Keys64
    half_life_s: npt.NDArray[np.float32]

    @staticmethod
    def of(learned: Mapping[str, float]) -> OfKinds:
        """Return half-lives by kind as columns."""
        key, value = hash64(list(learned)), np.array(list(learned.values()), np.float32)
        order = np.argsort(key)
        return OfKinds(key[order], value[order])

    def find(self, kind: Keys64, default_s: float) -> npt.NDArray[np.float32]:
        """Return the half-life of kinds, (m,)."""
        if not len(self.key):
            return np.full(len(kind), default_s, np.float32)
        at = np.minimum(np.searchsorted(self.key, kind), len(self.key) - 1)
        return np.where(self.key[at] == kind, self.half_life_s[at], np.float32(default_s)).astype(np.float32)
