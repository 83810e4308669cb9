"""Secrets that a deployment is given are printed by nothing: no repr, no command, no error."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError
from typer.testing import CliRunner

import serve_app
from delivery.channels.registry import ChannelSettings
from delivery.links import LinkSettings
from lake.errors import InputError
from lake.redaction import without_password
from lake.redis_store import connect
from scheduler.redis_stores import RedisStores
from tidings import cli
from tidings.doctor import examine_store_at
from tidings.home import State
from tidings.running import where
from tidings.system import Wanted

PIECES = ("Hunter2", "qu1et")
"""Every password below is made of these, so that half of one is found too."""
PLACE = "127.0.0.1:1"
GOOD = [
    f"redis://:{'%2F'.join(PIECES)}@{PLACE}/0",
    f"rediss://ann:{''.join(PIECES)}@{PLACE}/0",
    f"redis://{PLACE}/0?password={''.join(PIECES)}",
]
BROKEN = [f"redis://:{mark.join(PIECES)}@{PLACE}/0" for mark in "/#?["] + [f"redis://:123/{PIECES[0]}@{PLACE}/0", f":{PIECES[0]}@{PLACE}"]
ODD = [f"redis://:{mark.join(PIECES)}@{PLACE}/0" for mark in "@: "]
URLS = [*GOOD, *BROKEN, *ODD]
CHANNELS: list[dict[str, Any]] = [
    {"kind": "webhook", "secret": "whsec_" + "SHVudGVyMkh1bnRlcjJIdW50ZXIy"},
    {"kind": "email", "sender": "a@example.org", "host": "mail.example.org", "username": "u", "password": "Hunter2"},
    {"kind": "apprise", "name": "sms", "url": "twilio://Hunter2:qu1et@%2B15005550006/{address}"},
]
SECRETS = (*PIECES, "SHVudGVyMkh1bnRlcjJIdW50ZXIy")


def silent(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("url", URLS)
def test_a_shown_url_has_no_password_and_still_says_which_store(url: str) -> None:
    silent(without_password(url))
    assert "127.0.0.1" in without_password(url) or url in BROKEN


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "unix:///tmp/tidings-2scwbz40/store.sock", "redis://h/?db=3"])
def test_a_url_without_a_password_is_shown_as_it_is(url: str) -> None:
    assert without_password(url) == url


@pytest.mark.parametrize("url", BROKEN)
def test_a_password_that_breaks_the_url_is_bad_input_that_says_how_to_write_it_and_no_part_of_it(url: str) -> None:
    with pytest.raises(InputError, match="%2F") as caught:
        connect(url)
    silent(str(caught.value))
    assert caught.value.__suppress_context__


def test_a_password_with_odd_marks_that_still_make_a_url_is_in_no_repr() -> None:
    for url in ODD:
        silent(repr(connect(url)))


@pytest.mark.parametrize("url", URLS)
def test_no_command_says_the_password_of_a_store_that_is_away_or_whose_url_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    for words in (
        ["keys", "list"],
        ["deadletters", "list"],
        ["switch", "list"],
        ["refresh"],
        ["users", "export", "u"],
        ["users", "erase", "u"],
    ):
        result = CliRunner().invoke(cli.app, words)
        assert result.exit_code in (1, 2), (words, result.output)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        silent(result.output)
    for finding in examine_store_at(url, "REDIS_URL"):
        silent(f"{finding} {finding.line} {finding.facts} {finding.advice}")


@pytest.mark.parametrize("url", URLS)
def test_status_and_everything_with_a_repr_keep_it_to_themselves(url: str) -> None:
    state = State(os.getpid(), url, "http://127.0.0.1:8000", "", "", "", login="tk_Hunter2", history="")
    silent(json.dumps({name: value for name, value in where(state).items() if name != "console"}))
    settings = serve_app.Settings(model="m", redis_url=url, link_secret=SecretStr("Hunter2"), channels=tuple(CHANNELS))  # type: ignore[arg-type]
    wanted = Wanted("m", "s", redis_url=url, settings={"channels": CHANNELS, "link_secret": "Hunter2"})
    for thing in (state, settings, wanted, LinkSettings(("Hunter2Hunter2Hunter2",), "https://t.example")):
        silent(f"{thing!r} {thing}")


def test_a_clients_repr_holds_no_password() -> None:
    silent(repr(RedisStores(connect(GOOD[0]), None)))  # type: ignore[arg-type]


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: str(channel["kind"]))
def test_what_is_wrong_with_a_channel_is_said_without_its_credentials(channel: dict[str, Any], tmp_path: Path) -> None:
    silent(repr(TypeAdapter(ChannelSettings).validate_python(channel)))
    with pytest.raises(ValidationError) as caught:
        serve_app.Settings(model="m", channels=(channel | {"misspelt": "Hunter2"}, {"kind": "email", "password": "Hunter2"}))  # type: ignore[arg-type]
    silent(f"{caught.value} {caught.value!r}")


def test_a_settings_file_that_is_no_json_is_named_without_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "settings.json"
    path.write_text('{"link_secret": "Hunter2", redis_url}')
    (tmp_path / "model").mkdir()
    result = CliRunner().invoke(cli.app, ["up", "--settings", str(path), "--model", str(tmp_path / "model")])
    assert result.exit_code == 2
    silent(result.output)
