"""What the benchmarks run on: seeded tables of a made-up site and a model of fixed shape trained on them, in a store of its own.

Every user follows a few topics with the same number of new posts, and some news trends, so that a window has exactly
`BenchData.per_user` candidates per user. The clock stands at NOW, so that every run decides about the same moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from lake.embedded import EmbeddedStore
from lake.ids import hash64
from lake.meta import Meta
from ranking import bundle as bundles
from ranking.examples import ExampleRule
from ranking.features import FEATURES
from ranking.redis_features import RedisFeatureStore
from ranking.refresh import refresh
from ranking.train import Shape, train
from scheduler.loading import load
from scheduler.redis_stores import RedisStores
from scheduler.send_time import fit

NOW = 1_781_092_800.0
"""2026-06-10 12:00 UTC, a Wednesday."""
DAY_S = 86_400.0
ZONES = ("America/Los_Angeles", "America/New_York", "America/Sao_Paulo", "Europe/London", "Europe/Berlin", "Asia/Kolkata", "Asia/Tokyo")

META = Meta()
TREES, DEPTH = 300, 6
SHAPE = Shape(
    {"max_depth": DEPTH, "eta": 0.05, "min_child_weight": 1.0, "subsample": 0.8, "colsample_bytree": 0.6, "lambda": 1.0}, TREES, patience=0
)
RULE = ExampleRule(history_s=30 * DAY_S, rows=40_000)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BenchData:
    """Sizes of the tables. Items of the last `HISTORY_DAYS` days come at an even pace; `learners`: users the model is trained on.

    Each user follows `follows` of the `topics` topics, reads those and others up to `interests`, and has engaged with about
    `reads` items. `fresh`: new posts per topic. `trending`: hot items of a topic that nobody follows. `urgent`: items of
    which the urgent bench tells.
    """

    users: int = 20_000
    learners: int = 600
    topics: int = 40
    authors: int = 1_200
    follows: int = 3
    interests: int = 8
    reads: int = 11
    items: int = 6_000
    fresh: int = 10
    trending: int = 20
    urgent: int = 2_000
    seed: int = 0

    @property
    def per_user(self) -> int:
        """Candidates of a user in a window."""
        return self.follows * self.fresh + self.trending

    @property
    def user_ids(self) -> list[str]:
        """The users' ids."""
        return [f"user-{number:06}" for number in range(self.users)]

    @property
    def urgent_ids(self) -> list[str]:
        """The ids of the items that the urgent bench tells of."""
        return [f"room-{number:05}" for number in range(self.urgent)]

    def dataset(self) -> Dataset:
        """Return the tables as known at NOW; the same sizes and seed give the same tables."""
        return _Site(self).dataset()


HISTORY_DAYS, LIVE_DAYS = 120, 7


@dataclass(frozen=True)
class _Site:
    data: BenchData

    @cached_property
    def _random(self) -> np.random.Generator:
        return np.random.default_rng(self.data.seed)

    @cached_property
    def _interests(self) -> Ints:
        """The topics that each user reads, those they follow first, (users, interests)."""
        draw = self._random.random((self.data.users, self.data.topics))
        return np.argsort(draw, axis=1)[:, : self.data.interests]

    @cached_property
    def _old_topic(self) -> Ints:
        return np.sort(np.arange(self.data.items) % self.data.topics)

    @cached_property
    def _old_born(self) -> Floats:
        return NOW - self._random.uniform(LIVE_DAYS + 0.1, HISTORY_DAYS, self.data.items) * DAY_S

    def dataset(self) -> Dataset:
        old, fresh, hot = self._old(), self._fresh(), self._hot()
        items = pd.concat([old, fresh, hot, self._urgent()], ignore_index=True)
        events = pd.concat([self._reads(old), self._buzz(hot["item_id"].to_numpy(object))], ignore_index=True)
        tables = {"users": self._users(), "items": items, "events": events, "follows": self._follows()}
        return Dataset.of(tables, _time(NOW))

    def _users(self) -> pd.DataFrame:
        zone = self._random.choice(np.array(ZONES, object), self.data.users)
        return pd.DataFrame({"user_id": self.data.user_ids, "timezone": zone, "created_at": _times(np.full(self.data.users, NOW - 4e7))})

    def _follows(self) -> pd.DataFrame:
        followed = self._interests[:, : self.data.follows]
        user_id = np.repeat(np.array(self.data.user_ids, object), self.data.follows)
        return pd.DataFrame({"user_id": user_id, "topic": [f"topic-{topic:02}" for topic in followed.ravel().tolist()]})

    def _old(self) -> pd.DataFrame:
        return self._posts([f"old-{number:05}" for number in range(self.data.items)], self._old_topic, self._old_born)

    def _fresh(self) -> pd.DataFrame:
        topic = np.repeat(np.arange(self.data.topics), self.data.fresh)
        born = NOW - self._random.uniform(0.1, LIVE_DAYS - 0.5, len(topic)) * DAY_S
        return self._posts([f"new-{number:05}" for number in range(len(topic))], topic, born)

    def _hot(self) -> pd.DataFrame:
        posts = self._posts(
            [f"hot-{number:03}" for number in range(self.data.trending)],
            np.zeros(self.data.trending, np.int64),
            NOW - self._random.uniform(0.2, 0.9, self.data.trending) * DAY_S,
        )
        return posts.assign(topics=pd.Series([["news"]] * len(posts), dtype=object))

    def _urgent(self) -> pd.DataFrame:
        """Rooms that have just opened and will soon be over; they carry no topic that anyone follows, so windows leave them alone."""
        topic = self._random.integers(0, self.data.topics, self.data.urgent)
        posts = self._posts(self.data.urgent_ids, topic, NOW - self._random.uniform(0, 60, self.data.urgent))
        own = pd.Series([["live", *topics[1:]] for topics in posts["topics"]], dtype=object)
        return posts.assign(topics=own, half_life_s=600.0, expires_at=_times(np.full(len(posts), NOW + 3600.0)))

    def _posts(self, ids: list[str], topic: Ints, born: Floats) -> pd.DataFrame:
        """Posts of a topic and of a kind, by one of the topic's authors, some of whom write most."""
        per_topic = self.data.authors // self.data.topics
        author = topic * per_topic + (per_topic * self._random.random(len(ids)) ** 2).astype(np.int64)
        kind = self._random.integers(0, 12, len(ids))
        return pd.DataFrame(
            {
                "item_id": ids,
                "created_at": _times(born),
                "author_id": [f"author-{number:04}" for number in author.tolist()],
                "topics": [[f"topic-{a:02}", f"style-{b:02}"] for a, b in zip(topic.tolist(), kind.tolist(), strict=True)],
            }
        )

    def _reads(self, old: pd.DataFrame) -> pd.DataFrame:
        """Each user reads of their topics, most of the first ones, at habitual hours."""
        random, each = self._random, self.data.reads
        user = np.repeat(np.arange(self.data.users), random.integers(each // 2, each * 3 // 2 + 1, self.data.users))
        place = (self.data.interests * random.random(len(user)) ** 1.5).astype(np.int64)
        starts = np.searchsorted(self._old_topic, np.arange(self.data.topics + 1))
        topic = self._interests[user, place]
        item = starts[topic] + (random.random(len(user)) ** 2 * np.diff(starts)[topic]).astype(np.int64)
        at = self._old_born[item] + random.exponential(0.8 * DAY_S, len(user))
        hour = np.clip(random.normal(13 + user % 9, 2.0), 0, 23.9)
        at = np.floor(at / DAY_S) * DAY_S + DAY_S + hour * 3600
        events = self._events(user, old["item_id"].to_numpy(object)[item], at)
        return events[at < NOW - 3600]

    def _buzz(self, hot: npt.NDArray[np.object_]) -> pd.DataFrame:
        user = self._random.integers(0, self.data.users, 60 * len(hot))
        return self._events(user, np.repeat(hot, 60), NOW - self._random.uniform(60, 0.15 * DAY_S, len(user)))

    def _events(self, user: Ints, item_ids: npt.NDArray[np.object_], at: Floats) -> pd.DataFrame:
        kind = np.where(self._random.random(len(user)) < 0.2, "like", "view")
        user_id = np.array(self.data.user_ids, object)[user]
        return pd.DataFrame({"user_id": user_id, "item_id": item_ids, "kind": kind, "at": _times(at)})


def _times(seconds: Floats) -> pd.DatetimeIndex:
    return pd.to_datetime((seconds * 1e6).astype(np.int64), unit="us", utc=True)


def _time(seconds: float) -> pd.Timestamp:
    return pd.Timestamp(seconds, unit="s", tz="UTC")


def write_model(dataset: Dataset, data: BenchData, folder: Path) -> None:
    """Train TREES trees of DEPTH on the first users' part of the tables, and write the bundle."""
    few = {
        name: frame[frame["user_id"].isin(data.user_ids[: data.learners])] for name, frame in dataset.tables.items() if "user_id" in frame
    }
    trained = train(Dataset.of_checked(dataset.tables | few), NOW, rule=RULE, shape=SHAPE)
    bundles.write(folder, trained.booster, trained.calibration, trained.metrics, trained.window, NOW, light=trained.light)


@dataclass(frozen=True)
class Bench:
    """A filled store, whose clock stands at NOW, and a model. `home`: a folder that is gone when the bench ends."""

    data: BenchData
    home: Path
    store: EmbeddedStore
    stores: RedisStores
    model: Path

    @property
    def features(self) -> RedisFeatureStore:
        """The features of users and items."""
        return RedisFeatureStore(self.stores.client, self.stores.meta.keys)

    def facts(self) -> dict[str, Any]:
        """Return what a report says of the data: how large a user's state is, and the model."""
        users = self.features.get(self.data.user_ids[:2_000], []).users
        metrics = bundles.load(self.model, verified=True).metrics
        return {
            "users": self.data.users,
            "author_affinities": round(float(np.diff(users.authors.start).mean()), 1),
            "topic_affinities": round(float(np.diff(users.topics.start).mean()), 1),
            "trees": metrics["trees"],
            "depth": metrics["shape"]["max_depth"],
            "auc": metrics["validation"]["auc"],
        }


@contextmanager
def bench(data: BenchData, keep: Path | None = None) -> Iterator[Bench]:
    """Make the tables, train the model, fill a store as durable as the one that serves; all is gone in the end.

    `keep`: a folder that keeps what was made, to start from the next time; never changed by a run.
    """
    with TemporaryDirectory(prefix="tidings-") as folder:
        home = Path(folder)
        made = home / "made" if keep is None else keep / f"{hash64([repr((data, FEATURES))])[0]:016x}"
        if not made.exists():
            _make(data, home / "new")
            made.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(home / "new", made)
        shutil.copytree(made / "store", home / "store", ignore=shutil.ignore_patterns("*.sock"))
        with EmbeddedStore(home / "store") as store:
            yield Bench(data, home, store, RedisStores.open(store.url, META), made / "model")


def _make(data: BenchData, folder: Path) -> None:
    dataset = data.dataset()
    write_model(dataset, data, folder / "model")
    with EmbeddedStore(folder / "store") as store:
        stores = RedisStores.open(store.url, META)
        stores.clock.hold(NOW)
        load(dataset, stores.loading(), NOW, fit(dataset.events, dataset.users, now=NOW))
        refresh(dataset, NOW, RedisFeatureStore(stores.client, META.keys), with_counts=True)
