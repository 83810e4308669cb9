"""Who may call what, and how soon a revoked key stops working."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api_keys import ApiKey, MemoryApiKeys, check_scopes, digest_of, new_key, split_token
from gateway.app import create_app
from gateway.auth import CACHED_S, MAX_CACHED, Gatekeeper
from gateway.problems import ProblemError
from lake.clock import HeldClock
from lake.errors import InputError
from tests.unit.gateway.conftest import NOW, World, client_of
from tests.unit.gateway.problems import problem_of


@dataclass
class CountingKeys(MemoryApiKeys):
    """Keys that count how often they are looked up."""

    reads: list[str] = field(default_factory=list)

    def get(self, key_id: str) -> ApiKey | None:
        self.reads.append(key_id)
        return super().get(key_id)


@dataclass
class Door:
    """A gatekeeper with hands on its clocks."""

    keys: CountingKeys = field(default_factory=CountingKeys)
    clock: HeldClock = field(default_factory=lambda: HeldClock(NOW))
    passed_s: float = 0.0

    def __post_init__(self) -> None:
        self.gatekeeper = Gatekeeper(self.keys, self.clock, lambda: self.passed_s)

    def token(self, *scopes: str, lifetime_s: float | None = None) -> str:
        key, token = new_key(scopes, NOW, lifetime_s=lifetime_s)
        self.keys.put(key)
        return token

    async def status(self, token: str, scope: str = "urgent") -> int:
        try:
            await self.gatekeeper.admit(f"Bearer {token}", [scope])
        except ProblemError as problem:
            return problem.status
        return 200


@pytest.fixture
def door() -> Door:
    return Door()


async def test_a_key_opens_what_its_scopes_name_and_nothing_else(door: Door) -> None:
    token = door.token("urgent", "events")
    assert await door.status(token, "urgent") == await door.status(token, "events") == 200
    assert await door.status(token, "users") == 403


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic dTpw", "Bearer tk_x", "Bearer tk__x", "Bearer xx_id_secret"])
async def test_what_is_no_key_is_refused_without_asking_the_store(door: Door, header: str | None) -> None:
    with pytest.raises(ProblemError) as refused:
        await door.gatekeeper.admit(header, ["urgent"])
    assert refused.value.status == 401
    assert door.keys.reads == []


async def test_a_wrong_secret_is_refused(door: Door) -> None:
    token = door.token("urgent")
    assert await door.status(token[:-1] + ("a" if token[-1] != "a" else "b")) == 401
    assert await door.status(token) == 200


async def test_a_revoked_key_stops_working_within_the_time_it_is_cached(door: Door) -> None:
    token = door.token("urgent")
    assert await door.status(token) == 200
    door.keys.revoke(token.split("_")[1])
    door.passed_s = CACHED_S
    assert await door.status(token) == 401


async def test_an_expired_key_is_refused(door: Door) -> None:
    token = door.token("urgent", lifetime_s=60)
    assert await door.status(token) == 200
    door.clock.at, door.passed_s = NOW + 60, CACHED_S
    assert await door.status(token) == 401


async def test_many_requests_at_once_look_a_key_up_once(door: Door) -> None:
    token = door.token("urgent")
    assert await asyncio.gather(*(door.status(token) for _ in range(100))) == [200] * 100
    assert len(door.keys.reads) == 1


async def test_forged_ids_do_not_fill_the_memory(door: Door) -> None:
    door.gatekeeper._seen = {str(i): None for i in range(MAX_CACHED)}  # type: ignore[misc]  # only their number matters
    assert await door.status("tk_forged_secret") == 401
    assert len(door.gatekeeper._seen) == 1


async def test_a_store_that_is_away_is_not_mistaken_for_an_unknown_key(world: World) -> None:
    class Away(MemoryApiKeys):
        def get(self, key_id: str) -> ApiKey | None:
            raise ConnectionError(f"no answer about {key_id}")

    app = create_app(world.services(api_keys=Away()))
    async with client_of(app, "tk_id_secret") as client:
        problem_of(await client.get("/v1/users/u1"), 503)


async def test_every_route_under_v1_wants_a_key_before_it_looks_at_anything(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    guarded = [(method, path) for path, operations in paths.items() for method in operations if path.startswith("/v1/")]
    assert len(guarded) >= 15
    for method, path in guarded:
        answer = await client.request(method, path.replace("{", "").replace("}", ""), content=b"nonsense", headers={"Authorization": ""})
        problem_of(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_key_without_the_scope_is_told_which_one_it_lacks(world: World) -> None:
    async with client_of(create_app(world.services()), world.token("events")) as client:
        assert "urgent" in problem_of(await client.post("/v1/urgent", content=b"nonsense"), 403)["detail"]


def test_only_a_hash_of_the_secret_is_kept() -> None:
    key, token = new_key(("urgent",), NOW)
    secret = token.split("_", 2)[2]
    assert secret not in repr(key)
    assert key.digest == digest_of(secret)
    assert len(secret) >= 43


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_is_not(text: str) -> None:
    parts = split_token(text)
    assert parts is None or f"tk_{parts[0]}_{parts[1]}" == text


def test_tokens_split_into_what_they_were_made_of() -> None:
    for _ in range(100):
        key, token = new_key(("read",), NOW)
        parts = split_token(token)
        assert parts is not None
        assert parts[0] == key.id
        assert key.opens(parts[1], NOW)


def test_an_unknown_scope_is_named_with_those_there_are() -> None:
    with pytest.raises(InputError, match=r"'admin'.*urgent:critical"):
        check_scopes(["urgent", "admin"])
    with pytest.raises(InputError, match="needs a scope"):
        check_scopes([])
