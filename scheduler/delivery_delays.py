"""How long messages are on their way, by channel, and how much earlier windows open for that. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from lake.profiles import NO_WINDOW
from scheduler.window_counts import WindowRule
from scheduler.windows import SLOT_S, WEEK_QUARTERS

ARRIVED = "delivered"
"""The kind of event by which whoever carries a message says that it has arrived."""

LATELY_S = 28 * 86_400.0
LONGEST_S = 86_400.0
"""What took longer was lost and found, not slow."""
_TIME = "datetime64[us, UTC]"
FEWEST = 20
"""Reports of a channel before they are believed."""


def learned_delays(dataset: Dataset, now: float) -> dict[str, float]:
    """Return the median seconds from decision to arrival by channel, of the four weeks before `now`; those with few reports are absent.

    A report is an event of kind `delivered`. It belongs to the send whose `grant_id` is its `send_id`; where it has none, to the latest
    earlier send of that item to that user on that channel.
    """
    events, sends = dataset.events, dataset.sends
    arrived = events[(events["kind"] == ARRIVED) & (events["at"] > pd.Timestamp(now - LATELY_S - LONGEST_S, unit="s", tz="UTC"))]
    if arrived.empty or sends.empty:
        return {}
    pairs = pd.concat([_by_grant(arrived, sends), _by_item(arrived, sends)], ignore_index=True)
    took_s = (pairs["arrived_at"] - pairs["at"]).dt.total_seconds()
    since = pd.Timestamp(now - LATELY_S, unit="s", tz="UTC")
    usual = (took_s >= 0) & (took_s <= LONGEST_S) & (pairs["at"] > since) & (pairs["arrived_at"] < pd.Timestamp(now, unit="s", tz="UTC"))
    by_channel = took_s[usual].groupby(pairs["channel"][usual]).agg(["median", "size"])
    return {str(name): float(row["median"]) for name, row in by_channel.iterrows() if row["size"] >= FEWEST}


def _by_grant(arrived: pd.DataFrame, sends: pd.DataFrame) -> pd.DataFrame:
    if "send_id" not in arrived or "grant_id" not in sends:
        return _pairs(arrived[:0].assign(arrived_at=arrived["at"][:0]))
    reports = arrived.loc[arrived["send_id"].notna(), ["send_id", "at"]].rename(columns={"send_id": "grant_id", "at": "arrived_at"})
    known = sends.loc[sends["grant_id"].notna(), ["grant_id", "channel", "at"]]
    return _pairs(reports.astype({"grant_id": object}).merge(known.astype({"grant_id": object}), on="grant_id"))


def _by_item(arrived: pd.DataFrame, sends: pd.DataFrame) -> pd.DataFrame:
    keys = ["user_id", "item_id", "channel"]
    if not set(keys) <= set(arrived):
        return _pairs(arrived[:0].assign(arrived_at=arrived["at"][:0], channel=""))
    named = arrived if "send_id" not in arrived else arrived[arrived["send_id"].isna()]
    reports = named.dropna(subset=keys)[[*keys, "at"]].assign(arrived_at=named["at"])
    both = [
        frame.astype(dict.fromkeys(keys, object)).astype({"at": "datetime64[us, UTC]"}).sort_values("at")
        for frame in (reports, sends[[*keys, "at"]])
    ]
    return _pairs(pd.merge_asof(both[0], both[1].assign(sent_at=both[1]["at"]), on="at", by=keys).assign(at=lambda rows: rows["sent_at"]))


def _pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the channel, the send's time and the arrival's of rows that have all three."""
    return (
        rows.reindex(columns=["channel", "at", "arrived_at"])
        .dropna()
        .astype({"at": "datetime64[us, UTC]", "arrived_at": "datetime64[us, UTC]"})
    )


def ahead_s(delays: Mapping[str, float], sends: pd.DataFrame, channels: tuple[str, ...]) -> float:
    """Return how much earlier windows of `channels` should open, in seconds: their delays by how much is sent on each, 0 if unknown."""
    if not delays or sends.empty:
        return 0.0
    sent = sends["channel"].value_counts()
    share = {name: float(sent.get(name, 0)) for name in channels}
    total = sum(share.values())
    return sum(share[name] * delays.get(name, 0.0) for name in channels) / total if total else 0.0


def opening_earlier(rule: WindowRule, dataset: Dataset, now: float) -> WindowRule:
    """Return the rule with windows that open by the usual delay of its channels earlier, so that what is sent arrives when users look."""
    return replace(rule, ahead_s=ahead_s(learned_delays(dataset, now), dataset.sends, rule.channels))


def earlier(windows: npt.NDArray[np.uint16], ahead_s: float) -> npt.NDArray[np.uint16]:
    """Return windows (n, w), NO_WINDOW padded, moved to as many whole quarter-hours earlier as `ahead_s` seconds hold.

    Rounded down, what goes out in the quarter of an hour arrives in that hour still. Columns keep their places.
    """
    moved = (windows.astype(np.int64) - int(ahead_s // SLOT_S)) % WEEK_QUARTERS
    return np.where(windows == NO_WINDOW, NO_WINDOW, moved).astype(np.uint16)
