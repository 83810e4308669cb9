"""The one decision both lanes share: eligible -> score -> decide -> commit -> log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from budgets.allowance import allowance, weekly_budget
from budgets.critical_quota import CriticalQuota, MemoryCriticalQuota, UnspentQuota, uses_of
from budgets.experiments import Holdout
from budgets.ledger import Ledger, LedgerColumns, granted_by_others, used
from budgets.pacing import PacingConfig, paced_budget, places_left, told_for_s
from delivery.preferences import KindRules, allowed
from lake.decisions import (
    BELOW_THRESHOLD,
    HOLD,
    INELIGIBLE,
    OVER_BUDGET,
    PENDING,
    REASON,
    SEND,
    SUPPRESSED,
    Candidates,
    Decided,
    is_any,
)
from lake.ids import hash64, shards_of
from lake.items import ItemTable
from lake.meanwhile import meanwhile
from lake.meta import Meta
from lake.profiles import HAS_KIND_PREFERENCES, Profiles, ProfileStore
from lake.seen import SeenStore
from lake.switches import nothing_off
from ranking.diversity import DiversityRule
from scheduler.batch import Batch, Bools, Known, Occasion
from scheduler.commit import Committer
from scheduler.committing import Committing
from scheduler.critical import PER_DAY, Bill, charge, settle
from scheduler.decide import DecideConfig, Rows, decide
from scheduler.digests import DigestRule, Keyed, is_update, keyed, together
from scheduler.eligibility import Facts, Sent, eligible, held_out, switched_off
from scheduler.exploration import ExploreConfig, draws_of, explore
from scheduler.grants import grant_ids
from scheduler.half_lives import HalfLives, MemoryHalfLives, OfKinds
from scheduler.late import LateConfig, too_late
from scheduler.lately import Lately
from scheduler.novelty import Novelty
from scheduler.planning import Lasting, Plan, PlanConfig, plan_ahead, sent_before, upcoming
from scheduler.riders import Leads, follow
from scheduler.scoring import Scorer
from scheduler.thresholds import MemoryThresholds, Thresholds
from scheduler.waiting import HourConfig, likelier, value_later
from scheduler.windows import NO_SLOT

LEARNED_FRESH_S = 60.0
"""How long a pipeline goes by the thresholds and half-lives it has read."""

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PipelineConfig:
    """What a deployment decides about its decisions.

    `weekly`: default budget per channel name and rolling 7 days, `weekly_default` where a channel is absent.
    `threshold`: least value worth a unit, per channel name (0 where absent), under the learned ones. `addressless`: channels that need no
    address. `half_life_s`: how fast value decays where neither the item nor its kind says. `hours`: how much the hour of the next window
    counts against that. `deliver_within_s`: a grant not delivered
    by then expires. `log_share`: share of the unsent rows that is logged, with its weight. `diversity`: how much less is worth what is like
    what was sent lately. `explore`: how often a runner-up is sent instead. `plan`: how far ahead a scheduled window looks.
    `late`: what a window that is decided late still sends.
    `critical_per_day`: critical rows that an API key without a quota of its own may cause per UTC day.
    `holdout`: who gets nothing that is scheduled.
    `digests`: what is told together; of several rules that apply to an item the first counts.
    `pacing`: how budgets are spread over lanes, days and users' first weeks.
    """

    weekly: dict[str, int] = field(default_factory=lambda: {"in_app": 10, "push": 5, "email": 3})
    weekly_default: int = 3
    threshold: dict[str, float] = field(default_factory=dict)
    addressless: tuple[str, ...] = ("in_app", "console", "maildir")
    half_life_s: float = 86400.0
    hours: HourConfig = field(default_factory=HourConfig)
    deliver_within_s: float = 86400.0
    log_share: float = 1.0
    decide: DecideConfig = field(default_factory=DecideConfig)
    diversity: DiversityRule = field(default_factory=DiversityRule)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    late: LateConfig = field(default_factory=LateConfig)
    critical_per_day: int = PER_DAY
    holdout: Holdout = field(default_factory=Holdout)
    digests: tuple[DigestRule, ...] = ()
    pacing: PacingConfig = field(default_factory=PacingConfig)


@dataclass
class Pipeline:
    """Runs decisions. Blocks for the store (profiles, ledger, commit) and the ranker and raises what they raise; a
    repeat of the same decision then finds the grants that were made.
    """

    meta: Meta
    profiles: ProfileStore
    table: ItemTable
    seen: SeenStore
    ledger: Ledger
    scorer: Scorer
    committer: Committer
    thresholds: Thresholds = field(default_factory=MemoryThresholds)
    off: Callable[[], frozenset[str]] = nothing_off
    config: PipelineConfig = field(default_factory=PipelineConfig)
    critical_quota: CriticalQuota = field(default_factory=MemoryCriticalQuota)
    half_lives: HalfLives = field(default_factory=MemoryHalfLives)

    def known(self, users: list[str]) -> Known:
        """Return what is known of users, read at once."""
        ledger, seen = meanwhile(lambda: self.ledger.read(users)), meanwhile(lambda: self.seen.of(users))
        return Known(self.profiles.get(users), ledger.result(), seen.result())

    def run(self, rows: Candidates, decision_ids: list[str], occasion: Occasion, now: float, known: Known | None = None) -> Decided:
        """Decide every candidate and commit the outcome; the rows come back in the candidates' order.

        A dry occasion settles them on a copy of the ledgers, and commits nothing but their entry in the log. `rows` are
        sorted by user. `decision_ids`: one per request. `known`: of the batch's users, where the lane has read it already.
        """
        batch = self._look_up(rows, decision_ids, occasion, now, self.known(rows.users) if known is None else known)
        decided = self._eligible(batch)
        decided = self._scored(decided, batch)
        leads = self._propose(decided, batch)
        bills = self._charge(decided, batch)
        decided = self._committing.commit(decided, batch, leads)
        settle(decided, bills, self.critical_quota)
        return decided

    def _look_up(self, rows: Candidates, decision_ids: list[str], occasion: Occasion, now: float, known: Known) -> Batch:
        items, item_row = self.table.with_missing(rows.items)
        profiles, ledger = known.profiles, granted_by_others(known.ledger, decision_ids)
        weekly = self._weekly(profiles, ledger, now, is_urgent=occasion.lane == "urgent")
        may_go = allowance(used(ledger, len(rows.users), len(self.meta.channels), now), weekly)
        shard = np.full(len(rows.users), occasion.shard) if occasion.shard >= 0 else shards_of(rows.users, self.meta.shards)
        return Batch(rows, profiles, items, item_row, known.seen, ledger, may_go, weekly, occasion, decision_ids, now, shard, known.times)

    def _eligible(self, batch: Batch) -> Decided:
        sent = Sent(batch.ledger.user, batch.ledger.entity, batch.ledger.version)
        facts = Facts(batch.items, batch.item_row, batch.profiles, self._allowed(batch), sent, batch.seen)
        disposition, reason = eligible(batch.rows, facts, self._addressless, batch.now)
        if off := self.off():
            stopped = switched_off(batch.rows, facts, off, batch.occasion.lane, self.meta.channels) & (disposition == PENDING)
            disposition[stopped], reason[stopped] = SUPPRESSED, REASON["switched_off"]
        # The last rule of all: what it takes is what would have been decided on, which is whom the others are to be compared with.
        without = held_out(batch.rows, self.config.holdout, batch.occasion.lane) & (disposition == PENDING)
        disposition[without], reason[without] = INELIGIBLE, REASON["holdout"]
        n = len(batch.rows)
        return Decided(
            candidates=batch.rows,
            probability=np.full(n, np.nan, np.float32),
            value=np.full(n, np.nan, np.float32),
            threshold=self._threshold(batch),
            propensity=np.zeros(n, np.float32),
            allowance=batch.allowance[batch.rows.user, batch.rows.channel],
            disposition=disposition,
            reason=reason,
            grant_id=np.zeros(n, np.uint64),
            decision_ids=batch.decision_ids,
            lane=batch.occasion.lane,
            model_id="",
            at=batch.now,
            dry=batch.occasion.dry,
        )

    def _scored(self, decided: Decided, batch: Batch) -> Decided:
        wanted = np.flatnonzero((decided.disposition == PENDING) & ~batch.critical)
        if len(wanted) == 0:
            return decided
        scores = self.scorer(batch.rows.take(wanted), self.meta.channels, batch.now, batch.occasion.lane)
        decided.probability[wanted] = scores.probability
        is_cut = wanted[np.isnan(scores.value)]
        decided.disposition[is_cut], decided.reason[is_cut] = BELOW_THRESHOLD, REASON["over_candidate_limit"]
        user, item = batch.rows.user[wanted], batch.item[wanted]
        decided.value[wanted] = self._novelty.demote(scores.value, user, batch.items, item, batch.ledger, self.table, batch.now)
        return replace(decided, model_id=scores.model_id)

    def _propose(self, decided: Decided, batch: Batch) -> Leads:
        """Propose what becomes of the rows that are pending; returns the leads of those that are told with others."""
        pending = np.flatnonzero(decided.disposition == PENDING)
        rows = batch.rows.take(pending)
        keys = keyed(rows, batch.items, batch.item[pending], self.config.digests)
        contest = Rows(
            user=rows.user,
            item=rows.item,
            entity=batch.items.entity[batch.item[pending]],
            channel=rows.channel,
            value=decided.value[pending],
            threshold=decided.threshold[pending],
            value_later=self._value_later(decided, pending, batch),
            critical=batch.critical[pending],
        )
        if not self.config.digests:
            self._contest(contest, pending, decided, batch)
            return {}
        sent = batch.ledger
        fresh = ~is_update(rows.user, contest.entity, sent.user, sent.entity)
        joins = (contest.value >= contest.threshold) & ~contest.critical & fresh
        told = together(keys, contest.user, contest.channel, contest.entity, contest.value, joins, self.config.digests)
        patient = joins & self._lets_wait(keys, contest, batch)
        goes = told.full & (batch.allowance[contest.user, contest.channel] > 0)
        later = np.where(patient & ~goes, np.float32(np.inf), contest.value_later)
        decides = told.contends
        self._contest(replace(contest, entity=told.entity, value_later=later).take(decides), pending[decides], decided, batch)
        leads = follow(told, keys, self.config.digests, pending, decided)
        # What a full digest has no room or no unit for waits as it would have without it.
        still = pending[patient & is_any(decided.disposition[pending], HOLD, OVER_BUDGET)]
        decided.disposition[still], decided.reason[still] = HOLD, REASON["awaits_digest"]
        return leads

    def _contest(self, contest: Rows, pending: npt.NDArray[np.intp], decided: Decided, batch: Batch) -> None:
        """Decide rows against one another."""
        may_go, places = batch.allowance, self._places(batch)
        if batch.occasion.lane == "scheduled" and self.config.plan.windows > 0:
            plan = self._plan(contest, pending, batch)
            contest, may_go = replace(contest, value=plan.value, value_later=plan.later), plan.allowance
            places = plan.places if places is None else np.minimum(plan.places, places)
        rule = self.config.decide if batch.occasion.lane == "scheduled" else replace(self.config.decide, least_kept=1.0)
        best, why = decide(contest, may_go, rule, places)
        # What ends in quiet hours can not wait for their end, and a window that is decided late may have come into them.
        disturbs = (best == SEND) & batch.quiet[contest.user] & ~contest.critical
        best[disturbs], why[disturbs] = INELIGIBLE, REASON["quiet_hours"]
        shed = too_late(contest, best, batch.late_s, self.config.late)
        best[shed], why[shed] = OVER_BUDGET, REASON["window_late"]
        # Last, since a row that was drawn and then taken away for what it is worth would have had another chance than its propensity.
        draws = self._draws(batch, batch.rows.take(pending))
        disposition, reason, propensity = explore(contest, may_go, (best, why), draws, self.config.explore)
        decided.disposition[pending], decided.reason[pending], decided.propensity[pending] = disposition, reason, propensity

    def _charge(self, decided: Decided, batch: Batch) -> list[Bill]:
        """Let the keys of critical requests pay for what is about to be sent; a batch without any costs nothing."""
        if not batch.occasion.critical.any():
            return []
        rows = np.flatnonzero((decided.disposition == SEND) & batch.critical)
        uses = uses_of(grant_ids(batch.rows, batch.items, batch.item[rows], rows), batch.decision_ids, batch.rows.request[rows])
        quota = UnspentQuota(self.critical_quota) if decided.dry else self.critical_quota
        return charge(decided, rows, uses, batch.occasion.payers, quota, self.config.critical_per_day)

    def _places(self, batch: Batch) -> npt.NDArray[np.int64] | None:
        """Return how many sends of each user the day's cap and the gap leave for now, None where neither is set."""
        pacing = self.config.pacing
        if not pacing.day_cap and not pacing.least_gap_s:
            return None
        before = sent_before(batch.ledger, batch.profiles, batch.now)
        return places_left(before.today, before.since_s, pacing, is_urgent=batch.occasion.lane == "urgent")

    def _draws(self, batch: Batch, rows: Candidates) -> npt.NDArray[np.float64]:
        """Return what chance says of each user's window: the same in a repeat, which has the same slot or, without one, decision id."""
        if self.config.explore.share == 0:
            return np.ones((2, 0))
        request = np.zeros(len(batch.rows.users), np.int32)
        request[rows.user[::-1]] = rows.request[::-1]
        slot, decision = batch.occasion.slot, hash64(batch.decision_ids)[request]
        return draws_of(np.where(slot == NO_SLOT, decision, slot.astype(np.uint64)), hash64(batch.rows.users))

    def _value_later(self, decided: Decided, pending: npt.NDArray[np.intp], batch: Batch) -> F32:
        """What a row will be worth in its user's next window: halved every half-life, more at a better hour, nothing once expired."""
        if batch.occasion.lane == "scheduled":
            return np.full(len(pending), -np.inf, np.float32)
        item, user, half_life_s = batch.item[pending], batch.rows.user[pending], self._half_life_s(batch, pending)
        profiles, now, value = batch.profiles, batch.now, decided.value[pending]
        better = likelier(profiles, batch.times, now, now + batch.wait_s, self.config.hours)[user]
        kept = np.exp2(-batch.wait_s[user] / half_life_s)
        later = value_later(value, decided.threshold[pending], kept, better, self.config.decide.least_kept)
        later = np.where(batch.quiet[user], np.inf, later)
        expired = batch.items.expires_at[item] <= batch.now + batch.wait_s[user]
        return np.where(expired | np.isnan(value), -np.inf, later).astype(np.float32)

    def _lets_wait(self, keys: Keyed, contest: Rows, batch: Batch) -> Bools:
        """Return which rows may wait to be told with others: their next window is not too far, nor too late for them."""
        longest = np.array([*(rule.wait_s for rule in self.config.digests), 0.0])[keys.rule]
        return np.asarray((longest > 0) & (batch.wait_s[contest.user] <= longest) & np.isfinite(contest.value_later), np.bool_)

    def _half_life_s(self, batch: Batch, pending: npt.NDArray[np.intp]) -> F32:
        item = batch.item[pending]
        own, of_kind = batch.items.half_life_s[item], self._of_kinds.at(batch.now).find(batch.items.kind[item], self.config.half_life_s)
        return np.where(np.isnan(own), of_kind, own).astype(np.float32)

    @cached_property
    def _of_kinds(self) -> Lately[OfKinds]:
        """The learned half-lives."""
        return Lately(lambda: OfKinds.of(self.half_lives.read()), LEARNED_FRESH_S)

    def _plan(self, contest: Rows, pending: npt.NDArray[np.intp], batch: Batch) -> Plan:
        """Return the joint plan of the batch's users from this window on."""
        rows, config = batch.rows, self.config
        held = rows.source[pending] == rows.sources.index("held") if "held" in rows.sources else np.zeros(len(pending), bool)
        lasting = Lasting(self._half_life_s(batch, pending), batch.items.expires_at[batch.item[pending]], held)
        ahead = upcoming(batch.profiles, batch.now, config.plan.windows)
        before = sent_before(batch.ledger, batch.profiles, batch.now)
        return plan_ahead(contest, lasting, ahead, before, batch.allowance, batch.now, config.decide, config.plan)

    @cached_property
    def _committing(self) -> Committing:
        return Committing(self.meta, self.committer, self.config.deliver_within_s, self.config.log_share)

    def _allowed(self, batch: Batch) -> Bools:
        picky = np.flatnonzero(batch.profiles["flags"] & HAS_KIND_PREFERENCES)
        told: list[list[dict[str, Any]]] = [[]] * len(batch.rows.users)
        if len(picky):
            for user, rows in zip(picky.tolist(), self.profiles.preferences([batch.rows.users[user] for user in picky]), strict=True):
                told[user] = rows
        kind = np.append(batch.items.kind, np.uint64(0))[batch.item]
        return allowed(batch.profiles, KindRules.of(told, self.meta), batch.rows.user, kind, batch.rows.channel)

    def _weekly(self, profiles: Profiles, ledger: LedgerColumns, now: float, *, is_urgent: bool) -> npt.NDArray[np.uint8]:
        default = np.array([self.config.weekly.get(name, self.config.weekly_default) for name in self.meta.channels], np.uint8)
        weekly = weekly_budget(profiles["budget"], default, profiles["dial"], profiles["learned"])
        told_s = told_for_s(ledger, len(profiles), now) if self.config.pacing.ramp_days else np.zeros(len(profiles))
        return paced_budget(weekly, told_s, self.config.pacing, is_urgent=is_urgent)

    def _threshold(self, batch: Batch) -> F32:
        """Return the least value worth a unit, per row: the user's own where there is one, never less than the deployment's."""
        of_channel = self._thresholds.at(batch.now)[batch.rows.channel]
        own = self.thresholds.own(batch.rows.users, batch.shard, batch.now)
        if own is None:
            return of_channel
        mine = own[batch.rows.user, batch.rows.channel]
        least = np.array([max(self.config.threshold.get(name, 0.0), 0.0) for name in self.meta.channels], np.float32)[batch.rows.channel]
        return np.where(np.isnan(mine), of_channel, np.maximum(mine, least))

    @cached_property
    def _thresholds(self) -> Lately[F32]:
        """The least value worth a unit, per channel code: the learned one, but never less than the deployment's own."""

        def read() -> F32:
            learned, floor = self.thresholds.read(), self.config.threshold
            return np.array([max(learned.get(name, -np.inf), floor.get(name, 0.0)) for name in self.meta.channels], np.float32)

        return Lately(read, LEARNED_FRESH_S)

    @cached_property
    def _novelty(self) -> Novelty:
        return Novelty(self.config.diversity)

    @cached_property
    def _addressless(self) -> npt.NDArray[np.uint8]:
        return np.array(self.meta.channel_codes([name for name in self.config.addressless if name in self.meta.channels]), np.uint8)
