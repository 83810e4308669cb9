"""The people of simulated worlds tire and answer as two published logs of prompts say: what was fitted is fitted again and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.optimize import least_squares
from scipy.special import expit

from simulation.response import Readers
from simulation.world_parameters import ResponseParameters

Floats = npt.NDArray[np.float64]

DAYS, PROMPTS = 40, 6
WORLD = ResponseParameters()


@pytest.fixture
def observed(tidings_data: Path) -> Floats:
    """The share of prompts answered on each of 40 days, by 125 people who were prompted six times a day."""
    log = pd.read_parquet(tidings_data / "prompts" / "rowland2020.parquet")
    assert (log["user"].nunique(), len(log)) == (125, 125 * DAYS * PROMPTS)
    return log.groupby("day")["answered"].mean().to_numpy(np.float64)


def lived(rested: float, fatigue: float, recovery_days: float) -> Floats:
    """Return what readers of the world answer each day of such a life, (days,); `rested`: log odds of an answer without any load."""
    params = ResponseParameters(fatigue=fatigue, recovery_days=recovery_days, tiring=1.0, fatigue_spread=0.0)
    readers, one = Readers.of(np.ones(1), 1, params, np.random.default_rng(0)), np.zeros(1, np.int64)
    days = np.empty((DAYS, PROMPTS))
    for day in days:
        for prompt in range(PROMPTS):
            day[prompt] = readers.answers(np.array([expit(rested)]), one)[0]
            readers.told(one, np.ones(1, bool))
        readers.pass_day(np.zeros(1, bool))
    shares: Floats = days.mean(axis=1)
    return shares


def weeks(days: Floats) -> Floats:
    return np.array([part.mean() for part in np.split(days, range(7, DAYS, 7))])


def test_fatigue_and_recovery_are_what_the_log_of_prompts_gives(observed: Floats) -> None:
    fitted = least_squares(lambda found: lived(found[0], *np.exp(found[1:])) - observed, [1.2, np.log(0.01), np.log(5.0)])
    assert np.exp(fitted.x[1:]) == pytest.approx([WORLD.fatigue, WORLD.recovery_days], rel=0.02)
    assert weeks(observed)[[0, 3, 4, 5]] == pytest.approx([0.750, 0.703, 0.705, 0.707], abs=1e-3)
    assert weeks(lived(fitted.x[0], WORLD.fatigue, WORLD.recovery_days)) == pytest.approx(weeks(observed), abs=0.007)


def test_without_fatigue_or_with_one_that_never_ends_people_would_not_answer_so(observed: Floats) -> None:
    """The fit is of something: neither a constant share nor an endless decline is as near to the weeks of the log."""

    def off(found: Floats) -> float:
        return float(np.abs(weeks(found) - weeks(observed)).max())

    rests = least_squares(lambda found: lived(found[0], WORLD.fatigue, WORLD.recovery_days) - observed, [1.2])
    endless = least_squares(lambda found: lived(found[0], np.exp(found[1]), 1e6) - observed, [1.2, np.log(0.001)])
    nearest = off(lived(rests.x[0], WORLD.fatigue, WORLD.recovery_days))
    assert off(np.full(DAYS, observed.mean(), np.float64)) > 5 * nearest
    assert off(lived(endless.x[0], np.exp(endless.x[1]), 1e6)) > 1.5 * nearest


def test_answers_come_as_late_as_in_the_log_of_prompts(tidings_data: Path) -> None:
    log = pd.read_parquet(tidings_data / "prompts" / "mpath.parquet")
    prompts = log[log["scheduledBeepId"] >= 0]
    delay_s = (prompts["timeStampStart"] - prompts["timeStampSent"]).dropna()
    assert len(delay_s) == 1393
    assert delay_s.median() == pytest.approx(WORLD.delay_s, rel=0.01)
    assert np.log(delay_s).std() == pytest.approx(WORLD.delay_spread, rel=0.01)
