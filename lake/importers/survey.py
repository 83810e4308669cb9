"""What there is to notice in imported tables: the span and kinds of their events, unknown columns, times to come. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

import pandas as pd

from lake.dataset import Tables
from lake.tables import SCHEMAS

ALIKE = 0.8
"""How alike two names are, of 1, before one is taken for a slip of the other."""


@dataclass(frozen=True)
class Survey:
    """The first and last event, how many there are of each kind, and what a person may want to look at before going on."""

    first: pd.Timestamp | None
    last: pd.Timestamp | None
    kinds: dict[str, int]
    notes: list[str]

    @staticmethod
    def of(tables: Tables, now: float) -> Survey:
        """Survey checked tables, `events` among them, at `now` (epoch seconds)."""
        at = tables["events"]["at"]
        counts = tables["events"]["kind"].value_counts().sort_index(kind="stable").sort_values(ascending=False, kind="stable")
        kinds = {str(kind): int(count) for kind, count in counts.items()}
        first, last = (at.min(), at.max()) if len(at) else (None, None)
        return Survey(first, last, kinds, [*_to_come(at, now), *_unknown(tables)])


def _to_come(at: pd.Series[pd.Timestamp], now: float) -> list[str]:
    moment = pd.Timestamp(now, unit="s", tz="UTC")
    later = at[at > moment]
    if later.empty:
        return []
    return [
        f"events: {len(later):,} lie in the future, the last at {later.max():%Y-%m-%dT%H:%MZ}; are their times in UTC or with their offset?"
    ]


def _unknown(tables: Tables) -> list[str]:
    notes = []
    for name, frame in tables.items():
        known = [column.name for column in SCHEMAS[name].columns]
        extra = [str(column) for column in frame.columns if column not in known]
        unused = [column for column in known if column not in frame.columns or frame[column].isna().all()]
        slips = {column: close[0] for column in extra if (close := get_close_matches(column.lower(), unused, 1, ALIKE))}
        notes += [f"{name}: Tidings knows no column {column}, which is only kept; is {meant} meant?" for column, meant in slips.items()]
        rest = [column for column in extra if column not in slips]
        if rest:
            notes.append(f"{name}: only kept, as Tidings does not know them: {', '.join(rest)}")
    return notes
