"""Value and the risk of opting out: what harms its reader is worth less, down to not being sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.items import ItemTable, MemoryItemStore
from ranking import bundle as bundles
from ranking.bundle import BundleError, Window
from ranking.calibration import Calibration
from ranking.features import FEATURES
from ranking.opt_out import OptOut, OptOutRule, fit, learn, outcomes, rate_of
from ranking.scorer import Scorer
from ranking.store import MemoryFeatureStore
from ranking.value import ValueRule, value_of
from scheduler.decide import DecideConfig, Rows, decide
from tests.unit.ranking.models import booster, bundle_of

UNTIL = pd.Timestamp("2026-03-01", tz="UTC")


def test_value_is_what_the_engagement_brings_less_what_the_risk_costs() -> None:
    probability, risk = np.array([0.2, 0.01], np.float32), np.array([0.001, 0.004], np.float32)
    assert value_of(probability, risk, ValueRule(2.0, 5.0)) == pytest.approx([0.395, 0.0], abs=1e-7)
    assert np.array_equal(value_of(probability), probability)
    assert value_of(probability, risk).dtype == np.float32


def test_raising_the_risk_lowers_what_is_sent_and_never_raises_it() -> None:
    random, n = np.random.default_rng(0), 400
    probability = random.beta(1, 20, n).astype(np.float32)
    one = np.zeros(n, np.uint8)

    def sends(risk: float) -> int:
        rows = Rows(
            user=np.repeat(np.arange(100, dtype=np.int32), 4),
            item=np.arange(n, dtype=np.int32),
            entity=np.arange(1, n + 1, dtype=np.uint64),
            channel=one,
            value=value_of(probability, risk),
            threshold=np.zeros(n, np.float32),
            value_later=np.full(n, -np.inf, np.float32),
            critical=one.astype(bool),
        )
        return int((decide(rows, np.full((100, 1), 9, np.int16), DecideConfig())[0] == 0).sum())

    counts = [sends(risk) for risk in (0.0, 0.001, 0.003, 0.01, 0.1)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 300 > counts[2] > counts[3] > counts[4] == 0


def test_the_scorer_takes_the_risk_of_its_bundle_off_the_value_and_leaves_the_probability() -> None:
    plain = bundle_of()
    users, items, zero = ["u"], ["i", "j"], np.zeros(2, np.int32)
    scores = {}
    for rate in (0.0, 0.01):
        model = replace(plain, opt_out=OptOut(rate))
        scorer = Scorer(model, MemoryFeatureStore(), ItemTable(MemoryItemStore()), rule=ValueRule(opt_out_cost=5.0))
        scores[rate] = scorer.score(users, items, zero, np.arange(2, dtype=np.int32), zero.astype(np.uint8), ("in_app",), 1e9)
    assert np.array_equal(scores[0.0].probability, scores[0.01].probability)
    assert scores[0.01].value == pytest.approx(scores[0.0].value - 0.05, abs=1e-6)


def test_trees_learn_who_opts_out_and_one_rate_stays_where_nothing_tells_them_apart() -> None:
    random = np.random.default_rng(1)
    matrix = random.normal(size=(20_000, len(FEATURES))).astype(np.float32)
    told = matrix[:, 3] > 1
    learned = fit(matrix, random.random(20_000) < np.where(told, 0.05, 0.002), 0.01)
    assert learned.booster is not None
    risk = learned.risks(matrix)
    assert risk[told].mean() == pytest.approx(0.05, abs=0.012)
    assert risk[~told].mean() == pytest.approx(0.002, abs=0.002)
    blind = fit(matrix, random.random(20_000) < 0.003, 0.003, OptOutRule(trees=200))
    assert blind.booster is None
    assert blind.risks(matrix[:3]).tolist() == pytest.approx([0.003] * 3)


def history(opted: int, users: int = 600) -> Dataset:
    """A history of two sends per user in January; the first `opted` users unsubscribe three days after the second."""
    ids = [f"u{number}" for number in range(users)]
    first, second = (pd.Timestamp(day, tz="UTC") for day in ("2026-01-05", "2026-01-10"))
    sends = pd.DataFrame({"user_id": ids * 2, "item_id": ["a"] * users + ["b"] * users, "channel": "push"})
    sends["at"] = [first] * users + [second] * users
    gone = pd.DataFrame({"user_id": ids[:opted], "item_id": None, "kind": "unsubscribe", "at": second + pd.Timedelta(days=3)})
    seen = pd.DataFrame({"user_id": ids, "item_id": "a", "kind": "view", "at": first + pd.Timedelta(hours=1)})
    return Dataset.of({"events": pd.concat([seen, gone], ignore_index=True), "sends": sends})


def test_an_opt_out_is_laid_to_the_latest_send_before_it() -> None:
    sends, opted = outcomes(history(30), UNTIL.timestamp(), OptOutRule())
    assert opted.sum() == 30
    assert set(sends.loc[opted, "item_id"]) == {"b"}


def test_sends_whose_window_is_not_over_and_late_opt_outs_teach_nothing() -> None:
    sends, opted = outcomes(history(30), pd.Timestamp("2026-01-14", tz="UTC").timestamp(), OptOutRule())
    assert set(sends["item_id"]) == {"a"}
    assert opted.sum() == 0
    assert outcomes(history(30), UNTIL.timestamp(), OptOutRule(window_s=86400.0))[1].sum() == 0


def test_an_opt_out_after_a_send_whose_window_is_open_is_not_laid_to_an_older_one() -> None:
    noon, rule = pd.Timestamp("2026-01-13T12:00", tz="UTC"), OptOutRule(window_s=8 * 86400.0)
    sends, opted = outcomes(history(30), noon.timestamp(), rule)
    assert set(sends["item_id"]) == {"a"}
    assert opted.sum() == 0
    alone = history(30)
    only = Dataset.of({"events": alone.events, "sends": alone.sends[alone.sends["item_id"] == "a"]})
    assert outcomes(only, noon.timestamp(), rule)[1].sum() == 30, "which is when it is laid to that one"


def test_too_few_opt_outs_give_one_rate_between_what_was_seen_and_the_prior() -> None:
    learned = learn(history(12), UNTIL.timestamp())
    assert learned.booster is None
    assert 1e-4 < learned.rate == pytest.approx((12 + 1) / (1200 + 10_000))


def test_without_sends_engagements_stand_for_what_was_welcome() -> None:
    plain = history(0)
    events_only = Dataset.of({"events": plain.events})
    assert rate_of(events_only, 0, 0, UNTIL.timestamp(), OptOutRule()) == pytest.approx(1 / 10_600)
    assert learn(events_only, UNTIL.timestamp()).rate < OptOutRule().prior_rate


def test_enough_opt_outs_are_learned_from_the_features_of_the_sends() -> None:
    learned = learn(history(300), UNTIL.timestamp(), OptOutRule(least=50, prior_told=100.0))
    assert learned.rate == pytest.approx(300 / 1200, abs=0.03)


def test_a_bundle_keeps_the_risk_and_its_id_names_it(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    matrix = random.normal(size=(4000, len(FEATURES))).astype(np.float32)
    learned = fit(matrix, random.random(4000) < np.where(matrix[:, 0] > 0, 0.3, 0.01), 0.1)
    trees, curve, window = booster(), Calibration.identity(), Window(0.0, 1.0)
    plain = bundles.write(tmp_path / "plain", trees, curve, {}, window, 2.0)
    risky = bundles.write(tmp_path / "risky", trees, curve, {}, window, 2.0, opt_out=learned)
    assert plain != risky
    loaded = bundles.load(tmp_path / "risky")
    assert loaded.opt_out.risks(matrix) == pytest.approx(learned.risks(matrix), abs=1e-7)
    assert loaded.opt_out.risks(matrix).std() > 0.05
    assert bundles.load(tmp_path / "plain", verified=True).opt_out.risks(matrix).max() == 0
    (tmp_path / "risky" / bundles.OPT_OUT).write_text("{}")
    with pytest.raises(BundleError, match="SHA-256"):
        bundles.verify(tmp_path / "risky")
    with pytest.raises(BundleError, match=r"opt_out\.json"):
        bundles.load(tmp_path / "risky", verified=True)
