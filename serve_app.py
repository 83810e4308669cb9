"""Settings to the Serve application: the only place that picks implementations.

`serve run serve_app:app model=/path/to/bundle redis_url=redis://…`, or `tidings up`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import ray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from budgets.allowance import MAX_WEEKLY
from budgets.experiments import Holdout
from budgets.keeping import KeptName
from budgets.pacing import PacingConfig
from delivery.channels.base import Resources
from delivery.channels.in_app import InAppSettings
from delivery.channels.registry import ChannelSettings, address_checks, open_channels, open_stand_ins, providers_of
from delivery.courier import Courier, CourierParts, CourierSettings
from delivery.deadletters import DeadLetters
from delivery.dispatch import Dispatcher
from delivery.feedback import Effects, EventRow, Feedback, drain_events, opened_grants
from delivery.inbox import Inbox
from delivery.links import Links, LinkSettings
from delivery.parts import Parts
from delivery.ray_courier import CourierReplica
from delivery.redis_feedback import RedisEventLog
from delivery.redis_inbox import RedisInbox
from delivery.redis_outbox import RedisOutbox
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from delivery.templates import Templates, TemplateSettings
from gateway.limits import Limits
from gateway.preference_form import Offer
from gateway.rates import Rates, check_rates
from gateway.ray_gateway import Gateway
from gateway.ray_metrics import RayMetrics
from gateway.redis_api_keys import RedisApiKeys
from gateway.redis_erasure import RedisErasure
from gateway.redis_exporting import export_of
from gateway.redis_fanout import RedisFanout
from gateway.redis_faults import STORE_AWAY
from gateway.redis_idempotency import RedisIdempotency
from gateway.redis_overview import RedisOverview
from gateway.redis_rates import redis_windows
from gateway.redis_user_rows import RedisUserRows
from gateway.services import Services
from gateway.stories import Stories
from lake import logs
from lake.clock import Clock
from lake.collected import Living
from lake.history import KEEP_DAYS, History
from lake.ids import hash64
from lake.items import ItemTable
from lake.meta import CHANNELS, Meta
from lake.metrics import Metrics
from lake.redis_rewriting import rewrite_log
from lake.switches import Watch
from lake.user_keys import keyed
from ranking.diversity import DiversityRule
from ranking.guard import GuardRule
from ranking.heat import burst_of, heat_of
from ranking.in_service import popular_in_service
from ranking.light import MOST_PER_USER
from ranking.popular_scorer import Popularity
from ranking.ray_ranker import Ranker
from ranking.ray_ranker import Stores as RankerStores
from ranking.redis_features import RedisFeatureStore
from ranking.refresh import Refreshed
from ranking.shadow import HistoryShadowLog
from ranking.unseen import unseen_of
from ranking.value import ValueRule
from scheduler.commit import NotDurableError
from scheduler.critical import PER_DAY
from scheduler.decide import DecideConfig
from scheduler.digests import DigestRule
from scheduler.exploration import ExploreConfig
from scheduler.fallback import Fallback
from scheduler.lanes import ScheduledLane, UrgentLane
from scheduler.late import LateConfig
from scheduler.lately import Lately
from scheduler.learned_budgets import BudgetJob, BudgetJobConfig
from scheduler.loading import reenroll
from scheduler.own_thresholds import FAR_SLOT, OwnConfig, OwnJob
from scheduler.pipeline import LEARNED_FRESH_S, Pipeline, PipelineConfig
from scheduler.planning import PlanConfig
from scheduler.ray_scorer import HandleScorer, MixedModelsError
from scheduler.ray_shards import ROUTER_ENV, RayShards
from scheduler.ray_ticker import Scheduler
from scheduler.redis_report import FLUSH_S, RedisRecorder
from scheduler.redis_stores import RedisStores
from scheduler.refreshing import Refresh
from scheduler.report import LaneReport, Recorder
from scheduler.sources import Needs, Source, SourceRule, open_sources
from scheduler.sources.registry import check_rules
from scheduler.thresholds import believed, last_week, learn
from scheduler.ticker import Ticker
from scheduler.waiting import HourConfig
from scheduler.window_counts import WindowRule
from tidings.home import folder

log = logging.getLogger(__name__)

APP_NAME = "tidings"
EXPLAIN_TIMEOUT_S = 30.0
"""How long a look back may take: a model that served long ago is loaded for it."""
RANKER_AWAY = (RayError, RayServeException, TimeoutError)
"""What a call of the ranker raises where no model answers; popularity then stands in for it."""
AWAY_ERRORS = (*STORE_AWAY, NotDurableError, *RANKER_AWAY)
"""What the lanes raise where the store or the ranker does not answer."""


class Settings(BaseModel):
    """The deployment's typed arguments. What a page of docs/ tells more of is named there."""

    # What is wrong with the settings must not show the secrets among them.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    # What is decided, and on what
    model: str
    """Folder of the bundle that ranks, or of a registry of bundles, whose pointer rankers then follow."""
    scheduled_channels: tuple[str, ...] = ("in_app",)
    """What the windows send on."""
    sources: Annotated[dict[str, SourceRule], AfterValidator(check_rules)] = Field(default_factory=dict)
    """By name, whether a candidate source is on and what of it is set otherwise; growing and dormant are off by default."""
    opt_out_cost: float = Field(default=ValueRule.opt_out_cost, ge=0.0, allow_inf_nan=False)
    """What losing a reader costs, in engagements: a row is worth its probability less this times its risk that the reader opts out."""
    top_n: int = 3
    """Most sends of one window."""
    plan: PlanConfig = PlanConfig()
    """How a scheduled window is decided together with the user's next ones, under a cap per local day and a least gap between sends; off
    unless its `windows` is above 0."""
    hours: HourConfig = HourConfig()
    """How much a better hour counts where the urgent lane weighs sending now against the user's next window."""
    late: LateConfig = LateConfig()
    """What a window that is decided late still sends: all of it up to `grace_s`, then ever less, the least valuable first, nothing from
    `bound_s` on."""
    digests: tuple[DigestRule, ...] = ()
    """What is told together, by topic, kind or source."""
    diversity: DiversityRule = DiversityRule()
    """How much less is worth what is like what its user was sent lately: about the same thing, by the same author, of the same topics."""
    explore: ExploreConfig = ExploreConfig()
    """How often one of the next best rows is sent in place of a chosen one, so that the log can tell what another choice would have
    brought; off unless its `share` is above 0 (docs/experiments.md)."""
    holdout: Holdout = Holdout()
    """{share, salt} of the users who get nothing that is scheduled, by which its worth is measured (docs/experiments.md)."""
    log_share: float = 1.0
    """How many of the rows that were not sent are logged, with their weight."""

    # How much is sent
    weekly: dict[str, int] = Field(default_factory=lambda: {"in_app": 10, "push": 5, "email": 3})
    """Default budget per channel and rolling 7 days."""
    threshold: dict[str, float] = Field(default_factory=dict)
    """Least value worth a unit, per channel, before one is learned."""
    own_thresholds: bool | KeptName = False
    """Whether a daily job keeps thresholds for each user, and how: "steered" (or true) to 0.8 of their budget (docs/thresholds.md), "paced"
    so that what is left of the budget goes to the best that is still to come (docs/pacing.md)."""
    learned_budgets: dict[str, Annotated[float, Field(ge=0.5, le=MAX_WEEKLY / 2)]] = Field(default_factory=dict)
    """Mean weekly sends of a user by channel, for the channels whose default budgets give way to learned ones (docs/budgets.md)."""
    explored_budgets: float = Field(default=BudgetJobConfig.explore, ge=0.0, le=1.0)
    """The share of users whose budget is drawn each week, so that there is something to learn from."""
    pacing: PacingConfig = PacingConfig()
    """Units kept for urgent items, a slow start for new and returning users, a cap a day, a least gap (docs/pacing.md)."""
    critical_per_day: int = Field(default=PER_DAY, ge=0)
    """Critical rows that an API key without a quota of its own may cause per UTC day."""

    # How it gets there, and what users see
    channels: tuple[ChannelSettings, ...] = (InAppSettings(),)
    """The ways out (docs/channels.md). Of several e-mail or Apprise channels with one name, each stands in for those before it while they
    are down."""
    public_url: str = "http://127.0.0.1:8000"
    """Where users reach the gateway, for links in messages."""
    link_secret: SecretStr | None = None
    """Signs those links, by default TIDINGS_LINK_SECRET, else a secret kept in the store."""
    templates: str = ""
    """A folder of own templates, `<kind>.<locale>.<twin>.j2`, found before those that are shipped."""
    kinds: dict[str, str] = Field(default_factory=dict)
    """The kinds of items that users may choose about on their page of preferences, and how people call them: {"post": "New posts"}."""

    # What is kept where
    redis_url: str = Field(default_factory=lambda: os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), repr=False)
    """The store, by default REDIS_URL."""
    shards: int = 16
    """Of a store that this deployment creates."""
    tables: str = ""
    """The folder of tables that users and features were loaded from, which each night's refresh begins with."""
    history: str = Field(default_factory=lambda: str(folder() / "history"))
    """Folder or URL of Parquet files, by default under TIDINGS_HOME."""
    history_days: int = Field(default=KEEP_DAYS, ge=0)
    """How long they are kept, 0: for ever."""

    # What runs
    rankers: tuple[int, int] = (1, 4)
    """[least, most] replicas."""
    ranker_cpus: float = 1.0
    """CPUs of a replica, and of one of its predictions."""
    autoscaling: dict[str, float] = Field(default_factory=dict)
    """Further options of Serve's autoscaling of rankers, such as upscale_delay_s."""
    most_per_user: int = Field(default=MOST_PER_USER, ge=1)
    """Candidates of one user that the heavy model ranks; the light one cuts the others."""
    guard: bool | GuardRule = False
    """Whether rankers watch features and scores, and keep to the usual volume where those are not what they were, and what of their rule
    is set otherwise, such as {"block_rows": 500} where little is scored (docs/drift.md)."""
    shards_in_flight: int = 8
    """Shards that are decided at once."""
    couriers: int = Field(default=1, ge=1)
    """Replicas that deliver, each of them its share of the shards."""
    ticking: bool = True
    """Whether the scheduler follows the clock by itself; a demo ticks by hand."""
    limits: Limits = Limits()
    """What the gateway takes at most."""
    rates: Annotated[dict[str, str], AfterValidator(check_rates)] = Field(default_factory=dict)
    """By scope, how often each key may call what it opens, such as 1000/second; a key's own rate goes before (docs/controls.md)."""
    dashboard_url: str = ""
    """Where the console sends people who want to see Ray's dashboard."""

    @field_validator("weekly", "threshold", "learned_budgets", "scheduled_channels")
    @classmethod
    def _of_known_channels(cls, by_channel: Any) -> Any:
        Meta(channels=CHANNELS).channel_codes(list(by_channel))
        return by_channel

    @field_validator("channels")
    @classmethod
    def _known_channels(cls, channels: tuple[ChannelSettings, ...]) -> tuple[ChannelSettings, ...]:
        providers = providers_of(channels)
        Meta(channels=CHANNELS).channel_codes(list(providers))
        return channels

    @model_validator(mode="after")
    def _what_windows_send_on_is_set_up(self) -> Settings:
        missing = [name for name in self.scheduled_channels if name not in self.channel_names]
        if missing and "scheduled_channels" in self.model_fields_set:
            raise ValueError(
                f"scheduled_channels names {missing[0]!r}, and `channels` sets up only {', '.join(self.channel_names) or 'none'}"
            )
        return self

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The channels that are set up, each once."""
        return tuple(dict.fromkeys(each.name for each in self.channels))

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


def app(settings: Settings) -> serve.Application:
    """Return the application of Gateway, Ranker, Scheduler and Courier for `serve run` and `serve deploy`."""
    least, most = settings.rankers
    ranker = Ranker.options(
        autoscaling_config={
            "min_replicas": least,
            "initial_replicas": least,
            "max_replicas": most,
            "target_ongoing_requests": 20,
            **settings.autoscaling,
        },
        ray_actor_options={"num_cpus": settings.ranker_cpus},
    ).bind(
        settings.model,
        partial(ranker_stores, settings),
        max(int(settings.ranker_cpus), 1),
        most_per_user=settings.most_per_user,
        guard=GuardRule() if settings.guard is True else settings.guard or None,
        value=ValueRule(opt_out_cost=settings.opt_out_cost),
    )
    scheduler = Scheduler.bind(partial(make_ticker, settings), settings.ticking)
    courier = CourierReplica.options(num_replicas=settings.couriers).bind(partial(make_courier, settings))
    return Gateway.options(ray_actor_options={"num_cpus": 0.5, "runtime_env": {"env_vars": ROUTER_ENV}}).bind(
        partial(gateway_services, settings), {"Ranker": ranker, "Scheduler": scheduler, "Courier": courier}, settings.limits
    )


@cache
def stores_of(settings: Settings) -> RedisStores:
    """Return this process's stores; whatever a process of the deployment does begins with them, and so do its logs."""
    logs.configure()
    return RedisStores.open(settings.redis_url, Meta(shards=settings.shards, channels=CHANNELS))


def features_of(settings: Settings) -> RedisFeatureStore:
    """Return the features of users and items."""
    stores = stores_of(settings)
    return RedisFeatureStore(stores.client, stores.meta.keys)


def ranker_stores(settings: Settings) -> RankerStores:
    """Return what a ranker replica reads, and where it logs what a challenger scored."""
    stores = stores_of(settings)
    log = HistoryShadowLog(History(settings.history), stores.user_keys)
    return RankerStores(features_of(settings), stores.items, log, stores.alarms, RayMetrics(), stores.clock)


def pipeline_of(settings: Settings, score: DeploymentHandle[Any], metrics: Metrics) -> Pipeline:
    """Return the one decision, on this deployment's stores; `score`: the rankers' method."""
    stores = stores_of(settings)
    table = ItemTable(stores.items)
    fallback = Fallback(
        HandleScorer(score),
        Popularity(features_of(settings), table, Lately(partial(popular_in_service, Path(settings.model)), LEARNED_FRESH_S).at),
        RANKER_AWAY,
        (MixedModelsError,),
        partial(metrics.count, "tidings_fallback_rows_total"),
    )
    config = PipelineConfig(
        weekly=settings.weekly,
        threshold=settings.threshold,
        log_share=settings.log_share,
        decide=DecideConfig(top_n=settings.top_n),
        diversity=settings.diversity,
        explore=settings.explore,
        plan=settings.plan,
        hours=settings.hours,
        late=settings.late,
        critical_per_day=settings.critical_per_day,
        holdout=settings.holdout,
        digests=settings.digests,
        pacing=settings.pacing,
    )
    return Pipeline(
        meta=stores.meta,
        profiles=stores.profiles,
        table=table,
        seen=stores.seen,
        ledger=stores.ledger,
        scorer=fallback,
        committer=stores.committer,
        thresholds=stores.thresholds,
        off=Watch(stores.switches),
        config=config,
        critical_quota=stores.critical_quota,
        half_lives=stores.half_lives,
    )


def sources_of(settings: Settings) -> tuple[Source, ...]:
    """Return the sources of the scheduled lane, in order of precedence."""
    stores, features = stores_of(settings), features_of(settings)
    needs = Needs(stores.held, stores.follows, stores.ledger, heat_of(features, "users_1d"), burst_of(features), unseen_of(features))
    return open_sources(needs, settings.sources)


def recorder_of(settings: Settings, metrics: Metrics, flush_s: float = FLUSH_S) -> Recorder:
    """Return what counts lanes' reports, for the console and for Ray's metrics; see RedisRecorder for `flush_s`."""
    stores = stores_of(settings)
    to_store = RedisRecorder(stores.client, stores.meta, flush_s)

    def record(lane: Any, report: LaneReport) -> None:
        to_store(lane, report)
        metrics.count("tidings_candidates_total", report.candidates, lane=lane)
        if lane == "scheduled":
            metrics.count("tidings_windows_total", report.users)
            metrics.gauge("tidings_window_lag_s", report.late_s)
        for channel, sends in zip(stores.meta.channels, report.sends_by_channel.tolist(), strict=False):
            if sends:
                metrics.count("tidings_sends_total", sends, lane=lane, channel=channel)
        for outcome, rows in (("sent", report.critical_sent), ("refused", report.critical_refused)):
            if rows:
                metrics.count("tidings_critical_total", rows, outcome=outcome)
        for source, (proposed, sent) in report.by_source.items():
            metrics.count("tidings_source_candidates_total", proposed, source=source)
            metrics.count("tidings_source_sends_total", sent, source=source)

    return record


@cache
def make_lane(settings: Settings) -> tuple[ScheduledLane, Clock]:
    """Return the scheduled lane of a process that runs shards: assembled once, for its item table stays in step from then on."""
    stores = stores_of(settings)
    metrics = RayMetrics()
    score = serve.get_deployment_handle("Ranker", APP_NAME).score
    codes = stores.meta.channel_codes(settings.scheduled_channels)
    # A report for each shard's run is few, and Ray ends a worker that has been idle for a second.
    recorder = recorder_of(settings, metrics, flush_s=0.0)
    return ScheduledLane(pipeline_of(settings, score, metrics), stores.due, sources_of(settings), codes, recorder), stores.clock


def make_ticker(settings: Settings, owner: str) -> Ticker:
    """Return the ticker of a scheduler replica."""
    stores = stores_of(settings)
    runner = RayShards(partial(make_lane, settings), settings.shards_in_flight)
    return Ticker(owner, stores.clock, stores.due, stores.leases, runner, partial(every_day, settings))


def every_day(settings: Settings, now: float) -> None:
    """Do the day's work: learn thresholds, refresh and assign budgets in processes that end with it, for they take memory and the
    interpreter, tidy up.
    """
    learn_thresholds(settings, now)
    ray.get(ray.remote(num_cpus=0.5, max_calls=1)(refresh).remote(settings, now))
    if budgets_of(settings).has_work(now):
        ray.get(ray.remote(num_cpus=0.5, max_calls=1)(assign_budgets).remote(settings, now))
    if settings.history_days:
        History(settings.history).prune(now - settings.history_days * 86400)


def refresh(settings: Settings, now: float) -> Refreshed | None:
    """Publish everybody's features and windows by what is known now."""
    return refresh_of(settings).run(now)


def refresh_of(settings: Settings) -> Refresh:
    """Return the daily refresh of this deployment."""
    stores = stores_of(settings)
    living = Living(History(settings.history), stores.user_keys, stores.profiles, stores.items)
    windows = WindowRule(settings.scheduled_channels, settings.weekly)
    return Refresh(living, stores.loading(), features_of(settings), settings.tables, stores.half_lives, windows=windows)


def assign_budgets(settings: Settings, now: float) -> int:
    """See that the budgets of the week stand: on its first day they are assigned, on the others whoever lacks theirs is given it."""
    return budgets_of(settings).run(now)


def budgets_of(settings: Settings) -> BudgetJob:
    """Return the weekly job that learns budgets."""
    stores = stores_of(settings)
    return BudgetJob(
        stores.meta,
        stores.profiles,
        stores.user_keys,
        History(settings.history),
        refresh_of(settings).dataset,
        settings.learned_budgets,
        weekly_of(settings),
        BudgetJobConfig(explore=settings.explored_budgets),
    )


def weekly_of(settings: Settings) -> npt.NDArray[np.uint8]:
    """Return the deployment's budgets by channel code."""
    return np.array([settings.weekly.get(name, PipelineConfig().weekly_default) for name in stores_of(settings).meta.channels], np.uint8)


def learn_thresholds(settings: Settings, now: float) -> None:
    """Learn what a unit of each channel's budget is worth: to everybody from last week's log, and where set to each user, shard by shard.

    A shard that fails is logged and caught up with the next day.
    """
    learn_shared_thresholds(settings, now)
    if not settings.own_thresholds:
        return
    job = own_job(settings)
    for shard in range(stores_of(settings).meta.shards):
        try:
            job.run(shard, now)
        except Exception:
            log.exception("the thresholds of shard %d stay as they are: the next day reads this one too", shard)


def own_job(settings: Settings) -> OwnJob:
    """Return the daily job that keeps users' own thresholds."""
    stores = stores_of(settings)
    return OwnJob(
        stores.meta,
        stores.due,
        stores.profiles,
        stores.user_keys,
        stores.thresholds,
        History(settings.history),
        settings.scheduled_channels,
        weekly_of(settings),
        OwnConfig("steered" if isinstance(settings.own_thresholds, bool) else settings.own_thresholds),
        settings.holdout,
    )


def learn_shared_thresholds(settings: Settings, now: float) -> None:
    """Learn from last week's log what a unit of each channel's budget is worth to those without a threshold of their own."""
    stores = stores_of(settings)
    rows, share = last_week(History(settings.history), now, stores.meta.shards)
    told = int(stores.due.counts(FAR_SLOT).sum()) * (1 - settings.holdout.share)
    users = told * share * (believed(rows, now) if len(rows) else 1.0)
    weekly = dict(zip(stores.meta.channels, weekly_of(settings).tolist(), strict=True)) | settings.learned_budgets
    wanted = {name: users * mean for name, mean in weekly.items()}
    stores.thresholds.write(learn(rows, wanted) if len(rows) else {})


def links_of(settings: Settings) -> Links:
    """Return what signs and reads links in messages."""
    secret = settings.link_secret.get_secret_value() if settings.link_secret else os.environ.get("TIDINGS_LINK_SECRET")
    return Links(LinkSettings(base_url=settings.public_url, secrets=(secret or stores_of(settings).link_secret(),)))


def inbox_of(settings: Settings) -> Inbox:
    """Return the in-app inboxes."""
    stores = stores_of(settings)
    return RedisInbox(stores.client, stores.meta.keys)


def suppression_of(settings: Settings) -> Suppression:
    """Return who must not be written to."""
    stores = stores_of(settings)
    return Suppression(RedisSuppressionStore(stores.client, stores.meta.keys), stores.profiles, stores.meta)


def make_courier(settings: Settings, owner: str) -> Courier:
    """Return the courier of a replica: deliveries, and the filing of decisions and events."""
    stores = stores_of(settings)
    outbox, history = RedisOutbox(stores.client, stores.meta.keys), History(settings.history)
    events, log = RedisEventLog(stores.client, stores.meta.keys), stores.decision_log(history)
    resources = Resources(inbox=inbox_of(settings))
    parts = Parts(
        outbox=outbox,
        channels=open_channels(settings.channels, resources),
        stand_ins=open_stand_ins(settings.channels, resources),
        profiles=stores.profiles,
        items=stores.items,
        suppression=suppression_of(settings),
        templates=Templates(TemplateSettings(Path(settings.templates) if settings.templates else None), links_of(settings)),
        refund=stores.ledger.refund,
        meta=stores.meta,
        off=Watch(stores.switches),
    )

    def keep(frame: pd.DataFrame, shard: int, first: str, last: str) -> None:
        history.file("events", keyed(frame, stores.user_keys), at="at", shard=shard, first=first, last=last)

    def file_events(shard: int, _now: float) -> None:
        drain_events(events, shard, keep)

    def file_decisions(shard: int, _now: float) -> None:
        log.drain(shard)

    return Courier(
        CourierParts(
            dispatcher=Dispatcher(parts),
            outbox=outbox,
            leases=stores.leases,
            clock=stores.clock,
            metrics=RayMetrics(),
            keys=stores.meta.keys,
            housekeeping=(file_decisions, file_events),
            away_errors=STORE_AWAY,
        ),
        owner,
        CourierSettings(most_shards=None if settings.couriers == 1 else -(-stores.meta.shards // settings.couriers)),
    )


def feedback_of(settings: Settings) -> Feedback:
    """Return how events change features, what was seen, the ledger and suppression."""
    stores, features = stores_of(settings), features_of(settings)

    def engaged(rows: Sequence[EventRow]) -> None:
        users, items = [row["user_id"] for row in rows], [row["item_id"] for row in rows]
        features.record_engagements(items, users, [row["at"] for row in rows])
        stores.seen.add(users, hash64(items))

    def opened(rows: Sequence[EventRow]) -> None:
        users, grants = opened_grants(rows)
        if users:
            stores.ledger.mark_opened(users, grants)

    events = RedisEventLog(stores.client, stores.meta.keys)
    return Feedback(events, suppression_of(settings), Effects(engaged, opened))


def stories_of(settings: Settings) -> Stories:
    """Return what reads the story of a message."""
    stores, history = stores_of(settings), History(settings.history)
    client, meta = stores.client, stores.meta
    outbox, events = RedisOutbox(client, meta.keys), RedisEventLog(client, meta.keys)
    return Stories(stores.decision_log(history), outbox, events, history, stores.user_keys, meta.shards)


def gateway_services(settings: Settings, handles: Mapping[str, DeploymentHandle[Any]], metrics: Metrics) -> Services:
    """Return the parts behind the routes."""
    stores = stores_of(settings)
    ranker = handles["Ranker"]
    score_parts = ranker.explain  # taken once, as in HandleScorer
    pipeline = pipeline_of(settings, ranker.score, metrics)
    codes = stores.meta.channel_codes(settings.scheduled_channels)
    return Services(
        meta=stores.meta,
        clock=stores.clock,
        lane=UrgentLane(pipeline, stores.follows, stores.held, recorder_of(settings, metrics)),
        items=stores.items,
        profiles=stores.profiles,
        user_rows=RedisUserRows(stores.client, stores.meta.keys),
        follows=stores.follows,
        decisions=stores.decision_log(History(settings.history)),
        feedback=feedback_of(settings),
        suppression=suppression_of(settings),
        inbox=inbox_of(settings),
        links=links_of(settings),
        api_keys=RedisApiKeys(stores.client),
        idempotency=RedisIdempotency(stores.client, stores.meta.keys),
        fanout=RedisFanout(stores.client),
        dead_letters=DeadLetters(RedisOutbox(stores.client, stores.meta.keys), stores.meta.shards, stores.ledger.refund),
        overview=RedisOverview(stores.client, stores.meta, weekly_of(settings)),
        erase=partial(erase, settings),
        enroll=lambda users, now: reenroll(users, stores.loading(), now),
        export=export_of(stores, History(settings.history)),
        explain=lambda request, model_id: score_parts.remote(request, model_id).result(timeout_s=EXPLAIN_TIMEOUT_S),
        story=stories_of(settings).of,
        rehearse=ScheduledLane(pipeline, stores.due, sources_of(settings), codes).rehearse,
        checks={"store": stores.client.ping, "ranker": lambda: ranker.model_id.remote().result(timeout_s=5.0)},
        stand_ins=frozenset({"ranker"}),
        away_errors=AWAY_ERRORS,
        metrics=metrics,
        limits=settings.limits,
        rates=Rates(settings.rates, partial(redis_windows, stores.client)),
        dashboard_url=settings.dashboard_url,
        address_checks=address_checks(settings.channels),
        channels=settings.channel_names,
        offer=Offer(settings.kinds, tuple(name for name in settings.channel_names if name in stores.meta.channels)),
    )


def erase(settings: Settings, user_id: str, now: float) -> None:
    """Forget a user in every store and have the append-only file rewritten; rows about them in files can no longer be linked to anyone."""
    stores = stores_of(settings)
    RedisErasure(stores, History(settings.history))(user_id, now)
    rewrite_log(stores.client, wait=False)
