"""The messages of a batch, packed a column at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lake.messages import Message
from lake.meta import CHANNELS
from scheduler.memory_commit import message_of
from scheduler.outgoing import pack_messages
from tests.batches import Row, batch

rows = st.builds(
    Row,
    item=st.text(max_size=40),
    channel=st.integers(0, len(CHANNELS) - 1),
    value=st.floats(0, 1, width=32),
    entity=st.text(max_size=5),
    version=st.integers(0, 2**32 - 1),
    hold=st.booleans(),
    critical=st.booleans(),
    decision=st.text(max_size=300),
    deliver_by=st.floats(0, allow_infinity=True),
)


@given(st.dictionaries(st.text(max_size=300), st.lists(rows, max_size=4), min_size=1, max_size=4))
def test_columns_are_packed_as_one_message_at_a_time_would_be(proposed: dict[str, list[Row]]) -> None:
    made = batch(proposed)
    for row, packed in enumerate(pack_messages([made], CHANNELS)[0]):
        if made.disposition[row]:
            assert packed == b""
        else:
            assert Message.unpack(packed) == message_of(made, row, CHANNELS)
            assert packed[-1:] == b"\xc2"


def test_the_last_byte_says_whether_a_message_is_an_update() -> None:
    made = batch({"ann": [Row("a")]})
    ((packed,),) = pack_messages([made], CHANNELS)
    assert Message.unpack(packed[:-1] + b"\xc3") == replace(message_of(made, 0, CHANNELS), update=True)


def test_whole_numbers_stay_floats() -> None:
    made = replace(batch({"ann": [Row("a", value=1.0)]}), deliver_by=np.array([5.0]))
    message = Message.unpack(pack_messages([made], CHANNELS)[0][0])
    assert [type(number) for number in (message.value, message.granted_at, message.deliver_by)] == [float] * 3
