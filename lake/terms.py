"""The words of texts as small numbers: what an item is about, in a fixed number of bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lake.ids import hash64

BUCKETS = 2**15
"""Words are hashed into so many; 0 stands for none."""
MAX_TERMS = 48
"""Distinct words of an item that count: the first ones, since a title and a lead say what the rest is about."""
MAX_CHARS = 2_000

Terms = npt.NDArray[np.uint16]

_WORD = re.compile(r"[^\W_]{2,}")


def terms_of(texts: Sequence[str | None]) -> Terms:
    """Return the hashed distinct words of texts, whatever their case, in order: shape (n, MAX_TERMS), padded with 0."""
    padded = np.zeros((len(texts), MAX_TERMS), np.uint16)
    words = [list(dict.fromkeys(_WORD.findall(text[:MAX_CHARS].casefold())))[:MAX_TERMS] if text else [] for text in texts]
    flat = [word for of_text in words for word in of_text]
    if flat:
        lengths = np.array([len(of_text) for of_text in words])
        padded[np.arange(MAX_TERMS) < lengths[:, None]] = hash64(flat) % np.uint64(BUCKETS - 1) + np.uint64(1)
    return padded
