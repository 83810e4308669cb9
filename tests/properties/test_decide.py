"""`decide` against a scalar twin that walks one user's rows by descending value."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from lake.decisions import BELOW_THRESHOLD, DUPLICATE, HOLD, OVER_BUDGET, REASON, SEND
from scheduler.decide import DecideConfig, Rows, decide

USERS, CHANNELS = 4, 2


def scalar_twin(rows: Rows, allowance: npt.NDArray[np.int16], config: DecideConfig) -> list[tuple[int, str]]:
    """Decide one row at a time."""
    decided: list[tuple[int, str]] = [(BELOW_THRESHOLD, "below_threshold")] * len(rows.user)
    left = allowance.astype(int).copy()
    taken: dict[int, list[int]] = {user: [] for user in range(USERS)}
    contenders = []
    for row in sorted(range(len(rows.user)), key=lambda row: (rows.user[row], -rows.value[row], row)):
        user, channel = int(rows.user[row]), int(rows.channel[row])
        if rows.critical[row]:
            decided[row] = (SEND, "critical")
        elif rows.value_later[row] == np.inf:
            decided[row] = (HOLD, "quiet_hours") if rows.value[row] >= rows.threshold[row] else decided[row]
        elif rows.value_later[row] >= max(rows.threshold[row], np.float32(config.least_kept) * rows.value[row]):
            decided[row] = (HOLD, "better_next_window")
        elif rows.value[row] >= rows.threshold[row]:
            contenders.append(row)
            entities = {int(rows.entity[other]) for other in taken[user]}
            if int(rows.entity[row]) not in entities and left[user, channel] > 0 and len(taken[user]) < config.top_n:
                left[user, channel] -= 1
                taken[user].append(row)
                decided[row] = (SEND, "above_threshold")
    for row in contenders:
        if decided[row][0] != SEND:
            decided[row] = why_not(rows, row, taken[int(rows.user[row])], left)
    return decided


def why_not(rows: Rows, row: int, taken: list[int], left: npt.NDArray[np.int_]) -> tuple[int, str]:
    """Return the disposition of a contender that was not taken."""
    mates = [other for other in taken if rows.entity[other] == rows.entity[row]]
    if any(rows.item[other] != rows.item[row] for other in mates):
        return DUPLICATE, "same_entity_better"
    if mates:
        return DUPLICATE, "other_channel_better"
    return OVER_BUDGET, "budget_spent" if left[rows.user[row], rows.channel[row]] <= 0 else "window_full"


@st.composite
def batches(draw: st.DrawFn) -> tuple[Rows, npt.NDArray[np.int16], DecideConfig]:
    """Draw a batch with few distinct values, so that ties, repeats and spent channels are common."""
    n = draw(st.integers(0, 24))

    def column(values: st.SearchStrategy[float], dtype: type) -> npt.NDArray[np.generic]:
        return np.array(draw(st.lists(values, min_size=n, max_size=n)), dtype)

    items = column(st.integers(0, 4), np.int32)
    rows = Rows(
        user=np.sort(column(st.integers(0, USERS - 1), np.int32)).astype(np.int32),
        item=items.astype(np.int32),
        entity=(items.astype(np.uint64) // np.uint64(2)),
        channel=column(st.integers(0, CHANNELS - 1), np.uint8).astype(np.uint8),
        value=column(st.sampled_from([0.0, 0.1, 0.2, 0.4, 0.9, 1.5]), np.float32).astype(np.float32),
        threshold=column(st.sampled_from([0.0, 0.15, 0.4]), np.float32).astype(np.float32),
        value_later=column(st.sampled_from([-np.inf, 0.05, 0.2, 0.5, np.inf]), np.float32).astype(np.float32),
        critical=column(st.sampled_from([0, 0, 0, 1]), np.bool_).astype(np.bool_),
    )
    allowance = np.array(draw(st.lists(st.integers(0, 3), min_size=USERS * CHANNELS, max_size=USERS * CHANNELS)), np.int16)
    return rows, allowance.reshape(USERS, CHANNELS), DecideConfig(top_n=draw(st.integers(1, 4)))


@given(batches())
def test_decides_as_the_scalar_twin_does(batch: tuple[Rows, npt.NDArray[np.int16], DecideConfig]) -> None:
    """Every row gets the twin's disposition and reason."""
    rows, allowance, config = batch
    disposition, reason = decide(rows, allowance, config)
    expected = scalar_twin(rows, allowance, config)
    assert [(int(a), int(b)) for a, b in zip(disposition, reason, strict=True)] == [(a, REASON[why]) for a, why in expected]


@given(batches())
def test_never_takes_more_than_the_allowance_or_the_window(batch: tuple[Rows, npt.NDArray[np.int16], DecideConfig]) -> None:
    """Non-critical sends stay within each channel's allowance and within top_n."""
    rows, allowance, config = batch
    disposition, _ = decide(rows, allowance, config)
    sent = (disposition == SEND) & ~rows.critical
    used = np.zeros((USERS, CHANNELS), int)
    np.add.at(used, (rows.user[sent], rows.channel[sent]), 1)
    assert (used <= allowance).all()
    assert (used.sum(1) <= config.top_n).all()
