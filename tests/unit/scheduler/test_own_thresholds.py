"""The daily job of a shard: it reads whole days once, goes on where it died, and keeps nothing of those who were erased."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from redis import Redis

from budgets.experiments import Holdout
from budgets.keeping import KeptName
from lake.history import History
from lake.ids import hash64
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, ProfileStore, blank
from lake.user_keys import MemoryUserKeys, UserKeys
from scheduler.due import DueIndex, MemoryDueIndex
from scheduler.own_thresholds import DAY_S, OwnConfig, OwnJob, ShardState, forget, soft_budgets
from scheduler.thresholds import MemoryThresholds, Thresholds
from serve_app import Settings, learn_thresholds, stores_of

META = Meta(shards=1, channels=("in_app", "push"))
USERS = [f"user{number}" for number in range(60)]
FIRST = 20_000
"""The UTC day number of the first day."""


@dataclass
class House:
    """A shard whose users are offered ten values a day, of which those above their threshold are sent."""

    history: History
    due: DueIndex = field(default_factory=lambda: MemoryDueIndex(1))
    keys: UserKeys = field(default_factory=MemoryUserKeys)
    profiles: ProfileStore = field(default_factory=MemoryProfileStore)
    thresholds: Thresholds = field(default_factory=MemoryThresholds)
    holdout: Holdout = field(default_factory=Holdout)
    name: KeptName = "steered"

    @property
    def job(self) -> OwnJob:
        weekly = np.array([10, 5], np.uint8)
        return OwnJob(
            META, self.due, self.profiles, self.keys, self.thresholds, self.history, ("in_app",), weekly, OwnConfig(self.name), self.holdout
        )

    def own(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        found = self.thresholds.own(USERS, np.zeros(len(USERS), np.int64), 0.0)
        assert found is not None
        return found

    def pass_day(self, number: int) -> float:
        """Log a day's decisions; return the mean sends."""
        rng, own = np.random.default_rng(number), self.thresholds.own(USERS, np.zeros(len(USERS), np.int64), 0.0)
        bar = np.zeros(len(USERS)) if own is None else np.nan_to_num(own[:, 0])
        value = rng.random((len(USERS), 10)).astype(np.float32)
        sent = value >= bar[:, None]
        frame = pd.DataFrame(
            {
                "at": pd.to_datetime([number * DAY_S + 3600.0] * value.size, unit="s", utc=True),
                "user_key": np.repeat(np.array(self.keys.of(USERS), object), 10),
                "item_id": [f"i{number}-{item}" for _ in USERS for item in range(10)],
                "channel": "in_app",
                "lane": "scheduled",
                "value": value.ravel(),
                "disposition": np.where(sent.ravel(), "send", "below_threshold"),
                "weight": np.float32(1),
            }
        )
        self.history.write("decisions", frame, at="at", shard=0, name=f"day{number}")
        return float(sent.sum() / len(USERS))


@pytest.fixture(params=get_args(KeptName))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    return settled(House(History(str(tmp_path / "history")), name=request.param))


def settled(house: House) -> House:
    """Return a house whose users have profiles and windows."""
    house.profiles.put(USERS, blank(len(USERS)))
    house.due.enroll(USERS, np.zeros(len(USERS), np.int64))
    return house


def noon_after(number: int) -> float:
    return (number + 1) * DAY_S + 12 * 3600.0


def test_a_job_each_day_brings_sends_to_four_fifths_of_the_hard_budget_or_near_to_it(house: House) -> None:
    sends = []
    for number in range(FIRST, FIRST + 16):
        sends.append(house.pass_day(number))
        assert house.job.run(0, noon_after(number)) == 1
    assert sum(sends[-7:]) == (pytest.approx(8.0, rel=0.1) if house.name == "steered" else pytest.approx(10.0, rel=0.15))
    assert np.isnan(house.own()[:, 1]).all()


def test_a_day_that_was_read_is_not_read_again_and_days_that_were_missed_are(house: House) -> None:
    house.pass_day(FIRST)
    assert house.job.run(0, noon_after(FIRST)) == 1
    kept, state = house.own(), house.thresholds.state(0)
    assert house.job.run(0, noon_after(FIRST)) == 0
    assert np.array_equal(house.own(), kept, equal_nan=True)
    assert house.thresholds.state(0) == state
    for number in range(FIRST + 1, FIRST + 4):
        house.pass_day(number)
    assert house.job.run(0, noon_after(FIRST + 3)) == 3
    assert ShardState.unpack(house.thresholds.state(0)).day == FIRST + 3


def test_a_job_that_died_before_it_wrote_is_begun_again_with_the_same_result(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.pass_day(FIRST)
    house.job.run(0, noon_after(FIRST))
    house.pass_day(FIRST + 1)
    before = house.thresholds.state(0)

    def dies(*_: object) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(house.thresholds, "write_own", dies)
        with pytest.raises(ConnectionError):
            house.job.run(0, noon_after(FIRST + 1))
    assert house.thresholds.state(0) == before
    assert house.job.run(0, noon_after(FIRST + 1)) == 1
    assert ShardState.unpack(house.thresholds.state(0)).day == FIRST + 1


def test_days_without_offers_let_nobody_be_told_more_of_what_has_piled_up(house: House) -> None:
    for number in range(FIRST, FIRST + 8):
        house.pass_day(number)
        house.job.run(0, noon_after(number))
    kept = house.own()
    assert house.job.run(0, noon_after(FIRST + 10)) == 3
    assert np.array_equal(np.isnan(house.own()), np.isnan(kept))
    assert not (house.own() < kept).any()


def test_those_who_were_erased_leave_the_thresholds_and_their_state_and_come_back_as_strangers(house: House) -> None:
    house.pass_day(FIRST)
    house.job.run(0, noon_after(FIRST))
    house.due.remove(USERS[:1])
    forget(house.thresholds, USERS[:1], META.shards)
    assert np.isnan(house.own()[0]).all()
    assert not np.isnan(house.own()[1:, 0]).any()
    assert hash64(USERS[:1])[0] not in ShardState.unpack(house.thresholds.state(0)).key
    house.pass_day(FIRST + 1)
    house.job.run(0, noon_after(FIRST + 1))
    assert np.isnan(house.own()[0]).all()
    house.due.enroll(USERS[:1], np.zeros(1, np.int64))
    house.pass_day(FIRST + 2)
    house.job.run(0, noon_after(FIRST + 2))
    assert not np.isnan(house.own()[:, 0]).any()


def test_a_user_erased_while_the_job_runs_is_not_written_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.pass_day(FIRST)
    job, known = house.job, house.keys.known

    def erasing(users: list[str]) -> list[str | None]:
        house.due.remove(USERS[5:6])
        return known(users)

    monkeypatch.setattr(house.keys, "known", erasing)
    job.run(0, noon_after(FIRST))
    assert np.isnan(house.own()[5]).all()


def test_a_deployment_keeps_the_same_thresholds_on_its_server_as_a_job_does_in_memory(
    house: House, redis_client: Redis, embedded_store: str, tmp_path: Path
) -> None:
    del redis_client  # empties the store
    url = str(tmp_path / "served")
    settings = Settings(
        model="not asked for", redis_url=embedded_store, shards=1, history=url, weekly={"in_app": 10}, own_thresholds=house.name
    )
    stores = stores_of(settings)
    served = settled(House(History(url), stores.due, stores.user_keys, stores.profiles, stores.thresholds))
    for number in range(FIRST, FIRST + 8):
        assert served.pass_day(number) == house.pass_day(number)
        house.job.run(0, noon_after(number))
        learn_thresholds(settings, noon_after(number))
        assert np.array_equal(served.own()[:, 0], house.own()[:, 0])
    assert 0 < served.own()[:, 0].min() < served.own()[:, 0].max() < 1


def test_another_way_of_keeping_them_begins_anew_from_the_last_week_of_the_log(house: House) -> None:
    for number in range(FIRST, FIRST + 9):
        house.pass_day(number)
        house.job.run(0, noon_after(number))
    kept, last = house.own(), noon_after(FIRST + 8)
    others: dict[KeptName, KeptName] = {"steered": "paced", "paced": "steered"}
    house.name = others[house.name]
    assert house.job.run(0, last) == 7
    assert ShardState.unpack(house.thresholds.state(0)).name == house.name
    assert not np.allclose(house.own()[:, 0], kept[:, 0])
    assert house.job.run(0, last) == 0


def test_a_state_written_before_ways_had_names_is_a_steered_one(house: House) -> None:
    house.name = "steered"
    house.pass_day(FIRST)
    house.job.run(0, noon_after(FIRST))
    with np.load(BytesIO(house.thresholds.state(0))) as file:
        nameless = {name: file[name] for name in file.files if name != "name"}
    written = BytesIO()
    np.savez_compressed(written, **nameless)
    assert ShardState.unpack(written.getvalue()).name == "steered"


def test_those_who_are_held_out_have_no_threshold_and_leave_that_of_others_as_it_is(house: House) -> None:
    house.holdout = Holdout(0.3)
    held = house.holdout.holds(USERS)
    assert 0 < held.sum() < len(USERS)
    for number in range(FIRST, FIRST + 3):
        house.pass_day(number)
        house.job.run(0, noon_after(number))
    assert (np.isnan(house.own()[:, 0]) == held).all()
    alone = settled(House(house.history, keys=house.keys, name=house.name))
    alone.due.remove(np.array(USERS)[held].tolist())
    alone.job.run(0, noon_after(FIRST + 2))
    assert alone.own() == pytest.approx(house.own(), nan_ok=True)


def test_nothing_is_aimed_at_on_a_channel_that_a_user_does_not_want() -> None:
    profiles = blank(3)
    profiles["suppressed"][1], profiles["not_allowed"][2] = 1, 2
    soft = soft_budgets(profiles, np.array([10, 5], np.uint8), [0, 1], 0.8)
    assert soft.tolist() == [[8.0, 4.0], [0.0, 4.0], [8.0, 0.0]]
