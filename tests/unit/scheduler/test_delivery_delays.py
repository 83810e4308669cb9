"""Windows open earlier by what messages are on their way, so that they arrive when people look."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.dataset import Dataset
from lake.follows import MemoryFollowStore
from lake.items import MemoryItemStore
from lake.meta import Meta
from lake.profiles import NO_WINDOW, MemoryProfileStore, quarter_of
from scheduler.delivery_delays import FEWEST, ahead_s, earlier, learned_delays, opening_earlier
from scheduler.due import MemoryDueIndex
from scheduler.loading import Stores, load, move_windows
from scheduler.send_time import fit
from scheduler.window_counts import WindowRule
from scheduler.windows import SLOT_S, WEEK_QUARTERS, windows_due_of

META = Meta(shards=2, channels=("in_app", "email", "push"))
USERS = [f"u{number}" for number in range(8)]
BEGAN = pd.Timestamp("2026-03-02T00:00:00Z")
NOW = (BEGAN + pd.Timedelta(days=28)).timestamp()
SLOW_S, FAST_S = 40 * 60, 5


def dataset(*, by_grant: bool = True, sends_each: int = 10) -> Dataset:
    """Everybody looks at nine in the evening, UTC, for four weeks; e-mail arrives 40 minutes late, push at once, in-app says nothing."""
    days = pd.to_timedelta(np.arange(28), unit="D")
    looks = pd.concat([pd.DataFrame({"user_id": user, "kind": "visit", "at": BEGAN + days + pd.Timedelta(hours=21)}) for user in USERS])
    rows = [(user, channel, number) for user in USERS for channel in ("email", "push", "in_app") for number in range(sends_each)]
    sends = pd.DataFrame(rows, columns=["user_id", "channel", "number"])
    sends["at"] = BEGAN + pd.to_timedelta(sends["number"] * 2, unit="D") + pd.Timedelta(hours=9)
    sends["item_id"], sends["grant_id"] = "i" + sends["number"].astype(str), [f"{number:016x}" for number in range(len(sends))]
    took_s = sends["channel"].map({"email": SLOW_S, "push": FAST_S}) + sends["number"] % 3
    arrived = sends.assign(kind="delivered", at=sends["at"] + pd.to_timedelta(took_s, unit="s")).dropna(subset=["at"])
    arrived.loc[arrived.index[0], "at"] += pd.Timedelta(hours=20)  # lost and found
    arrived = arrived.assign(send_id=arrived["grant_id"], item_id=None) if by_grant else arrived
    events = pd.concat([looks, arrived.drop(columns=["grant_id", "number"])], ignore_index=True)
    sends = sends if by_grant else sends.drop(columns=["grant_id"])
    return Dataset.of({"events": events, "sends": sends.drop(columns=["number"])}, pd.Timestamp(NOW, unit="s", tz="UTC"))


def stores() -> Stores:
    return Stores(META, MemoryProfileStore(), MemoryFollowStore(META), MemoryItemStore(), MemoryDueIndex(META.shards))


@pytest.mark.parametrize("by_grant", [True, False])
def test_each_channel_has_its_own_delay_by_reports_of_its_messages(by_grant: bool) -> None:
    assert learned_delays(dataset(by_grant=by_grant), NOW) == pytest.approx({"email": SLOW_S + 1, "push": FAST_S + 1}, abs=1)


def test_few_reports_old_ones_and_none_are_not_believed() -> None:
    few = dataset(sends_each=(FEWEST - 1) // len(USERS))
    assert learned_delays(few, NOW) == {}
    assert learned_delays(dataset(), NOW + 60 * 86_400) == {}
    assert opening_earlier(WindowRule(("email",)), few, NOW).ahead_s == 0
    looks = few.events.loc[few.events["kind"] == "visit"]
    silent = Dataset.of({"events": looks}, pd.Timestamp(NOW, unit="s", tz="UTC"))
    assert learned_delays(silent, NOW) == {}


def test_channels_that_share_windows_count_by_what_is_sent_on_them() -> None:
    sends = pd.DataFrame({"channel": ["email"] * 3 + ["push"]})
    delays = {"email": 2400.0}
    assert [ahead_s(delays, sends, channels) for channels in (("email",), ("push",), ("email", "push"), ("in_app",), ())] == [
        2400,
        0,
        1800,
        0,
        0,
    ]


@pytest.mark.parametrize(("channels", "quarters"), [(("email",), 2), (("push",), 0), (("in_app",), 0)])
def test_a_channel_that_delivers_forty_minutes_late_opens_its_slots_earlier_and_arrives_in_the_hour(
    channels: tuple[str, ...], quarters: int
) -> None:
    """From reports and visits to the slot in the due index, both when the tables are loaded and every night."""
    known, opens = dataset(), []
    times = fit(known.events, known.users, now=NOW)
    for nightly in (False, True):
        deployment = stores()
        rule = opening_earlier(WindowRule(channels), known, NOW)
        load(known, deployment, NOW, times, windows_per_week=WindowRule(channels) if nightly else rule)
        if nightly:
            move_windows(USERS, deployment, NOW, times, rule)
        opens.append(deployment.due.slots(USERS).tolist())
        profiles = deployment.profiles.get(USERS)
        assert all(windows_due_of(profiles[[place]], slot)[0] >= 0 for place, slot in enumerate(opens[-1]))
    assert opens[0] == opens[1]
    for slot, quarter in zip(opens[0], quarter_of(USERS).tolist(), strict=True):
        assert slot % 96 == 21 * 4 + quarter - quarters
        arrives_at = slot * SLOT_S + {2: SLOW_S, 0: FAST_S}[quarters]
        assert arrives_at // 3600 % 24 == 21


def test_what_carriers_report_is_no_visit() -> None:
    """E-mail arrives at 9:40 in the morning; nobody looks then."""
    known = dataset()
    assert fit(known.events, known.users, now=NOW).scores.reshape(-1, 7, 24).sum(axis=1).argmax(axis=1).tolist() == [21] * len(USERS)


@given(st.lists(st.integers(0, WEEK_QUARTERS - 1), max_size=6), st.floats(0, 86_400))
def test_windows_move_by_whole_quarters_around_the_week_and_what_is_none_stays_none(own: list[int], seconds: float) -> None:
    windows = np.array([own + [NO_WINDOW] * (8 - len(own))], np.uint16)
    moved = earlier(windows, seconds)
    assert (moved[0, len(own) :] == NO_WINDOW).all()
    late_s = [(was - now) % WEEK_QUARTERS * SLOT_S for was, now in zip(own, moved[0].tolist(), strict=False)]
    assert all(0 <= seconds - late < SLOT_S for late in late_s)
