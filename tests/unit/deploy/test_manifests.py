"""The manifests are what Ray accepts, agree with one another, and fit the application they deploy."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve import Application
from ray.serve._private.build_app import build_app
from ray.serve.schema import ServeDeploySchema

import serve_app
from lake.items import MemoryItemStore
from lake.meta import Meta
from lake.metrics import MemoryMetrics

ROOT = Path(__file__).parents[3]
PLANNING = {"plan": {"windows": 3, "day_cap": 2, "least_gap_s": 7200.0}}
FAST_PATH = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1", "RAY_SERVE_ENABLE_HA_PROXY": "1"}


def _load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return content


@pytest.fixture(scope="module")
def ray_version() -> str:
    """The version of Ray in the lock."""
    found = re.search(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    return _load("cluster.yaml")


@pytest.fixture
def serve_config() -> dict[str, Any]:
    return _load("serve.yaml")


@pytest.fixture
def ray_service() -> dict[str, Any]:
    return _load("deploy/kuberay.yaml")


def _containers(ray_service: dict[str, Any]) -> list[dict[str, Any]]:
    spec = ray_service["spec"]["rayClusterConfig"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [container for group in groups for container in group["template"]["spec"]["containers"]]


def test_ray_accepts_the_cluster_as_ray_up_prepares_it(cluster: dict[str, Any]) -> None:
    validate_config(prepare_config(copy.deepcopy(cluster)))


def test_ray_refuses_a_cluster_with_an_unknown_field(cluster: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="max_wrokers"):
        validate_config(prepare_config(cluster | {"max_wrokers": 3}))


def test_the_cluster_scales_rankers_and_keeps_one_head(cluster: dict[str, Any]) -> None:
    ranker = cluster["available_node_types"]["ranker"]
    assert 0 < ranker["min_workers"] < ranker["max_workers"] <= cluster["max_workers"]
    assert cluster["head_node_type"] == "head"


def test_every_node_runs_the_locked_ray(cluster: dict[str, Any], ray_service: dict[str, Any], ray_version: str) -> None:
    image = f"rayproject/ray:{ray_version}-"
    assert cluster["docker"]["image"].startswith(image)
    assert f"FROM {image}" in (ROOT / "deploy/Dockerfile").read_text()
    assert ray_service["spec"]["rayClusterConfig"]["rayVersion"] == ray_version


def test_every_node_takes_the_fast_path_and_wants_a_token(cluster: dict[str, Any], ray_service: dict[str, Any]) -> None:
    options = cluster["docker"]["run_options"]
    assert {f"--env {name}={value}" for name, value in {**FAST_PATH, "RAY_AUTH_MODE": "token"}.items()} <= set(options)
    assert ray_service["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}
    for container in _containers(ray_service):
        assert FAST_PATH.items() <= {variable["name"]: variable.get("value") for variable in container["env"]}.items()


def test_serve_knows_every_field_of_its_configuration(serve_config: dict[str, Any]) -> None:
    parsed = ServeDeploySchema.model_validate(serve_config)
    assert parsed.model_dump(mode="json", exclude_unset=True) == serve_config


def test_the_application_takes_the_arguments_it_is_given(serve_config: dict[str, Any]) -> None:
    (application,) = serve_config["applications"]
    assert application["import_path"] == "serve_app:app"
    assert application["name"] == serve_app.APP_NAME
    settings = serve_app.Settings.model_validate(application["args"])
    assert isinstance(serve_app.app(settings), Application)


def test_plans_are_made_where_the_arguments_ask_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = MagicMock(meta=Meta(shards=1, channels=("in_app",)), items=MemoryItemStore())
    monkeypatch.setattr(serve_app, "stores_of", lambda _: stores)
    args: dict[str, Any] = {"model": "/model"}
    plans = [
        serve_app.pipeline_of(serve_app.Settings.model_validate(args | more), MagicMock(), MemoryMetrics()).config.plan
        for more in ({}, PLANNING)
    ]
    assert [(plan.windows, plan.day_cap, plan.least_gap_s) for plan in plans] == [(0, 6, 3600.0), (3, 2, 7200.0)]
    for wrong in ({"windows": -1}, {"windows": 1, "day_cap": 0}, {"window": 3}):
        with pytest.raises(ValueError, match="plan"):
            serve_app.Settings.model_validate(args | {"plan": wrong})


def test_those_are_held_out_whom_the_arguments_say(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = MagicMock(meta=Meta(shards=1, channels=("in_app",)), items=MemoryItemStore())
    monkeypatch.setattr(serve_app, "stores_of", lambda _: stores)
    args: dict[str, Any] = {"model": "/model"}
    settings = [serve_app.Settings.model_validate(args | more) for more in ({}, {"holdout": {"share": 0.05, "salt": "2026"}})]
    assert [serve_app.pipeline_of(each, MagicMock(), MemoryMetrics()).config.holdout.share for each in settings] == [0.0, 0.05]
    assert serve_app.own_job(settings[1]).holdout == settings[1].holdout
    for wrong in ({"share": 0.9}, {"share": -0.1}, {"part": 0.1}):
        with pytest.raises(ValueError, match="holdout"):
            serve_app.Settings.model_validate(args | {"holdout": wrong})


def test_the_configuration_names_the_deployments_there_are_and_scales_rankers(serve_config: dict[str, Any]) -> None:
    deployments = {each["name"]: each for each in serve_config["applications"][0]["deployments"]}
    application = serve_app.app(serve_app.Settings.model_validate(serve_config["applications"][0]["args"]))
    built = build_app(application, name=serve_app.APP_NAME, default_runtime_env={})
    assert set(deployments) == {each.name for each in built.deployments}
    assert deployments["Ranker"]["autoscaling_config"]["min_replicas"] < deployments["Ranker"]["autoscaling_config"]["max_replicas"]


def test_the_manifest_for_kubernetes_deploys_what_serve_deploy_does(serve_config: dict[str, Any], ray_service: dict[str, Any]) -> None:
    embedded = yaml.safe_load(ray_service["spec"]["serveConfigV2"])
    ServeDeploySchema.model_validate(embedded)
    assert embedded == serve_config


def test_the_manifest_for_kubernetes_is_a_ray_service(ray_service: dict[str, Any]) -> None:
    assert (ray_service["apiVersion"], ray_service["kind"]) == ("ray.io/v1", "RayService")
    cluster = ray_service["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"] is True
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert all(mount["name"] in volumes for container in pod["containers"] for mount in container["volumeMounts"])
    for group in cluster["workerGroupSpecs"]:
        assert 0 < group["minReplicas"] <= group["replicas"] < group["maxReplicas"]


def test_pods_ask_for_what_they_may_use_and_open_the_port_that_serves(ray_service: dict[str, Any], serve_config: dict[str, Any]) -> None:
    for container in _containers(ray_service):
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert serve_config["http_options"]["port"] in {port["containerPort"] for port in container["ports"]}


def test_no_manifest_holds_a_secret(ray_service: dict[str, Any]) -> None:
    for container in _containers(ray_service):
        (url,) = (variable for variable in container["env"] if variable["name"] == "REDIS_URL")
        assert url["valueFrom"]["secretKeyRef"]["name"] == "tidings-store"
    assert "redis_url" not in (ROOT / "serve.yaml").read_text()
