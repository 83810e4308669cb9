"""Metrics that leave through Ray's, beside its own, to wherever Ray's are scraped."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge, Histogram

from lake.metrics import COUNTERS, GAUGES, HISTOGRAMS, CounterName, GaugeName, HistogramName, checked


class RayMetrics:
    """The metrics of one Ray worker. Made inside the worker: Ray's metrics belong to the process that makes them."""

    def __init__(self) -> None:
        self._counters = {name: Counter(name, metric.help, metric.tags) for name, metric in COUNTERS.items()}
        self._gauges = {name: Gauge(name, metric.help, metric.tags) for name, metric in GAUGES.items()}
        self._histograms = {
            name: Histogram(name, metric.help, boundaries=list(metric.bounds), tag_keys=metric.tags) for name, metric in HISTOGRAMS.items()
        }

    def count(self, name: CounterName, n: float = 1.0, /, **tags: str) -> None:
        """See Metrics."""
        if n > 0:  # Ray refuses to add nothing
            self._counters[name].inc(n, checked(tags))

    def gauge(self, name: GaugeName, value: float, /, **tags: str) -> None:
        """See Metrics."""
        self._gauges[name].set(value, checked(tags))

    def observe(self, name: HistogramName, value: float, /, **tags: str) -> None:
        """See Metrics."""
        self._histograms[name].observe(value, checked(tags))
