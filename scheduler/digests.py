"""What is told together: rows of one user, channel and digest key become one notification, led by the best of them. Pure.

A rule names what belongs together (a topic, a kind or a source) and how much one notification may tell of. The lead is decided like any
other row and spends the one unit; its riders share its fate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates
from lake.ids import Keys64, combine, hash64, topic_key
from lake.items import Items

Bools = npt.NDArray[np.bool_]
COLUMNS = ("topic", "kind", "source")


@dataclass(frozen=True)
class DigestRule:
    """`by`: topic:NAME, kind:NAME or source:NAME, or * for each by itself (an item's first topic). `size`: most items told together.

    `wait_s`: how long an urgent item may wait for its user's next window, to be told with others; 0: it goes as it comes. The one that
    fills a digest is decided as if it waited for nobody, and takes along what waits. Raises ValueError where one of them makes no sense.
    """

    by: str
    size: int = 5
    wait_s: float = 86400.0

    def __post_init__(self) -> None:
        column, _, name = self.by.partition(":")
        if column not in COLUMNS or not name:
            raise ValueError(f"a digest is by topic:NAME, kind:NAME or source:NAME (* for each), not by {self.by!r}")
        if self.size < 2 or not self.wait_s >= 0:
            raise ValueError(f"the digest by {self.by} needs a size of 2 or more and a wait_s of 0 or more")


@dataclass(frozen=True)
class Keyed:
    """Which rule each row falls under, int16 (n,), -1: none, and what it is told together with others by, uint64 (n,), 0: nothing."""

    rule: npt.NDArray[np.int16]
    key: Keys64


@dataclass(frozen=True)
class Together:
    """How rows are told, (n,) each.

    `lead`: intp, the row that tells of this one, itself where it leads or is alone. `led`: bool, a lead with riders. `entity`: uint64, what
    a row is about in the contest: one key for whatever would tell of the same things. `beyond`: bool, the digest is full without it.
    `twin`: bool, a better row of its entity is in the digest. `full`: bool, the digest tells of as much as it may.
    """

    lead: npt.NDArray[np.intp]
    led: Bools
    entity: Keys64
    beyond: Bools
    twin: Bools
    full: Bools

    @property
    def contends(self) -> Bools:
        """Which rows are decided by themselves: leads and those that are alone."""
        return np.asarray((self.lead == np.arange(len(self.lead))) & ~self.twin, np.bool_)


def keyed(rows: Candidates, items: Items, item: npt.NDArray[np.int32], rules: Sequence[DigestRule]) -> Keyed:
    """Return the first rule that applies to each row. `item`: rows of `items`, known ones only."""
    rule, key = np.full(len(rows), -1, np.int16), np.zeros(len(rows), np.uint64)
    for number, each in enumerate(rules):
        found = _key_of(each, rows, items, item)
        first = (found != 0) & (rule < 0)
        rule[first], key[first] = number, combine(np.full(first.sum(), number), found[first])
    return Keyed(rule, key)


def _key_of(rule: DigestRule, rows: Candidates, items: Items, item: npt.NDArray[np.int32]) -> Keys64:
    column, _, name = rule.by.partition(":")
    if column == "topic":
        topics = items.topics[item]
        wanted = topic_key([name])[0]
        return topics[:, 0] if name == "*" else np.where((topics == wanted).any(axis=1), wanted, np.uint64(0))
    keys = items.kind[item] if column == "kind" else hash64(list(rows.sources))[rows.source] if len(rows) else np.empty(0, np.uint64)
    return keys if name == "*" else np.where(keys == hash64([name])[0], keys, np.uint64(0))


def together(
    keys: Keyed,
    user: npt.NDArray[np.int32],
    channel: npt.NDArray[np.uint8],
    entity: Keys64,
    value: npt.NDArray[np.float32],
    may_join: Bools,
    rules: Sequence[DigestRule],
) -> Together:
    """Return how rows are told. `may_join`: which are worth telling and may be told with others, bool (n,)."""
    n = len(user)
    lead, beyond, twin, full = np.arange(n), np.zeros(n, bool), np.zeros(n, bool), np.zeros(n, bool)
    joins = np.flatnonzero((keys.rule >= 0) & may_join)
    group = combine(user[joins], channel[joins], keys.key[joins])
    best_first = np.lexsort((-value[joins], group))
    rows, group = joins[best_first], group[best_first]
    repeated = _again(combine(group, entity[rows]))
    twin[rows[repeated]] = True
    rows, group = rows[~repeated], group[~repeated]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]]) if len(group) else np.empty(0, np.intp)
    sizes = np.diff(starts, append=len(group))
    place = np.arange(len(group)) - np.repeat(starts, sizes)
    size = np.array([rule.size for rule in rules])[keys.rule[rows]] if len(rows) else np.empty(0, np.intp)
    beyond[rows] = place >= size
    full[rows] = np.repeat(sizes, sizes) >= size
    lead[rows] = np.repeat(rows[starts], sizes)
    led = np.zeros(n, bool)
    led[lead[lead != np.arange(n)]] = True
    about, bundled = combine(user, keys.key), combine(user[led], keys.key[led])
    shares = (keys.rule >= 0) & may_join & np.isin(about, bundled)
    return Together(lead, led, np.where(shares, keys.key, entity), beyond, twin, full)


def is_update(user: npt.NDArray[np.int32], entity: Keys64, granted_user: npt.NDArray[np.int32], granted_entity: Keys64) -> Bools:
    """Return which rows are about what their user was granted before, so that they are news of it rather than something new, (n,)."""
    return np.asarray(np.isin(combine(user, entity), combine(granted_user, granted_entity)), np.bool_)


def _again(keys: Keys64) -> Bools:
    """Return which keys occurred before, (n,)."""
    again = np.ones(len(keys), bool)
    again[np.unique(keys, return_index=True)[1]] = False
    return again
