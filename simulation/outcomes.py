"""What sends were worth: which of them the recorded events engage with afterwards, by policy, lane and channel. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from lake.kinds import NO_ENGAGEMENT
from simulation.tenths import tenth_of

DAY = pd.Timedelta(days=1)
HORIZON_DAYS = 14


def engaged_at(sends: pd.DataFrame, events: pd.DataFrame) -> pd.Series[pd.Timestamp]:
    """Return when each send's user first engaged with its item after the send, NaT where never.

    `sends`: user_id, item_id, at. `events`: user_id, item_id, at, kind?; a kind that is no engagement does not count, as in labels.
    """
    if "kind" in events:
        events = events[~events["kind"].isin(NO_ENGAGEMENT)]
    events = events[["user_id", "item_id", "at"]].dropna().rename(columns={"at": "engaged_at"}).sort_values("engaged_at")
    left = sends[["user_id", "item_id", "at"]].assign(row=range(len(sends))).sort_values("at")
    for name in ("user_id", "item_id"):
        left[name], events[name] = left[name].astype(object), events[name].astype(object)
    found = pd.merge_asof(left, events, left_on="at", right_on="engaged_at", by=["user_id", "item_id"], direction="forward")
    return found.set_index("row")["engaged_at"].sort_index().set_axis(sends.index)


def report(
    decisions: pd.DataFrame,
    events: pd.DataFrame,
    *,
    horizon_days: int,
    overspent: int,
    known_until: pd.Timestamp | None = None,
    items: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """Return what one policy's sends were worth.

    `decisions`: rows of the decision log, all dispositions. `engaged_48h`, `engaged_7d`, `engaged_in_horizon`: sends
    whose user engaged with the item within that time after the send. `returned_users`: users with any event in the week
    after one of their sends. `overspent`: grants beyond a budget, as counted by `overspends`. `by_activity_decile`: see there. `lanes`,
    `sources`: see `apart`. `items`: item_id, created_at; without it these tell no delays.
    `known_until`: when the recorded events end. `known_sends`: sends whose horizon is over by then. Only these count in
    `engaged_per_send`: a younger send that nobody engaged with yet is no failure, and keeping only its successes would flatter.
    """
    sends = decisions[decisions["disposition"].isin(["send"])].reset_index(drop=True)
    after = engaged_at(sends, events) - sends["at"]
    known = sends["at"] + horizon_days * DAY <= known_until if known_until is not None else pd.Series(True, sends.index)
    engaged = after <= horizon_days * DAY
    judged = sends.assign(engaged_48h=after <= 2 * DAY, engaged=engaged, known=known)
    within = {"engaged_48h": 2 * DAY, "engaged_7d": 7 * DAY, "engaged_in_horizon": horizon_days * DAY}
    counts = {name: int((after <= limit).sum()) for name, limit in within.items()}
    return {
        "sends": len(sends),
        **counts,
        "known_sends": int(known.sum()),
        "engaged_per_send": float(engaged[known].sum() / max(int(known.sum()), 1)),
        "users": int(sends["user_id"].nunique()),
        "sends_per_user": len(sends) / max(int(sends["user_id"].nunique()), 1),
        "returned_users": returned_users(sends, events),
        "overspent": overspent,
        "by_activity_decile": by_activity_decile(decisions, judged, events),
        "by_lane": sends.groupby("lane").size().to_dict(),
        "lanes": apart(judged, "lane", items),
        "sources": apart(judged, "source", items) if "source" in judged else {},
        "by_channel": sends.groupby("channel").size().to_dict(),
        "dispositions": decisions.groupby("disposition").size().to_dict(),
        "reasons": decisions[decisions["reason"] != ""].groupby("reason").size().to_dict(),
    }


def apart(sends: pd.DataFrame, column: str, items: pd.DataFrame | None) -> dict[str, dict[str, Any]]:
    """Return what the sends of each lane or source were worth, and how many hours after its item was made each went (median, 90 %).

    `sends`: with `engaged_48h`, `engaged`, and `known`, whether the horizon is over; the rate is that of the known ones alone.
    """
    made = None if items is None else items.set_index(items["item_id"].astype(object))["created_at"]
    found = {}
    for name, mine in sends.groupby(column, observed=True):
        known = mine[mine["known"]]
        row: dict[str, Any] = {
            "sends": len(mine),
            "engaged_48h": int(mine["engaged_48h"].sum()),
            "engaged_in_horizon": int(mine["engaged"].sum()),
            "engaged_per_send": float(known["engaged"].sum() / max(len(known), 1)),
        }
        if made is not None:
            delay_h = (mine["at"] - mine["item_id"].astype(object).map(made)).dt.total_seconds().dropna().to_numpy(np.float64) / 3600
            quantiles = np.quantile(delay_h, (0.5, 0.9)).round(3).tolist() if len(delay_h) else (None, None)
            row |= dict(zip(("delay_h_median", "delay_h_p90"), quantiles, strict=True))
        found[str(name)] = row
    return found


def cut_of(
    mine: pd.DataFrame, others: pd.DataFrame, events: pd.DataFrame, *, horizon_days: int, known_until: pd.Timestamp | None = None
) -> dict[str, Any]:
    """Return the fewest of a policy's sends, by descending value, that are engaged with as often as all of another's.

    `mine`, `others`: user_id, item_id, at, value of their sends; only those count whose horizon is over by `known_until`. `cut`: the
    share of the other's sends that need not be made, None where all of mine are not enough. `threshold`: the value of the last send
    kept. It is read off the sends that it cuts, so it says what there is to gain; a replay with a smaller budget says what is gained
    without hindsight.
    """
    if known_until is not None:
        mine, others = (sends[sends["at"] + horizon_days * DAY <= known_until].reset_index(drop=True) for sends in (mine, others))
    target = int((engaged_at(others, events) - others["at"] <= horizon_days * DAY).sum())
    order = np.argsort(-mine["value"].to_numpy(np.float64), kind="stable")
    engaged = (engaged_at(mine, events) - mine["at"] <= horizon_days * DAY).to_numpy(bool)[order]
    reached = np.append(0, np.cumsum(engaged))
    if not len(others) or reached[-1] < target:
        return {"sends": len(mine), "engaged": int(reached[-1]), "to_reach": target, "cut": None, "threshold": None}
    kept = int(np.searchsorted(reached, target))
    threshold = float(mine["value"].to_numpy(np.float64)[order[kept - 1]]) if kept else None
    return {"sends": kept, "engaged": target, "to_reach": target, "cut": 1 - kept / len(others), "threshold": threshold}


def returned_users(sends: pd.DataFrame, events: pd.DataFrame) -> int:
    """Return how many users had any event in the 7 days after one of their sends."""
    visits = events[["user_id", "at"]].rename(columns={"at": "visited_at"}).sort_values("visited_at")
    left = sends[["user_id", "at"]].sort_values("at")
    visits["user_id"], left["user_id"] = visits["user_id"].astype(object), left["user_id"].astype(object)
    found = pd.merge_asof(left, visits, left_on="at", right_on="visited_at", by="user_id", direction="forward", tolerance=7 * DAY)
    return int(found.loc[found["visited_at"].notna(), "user_id"].nunique())


def by_activity_decile(decisions: pd.DataFrame, sends: pd.DataFrame, events: pd.DataFrame) -> list[dict[str, Any]]:
    """Return volume and engagement of each tenth of the users who could have been told something, the least active first.

    Activity: a user's events before the first decision; users alike in it are cut in the order of their ids. `sends`: with
    `engaged` and `known`, whether the horizon is over; the rate is that of the known ones alone.
    `share_of_sends`: of all sends; an even hand gives each tenth its `share_of_users`.
    """
    users = pd.Index(sorted(decisions["user_id"].astype(str).unique()))
    if users.empty:
        return []
    before = events.loc[events["at"] < decisions["at"].min(), "user_id"].astype(str)
    active = before.value_counts().reindex(users, fill_value=0).to_numpy(np.int64)
    decile = tenth_of(active)
    of_send = decile[users.get_indexer(pd.Index(sends["user_id"].astype(str)))]
    found = []
    for tenth in range(10):
        mine = sends[of_send == tenth]
        known = mine[mine["known"]]
        found.append(
            {
                "decile": tenth + 1,
                "users": int((decile == tenth).sum()),
                "events_before": int(active[decile == tenth].sum()),
                "told_users": int(mine["user_id"].nunique()),
                "sends": len(mine),
                "engaged_in_horizon": int(mine["engaged"].sum()),
                "engaged_per_send": float(known["engaged"].sum() / max(len(known), 1)),
                "share_of_users": float((decile == tenth).mean()),
                "share_of_sends": len(mine) / max(len(sends), 1),
            }
        )
    return found


def overspends(sends: pd.DataFrame, weekly: pd.Series[int] | int) -> int:
    """Return how many sends exceeded their user's and channel's budget in some rolling 7 days.

    `sends`: user_id, channel, at. `weekly`: the budget, one for all or one per row. A send at exactly 7 days after
    another still shares its window, as in the ledger.
    """
    ordered = sends.assign(weekly=weekly).sort_values("at")
    grouped = ordered.groupby(["user_id", "channel"], sort=False)
    over = 0
    for _, group in grouped:
        at = group["at"].to_numpy("datetime64[us]")
        first = at.searchsorted(at - np.timedelta64(7, "D"), side="left")
        over += int(((np.arange(len(at)) - first + 1) > group["weekly"].to_numpy()).sum())
    return over
