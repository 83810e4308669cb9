"""`tidings refresh` and `tidings collect`: what has happened since the tables were loaded, for features and for training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from lake.collected import Living
from lake.errors import InputError
from lake.history import History
from ranking.redis_features import RedisFeatureStore
from scheduler.redis_stores import RedisStores
from scheduler.refreshing import Refresh
from tidings.console import Json, emit, step
from tidings.home import history_url, loaded_tables
from tidings.reaching import reachable

DataOption = Annotated[
    Path | None, typer.Option(help="The tables that the store was loaded from; by default those of the system that runs here.")
]
HistoryOption = Annotated[str | None, typer.Option(help="Where what happens is filed; by default that of the system that runs here.")]


def register(app: typer.Typer) -> None:
    """Add `refresh` and `collect`."""
    app.command("refresh")(refresh)
    app.command("collect")(collect)


def refresh(data: DataOption = None, history: HistoryOption = None, as_json: Json = False) -> None:
    """Publish everybody's features as of the last midnight, and the windows that follow; the scheduler does so at 03:20 UTC."""
    with _refresh(data, history) as (job, now), step("computing features and windows"):
        done = job.run(now)
    if done is None:
        raise InputError("nobody has done anything yet: there are no events in the tables and none have been posted")
    as_of = f"{pd.Timestamp(done.as_of, unit='s', tz='UTC'):%Y-%m-%d %H:%M} UTC"
    emit(asdict(done), as_json=as_json, summary=f"features of {done.users:,} users as of {as_of}")


def collect(
    into: Annotated[Path, typer.Option(help="The folder of tables to write.")],
    data: DataOption = None,
    history: HistoryOption = None,
    as_json: Json = False,
) -> None:
    """Write users, items, events and sends as known now: the tables loaded at first, and what has happened since."""
    with _refresh(data, history) as (job, now), step("reading what has happened"):
        dataset = job.dataset(now)
        if dataset is None:
            raise InputError("nobody has done anything yet: there are no events in the tables and none have been posted")
        dataset.save(into)
    rows = {name: len(frame) for name, frame in dataset.tables.items() if len(frame)}
    emit({"into": str(into), "rows": rows}, as_json=as_json, summary=f"{into}: {', '.join(f'{n:,} {name}' for name, n in rows.items())}")


@contextmanager
def _refresh(data: Path | None, history: str | None) -> Iterator[tuple[Refresh, float]]:
    """Yield the refresh of the deployment this machine talks to, and the store's time."""
    tables = str(data) if data is not None else loaded_tables()
    with reachable() as url:
        stores = RedisStores.open(url)
        living = Living(History(history_url(history)), stores.user_keys, stores.profiles, stores.items)
        yield Refresh(living, stores.loading(), RedisFeatureStore(stores.client, stores.meta.keys), tables), stores.clock.now()
