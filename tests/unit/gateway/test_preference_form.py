"""The preference form: what a person ticks comes to the same rules as before, in the fewest rows, and what makes no sense is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.preferences import KindRules, allowed, applied
from gateway.preference_form import Choices, Offer, name_of, submitted
from lake.ids import hash64
from lake.profiles import WEEKDAYS, blank
from tests.unit.gateway.conftest import META

OFFER = Offer({"post": "New posts", "reply": "Replies"}, ("in_app", "email", "push"))
KINDS = ("post", "reply", "own")

rows = st.lists(
    st.fixed_dictionaries(
        {"allowed": st.booleans()},
        optional={
            "kind": st.sampled_from(KINDS),
            "channel": st.sampled_from((*OFFER.channels, "sms")),
            "dial": st.integers(-2, 2),
            "digest_at": st.sampled_from(["00:00", "18:30"]),
        },
    ),
    max_size=8,
)


def decided(preferences: list[dict[str, Any]], kind: str | None, channel: str) -> bool:
    """What delivery and eligibility make of rows."""
    code = np.array(META.channel_codes([channel]), np.uint8)
    key = np.array([0 if kind is None else hash64([kind])[0]], np.uint64)
    profiles = applied(blank(1), [preferences], META)
    return bool(allowed(profiles, KindRules.of([preferences], META), np.zeros(1, np.intp), key, code)[0])


@given(rows)
def test_what_the_page_shows_is_what_is_decided(before: list[dict[str, Any]]) -> None:
    offer = OFFER.to(before)
    for (kind, channel), ticked in Choices.of(before, offer).allowed.items():
        assert ticked == decided(before, kind, channel)


@given(rows, st.data())
def test_what_is_saved_is_what_was_ticked(before: list[dict[str, Any]], data: st.DataObject) -> None:
    offer = OFFER.to(before)
    places = offer.places()
    ticked = data.draw(st.lists(st.sampled_from(places), unique=True))
    form = {"shown": [name_of(place) for place in places], "allow": [name_of(place) for place in ticked], "dial": ["1"]}
    choices, wrong = submitted(form, Choices.of(before, offer))
    assert wrong == []
    after = choices.rows(before, offer)
    assert {place for place in places if decided(after, *place)} == set(ticked)
    assert Choices.of(after, offer) == choices
    assert applied(blank(1), [after], META)["dial"][0] == 1
    hidden = [{name: row[name] for name in ("allowed", "kind", "channel") if name in row} for row in before if row.get("channel") == "sms"]
    assert [row for row in after if row.get("channel") == "sms"] == hidden


def test_saving_as_it_was_keeps_few_rows() -> None:
    before: list[dict[str, Any]] = [
        {"allowed": True},
        {"kind": "post", "allowed": False},
        {"kind": "post", "channel": "email", "allowed": True},
    ]
    offer = OFFER.to(before)
    assert Choices.of(before, offer).rows(before, offer) == [
        {"allowed": True},
        {"kind": "post", "channel": "in_app", "allowed": False},
        {"kind": "post", "channel": "push", "allowed": False},
    ]
    assert Choices.of([], OFFER).rows([], OFFER) == [{"allowed": True}]


def test_what_a_form_does_not_hold_stays() -> None:
    before = [{"allowed": False, "dial": -1, "quiet_from": "22:00", "quiet_to": "07:00", "digest_at": "18:30", "digest_days": "mon|tue"}]
    choices = Choices.of(before, OFFER)
    assert submitted({}, choices) == (choices, [])
    assert choices.rows(before, OFFER) == [before[0] | {"digest_days": ["mon", "tue"]}]
    assert submitted({"allow": ["email/"]}, choices)[0] == choices


def test_a_form_about_what_was_never_offered_changes_nothing() -> None:
    choices = Choices.of([], OFFER)
    assert submitted({"shown": ["pigeon/", "email/secret", "\0", "/"], "allow": []}, choices) == (choices, [])


@pytest.mark.parametrize(
    ("form", "problem"),
    [
        ({"dial": "3"}, "choose one of the five"),
        ({"dial": "९"}, "choose one of the five"),
        ({"quiet_from": "22:00"}, "both a beginning and an end"),
        ({"quiet_from": "25:00", "quiet_to": "07:00"}, "times such as 22:00"),
        ({"quiet_from": "07:00", "quiet_to": "07:00"}, "begin and end at the same time"),
        ({"digest_at": "18:31", "digest_days": "mon"}, "from the list"),
        ({"digest_at": "<b>", "digest_days": "mon"}, "from the list"),
        ({"digest_at": "18:30"}, "at least one day"),
        ({"digest_at": "18:30", "digest_days": "moon"}, "at least one day"),
    ],
)
def test_what_makes_no_sense_is_told(form: dict[str, str], problem: str) -> None:
    _, wrong = submitted({name: [value] for name, value in form.items()}, Choices.of([], OFFER))
    assert len(wrong) == 1
    assert problem in wrong[0]


def test_what_was_chosen_is_told_in_words() -> None:
    before = [
        {"allowed": True, "dial": -1, "quiet_from": "18:00", "quiet_to": "07:00", "digest_at": "18:30", "digest_days": ["mon", "sun"]},
        {"kind": "reply", "allowed": False},
        {"channel": "push", "allowed": False},
    ]
    assert Choices.of(before, OFFER).told(OFFER) == [
        ("New posts", "App, E-mail"),
        ("Replies", "Off"),
        ("Everything else", "App, E-mail"),
        ("How much", "Fewer"),
        ("When", "At 18:30, Monday, Sunday; inside your quiet hours, so it waits until 07:00"),
        ("Quiet hours", "18:00 to 07:00"),
    ]
    assert Choices.of([], Offer({}, ("in_app",))).told(Offer({}, ("in_app",)))[:3] == [
        ("Everything", "App"),
        ("How much", "Usual"),
        ("When", "When I am likely to look"),
    ]
    assert Choices.of([], OFFER).digest_days == WEEKDAYS
