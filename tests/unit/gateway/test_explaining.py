"""GET /v1/decisions?explain=true: what made a score, what was decided on it, and what would have changed it."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from gateway.explaining import SAID
from lake.decision_log import pack
from lake.decisions import BELOW_THRESHOLD, INELIGIBLE, OVER_BUDGET, REASON, REASONS, SEND, Candidates, Decided
from lake.ids import shard_of
from ranking.popularity import MODEL_ID
from ranking.relief import MARK
from ranking.scorer import ScoreRequest
from tests.unit.gateway.conftest import META, NOW, World
from tests.unit.ranking.models import bundle_of

THRESHOLD = 0.3
WHY = ("above_threshold", "below_threshold", "budget_spent", "unsubscribed")
DISPOSITIONS = (SEND, BELOW_THRESHOLD, OVER_BUDGET, INELIGIBLE)


def _decide(world: World, model_id: str, taken_off: float = 0.0, since: float = 0.0) -> None:
    """Log four rows of one decision as scored by the model; the last was dropped before that."""
    n, items = len(WHY), [f"i{i}" for i in range(len(WHY))]
    world.items.put([{"item_id": name, "created_at": NOW - 3600, "topics": ["a"]} for name in items])
    zeros, item = np.zeros(n, np.int32), np.arange(n, dtype=np.int32)
    scored = world.explain(ScoreRequest(["u1"], items, zeros, item, zeros.astype(np.uint8), META.channels, NOW), bundle_of().model_id)
    probability = (scored.probability + since).astype(np.float32)
    probability[3] = np.nan
    decided = Decided(
        candidates=Candidates(["u1"], items, zeros, item, zeros.astype(np.uint8), zeros.astype(np.uint8), ("urgent",), zeros),
        probability=probability,
        value=(probability - taken_off).astype(np.float32),
        threshold=np.full(n, THRESHOLD, np.float32),
        propensity=np.ones(n, np.float32),
        allowance=np.array([2, 2, 0, 2], np.int16),
        disposition=np.array(DISPOSITIONS, np.uint8),
        reason=np.array([REASON[name] for name in WHY], np.uint8),
        grant_id=np.arange(n, dtype=np.uint64),
        decision_ids=["d1"],
        lane="urgent",
        model_id=model_id,
        at=NOW,
    )
    rows = np.arange(n)
    final = bytes(code for row in range(n) for code in (DISPOSITIONS[row], REASON[WHY[row]]))
    world.stream.append(shard_of("u1", META.shards), pack(decided, META.channels, rows, rows, np.ones(n, np.float32)), final)


async def _explanations(client: httpx.AsyncClient, **query: str) -> dict[str, dict[str, Any]]:
    answer = await client.get("/v1/decisions", params={"user_id": "u1", "explain": "true"} | query)
    assert answer.status_code == 200, answer.text
    return {row["reason"]: row["explanation"] | {"row": row} for row in answer.json()["decisions"]}


async def test_a_row_s_contributions_sum_to_the_margin_of_the_probability_that_was_decided_on(
    client: httpx.AsyncClient, world: World
) -> None:
    _decide(world, bundle_of().model_id)
    for reason, told in (await _explanations(client)).items():
        if reason == "unsubscribed":
            assert "margin" not in told
            continue
        assert told["base"] + sum(each["contribution"] for each in told["contributions"]) == pytest.approx(told["margin"], abs=1e-5)
        assert told["probability"] == pytest.approx(told["row"]["probability"], rel=1e-6)
        assert told["as_decided"] is True


async def test_words_say_what_was_decided_why_and_what_would_have_changed_it(client: httpx.AsyncClient, world: World) -> None:
    _decide(world, bundle_of().model_id)
    told = await _explanations(client)
    value = told["below_threshold"]["row"]["value"]
    assert told["below_threshold"]["words"].startswith(
        f"Not sent: its value of {value:.3g} is {THRESHOLD - value:.3g} below the threshold of 0.3."
    )
    assert told["below_threshold"]["would_change"] == f"{THRESHOLD - value:.3g} more value, or a lower threshold"
    assert "How likely the reader is to engage" in told["above_threshold"]["words"]
    assert told["budget_spent"]["words"].startswith("Not sent: the week's budget of in_app is spent.")
    assert told["budget_spent"]["allowance_left"] == 0
    assert told["unsubscribed"]["words"] == "Not sent: the reader has unsubscribed from in_app."


async def test_it_says_when_more_is_known_since_and_what_was_taken_off_the_value(client: httpx.AsyncClient, world: World) -> None:
    _decide(world, bundle_of().model_id, since=0.05)
    told = (await _explanations(client))["above_threshold"]
    assert told["as_decided"] is False
    assert "More is known since: today it would be" in told["words"]


async def test_it_says_when_the_guard_s_stand_in_ranked_and_explains_the_model(client: httpx.AsyncClient, world: World) -> None:
    _decide(world, f"{bundle_of().model_id}{MARK}0123abcd", since=-0.1)
    told = (await _explanations(client))["above_threshold"]
    assert told["as_decided"] is False
    assert "the guard's stand-in ranked: the model says" in told["words"]
    assert told["model_id"] == bundle_of().model_id


async def test_it_says_what_likeness_to_the_latest_sends_took_off(client: httpx.AsyncClient, world: World) -> None:
    _decide(world, bundle_of().model_id, taken_off=0.125)
    told = (await _explanations(client))["above_threshold"]
    assert told["taken_off"] == pytest.approx(0.125, abs=1e-6)
    assert "Likeness to what the reader was sent lately took 0.125 off its value." in told["words"]


async def test_a_model_that_is_gone_leaves_the_decision_explained_without_its_score(client: httpx.AsyncClient, world: World) -> None:
    _decide(world, "long-ago")
    told = (await _explanations(client))["above_threshold"]
    assert "contributions" not in told
    assert "Its score cannot be explained: long-ago: there is no such model folder." in told["words"]


async def test_a_row_that_popularity_scored_says_so_and_asks_no_model(client: httpx.AsyncClient, world: World) -> None:
    _decide(world, MODEL_ID)
    told = await _explanations(client)
    assert "No model served at the time" in told["above_threshold"]["words"]
    assert "cannot be explained" not in told["above_threshold"]["words"]
    assert "No model served" not in told["unsubscribed"]["words"]


async def test_without_being_asked_nothing_is_explained_and_nobody_unknown_has_anything_to_explain(
    client: httpx.AsyncClient, world: World
) -> None:
    _decide(world, bundle_of().model_id)
    plain = await client.get("/v1/decisions", params={"user_id": "u1"})
    assert all("explanation" not in row for row in plain.json()["decisions"])
    assert await _explanations(client, user_id="nobody") == {}


def test_every_reason_has_words_of_its_own() -> None:
    assert set(SAID) == set(REASONS) - {""}
