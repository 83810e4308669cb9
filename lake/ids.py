"""64-bit keys of strings and of combinations of keys, the same on every machine and in every process."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from pandas.util import hash_array

Keys64 = npt.NDArray[np.uint64]

REMEMBERED = 1 << 14
"""Users whose shard is remembered: a batch asks for the same ones once per kind of key."""

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash64(strings: Sequence[str] | npt.NDArray[np.object_]) -> Keys64:
    """Return the SipHash-2-4 keys of `strings`, shape (n,); 0 is reserved for "none" and never returned."""
    if len(strings) == 0:
        return np.empty(0, np.uint64)
    array = np.asarray(strings, dtype=object)
    return np.maximum(hash_array(array, categorize=False), np.uint64(1))


def topic_key(topics: Sequence[str]) -> Keys64:
    """Return the keys of topics, apart from those of people of the same name."""
    return hash64([f"topic\x1f{topic}" for topic in topics])


def author_key(authors: Sequence[str]) -> Keys64:
    """Return the keys of authors; an author is a user, so this is the user's own key."""
    return hash64(authors)


def combine(*parts: npt.NDArray[np.generic]) -> Keys64:
    """Return one key per row of the given integer columns, mixed with splitmix64's finaliser (Steele et al. 2014)."""
    key = np.zeros(np.broadcast_shapes(*(np.shape(part) for part in parts)), np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            key = key + _GOLDEN ^ part.astype(np.uint64)
            key = (key ^ (key >> np.uint64(30))) * _MIX_1
            key = (key ^ (key >> np.uint64(27))) * _MIX_2
            key = key ^ (key >> np.uint64(31))
    return np.maximum(key, np.uint64(1))


@lru_cache(maxsize=REMEMBERED)
def shard_of(user_id: str, shards: int) -> int:
    """Return the shard that owns a user: crc32(user_id) % shards."""
    return zlib.crc32(user_id.encode()) % shards


def shards_of(user_ids: Iterable[str], shards: int) -> npt.NDArray[np.int32]:
    """Return the shard of each user, shape (n,)."""
    return np.array([shard_of(user, shards) for user in user_ids], np.int32)
