"""`tidings bench score`: candidates of many moments, from tables in memory to probabilities, beside the prediction alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from lake.dataset import Dataset
from ranking import bundle as bundles
from ranking.join import features_at
from ranking.offline import State
from ranking.offline_score import channel_codes, codes_of, score_candidates
from ranking.past import Past, seconds
from tidings.bench_data import BenchData, write_model
from tidings.bench_system import Step

PEER_NAME = "the prediction alone, of the same rows assembled before, all cores"
SITE = BenchData(users=2_000)


@dataclass(frozen=True)
class Candidates:
    """How many rows, at moments how many days apart, and how many of the items may be candidates: the latest, at any moment."""

    rows: int = 1_000_000
    days: int = 28
    items: int = 2_000
    seed: int = 0

    def of(self, dataset: Dataset, until: float) -> pd.DataFrame:
        """Return candidates (user_id, item_id, channel, at) of the days before `until` (seconds)."""
        random = np.random.default_rng(self.seed)
        items = dataset.items.sort_values("created_at")["item_id"].to_numpy(object)[-self.items :]
        ago = np.sort(random.integers(0, self.days, self.rows))[::-1]
        frame = {
            "user_id": random.choice(dataset.users["user_id"].to_numpy(object), self.rows),
            "item_id": random.choice(items, self.rows),
            "channel": "in_app",
            "at": pd.Timestamp(until, unit="s", tz="UTC") - pd.to_timedelta(ago, unit="D"),
        }
        return pd.DataFrame(frame).astype({"user_id": "string", "item_id": "string", "channel": "string"})


def run(
    candidates: Candidates | None = None,
    *,
    data: Path | None = None,
    model: Path | None = None,
    rounds: int = 3,
    step: Step = lambda _: None,
) -> dict[str, Any]:
    """Return the figures of `tidings bench score --json`; `ratio`: the time of scoring over that of the prediction alone.

    `data`, `model`: tables and a bundle trained on them, by default made up.
    """
    candidates = candidates or Candidates()
    with TemporaryDirectory(prefix="tidings-") as folder:
        dataset = SITE.dataset() if data is None else Dataset.load(data)
        if model is None:
            step("making users, items and a model")
            write_model(dataset, SITE, Path(folder) / "model")
        bundle = bundles.load(model or Path(folder) / "model", threads=0)
    rows = candidates.of(dataset, bundle.window.until)
    step("scoring")
    took_s = _best_of(rounds, lambda: score_candidates(bundle, dataset, rows))
    step("the parts by themselves")
    past = Past.of(dataset)
    user, item = codes_of(rows["user_id"], past.user_ids), codes_of(rows["item_id"], past.items.ids)
    codes, at = channel_codes(bundle, rows["channel"]), seconds(rows["at"])
    features_s = _best_of(rounds, lambda: features_at(State(past), user, item, codes, at))
    matrix = features_at(State(past), user, item, codes, at)
    peer_s = _best_of(rounds, lambda: bundle.booster.inplace_predict(matrix))
    return {
        "rows": len(rows),
        "seconds": round(took_s, 3),
        "rows_per_s": round(len(rows) / took_s),
        "features_alone_s": round(features_s, 3),
        "peer_name": PEER_NAME,
        "peer_s": round(peer_s, 3),
        "ratio": round(took_s / peer_s, 3),
        "trees": bundle.booster.num_boosted_rounds(),
    }


def _best_of(rounds: int, job: Callable[[], object]) -> float:
    """Return the seconds of the fastest of some runs."""
    took = []
    for _ in range(rounds):
        began = time.perf_counter()
        job()
        took.append(time.perf_counter() - began)
    return min(took)
