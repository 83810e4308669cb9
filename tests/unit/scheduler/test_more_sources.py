"""Sources beside those of follows and trends: from where users are, to a growing audience, and to those who stay away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from budgets.ledger import Grant, MemoryLedger
from lake.clock import HeldClock
from lake.follows import MemoryFollowStore
from lake.ids import hash64
from lake.items import ItemTable, MemoryItemStore
from lake.meta import Meta
from lake.profiles import Profiles, blank
from ranking.blocks import USER_STATS
from ranking.rows import unpack_users
from ranking.store import MemoryFeatureStore
from ranking.unseen import unseen_of
from scheduler.held import MemoryHeldStore
from scheduler.lease import shard_lease
from scheduler.report import LaneReport
from scheduler.sources import Dormant, Growing, Nearby, Needs, SourceRule, UserChunk, open_sources
from scheduler.windows import SLOT_S
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished
from tests.unit.scheduler.test_sources import told

NOW = 1_700_000_000.0
HOUR_S, DAY_S = 3600.0, 86400.0
BERLIN, POTSDAM, HAMBURG = (52.52, 13.405), (52.39, 13.06), (53.55, 9.99)


@dataclass
class Counts:
    """How many people engaged lately, by item; 0 where nothing is said."""

    of: dict[str, float] = field(default_factory=dict)

    def __call__(self, item_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        return np.array([self.of.get(item_id, 0.0) for item_id in item_ids])


def table_of(*rows: dict[str, object]) -> ItemTable:
    """Return a table of items, an hour old unless they say otherwise."""
    store = MemoryItemStore()
    store.put([{"created_at": NOW - HOUR_S, **row} for row in rows])
    made = ItemTable(store)
    made.sync(NOW)
    return made


def people(*places: tuple[float, float]) -> Profiles:
    rows = blank(len(places))
    rows["place"] = places
    return rows


def at(item_id: str, place: tuple[float, float], age_s: float = HOUR_S, **more: object) -> dict[str, object]:
    return {"item_id": item_id, "created_at": NOW - age_s, "latitude": place[0], "longitude": place[1], **more}


def test_posts_of_the_area_are_proposed_newest_first_to_those_whose_place_is_known() -> None:
    table = table_of(
        at("old news", BERLIN, 8 * DAY_S),
        at("market", BERLIN, 2 * HOUR_S),
        at("fair", POTSDAM),
        at("port", HAMBURG),
        at("over", BERLIN, expires_at=NOW + 1),
        {"item_id": "anywhere"},
    )
    unknown, old_row = (np.nan, np.nan), (0.0, 0.0)
    users = UserChunk(["ann", "bob", "cid", "dee"], people(BERLIN, HAMBURG, unknown, old_row))
    found = {"ann": ["market"], "bob": ["port"], "cid": [], "dee": []}
    assert told(Nearby(radius_km=20), table, users=users) == found
    assert told(Nearby(radius_km=30), table, users=users)["ann"] == ["fair", "market"]
    assert told(Nearby(radius_km=30, limit=1), table, users=users)["ann"] == ["fair"]
    assert told(Nearby(), table, users=UserChunk(["ann"]))["ann"] == []


def test_an_audience_grows_with_engagement_and_nobody_leaves_it() -> None:
    table, heat = table_of({"item_id": "post"}, {"item_id": "over", "expires_at": NOW + 1}), Counts({"over": 1000})
    users = UserChunk([f"u{number}" for number in range(20_000)])
    audiences: list[set[int]] = []
    for count in (0, 4.9, 5, 50, 400, 500):
        heat.of["post"] = count
        audiences.append(set(Growing(heat).propose(users, table, NOW + 2).user.tolist()))
    sizes = [len(audience) for audience in audiences]
    assert sizes[:2] == [0, 0]
    assert sizes[2] == pytest.approx(200, rel=0.25)
    assert sizes[3] == pytest.approx(2_000, rel=0.1)
    assert sizes[-1] == 20_000
    assert all(before <= after for before, after in pairwise(audiences))


def test_the_hottest_come_first_within_the_limit() -> None:
    table, heat = table_of({"item_id": "warm"}, {"item_id": "hot"}), Counts({"warm": 500, "hot": 900})
    users = UserChunk(["ann"])
    assert told(Growing(heat), table, users=users)["ann"] == ["hot", "warm"]
    assert told(Growing(heat, limit=1), table, users=users)["ann"] == ["hot"]


@dataclass
class Away:
    """Who stays away, and what they were granted."""

    days: dict[str, float]
    ledger: MemoryLedger = field(default_factory=MemoryLedger)

    def unseen(self, user_ids: Sequence[str], now: float) -> npt.NDArray[np.float64]:
        return np.array([self.days.get(user_id, np.nan) * DAY_S for user_id in user_ids])

    def grant(self, user: str, item: str, days_ago: float) -> None:
        entity = int(hash64([item])[0])
        self.ledger.account(user).add(Grant(NOW - days_ago * DAY_S, 0, 0, 1, entity, 0))

    def source(self, **counts: float) -> Dormant:
        return Dormant(Counts(counts), self.unseen, self.ledger)


def test_whoever_stays_away_is_proposed_the_best_of_the_last_days_and_others_are_not() -> None:
    table = table_of({"item_id": "best"}, {"item_id": "good"}, {"item_id": "early", "created_at": NOW - 4 * DAY_S}, {"item_id": "cold"})
    away = Away({"ann": 14, "bob": 13.9})
    found = told(away.source(best=9, good=5, early=99), table)
    assert found == {"ann": ["best"], "bob": [], "cid": []}
    assert told(away.source(), table)["ann"] == []


def test_whoever_stays_away_is_told_at_most_one_thing_a_week_and_nothing_twice() -> None:
    table = table_of({"item_id": "best"}, {"item_id": "good"})
    away = Away({"ann": 20, "bob": 20, "cid": 20})
    away.grant("ann", "else", 6.9)
    away.grant("bob", "best", 8)
    away.grant("cid", "best", 8)
    away.grant("cid", "good", 9)
    assert told(away.source(best=9, good=5), table) == {"ann": [], "bob": ["good"], "cid": []}


def test_when_users_were_last_seen_is_known_from_their_rows() -> None:
    store, (rows, _) = MemoryFeatureStore(), unpack_users([None])
    stats = rows.stats.copy()
    stats[:, USER_STATS.index("recency_h")] = 48.0
    store.put_users(["ann"], replace(rows, stats=stats, as_of=np.array([NOW - DAY_S])), NOW - DAY_S)
    assert unseen_of(store)(["ann", "nobody"], NOW).tolist() == pytest.approx([3 * DAY_S, np.nan], nan_ok=True)
    assert unseen_of(store)([], NOW).shape == (0,)


NEEDS = Needs(
    MemoryHeldStore(), MemoryFollowStore(Meta()), MemoryLedger(), Counts(), Counts(), lambda users, _: np.full(len(users), np.nan)
)


def names(rules: dict[str, SourceRule]) -> list[str]:
    return [source.name for source in open_sources(NEEDS, rules)]


def test_each_source_is_switched_and_set_by_itself() -> None:
    assert names({}) == ["held", "nearby", "new_posts", "trending"]
    assert names({"trending": SourceRule(on=False), "dormant": SourceRule(on=True)}) == ["held", "nearby", "new_posts", "dormant"]
    nearby = open_sources(NEEDS, {"nearby": SourceRule(set={"radius_km": 5, "limit": 3.0})})[1]
    assert nearby == Nearby(radius_km=5.0, limit=3)


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"rumours": SourceRule()}, "no source 'rumours'; name one of held, nearby"),
        ({"nearby": SourceRule(set={"depth": 1})}, "no 'depth' to set; it has radius_km, limit, live_s"),
        ({"held": SourceRule(set={"depth": 1})}, "it has limit"),
    ],
)
def test_a_rule_for_what_is_not_there_says_what_is(rules: dict[str, SourceRule], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        open_sources(NEEDS, rules)


def test_what_each_source_proposed_and_what_was_told_of_it_is_counted_apart_and_logged() -> None:
    world = furnished(World.in_memory())
    world.items.put([{"item_id": "hot", "created_at": MONDAY_NOON - 8 * DAY_S}])
    world.ranker.values = {"hot": 0.9, "x": 0.8, "y": 0.1}
    lane, report = world.scheduled(), LaneReport()
    lane.sources = (*lane.sources, Growing(Counts({"hot": 1000})))
    for shard in range(2):
        fence = world.leases.acquire(shard_lease(shard), "me", MONDAY_NOON, 60.0) or 0
        report.add(lane.run(shard, int(MONDAY_NOON // SLOT_S), fence, HeldClock(MONDAY_NOON)))
    assert report.by_source == {"new_posts": (8, 4), "growing": (4, 4)}
    assert set(world.logged().query("item_id == 'hot'")["source"]) == {"growing"}
