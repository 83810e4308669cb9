"""`tidings bench send-time`: hours of the week of many users, beside a plain histogram per user."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from scheduler.activity import WEEK_HOURS
from scheduler.send_time import fit
from scheduler.send_time_params import SendTimeParams
from tidings.bench_data import NOW, ZONES
from tidings.bench_system import Step

PEER_NAME = "a plain histogram of each user's hours in numpy, no pooling, no learning"
HISTORY_DAYS = 60


def run(*, users: int = 1_000_000, events_per_user: int = 8, seed: int = 0, step: Step = lambda _: None) -> dict[str, Any]:
    """Return the figures of `tidings bench send-time --json`: users per second of `send_times` and of the peer.

    Both start from the same tables; the peer's counts are of UTC hours. `cpu_s`, `peer_cpu_s`, `cpu_ratio`: by time of the
    processor, which other work on the machine moves less.
    """
    step(f"making {users:,} users with {events_per_user} events each")
    events, people = tables(users, events_per_user, seed)
    step("fitting")
    began, worked = time.perf_counter(), time.process_time()
    times = fit(events, people, SendTimeParams(), NOW)
    took_s, worked_s = time.perf_counter() - began, time.process_time() - worked
    step("counting, for the peer")
    began, worked = time.perf_counter(), time.process_time()
    counts = histogram(events, people)
    peer_s, peer_worked_s = time.perf_counter() - began, time.process_time() - worked
    if len(times.users) != users or counts.sum() != len(events):
        raise RuntimeError("the bench lost users or events")
    return {
        "users": users,
        "events": len(events),
        "seconds": round(took_s, 2),
        "cpu_s": round(worked_s, 2),
        "users_per_s": round(users / took_s),
        "events_per_s": round(len(events) / took_s),
        "peer_name": PEER_NAME,
        "peer_users_per_s": round(users / peer_s),
        "peer_cpu_s": round(peer_worked_s, 2),
        "ratio": round(peer_s / took_s, 4),
        "cpu_ratio": round(peer_worked_s / worked_s, 4),
    }


def tables(users: int, events_per_user: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return events and users: everyone has habitual hours and some exceptions."""
    random = np.random.default_rng(seed)
    ids = np.array([f"user-{number:07}" for number in range(users)], object)
    user = np.repeat(np.arange(users), events_per_user)
    habit = np.where(random.random(len(user)) < 0.8, user * 7 % 24, random.integers(0, 24, len(user)))
    day = random.integers(1, HISTORY_DAYS, len(user))
    at = (NOW // 86400 - day) * 86400 + habit * 3600 + random.integers(0, 3600, len(user))
    events = pd.DataFrame({"user_id": ids[user], "kind": "view", "at": pd.to_datetime(at.astype(np.int64), unit="s", utc=True)})
    events = events.assign(item_id=None, channel=None, utc_offset_minutes=np.nan).sort_values("at", ignore_index=True)
    people = pd.DataFrame({"user_id": ids, "timezone": np.array(ZONES, object)[np.arange(users) % len(ZONES)]})
    return events, people.assign(utc_offset_minutes=np.nan)


def histogram(events: pd.DataFrame, people: pd.DataFrame) -> npt.NDArray[np.int32]:
    """Return each user's events per hour of the week, int32 (users, 168)."""
    user = pd.Index(people["user_id"]).get_indexer(pd.Index(events["user_id"]))
    hour = (events["at"].to_numpy("datetime64[s]").astype(np.int64) // 3600 + 72) % WEEK_HOURS
    counts = np.bincount(user * WEEK_HOURS + hour, minlength=len(people) * WEEK_HOURS)
    return counts.reshape(-1, WEEK_HOURS).astype(np.int32)
