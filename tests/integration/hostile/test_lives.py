"""Whole lives over HTTP, in any order, under the oddest names: what was taken reads back, and who is erased is gone."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule, run_state_machine_as_test

import serve_app
from gateway.problems import MEDIA_TYPE
from lake.embedded import EmbeddedStore
from tests.integration.hostile.gateways import Answer, Gateway, a_gateway
from tests.stores import short_folder

ODD_IDS = (
    *("a/b", "/", "//", "/lead", "trail/", "me/inbox", "me/preferences/link", "inbox", "export", "preferences/link"),
    *("%", "%2F", "a%2Fb", "%00", "%25", "100%", "a+b", "a b", " ", "  pad  ", "?x=1", "#frag", "a&user_id=b", "a;b=c", "a=b"),
    *(".", "..", "../..", "\\", '"', "'", "`", "<script>", "{0}", "t1:{0}:p:u1", "*", "[a-z]*", "$where", "{{ 7 * 7 }}"),
    *("0", "-1", "007", "1e5", "0x10", "NaN", "Infinity", "null", "true", "None", "18446744073709551616", "٣", "²"),
    *("é", "e\u0301", "ß", "İ", "שלום", "مرحبا", "\u202eevil\u202c", "🙂", "👩‍👩‍👧", "\u200b", "\ufeff", "\ufffd", "\u00a0", "\U0010ffff"),
    *("x" * 256, "é" * 256, "🙂" * 256, "%" * 256),
    *("__proto__", "user_id", "ann", "Ann", "ann@example.org", "http://t/u/1?x=1"),
)
BAD_IDS = ("\0", "a\0b", "a\nb", "a\rb", "\t", "\x7f", "\x85", "\u2028", "x" * 257, "🙂" * 257)
NO_CONTROLS = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
IDS = st.sampled_from(ODD_IDS) | st.text(NO_CONTROLS, min_size=1, max_size=12)
NAMES = st.sampled_from([name for name in ODD_IDS if len(name) <= 64]) | st.text(NO_CONTROLS, min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
MOMENTS = st.datetimes(
    datetime(1700, 1, 1), datetime(2023, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11, minutes=-30))])
)  # fmt: skip
VALUES = TEXTS | st.sampled_from([0, -1, 1_700_000_000_000, 2**63 - 1, 1e300, -0.5]) | st.booleans()
COLUMNS = st.dictionaries(
    st.sampled_from(["nickname", "synced_at", "flag", "__proto__", "a.b", "🙂", "x" * 256]),
    VALUES | st.lists(VALUES, max_size=2),
    max_size=2,
)
ZONES = st.sampled_from(["Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "UTC"])
PLACES = st.fixed_dictionaries({"latitude": st.floats(-90, 90), "longitude": st.floats(-180, 180)})
USERS = st.builds(
    lambda row, place, more: {**more, **place, **row},
    st.fixed_dictionaries(
        {}, optional={"timezone": ZONES, "utc_offset_minutes": st.integers(-840, 840), "locale": NAMES, "created_at": MOMENTS}
    ),
    st.just({}) | PLACES,
    COLUMNS,
)
ITEMS = st.builds(
    lambda more, row: {**more, **row},
    COLUMNS,
    st.fixed_dictionaries(
        {"title": TEXTS.filter(lambda text: text.isprintable() and bool(text.strip()))},
        optional={"text": TEXTS, "topics": st.lists(NAMES, max_size=2), "kind": NAMES, "author_id": IDS, "half_life_s": st.floats(1, 1e9)},
    ),
)
PREFERENCE = st.fixed_dictionaries(
    {"allowed": st.booleans()},
    optional={"kind": NAMES, "channel": st.sampled_from(["in_app", "email"]), "dial": st.integers(-2, 2), "digest_at": st.just("18:30")},
)
WRONG_BODIES: Sequence[tuple[str, str, Any, str]] = (
    ("PUT", "", {"timezone": "Mars/Olympus"}, "timezone"),
    ("PUT", "", {"utc_offset_minutes": "many"}, "utc_offset_minutes"),
    ("PUT", "/preferences", [{"allowed": True}, {"dial": 3}], "[1].dial"),
    ("PUT", "/preferences", [{"channel": "pigeon"}], "[0].channel"),
    ("PUT", "/follows", {"topics": ["a", "\0"]}, "topics[1]"),
    ("PUT", "/addresses", {"email": "\r\n"}, "email"),
    ("POST", "/inbox/read", {"entry_ids": [""]}, "entry_ids[0]"),
)


@dataclass
class Person:
    """What somebody was last told to be."""

    row: dict[str, Any] = field(default_factory=dict)
    preferences: list[dict[str, Any]] = field(default_factory=list)
    follows: dict[str, list[str]] = field(default_factory=lambda: {"topics": [], "authors": []})
    addresses: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    """The grant of each item they were told of."""


def shown(value: Any) -> Any:
    """Return a value as JSON carries it."""
    return value.isoformat() if isinstance(value, datetime) else value


def path_of(user_id: str, rest: str = "") -> str:
    """Return the path of a user."""
    return f"/v1/users/{quote(user_id, safe='')}{rest}"


class Lives(RuleBasedStateMachine):
    """People who come, are told things, answer, choose and go."""

    gateway: Gateway
    courier: Any
    runner: asyncio.Runner
    clean: dict[bytes, bytes]
    people_: Bundle[str] = Bundle("people")
    things: Bundle[str] = Bundle("things")

    def __init__(self) -> None:
        super().__init__()
        client = self.gateway.stores.client
        client.flushdb()
        for name, value in self.clean.items():
            client.restore(name, 0, value)
        shutil.rmtree(self.gateway.settings.history, ignore_errors=True)
        self.people: dict[str, Person] = {}
        self.items: dict[str, dict[str, Any]] = {}
        self.unsubscribed: set[str] = set()
        self.count = 0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask, and see that nothing broke and that a refusal is a problem."""
        raw = b"" if body is None else json.dumps(body, default=shown).encode()
        answer = self.runner.run(self.gateway.caller(method, path, raw, headers))
        assert 200 <= answer.status < 500, (method, path, raw, answer)
        if answer.status >= 400:
            assert answer.media_type == MEDIA_TYPE
            problem = answer.json()
            assert problem["status"] == answer.status
            assert {"type", "title", "detail"} <= set(problem)
            assert len(answer.body) < 8_000
        return answer

    def get(self, path: str) -> Any:
        """Return what a path holds."""
        answer = self.ask("GET", path)
        assert answer.status == 200, (path, answer)
        return answer.json()

    def done(self, method: str, path: str, body: Any = None) -> None:
        """Change something."""
        answer = self.ask(method, path, body)
        assert answer.status == 204, (method, path, body, answer)

    @initialize(target=people_, user_ids=st.lists(IDS, min_size=2, max_size=3))
    def some_were_there(self, user_ids: list[str]) -> Any:
        return self.some_come(user_ids)

    @rule(target=people_, user_id=IDS, row=USERS)
    def comes(self, user_id: str, row: dict[str, Any]) -> str:
        self.done("PUT", path_of(user_id), row)
        self.people.setdefault(user_id, Person()).row = row
        self.reads_back(user_id)
        return user_id

    def some_come(self, user_ids: list[str]) -> Any:
        for user_id in user_ids:
            self.comes(user_id, {})
        return multiple(*user_ids)

    def reads_back(self, user_id: str) -> None:
        if user_id not in self.people:
            return self.is_gone(user_id)
        person, found = self.people[user_id], self.get(path_of(user_id))
        wanted = {"user_id": user_id, **person.row}
        if "created_at" in found:
            found["created_at"] = datetime.fromisoformat(found["created_at"])
        assert found == wanted
        assert self.get(path_of(user_id, "/preferences")) == person.preferences
        assert self.get(path_of(user_id, "/follows")) == person.follows
        assert self.get(path_of(user_id, "/addresses")) == person.addresses
        exported = self.get(path_of(user_id, "/export"))
        assert exported["user_id"] == user_id
        return None

    @rule(
        user_id=people_,
        rows=st.lists(PREFERENCE, max_size=3),
        topics=st.lists(NAMES, max_size=3, unique=True),
        authors=st.lists(IDS, max_size=3, unique=True),
        address=NAMES,
    )
    def settles(self, user_id: str, rows: list[dict[str, Any]], topics: list[str], authors: list[str], address: str) -> None:
        assume(user_id in self.people)
        person = self.people[user_id]
        person.preferences, person.follows, person.addresses = rows, {"topics": topics, "authors": authors}, {"in_app": address}
        self.done("PUT", path_of(user_id, "/preferences"), rows)
        self.done("PUT", path_of(user_id, "/follows"), person.follows)
        self.done("PUT", path_of(user_id, "/addresses"), person.addresses)
        self.reads_back(user_id)
        for method, rest, body, name in WRONG_BODIES:
            answer = self.ask(method, path_of(user_id, rest), body)
            assert answer.status == 422
            assert [each["field"] for each in answer.json()["errors"]] == [name]
        self.reads_back(user_id)

    @initialize(target=things, item=st.tuples(IDS, ITEMS))
    def something_was_there(self, item: tuple[str, dict[str, Any]]) -> str:
        return self.happens(*item)

    @rule(target=things, item=st.tuples(IDS, ITEMS), users=st.lists(people_, min_size=1, max_size=3), critical=st.booleans())
    def is_news(self, item: tuple[str, dict[str, Any]], users: list[str], critical: bool) -> str:
        self.happens(*item)
        self.are_told(item[0], users, critical, dry_run=False, key=None)
        return item[0]

    def happens(self, item_id: str, row: dict[str, Any]) -> str:
        """Put an item."""
        self.done("PUT", f"/v1/items/{quote(item_id, safe='')}", row)
        self.items[item_id] = row
        return item_id

    @rule(item_id=things)
    def is_taken_back(self, item_id: str) -> None:
        self.done("DELETE", f"/v1/items/{quote(item_id, safe='')}")
        self.items.pop(item_id, None)

    @rule(
        item_id=things,
        users=st.lists(people_, min_size=1, max_size=4),
        critical=st.booleans(),
        dry_run=st.booleans(),
        key=st.none() | NAMES,
    )
    def are_told(self, item_id: str, users: list[str], critical: bool, dry_run: bool, key: str | None) -> None:
        asked = [*users, "nobody"]
        body = {"item_id": item_id, "users": asked, "critical": critical, "dry_run": dry_run}
        headers = {} if key is None else {"idempotency-key": f"{self.count} {key}"}
        self.count += 1
        answer = self.ask("POST", "/v1/urgent", body, **headers)
        if not all(each.encode().decode("latin-1").isprintable() for each in headers.values()):
            assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
            return
        if item_id not in self.items:
            assert answer.status in (202, 422), answer
            if answer.status == 422:
                return
        assert answer.status == 202, answer
        decided = answer.json()
        rows = {row["user_id"]: row for row in decided["results"]}
        assert list(rows) == list(dict.fromkeys(asked))
        for user_id, row in rows.items():
            known = user_id in self.people
            assert (row["reason"] == "unknown_user") == (not known), row
            if known and critical and item_id in self.items:
                self.check_critical(user_id, item_id, row)
        if headers and not dry_run:
            assert self.ask("POST", "/v1/urgent", body, **headers).json() == decided
        self.check_logged(decided, item_id, dry_run=dry_run)

    def check_critical(self, user_id: str, item_id: str, row: dict[str, Any]) -> None:
        forbidden = any(not each["allowed"] for each in self.people[user_id].preferences)
        if forbidden or self.items[item_id].get("author_id") == user_id:
            return
        if user_id in self.unsubscribed:
            assert row["disposition"] == "suppressed", row
        else:
            assert row["disposition"] in ("send", "duplicate"), row

    def check_logged(self, decided: dict[str, Any], item_id: str, *, dry_run: bool) -> None:
        logged = self.get(f"/v1/decisions?{urlencode({'decision_id': decided['decision_id']})}")["decisions"]
        wanted = [(row["user_id"], row["disposition"]) for row in decided["results"]]
        assert sorted((row["user_id"], row["disposition"]) for row in logged) == sorted(wanted)
        for row in logged:
            assert row["item_id"] == item_id
            mine = self.get(f"/v1/decisions?{urlencode({'user_id': row['user_id'], 'limit': 1})}")["decisions"]
            assert [each["user_id"] for each in mine] == [row["user_id"]]
            if row["disposition"] == "send" and not dry_run:
                self.people[row["user_id"]].told[item_id] = row["grant_id"]
                assert self.story(row["user_id"], row["grant_id"])["story"][0]["step"] == "decided"

    def story(self, user_id: str, grant_id: str) -> dict[str, Any]:
        """Return the story of a message."""
        found: dict[str, Any] = self.get(f"/v1/messages/{grant_id}?{urlencode({'user_id': user_id})}")
        assert (found["user_id"], found["grant_id"]) == (user_id, grant_id)
        return found

    def all_is_delivered(self) -> None:
        stores = self.gateway.stores
        now = stores.clock.now()
        for shard in range(stores.meta.shards):
            while self.runner.run(self.courier._parts.dispatcher.drain(shard, "courier", now)).taken:
                pass
            for chore in self.courier._parts.housekeeping:
                chore(shard, now)
        for user_id in self.people:
            self.reads_the_inbox(user_id)

    def reads_the_inbox(self, user_id: str) -> dict[str, Any]:
        """Return an inbox, whose entries are about what there is."""
        found: dict[str, Any] = self.get(path_of(user_id, "/inbox?limit=200"))
        for entry in found["entries"]:
            assert entry["user_id"] == user_id
            assert entry["item_id"] in self.items
        return found

    @rule(user_id=people_, some=st.booleans())
    def reads(self, user_id: str, some: bool) -> None:
        self.all_is_delivered()
        found = self.reads_the_inbox(user_id)
        names = [entry["entry_id"] for entry in found["entries"]][: 1 if some else None]
        unread = sum(not entry["read"] for entry in found["entries"] if entry["entry_id"] in names)
        answer = self.ask("POST", path_of(user_id, "/inbox/read"), {"entry_ids": [*names, "77-7"]})
        assert answer.json() == {"marked": unread}
        assert self.reads_the_inbox(user_id)["unread"] == found["unread"] - unread

    @rule(user_id=people_, kind=st.sampled_from(["open", "view", "odd/kind 🙂"]), event_id=IDS, more=COLUMNS)
    def does(self, user_id: str, kind: str, event_id: str, more: dict[str, Any]) -> None:
        assume(user_id in self.people)
        told = self.people[user_id].told
        event: dict[str, Any] = {**more, "user_id": user_id, "kind": kind, "event_id": f"{self.count} {event_id}"[:256]}
        self.count += 1
        for item_id, grant_id in list(told.items())[:1]:
            event |= {"item_id": item_id, "send_id": grant_id}
        assert self.ask("POST", "/v1/events", event).json() == {"accepted": 1, "duplicates": 0}
        assert self.ask("POST", "/v1/events", [event]).json() == {"accepted": 0, "duplicates": 1}
        if "send_id" in event:
            assert kind in [step.get("kind") for step in self.story(user_id, event["send_id"])["story"]]

    @rule(user_id=people_, one_click=st.booleans())
    def unsubscribes(self, user_id: str, one_click: bool) -> None:
        assume(user_id in self.people)
        if one_click:
            links = serve_app.links_of(self.gateway.settings)
            path = links.unsubscribe(user_id, "in_app", f"{self.count:016x}")
        else:
            path = self.get(path_of(user_id, "/preferences/link"))["url"]
        self.count += 1
        answer = self.runner.run(self.gateway.caller("POST", path[path.index("/", 9) :], b"unsubscribe=everything"))
        assert answer.status == 200, answer
        self.unsubscribed.add(user_id)
        channels = {row["channel"] for row in self.get(path_of(user_id, "/export"))["suppressions"]}
        assert "in_app" in channels
        self.reads_back(user_id)

    @rule(user_id=people_, ticked=st.booleans())
    def chooses(self, user_id: str, ticked: bool) -> None:
        assume(user_id in self.people)
        url = self.get(path_of(user_id, "/preferences/link"))["url"]
        path = url[url.index("/", 9) :]
        assert self.runner.run(self.gateway.caller("GET", path)).status == 200
        kinds = [row["kind"] for row in self.people[user_id].preferences if "kind" in row]
        places = [f"in_app/{kind}" for kind in (*kinds, "")]
        form = [("shown", place) for place in places] + [("allow", place) for place in places if ticked] + [("dial", "1")]
        answer = self.runner.run(self.gateway.caller("POST", path, urlencode(form).encode()))
        assert answer.status == 200, answer
        rows = self.get(path_of(user_id, "/preferences"))
        assert rows[0]["dial"] == 1
        assert all(row["allowed"] == ticked for row in rows if row.get("channel", "in_app") == "in_app"), rows
        self.people[user_id].preferences = rows

    @rule(user_id=people_)
    def goes(self, user_id: str) -> None:
        gone = self.people.pop(user_id, None)
        exported = None if gone is None else self.get(path_of(user_id, "/export"))
        self.done("DELETE", path_of(user_id))
        self.is_gone(user_id)
        for grant_id in [] if gone is None else gone.told.values():
            assert self.ask("GET", f"/v1/messages/{grant_id}?{urlencode({'user_id': user_id})}").status == 404
        for row in exported["items_of_their_own"] if exported else ():
            self.items.pop(row["item_id"], None)
        for other in self.people:
            self.reads_back(other)

    def is_gone(self, user_id: str) -> None:
        """See that nothing is known of a user, wherever one may ask."""
        for rest in ("", "/preferences", "/follows", "/addresses", "/preferences/link"):
            assert self.ask("GET", path_of(user_id, rest)).status == 404
        assert self.get(path_of(user_id, "/inbox")) == {"entries": [], "unread": 0}
        for other in self.people:
            assert user_id not in self.get(path_of(other, "/follows"))["authors"] or user_id in self.people[other].follows["authors"]


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[type[Lives]]:
    """Lives in a gateway of their own."""
    with (
        short_folder() as folder,
        EmbeddedStore(folder) as store,
        asyncio.Runner() as runner,
        a_gateway(store.url, tmp_path) as gateway,
    ):
        Lives.gateway, Lives.runner = gateway, runner
        client = gateway.stores.client
        Lives.clean = {name: client.dump(name) or b"" for name in client.scan_iter("*")}
        Lives.courier = serve_app.make_courier(gateway.settings, "courier")
        yield Lives


def test_lives_in_any_order(lives: type[Lives]) -> None:
    # Without shrinking, which takes minutes: a failure tells its steps.
    wanted = settings(max_examples=8, stateful_step_count=20, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(lives, settings=wanted)


def test_nobody_has_a_name_that_no_line_can_hold(lives: type[Lives]) -> None:
    life = lives()
    for user_id in BAD_IDS:
        for rest in ("", "/preferences", "/follows", "/addresses", "/inbox", "/export"):
            answer = life.ask("GET", path_of(user_id, rest))
            assert (answer.status, answer.json()["errors"][0]["field"]) == (422, "user_id")
        answer = life.ask("POST", "/v1/urgent", {"item": {"item_id": "i"}, "users": ["ann", user_id]})
        assert (answer.status, answer.json()["errors"][0]["field"]) == (422, "users[1]")
    for half in ("\ud800", "\udfff\ud800"):
        answer = life.ask("POST", "/v1/urgent", {"item": {"item_id": "i"}, "users": [half]})
        assert answer.status in (400, 422)
