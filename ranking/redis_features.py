"""Served state on a Redis-protocol server: packed strings, so that a batch is one MGET, and one script per engagement."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from redis import Redis

from lake.ids import Keys64, author_key
from lake.keys import LAYOUT, Keys
from lake.redis_scripts import script_of
from ranking.blocks import DIMENSIONS, TEXT_DIMENSIONS, Matrix, UserBlock, Week, even_week
from ranking.rows import AUTHOR, ITEM, TOPIC, USER, Records, pack, pack_users, unpack, unpack_users
from ranking.store import KEEP_ITEMS_S, Fetched

REFRESHED = f"{LAYOUT}:features-refreshed"
WORDS = f"{LAYOUT}:features-words"
ENGAGED = f"{Keys.ITEM_COUNTS}u"
ROWS_PER_WRITE = 5_000

_EPOCH = USER.fields["epoch"][1] if USER.fields else 0
_VECTOR = USER.fields["vector"][1] if USER.fields else 0
_VECTOR_END = _VECTOR + 4 * DIMENSIONS


@dataclass(frozen=True)
class RedisFeatureStore:
    """The feature store on one node, whose MGET may span all shards."""

    client: Redis
    keys: Keys

    def get(self, user_ids: Sequence[str], item_ids: Sequence[str]) -> Fetched:
        """See FeatureStore."""
        users, items = self.keys.of_users(Keys.FEATURES, list(user_ids)), self.keys.of_users(Keys.ITEM_COUNTS, list(item_ids))
        refreshed, *rows = self._mget([REFRESHED, *users, *items])
        block, known = unpack_users(rows[: len(users)])
        mark = np.frombuffer(refreshed) if refreshed else np.append(np.nan, even_week())
        return Fetched(block, known, unpack(rows[len(users) :], ITEM), float(mark[0]), mark[1:])

    def put_users(self, user_ids: Sequence[str], users: UserBlock, epoch: float) -> None:
        """See FeatureStore."""
        self._write(dict(zip(self.keys.of_users(Keys.FEATURES, list(user_ids)), pack_users(users, epoch), strict=True)))

    def get_authors(self, keys: Keys64) -> Records:
        """See FeatureStore."""
        return self._read(Keys.AUTHOR, keys, AUTHOR)

    def put_authors(self, keys: Keys64, rows: Records) -> None:
        """See FeatureStore."""
        self._write(dict(zip(self._names(Keys.AUTHOR, keys), pack(rows), strict=True)))

    def get_topics(self, keys: Keys64) -> Records:
        """See FeatureStore."""
        return self._read(Keys.TOPIC, keys, TOPIC)

    def put_topics(self, keys: Keys64, rows: Records) -> None:
        """See FeatureStore."""
        self._write(dict(zip(self._names(Keys.TOPIC, keys), pack(rows), strict=True)))

    def put_items(self, item_ids: Sequence[str], rows: Records, engaged: Sequence[Keys64]) -> None:
        """See FeatureStore."""
        pipe = self.client.pipeline(transaction=False)
        for item_id, row, users in zip(item_ids, pack(rows), engaged, strict=True):
            counts, people = self._item(item_id)
            pipe.set(counts, row, ex=KEEP_ITEMS_S)
            pipe.delete(people)
            if len(users):
                pipe.sadd(people, *users.view(np.int64).tolist())
                pipe.expire(people, KEEP_ITEMS_S)
        pipe.execute()

    def engaged_with(self, item_ids: Sequence[str]) -> list[Keys64]:
        """See FeatureStore."""
        pipe = self.client.pipeline(transaction=False)
        for item_id in item_ids:
            pipe.smembers(self._item(item_id)[1])
        return [np.sort(np.array([int(key) for key in users], np.int64).view(np.uint64)) for users in pipe.execute()]

    def put_item_vectors(self, item_ids: Sequence[str], vectors: npt.NDArray[np.float32], epoch: float, users: Sequence[int]) -> list[str]:
        """See FeatureStore."""
        made_at = np.float64(epoch).tobytes()
        pipe = self.client.pipeline(transaction=False)
        for item_id, vector, count in zip(item_ids, vectors, users, strict=True):
            self._set_vector(keys=self._item(item_id), args=[count, made_at, vector.astype("<f4").tobytes()], client=pipe)
        return [item_id for item_id, done in zip(item_ids, pipe.execute(), strict=True) if not done]

    def record_engagements(self, item_ids: Sequence[str], user_ids: Sequence[str], at: Sequence[float]) -> None:
        """See FeatureStore."""
        pipe = self.client.pipeline(transaction=False)
        for name in self.keys.of_users(Keys.FEATURES, list(user_ids)):
            pipe.getrange(name, _EPOCH, _VECTOR_END - 1)
        embedded = pipe.execute()
        people = author_key(user_ids).view(np.int64).tolist()
        for item_id, key, moment, row in zip(item_ids, people, at, embedded, strict=True):
            args = [key, np.float64(moment).tobytes(), row[:8], row[8:], DIMENSIONS, KEEP_ITEMS_S]
            self._engage(keys=self._item(item_id), args=args, client=pipe)
        pipe.execute()

    def words(self) -> Matrix | None:
        """See FeatureStore."""
        packed = self._mget([WORDS])[0]
        return np.frombuffer(packed, np.float32).reshape(-1, TEXT_DIMENSIONS) if packed else None

    def put_words(self, words: Matrix | None) -> None:
        """See FeatureStore."""
        if words is None:
            self.client.delete(WORDS)
        else:
            self.client.set(WORDS, words.astype("<f4").tobytes())

    def mark_refreshed(self, as_of: float, week: Week) -> None:
        """See FeatureStore."""
        self.client.set(REFRESHED, np.append(as_of, week).tobytes())

    def delete_users(self, user_ids: Sequence[str]) -> None:
        """See FeatureStore."""
        if user_ids:
            authors = self._names(Keys.AUTHOR, author_key(user_ids))
            self.client.delete(*self.keys.of_users(Keys.FEATURES, list(user_ids)), *authors)

    def disengage(self, user_id: str, item_ids: Sequence[str]) -> None:
        """See FeatureStore."""
        (key,) = author_key([user_id]).view(np.int64).tolist()
        pipe = self.client.pipeline(transaction=False)
        for item_id in item_ids:
            pipe.srem(self._item(item_id)[1], key)
        pipe.execute()

    def delete_items(self, item_ids: Sequence[str]) -> None:
        """See FeatureStore."""
        if item_ids:
            self.client.delete(*(name for item_id in item_ids for name in self._item(item_id)))

    @cached_property
    def _engage(self) -> Any:
        return script_of(self.client, "ranking", "engage")

    @cached_property
    def _set_vector(self) -> Any:
        return script_of(self.client, "ranking", "set_vector")

    def _item(self, item_id: str) -> list[str]:
        return [self.keys.of_user(kind, item_id) for kind in (Keys.ITEM_COUNTS, ENGAGED)]

    def _names(self, kind: str, keys: Keys64) -> list[str]:
        return self.keys.of_users(kind, [f"{key:016x}" for key in keys.tolist()])

    def _read(self, kind: str, keys: Keys64, record: np.dtype[Any]) -> Records:
        return unpack(self._mget(self._names(kind, keys)) if len(keys) else [], record)

    def _mget(self, names: list[str]) -> list[bytes | None]:
        return [row for row in self.client.mget(names) if not isinstance(row, str)]  # none is, since no client of ours decodes

    def _write(self, rows: Mapping[str, bytes]) -> None:
        for part in _parts(list(rows.items())):
            self.client.mset(dict(part))


def _parts(rows: list[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    for start in range(0, len(rows), ROWS_PER_WRITE):
        yield rows[start : start + ROWS_PER_WRITE]
