"""Every route but the urgent one, with good and bad input."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr

from delivery.channels.apprise import AppriseSettings
from delivery.channels.email import EmailSettings
from delivery.channels.registry import ChannelSettings, address_checks
from delivery.channels.webhook import WebhookSettings
from delivery.outbox import Outcome
from gateway.app import create_app
from lake.follows import Followed
from lake.ids import shard_of
from lake.profiles import NO_OFFSET, NO_WINDOW, blank
from tests.unit.delivery.examples import a_message
from tests.unit.gateway.conftest import EVERYTHING, META, NOW, World, client_of
from tests.unit.gateway.problems import problem_of

EVENT = {"user_id": "u1", "kind": "open", "item_id": "i1", "at": "2023-11-14T22:00:00Z", "event_id": "e1"}


async def test_an_event_counts_once(client: httpx.AsyncClient, world: World) -> None:
    assert (await client.post("/v1/events", json=EVENT)).json() == {"accepted": 1, "duplicates": 0}
    assert (await client.post("/v1/events", json=[EVENT, EVENT | {"event_id": "e2"}])).json() == {"accepted": 1, "duplicates": 1}
    assert world.metrics.counters["tidings_events_total", ()] == 2


async def test_an_event_without_a_time_happened_now(client: httpx.AsyncClient, world: World) -> None:
    assert (await client.post("/v1/events", json={"user_id": "u1", "kind": "visit"})).status_code == 202
    kept = [row for shard in range(META.shards) for _, row in world.events.read(shard, 10)]
    assert kept == [{"user_id": "u1", "kind": "visit", "at": NOW}]


async def test_ten_thousand_events_are_taken_at_once_and_one_more_is_not(client: httpx.AsyncClient) -> None:
    events = [{"user_id": f"u{i}", "kind": "open"} for i in range(10_001)]
    assert (await client.post("/v1/events", json=events[:-1])).json() == {"accepted": 10_000, "duplicates": 0}
    assert "10000" in problem_of(await client.post("/v1/events", json=events), 422)["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({"kind": "open"}, "user_id"),
        ([EVENT, {"user_id": "u1"}], "[1].kind"),
        (EVENT | {"at": "2023-11-14T22:00:00"}, "at"),
        (EVENT | {"at": "2023-11-15T00:00:00Z"}, "at"),
        ([EVENT, EVENT | {"at": "2023-11-15T00:00:00Z"}], "[1].at"),
        (EVENT | {"user_id": "u\x00"}, "user_id"),
        (EVENT | {"kind": "open\r\n"}, "kind"),
        (EVENT | {"utc_offset_minutes": 1000}, "utc_offset_minutes"),
        (EVENT | {"kind": "unsubscribe", "channel": "pigeon"}, "channel"),
        (EVENT | {"kind": "bounce"}, "channel"),
        ([EVENT, EVENT | {"kind": "complaint", "channel": "pigeon"}], "[1].channel"),
    ],
)
async def test_a_bad_event_names_the_field_and_nothing_is_kept(client: httpx.AsyncClient, world: World, body: Any, field: str) -> None:
    assert problem_of(await client.post("/v1/events", json=body), 422)["errors"][0]["field"] == field
    assert not any(world.events.read(shard, 10) for shard in range(META.shards))


async def test_an_item_is_put_replaced_and_deleted(client: httpx.AsyncClient, world: World) -> None:
    url = "/v1/items/a/b%20c"
    assert (await client.put(url, json={"created_at": "2023-11-14T22:13:20Z", "topics": ["t"]})).status_code == 204
    assert world.items.get(["a/b c"]) == [{"item_id": "a/b c", "created_at": NOW, "topics": ["t"]}]
    assert (await client.put(url, json={"title": "New"})).status_code == 204
    assert world.items.get(["a/b c"]) == [{"item_id": "a/b c", "created_at": NOW, "title": "New"}]
    assert (await client.delete(url)).status_code == 204
    assert world.items.get(["a/b c"]) == [None]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"created_at": "2023-11-14T22:00:00"}, "created_at"),
        ({"created_at": "2024-11-14T22:00:00Z"}, "created_at"),
        ({"half_life_s": 0}, "half_life_s"),
        ({"topics": ["a\nb"]}, "topics[0]"),
        ({"version": -1}, "version"),
    ],
)
async def test_a_bad_item_names_the_field(client: httpx.AsyncClient, world: World, columns: dict[str, Any], field: str) -> None:
    assert problem_of(await client.put("/v1/items/i1", json=columns), 422)["errors"][0]["field"] == field
    assert world.items.rows == {}


async def test_ids_with_control_characters_are_refused_in_paths_too(client: httpx.AsyncClient) -> None:
    assert problem_of(await client.put("/v1/items/i%00", json={}), 422)["errors"][0]["field"] == "item_id"
    assert problem_of(await client.put("/v1/users/u%0D%0A", json={}), 422)["errors"][0]["field"] == "user_id"


@pytest.mark.parametrize(
    ("method", "path", "part"),
    [
        ("PUT", "/v1/users/Ren%E9", "path"),
        ("DELETE", "/v1/users/%ED%A0%80", "path"),
        ("GET", "/v1/users/a%2F%FF/inbox", "path"),
        ("PUT", "/v1/items/%C3", "path"),
        ("GET", "/v1/decisions?user_id=Ren%E9", "query"),
    ],
)
async def test_an_id_that_is_not_utf_8_is_nobodys(client: httpx.AsyncClient, world: World, method: str, path: str, part: str) -> None:
    await client.put("/v1/users/%EF%BF%BD", json={})
    assert f"the {part} is not UTF-8" in problem_of(await client.request(method, path, json={} if method == "PUT" else None), 400)["detail"]
    assert (list(world.user_rows.rows), world.erased, world.items.rows) == (["\ufffd"], [], {})


async def test_a_user_reads_back_as_put_and_shapes_the_profile(client: httpx.AsyncClient, world: World) -> None:
    row = {"timezone": "Europe/Berlin", "locale": "de-DE", "latitude": 52.5, "longitude": 13.4, "created_at": "2023-11-14T22:13:20Z"}
    assert (await client.put("/v1/users/u1", json=row)).status_code == 204
    assert (await client.get("/v1/users/u1")).json() == {"user_id": "u1"} | row
    assert world.enrolled == ["u1"]
    profile = world.profiles.get(["u1"])[0]
    assert (profile["zone"], profile["utc_offset_minutes"], profile["created_at"]) == (b"Europe/Berlin", NO_OFFSET, NOW)


async def test_somebody_new_is_told_when_most_people_look_and_keeps_their_windows(client: httpx.AsyncClient, world: World) -> None:
    usual = blank(1)
    usual["windows"][0, :2] = 8 * 4, 21 * 4
    world.profiles.put_usual(usual)
    await client.put("/v1/users/u1", json={"timezone": "Asia/Tokyo"})
    windows = world.profiles.get(["u1"])["windows"][0]
    assert (windows[:2] // 4).tolist() == [8, 21]
    assert (windows[2:] == NO_WINDOW).all()
    world.profiles.put_usual(blank(1))
    await client.put("/v1/users/u1", json={"timezone": "Asia/Tokyo"})
    assert world.profiles.get(["u1"])["windows"][0].tolist() == windows.tolist()


async def test_putting_a_user_again_keeps_what_else_they_said(client: httpx.AsyncClient, world: World) -> None:
    await client.put("/v1/users/u1", json={})
    await client.put("/v1/users/u1/preferences", json=[{"channel": "email", "allowed": False}])
    await client.put("/v1/users/u1", json={"utc_offset_minutes": 60})
    assert world.profiles.get(["u1"])["not_allowed"][0] == 1 << META.channels.index("email")
    assert (await client.get("/v1/users/u1")).json() == {"user_id": "u1", "utc_offset_minutes": 60}


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", "/v1/items/i1", {"version": True}, "version"),
        ("PUT", "/v1/items/i1", {"version": "3"}, "version"),
        ("PUT", "/v1/items/i1", {"created_at": True}, "created_at"),
        ("PUT", "/v1/items/i1", {"half_life_s": True}, "half_life_s"),
        ("PUT", "/v1/users/u1", {"utc_offset_minutes": False}, "utc_offset_minutes"),
        ("PUT", "/v1/users/u1", {"latitude": "52.5", "longitude": 13}, "latitude"),
        ("POST", "/v1/events", {"user_id": "u1", "kind": "visit", "at": False}, "at"),
        ("POST", "/v1/urgent", {"item_id": "i1", "users": ["u1"], "critical": "no"}, "critical"),
        ("POST", "/v1/urgent", {"item_id": "i1", "users": ["u1"], "dry_run": 1}, "dry_run"),
        ("PUT", "/v1/users/u1/preferences", [{"allowed": "off"}], "[0].allowed"),
        ("PUT", "/v1/users/u1/preferences", [{"dial": True}], "[0].dial"),
    ],
)
async def test_a_value_of_another_kind_than_the_schema_says_is_refused(
    client: httpx.AsyncClient, method: str, path: str, body: Any, field: str
) -> None:
    assert problem_of(await client.request(method, path, json=body), 422)["errors"][0]["field"] == field


@pytest.mark.parametrize("at", ["2023-11-14T22:13:20Z", "2023-11-14T23:13:20+01:00", 1_700_000_000, 1_700_000_000.0, 1_700_000_000_000])
async def test_a_time_is_a_text_with_its_offset_or_a_number(client: httpx.AsyncClient, world: World, at: Any) -> None:
    assert (await client.put("/v1/items/i1", json={"created_at": at})).status_code == 204
    assert world.items.get(["i1"]) == [{"item_id": "i1", "created_at": NOW}]


@pytest.mark.parametrize(
    ("row", "field"),
    [({"timezone": "Mars/Olympus"}, "timezone"), ({"utc_offset_minutes": 99_999}, "utc_offset_minutes"), ({"latitude": -91}, "latitude")],
)
async def test_a_bad_user_names_the_field(client: httpx.AsyncClient, row: dict[str, Any], field: str) -> None:
    assert problem_of(await client.put("/v1/users/u1", json=row), 422)["errors"][0]["field"] == field
    problem_of(await client.get("/v1/users/u1"), 404)


async def test_erasing_a_user_is_handed_on(client: httpx.AsyncClient, world: World) -> None:
    assert (await client.delete("/v1/users/u1")).status_code == 204
    assert world.erased == ["u1"]


async def test_an_export_is_everything_that_was_put_and_done(client: httpx.AsyncClient, world: World) -> None:
    await client.put("/v1/users/u1", json={"timezone": "Europe/Berlin", "nickname": "Ada"})
    await client.put("/v1/users/u1/preferences", json=[{"channel": "email", "allowed": False}])
    await client.put("/v1/users/u1/addresses", json={"email": "ada@example.org"})
    await client.put("/v1/users/u1/follows", json={"topics": ["tea"], "authors": ["bob"]})
    await client.put("/v1/items/i1", json={"author_id": "u1", "title": "By Ada"})
    await client.post("/v1/events", json=[{"user_id": "u1", "kind": "open", "item_id": "i1"}, {"user_id": "u2", "kind": "visit"}])
    answer = await client.get("/v1/users/u1/export")
    assert answer.status_code == 200
    document = answer.json()
    assert document["profile"]["timezone"] == "Europe/Berlin"
    assert document["row"] == {"timezone": "Europe/Berlin", "nickname": "Ada"}
    assert document["addresses"] == {"email": "ada@example.org"}
    assert document["follows"] == {"topics": ["tea"], "authors": ["bob"]}
    assert [row["allowed"] for row in document["preferences"]] == [False]
    assert [row["kind"] for row in document["events"]] == ["open"]
    assert [row["title"] for row in document["items_of_their_own"]] == ["By Ada"]


async def test_an_export_tells_how_each_message_ended_with_every_attempt(client: httpx.AsyncClient, world: World) -> None:
    shard = shard_of("u1", META.shards)
    world.outbox.add(shard, [a_message(user_id="u1")])
    (entry,) = world.outbox.read(shard, "courier", 1, NOW, 60_000)
    tried = entry.answered(NOW - 5, "is busy").answered(NOW)
    world.outbox.settle(shard, [Outcome(tried, "accepted", "", "p1")], NOW)
    answer = await client.get("/v1/users/u1/export")
    assert answer.status_code == 200, answer.text
    (outcome,) = answer.json()["outcomes"]
    assert (outcome["state"], outcome["at"]) == ("accepted", "2023-11-14T22:13:20+00:00")
    assert outcome["tried"] == [
        {"at": "2023-11-14T22:13:15+00:00", "detail": "is busy"},
        {"at": "2023-11-14T22:13:20+00:00", "detail": ""},
    ]


@pytest.mark.parametrize("value", [1_700_000_000_000, 1e300, 5, True, ["a", 1.5]])
async def test_an_export_tells_columns_of_the_applications_own_as_they_came(client: httpx.AsyncClient, value: Any) -> None:
    await client.put("/v1/users/u1", json={"synced_at": value, "created_at": "2023-11-14T22:13:20Z"})
    await client.post("/v1/events", json={"user_id": "u1", "kind": "view", "synced_at": value})
    await client.put("/v1/items/i1", json={"author_id": "u1", "synced_at": value})
    answer = await client.get("/v1/users/u1/export")
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["row"] == {"synced_at": value, "created_at": "2023-11-14T22:13:20+00:00"}
    assert [row["synced_at"] for row in (*document["events"], *document["items_of_their_own"])] == [value, value]


async def test_there_is_no_export_of_nobody_nor_for_a_key_without_the_scope(client: httpx.AsyncClient, world: World) -> None:
    assert "nothing is held" in problem_of(await client.get("/v1/users/nobody/export"), 404)["detail"]
    headers = {"Authorization": f"Bearer {world.token('read', 'events', 'urgent')}"}
    problem_of(await client.get("/v1/users/u1/export", headers=headers), 403)


async def test_preferences_read_back_as_put_and_shape_the_profile(client: httpx.AsyncClient, world: World) -> None:
    await client.put("/v1/users/u1", json={})
    rows = [
        {"channel": "push", "allowed": False},
        {"kind": "digest", "allowed": True, "quiet_from": "22:00", "quiet_to": "07:00", "dial": -1},
    ]
    assert (await client.put("/v1/users/u1/preferences", json=rows)).status_code == 204
    assert (await client.get("/v1/users/u1/preferences")).json() == rows
    profile = world.profiles.get(["u1"])[0]
    assert (profile["quiet_from"], profile["quiet_to"], profile["dial"]) == (22 * 60, 7 * 60, -1)
    await client.put("/v1/users/u1/preferences", json=[])
    assert (await client.get("/v1/users/u1/preferences")).json() == []
    assert world.profiles.get(["u1"])[0]["quiet_from"] == -1


@pytest.mark.parametrize(
    "row", [{"quiet_from": "22:00"}, {"quiet_from": "25:00", "quiet_to": "07:00"}, {"dial": 3}, {"channel": "pigeon"}, {"alowed": False}]
)
async def test_a_preference_that_makes_no_sense_is_refused(client: httpx.AsyncClient, row: dict[str, Any]) -> None:
    await client.put("/v1/users/u1", json={})
    problem_of(await client.put("/v1/users/u1/preferences", json=[row]), 422)
    assert (await client.get("/v1/users/u1/preferences")).json() == []


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (b'{"x": "\\ud800"}', "not valid Unicode"),
        (b'{"\\ud800": 1}', "as a unicode string"),
        (b'{"": 1}', "no name of a column"),
        (b'{"a\\u0000": 1}', "no name of a column"),
        (b'{"x": 9223372036854775808}', "more than 64 bits"),
        (b'{"x": [1, -9223372036854775809]}', "more than 64 bits"),
        (b'{"x": 1e999}', "not a finite number"),
        (b'{"half_life_s": 1e300}', "less than or equal to 1000000000"),
        (b'{"latitude": 1}', "go together"),
        (b'{"expires_at": "1677-12-31T23:59:59Z"}', "from 1678 through 9999"),
        (b'{"created_at": "0001-01-01T00:00:00+14:00"}', "from 1678 through 9999"),
    ],
)
async def test_what_the_store_or_a_table_cannot_hold_is_refused(client: httpx.AsyncClient, world: World, row: bytes, problem: str) -> None:
    answer = await client.put("/v1/items/i1", content=row, headers={"Content-Type": "application/json"})
    assert problem in problem_of(answer, 422)["detail"]
    assert world.items.rows == {}


async def test_of_many_rows_the_wrong_one_is_named(client: httpx.AsyncClient, world: World) -> None:
    events = [{"user_id": "u1", "kind": "visit"}, {"user_id": "u1", "kind": "unsubscribe", "channel": "pigeon"}]
    assert problem_of(await client.post("/v1/events", json=events), 422)["errors"][0]["field"] == "[1].channel"
    own = [{"user_id": "u1", "kind": "visit"}, {"user_id": "u1", "kind": "visit", "user_key": "k"}]
    assert "[1]" in problem_of(await client.post("/v1/events", json=own), 422)["detail"]
    assert not any(world.events.read(shard, 10) for shard in range(META.shards))
    await client.put("/v1/users/u1", json={})
    rows = [{"allowed": True}, {"channel": "pigeon"}]
    assert problem_of(await client.put("/v1/users/u1/preferences", json=rows), 422)["errors"][0]["field"] == "[1].channel"


async def test_a_body_that_is_not_json_is_400_and_a_long_name_is_not_sent_back(client: httpx.AsyncClient) -> None:
    assert (
        "character"
        in problem_of(await client.put("/v1/users/u1", content=b"{", headers={"Content-Type": "application/json"}), 400)["detail"]
    )
    answer = await client.post("/v1/urgent", json={"item_id": "i1", "users": ["u1"], "x" * 5_000: 1})
    problem_of(answer, 422)
    assert len(answer.content) < 1_000


async def test_the_last_second_there_is_reads_back(client: httpx.AsyncClient) -> None:
    await client.put("/v1/users/u1", json={"created_at": "9999-12-31T23:59:59.999999Z"})
    assert (await client.get("/v1/users/u1")).json()["created_at"] == "9999-12-31T23:59:59Z"


async def test_what_was_imported_reads_back_though_no_request_could_put_it(client: httpx.AsyncClient, world: World) -> None:
    await client.put("/v1/users/u1", json={})
    world.profiles.put_preferences(
        "u1", [{"allowed": True, "dial": 1.0, "digest_at": "18:30", "digest_days": "mon|tue", "note": "by hand"}]
    )
    answer = await client.get("/v1/users/u1/preferences")
    assert answer.status_code == 200, answer.text
    assert answer.json() == [{"allowed": True, "dial": 1, "digest_at": "18:30", "digest_days": ["mon", "tue"]}]
    authors = [f"a{number}" for number in range(6_000)]
    world.follows.put(["u1"], [Followed(("t" * 100,), tuple(authors))])
    answer = await client.get("/v1/users/u1/follows")
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"topics": ["t" * 100], "authors": authors}


async def test_follows_read_back_as_put(client: httpx.AsyncClient, world: World) -> None:
    await client.put("/v1/users/u1", json={})
    assert (await client.put("/v1/users/u1/follows", json={"topics": ["a", "b", "a"], "authors": ["x"]})).status_code == 204
    assert (await client.get("/v1/users/u1/follows")).json() == {"topics": ["a", "b"], "authors": ["x"]}
    assert len(world.follows.keys_of(["u1"]).keys) == 3


async def test_addresses_read_back_as_put_and_open_their_channels(client: httpx.AsyncClient, world: World) -> None:
    await client.put("/v1/users/u1", json={})
    assert (await client.put("/v1/users/u1/addresses", json={"email": "a@example.org"})).status_code == 204
    assert (await client.get("/v1/users/u1/addresses")).json() == {"email": "a@example.org"}
    assert world.profiles.get(["u1"])["addressed"][0] == 1 << META.channels.index("email")


BAD_ADDRESSES = [{"pigeon": "coop 3"}, {"email": "a@example.org\r\nBcc: b@example.org"}, {"email": "a\x00@x"}, {"email": ""}]


@pytest.mark.parametrize("addresses", BAD_ADDRESSES)
async def test_an_address_that_cannot_be_used_is_refused(client: httpx.AsyncClient, addresses: dict[str, str]) -> None:
    await client.put("/v1/users/u1", json={})
    problem_of(await client.put("/v1/users/u1/addresses", json=addresses), 422)
    assert (await client.get("/v1/users/u1/addresses")).json() == {}


CHECKED: list[ChannelSettings] = [
    EmailSettings(host="mail.example.org", sender="news@example.org"),
    WebhookSettings(secret=SecretStr("whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0")),
    AppriseSettings(name="chat", url=SecretStr("json://localhost/{address}")),
]


@pytest.mark.parametrize(
    ("channel", "good", "bad"),
    [
        ("email", "ada@example.org", "ada at example.org"),
        ("email", "ada@example.org", "ada@example.org, bob@example.org"),
        ("webhook", "https://hook.example/1", "http://hook.example/1"),
        ("chat", "@ada", "../ada"),
    ],
)
async def test_an_address_is_checked_at_the_door_by_the_channel_it_is_for(world: World, channel: str, good: str, bad: str) -> None:
    app = create_app(world.services(address_checks=address_checks(CHECKED)))
    async with client_of(app, world.token(*EVERYTHING)) as client:
        await client.put("/v1/users/u1", json={})
        problem = problem_of(await client.put("/v1/users/u1/addresses", json={"in_app": "anything", channel: bad}), 422)
        assert problem["errors"][0]["field"] == f"addresses.{channel}"
        assert (await client.get("/v1/users/u1/addresses")).json() == {}
        assert (await client.put("/v1/users/u1/addresses", json={"in_app": "anything", channel: good})).status_code == 204
    app.state.desk.close()
    app.state.health.close()


@pytest.mark.parametrize("part", ["", "/preferences", "/follows", "/addresses"])
async def test_a_user_nobody_put_is_not_found(client: httpx.AsyncClient, part: str) -> None:
    problem_of(await client.get(f"/v1/users/nobody{part}"), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", "/v1/urgent", 405), ("PATCH", "/v1/users/u1", 405), ("GET", "/v1/decisions", 422)],
)
async def test_every_error_is_a_problem(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    problem_of(await client.request(method, path), status)


@pytest.mark.parametrize("limit", ["0", "many", "50001"])
async def test_a_limit_out_of_range_is_refused(client: httpx.AsyncClient, limit: str) -> None:
    assert problem_of(await client.get("/v1/decisions", params={"user_id": "u", "limit": limit}), 422)["errors"][0]["field"] == "limit"


async def test_health_says_which_part_is_away(world: World) -> None:
    app = create_app(world.services())
    async with client_of(app) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok", "checks": {"store": "ok", "ranker": "ok"}}
        world.faults["ranker"] = "no replica"
        answer = await client.get("/healthz")
    problem = problem_of(answer, 503)
    assert "ranker" in problem["detail"]
    assert "store" not in problem["detail"]
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_part_that_something_stands_in_for_takes_no_gateway_out_of_rotation(world: World) -> None:
    async with client_of(create_app(world.services(stand_ins=frozenset({"ranker"})))) as client:
        world.faults["ranker"] = "no replica"
        answer = await client.get("/healthz")
        world.faults["store"] = "refused"
        problem_of(await client.get("/healthz"), 503)
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["checks"]["store"] == "ok"
    assert "no replica" in answer.json()["checks"]["ranker"]


async def test_a_store_that_is_away_answers_503_on_every_route_that_needs_it(world: World) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            def call(*_: object, **__: object) -> None:
                raise ConnectionError("refused")

            return call

    token = world.token("users", "events", "read")
    away = Away()
    app = create_app(world.services(profiles=away, items=away, inbox=away, decisions=away, feedback=away, follows=away))
    requests: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/users/u1", {}),
        ("PUT", "/v1/items/i1", {}),
        ("GET", "/v1/users/u1/inbox", None),
        ("GET", "/v1/decisions?user_id=u1", None),
        ("POST", "/v1/events", EVENT),
        ("GET", "/v1/users/u1/follows", None),
    ]
    async with client_of(app, token) as client:
        for method, path, body in requests:
            answer = await client.request(method, path, json=body)
            problem_of(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
    assert app.state.gatekeeper.keys is world.api_keys


async def test_openapi_names_every_route_its_scopes_and_its_models(client: httpx.AsyncClient) -> None:
    schema = (await client.get("/openapi.json")).json()
    docs = await client.get("/docs")
    assert docs.status_code == 200
    assert "swagger-ui-bundle.js" in docs.text
    assert [path for path in schema["paths"] if f"<code>{path}</code>" not in docs.text] == [], "listed where the viewer cannot be loaded"
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) == path.startswith("/v1/"), path
    urgent = schema["paths"]["/v1/urgent"]["post"]
    assert urgent["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/UrgentBody"}
    assert urgent["responses"]["202"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/UrgentAnswer"}
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@pytest.mark.parametrize("user_id", ["team/ann", "a b/ü/", "/", "100%2Fann", "ann/preferences"])
async def test_an_id_may_hold_slashes_which_a_path_writes_as_2f(client: httpx.AsyncClient, world: World, user_id: str) -> None:
    path = f"/v1/users/{quote(user_id, safe='')}"
    assert (await client.put(path, json={"timezone": "Asia/Tokyo"})).status_code == 204
    assert (await client.get(path)).json() == {"user_id": user_id, "timezone": "Asia/Tokyo"}
    assert (await client.put(f"{path}/addresses", json={"email": "ann@example.org"})).status_code == 204
    assert (await client.get(f"{path}/addresses")).json() == {"email": "ann@example.org"}
    assert (await client.get(f"{path}/inbox")).json()["entries"] == []
    assert (await client.delete(path)).status_code == 204
    assert world.erased == [user_id]
    item = f"/v1/items/{quote(user_id, safe='')}"
    assert (await client.put(item, json={})).status_code == 204
    assert world.items.there([user_id]) == [True]
