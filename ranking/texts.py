"""What texts are about: a vector per word, learned from the deployment's own texts, and the vectors of texts and of readers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lake.terms import BUCKETS, Terms
from ranking.blocks import TEXT_DIMENSIONS, Matrix

MOST_TEXTS = 100_000
"""The newest so many are learned from."""
LEAST_TEXTS = 4 * TEXT_DIMENSIONS
LEAST_USES = 2
"""A word in fewer texts says nothing of what others are about."""
READER_PRIOR = 1.0
"""Added to the weight of what somebody read before dividing by it, so that one text does not count like many."""

Ints = npt.NDArray[np.int64]


def word_vectors(terms: Terms) -> Matrix | None:
    """Return a vector per hashed word, shape (BUCKETS, TEXT_DIMENSIONS), or None where the texts are too few to learn from.

    Latent semantic analysis (Deerwester et al. 1990): a truncated SVD of the texts' words weighted by inverse document
    frequency, each axis as long as its singular value, so that words used together are alike. The first axis is left
    out: all texts share it (Mu and Viswanath 2018). `terms`: of the texts in the order of time; those without words do not count.
    """
    terms = terms[(terms != 0).any(axis=1)][-MOST_TEXTS:]
    if len(terms) < LEAST_TEXTS:
        return None
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    text, place = np.nonzero(terms)
    words = csr_matrix((np.ones(len(text), np.float32), (text, terms[text, place].astype(np.int64))), shape=(len(terms), BUCKETS))
    words.data[:] = 1.0  # two words of one bucket count once
    uses = words.getnnz(axis=0)
    weigh = TfidfTransformer().fit(words)
    found = TruncatedSVD(TEXT_DIMENSIONS + 1, random_state=0).fit(weigh.transform(words))
    axes = (found.components_ * found.singular_values_[:, None])[1:].T
    vectors: Matrix = np.ascontiguousarray(np.where(uses >= LEAST_USES, weigh.idf_, 0.0)[:, None] * axes, np.float32)
    return vectors


def text_vectors(terms: Terms, words: Matrix | None) -> Matrix:
    """Return the vectors of texts, of length 1, or 0 where no word is known; shape (n, TEXT_DIMENSIONS)."""
    total = np.zeros((len(terms), TEXT_DIMENSIONS), np.float32)
    if words is None:
        return total
    for place in range(int((terms != 0).sum(axis=1).max(initial=0))):
        used = np.flatnonzero(terms[:, place])
        total[used] += words[terms[used, place]]
    length = np.linalg.norm(total, axis=1, keepdims=True)
    vectors: Matrix = np.divide(total, length, out=np.zeros_like(total), where=length > 0)
    return vectors


def reader_vectors(readers: Ints, count: int, texts: Matrix, weight: npt.NDArray[np.float64]) -> Matrix:
    """Return what readers read, on average and shrunk to zero where it was little, shape (count, TEXT_DIMENSIONS).

    `readers`: one code below `count` per text read. `texts`: the vector of each, `weight`: how much it counts.
    """
    total = np.bincount(readers, weight, count) + READER_PRIOR
    sums = [np.bincount(readers, weight * texts[:, dimension], count) for dimension in range(TEXT_DIMENSIONS)]
    mean: Matrix = (np.stack(sums, axis=1) / total[:, None]).astype(np.float32)
    return mean
