"""What a decision's packed log entry says is what was decided, whichever rows and columns it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.decision_log import Entry, pack, unpack
from lake.decisions import DISPOSITIONS, REASONS, Candidates, Decided

CHANNELS = ("in_app", "email")


def _decided(random: np.random.Generator, n: int, *, alike: bool) -> Decided:
    """A decision about n rows; `alike`: every column has one value in all rows."""

    def codes(high: int, kind: type[np.integer[Any]]) -> npt.NDArray[Any]:
        return np.full(n, random.integers(high), kind) if alike else random.integers(0, high, n).astype(kind)

    def number() -> npt.NDArray[np.float32]:
        return (np.full(n, random.random()) if alike else random.random(n)).astype(np.float32)

    rows = Candidates(
        users=[f"u{i}" for i in range(300)],
        items=[f"i{i}" for i in range(5)],
        user=np.sort(codes(300, np.int32)),
        item=codes(5, np.int32),
        channel=codes(2, np.uint8),
        source=codes(2, np.uint8),
        sources=("held", "new_posts"),
        request=codes(2, np.int32),
    )
    grants = np.where(random.random(n) < 0.3, random.integers(1, 2**63, n), 0).astype(np.uint64)
    return Decided(
        candidates=rows,
        probability=number(),
        value=number(),
        threshold=number(),
        propensity=number(),
        allowance=codes(9, np.int16),
        disposition=codes(len(DISPOSITIONS), np.uint8),
        reason=codes(len(REASONS), np.uint8),
        grant_id=grants,
        decision_ids=["d0", "d1"],
        lane="urgent",
        model_id="m",
        at=1e9,
    )


@given(n=st.integers(0, 40), alike=st.booleans(), seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_an_entry_holds_the_chosen_rows_as_they_were_decided(n: int, alike: bool, seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    decided = _decided(random, n, alike=alike)
    rows = np.flatnonzero(random.random(n) < share)
    weight = random.random(len(rows)).astype(np.float32)
    frame = unpack([Entry("1", pack(decided, CHANNELS, rows, np.empty(0, np.intp), weight), b"")])
    given_rows = decided.candidates.take(rows)
    assert frame["user_id"].tolist() == [f"u{user}" for user in given_rows.user]
    assert frame["item_id"].tolist() == [f"i{item}" for item in given_rows.item]
    assert frame["decision_id"].tolist() == [f"d{request}" for request in given_rows.request]
    assert frame["channel"].tolist() == [CHANNELS[channel] for channel in given_rows.channel]
    assert frame["source"].tolist() == [given_rows.sources[source] for source in given_rows.source]
    assert frame["disposition"].tolist() == [DISPOSITIONS[code] for code in decided.disposition[rows]]
    for name in ("probability", "value", "threshold", "propensity", "allowance"):
        np.testing.assert_array_equal(frame[name], getattr(decided, name)[rows])
    np.testing.assert_array_equal(frame["weight"], weight)
    sent = frame["disposition"].isin(["send", "update"]).to_numpy()
    wanted = [f"{grant:016x}" if grant and is_sent else "" for grant, is_sent in zip(decided.grant_id[rows].tolist(), sent, strict=True)]
    assert frame["grant_id"].tolist() == wanted


def test_what_the_commit_settled_stands_over_what_was_proposed() -> None:
    decided = _decided(np.random.default_rng(0), 6, alike=False)
    rows, committed = np.arange(6), np.array([4, 1])
    final = bytes([DISPOSITIONS.index("send"), REASONS.index("critical"), DISPOSITIONS.index("duplicate"), REASONS.index("already_sent")])
    frame = unpack([Entry("1", pack(decided, CHANNELS, rows, committed, np.ones(6, np.float32)), final)])
    assert frame.loc[[4, 1], ["disposition", "reason"]].to_numpy().tolist() == [["send", "critical"], ["duplicate", "already_sent"]]
    assert frame.loc[0, "disposition"] == DISPOSITIONS[decided.disposition[0]]


@pytest.mark.parametrize("n", [1, 1000])
def test_columns_of_one_value_take_no_room(n: int) -> None:
    decided = _decided(np.random.default_rng(0), n, alike=True)
    decided.grant_id[:] = 0
    assert len(pack(decided, CHANNELS, np.arange(n), np.empty(0, np.intp), np.ones(n, np.float32))) < 1000
