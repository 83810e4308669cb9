"""Exploration: every rule of the decision still holds, and each row's propensity is how often it is sent."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.clock import HeldClock
from lake.decisions import DUPLICATE, OVER_BUDGET, REASON, SEND
from lake.ids import hash64
from scheduler.decide import DecideConfig, Rows, decide
from scheduler.exploration import ExploreConfig, draws_of, explore, possible
from scheduler.late import LateConfig
from scheduler.pipeline import PipelineConfig
from tests.properties.test_decide import USERS, batches
from tests.unit.scheduler.test_lanes import NOON_SLOT, Reports, crowd, fence_of, lane_of
from tests.unit.scheduler.test_pipeline import MONDAY_NOON, World, furnished

__all__ = ["crowd"]

SHARE = 0.2
CONFIG = ExploreConfig(SHARE, reach=3, least_value=0.4)


def explored(
    rows: Rows, allowance: npt.NDArray[np.int16], decided: DecideConfig, draws: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    return explore(rows, allowance, decide(rows, allowance, decided), draws, CONFIG)


def swaps_by_hand(rows: Rows, allowance: npt.NDArray[np.int16], disposition: npt.NDArray[np.uint8], user: int) -> set[tuple[int, int]]:
    """The swaps of a user: every pair is tried and the whole outcome checked against the rules."""
    mine = [row for row in range(len(rows.user)) if rows.user[row] == user and not rows.critical[row]]
    taken = [row for row in mine if disposition[row] == SEND]
    runners = [row for row in mine if disposition[row] in (OVER_BUDGET, DUPLICATE)]
    runners = sorted(runners, key=lambda row: (-rows.value[row], row))[: CONFIG.reach]
    found = set()
    for out, into in product(taken, runners):
        after = [row for row in taken if row != out] + [into]
        spent = np.bincount(rows.channel[after], minlength=allowance.shape[1])
        alone = len({int(rows.entity[row]) for row in after}) == len({int(rows.item[row]) for row in after}) == len(after)
        if alone and (spent <= allowance[user]).all() and rows.value[into] >= CONFIG.least_value * rows.value[out]:
            found.add((out, into))
    return found


@given(batches())
def test_propensities_are_those_of_every_outcome_enumerated(batch: tuple[Rows, npt.NDArray[np.int16], DecideConfig]) -> None:
    rows, allowance, config = batch
    if not len(rows.user):
        return
    disposition, _ = decide(rows, allowance, config)
    chance = (disposition == SEND).astype(float)
    for user in range(USERS):
        swaps = swaps_by_hand(rows, allowance, disposition, user)
        outcomes = []
        for place in range(len(swaps)):
            draws = np.vstack([np.ones(USERS), np.zeros(USERS)])
            draws[:, user] = (0.0, (place + 0.5) / len(swaps))
            after, reason, _ = explored(rows, allowance, config, draws)
            [out], [into] = np.flatnonzero((disposition == SEND) & (after != SEND)), np.flatnonzero((disposition != SEND) & (after == SEND))
            assert reason[into] == REASON["explored"]
            outcomes.append((int(out), int(into)))
        assert len(outcomes) == len(set(outcomes))
        assert set(outcomes) == swaps
        for loser, winner in swaps:
            chance[loser] -= SHARE / len(swaps)
            chance[winner] += SHARE / len(swaps)
    assert explored(rows, allowance, config, np.ones((2, USERS)) * 0.99)[2] == pytest.approx(chance, abs=1e-6)


@given(batches(), st.integers(0, 2**32))
def test_what_is_sent_keeps_its_number_and_every_send_had_a_chance(
    batch: tuple[Rows, npt.NDArray[np.int16], DecideConfig], seed: int
) -> None:
    rows, allowance, config = batch
    greedy, _ = decide(rows, allowance, config)
    disposition, _, propensity = explored(rows, allowance, config, np.random.default_rng(seed).random((2, USERS)))
    for user in range(USERS):
        mine = rows.user == user
        assert (disposition[mine] == SEND).sum() == (greedy[mine] == SEND).sum() == pytest.approx(propensity[mine].sum(), abs=1e-5)
    assert (propensity[disposition == SEND] > 0).all()
    assert ((propensity > -1e-6) & (propensity < 1 + 1e-6)).all()
    assert (disposition[rows.critical] == SEND).all()
    assert (propensity[rows.critical] == 1).all()


@given(batches())
def test_a_share_of_0_changes_nothing(batch: tuple[Rows, npt.NDArray[np.int16], DecideConfig]) -> None:
    rows, allowance, config = batch
    greedy = decide(rows, allowance, config)
    disposition, reason, propensity = explore(rows, allowance, greedy, np.zeros((2, USERS)), ExploreConfig())
    assert disposition.tolist() == greedy[0].tolist()
    assert reason.tolist() == greedy[1].tolist()
    assert propensity.tolist() == (greedy[0] == SEND).astype(float).tolist()


def window(users: int) -> tuple[Rows, npt.NDArray[np.int16]]:
    """Five rows per user, the last of them worth too little to come in."""
    value = np.tile(np.array([0.9, 0.8, 0.7, 0.6, 0.01], np.float32), users)
    n = len(value)
    rows = Rows(
        user=np.repeat(np.arange(users, dtype=np.int32), 5),
        item=np.tile(np.arange(5, dtype=np.int32), users),
        entity=np.tile(np.arange(1, 6, dtype=np.uint64), users),
        channel=np.zeros(n, np.uint8),
        value=value,
        threshold=np.zeros(n, np.float32),
        value_later=np.full(n, -np.inf, np.float32),
        critical=np.zeros(n, bool),
    )
    return rows, np.full((users, 1), 9, np.int16)


def test_rows_are_sent_as_often_as_their_propensity_says() -> None:
    rows, allowance = window(20_000)
    draws = draws_of(hash64(["d"]).repeat(20_000), hash64([f"u{number}" for number in range(20_000)]))
    disposition, _, propensity = explored(rows, allowance, DecideConfig(top_n=2), draws)
    sent = (disposition == SEND).reshape(-1, 5).mean(axis=0)
    assert sent == pytest.approx(propensity[:5].tolist(), abs=0.01)
    assert propensity[:5] == pytest.approx([0.9, 0.9, 0.1, 0.1, 0.0], abs=1e-6)


def test_weighing_by_propensities_gives_the_value_of_always_sending_a_runner_up() -> None:
    rows, allowance = window(40_000)
    random = np.random.default_rng(0)
    disposition, _, propensity = explored(rows, allowance, DecideConfig(top_n=1), random.random((2, 40_000)))
    engaged = random.random(len(rows.user)) < np.tile([0.1, 0.4, 0.2, 0.3, 0.0], 40_000)
    third = (rows.item == 2) & (disposition == SEND)
    assert (engaged[third] / propensity[third]).sum() / 40_000 == pytest.approx(0.2, abs=0.02)


def test_draws_repeat_with_their_decision_and_differ_between_users_and_decisions() -> None:
    users = hash64(["a", "b", "c"])
    one, other = hash64(["d1"]).repeat(3), hash64(["d2"]).repeat(3)
    assert np.array_equal(draws_of(one, users), draws_of(one, users))
    assert len(np.unique(np.concatenate([draws_of(one, users), draws_of(other, users)]))) == 12


def test_reach_and_value_bound_what_may_come_in() -> None:
    rows, allowance = window(1)
    disposition, _ = decide(rows, allowance, DecideConfig(top_n=1))
    assert set(possible(rows, allowance, disposition, ExploreConfig(0.1, reach=2, least_value=0.0)).into) == {1, 2}
    assert set(possible(rows, allowance, disposition, ExploreConfig(0.1, reach=9, least_value=0.7)).into) == {1, 2}


@pytest.mark.parametrize(("share", "reach", "least_value"), [(0.6, 5, 0.5), (-0.1, 5, 0.5), (0.1, 0, 0.5), (0.1, 5, 2.0)])
def test_a_configuration_that_is_not_small_is_refused(share: float, reach: int, least_value: float) -> None:
    with pytest.raises(ValueError, match="exploration takes"):
        ExploreConfig(share, reach, least_value)


def test_the_pipeline_logs_the_propensity_of_every_row_and_repeats_its_draws() -> None:
    def sent() -> tuple[list[tuple[str, str]], npt.NDArray[np.float64]]:
        world = furnished(World.in_memory())
        world.ranker.values = {"x": 0.9, "y": 0.6}
        world.config = PipelineConfig(weekly={"in_app": 9}, decide=DecideConfig(top_n=1), explore=ExploreConfig(0.4))
        world.tick(MONDAY_NOON)
        log = world.logged()
        rows = log[log["disposition"] == "send"]
        assert log.groupby("user_id")["propensity"].sum().to_numpy() == pytest.approx([1.0] * 4)
        assert sorted(log["propensity"].astype(float)) == pytest.approx([0.4] * 4 + [0.6] * 4)
        return sorted(zip(rows["user_id"], rows["item_id"], strict=True)), rows["propensity"].to_numpy(np.float64)

    assert sent()[0] == sent()[0]


def test_rows_of_a_window_that_is_decided_late_are_sent_as_often_as_their_propensity_says(crowd: World) -> None:
    """What is shed is the least valuable, which what is drawn is: it must not be drawn first and shed then."""
    crowd.items.put([{"item_id": name, "created_at": MONDAY_NOON - 60} for name in ("y", "z")])
    crowd.ranker.values = {"x": 0.9, "y": 0.8, "z": 0.6}
    crowd.config = PipelineConfig(weekly={"in_app": 9}, decide=DecideConfig(top_n=2), explore=ExploreConfig(0.4))
    late_s = (LateConfig().grace_s + LateConfig().bound_s) / 2
    report = lane_of(crowd, Reports()).run(0, NOON_SLOT, fence_of(crowd), HeldClock(MONDAY_NOON + late_s))
    log = crowd.logged()
    log = log.assign(sent=log["disposition"] == "send", propensity=log["propensity"].astype(float))
    assert 0 < report.sends < report.users * 2
    by_user, by_item = (log.groupby(name, observed=True)[["sent", "propensity"]] for name in ("user_id", "item_id"))
    assert by_user.sum()["propensity"].to_numpy() == pytest.approx(by_user.sum()["sent"].to_numpy(), abs=1e-6)
    assert by_item.mean()["propensity"].to_numpy() == pytest.approx(by_item.mean()["sent"].to_numpy(), abs=0.05)
    assert by_item.mean()["sent"].to_numpy().min() > 0.05, "z, too, which is worth least"
