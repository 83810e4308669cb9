"""What is known of readers as their budgets are assigned, and what they did in the week after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from ranking.past import Past, seconds
from ranking.sent import answered_at

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DAY_S = 86_400
MEMORY_S, VAIN_S = 28 * DAY_S, 14 * DAY_S
NEVER_DAYS = 60.0
"""Days since a user was there, where it was longer ago or never."""

FEATURES = ("sent_28d", "answered_28d", "vain_14d", "answered_share", "engaged_28d", "unasked_28d", "active_days_28d", "days_since", "dial")
"""Sends and answers are of the channel. `vain`: sends without an answer. `unasked`: items engaged with beyond answers on any channel."""


@dataclass(frozen=True)
class ReaderWeeks:
    """`past`: what happened, None where nothing did. `answered`: when each send was answered, NaN: never.

    `left_user`, `left_channel` ("": all of them), `left_at`: opt-outs, users by their place in `past`.
    """

    past: Past | None
    answered: Floats
    left_user: npt.NDArray[np.intp]
    left_channel: npt.NDArray[np.object_]
    left_at: Floats

    @staticmethod
    def of(dataset: Dataset | None) -> ReaderWeeks:
        """Return what a dataset tells."""
        if dataset is None:
            return ReaderWeeks(None, np.zeros(0), np.zeros(0, np.intp), np.zeros(0, object), np.zeros(0))
        past = Past.of(dataset)
        left = dataset.events[dataset.events["kind"] == "unsubscribe"]
        user = pd.Index(past.user_ids).get_indexer(pd.Index(left["user_id"].to_numpy(object)))
        return ReaderWeeks(past, answered_at(past), user, left["channel"].fillna("").to_numpy(object), seconds(left["at"]))

    def features(self, users: Sequence[str], channel: str, dial: npt.NDArray[np.int8], now: float) -> Floats:
        """Return what is known of users before `now` (seconds) that bears on a channel's budget, (users, FEATURES)."""
        past = self.past
        if past is None:
            nothing = np.zeros((len(users), len(FEATURES)))
            nothing[:, FEATURES.index("days_since")], nothing[:, FEATURES.index("dial")] = NEVER_DAYS, dial
            return nothing
        sent, lately = past.send_at < now, past.send_at >= now - MEMORY_S
        mine, answered = sent & (past.send_channel == channel), self.answered < now
        vain = self._sends(mine & ~answered & (past.send_at >= now - VAIN_S))
        share = (self._sends(mine & answered) + 1) / (self._sends(mine) + 5)
        there = (past.at < now) & (past.at >= now - MEMORY_S)
        engaged = np.bincount(past.user[there & past.is_first], minlength=self._rows)
        unasked = engaged - self._sends(sent & lately & answered)
        days = np.unique(past.user[there].astype(np.int64) * 2**20 + (past.at[there] // DAY_S).astype(np.int64)) >> 20
        since = np.full(self._rows, NEVER_DAYS)
        np.minimum.at(since, past.user[past.at < now], (now - past.at[past.at < now]) / DAY_S)
        columns = (self._sends(mine & lately), self._sends(mine & lately & answered), vain, share, engaged, unasked)
        known = np.column_stack([*columns, np.bincount(days, minlength=len(since)), since])
        return np.column_stack([known[self._places(users)], dial]).astype(np.float64)

    def outcomes(self, users: Sequence[str], channel: str, at: Floats, length_s: float) -> tuple[Floats, Floats]:
        """Return how many items each user engaged with for the first time within `length_s` after `at`, told of or not, and whether they
        left the channel, (n,) each; users may come again at other moments.
        """
        past, engaged, left = self.past, np.zeros(len(users)), np.zeros(len(users))
        if past is None:
            return engaged, left
        place = self._places(users)
        of_channel = np.isin(self.left_channel, ["", channel])
        for moment in np.unique(at):
            rows = np.flatnonzero(at == moment)
            week = past.is_first & (past.at >= moment) & (past.at < moment + length_s)
            leaving = of_channel & (self.left_at >= moment) & (self.left_at < moment + length_s)
            engaged[rows] = np.bincount(past.user[week], minlength=self._rows)[place[rows]]
            left[rows] = np.bincount(self.left_user[leaving], minlength=self._rows)[place[rows]] > 0
        return engaged, left

    @property
    def _rows(self) -> int:
        """Users, and a last row for whoever came since."""
        assert self.past is not None
        return len(self.past.user_ids) + 1

    def _sends(self, which: Bools) -> npt.NDArray[np.intp]:
        assert self.past is not None
        return np.bincount(self.past.send_user[which], minlength=self._rows)

    def _places(self, users: Sequence[str]) -> npt.NDArray[np.intp]:
        assert self.past is not None
        return pd.Index(self.past.user_ids).get_indexer(pd.Index(list(users), dtype=object))
