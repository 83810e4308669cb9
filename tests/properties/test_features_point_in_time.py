"""No feature knows the future, and none depends on where it is computed."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from redis import Redis

from budgets.ledger import MemoryLedger
from lake.dataset import Dataset
from lake.follows import MemoryFollowStore
from lake.items import ItemTable, MemoryItemStore, rows_of_frame
from lake.meta import Meta
from lake.profiles import MemoryProfileStore
from lake.seen import MemorySeenStore
from ranking.blocks import Matrix
from ranking.features import FEATURES, TEXT_FEATURES, VECTOR_FEATURES
from ranking.join import features_at
from ranking.offline import State
from ranking.offline_score import score_candidates
from ranking.past import Past
from ranking.redis_features import RedisFeatureStore
from ranking.refresh import refresh
from ranking.scorer import ScoreRequest
from ranking.store import FeatureStore, MemoryFeatureStore
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores
from simulation.playback import Features, Playback
from tests.unit.ranking.models import scorer_of
from tests.unit.ranking.worlds import DAYS, START, world


def with_taps(dataset: Dataset) -> Dataset:
    """Return a world in which every third send is known to have been answered, some hours or days after it."""
    sends = dataset.sends.copy()
    answered = np.arange(len(sends)) % 3 == 0
    taken = pd.to_timedelta(1 + np.arange(len(sends)) * 7 % 100, unit="h")
    sends["engaged_at"] = (sends["at"] + taken).where(pd.Series(answered, index=sends.index))
    return Dataset.of({name: frame for name, frame in (dataset.tables | {"sends": sends}).items() if len(frame)})


WORLD = with_taps(world(1))
USERS, ITEMS = [f"u{i}" for i in range(25)], [f"i{i}" for i in range(120)]


def features(dataset: Dataset, at: pd.Timestamp) -> Matrix:
    """Return the features of every user with every item born before `at`, as of `at`."""
    past = Past.of(dataset)
    born = WORLD.items.loc[WORLD.items["created_at"] < at, "item_id"]
    user = pd.Index(past.user_ids).get_indexer(pd.Index(USERS))
    item = pd.Index(past.items.ids).get_indexer(pd.Index(born))
    users, items = np.repeat(user, len(item)).astype(np.int32), np.tile(item, len(user)).astype(np.int32)
    channel = np.zeros(len(users), np.uint8)
    return features_at(State(past), users, items, channel, np.full(len(users), at.timestamp()))


def with_other_future(at: pd.Timestamp, seed: int) -> Dataset:
    """Return the world with everything at or after `at` shuffled: who, what, when, and which kind."""
    random = np.random.default_rng(seed)
    events = WORLD.events.copy()
    later = np.flatnonzero(events["at"] >= at)
    for name in ("user_id", "item_id", "kind"):
        events[name] = _shuffled(events[name], later, random)
    delay_days = np.where(events["at"] >= at, random.integers(0, 20, len(events)), 0)
    events["at"] = events["at"] + pd.to_timedelta(delay_days, unit="D")
    told = events["utc_offset_minutes"].to_numpy().copy()
    told[later] = 60.0 * random.integers(-11, 12, len(later))
    events["utc_offset_minutes"] = told
    items = WORLD.items.copy()
    unborn = np.flatnonzero(items["created_at"] >= at)
    for name in ("author_id", "title", "kind"):
        items[name] = _shuffled(items[name], unborn, random)
    for names in (["topics"], ["latitude", "longitude"]):
        items.loc[items.index[unborn], names] = items.loc[items.index[random.permutation(unborn)], names].to_numpy()
    sends = WORLD.sends.copy()
    for name in ("user_id", "item_id"):
        sends[name] = _shuffled(sends[name], np.flatnonzero(sends["at"] >= at), random)
    open_still = np.flatnonzero(~(sends["engaged_at"] < at))
    later_on = at + pd.to_timedelta(random.integers(0, 20 * 24, len(sends)), unit="h")
    kept = pd.Series(random.random(len(sends)) < 0.5, index=sends.index)
    sends.loc[sends.index[open_still], "engaged_at"] = pd.Series(later_on, index=sends.index).where(kept).iloc[open_still]
    sends = sends[(WORLD.sends["at"] < at) | (random.random(len(WORLD.sends)) < 0.5)]
    return Dataset.of({"users": WORLD.users, "items": items, "events": events, "sends": sends})


def _shuffled(column: pd.Series[str], rows: npt.NDArray[np.intp], random: np.random.Generator) -> pd.Series[str]:
    values = column.to_numpy(object).copy()
    values[rows] = random.permutation(values[rows])
    return pd.Series(values, index=column.index, dtype="str")


def test_each_feature_differs_from_row_to_row_in_this_world_so_that_these_tests_can_fail() -> None:
    found = features(WORLD, START + pd.Timedelta(days=41.9))
    same = [name for place, name in enumerate(FEATURES) if len(np.unique(found[~np.isnan(found[:, place]), place])) < 2]
    assert same == ["channel"], "which is what it was asked with"


@settings(max_examples=15)
@given(st.floats(3, DAYS - 1), st.integers(0, 1000))
def test_changing_anything_at_or_after_a_moment_changes_no_feature_at_that_moment(day: float, seed: int) -> None:
    at = (START + pd.Timedelta(days=day)).floor("s")
    before, after = features(WORLD, at), features(with_other_future(at, seed), at)
    changed = [name for place, name in enumerate(FEATURES) if not np.array_equal(before[:, place], after[:, place], equal_nan=True)]
    assert changed == []


@settings(max_examples=10)
@given(st.floats(3, DAYS - 1))
def test_a_moment_looks_the_same_when_the_log_ends_there(day: float) -> None:
    at = (START + pd.Timedelta(days=day)).floor("s")
    ended = Dataset.of({name: frame for name, frame in WORLD.tables.items() if len(frame)}, at)
    assert np.array_equal(features(WORLD, at), features(ended, at), equal_nan=True)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> FeatureStore:
    if request.param == "memory":
        return MemoryFeatureStore()
    client: Redis = request.getfixturevalue("redis_client")
    return RedisFeatureStore(client, Meta().keys)


@pytest.mark.parametrize("day", [20.3, 41.9])
def test_training_replay_files_and_serving_give_the_same_rows_the_same_features_and_scores(store: FeatureStore, day: float) -> None:
    at = (START + pd.Timedelta(days=day)).floor("s")
    known = Dataset.of({name: frame for name, frame in WORLD.tables.items() if len(frame)}, at)
    young = known.items[known.items["created_at"] > at - pd.Timedelta(days=14)]
    users, ids = [*USERS, "nobody"], young["item_id"].tolist()
    live_since = at.floor("D")
    refresh(Dataset.of({k: v for k, v in known.tables.items() if len(v)}, live_since), live_since.timestamp(), store, with_counts=True)
    replay_events(known, live_since, store)
    items = MemoryItemStore()
    items.put(rows_of_frame(young))
    user, item = np.repeat(np.arange(len(users)), len(ids)).astype(np.int32), np.tile(np.arange(len(ids)), len(users)).astype(np.int32)
    request = ScoreRequest(users, ids, user, item, np.zeros(len(user), np.uint8), ("in_app",), at.timestamp())
    seen = user < len(USERS)
    trained = features(known, at).reshape(len(USERS), -1, len(FEATURES))[:, -len(ids) :].reshape(-1, len(FEATURES))

    replayed, table = replayed_until(at)
    serving, replaying = scorer_of(store, ItemTable(items)), scorer_of(replayed, table)
    expected = serving.bundle.probabilities(np.ascontiguousarray(trained))
    for scorer in (serving, replaying):
        job = scorer.prepare(request)
        found = np.concatenate([job.features(chunk) for chunk in job.chunks()])
        np.testing.assert_array_less(apart(found[seen], trained), 1e-5)
        scores = scorer.score(users, ids, user, item, request.channel, request.channels, at.timestamp())
        np.testing.assert_allclose(scores.probability[seen], expected, rtol=0, atol=1e-6)
        assert np.isfinite(scores.value).all()
        assert scores.known_user.tolist() == [True] * len(USERS) + [False]

    rows = pd.DataFrame({"user_id": np.array(users, object)[user], "item_id": np.array(ids, object)[item], "channel": "in_app", "at": at})
    filed = score_candidates(serving.bundle, known, rows)
    served = serving.score(users, ids, user, item, request.channel, request.channels, at.timestamp())
    np.testing.assert_allclose(filed["probability"].to_numpy()[seen], served.probability[seen], rtol=0, atol=1e-6)
    np.testing.assert_allclose(filed["score"].to_numpy()[seen], served.value[seen], rtol=0, atol=1e-6)


def apart(found: Matrix, expected: Matrix) -> Matrix:
    """Return how far features are apart, relatively; a product of vectors that is 0 but for float32's rounding, beside the largest one."""
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    same = np.isnan(expected) | (found == expected)
    size = np.abs(expected)
    products = [place for place, name in enumerate(FEATURES) if name in (*VECTOR_FEATURES, *TEXT_FEATURES)]
    size[:, products] = np.maximum(size[:, products], 0.02 * np.nanmax(size[:, products], axis=0))
    found_apart: Matrix = np.divide(np.abs(found - expected), size, out=np.zeros_like(expected), where=~same)
    return found_apart


def replayed_until(at: pd.Timestamp) -> tuple[FeatureStore, ItemTable]:
    """Play the whole world, its future included, from two days before a moment up to it, as a replay does; return what it ranks by."""
    meta, features_of = Meta(shards=1), Features.of(WORLD, MemoryFeatureStore())
    stores = Stores(meta, MemoryProfileStore(), MemoryFollowStore(meta), MemoryItemStore(), MemoryDueIndex(meta.shards))
    since = (at - pd.Timedelta(days=2)).timestamp()
    playback = Playback(WORLD, stores, MemorySeenStore(), MemoryLedger(), features_of, since, windows_per_week=3)
    playback.start()
    playback.advance(at.timestamp())
    return features_of.store, ItemTable(stores.items)


def replay_events(dataset: Dataset, since: pd.Timestamp, store: FeatureStore) -> None:
    """Hand the engagements since a moment to the store, one by one as they came."""
    later = dataset.events[(dataset.events["at"] >= since) & (dataset.events["kind"] != "unsubscribe")]
    for user_id, item_id, moment in zip(later["user_id"], later["item_id"], later["at"], strict=True):
        store.record_engagements([item_id], [user_id], [moment.timestamp()])
