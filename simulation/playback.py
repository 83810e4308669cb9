"""History played into a running system: items appear, events count and features refresh at the times they happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from budgets.ledger import Ledger
from lake.dataset import Dataset
from lake.ids import hash64
from lake.items import MAX_AGE_S, rows_of_frame
from lake.seen import SeenStore
from ranking.labels import LabelRule
from ranking.offline import State
from ranking.past import Past
from ranking.refresh import refresh_from
from ranking.store import FeatureStore
from scheduler.loading import Stores, load, seconds
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

    def record(self, events: pd.DataFrame) -> None:
        """Count engagements (user_id, item_id, kind, at) in real time."""
        kinds = events["kind"].to_numpy(object)
        engaged = events[events["item_id"].notna().to_numpy() & LabelRule().is_engagement(kinds)]
        if len(engaged):
            items, users = engaged["item_id"].tolist(), engaged["user_id"].tolist()
            self.store.record_engagements(items, users, seconds(engaged["at"]).tolist())


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
    _loaded: set[str] = field(default_factory=set)

    def start(self) -> None:
        """Bring the system to what was known before `at`."""
        self._put_items(self.at - MAX_AGE_S, self.at)
        self.features.start(self.at)
        self._join(self.at)
        self._mark_seen(self._between(self.history.events, "at", self.at - MAX_AGE_S, self.at))

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
        events = self._between(self.history.events, "at", self.at, until)
        if len(events):
            self.features.record(events)
            self._mark_seen(events)
            self._mark_opened(events)
        self.at = until

    def _join(self, now: float) -> None:
        """Let in the users who have joined since the last time."""
        known = Dataset.of_checked(self.history.tables, pd.Timestamp(now, unit="s", tz="UTC"))
        users = known_users(known, now)
        fresh = users[~users["user_id"].isin(self._loaded)]
        if len(fresh):
            load(known, self.stores, now, items=False, only=fresh["user_id"].tolist(), windows_per_week=self.windows_per_week)
            self._loaded |= set(fresh["user_id"])

    def _put_items(self, since: float, until: float) -> None:
        born = self._between(self.history.items, "created_at", since, until)
        if len(born):
            self.stores.items.put(rows_of_frame(born))

    def _mark_seen(self, events: pd.DataFrame) -> None:
        touched = events[events["item_id"].notna()]
        self.seen.add(touched["user_id"].tolist(), hash64(touched["item_id"].tolist()))

    def _mark_opened(self, events: pd.DataFrame) -> None:
        touched = events[events["item_id"].notna()]
        self.ledger.mark_opened(touched["user_id"].tolist(), hash64(self._entities(touched).tolist()))

    def _entities(self, events: pd.DataFrame) -> pd.Series[str]:
        if "entity_id" not in self.history.items:
            return events["item_id"].astype(object)
        entity = self.history.items.set_index("item_id")["entity_id"]
        return events["item_id"].map(entity).fillna(events["item_id"]).astype(object)

    @staticmethod
    def _between(frame: pd.DataFrame, at: str, since: float, until: float) -> pd.DataFrame:
        moments = seconds(frame[at])
        return frame[(moments >= since) & (moments < until)]


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


def play(playback: Playback, until: float, due: Callable[[int], int], tick: Tick, told: Callable[[float], None]) -> None:
    """Play history slot by slot until `until`, ticking where somebody is due; `told` hears the time after each slot."""
    for slot in slots_between(playback.at, until):
        now = float(slot * SLOT_S)
        if due(slot):
            playback.advance(now)
            tick(slot, now)
        told(now)
    playback.advance(until)
