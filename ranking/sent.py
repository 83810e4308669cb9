"""Training rows from the log of sends: who was told what, and did they engage within the window, tapped or not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine
from lake.meta import CHANNELS
from ranking.asof import EventLog
from ranking.examples import ExampleRule, Rows, thin
from ranking.features import NO_CHANNEL
from ranking.labels import is_over, label
from ranking.past import Bools, Codes, Floats, Past


class Engagements:
    """When users engaged with items, of all engagements or of those that `there` picks."""

    def __init__(self, past: Past, there: Bools | None = None) -> None:
        rows = np.flatnonzero((past.item >= 0) & (True if there is None else there))
        self._log = EventLog(combine(past.user[rows], past.item[rows]), past.at[rows])

    def next_at(self, user: Codes, item: Codes, at: Floats) -> Floats:
        """Return the moment of each pair's first engagement at or after `at`, NaN: none."""
        keys: Keys64 = combine(user, item)
        if not len(self._log.rows):
            return np.full(len(keys), np.nan)
        end = self._log.positions(keys, at).end
        row = self._log.rows[np.minimum(end, len(self._log.rows) - 1)]
        return np.where((end < len(self._log.rows)) & (self._log.keys[row] == keys), self._log.at[row], np.nan)


def answered_at(past: Past) -> Floats:
    """Return when each send was answered, NaN: never: by its own `engaged_at`, or by an engagement of its user with its item."""
    own = past.send_engaged_at
    following = Engagements(past).next_at(past.send_user, past.send_item, past.send_at)
    return np.fmin(np.where(own >= past.send_at, own, np.nan), following)


def sent(past: Past, until: float, rule: ExampleRule, seed: int = 0) -> tuple[Rows, npt.NDArray[np.uint8]]:
    """Return the sends whose label window is over at `until`, in the order of time, with the codes of their channels.

    A send counts as engaged with by its own `engaged_at` or by any engagement of its user with its item. Sends younger
    than the window are left out, also those that were engaged with already: keeping these alone would flatter the rest.
    """
    known = is_over(past.send_at, until, rule.label) & (past.send_at >= until - rule.history_s)
    chosen = np.flatnonzero(known & (past.send_user >= 0) & (past.send_item >= 0))
    user, item, at = past.send_user[chosen], past.send_item[chosen], past.send_at[chosen]
    rows = Rows(user, item, at, label(at, answered_at(past)[chosen], rule.label), np.ones(len(chosen)))
    codes = {name: code for code, name in enumerate(CHANNELS)}
    channel = np.fromiter((codes.get(name, NO_CHANNEL) for name in past.send_channel[chosen]), np.uint8, len(chosen))
    if len(rows) <= rule.rows:
        return rows, channel
    kept = thin(
        Rows(np.arange(len(rows), dtype=np.int32), rows.item, rows.at, rows.label, rows.weight), rule.rows, 1.0, np.random.default_rng(seed)
    )
    place = kept.user
    return Rows(user[place], item[place], at[place], kept.label, kept.weight), channel[place]
