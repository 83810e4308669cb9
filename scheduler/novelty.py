"""What a decision's users were sent lately, as facets that candidates can be compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from budgets.ledger import LedgerColumns
from lake.ids import Keys64
from lake.items import Items, ItemTable
from ranking.diversity import DiversityRule, Facets, demoted, factors

F32 = npt.NDArray[np.float32]

FRESH_S = 10.0
"""How long one goes by an index of the items: urgent requests bring new ones all the time, and sorting a large table is slow."""


@dataclass(frozen=True)
class Index:
    """The items of one state of the table by entity, ascending; replaced as a whole, since threads share it. `made_at`: seconds."""

    generation: int
    made_at: float
    entity: Keys64
    author: Keys64
    topics: Keys64

    @staticmethod
    def of(items: Items, generation: int, now: float) -> Index:
        """Return the index of items."""
        order = np.argsort(items.entity, kind="stable")
        return Index(generation, now, items.entity[order], items.author[order], items.topics[order])

    def facets(self, ledger: LedgerColumns) -> Facets:
        """Return what grants were about, without author and topics where the entity is not here."""
        if not len(self.entity):
            return Facets(ledger.user, ledger.entity, np.zeros(len(ledger), np.uint64), np.zeros((len(ledger), 1), np.uint64))
        place = np.minimum(np.searchsorted(self.entity, ledger.entity), len(self.entity) - 1)
        known = self.entity[place] == ledger.entity
        return Facets(ledger.user, ledger.entity, self.author[place] * known, self.topics[place] * known[:, None])


@dataclass
class Novelty:
    """Demotes candidates by what the ledger says was sent.

    A grant names an entity; its author and topics come from the item table, so of items that have left the table, or came into it within
    FRESH_S, only the entity counts.
    """

    rule: DiversityRule
    _index: Index | None = None

    @property
    def is_on(self) -> bool:
        """Whether anything is demoted at all."""
        return max(self.rule.entity, self.rule.author, self.rule.topic) > 0

    def demote(
        self,
        value: F32,
        user: npt.NDArray[np.int32],
        items: Items,
        item: npt.NDArray[np.int32],
        ledger: LedgerColumns,
        table: ItemTable,
        now: float,
    ) -> F32:
        """Return the values of candidates less what they share with their users' grants; `item`: rows of `items`, all known."""
        told = np.isin(user, ledger.user) if len(ledger) and self.is_on else np.zeros(len(user), bool)
        if not told.any():
            return value
        row = item[told]
        used = max(1, int((items.topics[row] != 0).sum(axis=1).max(initial=0)))
        candidates = Facets(user[told], items.entity[row], items.author[row], items.topics[row, :used])
        changed = value.copy()
        changed[told] = demoted(value[told], factors(candidates, self._indexed(table, now).facets(ledger), now - ledger.at, self.rule))
        return changed

    def _indexed(self, table: ItemTable, now: float) -> Index:
        snapshot, index = table.snapshot(), self._index
        if index is None or (index.generation != snapshot.generation and not 0 <= now - index.made_at < FRESH_S):
            index = self._index = Index.of(snapshot.items, snapshot.generation, now)
        return index
