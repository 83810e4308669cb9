"""The pipeline on memory's stores and on the real one: what becomes of every candidate, in both lanes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from redis import Redis

from budgets.experiments import Holdout
from budgets.ledger import Ledger
from budgets.pacing import PacingConfig
from lake.clock import HeldClock
from lake.decision_log import Entry, unpack
from lake.decisions import Candidates, Lane
from lake.follows import Followed, FollowStore, MemoryFollowStore
from lake.ids import hash64, shard_of
from lake.items import ItemStore, ItemTable, MemoryItemStore
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, ProfileStore, blank
from lake.redis_decision_log import RedisDecisionStream
from lake.seen import MemorySeenStore, SeenStore
from scheduler.commit import Committer
from scheduler.decide import DecideConfig
from scheduler.due import DueIndex, MemoryDueIndex
from scheduler.held import HeldStore
from scheduler.lanes import ScheduledLane, UrgentLane, UrgentRequest
from scheduler.lease import Leases, shard_lease
from scheduler.memory_commit import MemoryCommitter
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.planning import PlanConfig
from scheduler.redis_stores import RedisStores
from scheduler.sources import HeldRows, NewPosts
from scheduler.thresholds import MemoryThresholds
from scheduler.windows import SLOT_S

META = Meta(shards=2, channels=("in_app", "email"))
MONDAY_NOON = 1_699_876_800.0 - 1_699_876_800.0 % SLOT_S
USERS = ["ann", "bob", "cid", "dee"]


@dataclass
class Fixed:
    """A ranker that knows each item's value."""

    values: dict[str, float] = field(default_factory=dict)
    model_id: str = "fixed"

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane) -> Scored:
        """Score by item, a little lower per channel code."""
        value = np.array([self.values.get(item, 0.5) for item in rows.items], np.float32)[rows.item]
        return Scored(value - np.float32(0.01) * rows.channel, self.model_id)


@dataclass(frozen=True)
class Scored:
    """Scores whose value is the probability."""

    probability: npt.NDArray[np.float32]
    model_id: str

    @property
    def value(self) -> npt.NDArray[np.float32]:
        """The probability."""
        return self.probability


@dataclass
class World:
    """A pipeline and its stores, in memory or the real ones, behind the same names."""

    profiles: ProfileStore
    items: ItemStore
    seen: SeenStore
    follows: FollowStore
    ledger: Ledger
    due: DueIndex
    leases: Leases
    held: HeldStore
    committer: Committer
    entries: Callable[[int], list[Entry]]
    messages: Callable[[], list[Message]]
    ranker: Fixed = field(default_factory=Fixed)
    thresholds: MemoryThresholds = field(default_factory=MemoryThresholds)
    is_off: set[str] = field(default_factory=set)
    config: PipelineConfig = field(default_factory=lambda: PipelineConfig(weekly={"in_app": 2, "email": 1}))

    @staticmethod
    def in_memory() -> World:
        """Return a world in memory."""
        made = MemoryCommitter(META, due=MemoryDueIndex(META.shards))
        return World(
            MemoryProfileStore(),
            MemoryItemStore(),
            MemorySeenStore(),
            MemoryFollowStore(META),
            made.ledger,
            made.due,
            made.leases,
            made.held,
            made,
            lambda shard: made.log.read(shard, 1000),
            lambda: [message for box in made.outbox.values() for message in box],
        )

    @staticmethod
    def in_store(client: Redis) -> World:
        """Return a world in the real store."""
        real = RedisStores(client, META)
        stream, outbox = RedisDecisionStream(client, META.keys), Keys.OUTBOX

        def messages() -> list[Message]:
            boxes: list[Any] = [client.xrange(META.keys.of_shard(outbox, shard)) for shard in range(META.shards)]
            return [Message.unpack(fields[FIELD.encode()]) for box in boxes for _, fields in box]

        return World(
            real.profiles,
            real.items,
            real.seen,
            real.follows,
            real.ledger,
            real.due,
            real.leases,
            real.held,
            real.committer,
            lambda shard: stream.read(shard, 1000),
            messages,
        )

    def pipeline(self) -> Pipeline:
        """Return the pipeline."""
        table = ItemTable(self.items)
        return Pipeline(
            META,
            self.profiles,
            table,
            self.seen,
            self.ledger,
            self.ranker,
            self.committer,
            self.thresholds,
            lambda: frozenset(self.is_off),
            self.config,
        )

    def scheduled(self) -> ScheduledLane:
        """Return the scheduled lane, in-app only."""
        return ScheduledLane(self.pipeline(), self.due, (HeldRows(self.held), NewPosts(self.follows)), channels=[0])

    def urgent(self) -> UrgentLane:
        """Return the urgent lane."""
        return UrgentLane(self.pipeline(), self.follows, self.held)

    def tick(self, now: float) -> dict[str, dict[str, tuple[str, str]]]:
        """Run every shard and return {user: {item: (disposition, reason)}} from the decision log."""
        before = {shard: len(self.entries(shard)) for shard in range(META.shards)}
        lane = self.scheduled()
        for shard in range(META.shards):
            fence = self.leases.acquire(shard_lease(shard), "me", now, 60.0)
            assert fence is not None
            lane.run(shard, int(now // SLOT_S), fence, HeldClock(now))
        return {
            str(user): dict(zip(rows["item_id"], zip(rows["disposition"], rows["reason"], strict=True), strict=True))
            for shard in range(META.shards)
            for user, rows in unpack(self.entries(shard)[before[shard] :]).groupby("user_id")
        }

    def logged(self) -> pd.DataFrame:
        """Return the decision log."""
        return unpack([entry for shard in range(META.shards) for entry in self.entries(shard)])

    def sent(self) -> set[tuple[str, str, str]]:
        """Return (user, item, channel) of everything enqueued."""
        return {(message.user_id, message.item_id, message.channel) for message in self.messages()}


@pytest.fixture(params=["memory", "store"])
def world(request: pytest.FixtureRequest) -> World:
    """The world on each kind of stores."""
    return furnished(World.in_memory() if request.param == "memory" else World.in_store(request.getfixturevalue("redis_client")))


def furnished(made: World) -> World:
    """Put in four users whose window opens on Monday noon UTC, three of them with an address; two new items."""
    rows = blank(len(USERS))
    rows["zone"] = b"UTC"
    rows["addressed"] = [0b10, 0b10, 0b10, 0]
    rows["windows"][:, 0] = 48
    made.profiles.put(USERS, rows)
    made.due.enroll(USERS, [int(MONDAY_NOON // SLOT_S)] * len(USERS))
    made.items.put([{"item_id": name, "created_at": MONDAY_NOON - 3600, "author_id": "eve"} for name in ("x", "y")])
    return made


def urgent(
    item_id: str, users: list[str], *, channels: tuple[str, ...] = ("in_app",), critical: bool = False, decision_id: str = "d1"
) -> UrgentRequest:
    """Return an urgent request."""
    return UrgentRequest(None, item_id, users, channels, critical, "key", decision_id)


def test_every_user_is_decided_once_per_window(world: World) -> None:
    """A tick sends the best items within budget and moves everyone to next week."""
    world.ranker.values = {"x": 0.9, "y": 0.1}
    first = world.tick(MONDAY_NOON)
    assert first["ann"] == {"x": ("send", "above_threshold"), "y": ("send", "above_threshold")}
    assert world.tick(MONDAY_NOON) == {}
    assert set(world.due.slots(USERS).tolist()) == {int(MONDAY_NOON // SLOT_S) + 672}


def test_the_budget_and_the_window_bound_what_is_sent(world: World) -> None:
    """With a budget of 2 the third best lacks a unit; with room for one the second best lacks a place."""
    world.items.put([{"item_id": "z", "created_at": MONDAY_NOON - 60}])
    world.ranker.values = {"x": 0.9, "y": 0.8, "z": 0.7}
    assert world.tick(MONDAY_NOON)["bob"]["z"] == ("over_budget", "budget_spent")


def test_planned_with_the_next_window_the_better_item_waits_for_one_that_expires_and_is_sent_then(world: World) -> None:
    """Two windows of one place each: both items are sent, where a window by itself would have let one expire."""
    profiles = world.profiles.get(USERS).copy()
    profiles["windows"][:, 1] = 48 + 96
    world.profiles.put(USERS, profiles)
    lasting, ending = {"item_id": "lasting", "half_life_s": 30 * 86400}, {"item_id": "ending", "expires_at": MONDAY_NOON + 3600}
    world.items.put([{"created_at": MONDAY_NOON - 60, **item} for item in (lasting, ending)])
    world.ranker.values = {"lasting": 0.9, "ending": 0.8, "x": 0.1, "y": 0.1}
    world.config = PipelineConfig(weekly={"in_app": 2}, decide=DecideConfig(top_n=1), plan=PlanConfig(windows=1), threshold={"in_app": 0.2})
    told = world.tick(MONDAY_NOON)["ann"]
    assert told["ending"][0] == "send"
    assert told["lasting"] == ("hold", "better_next_window")
    assert world.tick(MONDAY_NOON + 86400)["ann"]["lasting"][0] == "send"


def test_a_plans_day_cap_counts_what_the_urgent_lane_sent_that_day(world: World) -> None:
    """One urgent send of the day's two leaves one; the next day has two again."""
    profiles = world.profiles.get(USERS).copy()
    profiles["windows"][:, 1] = 48 + 96
    world.profiles.put(USERS, profiles)
    world.items.put([{"item_id": "live", "created_at": MONDAY_NOON - 7300, "expires_at": MONDAY_NOON - 3600}])
    world.items.put([{"item_id": name, "created_at": MONDAY_NOON - 60, "half_life_s": 30 * 86400} for name in ("z", "x", "y")])
    world.config = PipelineConfig(weekly={"in_app": 9}, plan=PlanConfig(windows=1, day_cap=2))
    world.urgent().decide([urgent("live", ["ann"])], MONDAY_NOON - 7200)
    first, second = (world.tick(MONDAY_NOON + day * 86400)["ann"] for day in (0, 1))
    assert [sum(told[0] == "send" for told in day.values()) for day in (first, second)] == [1, 2]


def test_the_last_unit_of_a_budget_is_left_to_the_urgent_lane(world: World) -> None:
    world.config = PipelineConfig(weekly={"in_app": 2}, pacing=PacingConfig(urgent_share=0.5))
    assert sum(told[0] == "send" for told in world.tick(MONDAY_NOON)["ann"].values()) == 1
    world.items.put([{"item_id": "live", "created_at": MONDAY_NOON, "half_life_s": 600}])
    [result] = world.urgent().decide([urgent("live", ["ann"])], MONDAY_NOON + 60)
    assert result.disposition == ["send"]


def test_whoever_was_told_nothing_for_long_begins_with_a_part_of_the_budget(world: World) -> None:
    world.config = PipelineConfig(weekly={"in_app": 2}, pacing=PacingConfig(ramp_days=7, ramp_from=0.5))
    assert sum(told[0] == "send" for told in world.tick(MONDAY_NOON)["ann"].values()) == 1


def test_a_cap_a_day_binds_both_lanes_and_a_gap_the_scheduled_one_without_a_plan(world: World) -> None:
    names = ("l1", "l2", "l3")
    world.items.put([{"item_id": name, "created_at": MONDAY_NOON - 7300, "expires_at": MONDAY_NOON - 600} for name in names])
    world.config = PipelineConfig(weekly={"in_app": 9}, pacing=PacingConfig(day_cap=2, least_gap_s=8000))
    told = [world.urgent().decide([urgent(name, ["ann"], decision_id=name)], MONDAY_NOON - 7200)[0].disposition for name in names]
    assert told == [["send"], ["send"], ["over_budget"]]
    world.config = replace(world.config, pacing=PacingConfig(least_gap_s=8000))
    day = world.tick(MONDAY_NOON)
    assert {reason for _, reason in day["ann"].values()} == {"window_full"}
    assert {disposition for disposition, _ in day["bob"].values()} == {"send"}


def test_what_a_user_has_read_is_not_news(world: World) -> None:
    """An item that its user engaged with is not offered to that user."""
    world.seen.add(["ann"], hash64(["x"]))
    told = world.tick(MONDAY_NOON)
    assert told["ann"]["x"] == ("ineligible", "already_engaged")
    assert told["bob"]["x"][0] == "send"


def test_what_is_not_worth_a_unit_stays_below_the_threshold(world: World) -> None:
    """The learned threshold of a channel keeps a weaker row back, whatever budget is left."""
    world.ranker.values = {"x": 0.9, "y": 0.2}
    world.thresholds.write({"in_app": 0.5, "email": 0.95})
    told = world.tick(MONDAY_NOON)
    assert told["ann"] == {"x": ("send", "above_threshold"), "y": ("below_threshold", "below_threshold")}


def test_a_row_that_the_ranker_cut_says_so_and_is_not_sent(world: World) -> None:
    """A row without a value competes for nothing, and its log tells why."""
    world.ranker.values = {"x": 0.9, "y": np.nan}
    told = world.tick(MONDAY_NOON)
    assert told["ann"] == {"x": ("send", "above_threshold"), "y": ("below_threshold", "over_candidate_limit")}
    assert world.logged().query("item_id == 'y'")["propensity"].eq(0).all()


def test_a_user_hears_nothing_twice_nor_of_themselves(world: World) -> None:
    """Authors are not told of their own items; sent items are duplicates; suppressed and unwilling users are left alone."""
    world.items.put([{"item_id": "mine", "created_at": MONDAY_NOON - 60, "author_id": "ann"}])
    world.profiles.add_bits(["bob"], "suppressed", [1], True)
    world.profiles.add_bits(["cid"], "not_allowed", [1], True)
    told = world.tick(MONDAY_NOON)
    assert told["ann"]["mine"] == ("ineligible", "author_is_recipient")
    assert set(told["bob"].values()) == {("suppressed", "unsubscribed")}
    assert set(told["cid"].values()) == {("ineligible", "preference")}
    [result] = world.urgent().decide([urgent("x", ["ann"])], MONDAY_NOON + 60)
    assert result.reason == ["already_sent"]


def test_follows_narrow_what_is_proposed(world: World) -> None:
    """A user who follows a topic gets its posts only; one who follows nothing gets everything new."""
    world.items.put([{"item_id": "net", "created_at": MONDAY_NOON - 60, "topics": ["net"]}])
    world.follows.put(["ann"], [Followed(("net",))])
    told = world.tick(MONDAY_NOON)
    assert set(told["ann"]) == {"net"}
    assert set(told["bob"]) == {"x", "y", "net"}


def test_an_urgent_item_that_can_wait_is_held_and_offered_in_the_window(world: World) -> None:
    """Value that outlasts the wait is held, ranked in the window, and released there."""
    world.items.put([{"item_id": "slow", "created_at": MONDAY_NOON - 7200, "half_life_s": 7 * 86400}])
    world.ranker.values = {"slow": 0.95}
    [result] = world.urgent().decide([urgent("slow", ["ann", "stranger"])], MONDAY_NOON - 1800)
    assert list(zip(result.disposition, result.reason, strict=True)) == [("hold", "better_next_window"), ("ineligible", "unknown_user")]
    assert world.tick(MONDAY_NOON)["ann"]["slow"][0] == "send"
    assert not any(world.held.read(["ann"]))


def test_an_urgent_item_that_decays_goes_now(world: World) -> None:
    """A short half-life does not wait, and spends the same budget as the scheduled lane."""
    world.items.put([{"item_id": "live", "created_at": MONDAY_NOON - 7300, "half_life_s": 600}])
    [result] = world.urgent().decide([urgent("live", ["ann", "bob"])], MONDAY_NOON - 7200)
    assert result.disposition == ["send", "send"]
    assert result.score == [0.5, 0.5]
    told = world.tick(MONDAY_NOON)
    assert sorted(outcome[0] for outcome in told["ann"].values()) == ["duplicate", "over_budget", "send"]


def test_quiet_hours_hold_and_critical_does_not(world: World) -> None:
    """In quiet hours a good row is held whatever its decay; a critical one goes, also without budget."""
    world.items.put([{"item_id": "live", "created_at": MONDAY_NOON - 7300, "half_life_s": 600}])
    world.profiles.write(["ann"], "quiet_from", [9 * 60])
    world.profiles.write(["ann"], "quiet_to", [11 * 60])
    world.profiles.write(["ann"], "budget", np.zeros((1, 16), np.uint8))
    now = MONDAY_NOON - 7200
    [result] = world.urgent().decide([urgent("live", ["ann"])], now)
    assert (result.disposition, result.reason) == (["hold"], ["quiet_hours"])
    [critical] = world.urgent().decide([urgent("live", ["ann"], critical=True, decision_id="d2")], now)
    assert (critical.disposition, critical.reason) == (["send"], ["critical"])


@pytest.mark.parametrize(
    ("off", "stopped"),
    [
        ("everything", ["in_app", "email"]),
        ("lane:urgent", ["in_app", "email"]),
        ("channel:email", ["email"]),
        ("kind:room", ["in_app", "email"]),
        ("source:urgent", ["in_app", "email"]),
    ],
)
def test_nothing_of_what_is_off_is_sent_not_even_what_is_critical(world: World, off: str, stopped: list[str]) -> None:
    world.items.put([{"item_id": "live", "created_at": MONDAY_NOON - 7300, "half_life_s": 600, "kind": "room"}])
    asked = urgent("live", ["ann"], channels=("in_app", "email"), critical=True)
    world.is_off = {off, "lane:scheduled", "kind:post", "channel:push"}
    [result] = world.urgent().decide([asked], MONDAY_NOON - 7200)
    told = dict(zip(result.channel, zip(result.disposition, result.reason, strict=True), strict=True))
    assert {channel for channel, outcome in told.items() if outcome == ("suppressed", "switched_off")} == set(stopped)
    assert {channel for _, _, channel in world.sent()} == {"in_app", "email"} - set(stopped)
    world.is_off = set()
    [result] = world.urgent().decide([replace(asked, decision_id="d2")], MONDAY_NOON - 7100)
    assert "switched_off" not in result.reason


def test_what_is_held_waits_for_the_window_after_it_was_off(world: World) -> None:
    world.items.put([{"item_id": "slow", "created_at": MONDAY_NOON - 7200, "half_life_s": 7 * 86400}])
    world.ranker.values = {"slow": 0.95}
    world.urgent().decide([urgent("slow", ["ann"])], MONDAY_NOON - 1800)
    world.is_off = {"lane:scheduled"}
    assert {outcome for outcome, _ in world.tick(MONDAY_NOON)["ann"].values()} == {"suppressed"}
    assert world.sent() == set()
    assert [len(rows) for rows in world.held.read(["ann"])] == [1]


def without(user: str) -> Holdout:
    """Return a holdout that holds out one of the users."""
    halves = (Holdout(0.5, f"salt {number}") for number in range(200))
    return next(holdout for holdout in halves if [name for name, out in zip(USERS, holdout.holds(USERS), strict=True) if out] == [user])


def test_whoever_is_held_out_is_sent_nothing_scheduled_and_moves_on_with_everybody(world: World) -> None:
    world.config = replace(world.config, weekly={"in_app": 9}, holdout=without("bob"))
    for week in range(2):
        at = MONDAY_NOON + week * 604_800
        world.items.put([{"item_id": f"new{week}", "created_at": at - 60}])
        told = world.tick(at)
        assert set(told["bob"].values()) == {("ineligible", "holdout")}
        assert told["ann"][f"new{week}"] == ("send", "above_threshold")
    mine = world.logged().query("user_id == 'bob'")
    assert mine["value"].isna().all()
    assert mine["propensity"].eq(0).all()
    assert "bob" not in {user for user, _, _ in world.sent()}


def test_a_holdout_takes_only_what_would_have_been_decided_on(world: World) -> None:
    world.config = replace(world.config, holdout=without("bob"))
    world.seen.add(["bob"], hash64(["x"]))
    assert world.tick(MONDAY_NOON)["bob"] == {"x": ("ineligible", "already_engaged"), "y": ("ineligible", "holdout")}


def test_a_holdout_touches_nothing_that_is_urgent_critical_or_put_off_by_the_urgent_lane(world: World) -> None:
    """Live, critical and slow items reach the one who is held out as they do everybody; the slow one waits for the window."""
    lives = {"live": 600.0, "alarm": 600.0, "slow": 7 * 86400.0}
    world.items.put([{"item_id": name, "created_at": MONDAY_NOON - 3600, "half_life_s": lasts} for name, lasts in lives.items()])
    world.config = replace(world.config, weekly={"in_app": 5, "email": 1}, holdout=without("bob"))
    world.ranker.values = {"live": 0.9, "slow": 0.8}
    asked = [urgent(name, ["ann", "bob"], critical=name == "alarm", decision_id=name) for name in lives]
    results = world.urgent().decide(asked, MONDAY_NOON - 1800)
    assert [result.disposition for result in results] == [["send", "send"], ["send", "send"], ["hold", "hold"]]
    assert world.tick(MONDAY_NOON)["bob"] == {
        "slow": ("send", "above_threshold"),
        "x": ("ineligible", "holdout"),
        "y": ("ineligible", "holdout"),
        "live": ("duplicate", "already_sent"),
        "alarm": ("duplicate", "already_sent"),
    }


def test_a_repeated_decision_finds_its_own_grants(world: World) -> None:
    """The same decision id, sent again, answers as the first time and sends nothing more."""
    world.items.put([{"item_id": "live", "created_at": MONDAY_NOON - 7300, "half_life_s": 600}])
    requests = [urgent("live", ["ann", "bob"], channels=("email",))]
    first = world.urgent().decide(requests, MONDAY_NOON - 7200)
    assert world.urgent().decide(requests, MONDAY_NOON - 7190) == first
    assert world.sent() == {("ann", "live", "email"), ("bob", "live", "email")}


def test_requests_decided_together_share_budgets_and_keep_their_answers(world: World) -> None:
    """Merged requests answer in their own order; one unit of e-mail goes to one of them."""
    fresh = [{"item_id": name, "created_at": MONDAY_NOON - 7300, "half_life_s": 600.0} for name in ("l1", "l2")]
    world.ranker.values = {"l1": 0.4, "l2": 0.6}
    asked = [
        UrgentRequest(fresh[0], "l1", ["dee", "ann"], ("email",), False, "k", "d1"),
        UrgentRequest(fresh[1], "l2", ["ann", "bob"], ("email", "in_app"), False, "k", "d2"),
    ]
    one, two = world.urgent().decide(asked, MONDAY_NOON - 7200)
    assert one.user_id == ["dee", "ann"]
    assert list(zip(one.disposition, one.reason, strict=True)) == [("ineligible", "no_address"), ("send", "above_threshold")]
    assert two.user_id == ["ann", "ann", "bob", "bob"]
    assert two.channel == ["email", "in_app", "email", "in_app"]
    assert two.reason == ["other_channel_better", "above_threshold", "other_channel_better", "above_threshold"]


def test_a_stale_fence_stops_the_shard(world: World) -> None:
    """A worker whose lease has passed on grants nothing and stops."""
    shard = shard_of("ann", META.shards)
    old = world.leases.acquire(shard_lease(shard), "old", MONDAY_NOON - 100, 10.0)
    assert world.leases.acquire(shard_lease(shard), "new", MONDAY_NOON, 10.0) != old
    assert old is not None
    world.scheduled().run(shard, int(MONDAY_NOON // SLOT_S), old, HeldClock(MONDAY_NOON))
    assert world.sent() == set()
    assert world.due.counts(int(MONDAY_NOON // SLOT_S))[shard] > 0


def test_unsent_rows_may_be_sampled_with_their_weight(world: World) -> None:
    """With a log share of a half, what was granted is logged whole, and weights add up to about all rows."""
    world.items.put([{"item_id": f"i{n}", "created_at": MONDAY_NOON - 100 - n} for n in range(90)])
    world.config = PipelineConfig(weekly={"in_app": 2}, log_share=0.5)
    world.tick(MONDAY_NOON)
    logged = [unpack(world.entries(shard)) for shard in range(META.shards)]
    weights = sum(float(frame["weight"].sum()) for frame in logged)
    assert sum((frame["disposition"] == "send").sum() for frame in logged) == 2 * len(USERS)
    assert 4 * 92 * 0.8 < weights < 4 * 92 * 1.2
