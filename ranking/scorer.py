"""Ids in, scores out: fetches state, assembles features and predicts, in chunks short enough to interleave other work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64
from lake.items import Items, ItemTable
from lake.meanwhile import meanwhile
from ranking.blocks import ItemBlock, Matrix
from ranking.bundle import Bundle
from ranking.features import FEATURES, Assembler
from ranking.forest import LEAST_ROWS, forest
from ranking.light import MOST_PER_USER, best_of_each, whole
from ranking.relief import Relief
from ranking.rows import AUTHOR, TOPIC, Records
from ranking.steadying import Draws, draws_of
from ranking.store import FeatureStore, Fetched
from ranking.texts import text_vectors
from ranking.value import ValueRule, value_of

CHUNK_S = 0.008
"""Aim of one chunk's time; the house limit is about 10 ms."""
LEAST_CHUNK_ROWS, MOST_CHUNK_ROWS = 256, 16_384
ASSEMBLY_SHARE = 1.3
"""What a row costs in all, over what its prediction costs."""

Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]
Chunk = slice | Places
"""Rows of a job: some that follow one another, or the places of all rows of some users."""


@dataclass(frozen=True)
class Scores:
    """One score per row, in the rows' order.

    `probability`, `value`: float32 (n,), NaN for a row that was cut, since its user had more than the limit. `known_user` (U,),
    `known_item` (I,): whether there was any state of them.
    """

    probability: Matrix
    value: Matrix
    model_id: str
    known_user: npt.NDArray[np.bool_]
    known_item: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ScoreRequest:
    """Rows to score: codes `user`, `item` (int32) and `channel` (uint8) into `users`, `items`, `channels`.

    `at`: the moment in seconds, or one per entry of `items`. `model_id`: the model that is to score, "" for the one that serves; the
    answer says which one did.
    """

    users: list[str]
    items: list[str]
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    channel: npt.NDArray[np.uint8]
    channels: tuple[str, ...]
    at: float | npt.NDArray[np.float64]
    model_id: str = ""

    def __len__(self) -> int:
        return len(self.user)


@dataclass
class Job:
    """A request whose state is at hand: run its `chunks` in any order, then take the `scores`.

    Where a user has more than `most_per_user` rows and the model has a light one, that one cuts them to so many; `cut` tells which.
    `relief`: what is done about rows or a model that the guard has found wrong.
    """

    bundle: Bundle
    assembler: Assembler
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    channel: npt.NDArray[np.uint8]
    known_user: npt.NDArray[np.bool_]
    known_item: npt.NDArray[np.bool_]
    chunk_rows: int
    rule: ValueRule = ValueRule()
    most_per_user: int = MOST_PER_USER
    relief: Relief | None = None
    probability: Matrix = field(init=False)
    risk: Matrix = field(init=False)
    cut: Bools = field(init=False)
    _draws: Draws = field(init=False)

    def __post_init__(self) -> None:
        self.probability, self.risk = np.full(len(self.user), np.nan, np.float32), np.full(len(self.user), np.nan, np.float32)
        self.cut = np.zeros(len(self.user), bool)
        self._draws = np.zeros(len(self.user) if self.relief else 0)

    @property
    def at(self) -> float:
        """The moment of the rows, the latest where they have several."""
        return float(self.assembler.items.at.max(initial=0.0))

    def chunks(self) -> list[Chunk]:
        """Return the rows of each chunk: in order, or all rows of some users where any user has too many."""
        if self._is_crowded.any():
            order = np.argsort(self.user, kind="stable")
            return [order[chunk] for chunk in whole(self.user[order], self.chunk_rows)]
        return [slice(start, min(start + self.chunk_rows, len(self.user))) for start in range(0, len(self.user), self.chunk_rows)]

    def features(self, chunk: Chunk) -> Matrix:
        """Return the feature rows of a chunk."""
        return self.assembler.rows(self.user[chunk], self.item[chunk], self.channel[chunk])

    def run(self, chunk: Chunk) -> None:
        """Predict the rows of a chunk; computes for about 10 ms and waits for nothing."""
        rows = self.features(chunk)
        if self.relief is not None:
            self._draws[chunk], rows = draws_of(rows), self.relief.rows(rows)
        if not isinstance(chunk, slice):
            kept = self._kept(chunk, rows)
            self.cut[chunk[~kept]] = True
            chunk, rows = chunk[kept], rows[kept]
        self.probability[chunk], self.risk[chunk] = self.bundle.probabilities(rows), self.bundle.opt_out.risks(rows)

    @cached_property
    def _is_crowded(self) -> Bools:
        """Which users have more rows than the limit, and are to have them cut."""
        rows = np.bincount(self.user) if self.bundle.light is not None else np.zeros(0, np.int64)
        return rows > self.most_per_user

    def _kept(self, places: Places, rows: Matrix) -> Bools:
        """Return which of the rows of whole users the heavy model is to rank."""
        kept = np.ones(len(places), bool)
        crowd = np.flatnonzero(self._is_crowded[self.user[places]])
        kept[crowd] = best_of_each(self.user[places[crowd]], self.bundle.foretold(rows[crowd]), self.most_per_user)
        return kept

    def scores(self) -> Scores:
        """Return the scores, once every chunk has run."""
        probability, value = self.probability, value_of(self.probability, self.risk, self.rule)
        if self.relief is not None:
            probability, value = self.relief.scores(probability, value, self._draws)
        return Scores(probability, value, self.bundle.model_id, self.known_user, self.known_item)


class Cache:
    """Records by key, fetched once and kept until the rows are made anew."""

    def __init__(self, kind: np.dtype[np.void]) -> None:
        self._keys: Keys64 = np.empty(0, np.uint64)
        self._rows: Records = np.empty(0, kind)

    def missing(self, keys: Keys64) -> Keys64:
        """Return which of some distinct keys are not here."""
        return keys[~np.isin(keys, self._keys, assume_unique=True)]

    def add(self, keys: Keys64, rows: Records) -> None:
        """Keep rows of keys that are not here yet."""
        joined = np.concatenate([self._keys, keys])
        order = np.argsort(joined)
        self._keys, self._rows = joined[order], np.concatenate([self._rows, rows])[order]

    def take(self, keys: Keys64) -> Records:
        """Return the rows of keys that are here, shape (n,)."""
        return self._rows[np.searchsorted(self._keys, keys)]


class Scorer:
    """Scores rows with one model from the store's state. Not for use by several threads at once.

    `table`: the items in memory. A call makes one round trip for users, counts and the time of the last refresh, one
    for changes of items, and one each for authors and topics that it has not met since the last refresh.
    `most_per_user`: candidates of one user that the heavy model ranks; the light one cuts the others.
    """

    def __init__(
        self,
        bundle: Bundle,
        store: FeatureStore,
        table: ItemTable,
        chunk_s: float = CHUNK_S,
        rule: ValueRule | None = None,
        most_per_user: int = MOST_PER_USER,
    ) -> None:
        self.bundle, self.store, self.table, self.rule = bundle, store, table, rule or bundle.rule
        self.most_per_user = most_per_user
        self.chunk_rows = chunk_rows_of(bundle, chunk_s)
        self._refreshed_at = np.nan
        self._authors, self._topics = Cache(AUTHOR), Cache(TOPIC)
        self._words: Matrix | None = None

    @property
    def model_id(self) -> str:
        """The id of the model in service."""
        return self.bundle.model_id

    def score(
        self,
        users: list[str],
        items: list[str],
        user: npt.NDArray[np.int32],
        item: npt.NDArray[np.int32],
        channel: npt.NDArray[np.uint8],
        channels: tuple[str, ...],
        at: float,
    ) -> Scores:
        """Return the scores of rows as of `at` (seconds); users and items without state are scored as new ones."""
        job = self.prepare(ScoreRequest(users, items, user, item, channel, channels, at))
        for chunk in job.chunks():
            job.run(chunk)
        return job.scores()

    def chunks(self, request: ScoreRequest) -> Iterator[Job]:
        """Score a request chunk by chunk, yielding the job after each, so that the caller can do other work between."""
        job = self.prepare(request)
        for chunk in job.chunks():
            job.run(chunk)
            yield job

    def prepare(self, request: ScoreRequest, relief: Relief | None = None) -> Job:
        """Fetch the state of a request; blocks for the round trips, computes nothing that takes long. `relief`: see Job."""
        at = np.broadcast_to(np.asarray(request.at, np.float64), len(request.items))
        syncing = meanwhile(lambda: self.table.sync(float(at.max()))) if len(at) else None
        fetched = self.store.get(request.users, request.items)
        if syncing is not None:
            syncing.result()
        self._forget_older_than(fetched.refreshed_at)
        columns, codes = self.table.with_missing(request.items)
        items = self._item_block(_rows_of(columns, codes, at), fetched, at)
        bundle = relief.bundle if relief is not None else self.bundle
        return Job(
            bundle=bundle,
            assembler=Assembler(fetched.users, items),
            user=request.user,
            item=request.item,
            channel=bundle.channel_codes(request.channels)[request.channel],
            known_user=fetched.known,
            known_item=codes >= 0,
            chunk_rows=self.chunk_rows,
            rule=self.rule,
            most_per_user=self.most_per_user,
            relief=relief,
        )

    def _forget_older_than(self, refreshed_at: float) -> None:
        if refreshed_at != self._refreshed_at:
            self._authors, self._topics, self._refreshed_at = Cache(AUTHOR), Cache(TOPIC), refreshed_at
            self._words = self.store.words()

    def _item_block(self, items: Items, fetched: Fetched, at: npt.NDArray[np.float64]) -> ItemBlock:
        used = max(1, int((items.topics != 0).sum(axis=1).max(initial=0)))
        topic_keys = np.unique(items.topics[items.topics != 0])
        authors = self._author_rows(items.author)
        return ItemBlock(
            at=at,
            created_at=items.created_at,
            latitude=items.latitude,
            longitude=items.longitude,
            author=items.author,
            kind=items.kind,
            topics=items.topics[:, :used],
            counts=fetched.items["counts"],
            vector=np.ascontiguousarray(fetched.items["vector"]),
            text=text_vectors(items.terms, self._words),
            author_stats=np.ascontiguousarray(authors["stats"]),
            author_vector=np.ascontiguousarray(authors["vector"]),
            audience_vector=np.ascontiguousarray(authors["audience"]),
            topic_keys=topic_keys,
            topic_stats=np.ascontiguousarray(self._topic_rows(topic_keys)["stats"]),
            week=fetched.week,
        )

    def _author_rows(self, keys: Keys64) -> Records:
        missing = self._authors.missing(np.unique(keys))
        if len(missing):
            self._authors.add(missing, self.store.get_authors(missing))
        return self._authors.take(keys)

    def _topic_rows(self, keys: Keys64) -> Records:
        missing = self._topics.missing(keys)
        if len(missing):
            self._topics.add(missing, self.store.get_topics(missing))
        return self._topics.take(keys)


def _rows_of(columns: Items, codes: npt.NDArray[np.int32], at: npt.NDArray[np.float64]) -> Items:
    """Return one row per requested item; one that is known nowhere is a new item without author or topics."""
    if (codes >= 0).all():
        return columns.take(codes)
    rows = Items.concat([columns, Items.from_rows([{"item_id": "", "created_at": 0.0}])]).take(np.where(codes >= 0, codes, len(columns)))
    return replace(rows, created_at=np.where(codes >= 0, rows.created_at, at))


def chunk_rows_of(bundle: Bundle, chunk_s: float) -> int:
    """Return how many rows this machine assembles and predicts in `chunk_s`, measured once."""
    # As many as all of the replica's threads take a part of: fewer would be predicted by one, and chunks be cut for it alone.
    enough = LEAST_ROWS * forest(bundle.booster).threads
    rows = np.random.default_rng(0).normal(size=(enough, len(FEATURES))).astype(np.float32)
    took_s = []
    for _ in range(4):
        started = perf_counter()
        bundle.margins(rows)
        took_s.append(perf_counter() - started)
    row_s = ASSEMBLY_SHARE * min(took_s) / len(rows)
    return int(np.clip(chunk_s / max(row_s, 1e-9), LEAST_CHUNK_ROWS, MOST_CHUNK_ROWS))
