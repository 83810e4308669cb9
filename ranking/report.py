"""The report of a training run as one HTML page without anything from elsewhere: what was tried, and what it was worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from ranking.fitting import OBJECTIVES

TEMPLATE = "report.html.j2"
WIDTH, HEIGHT = 640, 240
LEFT, BOTTOM, TOP = 130, 30, 10
COLOURS = dict(zip(OBJECTIVES, ("#3366cc", "#dc8a00", "#109618", "#990099", "#cc3311"), strict=True))


@dataclass(frozen=True)
class Scale:
    """Where values lie in a plot: `low` at pixel `start`, `high` at pixel `end`, in equal ratios where `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value, kept within the plot."""
        low, high, value = (math.log(part) if self.log else part for part in (self.low, self.high, min(max(value, self.low), self.high)))
        return round(self.start + (value - low) / (high - low or 1.0) * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[tuple[float, str]]:
        """Return pixels and texts of round values along the scale."""
        if self.log:
            values = [value for value in (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0) if self.low <= value <= self.high]
        else:
            values = [self.low + (self.high - self.low) * place / (count - 1) for place in range(count)]
        return [(self(value), f"{value:.3g}") for value in values]


def page(report: dict[str, Any]) -> str:
    """Return the page of a report: the metrics of a model, with `model_id` and `until`."""
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    found = report["validation"]
    rankings = [{"name": "this model", **_interval(found["ndcg_at_5"], found["interval_95"])}]
    if "default" in found:
        rankings.append({"name": "default shape", **_interval(found["default"]["ndcg_at_5"], found["default"]["interval_95"])})
    if "refused" in found:
        rankings.append({"name": found["refused"]["name"], **_interval(found["refused"]["ndcg_at_5"], found["refused"]["interval_95"])})
    rankings += [{"name": name, **_interval(value, found["baselines_interval_95"][name])} for name, value in found["baselines"].items()]
    return environment.get_template(TEMPLATE).render(
        report=report,
        found=found,
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": HEIGHT - BOTTOM, "top": TOP},
        rankings=_bars(rankings),
        attempts=_points(report["trials"]),
        tenths=[_tenths(found[name], title) for name, title in TENTHS],
        colours=COLOURS,
        activity=ACTIVITY,
    )


TENTHS = (
    ("deciles", "Tenths of the rows, lowest probability first"),
    ("engagement_deciles", "Tenths of the promised engagement, lowest probability first"),
)


ACTIVITY = (
    ("users", "users"),
    ("events", "events before, at most"),
    ("share_of_volume", "share of the volume"),
    ("kept", "share of their rows kept"),
    ("engaged_per_kept", "engagements per row kept"),
    ("recall", "share of their engagements kept"),
)


def _interval(value: float | None, interval: Sequence[float | None]) -> dict[str, float | None]:
    return {"value": value, "low": interval[0], "high": interval[1]}


def _bars(rankings: list[dict[str, Any]]) -> dict[str, Any]:
    known = [bar for bar in rankings if bar["value"] is not None]
    most = max((max(bar["value"], bar["high"] or 0.0) for bar in known), default=1.0)
    x = Scale(0.0, most * 1.05, LEFT, WIDTH - 20)
    step = (HEIGHT - BOTTOM - TOP) / max(len(known), 1)
    bars = [
        {
            **bar,
            "y": round(TOP + step * place, 1),
            "thick": round(step * 0.7, 1),
            "x": x(bar["value"]),
            "x_low": x(bar["low"]),
            "x_high": x(bar["high"]),
        }
        for place, bar in enumerate(known)
    ]
    return {"bars": bars, "zero": x(0.0), "ticks": x.ticks()}


def _points(trials: list[dict[str, Any]]) -> dict[str, Any]:
    known = [(place, trial) for place, trial in enumerate(trials) if trial["ndcg_at_5"] is not None]
    values = [trial["ndcg_at_5"] for _, trial in known] or [0.0, 1.0]
    x, y = Scale(0, max(len(trials) - 1, 1), LEFT, WIDTH - 20), Scale(min(values), max(values), HEIGHT - BOTTOM, TOP + 5)
    points = [{**trial, "x": x(place), "y": y(trial["ndcg_at_5"]), "colour": COLOURS[trial["objective"]]} for place, trial in known]
    return {"points": points, "ticks": y.ticks()}


def _tenths(parts: list[dict[str, Any]], title: str) -> dict[str, Any]:
    x, y = Scale(1, 10, LEFT, WIDTH - 40), Scale(0.25, 4.0, HEIGHT - BOTTOM, TOP, log=True)
    points = []
    for place, part in enumerate(parts, start=1):
        low, high = part["interval"]
        ratio = part["expected_over_observed"]
        drawn = {"x": x(place), "y": None if not ratio else y(ratio), "y_low": y(low or 0.25), "y_high": y(high or 4.0)}
        points.append({**part, **drawn, "place": place})
    return {"title": title, "points": points, "ticks": y.ticks(), "band": (y(1.25), y(0.8)), "one": y(1.0)}
