"""No address, secret or message reaches a log, whichever way it is logged; what helps to find a fault stays readable."""

from __future__ import annotations

import io
import json
import logging
import logging.handlers
import random
import string
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from delivery.channels.base import Content, Delivery
from gateway.api_keys import new_key
from lake import logs
from lake.logs import Reason, cover, formatter
from tests.unit.delivery.examples import NOW, a_message

CANARIES = 1_000
Draw = Callable[[random.Random], str]


def _word(draw: random.Random, alphabet: str = string.ascii_lowercase, least: int = 8) -> str:
    return "".join(draw.choices(alphabet, k=draw.randint(least, least + 8)))


def _email(draw: random.Random) -> str:
    local = draw.choice(["{}", "{}.{}", "{}+{}", "{}'{}", "{}={}", '"{} {}"', "{}/{}", "ü{}", "{}!{}"]).format(_word(draw), _word(draw))
    return f"{local}@{_word(draw)}{draw.choice(['.org', '.co.uk', '.example', '', '.рф'])}"


def _phone(draw: random.Random) -> str:
    digits = str(draw.randint(1, 9)) + _word(draw, string.digits, 7)[:14]
    spaced = " ".join([digits[:2], digits[2:5], digits[5:]])
    return draw.choice(
        [f"+{digits}", f"+{spaced}", f"+{spaced.replace(' ', '-')}", f"00{digits}", f"+{digits[:2]} ({digits[2:5]}) {digits[5:]}"]
    )


def _push(draw: random.Random) -> str:
    url_safe = string.ascii_letters + string.digits + "-_"
    token = "".join(draw.choices(url_safe, k=134)) + "aA1"
    apns, keys = draw.randbytes(32).hex(), {"p256dh": _word(draw, url_safe, 87), "auth": _word(draw, url_safe, 22)}
    web = json.dumps({"endpoint": f"https://fcm.googleapis.com/fcm/send/{token}", "keys": keys})
    return draw.choice([f"{token[:22]}:APA91b{token}", apns, apns.upper(), f"ExponentPushToken[{token[:22]}]", web])


def _webhook(draw: random.Random) -> str:
    query, user = f"?key={_word(draw)}&{_word(draw)}#{_word(draw)}", f"{_word(draw)}:{_word(draw)}@"
    path = f"/in/{_word(draw, string.ascii_letters, 20)}1{_word(draw)}"
    return "https://" + draw.choice(
        [f"{user}hook.example/in", f"hook.example/in{query}", f"{user}hook.example:8443{query}", f"hook.example{path}"]
    )


def _text(draw: random.Random) -> str:
    return (
        draw.choice(["", "¡", "“"])
        + " ".join(_word(draw) for _ in range(draw.randint(2, 9)))
        + draw.choice(["", "!", ' "quoted"', "\nline"])
    )


def _bearer(draw: random.Random) -> str:
    key = new_key(("read",), NOW)[1]
    jwt = ".".join(["eyJ" + _word(draw, string.ascii_letters, 20) for _ in range(2)] + [_word(draw, string.ascii_letters, 30)])
    return draw.choice([key, f"Bearer {key}", f"Bearer {_word(draw)}", f"Basic {_word(draw)}=", jwt])


def _signing(draw: random.Random) -> str:
    token = "".join(draw.choices(string.ascii_letters + string.digits + "-_", k=40)) + "aA1"
    pem = f"-----BEGIN PRIVATE KEY-----\n{token}\n{token[::-1]}\n-----END PRIVATE KEY-----"
    return draw.choice([f"whsec_{_word(draw, string.ascii_letters)}/+{_word(draw)}=", token, f"link_secret={_word(draw)}", pem])


def _dsn(draw: random.Random) -> str:
    password = _word(draw) + draw.choice(["", "/", "@", "?", "#", ":", "%2F", "'"]) + _word(draw)
    return draw.choice(
        ["redis://:{}@db:6379/0", "rediss://ann:{}@db/0", "smtp://ann:{}@mail.example.org:587", "host=db password={}"]
    ).format(password)


ADDRESSES: dict[str, tuple[Draw, str]] = {
    "email": (_email, "address"),
    "phone": (_phone, "to"),
    "push": (_push, "device_token"),
    "webhook": (_webhook, "endpoint"),
}
SECRETS: dict[str, tuple[Draw, str]] = {"bearer": (_bearer, "authorization"), "signing": (_signing, "secret"), "dsn": (_dsn, "redis_dsn")}
TEXTS: dict[str, tuple[Draw, str]] = {"text": (_text, "title")}
KINDS = ADDRESSES | SECRETS | TEXTS


@dataclass
class Lines:
    """A logger of the standard library and one of structlog, and what both have written; `covered` has somebody else's handler."""

    plain: logging.Logger
    own: Any
    written: io.StringIO
    covered: io.StringIO

    def take(self) -> str:
        """Return what has been written since, by both handlers."""
        text = self.written.getvalue() + self.covered.getvalue()
        for kept in (self.written, self.covered):
            kept.seek(0)
            kept.truncate()
        return text


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    written, covered = io.StringIO(), io.StringIO()
    ours, theirs = logging.StreamHandler(written), logging.StreamHandler(covered)
    ours.setFormatter(formatter())
    theirs.setFormatter(logging.Formatter("%(levelname)s %(message)s %(title)s", defaults={"title": ""}))
    cover(theirs)
    logger = logging.getLogger("tidings.tests.lines")
    monkeypatch.setattr(logger, "handlers", [ours, theirs])
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.INFO)
    own = structlog.wrap_logger(logger, processors=logs.NATIVE, wrapper_class=structlog.stdlib.BoundLogger)
    return Lines(logger, own, written, covered)


def _cores(canary: str) -> set[str]:
    """Return the pieces of a canary of which none may be seen: whole words of eight and more characters, and its digits."""
    plain = "".join(c if c.isalnum() else " " for c in canary)
    known = {
        "hook",
        "example",
        "https",
        "googleapis",
        "Bearer",
        "Basic",
        "password",
        "ExponentPushToken",
        "endpoint",
        "PRIVATE",
        "redis",
        "secret",
    }
    return {word for word in plain.split() if len(word) >= 8 and word not in known} | {canary}


def _raise(canary: str) -> None:
    try:
        raise ConnectionError(f"550 <{canary}> is not known here")
    except ConnectionError as error:
        error.add_note(f"asked for {canary}")
        raise ValueError(canary) from error


def _ways(lines: Lines, canary: str, name: str) -> list[Callable[[], None]]:
    """Return ways to log anything: as an argument, within one, and as a further field."""
    return [
        lambda: lines.plain.warning("%s was refused: %r", canary, {name: canary}),
        lambda: lines.plain.warning("refused %(it)s", {"it": canary}, extra={name: canary, "rows": [{name: canary}]}),
        lambda: lines.own.warning("refused %s", canary, **{name: canary, "nested": {"rows": [{name: (canary,)}]}}),
    ]


def _ways_of_looks(lines: Lines, canary: str) -> list[Callable[[], None]]:
    """Return ways to log what can be told by its looks: within a text, an exception, a traceback."""

    def fail(logged: Callable[[Exception], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                _raise(canary)
            except ValueError as error:
                logged(error)

        return run

    return [
        lambda: lines.plain.warning(f"refused {canary}, at once"),
        lambda: lines.plain.warning("refused", extra={"reason": f"550 {canary} unknown", "anything": f"<{canary}>"}),
        fail(lambda error: lines.plain.exception("refused by shard %d: %s", 3, error)),
        fail(lambda error: lines.own.warning("refused", shard=3, exc_info=True, error=error)),
    ]


def _ways_of_texts(lines: Lines, canary: str) -> list[Callable[[], None]]:
    """Return ways to log what a message says: within what holds it."""
    message = Delivery(a_message(), "a", Content(canary, canary, "", canary, canary, canary, ""), NOW)
    return [
        lambda: lines.plain.warning("refused %s %s", message, [message]),
        lambda: lines.own.warning("refused", delivery=message),
        lambda: lines.plain.warning(f"refused {json.dumps({'title': canary, 'n': 3})}"),
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_thousand_canaries_none_is_written_whichever_way_it_is_logged(lines: Lines, kind: str) -> None:
    draw_one, name = KINDS[kind]
    draw, seen = random.Random(kind), []
    for number in range(CANARIES):
        canary = draw_one(draw)
        ways = _ways(lines, canary, name) + (_ways_of_texts if kind in TEXTS else _ways_of_looks)(lines, canary)
        ways[number % len(ways)]()
        text = lines.take()
        assert text.count("refused") >= 2
        seen += [(canary, core, text) for core in _cores(canary) if core in text]
    assert [(canary, core) for canary, core, _ in seen[:5]] == [], seen[0][2]


READABLE = [
    "shard 3 failed at slot 1988713; its users stay due and the next tick resumes them",
    "lost the lease t1:{7}:lease: another scheduler has taken over",
    "goes on serving 0f3a1c2d4e5f6789: no such model folder",
    "decision 9f86d081884c7d659a2feaa0c55ad015 grant 5966c7a925e05de4 below_threshold at 2026-11-28T10:31:18.054826+00:00",
    "Error 111 connecting to 127.0.0.1:6379. Connection refused.",
    "replica Courier#k2x9ab1c of 7 took 1234567.89 ms, 0.5 of 100,000 rows, +12 and -3e-05",
    "GET http://127.0.0.1:8000/healthz answered 503",
    "letter 3/1700000000000-0 in /tmp/tidings-2scwbz40/store/appendonly.aof.1.base.rdb",
    "OSError: [Errno 28] No space left on device: '/work/tidings/history/events/date=2026-11-28/shard=3/one.parquet'",
]


@pytest.mark.parametrize("line", READABLE)
def test_numbers_ids_and_reasons_stay_as_they_are(lines: Lines, line: str) -> None:
    lines.plain.warning(line)
    lines.plain.warning("%s", Reason(line))
    lines.plain.warning("it failed: %s", OSError(line))
    assert lines.take().count(line) == 6


def test_arguments_and_fields_that_are_ids_numbers_and_reasons_stay(lines: Lines) -> None:
    fields = {"item_id": "item-12", "decision_id": "9f86d081884c7d65", "channel": "in_app", "n": 3, "value": 0.25, "reason": "budget spent"}
    lines.plain.warning("%s of %s: %d rows, %.2f, %s", "item-12", "in_app", 3, 0.25, "window_full", extra=fields)
    text = lines.written.getvalue()
    for told in ("item-12 of in_app: 3 rows, 0.25, window_full", "channel=in_app", "n=3", "value=0.25", "budget spent", "9f86d081884c7d65"):
        assert told in text


def test_who_it_was_about_is_not_named(lines: Lines) -> None:
    lines.plain.warning(
        "%s %s met a part that is away", "GET", "/v1/users/ada/addresses", extra={"user_id": "ada", "rows": [{"user_id": "ada"}]}
    )
    lines.plain.warning("not read: %s", a_message(user_id="ada"))
    assert "ada" not in lines.take()


def test_a_broken_call_is_written_all_the_same() -> None:
    text = formatter().format(logging.makeLogRecord({"msg": "%d of %d", "args": ("ada@example.org",), "levelname": "WARNING"}))
    assert "%d of %d" in text
    assert "ada@" not in text


def test_handlers_of_others_that_keep_lines_back_are_covered_too() -> None:
    behind = logging.StreamHandler(io.StringIO())
    keeping = logging.handlers.MemoryHandler(10, target=behind, flushOnClose=False)
    cover(keeping)
    record = logging.makeLogRecord({"msg": "to %s", "args": ("ada@example.org",)})
    assert behind.format(record) == "to [email]"
    keeping.close()


PROGRAM = """
import logging, sys, threading
from lake import logs
theirs = logging.getLogger("ray.serve")
theirs.addHandler(logging.StreamHandler(sys.stdout))
theirs.propagate = False
logs.configure(); logs.configure()
theirs.setLevel("INFO"); logs.quieten_serve(); theirs.info("started a router")
theirs.error("served ada@example.org")
logging.getLogger("anything").warning("to %s", "ada@example.org")
thread = threading.Thread(target=lambda: int("ada@example.org")); thread.start(); thread.join()
raise ValueError("ended by ada@example.org")
"""


def test_a_process_that_is_configured_says_each_thing_once_and_redacted_also_what_ended_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ada" not in done.stdout + done.stderr
    assert done.stdout == "served [email]\n"
    assert done.stderr.count("to [email]") == 1
    assert "this ended a thread" in done.stderr
    assert "ValueError: ended by [email]" in done.stderr
