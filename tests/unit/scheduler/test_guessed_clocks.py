"""Whoever tells neither zone nor offset goes by the clock of most users: their hours are learned by it, and their windows open by it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from lake.follows import MemoryFollowStore
from lake.items import MemoryItemStore
from lake.meta import Meta
from lake.profiles import CLOCK_GUESSED, NO_OFFSET, MemoryProfileStore, blank, with_guesses, without_guesses
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores, load, move_windows
from scheduler.send_time import SendTimes, fit
from scheduler.windows import SLOT_S

META = Meta(shards=4)
NOW = pd.Timestamp("2025-03-03T12:00:00Z")


def history(clocks: dict[str, str | float | None]) -> Dataset:
    """Users who look at 09:20 in Sao Paulo on 28 days, wherever they say they are."""
    at = pd.date_range("2025-02-01 09:20", periods=28, freq="D", tz="America/Sao_Paulo").tz_convert("UTC")
    events = pd.concat([pd.DataFrame({"user_id": user, "item_id": "x", "kind": "view", "at": at}) for user in clocks], ignore_index=True)
    users = pd.DataFrame(
        {
            "user_id": list(clocks),
            "timezone": [clock if isinstance(clock, str) else None for clock in clocks.values()],
            "utc_offset_minutes": [clock if isinstance(clock, float) else np.nan for clock in clocks.values()],
        }
    )
    return Dataset.of({"users": users, "events": events})


@pytest.fixture
def stores() -> Stores:
    return Stores(META, MemoryProfileStore(), MemoryFollowStore(META), MemoryItemStore(), MemoryDueIndex(META.shards))


def loaded(stores: Stores, clocks: dict[str, str | float | None]) -> SendTimes:
    dataset = history(clocks)
    times = fit(dataset.events, dataset.users, now=NOW.timestamp())
    load(dataset, stores, NOW.timestamp(), times)
    return times


def openings(stores: Stores, user: str) -> str:
    """When a user's next window opens, in UTC, to the hour."""
    return datetime.fromtimestamp(int(stores.due.slots([user])[0]) * SLOT_S, UTC).strftime("%H")


@pytest.mark.parametrize(
    ("clocks", "usual"),
    [
        ({"a": "America/Sao_Paulo", "b": "America/Sao_Paulo", "c": "Asia/Tokyo", "lost": None}, ("America/Sao_Paulo", NO_OFFSET)),
        ({"a": -180.0, "b": -180.0, "c": "Asia/Tokyo", "lost": None}, ("", -180)),
        ({"a": None, "lost": None}, ("", NO_OFFSET)),
    ],
)
def test_the_windows_of_whoever_tells_no_clock_open_when_they_look(
    stores: Stores, clocks: dict[str, str | float | None], usual: tuple[str, int]
) -> None:
    assert loaded(stores, clocks).usual == usual
    assert openings(stores, "lost") == "12"
    row = stores.profiles.get(["lost"])
    assert (row["zone"][0].decode(), int(row["utc_offset_minutes"][0])) == usual
    assert bool(row["flags"][0] & CLOCK_GUESSED) == (usual != ("", NO_OFFSET))
    assert not stores.profiles.get(["a"])["flags"][0] & CLOCK_GUESSED


def test_a_guess_follows_most_users_every_night_and_what_is_told_stays(stores: Stores) -> None:
    loaded(stores, {"a": "America/Sao_Paulo", "lost": None})
    users = ["a", "lost"]
    tonight = history({"a": "Asia/Tokyo", "lost": None})
    move_windows(users, stores, NOW.timestamp(), fit(tonight.events, tonight.users, now=NOW.timestamp()))
    assert [zone.decode() for zone in stores.profiles.get(users)["zone"]] == ["America/Sao_Paulo", "Asia/Tokyo"]


def test_taking_guesses_away_gives_back_what_was_told() -> None:
    rows = blank(3)
    rows["zone"][0], rows["utc_offset_minutes"][1] = b"Asia/Tokyo", 0
    guessed = with_guesses(rows, "Europe/Berlin", NO_OFFSET)
    assert guessed["zone"].tolist() == [b"Asia/Tokyo", b"", b"Europe/Berlin"]
    assert without_guesses(guessed).tobytes() == rows.tobytes()
    assert with_guesses(guessed, "", NO_OFFSET).tobytes() == rows.tobytes()
