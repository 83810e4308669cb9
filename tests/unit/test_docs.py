"""What the pages of docs/ show as settings are settings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import serve_app

ROOT = Path(serve_app.__file__).parent
BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = [(page.name, block) for page in sorted(ROOT.glob("docs/*.md")) for block in BLOCK.findall(page.read_text())]


def test_there_is_something_shown() -> None:
    assert {"channels.md"} <= {page for page, _ in SHOWN}


@pytest.mark.parametrize(("page", "block"), SHOWN, ids=[f"{page}-{number}" for number, (page, _) in enumerate(SHOWN)])
def test_settings_that_are_shown_are_accepted(page: str, block: str) -> None:
    settings = serve_app.Settings(model="model", **json.loads(block))
    assert settings.channels, page


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"channels": [{"kind": "webhook", "name": "pigeon", "secret": "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0"}]}, "channels"),
        ({"channels": [{"kind": "console"}, {"kind": "console"}]}, "channels"),
        ({"scheduled_channels": ["pigeon"]}, "scheduled_channels"),
        ({"weekly": {"e-mail": 3}}, "weekly"),
        ({"threshold": {"mail": 0.1}}, "threshold"),
    ],
)
def test_a_channel_that_does_not_exist_is_refused_where_it_is_named(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        serve_app.Settings(model="model", **settings)  # type: ignore[arg-type]
    assert [error["loc"] for error in refused.value.errors()] == [(field,)]


def test_windows_may_not_send_on_what_is_not_set_up() -> None:
    with pytest.raises(ValidationError, match="scheduled_channels names 'email', and `channels` sets up only in_app"):
        serve_app.Settings(model="model", scheduled_channels=("in_app", "email"))
