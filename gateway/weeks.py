"""A week in local hours as an SVG: how likely each hour is to find somebody, the windows that follow from it, and what was sent when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from gateway.pages import rendered
from lake.profiles import NO_WINDOW, Profiles
from scheduler.activity import WEEK_HOURS
from scheduler.planning import upcoming
from scheduler.send_time import LEVELS
from scheduler.windows import DAY_QUARTERS, LocalTimes, chosen_windows, outside_quiet

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONDAY_MINUTES = 3 * 1440
"""From Monday 00:00 until the weekday on which epoch time begins, a Thursday."""

CELL_W, CELL_H, LEFT, TOP = 30, 24, 44, 52


@dataclass(frozen=True)
class Mark:
    """Something at a minute of the local week (0 = Monday 00:00), and the words about it."""

    minute: int
    words: str

    @property
    def x(self) -> float:
        """Where it stands across."""
        return LEFT + self.minute % 1440 / 60 * CELL_W

    @property
    def y(self) -> int:
        """The top of its day."""
        return TOP + self.minute // 1440 * CELL_H


@dataclass(frozen=True)
class WeekPicture:
    """`scores`: how likely each local hour of the week is (168,), on any scale; all 0: unknown. `windows`, `sends`: what to mark."""

    title: str
    scores: npt.NDArray[Any]
    windows: Sequence[Mark] = ()
    sends: Sequence[Mark] = ()

    def svg(self) -> str:
        """Return the picture: darker is likelier, bars are windows, dots are sends."""
        shares = self.scores / max(float(self.scores.max()), 1e-12)
        cells = [
            {"x": LEFT + hour % 24 * CELL_W, "y": TOP + hour // 24 * CELL_H, "share": share, "name": f"{DAYS[hour // 24]} {hour % 24:02}h"}
            for hour, share in enumerate(shares.tolist())
        ]
        sizes = {"cell_w": CELL_W, "cell_h": CELL_H, "left": LEFT, "top": TOP}
        sizes |= {"width": LEFT + 24 * CELL_W + 8, "height": TOP + 7 * CELL_H + 34}
        return rendered("week.svg", picture=self, cells=cells, days=DAYS, **sizes)


@dataclass(frozen=True)
class Told:
    """A send: what, when by the user's clock, and why it went then."""

    item_id: str
    channel: str
    when: str
    why: str


@dataclass(frozen=True)
class UserWeek:
    """A user's picture, the windows of the coming week by their clock, and what was sent of late."""

    picture: WeekPicture
    planned: list[str]
    told: list[Told] = field(default_factory=list)


@dataclass(frozen=True)
class InForce:
    """Windows that open for a user by now: local quarter-hours of the week, NO_WINDOW padded, and `shares` of 255 beside the likeliest, 0:
    unknown. `chosen`: at a time of the user's own.
    """

    windows: npt.NDArray[np.uint16]
    shares: npt.NDArray[np.uint8]
    chosen: bool = False

    @staticmethod
    def of(profile: Profiles) -> InForce:
        """Return those of a profile, shape (1,): the user's own before the predicted ones, and none in quiet hours."""
        quiet, chosen = np.stack([profile["quiet_from"], profile["quiet_to"]], axis=1), bool(profile["digest_days"][0])
        shares = np.where(chosen, 0, profile["window_share"][0]).astype(np.uint8)
        return InForce(outside_quiet(chosen_windows(profile), quiet)[0], shares, chosen)

    def marks(self) -> list[Mark]:
        """Return what to mark."""
        found = [(int(quarter), int(share)) for quarter, share in zip(self.windows, self.shares, strict=True) if quarter != NO_WINDOW]
        own = ", the reader's own time" if self.chosen else ""
        return [Mark(quarter * 15, f"window {_clock(quarter)}{own}{_likely(share)}") for quarter, share in sorted(found)]


def _clock(quarter: int) -> str:
    return f"{DAYS[quarter // DAY_QUARTERS]} {quarter % DAY_QUARTERS // 4:02}:{quarter % 4 * 15:02}"


def _likely(share: int) -> str:
    return f", {share / 255:.0%} as likely as the likeliest" if share else ""


def user_week(user_id: str, profile: Profiles, week: npt.NDArray[np.void], sent: pd.DataFrame, now: float) -> UserWeek:
    """Return a user's week from what is stored: profile and week, shape (1,) each, and the rows of the decision log that were sent."""
    times = LocalTimes.of(profile["zone"], profile["utc_offset_minutes"])
    at = sent["at"].to_numpy("datetime64[us]").astype(np.int64) / 1e6 if len(sent) else np.empty(0)
    windows, scores = InForce.of(profile), week["scores"][0]
    local = [moment + float(times.offset_at(int(moment))[0]) for moment in at.tolist()]
    minutes = [int(second // 60 + MONDAY_MINUTES) % (7 * 1440) for second in local]
    told = [
        Told(row["item_id"], row["channel"], _spoken(second), why_then(row, minute, windows, scores))
        for row, second, minute in zip(sent.to_dict("records"), local, minutes, strict=True)
    ]
    sends = [Mark(minute, f"{each.when}: {each.item_id} on {each.channel}") for minute, each in zip(minutes, told, strict=True)]
    known = bool(scores.any())
    rests = f"rests on {LEVELS[int(week['rests_on'][0])].replace('_', ' ')}" if known else "no hours are known yet"
    waits = upcoming(profile, now, len(windows.windows)).wait_s[0, 1:]
    opens = [now + float(wait) for wait in waits if np.isfinite(wait)]
    planned = [_spoken(moment + float(times.offset_at(int(moment))[0])) for moment in opens]
    picture = WeekPicture(f"{user_id}: {rests}", scores, windows.marks(), sends)
    return UserWeek(picture, planned, told)


def why_then(row: Mapping[Any, Any], minute: int, now: InForce, scores: npt.NDArray[Any]) -> str:
    """Return why a row of the decision log was sent at its local minute of the week, given the windows and `scores` (168,) of by now."""
    if row["reason"] == "critical":
        return "critical: at once, whatever the hour"
    hour = f"at an hour{_likely(int(scores[minute // 60])).lstrip(',')}" if scores[minute // 60] else "at an hour of which nothing is known"
    if row["lane"] == "urgent":
        return f"asked for at that moment, {hour}, and worth no more, or too late, by the next window"
    since = (minute // 15 - now.windows.astype(np.int64)) % (7 * DAY_QUARTERS)
    since[now.windows == NO_WINDOW] = 7 * DAY_QUARTERS
    nearest = int(since.argmin())
    held = "; it was kept for this window" if row["source"] == "held" else ""
    if since[nearest] > 1:
        return f"in a window that has moved since, or was decided late, {hour}{held}"
    window, share, rank = _clock(int(now.windows[nearest])), int(now.shares[nearest]), 1 + int((now.shares > now.shares[nearest]).sum())
    if now.chosen:
        return f"in the window {window}, the reader's own time{held}"
    place = f", number {rank} of {int((now.windows != NO_WINDOW).sum())} by how likely it finds the reader" if share else ""
    return f"in the window {window}{place}{_likely(share)}{held}"


def _spoken(local_s: float) -> str:
    return f"{datetime.fromtimestamp(local_s, UTC):%a %d %b %H:%M}"


def population(scores: npt.NDArray[Any], title: str) -> WeekPicture:
    """Return the picture of everybody's week, without windows; raises ValueError where it has not 168 hours."""
    if scores.shape != (WEEK_HOURS,):
        raise ValueError(f"a week has {WEEK_HOURS} hours, not {scores.shape}")
    return WeekPicture(title, scores)
