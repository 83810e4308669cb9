"""What Tidings counts about itself: names with their tags, how to record them, and the counters the console reads from the store.

Metrics leave through Ray's (gateway/ray_metrics.py); the counters live in the store, one hash per shard, so that the
scripts that decide and deliver count in the same step, and a restart forgets nothing.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

CounterName = Literal[
    "tidings_candidates_total",
    "tidings_sends_total",
    "tidings_source_candidates_total",
    "tidings_source_sends_total",
    "tidings_windows_total",
    "tidings_outcomes_total",
    "tidings_events_total",
    "tidings_refused_requests_total",
    "tidings_critical_total",
    "tidings_guard_trips_total",
    "tidings_fallback_rows_total",
    "tidings_shed_requests_total",
]
GaugeName = Literal[
    "tidings_window_lag_s",
    "tidings_rows_in_flight",
    "tidings_outbox_backlog",
    "tidings_budget_use",
    "tidings_guard_columns_out",
]
HistogramName = Literal[
    "tidings_urgent_latency_ms",
    "tidings_urgent_batch_rows",
    "tidings_ranker_chunk_ms",
]


@dataclass(frozen=True)
class Metric:
    """What a metric means, which tags every record of it carries, and a histogram's bucket bounds."""

    help: str
    tags: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


_LATENCY_MS = (1.0, 2.0, 5.0, 10.0, 20.0, 35.0, 50.0, 75.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
_ROWS = (1.0, 10.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)

COUNTERS: Mapping[CounterName, Metric] = {
    "tidings_candidates_total": Metric("Candidates decided.", ("lane",)),
    "tidings_sends_total": Metric("Notifications granted and enqueued.", ("lane", "channel")),
    "tidings_source_candidates_total": Metric("Candidates decided, by what proposed them.", ("source",)),
    "tidings_source_sends_total": Metric("Candidates told of, alone or in a digest, by what proposed them.", ("source",)),
    "tidings_windows_total": Metric("Delivery windows decided."),
    "tidings_outcomes_total": Metric("Ends of granted notifications.", ("channel", "outcome")),
    "tidings_events_total": Metric("Events accepted over HTTP."),
    "tidings_critical_total": Metric("Critical rows: sent, or refused because the quota of their key was spent.", ("outcome",)),
    "tidings_fallback_rows_total": Metric("Rows scored by popularity, since no model served."),
    "tidings_shed_requests_total": Metric("Requests refused because too many were in flight.", ("kind",)),
    "tidings_refused_requests_total": Metric("Requests refused for lack of room (429) or a part that is away (503).", ("status",)),
    "tidings_guard_trips_total": Metric("Times that a ranker's guard found features or scores that are not what they were."),
}
GAUGES: Mapping[GaugeName, Metric] = {
    "tidings_window_lag_s": Metric("Seconds from a slot's tick until its last window was decided."),
    "tidings_rows_in_flight": Metric("Urgent rows admitted and not yet answered."),
    "tidings_outbox_backlog": Metric("Granted notifications not yet delivered."),
    "tidings_budget_use": Metric("Share of the week's budgets that is spent.", ("channel",)),
    "tidings_guard_columns_out": Metric("Features and scores of a ranker that are not what they were, now."),
}
HISTOGRAMS: Mapping[HistogramName, Metric] = {
    "tidings_urgent_latency_ms": Metric("Milliseconds from an urgent request's admission to its answer.", (), _LATENCY_MS),
    "tidings_urgent_batch_rows": Metric("Urgent rows decided together.", (), _ROWS),
    "tidings_ranker_chunk_ms": Metric("Milliseconds the ranker spent on one chunk.", (), _LATENCY_MS),
}


class Metrics(Protocol):
    """Where metrics go. Records are cheap, never block and never raise; every tag of the metric is given."""

    def count(self, name: CounterName, n: float = 1.0, /, **tags: str) -> None:
        """Add `n` to a counter."""
        ...

    def gauge(self, name: GaugeName, value: float, /, **tags: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: HistogramName, value: float, /, **tags: str) -> None:
        """Add one value to a histogram."""
        ...


Tags = tuple[tuple[str, str], ...]


TAGS = frozenset({"lane", "channel", "outcome", "status", "source", "kind"})
"""The names of all tags: what is counted by is never a person, an address or a text."""

MOST_TAG_CHARS = 32
_WORD = re.compile(rf"(?!.*\d{{{{7}}}})[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MOST_TAG_CHARS - 1}}}")


def checked(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as they may leave: those of TAGS, whose value is "other" where it is no short word, as an address or a text is not."""
    return {name: value if _WORD.fullmatch(value) else "other" for name, value in tags.items() if name in TAGS}


def _tags(tags: Mapping[str, str]) -> Tags:
    return tuple(sorted(checked(tags).items()))


@dataclass
class MemoryMetrics:
    """Metrics in dictionaries by name and tags, for tests and replay."""

    counters: Counter[tuple[str, Tags]] = field(default_factory=Counter)
    gauges: dict[tuple[str, Tags], float] = field(default_factory=dict)
    observed: defaultdict[tuple[str, Tags], list[float]] = field(default_factory=lambda: defaultdict(list))

    def count(self, name: CounterName, n: float = 1.0, /, **tags: str) -> None:
        """See Metrics."""
        self.counters[name, _tags(tags)] += n  # type: ignore[assignment]  # typeshed knows integer counts only

    def gauge(self, name: GaugeName, value: float, /, **tags: str) -> None:
        """See Metrics."""
        self.gauges[name, _tags(tags)] = value

    def observe(self, name: HistogramName, value: float, /, **tags: str) -> None:
        """See Metrics."""
        self.observed[name, _tags(tags)].append(value)


# Fields of the hash Keys.METRICS of each shard. Totals are raised by HINCRBY; the last three are set by whoever ran a slot.
WINDOWS = "windows"
CANDIDATES = "candidates"
LAST_SLOT = "last_slot"
LAST_WINDOW_LAG_S = "last_window_lag_s"
MODEL_ID = "model_id"


"""LAST_SLOT: the latest slot that ran, in UTC quarter-hours since 1970. MODEL_ID: the model that scored it."""


def sends_field(lane: str, channel: str) -> str:
    """Return the counter of notifications granted in a lane for a channel."""
    return f"sends:{lane}:{channel}"


def disposition_field(name: str) -> str:
    """Return the counter of candidates that ended in a disposition."""
    return f"dispositions:{name}"


def outcome_field(channel: str, outcome: str) -> str:
    """Return the counter of deliveries on a channel that ended in an outcome."""
    return f"outcome:{channel}:{outcome}"
