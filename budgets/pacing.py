"""How a week's budget is spread: what urgent items keep, how users begin, how many go in a day and how far apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from budgets.ledger import CRITICAL, RETENTION_S, LedgerColumns

DAY_S = 86400.0
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Weekly = npt.NDArray[np.uint8]

SILENCE_S = 14 * DAY_S
"""Whoever was told nothing for so long begins anew."""
MOST_RAMP_DAYS = (RETENTION_S - SILENCE_S) / DAY_S
"""What the ledger can tell: it forgets grants after RETENTION_S, and a longer ramp would then seem to begin again."""
NO_LIMIT = 2**31


@dataclass(frozen=True)
class PacingConfig:
    """How budgets are spread; all of it is off by default.

    `urgent_share`: the last units of each weekly budget that scheduled windows leave to the urgent lane, as a share. `ramp_days`: those who
    are new, or were told nothing for 14 days, come to their whole budget in so many days from their first notification, beginning with
    `ramp_from` of it. `day_cap`: most sends of a user's local day, by either lane; 0: no cap. `least_gap_s`: least time between a scheduled
    send and the one before it.
    """

    urgent_share: float = 0.0
    ramp_days: float = 0.0
    ramp_from: float = 0.4
    day_cap: int = 0
    least_gap_s: float = 0.0

    def __post_init__(self) -> None:
        shares = 0 <= self.urgent_share < 1 and 0 < self.ramp_from <= 1
        if not (shares and 0 <= self.ramp_days <= MOST_RAMP_DAYS and self.day_cap >= 0 and self.least_gap_s >= 0):
            raise ValueError(
                f"pacing takes an urgent_share from 0 to below 1, a ramp_from above 0 and at most 1, 0 to {MOST_RAMP_DAYS:g} ramp_days, "
                f"a day_cap and least_gap_s of 0 or more: {self}"
            )


def told_for_s(ledger: LedgerColumns, users: int, now: float) -> Floats:
    """Return for how long users have been told things without a silence of SILENCE_S, seconds (users,); 0 where they are not, or not yet.

    Critical grants do not count.
    """
    counts = ledger.flags & CRITICAL == 0
    user, at = ledger.user[counts], ledger.at[counts]
    began, last = np.full(users, now), np.full(users, -np.inf)
    if len(user):
        is_first = np.diff(user, prepend=-1) != 0
        after_silence = np.diff(at, prepend=-np.inf) >= SILENCE_S
        begins = is_first | after_silence
        began[user[begins]] = at[begins]  # the latest counts: grants are in the order of time
        last[user] = at
    return np.where(now - last < SILENCE_S, np.maximum(now - began, 0.0), 0.0)


def paced_budget(weekly: Weekly, told_s: Floats, config: PacingConfig, *, is_urgent: bool) -> Weekly:
    """Return what of weekly budgets, (users, channels), may be spent by a lane; at least one of what was at least one.

    `told_s`: see `told_for_s`, (users,).
    """
    if not config.ramp_days and not config.urgent_share:
        return weekly
    share = np.ones(len(weekly))
    if config.ramp_days > 0:
        share = np.minimum(config.ramp_from + (1 - config.ramp_from) * told_s / max(config.ramp_days * DAY_S, 1.0), 1.0)
    ramped = np.ceil(weekly * share[:, None] - 1e-9)
    kept = 0.0 if is_urgent else np.floor(ramped * config.urgent_share + 0.5)
    paced: Weekly = np.maximum(ramped - kept, np.minimum(weekly, 1)).astype(np.uint8)
    return paced


def places_left(today: Ints, since_s: Floats, config: PacingConfig, *, is_urgent: bool) -> Ints:
    """Return how many sends of each user may go now, (users,), by the day's cap and the gap; NO_LIMIT where neither is set.

    `today`: sends of the user's local day, `since_s`: seconds since the last one, inf: never.
    """
    left = np.maximum(config.day_cap - today, 0) if config.day_cap else np.full(len(today), NO_LIMIT, np.int64)
    too_soon = (since_s < config.least_gap_s) & (not is_urgent)
    return np.where(too_soon, 0, left).astype(np.int64)
