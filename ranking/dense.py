"""A model's trees over rows without missing values: the same predictions to the last bit, in half the time.

XGBoost walks trees faster through rows that lack nothing. A split sends a missing value left or right, whatever else it does; left is
where minus infinity goes, and right where plus infinity goes. So a feature that some splits send left and others right becomes two
columns, one for each, and one that all send the same way stays one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.boosting import xgboost

if TYPE_CHECKING:
    import xgboost as xgb

LEAF = -1
LEFT, RIGHT = np.float32(-np.inf), np.float32(np.inf)


@dataclass(frozen=True)
class Dense:
    """Trees over columns of feature rows. `places`: which feature each column is, (c,); `fill`: what stands for a missing value, (c,)."""

    booster: xgb.Booster
    places: npt.NDArray[np.intp]
    fill: Matrix

    @staticmethod
    def of(booster: xgb.Booster) -> Dense:
        """Return the trees of a booster; raises ValueError where it splits by categories, which have no order to send a value by."""
        content = json.loads(bytes(booster.save_raw("json")))
        threads = json.loads(booster.save_config())["learner"]["generic_param"]["nthread"]
        learner = content["learner"]
        trees = learner["gradient_booster"]["model"]["trees"]
        columns: dict[tuple[int, bool], int] = {}
        for tree in trees:
            if any(tree["split_type"]):
                raise ValueError("the model splits by categories")
            splits = zip(tree["split_indices"], tree["default_left"], tree["left_children"], strict=True)
            tree["split_indices"] = [
                0 if left == LEAF else columns.setdefault((place, bool(goes_left)), len(columns)) for place, goes_left, left in splits
            ]
        # Without any split there is one column that nothing looks at: XGBoost takes no rows without columns.
        wanted = list(columns) or [(0, True)]
        for part in (learner["learner_model_param"], *(tree["tree_param"] for tree in trees)):
            part["num_feature"] = str(len(wanted))
        learner["feature_names"] = learner["feature_types"] = []
        return Dense(
            booster=_loaded(content, threads),
            places=np.array([place for place, _ in wanted], np.intp),
            fill=np.array([LEFT if goes_left else RIGHT for _, goes_left in wanted], np.float32),
        )

    def margins(self, rows: Matrix) -> Matrix:
        """Return the raw margins of feature rows, float32 (n,)."""
        margins: Matrix = self.booster.inplace_predict(self._filled(rows), predict_type="margin")
        return margins

    def predictions(self, rows: Matrix) -> Matrix:
        """Return what the booster's objective makes of the margins, float32 (n,)."""
        predictions: Matrix = self.booster.inplace_predict(self._filled(rows))
        return predictions

    def _filled(self, rows: Matrix) -> Matrix:
        filled = rows.take(self.places, axis=1)
        np.copyto(filled, self.fill, where=np.isnan(filled))
        return filled


_made: WeakKeyDictionary[xgb.Booster, Dense] = WeakKeyDictionary()
"""By the booster they were made of: bundles that are one model under several ids share them."""


def dense(booster: xgb.Booster) -> Dense:
    """Return the trees of a booster that nobody changes any more, made once; raises what Dense.of raises."""
    found = _made.get(booster)
    if found is None:
        found = _made[booster] = Dense.of(booster)
    return found


def _loaded(content: dict[str, Any], threads: str) -> xgb.Booster:
    booster: xgb.Booster = xgboost().Booster(params={"nthread": threads})
    booster.load_model(bytearray(json.dumps(content).encode()))
    return booster
