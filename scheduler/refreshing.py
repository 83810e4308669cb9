"""The daily refresh of a running deployment: features and windows of everybody, half-lives of kinds, from all that has happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from lake.collected import Living, collected
from lake.dataset import Dataset
from ranking.refresh import Refreshed, refresh
from ranking.store import FeatureStore
from scheduler.delivery_delays import opening_earlier
from scheduler.half_lives import HalfLifeConfig, HalfLives, MemoryHalfLives, learned_half_lives
from scheduler.loading import Stores, move_windows
from scheduler.send_time import fit
from scheduler.window_counts import WindowRule


@dataclass(frozen=True)
class Refresh:
    """What a refresh reads and writes. `tables`: the folder that the deployment was loaded from, "" for none.

    `windows`: how many each user has; they open earlier by what messages were lately on their way.
    """

    living: Living
    stores: Stores
    features: FeatureStore
    tables: str = ""
    half_lives: HalfLives = field(default_factory=MemoryHalfLives)
    fading: HalfLifeConfig = field(default_factory=HalfLifeConfig)
    windows: WindowRule = field(default_factory=WindowRule)

    def run(self, now: float) -> Refreshed | None:
        """Publish everybody's features as of the last midnight before `now` (seconds), and the windows and half-lives that follow.

        None without events.

        Counts of items stay: the store keeps them up to date by itself. Repeating it changes nothing.
        """
        dataset = self.dataset(now)
        if dataset is None:
            return None
        done = refresh(dataset, now, self.features)
        windows = opening_earlier(self.windows, dataset, now)
        move_windows(dataset.users["user_id"].tolist(), self.stores, now, fit(dataset.events, dataset.users, now=now), windows)
        self.half_lives.write(learned_half_lives(dataset, now, self.fading))
        return done

    def dataset(self, now: float) -> Dataset | None:
        """Return all that is known before `now`."""
        return collected(Dataset.load(self.tables) if self.tables else None, self.living, now)
