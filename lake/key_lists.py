"""A list of 64-bit keys per user of a batch, as one column and where each user's part starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64


@dataclass(frozen=True)
class KeyLists:
    """Keys in CSR form: user i of the batch has `keys[starts[i]:starts[i + 1]]`.

    `keys`: uint64 (m,). `starts`: int64 (n + 1,).
    """

    keys: Keys64
    starts: npt.NDArray[np.int64]

    @cached_property
    def user(self) -> npt.NDArray[np.int32]:
        """The user code of each key, shape (m,)."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))

    @staticmethod
    def from_packed(packed: Sequence[bytes | None]) -> KeyLists:
        """Return the lists of packed rows (little-endian uint64 each), None for an empty one."""
        rows = [row or b"" for row in packed]
        counts = np.fromiter(map(len, rows), np.int64, len(rows)) // 8
        return KeyLists(np.frombuffer(b"".join(rows), "<u8"), np.concatenate([[0], np.cumsum(counts)]))
