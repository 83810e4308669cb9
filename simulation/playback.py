"""History played into a running system: items appear, events count and features refresh at the times they happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from budgets.ledger import Ledger
from lake.dataset import Dataset
from lake.ids import Keys64, hash64
from lake.items import MAX_AGE_S, rows_of_frame
from lake.seen import SeenStore
from ranking.labels import LabelRule
from ranking.offline import State
from ranking.past import Past
from ranking.refresh import refresh_from
from ranking.store import FeatureStore
from scheduler.loading import Stores, load, seconds
from scheduler.send_time import SendTimes, fit
from scheduler.windows import SLOT_S

DAY_S = 86400.0


@dataclass
class Features:
    """Keeps a feature store in step with a log that is known in advance, showing it nothing before its time."""

    state: State
    store: FeatureStore

    @staticmethod
    def of(history: Dataset, store: FeatureStore) -> Features:
        """Return the features of a history."""
        return Features(State(Past.of(history)), store)

    def start(self, now: float) -> None:
        """Publish everything known before `now` (seconds), real-time counts included."""
        refresh_from(self.state, now, self.store, with_counts=True)

    def refresh(self, now: float) -> None:
        """Publish the offline state as of the last midnight."""
        refresh_from(self.state, now, self.store)

    def record(self, events: Engagements) -> None:
        """Count engagements in real time."""
        counted = events.take(events.counts)
        if len(counted):
            self.store.record_engagements(counted.item.tolist(), counted.user.tolist(), counted.at.tolist())


@dataclass(frozen=True)
class Engagements:
    """Events that name an item, in the order of time.

    `at`: float64 seconds. `user`, `item`: object ids. `item_key`, `entity`: uint64 keys. `counts`: bool, whether the kind
    is an engagement at all.
    """

    at: npt.NDArray[np.float64]
    user: npt.NDArray[np.object_]
    item: npt.NDArray[np.object_]
    item_key: Keys64
    entity: Keys64
    counts: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.at)

    @staticmethod
    def of(history: Dataset) -> Engagements:
        """Return the engagements of a history."""
        events = history.events[history.events["item_id"].notna()]
        item = events["item_id"].to_numpy(object)
        entity = events["item_id"].map(history.items.set_index("item_id")["entity_id"]).fillna(events["item_id"]).to_numpy(object)
        counts = LabelRule().is_engagement(events["kind"].to_numpy(object))
        found = Engagements(seconds(events["at"]), events["user_id"].to_numpy(object), item, hash64(item), hash64(entity), counts)
        return found.take(np.argsort(found.at, kind="stable"))

    def between(self, since: float, until: float) -> Engagements:
        """Return what happened at or after `since` and before `until`."""
        first, last = np.searchsorted(self.at, [since, until], side="left")
        return self.take(slice(int(first), int(last)))

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_] | slice) -> Engagements:
        """Return the given rows."""
        return Engagements(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})


@dataclass
class Playback:
    """Plays `history` from `at` on; nothing of it is visible to the system before its time.

    `windows_per_week`: delivery windows of each user.
    """

    history: Dataset
    stores: Stores
    seen: SeenStore
    ledger: Ledger
    features: Features
    at: float
    windows_per_week: int = 7
    _loaded: dict[str, None] = field(default_factory=dict)

    @cached_property
    def _events(self) -> Engagements:
        return Engagements.of(self.history)

    @cached_property
    def _born_at(self) -> npt.NDArray[np.float64]:
        return seconds(self.history.items["created_at"])

    @cached_property
    def _times(self) -> SendTimes:
        """The send times as of the start; people who join later keep the population's until they are fitted anew."""
        known = self._known(self.at)
        return fit(known.events, known.users, now=self.at)

    @property
    def joined(self) -> list[str]:
        """Who has joined so far, in no order that matters."""
        return list(self._loaded)

    def start(self) -> None:
        """Bring the system to what was known before `at`."""
        self._put_items(self.at - MAX_AGE_S, self.at)
        self.features.start(self.at)
        self._join(self.at)
        lately = self._events.between(self.at - MAX_AGE_S, self.at)
        self.seen.add(lately.user.tolist(), lately.item_key)

    def advance(self, now: float) -> None:
        """Let everything happen that happened from `at` until just before `now`, refreshing features at each UTC midnight."""
        midnight = (self.at // DAY_S + 1) * DAY_S
        while midnight <= now:
            self._happen(midnight)
            self.features.refresh(midnight)
            self._join(midnight)
            midnight += DAY_S
        self._happen(now)

    def _happen(self, until: float) -> None:
        if until <= self.at:
            return
        self._put_items(self.at, until)
        events = self._events.between(self.at, until)
        if len(events):
            self.features.record(events)
            self.seen.add(events.user.tolist(), events.item_key)
            self.ledger.mark_opened(events.user.tolist(), events.entity)
        self.at = until

    def _join(self, now: float) -> None:
        """Let in the users who have joined since the last time."""
        known = self._known(now)
        users = known_users(known, now)
        fresh = users.loc[~users["user_id"].isin(self._loaded), "user_id"].tolist()
        if fresh:
            load(known, self.stores, now, self._times, items=False, only=fresh, windows_per_week=self.windows_per_week)
            self._loaded.update(dict.fromkeys(fresh))

    def _known(self, now: float) -> Dataset:
        return Dataset.of_checked(self.history.tables, pd.Timestamp(now, unit="s", tz="UTC"))

    def _put_items(self, since: float, until: float) -> None:
        born = self.history.items[(self._born_at >= since) & (self._born_at < until)]
        if len(born):
            self.stores.items.put(rows_of_frame(born))


def known_users(known: Dataset, now: float) -> pd.DataFrame:
    """Return the users that had joined before `now`: created by then, or with an event before it."""
    users = known.users
    joined = users["user_id"].isin(known.events["user_id"].unique())
    if "created_at" in users:
        joined |= (users["created_at"] < pd.Timestamp(now, unit="s", tz="UTC")).fillna(False)
    return users[joined]


def slots_between(since: float, until: float) -> range:
    """Return the slots whose tick is at or after `since` and before `until`."""
    return range(int(np.ceil(since / SLOT_S)), int(np.ceil(until / SLOT_S)))


Tick = Callable[[int, float], None]
"""(slot, now): decide everyone who is due."""


def play(
    playback: Playback,
    until: float,
    due: Callable[[int], int],
    tick: Tick,
    told: Callable[[float], None],
    before: Callable[[float], None] = lambda _: None,
) -> None:
    """Play history slot by slot until `until`, ticking where somebody is due; `told` hears the time after each slot.

    `before`: what else is to be done that lies before a slot, and at last before `until`.
    """
    for slot in slots_between(playback.at, until):
        now = float(slot * SLOT_S)
        before(now)
        if due(slot):
            playback.advance(now)
            tick(slot, now)
        told(now)
    before(until)
    playback.advance(until)
