"""The console's numbers: adding up what the shards counted."""

from __future__ import annotations

import numpy as np
import pytest

from budgets.ledger import CRITICAL, ROLLING_S, LedgerColumns
from gateway.console import budget_use, overview_of
from lake.metrics import (
    CANDIDATES,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    LAST_SLOT,
    LAST_WINDOW_LAG_S,
    MODEL_ID,
    WINDOWS,
    MemoryMetrics,
    disposition_field,
    outcome_field,
    sends_field,
)

NOW = 1_700_000_000.0


def test_shards_add_up() -> None:
    shards = [
        {WINDOWS: "2", CANDIDATES: "10", sends_field("scheduled", "push"): "3", outcome_field("push", "accepted"): "2"},
        {},
        {WINDOWS: "1", sends_field("scheduled", "push"): "1", sends_field("urgent", "in_app"): "5", disposition_field("hold"): "4"},
    ]
    overview = overview_of(shards, at=NOW, outbox_backlog=7, budget_use={"push": 0.5})
    assert (overview.windows, overview.candidates, overview.outbox_backlog, overview.at) == (3, 10, 7, NOW)
    assert overview.sends == {"scheduled": {"push": 4}, "urgent": {"in_app": 5}}
    assert overview.outcomes == {"push": {"accepted": 2}}
    assert overview.dispositions == {"hold": 4}
    assert (overview.last_slot_at, overview.window_lag_s, overview.model_id) == (None, None, "")


def test_the_latest_slot_names_the_model() -> None:
    shards = [
        {LAST_SLOT: "2", LAST_WINDOW_LAG_S: "1.5", MODEL_ID: "new"},
        {LAST_SLOT: "1", LAST_WINDOW_LAG_S: "0.5", MODEL_ID: "old"},
    ]
    overview = overview_of(shards, at=NOW, outbox_backlog=0, budget_use={})
    assert (overview.last_slot_at, overview.window_lag_s, overview.model_id) == (1800.0, 1.5, "new")


def test_a_field_nobody_knows_changes_nothing() -> None:
    assert overview_of([{"of a later version": "1"}], at=NOW, outbox_backlog=0, budget_use={}).windows == 0


def test_budget_use_counts_the_rolling_week_and_not_what_is_critical() -> None:
    n = 4
    ledger = LedgerColumns(
        user=np.array([0, 0, 1, 1], np.int32),
        at=np.array([NOW - ROLLING_S - 1, NOW - 1, NOW - 2, NOW - 3]),
        grant_id=np.arange(n, dtype=np.uint64),
        entity=np.arange(n, dtype=np.uint64),
        version=np.zeros(n, np.uint32),
        channel=np.array([0, 0, 0, 1], np.uint8),
        flags=np.array([0, 0, 0, CRITICAL], np.uint8),
        decision=np.zeros(n, np.uint32),
    )
    weekly = np.array([[3, 5], [5, 5]], np.uint8)
    assert budget_use(ledger, weekly, ("push", "email"), NOW) == {"push": pytest.approx(2 / 8)}


def test_metrics_in_memory_are_kept_by_name_and_tags() -> None:
    metrics = MemoryMetrics()
    metrics.count("tidings_sends_total", 2, lane="urgent", channel="push")
    metrics.count("tidings_sends_total", lane="urgent", channel="push")
    metrics.gauge("tidings_outbox_backlog", 3)
    metrics.gauge("tidings_outbox_backlog", 2)
    metrics.observe("tidings_urgent_latency_ms", 1.5)
    assert metrics.counters["tidings_sends_total", (("channel", "push"), ("lane", "urgent"))] == 3
    assert metrics.gauges["tidings_outbox_backlog", ()] == 2
    assert metrics.observed["tidings_urgent_latency_ms", ()] == [1.5]


def test_every_metric_says_what_it_means_and_histograms_where_they_split() -> None:
    for name, metric in [*COUNTERS.items(), *GAUGES.items(), *HISTOGRAMS.items()]:
        assert name.startswith("tidings_")
        assert metric.help.endswith(".")
        assert bool(metric.bounds) == (name in HISTOGRAMS)
        assert list(metric.bounds) == sorted(metric.bounds)
