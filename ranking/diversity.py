"""Similar to what was sent lately counts less, and recovers with time. Pure: grants and candidates in, factors out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine

F32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int32]


@dataclass(frozen=True)
class DiversityRule:
    """How much of its value a candidate loses to what was just sent, by what they share, and how soon that is forgotten.

    `entity`: about the same thing (an update). `author`, `topic`: by the same author; all topics the same. Each from 0 to 1; all 0: off.
    `half_life_s`: after this long half of the loss is left.
    """

    entity: float = 0.3
    author: float = 0.1
    topic: float = 0.1
    half_life_s: float = 3 * 86400.0

    def __post_init__(self) -> None:
        if not (all(0 <= weight <= 1 for weight in (self.entity, self.author, self.topic)) and 0 < self.half_life_s < float("inf")):
            raise ValueError(f"diversity takes an entity, an author and a topic from 0 to 1 and a half_life_s above 0: {self}")


@dataclass(frozen=True)
class Facets:
    """What rows are about: `user` int32 codes; `entity`, `author` uint64 (n,), `topics` uint64 (n, k); key 0 is none."""

    user: Codes
    entity: Keys64
    author: Keys64
    topics: Keys64

    def __len__(self) -> int:
        return len(self.user)


def factors(rows: Facets, sent: Facets, age_s: npt.NDArray[np.float64], rule: DiversityRule) -> F32:
    """Return the share of its value each candidate keeps, float32 (n,) in (0, 1].

    `sent`: what the users were sent, `age_s` ago each (in the future counts as now). A candidate keeps the product over entity, author and
    topic of 1 - weight x likeness, as Instagram's diversity layer multiplies demotions by dimension (Engineering at Meta, 2025); the
    likeness to one send is 1 where the key is shared, for topics the share of the candidate's that are, and halves every half-life, as
    the recovering arms of Yancey and Settles (2020, "A sleeping, recovering bandit algorithm for optimizing recurring
    notifications"). Of several sends with one key the latest counts: repeating a theme demotes it no deeper than novelty can recover.
    """
    kept = np.ones(len(rows), np.float64)
    if not len(sent) or not len(rows):
        return kept.astype(np.float32)
    fresh = np.exp2(-np.maximum(age_s, 0.0) / rule.half_life_s)
    for weight, mine, theirs in ((rule.entity, rows.entity, sent.entity), (rule.author, rows.author, sent.author)):
        if weight:
            kept *= 1 - weight * freshness(rows.user, mine[:, None], sent.user, theirs[:, None], fresh)[:, 0]
    if rule.topic:
        by_topic = freshness(rows.user, rows.topics, sent.user, sent.topics, fresh)
        kept *= 1 - rule.topic * by_topic.sum(axis=1) / np.maximum((rows.topics != 0).sum(axis=1), 1)
    return kept.astype(np.float32)


def freshness(user: Codes, key: Keys64, sent_user: Codes, sent_key: Keys64, fresh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how fresh each key of each row still is to its user, (n, k) in [0, 1]: that of the latest send with it, 0 without one."""
    told = np.repeat(np.arange(len(sent_user)), sent_key.shape[1])
    keys, there = sent_key.reshape(-1), sent_key.reshape(-1) != 0
    pair = combine(sent_user[told[there]], keys[there])
    order = np.lexsort((-fresh[told[there]], pair))
    distinct, first = np.unique(pair[order], return_index=True)
    if not len(distinct):
        return np.zeros(key.shape)
    best = fresh[told[there]][order][first]
    wanted = combine(np.repeat(user, key.shape[1]), key.reshape(-1))
    place = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
    found = (distinct[place] == wanted) & (key.reshape(-1) != 0)
    return np.where(found, best[place], 0.0).reshape(key.shape)


def demoted(value: F32, kept: F32) -> F32:
    """Return values with what is kept of their positive part, float32 (n,): what does harm is not made better by repetition."""
    return (value * np.where(value > 0, kept, np.float32(1))).astype(np.float32)
