"""Columns that mix kinds of values become texts; all others stay as they are."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lake.mixed_columns import uniform

plain = st.one_of(st.none(), st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.floats(allow_infinity=False), st.booleans())
values = st.one_of(plain, st.lists(plain, max_size=3))


@given(st.lists(values, min_size=1, max_size=6))
def test_whatever_a_column_holds_arrow_can_hold_it_after(column: list[object]) -> None:
    frame = pd.DataFrame({"x": pd.Series(column, dtype=object), "n": range(len(column))})
    assert pa.Table.from_pandas(uniform(frame)).num_rows == len(column)


def test_what_is_of_one_kind_stays_and_what_is_not_is_text() -> None:
    frame = pd.DataFrame({"same": ["a", None], "lists": [["a"], None], "mixed": ["a", 1], "nested": [["a"], "b"], "number": [1.5, None]})
    after = uniform(frame)
    assert after[["same", "lists", "number"]].equals(frame[["same", "lists", "number"]])
    assert after["mixed"].tolist() == ['"a"', "1"]
    assert after["nested"].tolist() == ['["a"]', '"b"']
    assert uniform(after) is after
