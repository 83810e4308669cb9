"""What values there were, in a few kilobytes that can be added up over days and shards: a sketch sure of its highest ranks. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import datasketches
import numpy as np
import numpy.typing as npt

K = 12
"""Size of a sketch: up to about 100 values are kept as they are, and the error of the highest ranks is a percent of their distance to the
top.
"""


def _empty() -> datasketches.req_floats_sketch:
    return datasketches.req_floats_sketch(K, True)


@dataclass(frozen=True)
class ScoreDigest:
    """A relative-error quantile sketch (Cormode, Karnin, Liberty, Thaler and Vesely 2021) of float32 values, accurate at the top."""

    sketch: datasketches.req_floats_sketch = field(default_factory=_empty)

    @staticmethod
    def of(values: npt.ArrayLike) -> ScoreDigest:
        """Return the digest of values, (n,); NaN (never scored) is left out."""
        digest, given = ScoreDigest(), np.asarray(values, np.float32)
        digest.sketch.update(given[~np.isnan(given)])
        return digest

    @staticmethod
    def merged(digests: Iterable[ScoreDigest]) -> ScoreDigest:
        """Return the digest of everything that is in any of `digests`."""
        whole = ScoreDigest()
        for digest in digests:
            whole.sketch.merge(digest.sketch)
        return whole

    def __len__(self) -> int:
        return int(self.sketch.n)

    def nth_highest(self, n: float) -> float:
        """Return the n-th highest value; -inf where there are fewer, +inf for none. Raises ValueError on a negative n."""
        if n < 0:
            raise ValueError("n must not be negative")
        if n == 0:
            return float("inf")
        if len(self) < n:
            return float("-inf")
        return float(self.sketch.get_quantile((len(self) - np.ceil(n) + 0.5) / len(self), True))
