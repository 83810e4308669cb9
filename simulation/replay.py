"""Replay of logged history through the real pipeline: the clock is simulated, the ledger, the commit and the log are real."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lake.clock import HeldClock
from lake.dataset import Dataset
from lake.decision_log import Entry, unpack
from lake.embedded import EmbeddedStore
from lake.errors import InputError
from lake.items import ItemTable
from lake.meta import Meta
from lake.profiles import MAX_WINDOWS
from lake.redis_decision_log import RedisDecisionStream
from ranking.bundle import Bundle
from ranking.heat import burst_of, heat_of
from ranking.redis_features import RedisFeatureStore
from ranking.scorer import Scorer as ModelScorer
from ranking.store import FeatureStore
from scheduler.decide import DecideConfig
from scheduler.lanes import ScheduledLane
from scheduler.lease import shard_lease
from scheduler.pipeline import Pipeline, PipelineConfig
from scheduler.redis_stores import RedisStores
from scheduler.scoring import Scorer, by_model
from scheduler.sources import HeldRows, NewPosts, Trending
from scheduler.windows import SLOT_S
from simulation.beside import beside
from simulation.outcomes import cut_of, overspends, report
from simulation.playback import Engagements, Features, Playback, play
from simulation.policies import PolicyName, Random, popular, popular_week, recent
from simulation.urgent_replay import Posted, UrgentReplay, urgent_report

REPLAY_META = Meta(shards=1)
"""One shard: a replay decides in one process, and one shard makes the fewest, largest batches."""

Told = Callable[[PolicyName, float], None]
"""(policy, time): how far the replay is."""


@dataclass(frozen=True)
class ReplayConfig:
    """What is replayed. `since`, `until`: seconds. `budget`: sends per user and rolling 7 days, on the one `channel`. `urgent`: what is
    posted to the urgent lane, None: nothing, and the scheduled lane plays alone.
    """

    since: float
    until: float
    policies: Sequence[PolicyName]
    budget: int = 3
    channel: str = "in_app"
    horizon_days: int = 14
    seed: int = 0
    urgent: Posted | None = None


@dataclass(frozen=True)
class Replayed:
    """The decisions of all policies, with a column `policy`, and the report by policy."""

    decisions: pd.DataFrame
    report: dict[str, Any]


def replay(history: Dataset, model: Bundle | None, config: ReplayConfig, told: Told) -> Replayed:
    """Play `history` once per policy, each on a store of its own, and report what each one's sends were worth.

    `model` is needed for the policy "ranked". Raises InputError where it has seen the time that is replayed.
    """
    if model is not None and model.window.until > config.since:
        raise InputError(
            f"the model was trained on events up to {_date(model.window.until)}, after the replay's start {_date(config.since)}: "
            "train one with --until at the start, or replay later days"
        )
    if model is None and "ranked" in config.policies:
        raise InputError("the policy ranked needs a model: give --model, or leave it out of --policy")
    decisions, reports, sent = [], {}, {}
    known_until = history.events["at"].max()
    for policy in config.policies:
        rows = play_policy(history, model, config, policy, told)
        decisions.append(rows.assign(policy=policy))
        sent[policy] = rows[rows["disposition"] == "send"].reset_index(drop=True)
        over = overspends(sent[policy], config.budget)
        reports[policy] = report(
            rows, history.events, horizon_days=config.horizon_days, overspent=over, known_until=known_until, items=history.items
        )
        reports[policy]["budget_use"] = budget_use(rows, config)
        if config.urgent is not None:
            reports[policy]["urgent"] = urgent_report(rows)
    compared = {
        policy: beside(sent["ranked"], sends, history.events, horizon_days=config.horizon_days, known_until=known_until)
        for policy, sends in sent.items()
        if policy != "ranked" and "ranked" in sent
    }
    for policy in sent.keys() - {"random"} if "random" in sent else ():
        reports[policy]["cut_of_random"] = cut_of(
            sent[policy], sent["random"], history.events, horizon_days=config.horizon_days, known_until=known_until
        )
    return Replayed(pd.concat(decisions, ignore_index=True), {"policies": reports, "ranked_beside": compared})


def play_policy(history: Dataset, model: Bundle | None, config: ReplayConfig, policy: PolicyName, told: Told) -> pd.DataFrame:
    """Play history with one policy on an embedded store and return its decision log."""
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder), durable=False) as store:
        stores = RedisStores.open(store.url, REPLAY_META, durable=False)
        features = RedisFeatureStore(stores.client, stores.meta.keys)
        table = ItemTable(stores.items)
        lane = lane_of(stores, features, table, scorer_of(policy, model, history, features, table, config), config)
        state, windows = Features.of(history, features), min(config.budget, MAX_WINDOWS)
        playback = Playback(history, stores.loading(), stores.seen, stores.ledger, state, config.since, windows)
        playback.start()
        urgent = urgent_of(lane, playback, config, policy, stores) if config.urgent is not None else None
        log: list[Entry] = [] if urgent is None else urgent.log

        def tick(slot: int, now: float) -> None:
            fence = stores.leases.acquire(shard_lease(0), policy, now, SLOT_S)
            lane.run(0, slot, fence or 0, HeldClock(now))
            if urgent is None:
                log.extend(drained(stores))
            else:
                urgent.ticked(drained(stores), now)

        def before(at: float) -> None:
            if urgent is not None:
                urgent.until(at)

        play(playback, config.until, lambda slot: int(stores.due.counts(slot)[0]), tick, lambda at: told(policy, at), before)
        return unpack(log)


def urgent_of(scheduled: ScheduledLane, playback: Playback, config: ReplayConfig, policy: PolicyName, stores: RedisStores) -> UrgentReplay:
    """Return the urgent lane of a replay, ready to be posted to."""
    urgent = UrgentReplay.beside(
        scheduled,
        playback,
        stores.held,
        posted=config.urgent or Posted(),
        channel=config.channel,
        budget=config.budget,
        policy=policy,
        drained=partial(drained, stores),
    )
    urgent.start()
    return urgent


WHATEVER_IT_IS_WORTH = -1e9
"""The threshold of a replay: a policy that may decline to send, as a ranker does where opt-outs would cost more, has no equal volume."""


def lane_of(stores: RedisStores, features: FeatureStore, table: ItemTable, scorer: Scorer, config: ReplayConfig) -> ScheduledLane:
    """Return the scheduled lane as it serves, with the replay's budget on the replay's channel."""
    windows = max(min(config.budget, MAX_WINDOWS), 1)
    decided = PipelineConfig(
        weekly={config.channel: config.budget},
        threshold={config.channel: WHATEVER_IT_IS_WORTH},
        addressless=(config.channel,),
        decide=DecideConfig(top_n=math.ceil(config.budget / windows)),
    )
    pipeline = Pipeline(stores.meta, stores.profiles, table, stores.seen, stores.ledger, scorer, stores.committer, config=decided)
    sources = (HeldRows(stores.held), NewPosts(stores.follows), Trending(burst_of(features)))
    return ScheduledLane(pipeline, stores.due, sources, stores.meta.channel_codes([config.channel]))


def scorer_of(
    policy: PolicyName, model: Bundle | None, history: Dataset, features: FeatureStore, table: ItemTable, config: ReplayConfig
) -> Scorer:
    """Return how a policy ranks."""
    if policy == "ranked" and model is not None:
        return by_model(ModelScorer(model, features, table))
    if policy == "popular_week":
        return popular_week(Engagements.of(history))
    baselines: dict[PolicyName, Scorer] = {
        "popular": popular(heat_of(features, "users_7d")),
        "recent": recent(table),
        "random": Random(config.seed),
    }
    return baselines[policy]


def drained(stores: RedisStores) -> list[Entry]:
    """Take the decision log's entries out of the store."""
    stream = RedisDecisionStream(stores.client, stores.meta.keys)
    entries = stream.read(0, 10_000)
    stream.drop(0, entries)
    return entries


def budget_use(decisions: pd.DataFrame, config: ReplayConfig) -> float:
    """Return the sends as a share of what the budgets of the users who had a window allow over the time replayed.

    A week's budget may be spent in a day, so less than a week allows as much as a week does.
    """
    weeks = max((config.until - config.since) / (7 * 86400), 1.0)
    allowed = decisions["user_id"].nunique() * config.budget * weeks
    return float((decisions["disposition"] == "send").sum() / allowed) if allowed else 0.0


def _date(at: float) -> str:
    return pd.Timestamp(at, unit="s", tz="UTC").isoformat()
