"""What the pipeline asks of a ranker, and one in this process: what replay uses in the place of the replicas."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates, Lane
from ranking import scorer as models

F32 = npt.NDArray[np.float32]


class Scores(Protocol):
    """What a ranker says of rows, in their order: float32 (n,) each, NaN for a row that it cut, and which model said it."""

    @property
    def probability(self) -> F32:
        """Calibrated probability of the model's target."""
        ...

    @property
    def value(self) -> F32:
        """What is ranked and compared with the threshold."""
        ...

    @property
    def model_id(self) -> str:
        """The model that scored."""
        ...


class Scorer(Protocol):
    """Scores rows at a moment; blocks for the ranker, whether in this process or behind Serve."""

    def __call__(self, rows: Candidates, channels: tuple[str, ...], now: float, lane: Lane, /) -> Scores:
        """Return the scores of rows; `channels`: the store's channels, by code."""
        ...


def by_model(model: models.Scorer) -> Scorer:
    """Return the pipeline's view of a scorer in this process."""

    def score(rows: Candidates, channels: tuple[str, ...], now: float, _lane: Lane, /) -> Scores:
        return model.score(rows.users, rows.items, rows.user, rows.item, rows.channel, channels, now)

    return score
