"""The console's pages in a browser, on a desk and on a phone: nothing runs off the side, and what is written can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from gateway.app import create_app
from gateway.console import Overview
from lake.decision_log import pack
from lake.decisions import REASON, SEND, Candidates, Decided
from lake.ids import shard_of
from lake.profiles import EVERYBODY, WEEK, blank
from scheduler.send_time import LEVELS
from tests.browser.conftest import Served
from tests.unit.gateway.conftest import META, NOW, World
from tests.unit.gateway.test_dead_letters_page import bury

WIDTHS = {"phone": 360, "desk": 1280}
SMALLEST_LETTERS_PX = 11
PAGES = {
    "login": "/console",
    "console": "/console",
    "everybody": "/console/week",
    "week": "/console/week?user=ann",
    "unknown": "/console/week?user=nobody",
    "preview": "/console/preview",
    "dead": "/console/dead",
    "dead_letter": "/console/dead/{letter}",
    "no_letter": "/console/dead/0/1-0",
}
STATUS = {"login": 401, "unknown": 404, "no_letter": 404}
LETTERS = """() => [...document.querySelectorAll('body *')].filter(node => [...node.childNodes].some(
  each => each.nodeType === 3 && each.data.trim()) && node.getClientRects().length
  && !['title', 'option'].includes(node.tagName.toLowerCase())
).map(node => {
  const drawing = node.closest('svg'), sheet = node.closest('section');
  const scale = drawing ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
  const beyond = sheet && !drawing ? node.getBoundingClientRect().right - sheet.getBoundingClientRect().right : 0;
  return [node.textContent.trim().slice(0, 40), parseFloat(getComputedStyle(node).fontSize) * scale, beyond];
})"""
"""Of everything that has letters: what it says, their size on the screen, and how far it runs beyond its sheet, pixels."""

OVERVIEW = Overview(
    windows=18_432,
    candidates=2_194_377,
    sends={"scheduled": {"in_app": 61_204, "email": 20_117}, "urgent": {"in_app": 4_310, "push": 12_005}},
    dispositions={"below_threshold": 1_702_118, "over_budget": 301_442, "send": 97_636, "ineligible": 84_201, "hold": 8_980},
    outcomes={"in_app": {"accepted": 65_514}, "email": {"accepted": 19_904, "failed": 61, "expired": 152}, "push": {"accepted": 12_005}},
    budget_use={"in_app": 0.71, "email": 0.43, "push": 0.125},
    outbox_backlog=118,
    last_slot_at=NOW - 300,
    window_lag_s=4.2,
    model_id="2023-11-13T03-20-00-logistic-4f2a91",
    alarms=("email: the provider rests until 22:20 after 5 failures in a row",),
    at=NOW,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Ann in Vienna, who looks in the mornings and evenings and was told of eight things, and everybody's hours."""
    world, ann = World(tmp_path), blank(1)
    quarters = [(day * 24 + hour) * 4 + 1 for day in range(7) for hour in (8, 20)]
    ann["zone"], ann["windows"][0, : len(quarters)], ann["window_share"][0, : len(quarters)] = b"Europe/Vienna", quarters, 180
    world.profiles.put(["ann"], ann)
    weeks = np.zeros(2, WEEK)
    hour = np.arange(168) % 24
    weeks["scores"] = 10 + 240 * np.maximum(np.exp(-((hour - 8.5) ** 2) / 6), 0.8 * np.exp(-((hour - 20) ** 2) / 8))
    weeks["rests_on"] = LEVELS.index("own_history")
    world.profiles.put_weeks(["ann", EVERYBODY], weeks)
    world.items.put([{"item_id": f"i{number}", "created_at": NOW} for number in range(8)])
    for number in range(8):
        _send(world, f"i{number}", NOW - number * 11 * 3600)
    return world


def _send(world: World, item_id: str, at: float) -> None:
    zero, one = np.zeros(1, np.int32), np.ones(1, np.float32)
    rows = Candidates(["ann"], [item_id], zero, zero, np.zeros(1, np.uint8), np.zeros(1, np.uint8), ("new_posts",), zero)
    decided = Decided(
        candidates=rows,
        probability=0.4 * one,
        value=0.4 * one,
        threshold=0.2 * one,
        propensity=one,
        allowance=np.full(1, 3, np.int16),
        disposition=np.full(1, SEND, np.uint8),
        reason=np.full(1, REASON["above_threshold"], np.uint8),
        grant_id=np.ones(1, np.uint64),
        decision_ids=["d"],
        lane="scheduled",
        model_id="m",
        at=at,
    )
    blob = pack(decided, META.channels, np.arange(1), np.arange(1), one)
    world.stream.append(shard_of("ann", META.shards), blob, bytes([SEND, REASON["above_threshold"]]))


@pytest.fixture(params=list(WIDTHS))
def reader(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page as wide as a phone or a desk; the console runs a script of its own."""
    context = browser.new_context(viewport={"width": WIDTHS[request.param], "height": 740}, device_scale_factor=2)
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


def test_pages_fit_and_what_is_written_is_large_enough_and_within_its_sheet(reader: Page, world: World, served: Served) -> None:
    served.start(create_app(world.services(overview=lambda _: OVERVIEW, dashboard_url="http://127.0.0.1:8265")))
    letter = bury(world, 1, "550 5.1.1 <somebody@a-very-long-domain-name-without-any-place-to-break.example>: user unknown")
    bury(world, 2, channel="push", item_id="a_very_long_item_id_" * 6)
    for name, path in PAGES.items():
        answer = reader.goto(served.url + path.format(letter=letter))
        assert answer is not None
        assert answer.status == STATUS.get(name, 200), name
        if name == "console":
            expect(reader.locator("[data-table=outcomes]")).to_contain_text("65,514")
        root = reader.locator("html")
        if folder := os.environ.get("TIDINGS_SCREENSHOTS"):
            reader.screenshot(path=Path(folder) / f"{name}-{root.evaluate('node => node.clientWidth')}.png", full_page=True)
        assert root.evaluate("node => node.scrollWidth - node.clientWidth") <= 0, name
        assert not [words for words, size, _ in reader.evaluate(LETTERS) if size < SMALLEST_LETTERS_PX], name
        assert not [words for words, _, beyond in reader.evaluate(LETTERS) if beyond > 0], name
        if name == "login":
            reader.goto(f"{served.url}/console?token={world.token('operate')}")
