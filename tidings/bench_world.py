"""`tidings bench world`: how long the simulated world takes for its people's days, alone in arrays and through the real pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from simulation.clubhouse import PEOPLE, RESPONSE
from simulation.crowd import Crowd
from simulation.offers import NoisyRanker
from simulation.scenarios import ITEMS_A_WEEK
from simulation.stage import Stage, StageConfig
from simulation.world import World
from simulation.world_parameters import CrowdParameters, WorldParameters

DAYS = 20
STAGED_USERS, STAGED_DAYS = 2000, 5


def run(user_days: int, step: Callable[[str], None]) -> dict[str, Any]:
    """Return the seconds of as many days of a user in arrays, the world's making included, and what the pipeline decides beside it.

    `pipeline_user_days_per_s` is of one core, twelve candidates a window.
    """
    users, weeks = -(-user_days // DAYS), -(-DAYS // 7)
    with threadpool_limits(1):
        step(f"{DAYS} days of {users:,} people in arrays")
        began, worked = time.perf_counter(), time.process_time()
        world = World.of(replace(PEOPLE, users=users, items=150 * weeks, weeks=weeks), 1)
        crowd = Crowd.of(world, RESPONSE, CrowdParameters(), 1)
        sends = sum(len(crowd.play_day(lambda user, *_: np.ones(len(user), bool)).user) for _ in range(DAYS))
        took_s, worked_s = time.perf_counter() - began, time.process_time() - worked
        step(f"{STAGED_DAYS} days of {STAGED_USERS:,} people through the pipeline")
        staged = World.of(WorldParameters(users=STAGED_USERS, items=ITEMS_A_WEEK, weeks=1), 1)
        stage = Stage(staged, NoisyRanker(staged), StageConfig(hard=5))
        began = time.perf_counter()
        for _ in range(STAGED_DAYS):
            stage.play_day()
        staged_s = time.perf_counter() - began
    return {
        "user_days": users * DAYS,
        "sends": sends,
        "seconds": took_s,
        "processor_seconds": worked_s,
        "user_days_per_s": users * DAYS / took_s,
        "pipeline_user_days_per_s": STAGED_USERS * STAGED_DAYS / staged_s,
    }
