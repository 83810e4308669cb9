"""A challenger passes the gates only if it reads the same, scores alike and ranks no worse; a refusal says by how much."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking import gates
from ranking.gates import GateRule, Paired, psi

SCHEMA = {"version": 2, "features": ["a", "b", "c"], "channels": ["in_app", "email"]}


def rows(seed: int = 0, *, users: int = 200, each: int = 10, noise: tuple[float, float] = (1.0, 1.0), shift: float = 0.0) -> Paired:
    """Rows of which both models see the truth through noise of their own; the challenger's log-odds are shifted."""
    random = np.random.default_rng(seed)
    n = users * each
    truth = random.normal(-2, 1, n)
    engaged = random.random(n) < 1 / (1 + np.exp(-truth))
    seen = [truth + size * random.normal(size=n) for size in noise]
    probability = [(1 / (1 + np.exp(-log_odds))).astype(np.float32) for log_odds in (seen[0], seen[1] + shift)]
    group = np.repeat(np.arange(users), each)
    return Paired(group, group, probability[0], probability[1], engaged, np.ones(n, bool))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"version": 3}, "version is 3 where the serving one has 2"),
        ({"features": ["a", "c", "b"]}, r"features\[1\] is 'c' where the serving one has 'b'"),
        ({"channels": ["in_app"]}, r"channels\[1\] is 'nothing' where the serving one has 'email'"),
    ],
)
def test_the_schema_gate_names_the_first_difference(changed: dict[str, object], said: str) -> None:
    assert gates.schema(SCHEMA, dict(SCHEMA)).passed
    verdict = gates.schema(SCHEMA, SCHEMA | changed)
    assert not verdict.passed
    assert re.search(said, verdict.why)


def test_the_drift_gate_passes_scores_that_are_alike_and_says_how_far_off_shifted_ones_are() -> None:
    assert gates.drift(rows()).passed
    verdict = gates.drift(rows(shift=1.5))
    assert not verdict.passed
    assert verdict.figure is not None
    assert verdict.figure > 0.2
    assert f"{verdict.figure - 0.2:.3f} above the 0.2 allowed" in verdict.why


def test_the_metric_gate_refuses_a_worse_ranking_and_passes_an_equal_or_a_better_one() -> None:
    assert gates.metric(rows(noise=(1.0, 0.2))).passed
    same = rows()
    assert gates.metric(Paired(same.owner, same.group, same.serving, same.serving, same.label, same.known)).figure == 0.0
    worse = gates.metric(rows(noise=(0.2, 3.0)))
    assert not worse.passed
    assert "surely worse" in worse.why


def test_too_little_evidence_does_not_pass_any_gate_that_needs_it() -> None:
    few = rows(users=5)
    assert "50 rows were scored by both, and it takes 1000" in gates.drift(few).why
    assert not gates.drift(few).passed
    unknown = replace(rows(), known=np.zeros(2000, bool))
    verdict = gates.metric(unknown, GateRule(least_decisions=10))
    assert not verdict.passed
    assert "0 choices" in verdict.why


@given(st.integers(0, 100), st.floats(-3, 3), st.floats(0.3, 3))
def test_psi_is_never_negative_and_zero_for_the_same_sample(seed: int, shift: float, scale: float) -> None:
    sample = np.random.default_rng(seed).normal(size=500)
    assert psi(sample, sample) == 0
    assert psi(sample, scale * sample + shift) >= 0


def test_psi_is_the_sum_over_tenths_that_its_formula_says() -> None:
    was, now = np.arange(100.0), np.concatenate([np.arange(50.0), np.arange(50.0)])
    tenth, twice = 0.1, 0.2
    wanted = 5 * (twice - tenth) * np.log(twice / tenth) + 5 * (1e-4 - tenth) * np.log(1e-4 / tenth)
    assert psi(was, now) == pytest.approx(wanted, rel=0.05)


def test_the_comparison_of_a_model_with_itself_finds_no_difference_and_that_with_its_opposite_full_disagreement() -> None:
    base = rows()
    alike = gates.compared(Paired(base.owner, base.group, base.serving, base.serving, base.label, base.known))
    assert (alike["rank_agreement"], alike["same_top_3"], alike["mean_absolute_difference"], alike["psi"]) == (1.0, 1.0, 0.0, 0.0)
    assert alike["ndcg_at_5_serving"] == alike["ndcg_at_5_challenger"]
    opposite = gates.compared(Paired(base.owner, base.group, base.serving, 1 - base.serving, base.label, base.known))
    assert opposite["rank_agreement"] == pytest.approx(-1.0, abs=0.02)
    assert opposite["same_top_3"] == 0.0
    assert gates.compared(base.take(np.zeros(len(base), bool)))["rows"] == 0
