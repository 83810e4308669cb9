"""The whole system on one machine: what it answers, what it refuses, what it shows, and how it goes down and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.conftest import SmallWorld
from tests.integration.systems import Running, prepare_store, system

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def running(home: Path, small_world: SmallWorld) -> Iterator[Running]:
    prepare_store(home / "store", small_world.end_at)
    with system(home, small_world.model, data=small_world.data) as started:
        yield started


@pytest.fixture
def api(running: Running) -> Iterator[httpx.Client]:
    with running.client() as client:
        yield client


@pytest.fixture(autouse=True)
def _at_home(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDINGS_HOME", str(running.home))


def test_it_says_that_it_is_well(api: httpx.Client) -> None:
    assert api.get("/healthz").json() == {"status": "ok", "checks": {"store": "ok", "ranker": "ok"}}
