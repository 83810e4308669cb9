"""What the demo shows: the week as it goes by, and the result."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lake.decisions import DISPOSITIONS
from scheduler.report import LaneReport
from tidings.console import err, facts, say
from tidings.home import State

DAY_S = 86_400.0


@dataclass(frozen=True)
class Urgent:
    """What became of an urgent request: rows by disposition, and how long the answer took."""

    dispositions: dict[str, int]
    milliseconds: float

    @staticmethod
    def of(answer: dict[str, Any], milliseconds: float) -> Urgent:
        """Return the summary of an answer of POST /v1/urgent."""
        return Urgent(dict(Counter(row["disposition"] for row in answer["results"])), milliseconds)


@dataclass
class Scene:
    """The week so far."""

    since: pd.Timestamp
    until: pd.Timestamp
    total: LaneReport = field(default_factory=LaneReport)
    ticks: int = 0
    urgent: Urgent | None = None
    decisions: pd.DataFrame = field(default_factory=pd.DataFrame)
    seconds: float = 0.0
    _told_until: float = 0.0
    _bar: Progress = field(init=False)
    _live: Live = field(init=False)

    def __post_init__(self) -> None:
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(40), TimeElapsedColumn(), console=err)
        self._bar.add_task("the week", total=(self.until - self.since).total_seconds())
        self._live = Live(self._drawn(), console=err, refresh_per_second=8, transient=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show the scene while it goes on."""
        started = time.perf_counter()
        with self._live:
            yield
        self.seconds = time.perf_counter() - started

    def add(self, report: LaneReport | None) -> None:
        """Take in one tick."""
        if report is not None:
            self.total.add(report)
            self.ticks += 1

    def at(self, now: float) -> None:
        """Move to a time, and redraw."""
        moment = pd.Timestamp(now, unit="s", tz="UTC")
        self._bar.update(self._bar.task_ids[0], completed=now - self.since.timestamp(), description=f"{moment:%a %d %b %H:%M} UTC")
        self._live.update(self._drawn())
        if not err.is_terminal and now >= self._told_until:  # nothing is drawn there, and a log of minutes without a word looks dead
            say(f"{moment:%a %d %b %H:%M} UTC: {self.total.users:,} windows opened, {self.total.sends:,} sent")
            self._told_until = now + DAY_S

    def _drawn(self) -> RenderableType:
        decided = dict(zip(DISPOSITIONS, self.total.dispositions.tolist(), strict=True))
        lines: dict[str, object] = {
            "windows opened": self.total.users,
            "candidates ranked": self.total.candidates,
            "sent": decided["send"],
            "kept back": sum(count for name, count in decided.items() if name not in ("send", "update")),
            "model in service": self.total.model_id or "…",
        }
        if self.urgent is not None:
            lines["urgent item"] = _counted(self.urgent)
        return Panel(Group(facts(lines), self._bar), title="a week, through the live system", expand=False)


def result(scene: Scene, worth: dict[str, Any], state: State, home: Path) -> RenderableType:
    """Return the report: what the sends were worth beside the baselines, and where to look."""
    table = Table(title="what the sends were worth, at equal volume", title_justify="left", box=None, pad_edge=False)
    for title in ("policy", "sends", "engaged", "per send", "within 48 h", "per user", "overspent"):
        table.add_column(title, justify="left" if title == "policy" else "right")
    for name, row in worth.items():
        figures = (row["sends"], row["engaged_in_horizon"], row["engaged_per_send"], row["engaged_48h"], row["sends_per_user"])
        texts = [f"{figure:,.4f}" if isinstance(figure, float) else f"{figure:,}" for figure in figures]
        table.add_row(name, *texts, str(row["overspent"]))
    sent = scene.decisions[scene.decisions["disposition"] == "send"]
    lucky = sent["user_id"].value_counts().index[0] if len(sent) else "USER"
    lines: dict[str, object] = {
        "the week took": f"{scene.seconds:.0f} s",
        "windows": scene.total.users,
        "candidates": scene.total.candidates,
        "urgent item": _counted(scene.urgent) if scene.urgent else "none",
    }
    look = {
        "console": f"the link below opens it, once; TIDINGS_HOME={home} tidings status makes another",
        "API docs": f"{state.api_url}/docs",
        "Ray dashboard": f"{state.dashboard_url} (token: {home / 'ray-token'})",
        "an inbox": f"{state.api_url}/v1/users/{lucky}/inbox (needs a key: TIDINGS_HOME={home} tidings keys new --scope users)",
        "urgent mail": str(home / "maildir"),
        "decisions": str(home / "history"),
    }
    return Group(facts(lines), "", table, "", Panel(facts(look), title="where to look", expand=False))


def _counted(urgent: Urgent) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(urgent.dispositions.items(), key=lambda pair: -pair[1]))
    return f"{counts}, answered in {urgent.milliseconds:.0f} ms over HTTP"
