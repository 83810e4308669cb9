"""What a deployment sets of its decisions is what its decisions go by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from pydantic import ValidationError
from ray.exceptions import RayActorError

import serve_app
from lake.decisions import REASON, SEND
from lake.follows import Followed
from lake.items import ItemTable
from lake.metrics import MemoryMetrics
from lake.profiles import blank
from ranking.features import FEATURES
from ranking.scorer import ScoreRequest
from scheduler.pipeline import PipelineConfig
from tests.unit.ranking.models import scorer_of

USERS = [f"u{n}" for n in range(60)]
SET: dict[str, Any] = {
    "weekly": {"in_app": 4},
    "threshold": {"in_app": 0.001},
    "top_n": 1,
    "diversity": {"entity": 0.0, "author": 0.4, "topic": 0.0},
    "explore": {"share": 0.5, "reach": 2},
    "plan": {"windows": 3},
    "hours": {"power": 0.3},
    "late": {"grace_s": 60.0},
    "log_share": 0.5,
    "critical_per_day": 7,
    "holdout": {"share": 0.1},
    "digests": [{"by": "topic:*"}],
    "pacing": {"day_cap": 2},
}
FIXED = {"weekly_default", "addressless", "half_life_s", "deliver_within_s"}
"""What no deployment sets."""


@pytest.fixture
def store(embedded_store: str, redis_client: object) -> Iterator[str]:
    """The URL of an empty store."""
    assert redis_client
    serve_app.stores_of.cache_clear()
    yield embedded_store
    serve_app.stores_of.cache_clear()


def settings_of(store: str, folder: Path, **settings: Any) -> serve_app.Settings:
    """The settings of a deployment as a person writes them."""
    return serve_app.Settings.model_validate({"model": "/none", "redis_url": store, "shards": 4, "history": str(folder)} | settings)


def away() -> MagicMock:
    """Rankers that do not answer, so that popularity ranks."""
    ranker = MagicMock()
    ranker.score.remote.side_effect = RayActorError()
    return ranker


def test_every_part_of_a_decision_that_is_not_fixed_can_be_set(store: str, tmp_path: Path) -> None:
    config = serve_app.pipeline_of(settings_of(store, tmp_path, **SET), away().score, MemoryMetrics()).config
    as_shipped = PipelineConfig()
    same = {part.name for part in fields(PipelineConfig) if getattr(config, part.name) == getattr(as_shipped, part.name)}
    assert same == FIXED
    assert (config.explore.share, config.diversity.author) == (0.5, 0.4)


def test_a_share_of_windows_sends_a_runner_up_and_logs_how_likely_each_row_was(store: str, tmp_path: Path) -> None:
    settings = settings_of(store, tmp_path, top_n=1, explore={"share": 0.5, "least_value": 0.0}, sources={"trending": {"on": False}})
    services = serve_app.gateway_services(settings, {"Ranker": away()}, MemoryMetrics())
    now = services.clock.now()
    services.profiles.put(USERS, blank(len(USERS)))
    services.follows.put(USERS, [Followed(topics=("tea",))] * len(USERS))
    services.items.put([{"item_id": f"i{n}", "created_at": now - 60 - n, "topics": ["tea"]} for n in range(2)])
    decided = services.rehearse(USERS, now)
    sent = decided.disposition == SEND
    assert sent.sum() == len(USERS)
    assert 8 < (decided.reason[sent] == REASON["explored"]).sum() < 52, "5 standard deviations"
    assert decided.propensity.tolist() == [0.5] * len(USERS) * 2


def test_an_event_is_in_the_features_of_the_next_request_at_once_and_once(store: str, tmp_path: Path) -> None:
    settings = settings_of(store, tmp_path)
    stores, feedback = serve_app.stores_of(settings), serve_app.feedback_of(settings)
    now = stores.clock.now()
    stores.items.put([{"item_id": "i", "created_at": now - 60}])
    scorer = scorer_of(serve_app.features_of(settings), ItemTable(stores.items))
    nothing, columns = np.zeros(1, np.int32), [FEATURES.index(name) for name in ("item_events", "item_users", "item_users_1h")]

    def counts(at: float) -> list[float]:
        asked = ScoreRequest(["reader"], ["i"], nothing, nothing, nothing.astype(np.uint8), ("in_app",), at)
        found: list[float] = scorer.prepare(asked).features(slice(0, 1))[0, columns].tolist()
        return found

    assert counts(now) == [0.0, 0.0, 0.0]
    visit = {"user_id": "u1", "item_id": "i", "kind": "visit", "at": now, "event_id": "e1"}
    for row in (visit, visit, visit | {"kind": "dismiss", "event_id": "e2"}):
        feedback.accept([row], now)
        assert counts(now) == [1.0, 1.0, 1.0]
    assert counts(now + 3600) == pytest.approx([1.0, 1.0, 0.5])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"explore": {"share": 0.9}}, "a share of 0 to 0.5"),
        ({"explore": {"rate": 0.1}}, "rate"),
        ({"diversity": {"author": 2.0}}, "an author"),
        ({"diversity": {"half_life_s": 0.0}}, "a half_life_s above 0"),
        ({"opt_out_cost": -1.0}, "opt_out_cost"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        serve_app.Settings.model_validate({"model": "/none"} | wrong)
