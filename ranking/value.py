"""What sending a row is worth: the number that is ranked and compared with the threshold. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ValueRule:
    """What outcomes are worth, in engagements. `opt_out_cost`: how many engagements one lost reader would have brought."""

    engagement: float = 1.0
    opt_out_cost: float = 10.0

    def __post_init__(self) -> None:
        if not (0 < self.engagement < float("inf") and 0 <= self.opt_out_cost < float("inf")):
            raise ValueError(f"an engagement must be worth more than 0, and losing a reader cost 0 engagements or more: {self}")


def value_of(probability: Matrix, risk: Matrix | float = 0.0, rule: ValueRule | None = None) -> Matrix:
    """Return value of the engagement x probability - cost of opt-out x its risk, float32 (n,); negative where sending does harm.

    `risk`: the chance that the send makes its reader opt out, (n,) or one for all.
    """
    rule = rule or ValueRule()
    return (np.float32(rule.engagement) * probability - np.float32(rule.opt_out_cost) * np.asarray(risk, np.float32)).astype(np.float32)
