"""The seeded world: what it promises about its tables and its truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from simulation.world import CHANNELS, World, generate
from simulation.world_parameters import KINDS, TOPICS, WorldParameters

SMALL = WorldParameters(users=400, items=400, weeks=4)


@pytest.fixture(scope="module")
def world() -> World:
    return World.of(SMALL, seed=7)


@pytest.fixture(scope="module")
def tables(world: World) -> dict[str, pd.DataFrame]:
    return world.tables()


def seconds(times: pd.Series[pd.Timestamp]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(times.dt.as_unit("s").astype("int64"), np.float64)


def test_every_table_passes_the_checks_of_real_data_and_loses_no_row(tables: dict[str, pd.DataFrame]) -> None:
    dataset = Dataset.of(tables)
    for name, table in tables.items():
        assert len(dataset.tables[name]) == len(table) > 0, name


def test_the_same_seed_gives_the_same_world_and_another_seed_another(tables: dict[str, pd.DataFrame]) -> None:
    again, other = generate(SMALL, 7), generate(SMALL, 8)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, again[name])
    assert not tables["events"]["at"].equals(other["events"]["at"])


def test_nothing_happens_before_it_can(tables: dict[str, pd.DataFrame]) -> None:
    events, sends, items, users = (tables[name] for name in ("events", "sends", "items", "users"))
    born, joined = items.set_index("item_id")["created_at"], users.set_index("user_id")["created_at"]
    with_item = events[events["item_id"].notna()]
    assert (with_item["at"] >= with_item["item_id"].map(born)).all()
    assert (events["at"] >= events["user_id"].map(joined)).all()
    assert (sends["at"] >= sends["item_id"].map(born)).all()
    assert (sends["engaged_at"].dropna() > sends["at"][sends["engaged_at"].notna()]).all()


def test_nothing_is_known_after_the_end(tables: dict[str, pd.DataFrame]) -> None:
    end = pd.Timestamp(SMALL.end_at, unit="s", tz="UTC")
    for name, column in (("events", "at"), ("sends", "at"), ("sends", "engaged_at"), ("items", "created_at"), ("users", "created_at")):
        assert (tables[name][column].dropna() < end).all(), (name, column)


def test_addresses_lie_in_a_domain_that_belongs_to_nobody(tables: dict[str, pd.DataFrame]) -> None:
    assert tables["addresses"]["address"].str.fullmatch(r"u\d{6}@example\.com").all()


def test_titles_speak_of_the_topic_and_updates_say_so(tables: dict[str, pd.DataFrame]) -> None:
    items = tables["items"]
    subjects = items["topics"].map(lambda topics: TOPICS[topics[0]])
    speaks = [any(subject.lower() in title.lower() for subject in own) for title, own in zip(items["title"], subjects, strict=True)]
    assert all(speaks)
    updates = items[items["version"] == 2]
    assert len(updates) > 0
    assert updates["title"].str.startswith("Update: ").all()
    assert (updates["entity_id"] != updates["item_id"]).all()


def test_an_update_is_of_an_earlier_item_of_the_same_author_and_topic(tables: dict[str, pd.DataFrame]) -> None:
    items = tables["items"].set_index("item_id")
    updates = items[items["version"] == 2]
    first = items.loc[updates["entity_id"]]
    assert (first["version"] == 1).all()
    assert (first["author_id"].to_numpy() == updates["author_id"].to_numpy()).all()
    assert (first["created_at"].to_numpy() <= updates["created_at"].to_numpy()).all()
    assert first["topics"].tolist() == updates["topics"].tolist()


def test_people_who_know_the_truth_rank_far_better_than_by_popularity(world: World, tables: dict[str, pd.DataFrame]) -> None:
    views = tables["events"].query("kind == 'view'")
    middle = (SMALL.start_at + SMALL.end_at) / 2
    at = pd.Timestamp(middle, unit="s", tz="UTC")
    items = tables["items"][lambda table: (table["created_at"] < at) & (table["created_at"] >= at - pd.Timedelta(days=4))]["item_id"]
    later = views[(views["at"] >= at) & (views["at"] < at + pd.Timedelta(days=4)) & views["item_id"].isin(items)]
    past = views[views["at"] < at].groupby("item_id").size()
    pairs = pd.MultiIndex.from_product([later["user_id"].unique(), items], names=["user_id", "item_id"]).to_frame(index=False)
    pairs["truth"] = world.true_probability(pairs["user_id"], pairs["item_id"], np.full(len(pairs), middle))
    pairs["popular"] = pairs["item_id"].map(past).fillna(0) + np.random.default_rng(0).random(len(pairs)) / 1e3
    taken = pd.MultiIndex.from_frame(pairs[["user_id", "item_id"]]).isin(pd.MultiIndex.from_frame(later[["user_id", "item_id"]]))
    hits = {name: taken[pairs.groupby("user_id")[name].rank(ascending=False) <= 5].sum() for name in ("truth", "popular")}
    assert hits["truth"] > 2 * hits["popular"]


def test_sends_are_answered_as_often_as_the_truth_says(world: World, tables: dict[str, pd.DataFrame]) -> None:
    sends = tables["sends"]
    chance = world.true_probability(sends["user_id"], sends["item_id"], seconds(sends["at"]), sends["channel"])
    expected, spread = chance.sum(), np.sqrt((chance * (1 - chance)).sum())
    assert abs(sends["engaged_at"].notna().sum() - expected) < 4 * spread + 3  # the last answers come after the end


def test_the_old_policy_knew_its_propensities(tables: dict[str, pd.DataFrame]) -> None:
    sends, items = tables["sends"], tables["items"]
    born = np.sort(seconds(items["created_at"]))
    at = seconds(sends["at"])
    pool = np.searchsorted(born, at) - np.searchsorted(born, at - SMALL.send_pool_days * 86_400)
    assert (np.abs(1 / sends["propensity"] / len(CHANNELS) - pool) <= 2).all()  # times in the table are whole seconds
    assert sends["channel"].isin(CHANNELS).all()


def test_interest_recency_and_the_hour_each_raise_the_probability(world: World) -> None:
    people, things = world.people, world.things
    item = int(np.argmax(things.kind == [kind.name for kind in KINDS].index("article")))
    readers = np.flatnonzero(~(people.authors == things.author[item]).any(axis=1))
    keen, cold = (readers[pick(people.interest[readers, things.topic[item]])] for pick in (np.argmax, np.argmin))
    midnight = things.created_at[item] // 86_400 * 86_400 + 86_400
    hours = midnight + np.arange(24) * 3600
    at_hours = world.true_probability(np.full(24, keen), np.full(24, item), hours)
    active = people.hours[keen, world.hour_of_week(np.full(24, keen), hours)]
    assert world.true_probability([keen], [item], [midnight])[0] > 3 * world.true_probability([cold], [item], [midnight])[0]
    assert np.corrcoef(np.log(at_hours), np.log(active))[0, 1] > 0.9
    same_hour = world.true_probability([keen, keen], [item, item], [midnight, midnight + 7 * 86_400])
    assert same_hour[0] > same_hour[1] > 0


def test_nobody_engages_with_what_is_not_out_is_over_or_is_their_own(world: World) -> None:
    things = world.things
    live = int(np.argmax(np.isfinite(things.expires_at)))
    others = next(user for user in range(SMALL.users) if user != things.author[live])
    at = [things.created_at[live] - 1, things.expires_at[live], things.created_at[live]]
    assert world.true_probability([others, others, things.author[live]], [live] * 3, at).tolist() == [0, 0, 0]
    assert world.true_probability([others], [live], [things.created_at[live]])[0] > 0


def test_ids_that_are_not_of_this_world_are_named(world: World) -> None:
    with pytest.raises(KeyError, match="stranger"):
        world.true_probability(["stranger"], ["i000001"], [0.0])


def test_activity_follows_each_users_own_local_hours(world: World, tables: dict[str, pd.DataFrame]) -> None:
    visits = tables["events"].query("kind == 'visit'")
    user = np.asarray(visits["user_id"].str[1:].astype(int), np.int64) - 1
    hour = world.hour_of_week(user, seconds(visits["at"]))
    own = np.log(world.people.hours[user, hour]).mean()
    of_others = np.log(world.people.hours[np.roll(user, len(user) // 2), hour]).mean()
    assert own > of_others + 0.5


def test_a_world_without_people_is_refused() -> None:
    with pytest.raises(ValueError, match="20 users"):
        WorldParameters(users=3)
