"""State from the log, as of any moment: offline rows of users, authors and topics, real-time counts of items, embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from lake.ids import Keys64, combine
from ranking.affinities import Pairs, distinct_pairs
from ranking.asof import EventLog, Floats, Ints, Positions, ragged
from ranking.blocks import (
    DAYS,
    DECAYED,
    HOURS_OF_WEEK,
    ITEM_COUNTS,
    TEXT_DIMENSIONS,
    TOPIC_STATS,
    USER_STATS,
    ItemBlock,
    Matrix,
    UserBlock,
    Week,
)
from ranking.embeddings import embed, epoch_of
from ranking.labels import DAY_S
from ranking.past import Codes, Past
from ranking.sent import answered_at
from ranking.texts import reader_vectors, text_vectors, word_vectors

AUDIENCE_HALF_LIFE_S = 90 * DAY_S
READ_HALF_LIFE_S = 90 * DAY_S
WEEK_HALF_LIFE_S = 28 * DAY_S


@dataclass
class State:
    """Everything the features need to know, computed from the log for any users, items and moments."""

    past: Past
    _vectors: dict[float, Matrix] = field(default_factory=dict)
    _audiences: dict[float, Matrix] = field(default_factory=dict)
    _words: dict[float, Matrix | None] = field(default_factory=dict)
    _texts: dict[float, Matrix] = field(default_factory=dict)
    _offsets: dict[float, npt.NDArray[np.float32]] = field(default_factory=dict)

    def part(self, users: Codes, as_of: float) -> State:
        """Return a state that answers `users` for these codes at this moment just as this one does, with the logs of these users alone.

        Logs of everybody take many times the memory of the past, and each part of the users would pass over all of them.
        """
        self.vectors(as_of), self.words(as_of), self._text_vectors(as_of), self._offsets_at(as_of)
        chosen = np.zeros(len(self.past.user_ids) + 1, bool)  # the last one stands for users and items that the past does not know
        chosen[users] = True
        by_item = np.append(chosen[self._maker], False)
        return replace(self, past=self.past.part(chosen[self.past.user] | by_item[self.past.item], chosen[self.past.send_user]))

    @cached_property
    def _maker(self) -> Ints:
        """Return the user who made each item, -1: nobody that the past knows."""
        return self._user_of(self.past.items.author)

    def users(self, users: Codes, as_of: float) -> UserBlock:
        """Return the offline state of users (codes, shape (U,)) as of a moment."""
        rows = users.astype(np.int64)
        return UserBlock(
            as_of=np.full(len(rows), as_of),
            stats=self._user_stats(rows, as_of),
            vector=self.vectors(as_of)[rows],
            text=self._reader_texts(rows, as_of),
            authors=self._authors.lists(rows, as_of),
            topics=self._topics.lists(rows, as_of),
        )

    def items(self, items: Codes, at: Floats, as_of: float) -> ItemBlock:
        """Return the state of items (codes, shape (I,)), real time as of each `at`, offline as of `as_of`."""
        table = self.past.items
        found = self._touches.positions(_item_keys(items), at)
        author, topics = table.author[items], table.topics[items]
        topics = topics[:, : max(1, int((topics != 0).sum(axis=1).max(initial=0)))]
        topic_keys = np.unique(topics[topics != 0])
        return ItemBlock(
            at=at,
            created_at=table.created_at[items],
            latitude=table.latitude[items],
            longitude=table.longitude[items],
            author=author,
            kind=table.kind[items],
            topics=topics,
            counts=self._counts(items, at, found),
            vector=self._engaged_vectors(found, as_of),
            text=text_vectors(table.terms[items], self.words(as_of)),
            author_stats=self.author_stats(author, as_of),
            author_vector=self.author_vectors(author, as_of),
            audience_vector=self.audience_vectors(author, as_of),
            topic_keys=topic_keys,
            topic_stats=self.topic_stats(topic_keys, as_of),
            week=self.week(as_of),
        )

    def week(self, as_of: float) -> Week:
        """Return when in the week people engage, as learned from what came before a moment."""
        hours = np.arange(HOURS_OF_WEEK, dtype=np.uint64)
        engaged = 1.0 + self._week_hours.decayed(self._week_hours.positions(hours, as_of), WEEK_HALF_LIFE_S)
        return np.append(0.0, np.cumsum(engaged / engaged.sum()))

    def author_stats(self, authors: Keys64, as_of: float) -> Matrix:
        """Return AUTHOR_STATS of authors, shape (n, len(AUTHOR_STATS))."""
        made, engaged = self._author_items.positions(authors, as_of), self._author_engaged.positions(authors, as_of)
        columns = [
            self._author_items.decayed(made, 90 * DAY_S),
            self._author_engaged.decayed(engaged, 14 * DAY_S),
            self._author_engaged.decayed(engaged, 90 * DAY_S),
            (as_of - self._author_items.last_at(made)) / 3600,
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def topic_stats(self, topics: Keys64, as_of: float) -> Matrix:
        """Return TOPIC_STATS of topics, shape (n, len(TOPIC_STATS))."""
        if not len(topics):
            return np.empty((0, len(TOPIC_STATS)), np.float32)
        made, engaged = self._topic_items.positions(topics, as_of), self._topic_engaged.positions(topics, as_of)
        columns = [
            self._topic_items.decayed(made, 180 * DAY_S),
            self._topic_engaged.decayed(engaged, 30 * DAY_S),
            self._topic_engaged.decayed(engaged, 180 * DAY_S),
        ]
        return np.stack(columns, axis=1).astype(np.float32)

    def author_vectors(self, authors: Keys64, as_of: float) -> Matrix:
        """Return the embeddings of authors as users, zero where one is no user; shape (n, DIMENSIONS)."""
        codes = self._user_of(authors)
        return np.where((codes >= 0)[:, None], self.vectors(as_of)[codes], np.float32(0))

    def audience_vectors(self, authors: Keys64, as_of: float) -> Matrix:
        """Return the mean embedding of those who engage with each author, shrunk to zero where few do; shape (n, DIMENSIONS)."""
        monday = epoch_of(as_of)
        if monday not in self._audiences:
            self._audiences = {monday: self._audiences_of(monday)}
        known, _ = self._audience_rows
        place = np.minimum(np.searchsorted(known, authors), max(len(known) - 1, 0))
        found = np.append(known, np.uint64(0))[place] == authors
        return np.where(found[:, None] & (authors != 0)[:, None], self._audiences[monday][place], np.float32(0))

    def _audiences_of(self, monday: float) -> Matrix:
        """Return the audiences of all authors by what was known on a Monday, one spare row of zeros at the end."""
        authors, code = self._audience_rows
        rows = self._with_author
        before = slice(0, int(np.searchsorted(self.past.at[rows], monday)))
        weight = np.exp2(-(monday - self.past.at[rows[before]]) / AUDIENCE_HALF_LIFE_S)
        shape = (len(authors) + 1, len(self.past.user_ids))
        engaged = scipy.sparse.csr_matrix((weight, (code[before], self.past.user[rows[before]])), shape=shape)
        total = np.bincount(code[before], weight, minlength=len(authors) + 1) + 1.0
        mean: Matrix = (np.asarray(engaged @ self.vectors(monday)) / total[:, None]).astype(np.float32)
        return mean

    @cached_property
    def _audience_rows(self) -> tuple[Keys64, Ints]:
        """Return the authors anybody engages with, ascending, and the place of each engagement's author among them."""
        authors, code = np.unique(self.past.items.author[self.past.item[self._with_author]], return_inverse=True)
        return authors, code.ravel()

    def vectors(self, as_of: float) -> Matrix:
        """Return the embedding of every user, made anew each Monday from what was known then; shape (users, DIMENSIONS)."""
        monday = epoch_of(as_of)
        if monday not in self._vectors:
            self._vectors = {monday: embed(self.past, monday)}
        return self._vectors[monday]

    def words(self, as_of: float) -> Matrix | None:
        """Return the vectors of words, see `word_vectors`, made anew each Monday from the items that were there then."""
        monday = epoch_of(as_of)
        if monday not in self._words:
            table = self.past.items
            there = np.flatnonzero(self._has_text & (table.created_at < monday))
            self._words = {monday: word_vectors(table.terms[there[np.argsort(table.created_at[there], kind="stable")]])}
        return self._words[monday]

    def _reader_texts(self, users: Ints, as_of: float) -> Matrix:
        """Return what the texts that users engaged with are about, later ones counting more; shape (U, TEXT_DIMENSIONS)."""
        words = self.words(as_of)
        rows = self._with_text
        rows = rows[: np.searchsorted(self.past.at[rows], as_of)]
        place = np.full(len(self.past.user_ids) + 1, -1)  # the last one stands for users that the past does not know
        place[users] = np.arange(len(users))
        reader = place[self.past.user[rows]]
        rows, reader = rows[reader >= 0], reader[reader >= 0]
        if words is None or not len(rows):
            return np.zeros((len(users), TEXT_DIMENSIONS), np.float32)
        weight = np.exp2(-(as_of - self.past.at[rows]) / READ_HALF_LIFE_S)
        return reader_vectors(reader, len(users), self._text_vectors(as_of)[self.past.item[rows]], weight)

    def _text_vectors(self, as_of: float) -> Matrix:
        monday = epoch_of(as_of)
        if monday not in self._texts:
            self._texts = {monday: text_vectors(self.past.items.terms, self.words(as_of))}
        return self._texts[monday]

    @cached_property
    def _has_text(self) -> npt.NDArray[np.bool_]:
        has: npt.NDArray[np.bool_] = (self.past.items.terms != 0).any(axis=1)
        return has

    @cached_property
    def _with_text(self) -> npt.NDArray[np.intp]:
        rows = np.flatnonzero(self._engaging)
        return rows[self._has_text[self.past.item[rows]]]

    def _user_stats(self, users: Ints, as_of: float) -> Matrix:
        keys = self.past.user_key[users]
        engaged, events = self._engaged.positions(keys, as_of), self._events.positions(keys, as_of)
        engaged_90d = self._engaged.decayed(engaged, 90 * DAY_S)
        ages = self._ages.decayed(self._ages.positions(keys, as_of), 90 * DAY_S)
        columns: dict[str, npt.NDArray[Any]] = {
            "engaged_3d": self._engaged.decayed(engaged, 3 * DAY_S),
            "engaged_14d": self._engaged.decayed(engaged, 14 * DAY_S),
            "engaged_90d": engaged_90d,
            "own_90d": self._own.decayed(self._own.positions(keys, as_of), 90 * DAY_S),
            "events_90d": self._events.decayed(events, 90 * DAY_S),
            "strong_90d": self._strong.decayed(self._strong.positions(keys, as_of), 90 * DAY_S),
            "active_days_28d": self._days.decayed(self._days.positions(keys, as_of), 28 * DAY_S),
            "recency_h": (as_of - self._events.last_at(events)) / 3600,
            "tenure_d": (as_of - self._events.first_at(events)) / DAY_S,
            "item_age_log": (ages + 3.0) / (engaged_90d + 1.0),
            "offset_minutes": self._offsets_at(as_of)[users],
            **{f"sent_{days}d": _lately(self._sent, keys, as_of, days) for days in (1, 7, 28)},
            "answered_28d": _lately(self._answered, keys, as_of, 28),
            "latitude": self.past.latitude[users],
            "longitude": self.past.longitude[users],
        }
        stats = np.empty((len(users), len(USER_STATS)), np.float32)
        stats[:, : len(columns)] = np.stack(list(columns.values()), axis=1)
        stats[:, len(columns) : len(columns) + len(DAYS)] = self._days_of(keys, as_of)
        stats[:, len(columns) + len(DAYS) :] = self._hours_of(keys, as_of)
        return stats

    def _offsets_at(self, as_of: float) -> npt.NDArray[np.float32]:
        if as_of not in self._offsets:
            self._offsets = {as_of: self.past.offsets_at(as_of)}
        return self._offsets[as_of]

    def _days_of(self, keys: Keys64, as_of: float) -> Floats:
        """Return how many items users first engaged with on each of the days before `as_of`, the latest first."""
        ends = as_of - DAY_S * np.arange(len(DAYS) + 1)
        counts = self._touched.positions(np.repeat(keys, len(ends)), np.tile(ends, len(keys))).count
        return -np.diff(counts.reshape(-1, len(ends)), axis=1).astype(np.float64)

    def _hours_of(self, keys: Keys64, as_of: float) -> Floats:
        joint = combine(np.repeat(keys, 24), np.tile(np.arange(24), len(keys)))
        return self._hours.decayed(self._hours.positions(joint, as_of), 90 * DAY_S).reshape(-1, 24)

    def _counts(self, items: Codes, at: Floats, touches: Positions) -> Floats:
        """Return ITEM_COUNTS of items strictly before `at`; decayed sums are as of the latest engagement."""
        events = self._item_events.positions(_item_keys(items), at)
        last_at = self._item_events.last_at(events)
        counts = np.empty((len(items), len(ITEM_COUNTS)))
        counts[:, 0], counts[:, 1], counts[:, -1] = events.count, touches.count, last_at
        at_last = Positions(touches.start, touches.end, np.nan_to_num(last_at))
        for column, half_life_s in enumerate(DECAYED.values(), start=2):
            counts[:, column] = self._touches.decayed(at_last, half_life_s)
        return counts

    def _engaged_vectors(self, touches: Positions, as_of: float) -> Matrix:
        rows, owner = ragged(touches.start, touches.end)
        users = self.past.user[self._touch_rows[self._touches.rows[rows]]]
        shape = (len(touches.start), len(self.past.user_ids))
        return np.asarray(scipy.sparse.csr_matrix((np.ones(len(rows), np.float32), (owner, users)), shape=shape) @ self.vectors(as_of))

    def engaged_with(self, items: Codes, at: float) -> list[Keys64]:
        """Return the keys of the people who engaged with each item strictly before `at`."""
        found = self._touches.positions(_item_keys(items), at)
        rows, _ = ragged(found.start, found.end)
        people = self.past.user_key[self.past.user[self._touch_rows[self._touches.rows[rows]]]]
        return np.split(people, np.cumsum(found.count)[:-1]) if len(items) else []

    def _user_of(self, keys: Keys64) -> Ints:
        order = self._user_order
        place = np.minimum(np.searchsorted(self.past.user_key[order], keys), len(order) - 1)
        codes: Ints = np.where(self.past.user_key[order[place]] == keys, order[place], -1)
        return codes

    @cached_property
    def _user_order(self) -> npt.NDArray[np.intp]:
        return np.argsort(self.past.user_key)

    def _log(self, rows: npt.NDArray[np.bool_], weight: Floats | None = None) -> EventLog:
        past = self.past
        return EventLog(past.user_key[past.user[rows]], past.at[rows], None if weight is None else weight[rows])

    @cached_property
    def _engaging(self) -> npt.NDArray[np.bool_]:
        return self.past.is_first & ~self.past.is_own

    @cached_property
    def _events(self) -> EventLog:
        return self._log(np.ones(len(self.past.at), bool))

    @cached_property
    def _engaged(self) -> EventLog:
        return self._log(self._engaging)

    @cached_property
    def _touched(self) -> EventLog:
        return self._log(self.past.is_first)

    @cached_property
    def _week_hours(self) -> EventLog:
        at = self.past.at[self.past.is_first]
        return EventLog((at // 3600 % HOURS_OF_WEEK).astype(np.uint64), at)

    @cached_property
    def _own(self) -> EventLog:
        return self._log(self.past.is_first & self.past.is_own)

    @cached_property
    def _strong(self) -> EventLog:
        return self._log(self.past.is_strong & ~self.past.is_own)

    @cached_property
    def _ages(self) -> EventLog:
        age_s = self.past.at - self.past.items.created_at[self.past.item] if len(self.past.items) else self.past.at
        return self._log(self._engaging, np.log1p(np.maximum(age_s, 0.0) / 3600))

    @cached_property
    def _days(self) -> EventLog:
        days = combine(self.past.user, np.floor(self.past.at / DAY_S).astype(np.int64))
        first = np.zeros(len(days), bool)
        first[np.unique(days, return_index=True)[1]] = True
        return self._log(first)

    @cached_property
    def _sent(self) -> EventLog:
        return EventLog(self.past.user_key[self.past.send_user], self.past.send_at)

    @cached_property
    def _answered(self) -> EventLog:
        at = answered_at(self.past)
        rows = np.flatnonzero(~np.isnan(at))
        return EventLog(self.past.user_key[self.past.send_user[rows]], at[rows])

    @cached_property
    def _hours(self) -> EventLog:
        return EventLog(combine(self.past.user_key[self.past.user], self.past.hour), self.past.at)

    @cached_property
    def _item_events(self) -> EventLog:
        rows = self.past.item >= 0
        return EventLog(_item_keys(self.past.item[rows]), self.past.at[rows])

    @cached_property
    def _touch_rows(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self.past.is_first)

    @cached_property
    def _touches(self) -> EventLog:
        rows = self._touch_rows
        return EventLog(_item_keys(self.past.item[rows]), self.past.at[rows])

    @cached_property
    def _author_items(self) -> EventLog:
        made = self.past.items.author != 0
        return EventLog(self.past.items.author[made], self.past.items.created_at[made])

    @cached_property
    def _author_engaged(self) -> EventLog:
        rows = self._with_author
        return EventLog(self.past.items.author[self.past.item[rows]], self.past.at[rows])

    @cached_property
    def _with_author(self) -> npt.NDArray[np.intp]:
        rows = np.flatnonzero(self._engaging)
        has_author: npt.NDArray[np.bool_] = self.past.items.author[self.past.item[rows]] != 0
        return rows[has_author]

    @cached_property
    def _authors(self) -> Pairs:
        past, rows = self.past, self._with_author
        author, at = past.items.author[past.item[rows]], past.at[rows]
        user, key = past.user[rows].astype(np.int64), past.user_key[past.user[rows]]
        towards, back = EventLog(combine(key, author), at), EventLog(combine(author, key), at)
        made_by = self._user_of(author)
        known = made_by >= 0
        told, about, told_at = self._told(past.items.author[:, None])
        sent = EventLog(combine(past.user_key[told], about), told_at)
        users, keys = distinct_pairs(np.concatenate([user, made_by[known], told]), np.concatenate([author, key[known], about]))
        return Pairs(users, keys, ((towards, 30 * DAY_S), (towards, 180 * DAY_S), (back, 180 * DAY_S), (sent, 14 * DAY_S)), past.user_key)

    def _told(self, about: Keys64) -> tuple[Ints, Keys64, Floats]:
        """Return whom notifications told about what, and when: one row per send and key of its item; `about` (items, keys), 0: none."""
        row, column = np.nonzero(about[self.past.send_item] * (self.past.send_item >= 0)[:, None].astype(np.uint64))
        return self.past.send_user[row].astype(np.int64), about[self.past.send_item[row], column], self.past.send_at[row]

    @cached_property
    def _topics(self) -> Pairs:
        past = self.past
        rows, topic = self._topic_rows
        engaged = self._engaging[rows]
        joint, at = combine(past.user_key[past.user[rows]], topic), past.at[rows]
        towards, own = EventLog(joint[engaged], at[engaged]), EventLog(joint[~engaged], at[~engaged])
        told, about, told_at = self._told(np.column_stack([past.items.topics, past.items.kind]))
        sent = EventLog(combine(past.user_key[told], about), told_at)
        users, keys = distinct_pairs(np.concatenate([past.user[rows].astype(np.int64), told]), np.concatenate([topic, about]))
        return Pairs(users, keys, ((towards, 30 * DAY_S), (towards, 180 * DAY_S), (own, 180 * DAY_S), (sent, 14 * DAY_S)), past.user_key)

    @cached_property
    def _topic_rows(self) -> tuple[npt.NDArray[np.intp], Keys64]:
        """Return the first engagements, one row per topic of the item, and the topics."""
        rows = self._touch_rows
        topics = self.past.items.topics[self.past.item[rows]]
        row, column = np.nonzero(topics)
        return rows[row], topics[row, column]

    @cached_property
    def _topic_items(self) -> EventLog:
        row, column = np.nonzero(self.past.items.topics)
        return EventLog(self.past.items.topics[row, column], self.past.items.created_at[row])

    @cached_property
    def _topic_engaged(self) -> EventLog:
        rows, topic = self._topic_rows
        engaged = self._engaging[rows]
        return EventLog(topic[engaged], self.past.at[rows[engaged]])


def _lately(log: EventLog, keys: Keys64, as_of: float, days: int) -> Ints:
    """Return how many events of each key fall into the last days before a moment."""
    return log.positions(keys, as_of).count - log.positions(keys, as_of - days * DAY_S).count


def _item_keys(items: Codes) -> Keys64:
    return items.astype(np.uint64) + np.uint64(1)
