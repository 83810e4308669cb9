"""Half-lives of kinds: the truth is found where there are sends enough, the default where there are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.ids import hash64
from scheduler.half_lives import HalfLifeConfig, OfKinds, half_life, learned_half_lives
from simulation.world import World
from simulation.world_parameters import KINDS, WorldParameters
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, furnished, urgent
from tests.unit.scheduler.test_pipeline import World as Deployment

HOUR_S = 3600.0
BEGAN = pd.Timestamp("2026-03-02T00:00:00Z")
NOW = BEGAN.timestamp() + 60 * 86400.0


def sent(truth: dict[str, float], sends: int, seed: int = 0) -> Dataset:
    """Return tables of sends at all ages up to three days, answered at a rate that halves every so many seconds."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.array(list(truth), object), sends)
    age_s = rng.uniform(0, 72 * HOUR_S, len(kind))
    rate = 0.2 * np.exp2(-age_s / np.repeat(list(truth.values()), sends))
    ids = pd.Series([f"i{n}" for n in range(len(kind))])
    created = BEGAN + pd.to_timedelta(rng.uniform(0, 40 * 86400, len(kind)), unit="s")
    at = created + pd.to_timedelta(age_s, unit="s")
    users = pd.Series([f"u{n % 500}" for n in range(len(kind))])
    hit = rng.random(len(kind)) < rate
    events = pd.DataFrame({"user_id": users, "item_id": ids, "at": at + pd.Timedelta(hours=2), "kind": "open"})[hit]
    tables = {
        "items": pd.DataFrame({"item_id": ids, "created_at": created, "kind": kind}),
        "sends": pd.DataFrame({"user_id": users, "item_id": ids, "at": at, "channel": "push"}),
        "events": events,
    }
    return Dataset.of(tables)


@pytest.mark.parametrize("seed", range(3))
def test_half_lives_are_found_within_a_quarter_where_there_are_sends_enough(seed: int) -> None:
    truth = {"live": 3 * HOUR_S, "news": 18 * HOUR_S, "article": 72 * HOUR_S}
    found = learned_half_lives(sent(truth, 8_000, seed), NOW)
    assert found.keys() == truth.keys()
    for kind, half_life_s in truth.items():
        assert 1 / 1.35 < found[kind] / half_life_s < 1.35, kind
    assert found["live"] < found["news"] < found["article"]


def test_a_kind_with_few_sends_stays_near_the_default() -> None:
    found = learned_half_lives(sent({"live": 3 * HOUR_S}, 12), NOW, HalfLifeConfig(default_s=24 * HOUR_S, spread=0.3))
    assert 12 * HOUR_S < found["live"] < 48 * HOUR_S
    assert half_life(np.full(50, 60.0), np.zeros(50, bool), HalfLifeConfig()) == HalfLifeConfig().default_s


def test_what_nobody_engaged_with_or_nobody_was_sent_teaches_nothing() -> None:
    dataset = sent({"live": 3 * HOUR_S}, 50)
    unsent = Dataset.of({"items": dataset.items, "events": dataset.events})
    assert learned_half_lives(unsent, NOW) == {}
    assert learned_half_lives(dataset, NOW + 365 * 86400) == {}


def test_an_item_with_a_half_life_of_its_own_says_nothing_of_its_kind() -> None:
    dataset = sent({"live": 3 * HOUR_S}, 50)
    tables = {"items": dataset.items.assign(half_life_s=60.0), "sends": dataset.sends, "events": dataset.events}
    assert learned_half_lives(Dataset.of(tables), NOW) == {}


def test_the_order_of_kinds_of_a_simulated_world_is_found() -> None:
    """There the log odds halve, not the rate, and what is over is answered by nobody, so only the order is to be expected."""
    world = World.of(WorldParameters(users=300, items=800, weeks=6), 3)
    tables = world.tables()
    tables["items"] = tables["items"].drop(columns=["half_life_s", "expires_at"])
    found = learned_half_lives(Dataset.of(tables), world.params.end_at)
    assert found.keys() == {kind.name for kind in KINDS}
    assert found["news"] < found["article"]


def test_kinds_are_found_by_their_keys_and_others_have_the_default() -> None:
    kinds = OfKinds.of({"live": 60.0, "article": 600.0})
    assert kinds.find(hash64(["article", "other", "live"]), 7.0).tolist() == [600.0, 7.0, 60.0]
    assert OfKinds.of({}).find(hash64(["live"]), 7.0).tolist() == [7.0]


def test_what_fades_by_its_kind_goes_now_and_what_lasts_waits() -> None:
    """Half an hour before its window: the urgent lane holds what keeps its value until then."""
    deployment = furnished(Deployment.in_memory())
    deployment.items.put([{"item_id": name, "created_at": MONDAY_NOON - 3600, "kind": name} for name in ("live", "article")])
    lane = deployment.urgent()
    lane.pipeline.half_lives.write({"live": 600.0, "article": 7 * 86400.0})
    told = {name: lane.decide([urgent(name, ["ann"])], MONDAY_NOON - 1800)[0] for name in ("live", "article")}
    assert told["live"].disposition == ["send"]
    assert (told["article"].disposition, told["article"].reason) == (["hold"], ["better_next_window"])
