"""Ten thousand requests that nobody should send, the same ones each time: raw JSON, since much of it no encoder would write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from urllib.parse import quote

MEGABYTE = 1 << 20

TEXTS = (
    "",
    " ",
    "\0",
    "a\0b",
    "a\r\nSet-Cookie: a=b",
    "u1\r\nFLUSHALL\r\n",
    "\u202eevil\u202c",
    "\u2028",
    "\ufeffbom",
    "zero\u200bwidth",
    "🙂" * 200,
    "e\u0301" * 300,
    "\x7f\x80\x9f",
    "\U0010ffff",
    "{{ 7 * 7 }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "${jndi:ldap://127.0.0.1/a}",
    "%s%s%n%x",
    "<script>alert(1)</script>",
    "'; DROP TABLE users; --",
    "../../../../etc/passwd",
    "..%2f..%2fetc",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::1]:6379/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "javascript:alert(1)",
    "https://user:pass@example.org:99999/\u0000",
    "t1:{0}:p:u1",
    "{0}",
    "*",
    "__proto__",
    "constructor",
    "null",
    "NaN",
    "-1",
    "1e999",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-14:00",
    "1677-09-21T00:12:43Z",
    "2262-04-12T00:00:00Z",
    "2023-02-30T00:00:00Z",
    "2023-11-14T22:13:20",
    "1969-12-31T23:59:59.999999Z",
    "2016-12-31T23:59:60Z",
    "P1D",
    "24:00",
    "18:30",
    "18:31",
    "in_app",
    "email",
    "pigeon",
    "unsubscribe",
    "Europe/Berlin",
    "../Berlin",
    "mon|tue",
    "x" * 64,
    "x" * 65,
    "x" * 256,
    "x" * 257,
    "é" * 256,
    "x" * 70_000,
)
RAW = (
    "null",
    "true",
    "false",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    '[""]',
    '[{"a": [1]}]',
    '{"a": {"b": null}}',
    "NaN",
    "Infinity",
    "-Infinity",
    "-0.0",
    "1e400",
    "-1e400",
    "1e308",
    "-1e308",
    "1e-400",
    "5e-324",
    "0.1",
    "-1",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "-9223372036854775809",
    "1" * 400,
    "1" * 5_000,
    "0x10",
    "01",
    "1_000",
    r'"\ud800"',
    r'"\udfff\ud800"',
    r'"\u0000"',
    r'"\x41"',
    "'single'",
    '"unterminated',
    "[1,]",
    '{"a":1,"a":2}',
    "/* comment */ 1",
    "[" * 200 + "]" * 200,
    "[" * 20_000,
    '{"a":' * 100 + "1" + "}" * 100,
    '{"a":' * 10_000 + "1" + "}" * 10_000,
    json.dumps(["x"] * 70),
    json.dumps(["x"] * 5_001),
    json.dumps({f"k{n}": n for n in range(2_000)}),
)
ODD_NAMES = (
    "",
    "\0",
    "__proto__",
    "user_id",
    "at",
    "a.b",
    "$where",
    "\u202e",
    "x" * 5_000,
    "created_at",
    "source",
    "é",
    "user_key",
    "date",
    "shard",
    "item_id",
)

FIELDS = {
    "event": ("user_id", "kind", "item_id", "at", "channel", "utc_offset_minutes", "event_id", "send_id"),
    "item": (
        *("created_at", "author_id", "topics", "title", "text", "url", "kind", "entity_id", "version"),
        *("expires_at", "half_life_s", "latitude", "longitude"),
    ),
    "user": ("timezone", "utc_offset_minutes", "locale", "latitude", "longitude", "created_at"),
    "preference": ("kind", "channel", "allowed", "quiet_from", "quiet_to", "dial", "digest_at", "digest_days"),
}


@dataclass(frozen=True)
class Payload:
    """One hostile request. `number`: its own, which the ids of its neighbours carry. `place`: where in a list the odd one is, if in one."""

    number: int
    route: str
    method: str
    path: str
    body: bytes
    place: int | None = None

    def neighbour(self, side: int) -> str:
        """Return the id of the valid neighbour before (0) or behind (1) the odd one."""
        return f"{self.route}-{self.number}-{side}"


def payloads(count: int, seed: int = 20_261_128) -> Iterator[Payload]:
    """Yield `count` requests, route by route in turn."""
    random = Random(seed)
    routes: tuple[Callable[[Random, int], Payload], ...] = (
        *(events, items, users, preferences, urgent),
        *(events, items, users, preferences, events),
    )
    for number in range(count):
        yield routes[number % len(routes)](random, number)


def events(random: Random, number: int) -> Payload:
    """Return a list of events of which one is odd."""
    kind = random.choice(["view", "view", "open", "unsubscribe"])
    given = {"user_id": '"odd"', "kind": f'"{kind}"', "item_id": '"i1"', "at": '"2023-11-14T22:00:00Z"'}
    near = [json.dumps({"user_id": f"events-{number}-{side}", "kind": "view", "event_id": f"e{number}-{side}"}) for side in (0, 1)]
    return Payload(number, "events", "POST", "/v1/events", _list(random, near, _row(random, given, "event")), 1)


def urgent(random: Random, number: int) -> Payload:
    """Return an urgent request for two users between whom an odd one stands, or about an odd item."""
    users = json.dumps([f"urgent-{number}-0", "ODD", f"urgent-{number}-1"])
    item = json.dumps({"item_id": f"alarm-{number}", "title": "Alarm", "topics": ["alarms"]})
    what = random.random()
    if what < 0.4:
        odd = _row(random, {"item_id": f'"alarm-{number}"', "title": '"Alarm"'}, "item")
        body = f'{{"item": {odd}, "users": {users.replace(chr(34) + "ODD" + chr(34), chr(34) + "nobody" + chr(34))}}}'
    elif what < 0.75:
        body = f'{{"item": {item}, "users": {users.replace(chr(34) + "ODD" + chr(34), value(random))}}}'
    else:
        name = random.choice(["channels", "critical", "topic", "item_id", *ODD_NAMES])
        body = f'{{"item": {item}, "users": {users}, {json.dumps(name)}: {value(random)}}}'
    return Payload(number, "urgent", "POST", "/v1/urgent", _broken(random, body), 1)


def items(random: Random, number: int) -> Payload:
    """Return an odd item, or one with an odd id."""
    name = quote(random.choice(TEXTS)[:2_000], safe="") if random.random() < 0.2 else f"odd-{number}"
    given = {"created_at": '"2023-11-14T22:00:00Z"', "title": '"A title"', "topics": '["tea"]'}
    return Payload(number, "items", "PUT", f"/v1/items/{name or '%20'}", _broken(random, _row(random, given, "item")))


def users(random: Random, number: int) -> Payload:
    """Return an odd user, or one with an odd id."""
    name = quote(random.choice(TEXTS)[:2_000], safe="") if random.random() < 0.2 else f"odd-{number}"
    given = {"timezone": '"Europe/Berlin"', "locale": '"de-DE"'}
    return Payload(number, "users", "PUT", f"/v1/users/{name or '%20'}", _broken(random, _row(random, given, "user")))


def preferences(random: Random, number: int) -> Payload:
    """Return a list of preferences of which one is odd."""
    near = ['{"kind": "post", "allowed": false}', '{"channel": "email", "allowed": true}']
    odd = _row(random, {"kind": '"reply"', "allowed": "true"}, "preference")
    return Payload(number, "preferences", "PUT", f"/v1/users/preferences-{number}-0/preferences", _list(random, near, odd), 1)


def value(random: Random) -> str:
    """Return raw JSON, or what is nearly that."""
    what = random.random()
    if what < 0.003:
        return '"' + "x" * random.choice([MEGABYTE - 500, MEGABYTE, MEGABYTE + 10]) + '"'
    if what < 0.45:
        return random.choice(RAW)
    return json.dumps(random.choice(TEXTS), ensure_ascii=random.random() < 0.5)


def _row(random: Random, given: dict[str, str], kind: str) -> str:
    """Return a row with something odd in it, or something odd instead of a row."""
    if random.random() < 0.06:
        return value(random)
    fields = dict(given)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        name = random.choice(FIELDS[kind]) if random.random() < 0.85 else random.choice(ODD_NAMES)
        fields[name] = value(random)
    return "{" + ", ".join(f"{json.dumps(name)}: {raw}" for name, raw in fields.items()) + "}"


def _list(random: Random, near: list[str], odd: str) -> bytes:
    return _broken(random, f"[{near[0]}, {odd}, {near[1]}]")


def _broken(random: Random, body: str) -> bytes:
    """Return a body as bytes, a few of them not as they should be."""
    raw = body.encode("utf-8", "surrogatepass")
    what = random.random()
    if what < 0.01:
        return raw[: random.randrange(len(raw) + 1)]
    if what < 0.02:
        return raw.replace(b"e", b"\xff", 1)
    if what < 0.025:
        return body.encode("utf-16", "surrogatepass")
    return raw
