"""The week's budgets of users who set none: drawn for a few, learned for the others from all that was assigned, and kept in their profiles.

What a week assigned is filed first, a file per channel, and then written to the profiles. A run that died is begun again; one that finds
the week filed brings profiles in line with it and draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from budgets.learned import LearnedConfig, Weeks, allocate, fit, opt_out_cost
from lake.dataset import Dataset
from lake.history import History
from lake.ids import combine, hash64
from lake.meta import MAX_CHANNELS, Meta
from lake.profiles import DEFAULT_BUDGET, KNOWN, Profiles, ProfileStore
from lake.user_keys import UserKeys, keyed
from ranking.past import seconds
from scheduler.pipeline import PipelineConfig
from scheduler.reader_weeks import FEATURES, ReaderWeeks

TABLE = "budgets"
DAY_S, WEEK_S = 86_400, 7 * 86_400
MONDAY_S = 4 * DAY_S
"""1970-01-05, the first Monday."""
PAGE = 2_000

COLUMNS = ["at", "user_key", "channel", "week", "weekly", "drawn", "learned", *FEATURES]


@dataclass(frozen=True)
class BudgetJobConfig:
    """`explore`: share of the users whose budget of a week is drawn. `least`: drawn user-weeks of a channel before any are learned from:
    with a thousand, what was learned was hardly better than one budget for all (docs/budgets.md).

    `weeks`: how many of the last ones are learned from; `most_rows`: user-weeks among them, others are left out by chance. `lost_weeks`: an
    opt-out costs what notifications bring a reader in that time.
    """

    explore: float = 0.05
    least: int = 3_000
    weeks: int = 12
    most_rows: int = 500_000
    lost_weeks: float = 26.0


@dataclass(frozen=True)
class BudgetJob:
    """The weekly job. `volumes`: mean weekly sends of a user by channel, for the channels whose budgets are learned. `weekly`: default
    budgets by channel code, uint8. `dataset`: what is known by a moment, see scheduler.refreshing.

    Raises ValueError for a channel that there is not.
    """

    meta: Meta
    profiles: ProfileStore
    user_keys: UserKeys
    history: History
    dataset: Callable[[float], Dataset | None]
    volumes: Mapping[str, float]
    weekly: npt.NDArray[np.uint8]
    config: BudgetJobConfig = field(default_factory=BudgetJobConfig)

    def __post_init__(self) -> None:
        self.meta.channel_codes(list(self.volumes))

    def has_work(self, now: float) -> bool:
        """Whether budgets are learned, or were lately, so that profiles may still hold some."""
        return bool(self.volumes) or len(self._filed(now - 4 * WEEK_S, now)) > 0

    def run(self, now: float) -> int:
        """See that the budgets of the week of `now` (seconds; weeks begin on Monday, UTC) stand; returns the users whose profile changed.

        Repeating it in a week changes nothing.
        """
        users = sorted(self.profiles.everybody())
        pages = [self.profiles.get(users[start : start + PAGE]) for start in range(0, len(users), PAGE)]
        if not pages:
            return 0
        profiles, week = np.concatenate(pages), week_of(now)
        filed = self._filed(week_starts(week), now)
        missing = [name for name in self.volumes if not (filed["channel"] == name).any()]
        if missing:
            known = ReaderWeeks.of(self.dataset(now))
            for channel in missing:
                self._assign(channel, users, profiles, known, now)
            filed = self._filed(week_starts(week), now)
        return self._apply(users, profiles, filed)

    def _filed(self, since: float, now: float) -> pd.DataFrame:
        """Return what was assigned in the weeks from that of `since` on."""
        return self.history.read(TABLE, since, now, columns=COLUMNS, where=pc.field("week") >= week_of(since))

    def _assign(self, channel: str, users: list[str], profiles: Profiles, known: ReaderWeeks, now: float) -> None:
        """Draw or learn a channel's budgets of the week and file them."""
        code, week = self.meta.channel_codes([channel])[0], week_of(now)
        there = np.flatnonzero(self._open(profiles, code, channel))
        mine, key = [users[place] for place in there.tolist()], hash64([users[place] for place in there.tolist()])
        features = known.features(mine, channel, profiles["dial"][there], now)
        most = most_of(self.volumes[channel])
        chance = combine(key, np.full(len(key), week)) / np.float64(2**64)
        drawn = chance < self.config.explore
        weekly = np.full(len(mine), self.weekly[code], np.int64)
        weekly[drawn] = (combine(key, np.full(len(key), week), np.full(len(key), code + 1)) % np.uint64(most + 1)).astype(np.int64)[drawn]
        best = self._learned(channel, users, features[~drawn], known, now)
        if best is not None:
            weekly[~drawn] = best
        rows = pd.DataFrame(features, columns=list(FEATURES)).assign(
            user_id=mine, channel=channel, week=week, weekly=weekly, drawn=drawn, learned=~drawn & (best is not None)
        )
        rows["at"] = pd.Timestamp(now, unit="s", tz="UTC").as_unit("us")
        if len(rows):
            # One file, so that a week is assigned as a whole or not at all.
            self.history.write(TABLE, keyed(rows, self.user_keys), at="at", shard=0, name=f"week-{week}-{channel}")

    def _open(self, profiles: Profiles, code: int, channel: str) -> npt.NDArray[np.bool_]:
        """Return who may be sent something on a channel and has set no number, (users,)."""
        bit = np.uint32(1 << code)
        refused = (profiles["suppressed"] | profiles["not_allowed"]) & bit
        reached = (profiles["addressed"] & bit != 0) | (channel in PipelineConfig().addressless)
        known = profiles["flags"] & KNOWN != 0
        return np.asarray(known & reached & (refused == 0) & (profiles["budget"][:, code] == DEFAULT_BUDGET), np.bool_)

    def _learned(
        self, channel: str, users: list[str], features: npt.NDArray[np.float64], known: ReaderWeeks, now: float
    ) -> npt.NDArray[np.int64] | None:
        """Return the best budgets by features, None where too little was drawn to learn from."""
        rows = self._filed(now - self.config.weeks * WEEK_S, now)
        rows = rows[(rows["channel"] == channel) & (seconds(rows["at"]) <= now - WEEK_S + DAY_S / 2)] if len(rows) else rows
        place = {key: number for number, key in enumerate(self.user_keys.known(users)) if key is not None}
        rows = rows[rows["user_key"].isin(place)]
        if not len(features) or int(rows["drawn"].sum()) < self.config.least:
            return None
        rows = rows.sample(min(len(rows), self.config.most_rows), random_state=0)
        told = [users[place[key]] for key in rows["user_key"]]
        engagements, opt_outs = known.outcomes(told, channel, seconds(rows["at"]), WEEK_S)
        weeks = Weeks(rows[list(FEATURES)].to_numpy(np.float64), rows["weekly"].to_numpy(np.int64), engagements, opt_outs)
        responses = fit(weeks, LearnedConfig(most=most_of(self.volumes[channel])))
        expected, leaving = responses.curves(features)
        net = expected - opt_out_cost(responses, weeks, self.config.lost_weeks) * leaving
        return allocate(net, round(self.volumes[channel] * len(features))).budgets.astype(np.int64)

    def _apply(self, users: list[str], profiles: Profiles, filed: pd.DataFrame) -> int:
        """Bring profiles in line with what was filed, channels that are not learned any more without; returns how many changed."""
        wanted = np.zeros((len(users), MAX_CHANNELS), np.uint8)
        filed = filed[filed["channel"].isin(list(self.volumes)) & (filed["drawn"] | filed["learned"]).astype(bool)]
        place = {key: number for number, key in enumerate(self.user_keys.known(users)) if key is not None}
        filed = filed[filed["user_key"].isin(place)]
        at = filed["user_key"].map(place).to_numpy(np.int64)
        wanted[at, np.array(self.meta.channel_codes(filed["channel"].tolist()), np.int64)] = filed["weekly"].to_numpy(np.int64) + 1
        changed = np.flatnonzero((profiles["learned"] != wanted).any(axis=1))
        for start in range(0, len(changed), PAGE):
            page = changed[start : start + PAGE]
            self.profiles.write([users[number] for number in page.tolist()], "learned", wanted[page])
        return len(changed)


def week_of(now: float) -> int:
    """Return the number of the week, from Monday to Sunday in UTC, of a moment."""
    return int((now - MONDAY_S) // WEEK_S)


def week_starts(week: int) -> float:
    """Return the moment at which a week begins."""
    return float(MONDAY_S + week * WEEK_S)


def most_of(mean: float) -> int:
    """Return the largest budget of a channel: drawn evenly from 0 to it, budgets are of the mean that is to be kept."""
    return max(round(2 * mean), 1)
