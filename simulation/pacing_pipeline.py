"""What pacing earns where the real pipeline decides: its ledger, commit and log, and the daily job that keeps thresholds.

Beside simulation.pacing, which plays the controllers alone. Here, too, readers neither tire nor leave, and find nothing by themselves:
what is compared is when to spend.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

import numpy as np
import pandas as pd
from scipy.special import expit

from budgets.approach import PERIOD_DAYS
from budgets.keeping import KeptName
from lake.decision_log import TABLE, unpack
from lake.history import History
from lake.user_keys import MemoryUserKeys, keyed
from scheduler.own_thresholds import OwnConfig, OwnJob
from scheduler.thresholds import believed, last_week, learn
from simulation.offers import NoisyRanker, log_odds, places
from simulation.pacing import ITEMS_A_WEEK, Earned, Offered, PacingWorld, hindsight
from simulation.stage import Day, Stage, StageConfig
from simulation.world import World
from simulation.world_parameters import DAY_S, ResponseParameters, WorldParameters

PipelinePolicy = Literal["greedy", "shared", "steered", "paced"]
POLICIES = cast(tuple[PipelinePolicy, ...], get_args(PipelinePolicy))
CHANNEL = "in_app"
NIGHT_S = 3 * 3600 + 20 * 60
"""When the scheduler does the day's work, seconds after midnight UTC."""

Told = Callable[[int], None]


@dataclass
class Deployment:
    """A stage with a history of its decisions and the day's work of a deployment. `folder`: of the history."""

    stage: Stage
    budget: int
    folder: str
    user_keys: MemoryUserKeys = field(default_factory=MemoryUserKeys)

    def pass_night(self, policy: PipelinePolicy, day: Day) -> None:
        """File a day's decisions, and learn from them what a unit is worth as the scheduler does at night."""
        history, stage, now = History(self.folder), self.stage, self.stage.now + NIGHT_S
        history.write(TABLE, keyed(unpack(day.log), self.user_keys), at="at", shard=0, name=f"{day.at:.0f}")
        if policy == "shared":
            rows, _ = last_week(history, now, 1)
            stage.thresholds.write(learn(rows, {CHANNEL: len(stage.tick) * self.budget * believed(rows, now)}))
        elif policy != "greedy":
            self._job(history, policy).run(0, now)

    def _job(self, history: History, name: KeptName) -> OwnJob:
        stage, weekly = self.stage, np.array([self.budget], np.uint8)
        stores = (stage.committer.due, stage.profiles, self.user_keys, stage.thresholds)
        return OwnJob(stage.meta, *stores, history, (CHANNEL,), weekly, OwnConfig(name))


@dataclass(frozen=True)
class Played:
    """What a policy earned in the counted weeks, and what `hindsight` would have of what it was offered."""

    earned: Earned
    hindsight: float


def played(policy: PipelinePolicy, config: PacingWorld, told: Told | None = None) -> Played:
    """Let a policy live through a world's weeks; `told` is called with the number of each day that has passed."""
    weeks = config.calm_weeks + config.weeks
    world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * weeks, weeks=weeks), config.seed)
    calm = ResponseParameters(fatigue=0.0, opt_out=0.0, browses=0.0)
    stage_config = StageConfig((CHANNEL,), hard=config.budget, per_user=config.per_user, top_n=config.top_n, response=calm)
    ranker = NoisyRanker(world, seed=config.seed)
    stage, logs = Stage(world, ranker, stage_config, seed=config.seed), []
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder:
        deployment = Deployment(stage, config.budget, folder)
        for number in range(weeks * PERIOD_DAYS):
            day = stage.play_day()
            logs.append(unpack(day.log))
            deployment.pass_night(policy, day)
            if told is not None:
                told(number + 1)
    log = pd.concat(logs, ignore_index=True)
    rows = offered(log, world, ranker)
    counted = (log["disposition"] == "send").to_numpy() & (rows.day >= config.calm_weeks * PERIOD_DAYS)
    return Played(Earned(float(rows.chance[counted].sum()), int(counted.sum())), hindsight(rows, rows.score, config))


def offered(log: pd.DataFrame, world: World, ranker: NoisyRanker) -> Offered:
    """Return every row of a log by the day, with what the ranker says of it, eligible or not, and the truth."""
    user, item = places(log["user_id"].tolist(), "u"), places(log["item_id"].tolist(), "i")
    at = log["at"].dt.as_unit("s").astype("int64").to_numpy()
    score, chance = np.zeros(len(log)), np.zeros(len(log))
    for now in np.unique(at).tolist():
        here = at == now
        score[here] = expit(ranker.log_odds(user[here], item[here], now))
        chance[here] = expit(log_odds(world, user[here], item[here], now, None))
    return Offered(((at - world.params.start_at) // DAY_S).astype(np.int64), user, item, score, chance)
