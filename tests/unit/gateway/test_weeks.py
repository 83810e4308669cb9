"""A user's week in the console: the picture, the windows to come, and why what was sent went when it did."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from gateway.app import create_app
from gateway.routes.console import COOKIE
from gateway.weeks import InForce, UserWeek, WeekPicture, population, user_week, why_then
from lake.profiles import EVERYBODY, NO_WINDOW, WEEK, Profiles, blank
from scheduler.send_time import LEVELS
from tests.unit.gateway.conftest import NOW, World, client_of

SVG = "{http://www.w3.org/2000/svg}"
TUESDAY_9, FRIDAY_20 = (24 + 9) * 4 + 1, (4 * 24 + 20) * 4
SENT = {"item_id": "<i1>", "channel": "in_app", "lane": "scheduled", "source": "new_posts", "reason": "above_threshold"}


def ann() -> Profiles:
    """Ann in Vienna, with windows on Tuesday 09:15 and Friday 20:00."""
    row = blank(1)
    row["zone"], row["windows"][0, :2], row["window_share"][0, :2] = b"Europe/Vienna", [TUESDAY_9, FRIDAY_20], [255, 102]
    return row


def week_of_hours(*hours: int) -> np.ndarray[Any, np.dtype[np.void]]:
    row = np.zeros(1, WEEK)
    row["scores"][0, list(hours)], row["rests_on"] = 255, LEVELS.index("own_history")
    return row


def shown(*sends: tuple[str, dict[str, Any]]) -> UserWeek:
    """Return ann's week with some sends at times UTC."""
    rows = pd.DataFrame([{**SENT, "at": pd.Timestamp(at, tz="UTC"), **change} for at, change in sends])
    return user_week("ann", ann(), week_of_hours(33, 116), rows, NOW)


def marks(picture: WeekPicture, kind: str) -> list[ET.Element]:
    tree = ET.fromstring(picture.svg())
    return [element for element in tree.iter() if element.get("class") == kind]


def test_a_picture_has_an_hour_for_each_of_the_week_and_marks_windows_and_sends_where_they_are() -> None:
    week = shown(("2023-11-14T08:15:30", {}))
    hours = marks(week.picture, "hour")
    darkest = [place for place, hour in enumerate(hours) if hour.get("fill-opacity") == "1.000"]
    assert (len(hours), darkest) == (168, [33, 116])
    tuesday, friday = marks(week.picture, "window")
    assert (tuesday.get("x"), tuesday.get("y")) == (str(44 + 9.25 * 30), str(52 + 24))
    assert friday.findtext(f"{SVG}title") == "window Fri 20:00, 40% as likely as the likeliest"
    (send,) = marks(week.picture, "send")
    assert (send.get("cx"), send.get("cy")) == (str(44 + 9.25 * 30), str(52 + 24 + 12.0))
    assert send.findtext(f"{SVG}title") == "Tue 14 Nov 09:15: <i1> on in_app"


def test_the_windows_of_the_coming_week_are_told_by_the_users_clock() -> None:
    assert shown().planned == ["Fri 17 Nov 20:00", "Tue 21 Nov 09:15"]
    assert shown().picture.title == "ann: rests on own history"


@pytest.mark.parametrize(
    ("at", "change", "why"),
    [
        (
            "2023-11-14T08:15:30",
            {},
            "in the window Tue 09:15, number 1 of 2 by how likely it finds the reader, 100% as likely as the likeliest",
        ),
        (
            "2023-11-17T19:29:00",
            {"source": "held"},
            "in the window Fri 20:00, number 2 of 2 by how likely it finds the reader, 40% as likely",
        ),
        ("2023-11-17T19:29:00", {"source": "held"}, "; it was kept for this window"),
        ("2023-11-16T08:15:30", {}, "in a window that has moved since, or was decided late, at an hour of which nothing is known"),
        ("2023-11-21T08:50:30", {}, "or was decided late, at an hour 100% as likely as the likeliest"),
        ("2023-11-16T08:15:30", {"lane": "urgent"}, "asked for at that moment, at an hour of which nothing is known"),
        (
            "2023-11-17T19:50:30",
            {"lane": "urgent"},
            "asked for at that moment, at an hour 100% as likely as the likeliest, and worth no more",
        ),
        ("2023-11-16T08:15:30", {"lane": "urgent", "reason": "critical"}, "critical: at once"),
    ],
)
def test_each_send_says_why_it_went_then(at: str, change: dict[str, str], why: str) -> None:
    assert why in shown((at, change)).told[0].why


def test_a_user_of_whom_nothing_is_known_has_an_empty_week() -> None:
    week = user_week("bob", blank(1), np.zeros(1, WEEK), pd.DataFrame(), NOW)
    assert (week.planned, week.told, week.picture.title) == ([], [], "bob: no hours are known yet")
    assert len(marks(week.picture, "hour")) == 168
    nothing = InForce(np.full(14, NO_WINDOW, np.uint16), np.zeros(14, np.uint8))
    assert "has moved since" in why_then(SENT, 0, nothing, np.zeros(168))
    assert InForce(np.array([4], np.uint16), np.array([0], np.uint8)).marks()[0].words == "window Mon 01:00"
    with pytest.raises(ValueError, match="168 hours"):
        population(np.zeros(24), "a day")


def test_a_time_of_the_users_own_is_marked_and_told_of_in_the_place_of_what_is_predicted() -> None:
    own = ann()
    own["digest_quarter"], own["digest_days"] = 74, 0b11
    rows = pd.DataFrame([{**SENT, "at": pd.Timestamp("2023-11-14T17:31", tz="UTC")}])
    week = user_week("ann", own, week_of_hours(33), rows, NOW)
    assert [mark.words for mark in week.picture.windows] == [f"window {day} 18:30, the reader's own time" for day in ("Mon", "Tue")]
    assert week.told[0].why == "in the window Tue 18:30, the reader's own time"
    assert week.planned == ["Mon 20 Nov 18:30", "Tue 21 Nov 18:30"]


def test_a_window_inside_quiet_hours_is_shown_and_told_of_at_their_end() -> None:
    quiet = ann()
    quiet["quiet_from"], quiet["quiet_to"] = 9 * 60, 10 * 60
    rows = pd.DataFrame([{**SENT, "at": pd.Timestamp("2023-11-14T09:02", tz="UTC")}])
    week = user_week("ann", quiet, week_of_hours(33), rows, NOW)
    assert week.picture.windows[0].words == "window Tue 10:00, 100% as likely as the likeliest"
    assert week.told[0].why.startswith("in the window Tue 10:00, number 1 of 2")
    assert "Tue 21 Nov 10:00" in week.planned


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with the console open."""
    world.profiles.put(["ann"], ann())
    async with client_of(create_app(world.services())) as client:
        client.cookies.set(COOKIE, world.token("read"))
        yield client


async def test_the_console_shows_a_users_week_and_everybodys(visitor: httpx.AsyncClient, world: World) -> None:
    assert "no hours are known yet" in (await visitor.get("/console/week")).text
    world.profiles.put_weeks(["ann", EVERYBODY], np.concatenate([week_of_hours(33), week_of_hours(5)]))
    everybody = await visitor.get("/console/week")
    assert "<svg" in everybody.text
    assert "everybody" in everybody.text
    page = await visitor.get("/console/week", params={"user": "ann"})
    assert page.status_code == 200
    assert "ann: rests on own history" in page.text
    assert "Fri 17 Nov 20:00" in page.text


async def test_an_unknown_user_is_said_and_strangers_see_nothing(visitor: httpx.AsyncClient) -> None:
    answer = await visitor.get("/console/week", params={"user": "<eve>"})
    assert answer.status_code == 404
    assert "no user &#39;&lt;eve&gt;&#39;" in answer.text
    visitor.cookies.clear()
    assert (await visitor.get("/console/week", params={"user": "ann"})).status_code == 401
