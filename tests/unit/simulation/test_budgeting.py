"""Budgets in a world with known truth: the pipeline keeps to them, and what is learned from random ones finds those who tire."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from budgets.learned import LearnedConfig, fit, opt_out_cost
from simulation.budgeting import WEEK_DAYS, BudgetingConfig, explore, groups_of, play, shared_out, staged
from tidings.cli import app


def silent(_arm: str, _week: int) -> None: ...


def test_the_dormant_who_answer_are_assigned_more_who_tires_fast_less_and_the_total_is_kept() -> None:
    config = BudgetingConfig(users=400, explored=5, learned=LearnedConfig(rounds=60))
    stage = staged(config)
    lived, weeks = explore(stage, config, silent)
    assert 4 * 380 < len(weeks) <= 4 * 400
    responses = fit(weeks, config.learned)
    cost = opt_out_cost(responses, weeks, config.lost_weeks)
    budgets = shared_out(responses, lived, cost, 4).budgets
    groups, there = groups_of(stage, lived), ~lived.gone
    tiring, dormant = groups["tiring"], groups["dormant_responding"]
    assert cost > 0
    assert not budgets[lived.gone].any()
    assert 3.9 * there.sum() < budgets.sum() <= 4 * there.sum()
    assert budgets[tiring & there].mean() < budgets[~tiring & there].mean()
    assert budgets[dormant & there].mean() > 1.2 * budgets[~dormant & there].mean()


def test_an_arm_keeps_to_what_it_assigns_and_leaves_the_stage_as_it_was() -> None:
    config = BudgetingConfig(users=60, explored=2)
    stage = staged(config)
    lived, _ = explore(stage, config, silent)
    always = np.arange(60) % 4
    arm, again = (play("fixed", stage, lived, 2, lambda _: always, silent) for _ in range(2))
    assert (arm.sends <= 2 * always + config.learned.most).all()
    assert arm.sends[always == 0].sum() == 0 < arm.sends.sum()
    assert (arm.joined == again.joined).all()
    assert len(lived.sends) == 2 * WEEK_DAYS


def test_the_command_reports_learned_budgets_beside_every_fixed_one() -> None:
    arguments = ["simulate", "budgets", "--users", "20", "--weeks", "2", "--seed", "4"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert list(report["arms"]) == [*(f"fixed {n}" for n in range(11)), "learned 2", "learned 4", "learned 6"]
    assert report["arms"]["fixed 0"]["sends"] == 0 < report["arms"]["fixed 10"]["sends"]
    low, high = report["arms"]["learned 4"]["ahead_95"]
    assert low <= report["arms"]["learned 4"]["ahead"] <= high
