"""What Serve says of a running system, asked over its dashboard."""

from __future__ import annotations

import httpx
from ray.serve.schema import ServeInstanceDetails

from tidings.home import State
from tidings.system import ray_environment

PATH = "/api/serve/applications/"


def details(state: State) -> ServeInstanceDetails:
    """Return the state of Serve as its dashboard tells it; raises httpx.HTTPError where the dashboard does not answer."""
    headers = {"Authorization": f"Bearer {ray_environment()['RAY_AUTH_TOKEN']}"}
    answer = httpx.get(state.dashboard_url + PATH, headers=headers, timeout=10.0).raise_for_status()
    return ServeInstanceDetails.model_validate(answer.json())


def deployments(state: State) -> dict[str, str]:
    """Return each deployment's status and replicas."""
    applications = details(state).applications.values()
    return {
        name: f"{deployment.status.value.lower()}, {len(deployment.replicas)} replica{'' if len(deployment.replicas) == 1 else 's'}"
        for application in applications
        for name, deployment in application.deployments.items()
    }
