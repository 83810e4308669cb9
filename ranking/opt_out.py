"""The risk that a send makes its reader opt out: a model of its own, or one rate for all where too few ever did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from ranking.evaluation import log_loss
from ranking.features import FEATURES, NO_CHANNEL
from ranking.forest import forest
from ranking.join import features_at
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past, seconds

if TYPE_CHECKING:
    import xgboost as xgb

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class OptOutRule:
    """What an opt-out is, and how much it takes to learn from.

    `window_s`: an opt-out this soon after a send is laid to the latest send before it. `least`: opt-outs after sends below which all
    rows get one rate. `prior_rate`, `prior_told`: what is believed before anything is seen, and how many sends that counts for.
    `most_rows`: sends to learn from, the latest ones.
    """

    kinds: frozenset[str] = frozenset({"unsubscribe", "mute", "complaint", "report"})
    window_s: float = 7 * DAY_S
    least: int = 50
    prior_rate: float = 1e-4
    prior_told: float = 10_000.0
    most_rows: int = 300_000
    trees: int = 60


@dataclass(frozen=True)
class OptOut:
    """The risk of opting out. `rate`: that of all rows; `booster`: trees over feature rows where there are any."""

    rate: float = 0.0
    booster: xgb.Booster | None = None

    def risks(self, rows: Matrix) -> Matrix:
        """Return the risk of feature rows, float32 (n,)."""
        if self.booster is None:
            return np.full(len(rows), self.rate, np.float32)
        from scipy.special import expit  # most processes foretell nothing

        risks: Matrix = expit(forest(self.booster).margins(rows))
        return risks

    def as_json(self) -> dict[str, Any]:
        """Return the risk as plain values."""
        trees = None if self.booster is None else json.loads(self.booster.save_raw("json").decode())
        return {"rate": self.rate, "trees": trees}

    @staticmethod
    def from_json(content: dict[str, Any], threads: int = 1) -> OptOut:
        """Return what `as_json` wrote; raises KeyError, TypeError or ValueError where it did not."""
        if content["trees"] is None:
            return OptOut(float(content["rate"]))
        import xgboost as xgb

        booster = xgb.Booster(params={"nthread": threads} if threads else None)
        booster.load_model(bytearray(json.dumps(content["trees"]).encode()))
        if tuple(booster.feature_names or ()) != FEATURES:
            raise ValueError("it was trained with other features")
        return OptOut(float(content["rate"]), booster)


def learn(dataset: Dataset, until: float, rule: OptOutRule | None = None, seed: int = 0) -> OptOut:
    """Return what a dataset tells before `until` (seconds) about opting out.

    One rate for all where fewer than `rule.least` did after a send, or where trees tell later sends no better apart than that rate.
    """
    rule = rule or OptOutRule()
    sends, opted = outcomes(dataset, until, rule)
    rate = rate_of(dataset, int(opted.sum()), len(opted), until, rule)
    if opted.sum() < rule.least:
        return OptOut(rate)
    past = Past.of(dataset)
    rows = slice(max(0, len(sends) - rule.most_rows), None)
    sends, opted = sends.iloc[rows], opted[rows]
    user = pd.Index(past.user_ids).get_indexer(pd.Index(sends["user_id"].to_numpy(object))).astype(np.int32)
    item = pd.Index(past.items.ids).get_indexer(pd.Index(sends["item_id"].to_numpy(object))).astype(np.int32)
    matrix = features_at(State(past), user, item, np.full(len(sends), NO_CHANNEL, np.uint8), seconds(sends["at"]))
    return fit(matrix, opted, rate, rule, seed)


def fit(matrix: Matrix, opted: Bools, rate: float, rule: OptOutRule | None = None, seed: int = 0) -> OptOut:
    """Return trees over feature rows, which are in the order of time, if they beat one rate on the last quarter; else that rate."""
    rule = rule or OptOutRule()
    early = np.arange(len(opted)) < len(opted) * 3 // 4
    later, weight = opted[~early], np.ones(int((~early).sum()))
    if not opted[early].any() or not later.any():
        return OptOut(rate)
    tried = _boosted(matrix[early], opted[early], rule, seed).inplace_predict(matrix[~early])
    plain = np.full(len(later), opted[early].mean())
    if log_loss(tried, later, weight) >= log_loss(plain, later, weight):
        return OptOut(rate)
    return OptOut(rate, _boosted(matrix, opted, rule, seed))


def _boosted(matrix: Matrix, opted: Bools, rule: OptOutRule, seed: int) -> xgb.Booster:
    import xgboost as xgb

    parameters = {
        "objective": "binary:logistic",
        "base_score": float(opted.mean()),
        "max_depth": 3,
        "eta": 0.1,
        "min_child_weight": 5.0,
        "subsample": 0.8,
        "colsample_bytree": 0.6,
        "seed": seed,
    }
    return xgb.train(parameters, xgb.DMatrix(matrix, opted, feature_names=list(FEATURES)), rule.trees)


def outcomes(dataset: Dataset, until: float, rule: OptOutRule) -> tuple[pd.DataFrame, Bools]:
    """Return the sends whose window was over at `until`, in the order of time, and after which of them the reader opted out."""
    sends = dataset.sends.sort_values("at", kind="stable")
    sends = sends[seconds(sends["at"]) < until].reset_index(drop=True)
    events = dataset.events
    left = events[events["kind"].isin(rule.kinds) & (seconds(events["at"]) < until)].sort_values("at")
    opted = np.zeros(len(sends), bool)
    if len(sends) and len(left):
        numbered = sends[["user_id", "at"]].assign(send=np.arange(len(sends)))
        window = pd.Timedelta(seconds=rule.window_s)
        found = pd.merge_asof(left[["user_id", "at"]], numbered, on="at", by="user_id", tolerance=window)
        opted[found["send"].dropna().to_numpy(np.int64)] = True
    # The younger ones are left out only now: an opt-out that was theirs is not to be laid to one before them.
    over = int((seconds(sends["at"]) < until - rule.window_s).sum())
    return sends.iloc[:over], opted[:over]


def rate_of(dataset: Dataset, opted: int, told: int, until: float, rule: OptOutRule) -> float:
    """Return the opt-outs per send, shrunk to the prior rate; without sends each engagement stands for one that was welcome."""
    if not told:
        told = int((~dataset.events["kind"].isin(rule.kinds) & (seconds(dataset.events["at"]) < until)).sum())
    return (opted + rule.prior_rate * rule.prior_told) / (told + rule.prior_told)
