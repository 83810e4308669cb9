"""The models that a replica holds: the one that serves, the one before it, and the challenger; kept in step with the registry."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from lake.errors import InputError
from lake.items import ItemTable
from ranking import bundle as bundles
from ranking.bundle import Bundle
from ranking.light import MOST_PER_USER
from ranking.popularity import UNTRAINED, Worth
from ranking.registry import Registry, Standing
from ranking.scorer import Scorer
from ranking.store import FeatureStore
from ranking.value import ValueRule

log = logging.getLogger(__name__)


def popular_in_service(model: Path) -> Worth:
    """Return what popularity is worth, as the training of the model in service found it; where that cannot be had, a usual one.

    `model`: a registry's folder, or a bundle's.
    """
    try:
        return bundles.popular(Registry.served(model)) or UNTRAINED
    except (InputError, OSError) as error:
        log.warning("popularity, where it stands in for a model, goes by usual rates: %s", error)
        return UNTRAINED


@dataclass(frozen=True)
class Held:
    """The models in memory; replaced as a whole, so that whoever took it once sees one state. `before`: what served last, if anything."""

    serving: Scorer
    before: Scorer | None = None
    challenger: Bundle | None = None

    def scorer(self, model_id: str) -> Scorer:
        """Return the scorer of a model, the serving one where it is "" or not held; an answer says which model it is of."""
        return self.before if self.before is not None and model_id == self.before.model_id else self.serving


class InService:
    """Loads what the registry, or a plain bundle's folder, says is to serve, to rank by `rule`. One thread calls `look`, any reads `held`.

    `problem`: why the registry's wish could not be followed, "" where it was; what was held then goes on serving.
    """

    def __init__(
        self,
        model: Path,
        store: FeatureStore,
        table: ItemTable,
        threads: int,
        most_per_user: int = MOST_PER_USER,
        rule: ValueRule | None = None,
    ) -> None:
        self._registry = Registry(model) if Registry.is_at(model) else None
        self._store, self._table, self._threads = store, table, threads
        self._most_per_user, self._rule = most_per_user, rule or ValueRule()
        self._standing = self._registry.standing() if self._registry else Standing()
        self.held = Held(self._scorer(replace(bundles.load(Registry.served(model), threads=threads), rule=self._rule)))
        self.problem = ""
        self._challenge(self._standing.challenger)

    @property
    def may_change(self) -> bool:
        """Whether there is a registry to look at."""
        return self._registry is not None

    def look(self) -> bool:
        """Follow the registry; loads, verified in a process of its own, what it names anew. Returns whether anything changed."""
        if self._registry is None:
            return False
        try:
            standing = self._registry.standing()
            if standing == self._standing:
                return False
            self._serve(standing.serving)
        except InputError as error:
            self.problem = str(error)
            return False
        self._standing, self.problem = standing, ""
        self._challenge(standing.challenger)
        return True

    def loaded(self, model_id: str) -> Bundle:
        """Return a model for a look back: a held one, else from the registry; raises BundleError or RegistryError where it is gone."""
        held = self.held
        for bundle in (held.serving.bundle, held.before.bundle if held.before else None, held.challenger):
            if bundle is not None and bundle.model_id == model_id:
                return bundle
        return self._read(model_id, threads=1)

    def _read(self, model_id: str, threads: int) -> Bundle:
        if self._registry is None:
            raise bundles.BundleError(f"model {model_id} is not at hand: this deployment has no registry of models")
        return replace(bundles.load(self._registry.folder_of(model_id), threads=threads), rule=self._rule)

    def _serve(self, model_id: str) -> None:
        held = self.held
        if model_id == held.serving.model_id:
            return
        before = held.before if held.before is not None and held.before.model_id == model_id else None
        self.held = Held(before or self._scorer(self._read(model_id, self._threads)), held.serving, None)

    def _challenge(self, model_id: str) -> None:
        """Load the challenger; one that does not load challenges nothing, and what serves is none the worse for it."""
        held = self.held
        challenger = None
        try:
            if model_id and model_id != held.serving.model_id:
                challenger = self.loaded(model_id)
        except InputError as error:
            self.problem = str(error)
        self.held = Held(held.serving, held.before, challenger)

    def _scorer(self, bundle: Bundle) -> Scorer:
        return Scorer(bundle, self._store, self._table, most_per_user=self._most_per_user)
