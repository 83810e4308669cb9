"""Training rows from plain logs: who could have been told what and when, and did they engage. Nothing after `until` is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine
from ranking.asof import ragged
from ranking.labels import DAY_S, LabelRule, label
from ranking.past import Codes, Floats, Past

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ExampleRule:
    """Which (user, item, moment) become training rows.

    `history_s`: moments lie at most this long before the end. `active_s`, `item_age_s`: users active within, items born
    within this time before the moment. `audience_s`: where items have topics, their audience is who was active on one
    of them within this time. `rows`: about how many rows to draw. `born_share`: the part of them drawn at items' birth.
    `near`: how many times likelier a row is drawn whose user or item has an engagement at that moment.
    """

    history_s: float = 730 * DAY_S
    active_s: float = 28 * DAY_S
    item_age_s: float = 7 * DAY_S
    audience_s: float = 90 * DAY_S
    rows: int = 400_000
    born_share: float = 0.35
    near: float = 6.0
    label: LabelRule = LabelRule()


@dataclass(frozen=True)
class Rows:
    """Candidates: `user`, `item` codes into Past, `at` seconds; `label` and `weight` (1 / chance of being drawn)."""

    user: Codes
    item: Codes
    at: Floats
    label: Bools
    weight: Floats

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: npt.NDArray[np.intp] | Bools) -> Rows:
        """Return the given rows."""
        return Rows(self.user[rows], self.item[rows], self.at[rows], self.label[rows], self.weight[rows])

    @staticmethod
    def concat(parts: list[Rows]) -> Rows:
        """Return the rows of all parts, in order."""
        names = ("user", "item", "at", "label", "weight")
        return Rows(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


class Candidates:
    """Who could be told what at a moment of the past, and whether they engaged within the window."""

    def __init__(self, past: Past, rule: ExampleRule) -> None:
        self._past, self._rule = past, rule
        self._item_order = np.argsort(past.items.created_at, kind="stable").astype(np.int32)
        self._born_at = past.items.created_at[self._item_order]
        self._touched = FirstTouches.of(past)
        self._activity = _topic_activity(past)

    def alive(self, at: float) -> Rows:
        """Return the rows of items young at a moment that their users had not touched."""
        items = self._item_order[slice(*np.searchsorted(self._born_at, [at - self._rule.item_age_s, at]))]
        return self._rows(items, np.full(len(items), at), at)

    def born(self, day: float) -> Rows:
        """Return the rows of the items born on the day that begins at `day`, each at its own birth."""
        items = self._item_order[slice(*np.searchsorted(self._born_at, [day, day + DAY_S]))]
        return self._rows(items, self._past.items.created_at[items], day)

    def _rows(self, items: Codes, at: Floats, audience_at: float) -> Rows:
        place, user = self._audience(items, audience_at)
        item, moment = items[place], at[place]
        is_own = self._past.items.author[item] == self._past.user_key[user]
        engaged_at = self._touched(user, item)
        rows = Rows(user, item, moment, label(moment, engaged_at, self._rule.label), np.ones(len(user)))
        return rows.take(~is_own & ~(engaged_at < moment))

    def _audience(self, items: Codes, at: float) -> tuple[npt.NDArray[np.intp], Codes]:
        """Return (place in `items`, user) pairs: who was active on a topic of the item, or at all where it has none."""
        topical = (self._past.items.topics[items] != 0).any(axis=1)
        place, user = self._topic_audience(items, at)
        everyone, active = self._active_users(np.flatnonzero(~topical), at)
        return np.concatenate([place, everyone]), np.concatenate([user, active])

    def _active_users(self, places: npt.NDArray[np.intp], at: float) -> tuple[npt.NDArray[np.intp], Codes]:
        low, high = np.searchsorted(self._past.at, [at - self._rule.active_s, at])
        users = np.unique(self._past.user[low:high])
        return np.repeat(places, len(users)), np.tile(users, len(places))

    def _topic_audience(self, items: Codes, at: float) -> tuple[npt.NDArray[np.intp], Codes]:
        moments, topics, users = self._activity
        window = slice(*np.searchsorted(moments, [at - self._rule.audience_s, at]))
        pairs = np.unique(np.rec.fromarrays([topics[window], users[window]]))
        place, column = np.nonzero(self._past.items.topics[items])
        wanted = self._past.items.topics[items][place, column]
        start, end = (np.searchsorted(pairs["f0"], wanted, side=side) for side in ("left", "right"))
        rows, owner = ragged(start, end)
        both = np.unique(np.rec.fromarrays([place[owner], pairs["f1"][rows]]))
        return both["f0"], both["f1"].astype(np.int32)


def _topic_activity(past: Past) -> tuple[Floats, npt.NDArray[np.uint64], Codes]:
    """Return the moments, topics and users of all engagements with items that have topics, in the order of time."""
    rows = np.flatnonzero(past.item >= 0)
    topics = past.items.topics[past.item[rows]]
    row, column = np.nonzero(topics)
    return past.at[rows[row]], topics[row, column], past.user[rows[row]]


@dataclass(frozen=True)
class FirstTouches:
    """When each user first engaged with each item."""

    keys: Keys64
    at: Floats

    @staticmethod
    def of(past: Past) -> FirstTouches:
        """Return the first engagements of a log."""
        first = np.flatnonzero(past.is_first)
        keys = combine(past.user[first], past.item[first])
        order = np.argsort(keys)
        return FirstTouches(keys[order], past.at[first[order]])

    def __call__(self, user: Codes, item: Codes) -> Floats:
        """Return the moment of each pair's first engagement, NaN: none."""
        wanted = combine(user, item)
        if not len(self.keys):
            return np.full(len(wanted), np.nan)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, self.at[place], np.nan)


def thin(rows: Rows, budget: int, near: float, random: np.random.Generator) -> Rows:
    """Draw about `budget` negatives beside all positives, likelier those that share a user or item with a positive.

    A row drawn with chance p weighs 1 / p, so that sums over rows stay unbiased.
    """
    if len(rows) <= budget:
        return rows
    is_near = np.isin(rows.user, rows.user[rows.label]) | np.isin(rows.item, rows.item[rows.label])
    likely = np.where(rows.label, 0.0, np.where(is_near, near, 1.0))
    chance = np.where(rows.label, 1.0, np.minimum(likely * budget / max(likely.sum(), 1.0), 1.0))
    drawn = np.flatnonzero(random.random(len(rows)) < chance)
    return replace(rows.take(drawn), weight=rows.weight[drawn] / chance[drawn])


def moments(past: Past, until: float, rule: ExampleRule) -> Floats:
    """Return the days (midnights) that rows are drawn on: after two weeks of log, with the label window over by `until`."""
    if not len(past.at):
        return np.empty(0)
    start = max(past.at[0] + 14 * DAY_S, until - rule.history_s)
    return np.arange(np.ceil(start / DAY_S) * DAY_S, until - rule.label.window_s - DAY_S + 1, DAY_S)


def draw(past: Past, until: float, rule: ExampleRule, seed: int = 0) -> Iterator[Rows]:
    """Yield the training rows of each day in turn: young items at some hour of the day, and the day's items at birth."""
    days = moments(past, until, rule)
    candidates, random = Candidates(past, rule), np.random.default_rng(seed)
    budget = rule.rows / max(len(days), 1)
    for day in days:
        alive = thin(candidates.alive(day + np.floor(random.random() * DAY_S)), int(budget * (1 - rule.born_share)), rule.near, random)
        yield Rows.concat([alive, thin(candidates.born(day), int(budget * rule.born_share), rule.near, random)])
