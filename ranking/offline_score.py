"""Scores of candidates of the past or of files: every row with what was known just before its own `at`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from ranking.bundle import Bundle
from ranking.join import features_at
from ranking.offline import State
from ranking.past import Past, seconds
from ranking.value import value_of


def score_candidates(bundle: Bundle, dataset: Dataset, candidates: pd.DataFrame) -> pd.DataFrame:
    """Return `candidates` (user_id, item_id, channel, at) with `probability` and `score` (the value), in the same order.

    Unknown users and items are scored as new ones: all rows get a finite score.
    """
    past = Past.of(with_new(dataset, candidates))
    user = pd.Index(past.user_ids).get_indexer(pd.Index(candidates["user_id"].to_numpy(object))).astype(np.int32)
    item = pd.Index(past.items.ids).get_indexer(pd.Index(candidates["item_id"].to_numpy(object))).astype(np.int32)
    rows = features_at(State(past), user, item, channel_codes(bundle, candidates["channel"]), seconds(candidates["at"]))
    probability = bundle.probabilities(rows)
    return candidates.assign(probability=probability, score=value_of(probability, bundle.opt_out.risks(rows)))


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
