"""The decision log: rows survive packing, the commit has the last word, files hold no user ids, and nothing is filed twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.decision_log import LOG_COLUMNS, TABLE, DecisionLog, Entry, MemoryDecisionStream, pack, unpack
from lake.decisions import BELOW_THRESHOLD, DISPOSITIONS, OVER_BUDGET, REASONS, SEND, Candidates, Decided
from lake.history import History
from lake.user_keys import MemoryUserKeys

CHANNELS = ("in_app", "email")
NOW = 1_700_000_000.0
FLOATS = ("probability", "value", "threshold", "propensity")


def decided(n: int, *, seed: int = 0, at: float = NOW, decision: str = "d") -> Decided:
    """Return `n` rows about five users and four items, in two requests, decided at random."""
    random = np.random.default_rng(seed)

    def codes(below: int, kind: Any = np.int32) -> Any:
        return random.integers(0, below, n).astype(kind)

    def numbers() -> Any:
        return random.random(n).astype(np.float32)

    rows = Candidates(
        users=[f"u{k}" for k in range(5)],
        items=[f"i{k}" for k in range(4)],
        user=np.sort(codes(5)),
        item=codes(4),
        channel=codes(2, np.uint8),
        source=codes(2, np.uint8),
        sources=("held", "new_posts"),
        request=codes(2),
    )
    return Decided(
        candidates=rows,
        probability=numbers(),
        value=numbers(),
        threshold=numbers(),
        propensity=numbers(),
        allowance=codes(9, np.int16),
        disposition=codes(len(DISPOSITIONS), np.uint8),
        reason=codes(len(REASONS), np.uint8),
        grant_id=random.integers(1, 2**63, n).astype(np.uint64),
        decision_ids=[f"{decision}1", f"{decision}2"],
        lane="urgent",
        model_id="m",
        at=at,
    )


def packed(rows: Decided, chosen: list[int] | None = None, committed: list[int] | None = None) -> bytes:
    kept = np.array(range(len(rows.candidates)) if chosen is None else chosen, np.intp)
    return pack(rows, CHANNELS, kept, np.array(committed or [], np.intp), np.ones(len(kept), np.float32))


def entry(rows: Decided, name: str = "1-0", chosen: list[int] | None = None) -> Entry:
    return Entry(name, packed(rows, chosen), b"")


@given(st.integers(0, 12), st.integers(0, 99), st.data())
def test_any_rows_come_back_as_they_were_decided(n: int, seed: int, data: st.DataObject) -> None:
    rows = decided(n, seed=seed)
    chosen = sorted(data.draw(st.sets(st.integers(0, n - 1)))) if n else []
    back = unpack([entry(rows, chosen=chosen)])
    assert back.columns.tolist() == list(LOG_COLUMNS)
    assert len(back) == len(chosen)
    where = np.array(chosen, np.intp)
    assert back["user_id"].tolist() == [f"u{code}" for code in rows.candidates.user[where]]
    assert back["item_id"].tolist() == [f"i{code}" for code in rows.candidates.item[where]]
    assert back["decision_id"].tolist() == [rows.decision_ids[code] for code in rows.candidates.request[where]]
    assert back["channel"].tolist() == [CHANNELS[code] for code in rows.candidates.channel[where]]
    assert back["disposition"].tolist() == [DISPOSITIONS[code] for code in rows.disposition[where]]
    assert back["reason"].tolist() == [REASONS[code] for code in rows.reason[where]]
    for name in FLOATS:
        assert np.array_equal(back[name].to_numpy(), getattr(rows, name)[where])


def test_several_entries_keep_their_own_names_and_order() -> None:
    one, two = decided(6, seed=1), decided(4, seed=2, at=NOW + 60, decision="e")
    both = unpack([entry(one), entry(two, "2-0")])
    apart = pd.concat([unpack([entry(one)]), unpack([entry(two)])], ignore_index=True)
    pd.testing.assert_frame_equal(both, apart, check_categorical=False)


def test_what_the_commit_said_is_final_and_only_grants_have_an_id() -> None:
    rows = decided(3)
    rows.disposition[:] = (SEND, SEND, BELOW_THRESHOLD)
    final = bytes([OVER_BUDGET, REASONS.index("budget_spent"), SEND, REASONS.index("above_threshold")])
    back = unpack([Entry("1-0", packed(rows, committed=[1, 0]), final)])
    assert back["disposition"].tolist() == ["send", "over_budget", "below_threshold"]
    assert back["reason"].tolist()[:2] == ["above_threshold", "budget_spent"]
    assert back["grant_id"].tolist() == [f"{int(rows.grant_id[0]):016x}", "", ""]


@pytest.fixture
def log(tmp_path: Path) -> DecisionLog:
    return DecisionLog(MemoryDecisionStream(), History(str(tmp_path)), MemoryUserKeys(), 2)


def append(log: DecisionLog, shard: int, rows: Decided) -> None:
    assert isinstance(log.stream, MemoryDecisionStream)
    log.stream.append(shard, packed(rows), b"")


def test_draining_moves_rows_into_files_without_user_ids(log: DecisionLog, tmp_path: Path) -> None:
    rows = decided(9)
    append(log, 1, rows)
    assert log.drain(1) == 9
    assert log.drain(1) == 0
    filed = log.history.read(TABLE, NOW, NOW)
    assert "user_id" not in filed
    assert filed["user_key"].nunique() == len(np.unique(rows.candidates.user))
    for file in tmp_path.rglob("*.parquet"):
        assert b"u0" not in file.read_bytes()


def test_a_drain_that_died_before_dropping_repeats_itself(log: DecisionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, 0, decided(5))
    append(log, 0, decided(4, seed=3, decision="e"))
    with monkeypatch.context() as patch:
        patch.setattr(MemoryDecisionStream, "drop", lambda *_: None)
        log.drain(0)
    log.drain(0)
    assert len(log.history.read(TABLE, NOW, NOW)) == 9


def test_a_decision_is_found_whether_it_is_filed_yet_or_not(log: DecisionLog) -> None:
    append(log, 0, decided(8, seed=1))
    before = log.find(NOW, decision_id="d1")
    log.drain(0)
    after = log.find(NOW, decision_id="d1", user_id=before["user_id"].iloc[0])
    assert len(before) > 0
    assert set(after["item_id"]) == set(before[before["user_id"] == before["user_id"].iloc[0]]["item_id"])


def test_a_user_finds_the_newest_of_their_rows_first_from_both_places(log: DecisionLog) -> None:
    append(log, 0, decided(30, seed=1))
    log.drain(0)
    append(log, 0, decided(30, seed=2, at=NOW + 60, decision="e"))
    found = log.find(NOW + 61, user_id="u2", limit=5)
    assert set(found["user_id"]) == {"u2"}
    assert found["at"].is_monotonic_decreasing
    assert len(found) == 5
    assert {name[0] for name in log.find(NOW + 61, user_id="u2")["decision_id"]} == {"d", "e"}


def test_forgetting_a_users_key_leaves_nothing_to_find(log: DecisionLog) -> None:
    append(log, 0, decided(30))
    log.drain(0)
    assert len(log.find(NOW, user_id="u1")) > 0
    log.user_keys.forget(["u1"])
    assert log.find(NOW, user_id="u1").empty
    assert log.find(NOW, user_id="nobody").empty


def test_every_row_of_a_decision_is_found_once_it_is_filed(log: DecisionLog) -> None:
    rows = replace(decided(6), candidates=replace(decided(6).candidates, user=np.arange(6, dtype=np.int32) % 5, item=np.zeros(6, np.int32)))
    append(log, 0, rows)
    before = sum(len(log.find(NOW, decision_id=name)) for name in ("d1", "d2"))
    log.drain(0)
    assert sum(len(log.find(NOW, decision_id=name)) for name in ("d1", "d2")) == before > 2


def test_the_newest_rows_are_found_however_many_wait_to_be_filed(log: DecisionLog) -> None:
    for _ in range(1_001):
        append(log, 0, decided(1))
    append(log, 0, decided(1, decision="newest", at=NOW + 1))
    assert log.find(NOW + 1, limit=1, user_id=f"u{decided(1).candidates.user[0]}")["decision_id"].iloc[0].startswith("newest")


def test_a_drain_that_died_files_nothing_twice_though_more_has_come_since(log: DecisionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, 0, decided(5))
    with monkeypatch.context() as patch:
        patch.setattr(MemoryDecisionStream, "drop", lambda *_: None)
        log.drain(0)
    append(log, 0, decided(4, seed=3, decision="e"))
    log.drain(0)
    assert len(log.history.read(TABLE, NOW, NOW)) == 9
