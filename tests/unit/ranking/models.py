"""A small model and what it takes to score with it, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xgboost as xgb

from lake.items import ItemTable
from ranking import bundle as bundles
from ranking.bundle import Bundle, Window
from ranking.calibration import Calibration
from ranking.features import FEATURES
from ranking.scorer import Scorer
from ranking.store import FeatureStore


@cache
def booster(seed: int = 0) -> xgb.Booster:
    """Return trees over random rows: they depend on many features and mean nothing; nobody may change them."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(400, len(FEATURES))).astype(np.float32)
    label = rows.sum(axis=1) + random.normal(size=400) > 0
    data = xgb.DMatrix(rows, label, feature_names=list(FEATURES))
    return xgb.train({"objective": "binary:logistic", "max_depth": 4, "nthread": 1}, data, 10)


def write_bundle(folder: Path, seed: int = 0) -> Path:
    """Write a bundle with such trees."""
    curve = Calibration(np.array([-1.0, 1.0]), np.array([-2.0, 0.5]))
    bundles.write(folder, booster(seed), curve, {"ndcg_at_5": 0.5}, Window(0.0, 1.0), 2.0)
    return folder


@cache
def bundle_of(seed: int = 0) -> Bundle:
    """Return such a bundle, loaded; the same one every time."""
    with TemporaryDirectory() as folder:
        return bundles.load(write_bundle(Path(folder) / "model", seed), verified=True)


def scorer_of(store: FeatureStore, table: ItemTable) -> Scorer:
    """Return a scorer with such a model."""
    return Scorer(bundle_of(), store, table)
