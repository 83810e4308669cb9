"""What happens to a world while thresholds are kept for its users, and how each way of keeping them fares. Ends in figures.

Every policy lives through the same world with the same seed, decided by the real pipeline: each night it reads the decision log of the
day and writes each user's threshold, as the daily job of a deployment does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import numpy.typing as npt

from budgets.thresholds import Cells, Controller, DigestController, PidController, SteeredController
from lake.decision_log import unpack
from scheduler.own_thresholds import Lately, cells_of, day_of
from scheduler.thresholds import OwnThresholds
from simulation.offers import Boom, NoisyRanker, places
from simulation.shared_threshold import SharedController
from simulation.stage import Day, Stage, StageConfig
from simulation.world import World
from simulation.world_parameters import DAY_S, WorldParameters

Floats = npt.NDArray[np.float64]

ScenarioName = Literal["cold-start", "budget-halved", "budget-doubled", "score-drift", "outage", "topic-boom"]
SCENARIOS = cast(tuple[ScenarioName, ...], get_args(ScenarioName))

PolicyName = Literal["digest", "pid", "steered", "shared"]
CONTROLLERS: dict[PolicyName, Controller[Any]] = {
    "digest": DigestController(),
    "pid": PidController(),
    "steered": SteeredController(),
    "shared": SharedController(),
}

PERIOD_DAYS = 7
BAND = 0.1
"""Settled is a cohort whose mean 7-day sends stay within this share of the soft budget."""

ITEMS_A_WEEK = 190

Told = Callable[[int], None]


class Phase(NamedTuple):
    """Days in a row of a world's life that begin with what happens; None: nothing. `target`: the soft budget per week."""

    scenario: ScenarioName | None
    target: float
    days: int


@dataclass(frozen=True)
class ScenarioConfig:
    """`calm_days`: before what happens; a cold start has none. `days`: after it. `soft`: weekly budget to aim at. `drift`: log odds that
    scores move by. `outage_days`, `boom_days`: how long those last. `hard`: the ledger's limit, out of the way of a doubled budget.
    """

    users: int = 200
    calm_days: int = 21
    days: int = 28
    seed: int = 1
    soft: float = 5.0
    hard: int = 15
    drift: float = 0.7
    outage_days: int = 3
    boom_days: int = 7
    boom_topic: int = 6


@dataclass
class Lived:
    """What a policy's cohort lived through after the event, by day. `weeks`: mean sends of the last 7 days of those who have not opted out.

    `value`: expected answers of all sends; `value_in_budget`: as much of each day's as its week's sends were within the budget, for more
    attention than was to be spent earns nothing. `joins`, `sends`, `opt_outs` are totals.
    """

    target: float
    started: float
    weeks: list[float] = field(default_factory=list)
    value: float = 0.0
    value_in_budget: float = 0.0
    sends: int = 0
    joins: int = 0
    opt_outs: int = 0

    @property
    def off(self) -> Floats:
        """How far each day's mean is above the soft budget, as a share of it."""
        return np.array(self.weeks) / self.target - 1

    @property
    def settling_days(self) -> int | None:
        """The first day after which the mean stays within BAND; None: it never settled."""
        outside = np.flatnonzero(np.abs(self.off) > BAND)
        if not len(outside):
            return 0
        return int(outside[-1]) + 1 if outside[-1] + 1 < len(self.off) else None

    @property
    def overshoot(self) -> float:
        """How far the mean went beyond the soft budget, as a share of it: below it where it came from far above, else above it."""
        beyond = -self.off if self.started > self.target * (1 + BAND) else self.off
        return float(max(beyond.max(), 0.0))

    def figures(self) -> dict[str, Any]:
        """Return what a report says."""
        return {
            "settling_days": self.settling_days,
            "overshoot": self.overshoot,
            "mean_absolute_deviation": float(np.abs(self.off).mean()),
            "value": self.value,
            "value_in_budget": self.value_in_budget,
            "sends": self.sends,
            "joins": self.joins,
            "opt_outs": self.opt_outs,
            "weekly_sends": self.weeks,
        }


def play(scenario: ScenarioName, policy: PolicyName, config: ScenarioConfig, told: Told | None = None) -> Lived:
    """Let a policy live through a scenario after calm days; `told` is called with the number of each day that has passed."""
    calm = [] if scenario == "cold-start" else [Phase(None, config.soft, config.calm_days)]
    target = config.soft * {"budget-halved": 0.5, "budget-doubled": 2.0}.get(scenario, 1.0)
    return play_phases([*calm, Phase(scenario, target, config.days)], policy, config, told)[-1]


def play_course(policy: PolicyName, config: ScenarioConfig, told: Told | None = None) -> list[Lived]:
    """Let a policy live through all scenarios one after the other, in one world: the budget is halved, then doubled again."""
    halved = {"budget-halved": config.soft / 2}
    return play_phases([Phase(name, halved.get(name, config.soft), config.days) for name in SCENARIOS], policy, config, told)


def play_phases(phases: Sequence[Phase], policy: PolicyName, config: ScenarioConfig, told: Told | None = None) -> list[Lived]:
    """Let a policy live through phases in one world and return what each was like; each begins where the last one ended."""
    starts = np.cumsum([0, *(phase.days for phase in phases)])
    weeks = -(-int(starts[-1]) // PERIOD_DAYS)
    world = World.of(WorldParameters(users=config.users, items=ITEMS_A_WEEK * weeks, weeks=weeks), config.seed)
    ranker = NoisyRanker(world, seed=config.seed)
    stage = Stage(world, ranker, StageConfig(hard=config.hard), seed=config.seed)
    keeper = Keeper(CONTROLLERS[policy], stage, config.soft)
    sends, lives = np.zeros((0, config.users)), list[Lived]()
    for phase, start, end in zip(phases, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        lived = Lived(phase.target, _week(sends, stage))
        lives.append(lived)
        _happen(phase.scenario, stage, ranker, config)
        for number in range(start, end):
            stage.down = phase.scenario == "outage" and number - start < config.outage_days
            day = stage.play_day()
            sends = np.concatenate([sends, day.sends[None, :, 0]])[-PERIOD_DAYS:]
            # A budget that changes is known to the controller from the night before the first day under it.
            keeper.pass_night(day, phases[int(np.searchsorted(starts[1:-1], number + 1, side="right"))].target)
            lived.weeks.append(_week(sends, stage))
            _count(lived, day)
            if told is not None:
                told(number + 1)
    return lives


def whole(lives: Sequence[Lived]) -> dict[str, Any]:
    """Return what a report says of a course: mean days to settle (never: all of them), the greatest overshoot, and totals."""
    settling = [len(lived.weeks) if lived.settling_days is None else lived.settling_days for lived in lives]
    return {
        "settling_days": float(np.mean(settling)),
        "overshoot": max(lived.overshoot for lived in lives),
        "mean_absolute_deviation": float(np.abs(np.concatenate([lived.off for lived in lives])).mean()),
        **{name: sum(getattr(lived, name) for lived in lives) for name in ("value", "value_in_budget", "sends", "joins", "opt_outs")},
    }


@dataclass
class Keeper:
    """Keeps the thresholds of a stage's users by a controller."""

    controller: Controller[Any]
    stage: Stage
    soft: InitVar[float]
    state: Any = field(init=False)
    lately: Lately = field(default_factory=Lately)

    def __post_init__(self, soft: float) -> None:
        self.state = self.controller.start(self._cells(soft))
        self._write()

    def pass_night(self, day: Day, soft: float) -> None:
        """Read the decision log of a day and write tomorrow's thresholds."""
        log = unpack(day.log)
        log = log.assign(user=places(log["user_id"].tolist(), "u"))
        seen, self.lately = day_of(log, len(self.stage.world.people.ids), self.stage.config.channels, self.lately)
        self.state = self.controller.step(self.state, seen, self._cells(soft))
        self._write()

    def _cells(self, soft: float) -> Cells:
        """Return everybody's soft budgets: none for those who have opted out."""
        return cells_of(np.where(self.stage.readers.gone, 0.0, soft))

    def _write(self) -> None:
        users = self.stage.world.people.ids.tolist()
        own = self.controller.thresholds(self.state).reshape(len(users), -1)
        self.stage.thresholds.write_own(0, OwnThresholds.of(users, own))


def _happen(scenario: ScenarioName | None, stage: Stage, ranker: NoisyRanker, config: ScenarioConfig) -> None:
    if scenario == "score-drift":
        ranker.shift += config.drift
    if scenario == "topic-boom":
        stage.boom = ranker.boom = Boom(config.boom_topic, stage.now, stage.now + config.boom_days * DAY_S)


def _week(sends: Floats, stage: Stage) -> float:
    """Return the mean sends of the last days of those who may be sent something."""
    there = ~stage.readers.gone[:, 0]
    return float(sends[:, there].sum(axis=0).mean()) if len(sends) and there.any() else 0.0


def _count(lived: Lived, day: Day) -> None:
    lived.value += day.value
    lived.value_in_budget += day.value * min(1.0, lived.target / max(lived.weeks[-1], lived.target))
    lived.sends += int(day.sends.sum())
    lived.joins += day.joins
    lived.opt_outs += day.opt_outs
