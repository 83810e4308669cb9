"""What sending a row is worth: the number that is ranked and compared with the threshold."""

from __future__ import annotations

from ranking.blocks import Matrix

VALUE_OF_ENGAGEMENT = 1.0


def value_of(probability: Matrix) -> Matrix:
    """Return value of the engagement x probability, float32 (n,); no cost of opt-out risk is known yet."""
    return probability * probability.dtype.type(VALUE_OF_ENGAGEMENT)
