"""The daily refresh: offline rows of everybody as of a moment, computed from the log and published to the store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lake.dataset import Dataset
from lake.ids import Keys64
from lake.items import MAX_AGE_S
from ranking.blocks import Matrix
from ranking.embeddings import epoch_of
from ranking.offline import State
from ranking.past import Past
from ranking.rows import AUTHOR, ITEM, TOPIC, Records
from ranking.store import FeatureStore

USERS_PER_WRITE = 20_000


@dataclass(frozen=True)
class Refreshed:
    """How many rows a refresh wrote, and the moment they are as of."""

    users: int
    authors: int
    topics: int
    items: int
    as_of: float


def refresh(dataset: Dataset, as_of: float, store: FeatureStore, *, with_counts: bool = False) -> Refreshed:
    """Publish the offline state in force at `as_of` (seconds): the last midnight's, or that of the day a gap began.

    `with_counts` also replaces the real-time counts of items of the last 14 days by those strictly before `as_of`: for
    the first load of a store. Later refreshes leave counts alone, since the store knows what came after `as_of`; they
    only sum the new embeddings of those who engaged.
    """
    return refresh_from(State(Past.of(dataset)), as_of, store, with_counts=with_counts, by_part=True)


def refresh_from(state: State, at: float, store: FeatureStore, *, with_counts: bool = False, by_part: bool = False) -> Refreshed:
    """Do what `refresh` does with a state that is at hand, as replay does each day of one log.

    `by_part`: make the logs of a part of the users at a time, and keep none: for a state that is asked once.
    """
    past = state.past
    as_of = float(past.refreshed_at(np.array([at]))[0])
    for start in range(0, len(past.user_ids), USERS_PER_WRITE):
        codes = np.arange(start, min(start + USERS_PER_WRITE, len(past.user_ids)), dtype=np.int32)
        mine = state.part(codes, as_of) if by_part else state
        store.put_users(past.user_ids[codes].tolist(), mine.users(codes, as_of), epoch_of(as_of))
    authors, topics = _distinct(past.items.author), _distinct(past.items.topics)
    store.put_authors(authors, author_rows(state, authors, as_of))
    store.put_topics(topics, topic_rows(state, topics, as_of))
    items = _put_counts(state, at, as_of, store) if with_counts else _put_vectors(state, at, as_of, store)
    store.put_words(state.words(as_of))
    store.mark_refreshed(as_of, state.week(as_of))
    return Refreshed(len(past.user_ids), len(authors), len(topics), items, as_of)


def author_rows(state: State, authors: Keys64, as_of: float) -> Records:
    """Return the rows of authors, kind AUTHOR."""
    rows = np.zeros(len(authors), AUTHOR)
    rows["stats"], rows["vector"] = state.author_stats(authors, as_of), state.author_vectors(authors, as_of)
    rows["audience"] = state.audience_vectors(authors, as_of)
    return rows


def topic_rows(state: State, topics: Keys64, as_of: float) -> Records:
    """Return the rows of topics, kind TOPIC."""
    rows = np.zeros(len(topics), TOPIC)
    rows["stats"] = state.topic_stats(topics, as_of)
    return rows


def _distinct(keys: Keys64) -> Keys64:
    return np.unique(keys[keys != 0])


def _young(state: State, at: float) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    born_at = state.past.items.created_at
    return np.flatnonzero((born_at > at - MAX_AGE_S) & (born_at <= at)).astype(np.int32)


def _put_counts(state: State, at: float, as_of: float, store: FeatureStore) -> int:
    items = _young(state, at)
    block = state.items(items, np.full(len(items), at), as_of)
    rows = np.zeros(len(items), ITEM)
    rows["counts"], rows["vector"], rows["epoch"] = block.counts, block.vector, epoch_of(as_of)
    engaged = state.engaged_with(items, at)
    store.put_items(state.past.items.ids[items].tolist(), rows, engaged)
    return len(items)


def _put_vectors(state: State, at: float, as_of: float, store: FeatureStore) -> int:
    """Sum the vectors of those who engaged with young items, again for items that somebody engages with meanwhile."""
    items: list[str] = state.past.items.ids[_young(state, at)].tolist()
    count = len(items)
    while items:
        engaged = store.engaged_with(items)
        vectors = np.stack([_sum(state.author_vectors(keys, as_of)) for keys in engaged])
        items = store.put_item_vectors(items, vectors, epoch_of(as_of), [len(keys) for keys in engaged])
    return count


def _sum(vectors: Matrix) -> Matrix:
    total: Matrix = vectors.sum(axis=0, dtype=np.float64).astype(np.float32)
    return total
