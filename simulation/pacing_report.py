"""What policies of pacing earn of knowing the whole week, beside the most that deciding day by day can earn."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from simulation.pacing import POLICIES, Earned, PacingWorld, earned, hindsight, offered
from simulation.pacing_bound import calendar, rolling


def report(config: PacingWorld) -> dict[str, Any]:
    """Return each policy's share of the value of hindsight: by the same scores, and, under `of_perfect`, by the true chances.

    `bounds`: the same of policies that know how days are distributed, where a budget holds in any 7 days and from Monday to Sunday.
    """
    rows = offered(config)
    best, perfect = hindsight(rows, rows.score, config), hindsight(rows, rows.chance, config)
    found = {policy: earned(policy, rows, config) for policy in POLICIES}
    bounds = {"rolling": rolling(rows, config), "calendar": calendar(rows, config)}

    def shares(policies: dict[Any, Earned]) -> dict[str, Any]:
        return {
            name: {"value": each.value, "sends": each.sends, "of_hindsight": each.value / best, "of_perfect": each.value / perfect}
            for name, each in policies.items()
        }

    return {
        **asdict(config),
        "hindsight": best,
        "perfect": perfect,
        "policies": shares(found),
        "bounds": shares(bounds),
    }
