"""What counts as caring: engaged with the item within a window after the moment it could have been told about. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DAY_S = 86400.0


@dataclass(frozen=True)
class LabelRule:
    """Which events are engagements and how soon they must come.

    `window_s`: an engagement counts when it comes within this time after the moment, at the moment included.
    `ignored`: kinds that are no engagement. `weak`: kinds of less commitment than the rest; `weak_weight`: what one is worth.
    """

    window_s: float = 7 * DAY_S
    ignored: frozenset[str] = frozenset({"unsubscribe", "mute", "dismiss", "hide", "report", "bounce", "complaint", "impression", "sent"})
    weak: frozenset[str] = frozenset({"visit", "view", "open", "click"})
    weak_weight: float = 1.0

    def is_engagement(self, kinds: npt.NDArray[np.object_]) -> Bools:
        """Return which kinds are engagements at all, shape (n,)."""
        return np.fromiter((kind not in self.ignored for kind in kinds), bool, len(kinds))

    def weights(self, kinds: npt.NDArray[np.object_]) -> Floats:
        """Return what an engagement of each kind is worth, shape (n,); 0: not an engagement."""
        worth = {kind: self.weak_weight if kind in self.weak else 1.0 for kind in set(kinds) - self.ignored}
        return np.fromiter((worth.get(kind, 0.0) for kind in kinds), np.float64, len(kinds))


def label(at: Floats, engaged_at: Floats, rule: LabelRule) -> Bools:
    """Return whether the first engagement (NaN: none) of each row came in [at, at + window), shape (n,)."""
    return (engaged_at >= at) & (engaged_at < at + rule.window_s)


def is_known(at: Floats, engaged_at: Floats, until: float, rule: LabelRule) -> Bools:
    """Return which rows have a label at `until`: the window is over, or the engagement came already.

    A younger row without an engagement is not a negative; keeping only the young positives would bias the model, so
    training uses moments whose window is over.
    """
    return (at + rule.window_s <= until) | label(at, engaged_at, rule)
