"""The guard in a running system: spoilt rows are found, as much is sent as before, and once they are right all is as ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ranking.relief import MARK, model_of
from tests.integration.conftest import SmallWorld
from tests.integration.hours import Hours, hours
from tests.integration.systems import Running, answer_of, prepare_store, system
from tests.integration.waiting import until

pytestmark = pytest.mark.timeout(300)

WEEKLY = 100
LEARNING, CALM, MOST_FAULTY, UNDER_RELIEF, MOST_AFTER = 8, 4, 6, 3, 10
"""Hours: until the guards know what is usual, to compare with, at most until they trip, under relief, at most until they rest."""
WANTED_PER_USER = 1.0


@pytest.fixture(scope="module")
def running(home: Path, small_world: SmallWorld) -> Iterator[Running]:
    """A system with two guarded rankers; blocks are small and little is learned first, for a small site and a short test."""
    prepare_store(home / "store", small_world.end_at)
    words = ("--model", str(small_world.model), "--data", str(small_world.data))
    guard = {"block_rows": 500, "least_cells": 6}
    with system(home, *words, guard=guard, weekly={"in_app": WEEKLY}, rankers=[2, 2], ranker_cpus=0.5) as started:
        yield started


@pytest.fixture(autouse=True)
def _at_home(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(running.home))


def alarms(running: Running) -> list[str]:
    """Return what is wrong."""
    return [alarm.text for alarm in running.stores.alarms.ringing(running.stores.clock.now()).values()]


def relieved(there: Hours) -> set[bool]:
    """Return whether the rows of the latest hour were scored by the model under the mark of a relief, or without: both, where some were."""
    models = there.decided(there.slot)["model_id"]
    return set(models[models.fillna("") != ""].str.contains(MARK, regex=False))


def pass_until(there: Hours, done: Callable[[], bool], most: int) -> None:
    """Let hours pass until something holds, each with a moment in which replicas hear of one another."""
    for _ in range(most):
        there.pass_one()
        with suppress(AssertionError):
            until(done, 2.5)
            return
    raise AssertionError(f"not within {most} hours; alarms: {alarms(there.running)}, relieved: {relieved(there)}")


def shown(running: Running) -> str:
    """Return what the console shows, as text."""
    with running.client() as browser:  # the key in the console's own link has long expired by now
        return browser.get("/console/data").raise_for_status().text


@contextmanager
def spoilt(there: Hours) -> Iterator[None]:
    """Have everybody's statistics tenfold, as where an upstream job changed their unit."""
    store = there.features
    names, client = store.keys.of_users(store.keys.FEATURES, there.users), there.running.stores.client
    kept = [row for row in client.mget(names) if row is not None]
    users = store.get(there.users, []).users
    store.put_users(there.users, replace(users, stats=users.stats * np.float32(10)), 0.0)
    yield
    client.mset(dict(zip(names, kept, strict=True)))


def set_threshold(there: Hours) -> None:
    """Let through about WANTED_PER_USER rows of an hour like the first."""
    there.pass_one()
    value = there.decided(there.slot)["value"].to_numpy(float)
    there.running.stores.thresholds.write({"in_app": float(np.nanquantile(value, 1 - WANTED_PER_USER * len(there.users) / len(value)))})


def test_spoilt_rows_are_found_as_much_is_sent_within_budgets_and_it_ends_by_itself(running: Running, small_world: SmallWorld) -> None:
    with hours(running, small_world) as there:
        set_threshold(there)
        for _ in range(LEARNING):
            there.pass_one()
        usual = np.mean([there.pass_one() for _ in range(CALM)])
        assert not alarms(running)
        with spoilt(there):
            pass_until(there, lambda: bool(alarms(running)) and relieved(there) == {True}, MOST_FAULTY)
            volumes = [there.pass_one() for _ in range(UNDER_RELIEF)]
            assert relieved(there) == {True}
            (told, *_) = answer_of("status")["alarms"]
            assert told.endswith("and sends as much as before")
            assert "user_" in told
            assert "sends as much as before" in shown(running)
        pass_until(there, lambda: not alarms(running) and relieved(there) == {False}, MOST_AFTER)
        everything = there.decided(0)
    assert np.mean(volumes) == pytest.approx(usual, rel=0.2)
    assert len(set(everything["model_id"].dropna().map(model_of)) - {""}) == 1
    sent = everything[everything["disposition"] == "send"]
    assert sent.groupby("user_key").size().max() <= WEEKLY
    assert np.bincount(running.stores.ledger.read(small_world.users).user).max() <= WEEKLY
