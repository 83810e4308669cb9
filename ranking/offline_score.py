"""Scores of candidates of the past or of files: every row with what was known just before its own `at`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from ranking.blocks import Matrix
from ranking.bundle import Bundle
from ranking.join import feature_blocks
from ranking.offline import State
from ranking.past import Codes, Past, seconds
from ranking.value import value_of

Places = npt.NDArray[np.intp]
ResultT = TypeVar("ResultT")

BLOCKS_AHEAD = 3
"""How many blocks of features may wait for their prediction; each is about 10 MB."""


def score_candidates(bundle: Bundle, dataset: Dataset, candidates: pd.DataFrame) -> pd.DataFrame:
    """Return `candidates` (user_id, item_id, channel, at) with `probability` and `score` (the value), in the same order.

    Unknown users and items are scored as new ones: all rows get a finite score.
    """
    past = Past.of(with_new(dataset, candidates))
    user, item = (codes_of(candidates[name], ids) for name, ids in (("user_id", past.user_ids), ("item_id", past.items.ids)))
    blocks = feature_blocks(State(past), user, item, channel_codes(bundle, candidates["channel"]), seconds(candidates["at"]))
    probability, risk = np.empty(len(candidates), np.float32), np.empty(len(candidates), np.float32)
    for rows, (chance, danger) in beside(blocks, lambda matrix: (bundle.probabilities(matrix), bundle.opt_out.risks(matrix))):
        probability[rows], risk[rows] = chance, danger
    return candidates.assign(probability=probability, score=value_of(probability, risk, bundle.rule))


def beside(blocks: Iterable[tuple[Places, Matrix]], predict: Callable[[Matrix], ResultT]) -> Iterator[tuple[Places, ResultT]]:
    """Yield what is predicted of blocks, in order; a thread predicts one, without the interpreter's lock, while the next is made."""
    waiting: deque[tuple[Places, Future[ResultT]]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="predictor") as thread:
        for rows, matrix in blocks:
            waiting.append((rows, thread.submit(predict, matrix)))
            if len(waiting) > BLOCKS_AHEAD:
                places, result = waiting.popleft()
                yield places, result.result()
        for places, result in waiting:
            yield places, result.result()


def codes_of(column: pd.Series[str], ids: npt.NDArray[np.object_]) -> Codes:
    """Return the places of a column's values among distinct ids, -1 where one is not there."""
    codes, distinct = pd.factorize(column)
    return pd.Index(ids).get_indexer(pd.Index(distinct))[codes].astype(np.int32)


def channel_codes(bundle: Bundle, names: pd.Series[str]) -> npt.NDArray[np.uint8]:
    """Return the model's codes of a column of channel names."""
    codes, distinct = pd.factorize(names.to_numpy(object))
    return bundle.channel_codes(tuple(distinct))[codes]


def with_new(dataset: Dataset, candidates: pd.DataFrame) -> Dataset:
    """Return the dataset with the users and items that only candidates name; such an item is born when it is first a candidate."""
    tables = dict(dataset.tables)
    users = pd.Index(candidates["user_id"].unique()).difference(pd.Index(dataset.users["user_id"]))
    born = candidates.groupby("item_id")["at"].min()
    born = born[~born.index.isin(dataset.items["item_id"])]
    if not len(users) and not len(born):
        return dataset
    tables["users"] = pd.concat([dataset.users, pd.DataFrame({"user_id": users})], ignore_index=True)
    tables["items"] = pd.concat([dataset.items, pd.DataFrame({"item_id": born.index, "created_at": born.to_numpy()})], ignore_index=True)
    return Dataset.of({name: frame for name, frame in tables.items() if len(frame)})
