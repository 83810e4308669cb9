"""Whatever happens to a feature, about as much is sent as before, within budgets, and what does harm is found; calm weeks are calm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from budgets.allowance import allowance
from lake.decisions import SEND
from ranking.blocks import Matrix
from ranking.features import FEATURES
from ranking.guard import Guard
from ranking.reference import COLUMNS, Reference
from ranking.relief import Relief, Relieving, model_of, scores_of
from ranking.steadying import Steady, draws_of
from scheduler.decide import DecideConfig, Rows, decide
from tests.unit.ranking.traffic import DAY_S, EACH, JOBS, RULE, USERS, Watched, World, model, watched

WARM, FAULTY, AFTER = range(10, 31), range(31, 35), range(35, 36)
WEEKLY = 5
FAULTS: dict[str, Callable[[Matrix], Matrix]] = {
    "missing": lambda column: np.full_like(column, np.nan),
    "zero": np.zeros_like,
    "tenfold": lambda column: column * 10,
}


@dataclass
class Budgets:
    """Sends by day and user, decided as in a window, under a weekly budget."""

    threshold: float
    sends: list[npt.NDArray[np.int64]]

    def decide(self, value: Matrix) -> None:
        rows = len(value)
        contest = Rows(
            user=np.repeat(np.arange(USERS), EACH).astype(np.int32),
            item=np.arange(rows, dtype=np.int32),
            entity=np.arange(rows, dtype=np.uint64),
            channel=np.zeros(rows, np.uint8),
            value=value,
            threshold=np.full(rows, self.threshold, np.float32),
            value_later=np.full(rows, -np.inf, np.float32),
            critical=np.zeros(rows, bool),
        )
        spent = np.sum(self.sends[-6:], axis=0, dtype=np.int16).reshape(USERS, 1) if self.sends else np.zeros((USERS, 1), np.int16)
        disposition, _ = decide(contest, allowance(spent, np.full((USERS, 1), WEEKLY, np.uint8)), DecideConfig(top_n=2))
        self.sends.append(np.bincount(contest.user[disposition == SEND], minlength=USERS))


@cache
def day(number: int) -> Matrix:
    return World().day(number)


@cache
def raw(number: int) -> Matrix:
    return scores_of(model(), day(number))


@cache
def before() -> tuple[Watched, float, list[npt.NDArray[np.int64]]]:
    """Return a guard after calm weeks, the threshold of the channel, and the last week's sends."""
    guarded = watched(WARM)
    assert not guarded.was_out
    threshold = float(np.quantile(np.concatenate([raw(number)[:, 1] for number in WARM]), 0.94))
    budgets = Budgets(threshold, [])
    for number in WARM:
        budgets.decide(raw(number)[:, 1])
    return guarded, threshold, budgets.sends[-7:]


def days(fault: str = "", column: int = 0) -> tuple[Budgets, Budgets, Watched]:
    """Return what was sent, without a guard and with one, on some days of which a column is spoilt and a day after them."""
    watched, threshold, sends = before()
    watched, *both = copy.deepcopy(watched), Budgets(threshold, list(sends)), Budgets(threshold, list(sends))
    for number in (*FAULTY, *AFTER):
        rows, scores = day(number), raw(number)
        if fault and number in FAULTY:
            rows = rows.copy()
            rows[:, column] = FAULTS[fault](rows[:, column])
            scores = scores_of(model(), rows)
        both[0].decide(scores[:, 1])
        both[1].decide(watched.score(rows, number, scores))
    return both[0], both[1], watched


def volume(budgets: Budgets) -> int:
    """Return the sends of the faulty days."""
    return int(np.sum(budgets.sends[7 : 7 + len(FAULTY)]))


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_a_feature_becomes_as_much_is_sent_within_budgets_and_what_does_harm_is_found(fault: str) -> None:
    usual, harmful = volume(days()[0]), 0
    for column, name in enumerate(FEATURES):
        unguarded, guarded, watched = days(fault, column)
        assert abs(volume(guarded) / usual - 1) <= 0.2, name
        weeks = np.stack([np.sum(guarded.sends[first : first + 7], axis=0) for first in range(4)])
        assert weeks.max() <= WEEKLY, name
        assert not watched.guard.is_tripped, f"{name} is as it was, and so is the guard"
        if abs(volume(unguarded) / usual - 1) > 0.1:
            harmful += 1
            assert watched.was_out, name
    assert harmful >= 3


@pytest.mark.parametrize("seed", [0, 1])
def test_on_undisturbed_weeks_the_guard_never_trips_and_scores_are_the_models_own(seed: int) -> None:
    guarded = watched(range(10, 24), seed)
    for number in range(24, 52):
        rows = World(seed).day(number)
        raw_scores = scores_of(model(), rows)
        assert np.array_equal(guarded.score(rows, number, raw_scores), raw_scores[:, 1])
    assert not guarded.was_out


def test_before_a_day_is_known_only_a_column_that_is_all_but_gone_trips_and_the_model_ranks_as_ever() -> None:
    normal = model().normal
    assert normal is not None
    moved, gone = World().day(40), World().day(40)
    moved[:, 0] += 1
    gone[:, 0] = np.nan
    found = [Watched(Guard(normal, RULE), Relieving()) for _ in range(2)]
    for each, rows in zip(found, (moved, gone), strict=True):
        each.score(rows, 40)
    assert [each.was_out for each in found] == [False, True]
    assert [finding.column for finding in found[1].guard.findings] == [FEATURES[0]]
    assert [each.relief for each in found] == [None, None]
    assert str(found[1].guard.findings[0]).startswith(f"{FEATURES[0]}: missing 1.00, bound 0.90")


def test_what_was_learned_is_kept_across_a_restart_and_a_file_that_is_none_is_left(tmp_path: Path) -> None:
    learned, normal = before()[0].guard, model().normal
    assert normal is not None
    learned.save(tmp_path / "guard.npz")
    (tmp_path / "other.npz").write_bytes(b"PK")
    again = Guard(normal, RULE)
    assert again.load(tmp_path / "guard.npz")
    assert np.array_equal(again.limits(), learned.limits())
    assert np.array_equal(again.normal_scores, learned.normal_scores)
    for wrong, rule in (("other.npz", RULE), ("none.npz", RULE), ("guard.npz", replace(RULE, cells=8))):
        assert not Guard(normal, rule).load(tmp_path / wrong)


def test_where_only_scores_are_out_the_model_before_ranks_at_the_volume_of_the_one_that_serves() -> None:
    guarded, threshold, _ = copy.deepcopy(before())
    better, rows = replace(model(), model_id="before"), day(31)
    packed = b""
    for job, places in enumerate(np.split(np.arange(len(rows)), JOBS)):
        broken = np.full((len(places), 2), 0.9, np.float32)
        block = guarded.guard.see(rows[places], broken, len(places) // EACH, len(places), 31 * DAY_S + job * RULE.cell_s)
        assert block is not None
        packed = guarded.relieving.after(block, guarded.guard, model(), better, 31 * DAY_S + job * RULE.cell_s)
    relief = Relief.unpacked(packed, {"before": better}.__getitem__)
    assert [COLUMNS[place] for place in np.flatnonzero(guarded.guard.out)] == ["probability", "value"]
    assert model_of(relief.bundle.model_id) == "before" != relief.bundle.model_id
    value = relief.scores(raw(31)[:, 0], raw(31)[:, 1], draws_of(rows))[1]
    assert (value > threshold).mean() == pytest.approx(0.06, rel=0.2)


def test_a_reference_is_the_same_after_json_and_another_one_is_refused() -> None:
    normal = model().normal
    assert normal is not None
    content = normal.as_json()
    again = Reference.from_json(content)
    for name in ("edges", "counts", "middle"):
        assert np.array_equal(getattr(again, name), getattr(normal, name), equal_nan=True)
    with pytest.raises(ValueError, match="other columns"):
        Reference.from_json(content | {"columns": ["a"]})
    with pytest.raises(ValueError, match="another length"):
        Reference.from_json(content | {"middle": [1.0]})


def test_steadied_scores_keep_their_order_and_spread_over_what_was_usual_even_where_all_are_the_same() -> None:
    random = np.random.default_rng(0)
    usual, now = random.normal(size=(4000, 2)).astype(np.float32), random.gamma(1, 1, (3000, 2)).astype(np.float32)
    rows = random.normal(size=(3000, len(FEATURES))).astype(np.float32)
    moved = Steady.of(now, usual)(now, draws_of(rows))
    assert (np.diff(moved[np.lexsort((moved[:, 0], now[:, 0])), 0]) >= 0).all()
    same = np.full((3000, 2), 0.5, np.float32)
    for scores in (moved, Steady.of(same, usual)(same, draws_of(rows))):
        assert np.quantile(scores, [0.05, 0.5, 0.95]) == pytest.approx(np.quantile(usual, [0.05, 0.5, 0.95]), abs=0.15)
    assert np.isnan(Steady.of(now, usual)(np.full((1, 2), np.nan, np.float32), draws_of(rows[:1]))).all()
    assert np.array_equal(draws_of(rows), draws_of(rows.copy()))


def test_that_everybody_is_known_for_longer_than_training_saw_is_no_fault() -> None:
    normal = model().normal
    assert normal is not None
    tenure, other = Watched(Guard(normal, RULE), Relieving()), Watched(Guard(normal, RULE), Relieving())
    for found, name in ((tenure, "user_tenure_d"), (other, "user_recency_h")):
        rows = World().day(40)
        rows[:, FEATURES.index(name)] = np.nanmax(rows[:, FEATURES.index(name)]) + 1_000
        found.score(rows, 40)
    assert [tenure.was_out, other.was_out] == [False, True]
