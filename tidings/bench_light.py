"""`tidings bench light`: users with a crowd of candidates, ranked light then heavy, beside the heavy model on all of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from lake.dataset import Dataset
from lake.errors import InputError
from ranking import bundle as bundles
from ranking.blocks import Matrix
from ranking.bundle import Bundle
from ranking.features import NO_CHANNEL, Assembler
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Codes, Past
from ranking.scorer import CHUNK_S, Job, chunk_rows_of
from tidings.bench_data import BenchData, write_model
from tidings.bench_system import Step

PEER_NAME = "the heavy model on every candidate, by the same scorer"
SITE = BenchData(users=2_000, fresh=12)
"""A made-up site with 500 live posts, beside those of Crowd.urgent."""
ACTIVE_S = 28 * DAY_S


@dataclass(frozen=True)
class Crowd:
    """How many users have how many candidates each, to how many the light model cuts them, and how many of those are sent.

    `urgent`: how many items of the made-up site are a minute old, with nothing known of them but who wrote them and about what.
    """

    users: int = 400
    candidates: int = 500
    most_per_user: int = 100
    top_n: int = 3
    urgent: int = 0
    seed: int = 0


def run(
    crowd: Crowd | None = None, *, data: Path | None = None, model: Path | None = None, rounds: int = 3, step: Step = lambda _: None
) -> dict[str, Any]:
    """Return the figures of `tidings bench light --json`: `same_top_n`, the share of users with the same best, and the speed-up `ratio`.

    `value_kept`: what the best are worth beside those of the heavy model alone; `value_kept_of_worst`: of the user who loses most.
    `data`, `model`: tables and a bundle trained on them, by default made up; the moment is the one the model was trained until.
    """
    crowd = crowd or Crowd()
    with TemporaryDirectory(prefix="tidings-") as folder:
        if model is None:
            step("making users, items and a model")
            site = replace(SITE, urgent=crowd.urgent)
            dataset = site.dataset()
            write_model(dataset, site, Path(folder) / "model")
        bundle = bundles.load(model or Path(folder) / "model")
    if data is not None:
        dataset = Dataset.load(data, pd.Timestamp(bundle.window.until, unit="s", tz="UTC"))
    if bundle.light is None:
        raise InputError(f"{model}: has no light model; train it again")
    step("assembling state")
    everything = _job(bundle, dataset, crowd)
    step("scoring")
    few, all_of_them = [], []
    for _ in range(rounds + 1):  # the first of each warms up
        few.append(_timed(replace(everything, most_per_user=crowd.most_per_user)))
        all_of_them.append(_timed(replace(everything, most_per_user=crowd.candidates)))
    (took_s, job), (peer_s, peer) = (min(runs[1:], key=lambda run: run[0]) for runs in (few, all_of_them))
    (best, worth), (peer_best, peer_worth) = (_best(each, crowd.top_n) for each in (job, peer))
    same = (best == peer_best).all(axis=1)
    return {
        "users": len(same),
        "candidates_per_user": len(job.user) // len(same),
        "most_per_user": crowd.most_per_user,
        "top_n": crowd.top_n,
        "same_top_n": round(float(same.mean()), 4),
        "value_kept": round(float(worth.sum() / peer_worth.sum()), 4),
        "value_kept_of_worst": round(float((worth / peer_worth).min()), 4),
        "candidates_per_s": round(len(job.user) / took_s),
        "peer_name": PEER_NAME,
        "peer_candidates_per_s": round(len(job.user) / peer_s),
        "ratio": round(peer_s / took_s, 3),
        "trees": bundle.booster.num_boosted_rounds(),
        "light_trees": bundle.light.num_boosted_rounds(),
    }


def _job(bundle: Bundle, dataset: Dataset, crowd: Crowd) -> Job:
    """Return the scoring of the youngest items for some of the users who were active of late, users' rows together."""
    past, at = Past.of(dataset), bundle.window.until
    state = State(past)
    active = np.unique(past.user[past.at > at - ACTIVE_S])
    users: Codes = np.random.default_rng(crowd.seed).permutation(active)[: crowd.users].astype(np.int32)
    young = np.argsort(-past.items.created_at, kind="stable")
    items: Codes = young[past.items.created_at[young] < at][: crowd.candidates].astype(np.int32)
    if not len(users) or len(items) <= crowd.most_per_user:
        raise InputError(f"{len(users)} active users and {len(items)} items are no crowd; give more data or a lower --limit")
    as_of = float(past.refreshed_at(np.array([at]))[0])
    rows = len(users) * len(items)
    return Job(
        bundle=bundle,
        assembler=Assembler(state.users(users, as_of), state.items(items, np.full(len(items), at), as_of)),
        user=np.repeat(np.arange(len(users), dtype=np.int32), len(items)),
        item=np.tile(np.arange(len(items), dtype=np.int32), len(users)),
        channel=np.full(rows, NO_CHANNEL, np.uint8),
        known_user=np.ones(len(users), bool),
        known_item=np.ones(len(items), bool),
        chunk_rows=chunk_rows_of(bundle, CHUNK_S),
    )


def _timed(job: Job) -> tuple[float, Job]:
    began = time.perf_counter()
    for chunk in job.chunks():
        job.run(chunk)
    return time.perf_counter() - began, job


def _best(job: Job, top_n: int) -> tuple[npt.NDArray[np.intp], Matrix]:
    """Return each user's best items by value and what they are worth together.

    Shapes (users, top_n), in the order of the items, and (users,).
    """
    value: Matrix = np.nan_to_num(job.scores().value, nan=-np.inf).reshape(len(job.known_user), -1)
    best = np.sort(np.argsort(-value, axis=1, kind="stable")[:, :top_n], axis=1)
    return best, np.take_along_axis(value, best, axis=1).sum(axis=1)
