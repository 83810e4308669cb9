"""A search for users whose plan is far from the best: random shapes of problems, the worst of each made worse step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from scheduler.assignment import Choices, assign, worth
from tidings.bench_choices import choices_of, exact

BREED = 24
"""How many of each generation are made and solved."""
GENERATIONS = 4


def hunt(shapes: int, seed: int) -> dict[str, Any]:
    """Return the least share of the optimum found for one user, the problem's size, and how many users were solved on the way.

    Of each shape a generation of users is planned and solved exactly; changed copies of the worst one are the next generation.
    """
    rng = np.random.default_rng(seed)
    worst_share, worst_shape, solved = 1.0, "", 0
    for _ in range(shapes):
        items, windows, channels = (int(rng.integers(*span)) for span in ((3, 17), (2, 9), (1, 4)))
        near, scarce = float(rng.uniform(0, 1.2)), int(rng.integers(1, 5))
        herd = choices_of(int(rng.integers(1 << 31)), BREED, items, windows, channels, near=near, scarce=scarce)
        if rng.random() < 0.3:
            herd = replace(herd, value=np.round(herd.value * 12) / np.float32(12))
        for _ in range(GENERATIONS):
            shares = shares_of(herd)
            worst = int(shares.argmin())
            solved += len(herd)
            if shares[worst] < worst_share:
                worst_share, worst_shape = float(shares[worst]), f"{items} items, {windows} windows, {channels} channels"
            herd = bred(herd, worst, rng)
    return {"worst": round(worst_share, 5), "worst_shape": worst_shape, "solved": solved}


def shares_of(choices: Choices) -> npt.NDArray[np.float64]:
    """Return what each user's plan is worth, as a share of their optimum, (n,)."""
    best = np.array([exact(choices, user) for user in range(len(choices))])
    shares: npt.NDArray[np.float64] = np.divide(worth(choices, assign(choices)), best, out=np.ones(len(choices)), where=best > 0)
    return shares


def bred(choices: Choices, parent: int, rng: np.random.Generator) -> Choices:
    """Return a generation of copies of one user with other values here and there, the first one unchanged."""
    copies: dict[str, Any] = {
        name: np.repeat(getattr(choices, name)[parent : parent + 1], BREED, axis=0) for name in ("value", "budget", "day", "near")
    }
    touched = rng.random(copies["value"].shape) < 0.25
    touched[0] = False
    change = np.where(touched, rng.lognormal(0, 0.4, touched.shape), 1).astype(np.float32)
    copies["value"] = copies["value"] * change
    caps = np.repeat(choices.day_cap[parent : parent + 1], BREED, axis=0)
    return replace(choices, **copies, day_cap=caps)
