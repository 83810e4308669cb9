"""The preference page on a small phone, without scripts: it fits, it can be tapped, and what is saved is in the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from redis import Redis

from delivery.feedback import Feedback
from delivery.links import Links, LinkSettings
from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import Suppression
from gateway.app import create_app
from gateway.preference_form import Offer
from gateway.redis_user_rows import RedisUserRows
from lake.profiles import blank
from scheduler.loading import reenroll
from scheduler.redis_stores import RedisStores
from tests.browser.conftest import Served
from tests.unit.gateway.conftest import META, NOW, World

OFFER = Offer(
    {"post": "New posts", "reply": "Replies to you", "a_kind_with_a_rather_long_name": "Rooms that open nearby"},
    ("in_app", "email", "push"),
)
SMALLEST_TARGET = 44
SIZES = (
    "nodes => nodes.map(node => { const box = node.getBoundingClientRect(); return [node.outerHTML.slice(0, 80), box.width, box.height]; })"
)


@dataclass
class House:
    """A gateway over a real store, and somebody in Berlin."""

    world: World
    stores: RedisStores
    url: str
    links: Links = field(init=False)

    def __post_init__(self) -> None:
        self.links = Links(LinkSettings(("0123456789abcdef",), self.url))
        profile = blank(1)
        profile["zone"], profile["windows"][0, 0] = b"Europe/Berlin", 36
        self.stores.profiles.put(["u1"], profile)

    def link(self) -> str:
        return self.links.preferences("u1", NOW)

    def kept(self) -> dict[str, str]:
        """Everything in the store, and what had become of it, to compare."""
        client = self.stores.client
        return {str(key): repr(client.dump(key)) for key in sorted(client.keys())}


@pytest.fixture
def house(tmp_path: Path, redis_client: Redis, served: Served) -> House:
    world, stores = World(tmp_path), RedisStores(redis_client, META)
    house = House(world, stores, served.url)
    suppression = Suppression(RedisSuppressionStore(redis_client, META.keys), stores.profiles, META)
    app = create_app(
        world.services(
            profiles=stores.profiles,
            user_rows=RedisUserRows(redis_client, META.keys),
            follows=stores.follows,
            suppression=suppression,
            feedback=Feedback(world.events, suppression),
            links=house.links,
            offer=OFFER,
            enroll=lambda users, now: reenroll(users, stores.loading(), now),
        )
    )
    served.start(app)
    return house


@pytest.fixture(autouse=True)
def _shots(request: pytest.FixtureRequest, phone: Page) -> Iterator[None]:
    """Leave a picture of how each test ended in the folder that TIDINGS_SCREENSHOTS names."""
    yield
    if folder := os.environ.get("TIDINGS_SCREENSHOTS"):
        phone.screenshot(path=Path(folder) / f"{request.node.name}.png", full_page=True)


def fits(phone: Page) -> None:
    """Whether the page is as wide as the phone, and everything to tap large enough."""
    width = phone.locator("html").evaluate("node => node.scrollWidth")
    assert width <= 360
    tapped = ".chip span, button, select, input[type=time]"
    for what, wide, high in phone.locator(tapped).evaluate_all(SIZES):
        assert min(wide, high) >= SMALLEST_TARGET, what


def test_a_choice_is_toggled_saved_and_in_the_store(phone: Page, house: House) -> None:
    phone.goto(house.link())
    fits(phone)
    group = phone.get_by_role("group", name="Replies to you")
    box = group.get_by_role("checkbox", name="E-mail")
    expect(box).to_be_checked()
    box.uncheck()
    phone.get_by_role("radio", name="Fewer", exact=True).check()
    phone.get_by_label("Tell me").select_option("18:30")
    phone.get_by_role("checkbox", name="Sunday").uncheck()
    phone.get_by_label("From").fill("22:00")
    phone.get_by_label("To", exact=True).fill("07:30")
    phone.get_by_role("button", name="Save").click()
    expect(phone.get_by_role("status")).to_contain_text("Saved")
    expect(phone.get_by_role("status")).to_contain_text("At 18:30, Monday, Tuesday")
    fits(phone)
    days = ["mon", "tue", "wed", "thu", "fri", "sat"]
    day = {"dial": -1, "quiet_from": "22:00", "quiet_to": "07:30", "digest_at": "18:30", "digest_days": days}
    rows = [{"allowed": True} | day, {"kind": "reply", "channel": "email", "allowed": False}]
    assert house.stores.profiles.preferences(["u1"])[0] == rows
    assert house.stores.profiles.get(["u1"])["digest_days"].tolist() == [0b0111111]
    assert house.stores.due.slots(["u1"]).tolist() == [(int(NOW) // 86_400 * 96) + 96 + 17 * 4 + 2]
    phone.goto(house.link())
    expect(group.get_by_role("checkbox", name="E-mail")).not_to_be_checked()


def test_a_mail_scanner_that_follows_the_link_changes_nothing(phone: Page, house: House) -> None:
    before = house.kept()
    for accept in ("*/*", "text/html"):
        assert httpx.get(house.link(), headers={"Accept": accept, "Purpose": "prefetch"}).status_code == 200
    phone.goto(house.link())
    assert house.kept() == before


def test_leaving_and_coming_back(phone: Page, house: House) -> None:
    phone.goto(house.link())
    phone.get_by_role("button", name="Unsubscribe from everything").click()
    expect(phone.get_by_role("status")).to_contain_text("unsubscribed from everything")
    assert house.stores.profiles.get(["u1"])["suppressed"].tolist() == [(1 << len(META.channels)) - 1]
    fits(phone)
    phone.get_by_role("button", name="Send me messages again").click()
    assert house.stores.profiles.get(["u1"])["suppressed"].tolist() == [0]


def test_what_makes_no_sense_is_told_where_the_eye_falls_first(phone: Page, house: House) -> None:
    phone.emulate_media(color_scheme="dark")
    phone.goto(house.link())
    phone.get_by_label("From").fill("22:00")
    phone.get_by_role("button", name="Save").click()
    expect(phone.get_by_role("alert")).to_contain_text("both a beginning and an end")
    expect(phone.get_by_role("alert")).to_be_in_viewport()
    fits(phone)
    assert house.stores.profiles.preferences(["u1"])[0] == []


def test_the_keyboard_reaches_and_shows_every_choice(phone: Page, house: House) -> None:
    phone.goto(house.link())
    phone.keyboard.press("Tab")
    first = phone.locator("input[name=allow]").first
    expect(first).to_be_focused()
    assert first.evaluate("node => getComputedStyle(node.nextElementSibling).outlineStyle") == "solid"
    phone.keyboard.press("Space")
    expect(first).not_to_be_checked()


def test_an_expired_link_is_a_page_that_fits(phone: Page, house: House) -> None:
    house.world.clock.at = float(house.links.preferences_until(NOW))
    phone.goto(house.link())
    expect(phone.get_by_role("heading", name="This link has expired")).to_be_visible()
    fits(phone)


def test_in_german_it_fits_as_well_and_says_so_to_who_hears_it(phone: Page, house: House) -> None:
    profile = blank(1)
    profile["zone"], profile["windows"][0, 0], profile["locale"] = b"Europe/Berlin", 36, b"de-DE"
    house.stores.profiles.put(["u1"], profile)
    phone.goto(house.link())
    fits(phone)
    expect(phone.locator("html")).to_have_attribute("lang", "de")
    phone.get_by_label("Benachrichtigen").select_option("18:30")
    phone.get_by_role("checkbox", name="Sonntag").uncheck()
    phone.get_by_role("button", name="Speichern").click()
    expect(phone.get_by_role("status")).to_contain_text("Um 18:30, Montag, Dienstag")
    fits(phone)
