"""The whole interface as its own schema tells it, asked with what nobody would expect: answers keep to the schema, errors are problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from requests import Request
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from gateway.app import create_app
from gateway.problems import MEDIA_TYPE
from gateway.routes import inbox
from tests.unit.gateway.conftest import EVERYTHING, World


@schemathesis.serializer("message/rfc822")
def mail(_context: Any, value: Any) -> bytes:
    """Return a mail as it is: it is bytes already, or a text that stands for it."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
REFUSALS = [str(status) for status in (400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429)]
EXAMPLES = 25
OPERATIONS = {
    (method, path): operation
    for path, methods in create_app(World(Path()).services()).openapi()["paths"].items()
    for method, operation in methods.items()
}
ANYTHING = {("post", "/v1/reports")}
CAN_BE_WRONG = [
    (method, path)
    for (method, path), operation in OPERATIONS.items()
    if ("requestBody" in operation or path.startswith("/v1/")) and (method, path) not in ANYTHING
]
"""The others take any text, or nothing."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One world for all requests: what one put another finds."""
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def caller(world: World) -> Iterator[TestClient]:
    """Who asks a gateway in this process, its streams ending at once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inbox, "LOOK_S", 0.0)
        patched.setattr(inbox, "LOOKS", 1)
        with TestClient(create_app(world.services()), raise_server_exceptions=False, follow_redirects=False) as client:
            client.headers["Authorization"] = f"Bearer {world.token(*EVERYTHING)}"
            yield client


@pytest.fixture(scope="module")
def api(caller: TestClient) -> schemathesis.BaseSchema:
    # The caller has a key: requests that are wrong are wrong in what they ask. Those without a key have a test of their own.
    config = SchemathesisConfig.from_dict(
        {
            "generation": {"with-security-parameters": False},
            # Its own list of refusals lacks 413: what is wrong may be too large as well.
            "checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}},
        }
    )
    return schemathesis.openapi.from_dict(caller.get("/openapi.json").json(), config=config)


def ask(api: schemathesis.BaseSchema, caller: TestClient, method: str, path: str, mode: GenerationMode) -> None:
    """Ask one operation again and again, within (positive) or beyond (negative) what its schema allows."""
    checks = CHECKS if mode is GenerationMode.POSITIVE else [*CHECKS, negative_data_rejection]

    @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def once(case: schemathesis.Case[Any]) -> None:
        sent = Request(**case.as_transport_kwargs(base_url="http://testserver")).prepare()
        body = sent.body.encode() if isinstance(sent.body, str) else sent.body
        answer = caller.request(str(sent.method), str(sent.url), content=body, headers=list(sent.headers.items()))
        case.validate_response(answer, checks=checks)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == MEDIA_TYPE
            assert set(answer.json()) >= {"type", "title", "status", "detail"}

    once()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_schema_allows_is_answered_as_it_says(api: schemathesis.BaseSchema, caller: TestClient, method: str, path: str) -> None:
    ask(api, caller, method, path, GenerationMode.POSITIVE)


@pytest.mark.parametrize(("method", "path"), CAN_BE_WRONG)
def test_what_the_schema_forbids_ends_in_a_problem(api: schemathesis.BaseSchema, caller: TestClient, method: str, path: str) -> None:
    ask(api, caller, method, path, GenerationMode.NEGATIVE)
