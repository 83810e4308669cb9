"""Several nodes: rankers spread over them, grow under load and shrink after it, and every score stays right."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
from ray import serve
from ray.cluster_utils import Cluster
from ray.serve.context import _get_global_client
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ServeInstanceDetails

import serve_app
from lake.embedded import EmbeddedStore
from lake.history import History
from lake.items import ItemTable
from lake.profiles import blank
from lake.user_keys import keyed
from ranking import bundle as bundles
from ranking.ray_ranker import Ranking
from ranking.scorer import Scorer, ScoreRequest
from tests.integration.waiting import until
from tests.unit.ranking.models import write_bundle

pytestmark = pytest.mark.timeout(600)

NODES = 3
AT = 1_700_000_000.0
CALLERS, ROWS = 60, 10_000
"""So few that neither a request nor its answer takes 100 kB: above that Ray would put them into its object store, which fills up."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, home: Path) -> Iterator[serve_app.Settings]:
    """One to three rankers, which come and go within seconds, on a store of their own."""
    folder = tmp_path_factory.mktemp("cluster")
    with EmbeddedStore(home / "store") as store:
        yield settings_of(folder, store.url)


def settings_of(folder: Path, store_url: str) -> serve_app.Settings:
    made = serve_app.Settings(
        model=str(write_bundle(folder / "model")),
        redis_url=store_url,
        history=str(folder / "history"),
        ticking=False,
        rankers=(1, NODES),
        ranker_cpus=1.0,
        autoscaling={"upscale_delay_s": 1, "downscale_delay_s": 5, "look_back_period_s": 5, "metrics_interval_s": 1},
    )
    serve_app.stores_of(made).items.put([{"item_id": f"i{n}", "created_at": AT - n, "topics": ["a"]} for n in range(20)])
    return made


@pytest.fixture(scope="module")
def score(settings: serve_app.Settings, home: Path) -> Iterator[DeploymentHandle[Ranking]]:
    """The ranker's method, of an application on three nodes of two CPUs each, so that nothing but choice spreads what it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(home))  # nobody else's ray.init shall find this cluster
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        for _ in range(NODES - 1):
            cluster.add_node(num_cpus=2)
        ray.init(address=cluster.address, log_to_driver=False)
        serve.start(proxy_location="Disabled")
        serve.run(serve_app.app(settings), name=serve_app.APP_NAME)
        yield serve.get_deployment_handle("Ranker", serve_app.APP_NAME).score
        shut_down: Callable[[], None] = serve.shutdown
        shut_down()
        ray.shutdown()
        cluster.shutdown()
        with warnings.catch_warnings():  # Ray leaves the processes it stopped unwaited for
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


def nodes_of_rankers() -> list[str]:
    """Return the node of each ranker that runs."""
    client = _get_global_client()
    assert client is not None
    details = ServeInstanceDetails.model_validate(client.get_serve_details())
    replicas = details.applications[serve_app.APP_NAME].deployments["Ranker"].replicas
    return [str(replica.node_id) for replica in replicas if replica.state == "RUNNING"]


def a_window(seed: int) -> ScoreRequest:
    random = np.random.default_rng(seed)
    users, items = [f"u{seed}-{n}" for n in range(50)], [f"i{n}" for n in random.permutation(20)]
    user, item = random.integers(0, 50, ROWS).astype(np.int32), random.integers(0, 20, ROWS).astype(np.int32)
    return ScoreRequest(users, items, user, item, np.zeros(ROWS, np.uint8), ("in_app",), AT + seed)


def test_rankers_spread_over_nodes_under_load_and_go_when_it_is_over(
    settings: serve_app.Settings, score: DeploymentHandle[Ranking]
) -> None:
    assert len(nodes_of_rankers()) == 1
    windows, enough = [a_window(seed) for seed in range(6)], threading.Event()

    def ask(n: int) -> None:
        while not enough.is_set():
            score.remote(windows[n % len(windows)]).result(timeout_s=120)

    with ThreadPoolExecutor(CALLERS) as callers:
        asked = [callers.submit(ask, n) for n in range(CALLERS)]
        try:
            until(lambda: len(nodes_of_rankers()) == NODES, 240, "the rankers have grown to three")
            assert len(set(nodes_of_rankers())) == NODES
            assert all(right(settings, score, seed) for seed in range(6, 12))
        finally:
            enough.set()
    for each in asked:
        each.result()
    until(lambda: len(nodes_of_rankers()) == 1, 120, "the rankers have shrunk to one")
    assert right(settings, score, 12)


def right(settings: serve_app.Settings, score: DeploymentHandle[Ranking], seed: int) -> bool:
    """Return whether a ranker's scores are those of the same rows scored here."""
    asked = a_window(seed)
    there = score.remote(asked).result(timeout_s=300)
    stores = serve_app.ranker_stores(settings)
    scorer = Scorer(bundles.load(Path(settings.model), verified=True), stores.features, ItemTable(stores.items))
    here = scorer.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, float(asked.at))
    return bool(np.array_equal(there.probability, here.probability))


def test_the_days_work_is_done_on_the_cluster(settings: serve_app.Settings, score: DeploymentHandle[Ranking]) -> None:
    del score
    stores, day = serve_app.stores_of(settings), pd.Timedelta(days=1)
    at = pd.Timestamp(AT, unit="s", tz="UTC")
    stores.profiles.put(["ann"], blank(1))
    events = pd.DataFrame({"user_id": "ann", "item_id": "i1", "kind": "view", "at": [at - n * day for n in range(5)]})
    History(settings.history).write("events", keyed(events, stores.user_keys), at="at", shard=0, name="a")
    long_ago = events.assign(at=at - 200 * day)
    History(settings.history).write("events", keyed(long_ago, stores.user_keys), at="at", shard=0, name="long-ago")
    serve_app.every_day(settings, AT + 86400)
    assert History(settings.history).read("events", 0.0, (at - 100 * day).timestamp()).empty
    found = serve_app.features_of(settings).get(["ann"], ["i1"])
    assert found.known.tolist() == [True]
    assert found.refreshed_at == (AT // 86400 + 1) * 86400
