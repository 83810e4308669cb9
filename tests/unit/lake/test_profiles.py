"""Packed profiles: rows of before a field was added are read, and written, as rows that do not know it."""

from __future__ import annotations

import numpy as np

from lake.profiles import KNOWN, MAX_WINDOWS, PROFILE, MemoryProfileStore, blank, from_packed


def test_a_row_of_before_window_shares_is_the_same_user_with_unknown_shares() -> None:
    row = blank(1)
    row["zone"], row["windows"][0, 0], row["window_share"] = b"UTC", 36, 200
    old = row.tobytes()[: PROFILE.fields["window_share"][1]] if PROFILE.fields else b""
    since = ("locale", "place", "learned", "hours")
    assert len(old) == PROFILE.itemsize - MAX_WINDOWS - 2 - sum(PROFILE[name].itemsize for name in since)
    read = from_packed([old, None])
    assert read["flags"].tolist() == [KNOWN, 0]
    assert (read["zone"][0], read["windows"][0, 0], read["window_share"][0].any()) == (b"UTC", 36, np.False_)
    assert read["digest_days"].tolist() == [0, 0]
    assert not read["learned"].any()
    store = MemoryProfileStore({"ann": old})
    store.write(["ann"], "dial", [2])
    assert (store.get(["ann"])["dial"][0], store.get(["ann"])["windows"][0, 0]) == (2, 36)
