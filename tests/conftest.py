"""What every test may ask for: real tables, a real store, and hypothesis settings that give the same answer each run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from redis import Redis

from lake.embedded import EmbeddedStore
from tests.stores import short_folder, undaunted

TABLES = {
    "deskdrop": ("events", "items", "users"),
    "patch_reviews": ("events", "items", "sends", "users"),
    "git_activity": ("events",),
    "hillstrom": ("customers",),
    "open_bandit": ("bts_men", "random_men"),
    "prompts": ("mpath", "rowland2020"),
}

hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis.settings.register_profile("search", deadline=None, max_examples=1000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def tidings_data() -> Path:
    """The folder of real data: skips where TIDINGS_DATA is not set, fails where it is set and a table is missing."""
    folder = os.environ.get("TIDINGS_DATA")
    if not folder:
        pytest.skip("TIDINGS_DATA is not set: it names the folder that holds deskdrop/, patch_reviews/ and the other real tables")
    missing = [
        f"{name}/{table}.parquet" for name, tables in TABLES.items() for table in tables if not _table(folder, name, table).is_file()
    ]
    if missing:
        pytest.fail(f"TIDINGS_DATA={folder} lacks {', '.join(missing)}")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def data_table(tidings_data: Path) -> Callable[[str, str], Path]:
    """A function from data set and table to its Parquet file; a table that is not there fails the test."""

    def find(data_set: str, table: str) -> Path:
        path = _table(tidings_data, data_set, table)
        if not path.is_file():
            pytest.fail(f"TIDINGS_DATA={tidings_data} lacks {data_set}/{table}.parquet")
        return path

    return find


def _table(folder: str | Path, data_set: str, table: str) -> Path:
    return Path(folder) / data_set / f"{table}.parquet"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the store and the state of whoever runs it."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("TIDINGS_HOME", str(tmp_path / "tidings-home"))


@pytest.fixture(scope="session")
def embedded_store() -> Iterator[str]:
    """The URL of a Valkey that lives as long as the test session, as durable as the one that serves."""
    with short_folder() as folder, EmbeddedStore(folder) as store:
        yield store.url


@pytest.fixture
def redis_client(embedded_store: str) -> Iterator[Redis]:
    """A client of the session's store, emptied before each test."""
    with undaunted(embedded_store) as client:
        client.flushall()
        yield client
