"""Unit tests run in one process."""

from __future__ import annotations

from typing import NoReturn

import pytest
import ray


@pytest.fixture(autouse=True)
def _no_ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make starting Ray fail, by name or by the first remote call: a test that needs it belongs in tests/integration/cluster."""

    def forbidden(*_: object, **__: object) -> NoReturn:
        pytest.fail("ray.init is forbidden in tests/unit: move the test to tests/integration/cluster")

    monkeypatch.setattr(ray, "init", forbidden)
