"""Who may be told what: the rules that come before any score. Pure; every dropped row gets its disposition and reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from budgets.experiments import Holdout
from lake.decisions import DUPLICATE, EXPIRED, INELIGIBLE, PENDING, REASON, SUPPRESSED, Candidates, Lane
from lake.ids import Keys64, hash64
from lake.items import Items
from lake.key_lists import KeyLists
from lake.profiles import KNOWN, Profiles
from lake.switches import EVERYTHING

Bools = npt.NDArray[np.bool_]
_NOTHING = Items.from_rows([{"item_id": "", "created_at": 0.0}])
"""Stands in where no item of a batch is known, so that row -1 has something to point at."""

MAX_SKEW_S = 300.0
"""How far ahead of `now` an item may be dated before it counts as from the future."""


@dataclass(frozen=True)
class Sent:
    """What the users of a batch were granted before, one entry per grant.

    `user`: int32 codes. `entity`: uint64. `version`: uint32.
    """

    user: npt.NDArray[np.int32]
    entity: Keys64
    version: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Facts:
    """What eligibility looks at, besides the candidates.

    `items`: columns that hold the batch's items; `item_row`: int32 row of each distinct item of the batch, -1: unknown.
    `profiles`: one per distinct user. `allowed`: bool per candidate, the users' preferences by kind and channel.
    `seen`: hash64 of the items each distinct user engaged with lately.
    """

    items: Items
    item_row: npt.NDArray[np.int32]
    profiles: Profiles
    allowed: Bools
    sent: Sent
    seen: KeyLists


def eligible(
    rows: Candidates, facts: Facts, addressless: npt.NDArray[np.uint8], now: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return each row's disposition (PENDING where it may be sent) and reason, shape (n,).

    `addressless`: codes of channels that need no address. The first rule that drops a row names the reason.
    """
    disposition = np.full(len(rows), PENDING, np.uint8)
    reason = np.zeros(len(rows), np.uint8)
    facts = facts if len(facts.items) else replace(facts, items=_NOTHING)
    row = facts.item_row[rows.item]
    bit = np.uint32(1) << rows.channel.astype(np.uint32)
    flags, suppressed, addressed = (facts.profiles[name][rows.user] for name in ("flags", "suppressed", "addressed"))
    unknown_item = row < 0
    for drops, why, outcome in (
        (flags & KNOWN == 0, "unknown_user", INELIGIBLE),
        (unknown_item, "unknown_item", INELIGIBLE),
        (facts.items.created_at[row] > now + MAX_SKEW_S, "in_future", INELIGIBLE),
        (facts.items.expires_at[row] <= now, "item_expired", EXPIRED),
        (_author_is_recipient(rows, facts.items, row), "author_is_recipient", INELIGIBLE),
        (suppressed & bit != 0, "unsubscribed", SUPPRESSED),
        (~facts.allowed, "preference", INELIGIBLE),
        ((addressed & bit == 0) & ~np.isin(rows.channel, addressless), "no_address", INELIGIBLE),
        (_already_sent(rows, facts), "already_sent", DUPLICATE),
        (_already_engaged(rows, facts), "already_engaged", INELIGIBLE),
    ):
        first = drops & (disposition == PENDING)
        disposition[first], reason[first] = outcome, REASON[why]
    return disposition, reason


def switched_off(rows: Candidates, facts: Facts, off: frozenset[str], lane: Lane, channels: tuple[str, ...]) -> Bools:
    """Return which rows belong to what is off (see lake.switches), shape (n,). `channels`: names by code."""
    if off & {EVERYTHING, f"lane:{lane}"}:
        return np.ones(len(rows), bool)
    by_channel = np.array([f"channel:{name}" in off for name in channels], bool)[rows.channel]
    by_source = np.array([f"source:{name}" in off for name in rows.sources], bool)[rows.source]
    kinds = hash64([name.removeprefix("kind:") for name in off if name.startswith("kind:")])
    row = facts.item_row[rows.item]
    return np.asarray(by_channel | by_source | ((row >= 0) & np.isin(np.append(facts.items.kind, np.uint64(0))[row], kinds)), np.bool_)


def held_out(rows: Candidates, holdout: Holdout, lane: Lane) -> Bools:
    """Return which rows a user of the holdout does without, shape (n,): all that is scheduled, and nothing of the urgent lane.

    What the urgent lane has put off to the user's window is not scheduled, and goes.
    """
    if lane != "scheduled" or not holdout.share:
        return np.zeros(len(rows), bool)
    waited = rows.source == rows.sources.index("held") if "held" in rows.sources else np.zeros(len(rows), bool)
    return np.asarray(holdout.holds(rows.users)[rows.user] & ~waited, np.bool_)


def _author_is_recipient(rows: Candidates, items: Items, row: npt.NDArray[np.int32]) -> Bools:
    mine = hash64(rows.users)
    return np.asarray(items.author[row] == mine[rows.user], np.bool_)


def _already_sent(rows: Candidates, facts: Facts) -> Bools:
    """Whether the row's entity was granted to its user before, on any channel, in this or a newer version."""
    sent = facts.sent
    if len(sent.user) == 0 or len(rows) == 0:
        return np.zeros(len(rows), bool)
    entity = np.where(facts.item_row >= 0, facts.items.entity[facts.item_row], np.uint64(0))
    entities, of_item = np.unique(entity, return_inverse=True)
    at, relevant = _places(entities, sent.entity)
    user, at, version = sent.user[relevant], at[relevant], sent.version[relevant]
    there = np.zeros((len(rows.users), len(entities)), bool)
    there[user, at] = True
    again = np.flatnonzero(there[rows.user, of_item[rows.item]])
    pair, asked = user.astype(np.int64) * len(entities) + at, rows.user[again].astype(np.int64) * len(entities) + of_item[rows.item[again]]
    order = np.lexsort((version, pair))
    newest = version[order][np.searchsorted(pair[order], asked, side="right") - 1]
    repeats = np.zeros(len(rows), bool)
    repeats[again] = facts.items.version[facts.item_row[rows.item[again]]] <= newest
    return repeats


def _already_engaged(rows: Candidates, facts: Facts) -> Bools:
    """Whether the user engaged with the row's item of their own accord; an update of it is another item, and news."""
    if len(facts.seen.keys) == 0 or len(rows) == 0:
        return np.zeros(len(rows), bool)
    items, of_item = np.unique(hash64(rows.items), return_inverse=True)
    at, relevant = _places(items, facts.seen.keys)
    engaged = np.zeros((len(rows.users), len(items)), bool)
    engaged[facts.seen.user[relevant], at[relevant]] = True
    return np.asarray(engaged[rows.user, of_item[rows.item]], np.bool_)


def _places(distinct: Keys64, keys: Keys64) -> tuple[npt.NDArray[np.intp], Bools]:
    """Return where keys stand among ascending ones, and which of them are there at all."""
    at = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    return at, distinct[at] == keys
