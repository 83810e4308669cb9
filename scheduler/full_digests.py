"""What the urgent lane tells along with what has just come: held rows whose digest it fills, so that they need not wait any longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lake.decisions import Candidates
from lake.ids import combine
from lake.items import ItemTable
from scheduler.digests import DigestRule, keyed
from scheduler.held import HeldStore


def with_filled(
    rows: Candidates, critical: npt.NDArray[np.bool_], held: HeldStore, table: ItemTable, rules: Sequence[DigestRule], now: float
) -> Candidates:
    """Return urgent rows and, behind them, what is held of each digest that has as many things to tell as it may with them.

    Held rows become part of the request that filled their digest; a `critical` request (bool, by request) goes by itself and fills none.
    What is newer of an entity stands for what is held of it. One read of what the users have held; none where no rule lets anything wait.
    """
    patient = np.array([*(rule.wait_s > 0 for rule in rules), False])
    if not patient.any():
        return rows
    both = _with_held(rows, held, now)
    items, item_row = table.with_missing(both.items)
    item = item_row[both.item]
    known = np.flatnonzero(item >= 0)
    keys = keyed(both.take(known), items, item[known], rules)
    joins = patient[keys.rule] & ((known >= len(rows)) | ~critical[both.request[known]])
    told, rule, key = known[joins], keys.rule[joins], keys.key[joins]
    _, first, digest = np.unique(combine(both.user[told], both.channel[told], key), return_index=True, return_inverse=True)
    entity = combine(digest, items.entity[item[told]])
    _, thing = np.unique(entity, return_index=True)
    is_full = np.bincount(digest[thing], minlength=len(first)) >= np.array([*(rule.size for rule in rules)])[rule[first]]
    came = told < len(rows)
    request = np.full(len(first), -1, np.int32)
    request[digest[came]] = both.request[told[came]]
    along = ~came & is_full[digest] & (request[digest] >= 0) & ~np.isin(entity, entity[came])
    both.request[told[along]] = request[digest[along]]
    return both.take(np.concatenate([np.arange(len(rows)), told[along]]))


def sorted_by_user(rows: Candidates, order: npt.NDArray[np.intp]) -> tuple[Candidates, npt.NDArray[np.intp]]:
    """Return rows sorted by user, and their order with whatever stood behind the ordered ones counted on."""
    if len(rows) == len(order):
        return rows, order
    place = np.argsort(rows.user, kind="stable")
    return rows.take(place), np.concatenate([order, np.arange(len(order), len(rows))])[place]


def _with_held(rows: Candidates, held: HeldStore, now: float) -> Candidates:
    """Return rows, those that are asked for again while they are held among what was held, and behind them all else that is held."""
    items = {item_id: code for code, item_id in enumerate(rows.items)}
    kept = [
        (user, items.setdefault(row.item_id, len(items)), row.channel)
        for user, mine in enumerate(held.read(rows.users))
        for row in mine
        if row.expires_at > now
    ]
    user, item, channel = np.array(kept, np.int32).reshape(-1, 3).T
    kept_as, asked_as = combine(user, item, channel), combine(rows.user, rows.item, rows.channel)
    anew = ~np.isin(kept_as, asked_as)
    number, source = int(anew.sum()), np.uint8(len(rows.sources))
    return replace(
        rows,
        items=list(items),
        user=np.concatenate([rows.user, user[anew]]),
        item=np.concatenate([rows.item, item[anew]]),
        channel=np.concatenate([rows.channel, channel[anew].astype(np.uint8)]),
        source=np.concatenate([np.where(np.isin(asked_as, kept_as), source, rows.source), np.full(number, source)]),
        sources=(*rows.sources, "held"),
        request=np.concatenate([rows.request, np.zeros(number, np.int32)]),
    )
