"""What went wrong with last week's N-th highest value as a threshold: shown on ours of that kind, beside the one that steers.

People are offered values from one distribution for ever, so whatever their weekly sends do is the threshold's own doing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.special import expit, logit

from budgets.thresholds import Cells, Controller, DayOfCells, DigestController, SteeredController, threshold
from scheduler.own_thresholds import Lately, day_of
from scheduler.thresholds import learn

Floats = npt.NDArray[np.float64]

BUDGET, WEEK, PEOPLE, OFFERS = 5.0, 7, 80, 8
CELLS = Cells(np.full(PEOPLE, BUDGET), np.zeros(PEOPLE, np.int32))
CONTROLLERS: dict[str, Controller[Any]] = {"digest": DigestController(), "steered": SteeredController()}


@dataclass(frozen=True)
class Course:
    """Per day and person, (days, PEOPLE): sends, and the threshold that they went by."""

    sends: Floats
    threshold: Floats

    def weeks(self, since: int) -> Floats:
        """Return the sends of 7 days from a day on, (weeks, PEOPLE)."""
        days = (len(self.sends) - since) // WEEK * WEEK
        return np.asarray(self.sends[since : since + days].reshape(-1, WEEK, PEOPLE).sum(axis=1))

    def mean_of_last_seven(self, since: int) -> Floats:
        """Return the mean sends of the seven days that end with each day from a day on."""
        daily = np.cumsum(np.append(0.0, self.sends.mean(axis=1)))
        return np.asarray((daily[WEEK:] - daily[:-WEEK])[since - WEEK + 1 :])


def led(controller: Controller[Any], days: int, values: Callable[[int], Floats | None]) -> Course:
    """Send what reaches the threshold of a day's values, (PEOPLE, OFFERS), each item offered once; None: nothing comes in that day."""
    state, sends, thresholds = controller.start(CELLS), [], []
    for number in range(days):
        bar, offered = controller.thresholds(state), values(number)
        value = np.empty((PEOPLE, 0), np.float32) if offered is None else offered.astype(np.float32)
        sent = (value >= bar[:, None]).sum(axis=1).astype(np.float64)
        cell = np.repeat(np.arange(PEOPLE, dtype=np.int32), value.shape[1])
        ones = np.ones(value.size, bool)
        state = controller.step(state, DayOfCells(cell, value.ravel(), ones, sent, offered is not None, ones.astype(np.float32)), CELLS)
        sends.append(sent)
        thresholds.append(bar)
    return Course(np.array(sends), np.array(thresholds, np.float64))


def offers(number: int, spread: float = 1.0) -> Floats:
    """Return the values of a day: log odds around -2, by default of a spread as a model's of people alike."""
    return np.asarray(expit(np.random.default_rng([7, number]).normal(-2.0, spread, (PEOPLE, OFFERS))))


def test_noisy_tails_throw_last_weeks_nth_highest_about_and_a_pooled_digest_hardly_moves() -> None:
    """Noise of the score decides which few values are a person's highest, so next week's threshold is luck, and so are its sends."""
    noise = np.random.default_rng(11)
    tails = [noise.standard_t(2.0, (PEOPLE, OFFERS)) for _ in range(84)]
    courses = {name: led(each, 84, lambda day: expit(logit(offers(day)) + tails[day])) for name, each in CONTROLLERS.items()}
    jumps = {name: float(logit(course.threshold[28::WEEK]).std(axis=0).mean()) for name, course in courses.items()}
    spread = {name: float(course.weeks(28).std(axis=0).mean()) for name, course in courses.items()}
    assert jumps["digest"] > 2 * jumps["steered"]
    assert spread["digest"] > 1.25 * spread["steered"]
    assert courses["steered"].weeks(28).mean() == pytest.approx(BUDGET, rel=0.1)


def test_an_item_scored_in_every_window_and_sent_once_starves_its_readers_where_every_score_counts() -> None:
    """As published, each score of an item took a place among the N highest; the day's reading of the log counts an item once."""
    as_published = rescored(CONTROLLERS["digest"], every_score=True)
    assert as_published < 0.5 * BUDGET
    for name, controller in CONTROLLERS.items():
        assert rescored(controller, every_score=False) == pytest.approx(BUDGET, rel=0.15), name


def rescored(controller: Controller[Any], *, every_score: bool, days: int = 35, scores: int = 4) -> float:
    """Return the mean weekly sends of the last two weeks where every item is scored some times on its day and sent once at most."""
    state, lately, sends = controller.start(CELLS), Lately(), []
    user = np.tile(np.repeat(np.arange(PEOPLE, dtype=np.int32), OFFERS), scores)
    for number in range(days):
        value = np.tile(offers(number).astype(np.float32).ravel(), scores)
        sent = (value >= controller.thresholds(state)[user]) & (np.arange(len(value)) < PEOPLE * OFFERS)
        item = np.char.add(f"i{number}-", np.tile(np.arange(OFFERS).astype(str), PEOPLE * scores))
        log = pd.DataFrame({"user": user, "item_id": item.astype(object), "channel": "in_app", "value": value, "weight": 1.0})
        day, lately = day_of(log.assign(disposition=np.where(sent, "send", "below_threshold")), PEOPLE, ["in_app"], lately)
        if every_score:
            ones = np.ones(len(value), bool)
            day = DayOfCells(user, value, ones, day.sends, True, ones.astype(np.float32))
        state = controller.step(state, day, CELLS)
        sends.append(day.sends.mean())
    return float(np.sum(sends[-14:]) / 2)


def test_one_loved_item_scored_all_week_is_not_the_whole_threshold_of_a_channel_either() -> None:
    """The shared threshold of a channel, too, counts an item once for each of its readers; the bare N-th highest of all scores does not."""
    loved = pd.DataFrame({"user_key": "u0", "item_id": "loved", "channel": "in_app", "value": 0.9 + np.arange(50) / 1000, "weight": 1.0})
    plain = pd.DataFrame({"user_key": "u0", "item_id": [f"i{n}" for n in range(20)], "channel": "in_app", "value": np.arange(20) / 100})
    log = pd.concat([loved, plain.assign(weight=1.0)], ignore_index=True)
    assert threshold(log["value"], log["weight"], 5) > 0.9
    assert learn(log, {"in_app": 5.0})["in_app"] == pytest.approx(0.16)


def test_an_outage_echoes_in_next_weeks_threshold_and_not_in_the_one_that_steers() -> None:
    """Three days without offers halve the week that the next threshold is read off: too low for a week, a burst follows the outage."""
    first, days = 44, 84
    away = range(first, first + 3)
    courses = {name: led(each, days, lambda day: None if day in away else offers(day)) for name, each in CONTROLLERS.items()}
    calm = {name: led(each, days, offers) for name, each in CONTROLLERS.items()}
    peak = {name: float(course.mean_of_last_seven(first + 3).max()) for name, course in courses.items()}
    usual = {name: float(course.mean_of_last_seven(first + 3).mean()) for name, course in calm.items()}
    assert peak["digest"] > 1.4 * usual["digest"]
    assert peak["steered"] < 1.15 * usual["steered"]
    later = first + 3 + WEEK
    assert np.abs(courses["steered"].mean_of_last_seven(later) / BUDGET - 1).max() < 0.15
