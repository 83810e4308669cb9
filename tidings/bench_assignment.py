"""`tidings bench assignment`: joint plans of users' windows beside the exact optimum of each, an integer program that HiGHS solves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from scheduler.assignment import Choices, assign, worth
from tidings.bench_choices import choices_of, exact
from tidings.bench_hunt import hunt
from tidings.bench_system import Step

PEER_NAME = "scipy.optimize.milp (HiGHS), exact, one integer program per user"
CLOSE = 0.01
"""By how much a user's plan may be short of the optimum to count as close."""


@dataclass(frozen=True)
class Shape:
    """How large a user's problem is; windows less than `near` days apart exclude each other, `scarce` is the most budget per channel."""

    items: int
    windows: int
    channels: int
    near: float = 0.2
    scarce: int = 3

    def made(self, seed: int, users: int) -> Choices:
        """Return made-up choices of this shape."""
        return choices_of(seed, users, self.items, self.windows, self.channels, near=self.near, scarce=self.scarce)


SHAPES = (Shape(6, 3, 1), Shape(10, 7, 2), Shape(20, 7, 3), Shape(8, 14, 2), Shape(30, 5, 2), Shape(12, 7, 2, near=0.8))


def run(
    *, users: int = 1_000, seed: int = 0, hunted: int = 60, shapes: tuple[Shape, ...] = SHAPES, step: Step = lambda _: None
) -> dict[str, Any]:
    """Return the figures of `tidings bench assignment --json`: per shape and overall, what plans are worth beside the optimum, and times.

    Times are of the processor, so other work on the machine counts little. `of_optimum`: worth of all plans over that of all optima.
    `worst`: the least of one user. `short`: share of users whose plan is more than 1 % short. `hunt`: the worst that a search over
    `hunted` random shapes came upon.
    """
    assign(SHAPES[0].made(seed, 2))
    found = [_shape(shape, users, seed + number, step) for number, shape in enumerate(shapes)]
    step(f"hunting for worse in {hunted} random shapes")
    worst = hunt(hunted, seed)
    return {
        "users_per_shape": users,
        "peer_name": PEER_NAME,
        "of_optimum": min(each["of_optimum"] for each in found),
        "worst": min(each["worst"] for each in found),
        "short": max(each["short"] for each in found),
        "ratio": min(each["ratio"] for each in found),
        "hunted_worst": worst["worst"],
        "hunt": worst,
        "shapes": found,
    }


def _shape(shape: Shape, users: int, seed: int, step: Step) -> dict[str, Any]:
    choices = shape.made(seed, users)
    step(f"{shape}: planning {users:,} users, then solving each exactly")
    began = time.process_time()
    plan = assign(choices)
    took_s = time.process_time() - began
    began = time.process_time()
    best = np.array([exact(choices, user) for user in range(users)])
    peer_s = time.process_time() - began
    reached = worth(choices, plan)
    share = np.divide(reached, best, out=np.ones(users), where=best > 0)
    return {
        "shape": str(shape),
        "of_optimum": round(float(reached.sum() / best.sum()), 5),
        "worst": round(float(share.min()), 4),
        "short": round(float((share < 1 - CLOSE).mean()), 4),
        "us_per_user": round(took_s / users * 1e6, 1),
        "peer_us_per_user": round(peer_s / users * 1e6, 1),
        "ratio": round(peer_s / took_s, 1),
    }
