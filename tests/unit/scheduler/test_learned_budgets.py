"""The weekly job of budgets: a few are drawn, the others learned once there is enough to learn from, and a week stands once it is filed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from redis import Redis

from budgets.allowance import weekly_budget
from lake.collected import Living, collected
from lake.dataset import Dataset
from lake.history import History
from lake.items import MemoryItemStore
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, blank
from lake.user_keys import MemoryUserKeys, keyed
from scheduler.learned_budgets import TABLE, WEEK_S, BudgetJob, BudgetJobConfig, week_of, week_starts
from scheduler.reader_weeks import FEATURES, ReaderWeeks
from serve_app import Settings, assign_budgets, budgets_of, stores_of

META = Meta(shards=1, channels=("in_app", "push"))
USERS = [f"user{number:03}" for number in range(400)]
GLAD = np.arange(400) % 2 == 0
FIRST = week_of(1_772_409_600.0)
"""The week of Monday, 2 March 2026."""
WEEKLY = np.array([4, 2], np.uint8)


class House:
    """A deployment in memory: even users engage with half of what they may be sent, odd ones with nothing and leave when sent much."""

    def __init__(self, folder: Path, explore: float = 0.5) -> None:
        self.profiles, self.user_keys, self.history = MemoryProfileStore(), MemoryUserKeys(), History(str(folder))
        self.profiles.put(USERS, blank(len(USERS)))
        self.living = Living(self.history, self.user_keys, self.profiles, MemoryItemStore())
        config = BudgetJobConfig(explore=explore, least=500)
        self.job = BudgetJob(META, self.profiles, self.user_keys, self.history, self.dataset, {"in_app": 4.0}, WEEKLY, config)

    def dataset(self, now: float) -> Dataset | None:
        return collected(None, self.living, now)

    def budgets(self) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        profiles = self.profiles.get(USERS)
        return weekly_budget(profiles["budget"], WEEKLY, profiles["dial"], profiles["learned"])

    def file(self, table: str, name: str, rows: pd.DataFrame) -> None:
        self.history.write(table, keyed(rows, self.user_keys), at="at", shard=0, name=name)

    def pass_week(self, week: int) -> None:
        """File a week's sends and what came of them."""
        budgets, at = self.budgets()[:, 0].astype(np.int64), pd.Timestamp(week_starts(week) + 2 * 86400, unit="s", tz="UTC")
        user = np.repeat(np.arange(len(USERS)), budgets)
        nth = np.arange(len(user)) - np.repeat(np.cumsum(budgets) - budgets, budgets)
        sends = pd.DataFrame({"user_id": [USERS[code] for code in user], "item_id": [f"i{week}-{n}" for n in nth], "channel": "in_app"})
        self.file("decisions", f"d{week}", sends.assign(at=at, disposition="send", propensity=1.0))
        engaged = sends[GLAD[user] & (nth % 2 == 0)].assign(at=at + pd.Timedelta(hours=1), kind="view", send_id="s", channel="in_app")
        left = pd.DataFrame({"user_id": [USERS[code] for code in np.flatnonzero(~GLAD & (budgets > 6))], "channel": "in_app"})
        left = left.assign(at=at + pd.Timedelta(hours=2), kind="unsubscribe")
        self.file("events", f"e{week}", pd.concat([engaged, left], ignore_index=True))

    def rows(self) -> pd.DataFrame:
        return self.history.read(TABLE, 0.0, week_starts(FIRST + 60))


def monday(week: int) -> float:
    return week_starts(week) + 3.3 * 3600


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_before_there_is_enough_to_learn_from_some_budgets_are_drawn_and_the_others_stay(house: House) -> None:
    house.job.run(monday(FIRST))
    rows, given = house.rows(), house.budgets()
    drawn = rows["drawn"].to_numpy(bool)
    assert len(rows) == len(USERS)
    assert not rows["learned"].any()
    assert 0.4 < drawn.mean() < 0.6
    assert sorted(set(rows["weekly"][drawn])) == list(range(9))
    assert set(rows["weekly"][~drawn]) == {4}
    assert given[:, 0].mean() == pytest.approx(4.0, abs=0.4)
    assert (given[:, 1] == 2).all()
    assert not house.profiles.get(USERS)["learned"][:, 1:].any()


def test_a_second_run_in_the_same_week_changes_nothing_and_the_next_week_is_drawn_anew(house: House) -> None:
    assert house.job.run(monday(FIRST)) > 100
    kept, rows = house.budgets(), house.rows()
    assert house.job.run(monday(FIRST) + 3 * 86400) == 0
    assert (house.budgets() == kept).all()
    pd.testing.assert_frame_equal(house.rows(), rows)
    assert house.job.run(monday(FIRST + 1)) > 100
    assert len(house.rows()) == 2 * len(rows)


def test_a_run_that_died_before_all_profiles_were_written_is_begun_again_with_the_same_budgets(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise ConnectionError("the store is away")

    with monkeypatch.context() as patched:
        patched.setattr(house.profiles, "write", dies)
        with pytest.raises(ConnectionError):
            house.job.run(monday(FIRST))
    filed = house.rows().set_index("user_key")
    assert house.job.run(monday(FIRST) + 86400) > 100
    assert len(house.rows()) == len(filed)
    assert house.budgets()[:, 0].tolist() == filed["weekly"].loc[house.user_keys.of(USERS)].tolist()


def test_a_deployment_assigns_on_its_server_what_a_job_does_in_memory(
    house: House, redis_client: Redis, embedded_store: str, tmp_path: Path
) -> None:
    del redis_client  # empties the store
    served: dict[str, Any] = {
        "model": "not asked for",
        "redis_url": embedded_store,
        "shards": 1,
        "history": str(tmp_path / "served"),
        "weekly": {"in_app": 4},
    }
    settings = Settings(**served, learned_budgets={"in_app": 4.0}, explored_budgets=0.5)
    stores = stores_of(settings)
    stores.profiles.put(USERS, blank(len(USERS)))
    house.job.run(monday(FIRST))
    assert assign_budgets(settings, monday(FIRST)) == (house.profiles.get(USERS)["learned"] > 0).any(axis=1).sum() > 100
    assert (stores.profiles.get(USERS)["learned"] == house.profiles.get(USERS)["learned"]).all()
    assert assign_budgets(settings, monday(FIRST) + 60) == 0
    assert not budgets_of(Settings(**served | {"history": str(tmp_path / "none")})).has_work(monday(FIRST))


def test_those_who_engage_get_more_than_those_who_leave_and_the_volume_stays(house: House) -> None:
    for week in range(FIRST, FIRST + 4):
        house.job.run(monday(week))
        house.pass_week(week)
    house.job.run(monday(FIRST + 4))
    last = house.rows().query(f"week == {FIRST + 4}").set_index("user_key").loc[house.user_keys.of(USERS)]
    learned = last["learned"].to_numpy(bool)
    assert learned.any()
    weekly = last["weekly"].to_numpy()
    assert weekly[learned & GLAD].mean() > 5
    assert weekly[learned & ~GLAD].mean() < 3
    assert weekly[learned].mean() <= 4.0
    assert house.budgets()[:, 0].tolist() == weekly.tolist()


def test_a_number_of_ones_own_no_address_and_an_opt_out_keep_a_user_out(house: House) -> None:
    own = blank(4)
    own["budget"][0, 0], own["suppressed"][1], own["not_allowed"][2], own["addressed"][3] = 3, 1, 1, 2
    house.profiles.put(USERS[:4], own)
    job = replace(house.job, volumes={"in_app": 4.0, "push": 2.0})
    job.run(monday(FIRST))
    keys = house.user_keys.known(USERS[:4])
    rows = house.rows()
    assert set(rows.loc[rows["channel"] == "push", "user_key"]) == {keys[3]}
    assert [key in set(rows.loc[rows["channel"] == "in_app", "user_key"]) for key in keys] == [False, False, False, True]
    assert house.budgets()[0, 0] == 3


def test_where_it_is_switched_off_the_default_applies_again_and_then_there_is_nothing_to_do(house: House) -> None:
    house.job.run(monday(FIRST))
    off = replace(house.job, volumes={})
    assert off.has_work(monday(FIRST) + 86400)
    off.run(monday(FIRST) + 86400)
    assert (house.budgets() == WEEKLY).all()
    assert not off.has_work(monday(FIRST + 6))
    assert replace(house.job, profiles=MemoryProfileStore()).run(monday(FIRST)) == 0


def test_where_everybody_has_set_a_number_there_is_nothing_to_assign(house: House) -> None:
    house.profiles.write(USERS, "budget", np.full((len(USERS), 16), 3, np.uint8))
    assert house.job.run(monday(FIRST)) == 0
    assert house.rows().empty


def test_a_channel_that_there_is_not_is_refused(house: House) -> None:
    with pytest.raises(ValueError, match="fax"):
        replace(house.job, volumes={"fax": 3.0})
    with pytest.raises(ValidationError, match="unknown channel 'fax'"):
        Settings(model="m", learned_budgets={"fax": 3.0})
    with pytest.raises(ValidationError, match=r"learned_budgets\.in_app"):
        Settings(model="m", learned_budgets={"in_app": 0.1})


def test_what_is_known_of_a_reader_ends_where_the_week_begins_and_what_they_did_begins_there(house: House) -> None:
    house.profiles.put(["ann", "bob"], blank(2))
    start = week_starts(FIRST)

    def at(*days: float) -> Any:
        return pd.to_datetime([start + day * 86400 for day in days], unit="s", utc=True)

    sends = pd.DataFrame({"user_id": "ann", "item_id": ["a", "b", "c", "d"], "channel": ["in_app", "in_app", "push", "in_app"]})
    house.file("decisions", "d", sends.assign(at=at(-5, -4, -3, 1), disposition="send", propensity=1.0))
    events = pd.DataFrame({"user_id": "ann", "item_id": ["a", "z", "b", "b", "d", None, None]})
    kinds = ["view", "view", "view", "like", "view", "unsubscribe", "unsubscribe"]
    house.file(
        "events", "e", events.assign(at=at(-4.9, -4.8, 0.5, 0.6, 8, 2, 2), kind=kinds, channel=np.array([None] * 5 + ["push", "email"]))
    )
    known = ReaderWeeks.of(house.dataset(start + 20 * 86400))
    found = known.features(["ann", "bob", "unknown"], "in_app", np.array([1, 0, 0], np.int8), start)
    ann = dict(zip(FEATURES, found[0].tolist(), strict=True))
    assert [ann[name] for name in ("sent_28d", "answered_28d", "vain_14d", "engaged_28d", "unasked_28d", "dial")] == [2, 1, 1, 2, 1, 1]
    assert (ann["active_days_28d"], ann["days_since"]) == (1, pytest.approx(4.8))
    assert found[1].tolist() == found[2].tolist() == [0, 0, 0, 0.2, 0, 0, 0, 60, 0]
    for channel, left in (("in_app", 0), ("push", 1)):
        engaged, gone = known.outcomes(["ann", "bob"], channel, np.full(2, start), WEEK_S)
        assert (engaged.tolist(), gone.tolist()) == ([1, 0], [left, 0])
