"""A small world, a model of it, and homes short enough for sockets."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from lake.dataset import Dataset
from simulation.world import generate
from simulation.world_parameters import WorldParameters
from tests.stores import short_folder
from tidings.learning import train_bundle

PARAMETERS = WorldParameters(users=300, items=600, weeks=8)


@dataclass(frozen=True)
class SmallWorld:
    """Tables on disk and a model that has seen all but their last week. `end_at`: when their history ends, seconds."""

    data: Path
    model: Path
    history: Dataset
    end_at: float

    @property
    def users(self) -> list[str]:
        """Everybody."""
        return list(self.history.users["user_id"])


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> SmallWorld:
    """The world and its model, made once."""
    folder = tmp_path_factory.mktemp("world")
    history = Dataset.of(generate(PARAMETERS, 1))
    history.save(folder / "data")
    until = pd.Timestamp(PARAMETERS.end_at - 7 * 86400, unit="s", tz="UTC")
    train_bundle(Dataset.of_checked(history.tables, until), until, folder / "model")
    return SmallWorld(folder / "data", folder / "model", history, PARAMETERS.end_at)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A TIDINGS_HOME for the module's system, its store in memory; pytest's own folders can be too long for Ray's sockets."""
    folder = Path(tempfile.mkdtemp(prefix="tidings-"))
    with short_folder() as store:
        (folder / "store").symlink_to(store)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
