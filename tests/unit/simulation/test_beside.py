"""One policy's sends beside another's: the ratio, and what may be said of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simulation.beside import beside

START = pd.Timestamp("2026-01-05T00:00Z")
END = START + pd.Timedelta(days=60)


def sends(users: int, item: str) -> pd.DataFrame:
    """Everybody is told of one item."""
    return pd.DataFrame({"user_id": [f"u{n}" for n in range(users)], "item_id": item, "at": START})


def events(users: list[int], item: str, after_days: float = 1.0) -> pd.DataFrame:
    at = START + pd.Timedelta(days=after_days)
    return pd.DataFrame({"user_id": [f"u{n}" for n in users], "item_id": item, "at": at})


def test_twice_as_many_engagements_of_as_many_sends_are_twice_as_good() -> None:
    log = pd.concat([events(list(range(40)), "good"), events(list(range(40, 60)), "plain")])
    found = beside(sends(100, "good"), sends(100, "plain"), log, horizon_days=14, known_until=END)
    low, high = found["interval_95"]
    assert found["ratio"] == pytest.approx(2.0)
    assert 1.0 < low < 2.0 < high < 4.0


def test_users_are_drawn_with_all_of_their_sends() -> None:
    """Ten users with ten engagements each say less than a hundred with one each."""
    log = pd.concat([events(list(range(50)), "good"), events(list(range(25)), "plain")])
    alone = beside(sends(100, "good"), sends(100, "plain"), log, horizon_days=14, known_until=END)
    crowded, narrow = (pd.concat([sends(10, f"{kind}{n}") for n in range(10)]) for kind in ("good", "plain"))
    few = pd.concat([pd.concat([events(list(range(5)), f"good{n}"), events([5, 6], f"plain{n}")]) for n in range(10)])
    together = beside(crowded, narrow, few, horizon_days=14, known_until=END)
    assert np.diff([edge or np.inf for edge in together["interval_95"]]) > np.diff(alone["interval_95"])


def test_a_send_whose_horizon_is_open_counts_for_nobody() -> None:
    late = sends(10, "good").assign(at=END - pd.Timedelta(days=3))
    mine = pd.concat([sends(10, "good"), late.assign(item_id="later")])
    log = pd.concat([events([0, 1], "good"), events([2], "plain")])
    found = beside(mine, sends(10, "plain"), log, horizon_days=14, known_until=END)
    assert found["ratio"] == pytest.approx(2.0)


@pytest.mark.parametrize("log", [events([], "good"), events([0], "good")])
def test_beside_what_is_never_engaged_with_there_is_no_ratio(log: pd.DataFrame) -> None:
    found = beside(sends(5, "good"), sends(5, "plain"), log.astype({"at": "datetime64[us, UTC]"}), horizon_days=14, known_until=END)
    assert found == {"ratio": None, "interval_95": None}
    assert beside(sends(0, "good"), sends(0, "plain"), log.astype({"at": "datetime64[us, UTC]"}), horizon_days=14, known_until=END) == found
