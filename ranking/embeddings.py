"""Embeddings of users, by who engaged with the same items."""

from __future__ import annotations

import numpy as np
import scipy
from threadpoolctl import threadpool_limits

from ranking.blocks import (
    DIMENSIONS,
    Matrix,
)
from ranking.labels import DAY_S
from ranking.past import Past

EMBEDDED_S = 365 * DAY_S
EMBEDDED_HALF_LIFE_S = 120 * DAY_S
USER_PRIOR = 0.5
"""Added to the length of a user's engagements before dividing by it, so that few engagements do not weigh like many."""

WEEK_S = 7 * DAY_S
MONDAY_S = 4 * DAY_S
"""1970-01-05 00:00 UTC, a Monday."""


def epoch_of(as_of: float) -> float:
    """Return the Monday, 00:00 UTC, on which the embeddings in force at a moment were made, in seconds."""
    return float(np.floor((as_of - MONDAY_S) / WEEK_S) * WEEK_S + MONDAY_S)


def embed(past: Past, until: float, dimensions: int = DIMENSIONS) -> Matrix:
    """Return user embeddings from who engaged with the same items in the year before `until`, shape (users, dimensions).

    A truncated SVD of the user x item matrix, recent engagements weighing more, columns scaled by the square root of their
    counts and rows to about the same length (Sarwar et al. 2000), times the singular values: dot products of two vectors
    approximate how alike two people's engagements are. Dimensions that there are too few people or items for are zero.
    """
    rows = past.is_first & (past.at < until) & (past.at >= until - EMBEDDED_S)
    people, user = np.unique(past.user[rows], return_inverse=True)
    items, item = np.unique(past.item[rows], return_inverse=True)
    vectors = np.zeros((len(past.user_ids), dimensions), np.float32)
    least = min(len(people), len(items))
    if least < 2:
        return vectors
    weight = np.exp2(-(until - past.at[rows]) / EMBEDDED_HALF_LIFE_S) / np.sqrt(np.bincount(item))[item]
    length = np.sqrt(np.bincount(user, weight**2)) + USER_PRIOR
    matrix = scipy.sparse.csr_matrix((weight / length[user], (user, item)), shape=(len(people), len(items)))
    if least <= 2 * dimensions:
        left, size, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    else:
        # Threads of the linear algebra wait for one another in these small products: on a busy machine ten times as long.
        with threadpool_limits(1, "blas"):
            left, size, _ = scipy.sparse.linalg.svds(matrix, dimensions, v0=np.ones(least))
    kept = min(least, dimensions)
    vectors[people, :kept] = 10 * left[:, :kept] * size[:kept]
    return vectors
