"""What the arms of an experiment did: per-user sums of what was sent and what people did, compared arm by arm. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from ranking.labels import LabelRule
from simulation.difference import SURE, Difference, Moments, difference, sample_ratio
from simulation.outcomes import engaged_at
from simulation.tenths import tenth_of, volumes

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY = pd.Timedelta(days=1)
METRICS = {
    "engagements_per_user": "engagements per user",
    "active_days_per_user": "days with an engagement per user",
    "engaged_per_send": "engaged sends per send",
    "sends_per_user": "sends per user",
    "opt_outs_per_user": "unsubscribes per user",
}
"""What is compared, and its words."""


@dataclass(frozen=True)
class Split:
    """Who is in which arm. `users`: distinct ids; `arm`: code of each into `arms`, -1: none. `shares`: what each arm is to have, (arms,).

    The first arm is the control.
    """

    users: pd.Index[str]
    arm: npt.NDArray[np.integer]
    arms: tuple[str, ...]
    shares: Floats

    @property
    def counts(self) -> Ints:
        """How many users each arm has, (arms,)."""
        return np.bincount(self.arm[self.arm >= 0], minlength=len(self.arms))


@dataclass(frozen=True)
class Period:
    """What counts: sends and events in [since, until); an engagement counts for its send within `horizon_days`.

    `known_until`: when the recorded events end. Sends whose horizon is not over by then are not in `engaged_per_send`.
    """

    since: pd.Timestamp
    until: pd.Timestamp
    known_until: pd.Timestamp
    horizon_days: int = 14


def report(split: Split, sends: pd.DataFrame, events: pd.DataFrame, period: Period, level: float = 0.95) -> dict[str, Any]:
    """Return users and metrics of each arm, the sample-ratio check, and each arm beside the control, metric by metric.

    `sends`: user_id, item_id, at. `events`: user_id, item_id, kind, at. `q_value`: the p-value for all that is compared here, by Benjamini
    and Hochberg. NaN where an arm has nothing to compare. `by_activity_decile`: what users of an arm were sent and engaged with, by tenths
    of the users of all arms by their events before the period, the least active first.
    """
    found_per_user = dict(per_user(split, sends, events, period))
    moments = {name: Moments.of(split.arm[split.arm >= 0], *pair, len(split.arms)) for name, pair in found_per_user.items()}
    tenths = by_tenth(split, found_per_user, events, period)
    ratio = float(sample_ratio(split.counts, split.shares))
    compared: list[dict[str, Any]] = [
        {"metric": name, "arm": arm, "control": split.arms[0], **_row(difference(found.take(0), found.take(code), level))}
        for code, arm in enumerate(split.arms[1:], start=1)
        for name, found in moments.items()
    ]
    for row, q_value in zip(compared, adjusted([row["p_value"] for row in compared]), strict=True):
        row["q_value"] = q_value
    arms = {
        arm: {
            "users": int(split.counts[code]),
            "share": float(split.counts[code] / max(split.counts.sum(), 1)),
            "wanted_share": float(split.shares[code]),
            **{name: float(found.take(code).ratio) for name, found in moments.items()},
            "by_activity_decile": tenths[code],
        }
        for code, arm in enumerate(split.arms)
    }
    # Without users there is no p-value, and nothing is known to be right.
    return {"arms": arms, "sample_ratio": {"p_value": ratio, "ok": bool(ratio >= SURE)}, "comparisons": compared, "level": level}


def per_user(split: Split, sends: pd.DataFrame, events: pd.DataFrame, period: Period) -> Iterator[tuple[str, tuple[Floats, Floats]]]:
    """Yield each metric with what is above and below its line, one number per user who is in an arm."""
    there = np.flatnonzero(split.arm >= 0)
    one = np.ones(len(there))

    def counted(rows: pd.DataFrame) -> Floats:
        user = split.users.get_indexer(pd.Index(rows["user_id"]))
        return np.bincount(user[user >= 0], minlength=len(split.users)).astype(np.float64)[there]

    inside = sends[(sends["at"] >= period.since) & (sends["at"] < period.until)].reset_index(drop=True)
    done = events[events["kind"].to_numpy() != "visit"]
    done = done[LabelRule().is_engagement(done["kind"].to_numpy(object)) & done["item_id"].notna().to_numpy()]
    within = done[(done["at"] >= period.since) & (done["at"] < period.until)]
    days = within.assign(day=within["at"].dt.floor("D")).drop_duplicates(["user_id", "day"])
    left = events[(events["kind"] == "unsubscribe") & (events["at"] >= period.since) & (events["at"] < period.until)]
    horizon = period.horizon_days * DAY
    known = inside[inside["at"] + horizon <= period.known_until]
    engaged = known[(engaged_at(known, done) - known["at"] <= horizon).to_numpy(bool)]
    yield "engagements_per_user", (counted(within), one)
    yield "active_days_per_user", (counted(days), one)
    yield "engaged_per_send", (counted(engaged), counted(known))
    yield "sends_per_user", (counted(inside), one)
    yield "opt_outs_per_user", (counted(left), one)


def by_tenth(
    split: Split, per_user: Mapping[str, tuple[Floats, Floats]], events: pd.DataFrame, period: Period
) -> list[list[dict[str, Any]]]:
    """Return volume and engagement of each arm by tenths of the users of all arms, see `report`."""
    before = events.loc[(events["at"] < period.since).to_numpy(bool), "user_id"].value_counts()
    there = split.arm >= 0
    active = before.reindex(split.users[there]).fillna(0).to_numpy(np.int64)
    tenth, (engaged, known), (sends, _) = tenth_of(active), per_user["engaged_per_send"], per_user["sends_per_user"]
    arms = (split.arm[there] == code for code in range(len(split.arms)))
    return [volumes(*(column[arm] for column in (tenth, active, sends, engaged, known))) for arm in arms]


def adjusted(p_values: list[float]) -> list[float]:
    """Return the q-values of some p-values; NaN stays NaN and counts as no test."""
    p = np.array(p_values, np.float64)
    known = ~np.isnan(p)
    if known.any():
        p[known] = stats.false_discovery_control(p[known])
    return [float(each) for each in p]


def _row(found: Difference) -> dict[str, float]:
    named = {"control": "control_value", "treatment": "value"}
    return {named.get(name, name): float(value) for name, value in vars(found).items()}
