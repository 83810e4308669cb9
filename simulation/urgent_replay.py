"""The urgent lane of a replay: items of history posted to it at their own time, to those whom the sources would tell of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.decision_log import Entry, unpack
from lake.follows import FollowStore
from lake.ids import Keys64, author_key, hash64, topic_key
from lake.items import ItemRow, rows_of_frame
from scheduler.held import HeldStore
from scheduler.lanes import CHUNK, ScheduledLane, UrgentLane, UrgentRequest
from scheduler.loading import seconds
from scheduler.thresholds import PERIOD_S, MemoryThresholds, believed, learn
from simulation.playback import DAY_S, Playback

Bools = npt.NDArray[np.bool_]

MOST_USERS = 10_000
"""Users of one request, as over HTTP."""
LEARNED_FROM = ["at", "user_id", "item_id", "channel", "value", "weight", "dry"]


@dataclass(frozen=True)
class Posted:
    """Which items are urgent: a `share` of all, drawn by their ids, or where `kinds` or `topics` are named those that have one of them."""

    share: float = 1.0
    kinds: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()

    @staticmethod
    def of(words: Sequence[str]) -> Posted:
        """Return what words such as all, 0.1, kind:room or topic:net mean together; raises ValueError for any other."""
        named: dict[str, set[str]] = {"kind": set(), "topic": set()}
        shares = []
        for word in words:
            what, _, name = word.partition(":")
            if what in named and name:
                named[what].add(name)
            else:
                shares.append(_share(word))
        if len(shares) > 1 or (shares and any(named.values())):
            raise ValueError("name either one share of the items, or kinds and topics")
        return Posted(shares[0] if shares else 1.0, frozenset(named["kind"]), frozenset(named["topic"]))

    def among(self, items: pd.DataFrame) -> Bools:
        """Return which rows of an items table are urgent, (n,)."""
        if not (self.kinds or self.topics):
            return np.asarray(hash64(items["item_id"].to_numpy(object)) / np.float64(2**64) < self.share)
        found = np.zeros(len(items), bool)
        if "kind" in items:
            found |= items["kind"].isin(self.kinds).to_numpy(bool)
        if "topics" in items:
            found |= np.array([_is_list(topics) and not self.topics.isdisjoint(topics) for topics in items["topics"]], bool)
        return found


def _share(word: str) -> float:
    try:
        share = 1.0 if word == "all" else float(word)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:  # nor NaN
        raise ValueError(f"{word!r} is not all, a share such as 0.1, kind:NAME or topic:NAME")
    return share


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple | np.ndarray)


@dataclass(frozen=True)
class Audiences:
    """Whom an item is for: `users` who follow a topic or the author of it, or nothing at all, as scheduler.sources.NewPosts has it.

    `user`: places in `users` by `key`, which is ascending. `idle`: those who follow nothing.
    """

    users: npt.NDArray[np.object_]
    key: Keys64
    user: npt.NDArray[np.int32]
    idle: npt.NDArray[np.intp]

    @staticmethod
    def of(users: Sequence[str], follows: FollowStore) -> Audiences:
        """Return the audiences among users."""
        lists = follows.keys_of(users)
        order = np.argsort(lists.keys, kind="stable")
        idle = np.flatnonzero(np.diff(lists.starts) == 0)
        return Audiences(np.array(users, object), lists.keys[order], lists.user[order], idle)

    def find(self, item: ItemRow) -> list[str]:
        """Return the audience of an item, in the order of `users`."""
        author = item.get("author_id")
        wanted = np.concatenate([topic_key(item.get("topics") or []), author_key([author] if author else [])])
        first, last = (np.searchsorted(self.key, wanted, side=side) for side in ("left", "right"))
        followers = [self.user[slice(*span)] for span in zip(first.tolist(), last.tolist(), strict=True)]
        return list(self.users[np.unique(np.concatenate([self.idle, *followers]))].tolist())


@dataclass
class UrgentReplay:
    """Posts a history's urgent items, and learns each midnight what a unit is worth, from what the scheduled lane was offered.

    `drained`: takes the decision log's new entries. `policy`: begins the decisions' ids. `budget`: sends per user and rolling 7 days.
    """

    playback: Playback
    lane: UrgentLane
    scheduled: ScheduledLane
    thresholds: MemoryThresholds
    posted: Posted
    channel: str
    budget: int
    policy: str
    drained: Callable[[], list[Entry]]
    log: list[Entry] = field(default_factory=list)
    _offered: list[pd.DataFrame] = field(default_factory=list)
    _learned_at: float = 0.0
    _next: int = 0
    _audiences: Audiences | None = None

    def __post_init__(self) -> None:
        items = self.playback.history.items
        born_at = seconds(items["created_at"])
        rows = np.flatnonzero(self.posted.among(items) & (born_at >= self.playback.at))
        rows = rows[np.argsort(born_at[rows], kind="stable")]
        self._items, self._born_at = rows_of_frame(items.iloc[rows]), born_at[rows]

    @staticmethod
    def beside(scheduled: ScheduledLane, playback: Playback, held: HeldStore, **rest: Any) -> UrgentReplay:
        """Return the urgent lane beside a scheduled one: on the same stores, and by thresholds of its own."""
        thresholds, pipeline = MemoryThresholds(), scheduled.pipeline
        config = replace(pipeline.config, threshold={})
        lane = UrgentLane(replace(pipeline, thresholds=thresholds, config=config), playback.stores.follows, held)
        return UrgentReplay(playback, lane, scheduled, thresholds, **rest)

    def start(self) -> None:
        """Learn what a unit is worth from what everybody's windows would be offered now."""
        now, users = self.playback.at, self.playback.joined
        for first in range(0, len(users), CHUNK):
            self.scheduled.rehearse(users[first : first + CHUNK], now)
        self._learn(unpack(self.drained()), now)

    def until(self, now: float) -> None:
        """Post what was made before `now`, each at its own time, after all that happened before it."""
        while self._next < len(self._items) and self._born_at[self._next] < now:
            at, item = float(self._born_at[self._next]), self._items[self._next]
            self.playback.advance(at)
            self.pass_midnights(at)
            users = self._audience(item)
            for first in range(0, len(users), MOST_USERS):
                name = f"{self.policy}-urgent-{self._next}-{first}"
                request = UrgentRequest(item, item["item_id"], users[first : first + MOST_USERS], (self.channel,), False, "replay", name)
                self.lane.decide([request], at)
            self.log.extend(self.drained())
            self._next += 1

    def ticked(self, entries: list[Entry], now: float) -> None:
        """Hear what the scheduled lane decided."""
        self.log.extend(entries)
        rows = unpack(entries)
        if len(rows):
            self._offered.append(rows[LEARNED_FROM])
        self.pass_midnights(now)

    def pass_midnights(self, now: float) -> None:
        """Learn anew where a day has begun since the last time."""
        if now // DAY_S == self._learned_at // DAY_S or not self._offered:
            return
        since = pd.Timestamp(now - PERIOD_S, unit="s", tz="UTC")
        self._offered = [rows for rows in self._offered if rows["at"].iloc[0] >= since]
        if self._offered:
            self._learn(pd.concat(self._offered, ignore_index=True), now)

    def _learn(self, rows: pd.DataFrame, now: float) -> None:
        """Learn what a unit is worth as the daily job of a deployment does: of fewer days' offers for fewer sends."""
        if len(rows):
            wanted = len(self.playback.joined) * self.budget * (believed(rows, now) if not rows["dry"].any() else 1.0)
            self.thresholds.write(learn(rows.rename(columns={"user_id": "user_key"}), {self.channel: wanted}))
        self._learned_at = now

    def _audience(self, item: ItemRow) -> list[str]:
        joined = self.playback.joined
        if self._audiences is None or len(self._audiences.users) != len(joined):
            self._audiences = Audiences.of(joined, self.playback.stores.follows)
        return self._audiences.find(item)


def urgent_report(decisions: pd.DataFrame) -> dict[str, Any]:
    """Return what became of what was urgent: items posted, rows decided at once by disposition, and what became of the rows that were held.

    A held row is a pair of user and item; `held_sent`: told in a later window, `held_again`: offered there, and not told by the end.
    """
    at_once = decisions[decisions["lane"] == "urgent"]
    pair = ["user_id", "item_id"]
    held = at_once.loc[at_once["disposition"] == "hold", pair].drop_duplicates()
    later = decisions.loc[(decisions["lane"] == "scheduled") & (decisions["source"] == "held"), [*pair, "disposition"]]
    sent = later.loc[later["disposition"] == "send", pair].drop_duplicates()
    offered = later[pair].drop_duplicates()
    return {
        "items": int(at_once["item_id"].nunique()),
        "rows": len(at_once),
        "dispositions": at_once.groupby("disposition").size().to_dict(),
        "held": len(held),
        "held_sent": len(held.merge(sent)),
        "held_again": len(held.merge(offered)) - len(held.merge(sent)),
    }
