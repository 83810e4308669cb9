"""Signed links: only we can make them, and each serves its purpose only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.links import BadLinkError, ExpiredLinkError, Links, LinkSettings, LinkToken

OLD, NEW = "an old secret, 16+", "a new secret, 16+"
NOW = 1_700_000_000
LINKS = Links(LinkSettings((NEW,), "https://t.example/"))


def token_of(url: str) -> str:
    return url.rpartition("/")[2]


@given(st.text(), st.text(), st.text(), st.text(), st.text())
def test_a_link_says_what_was_put_in(user: str, channel: str, grant: str, url: str, item: str) -> None:
    token = token_of(LINKS.click(user, channel, grant, url, item))
    assert LINKS.read("click", token) == LinkToken("click", user, channel, grant, url, item)


def test_links_lead_to_the_gateway() -> None:
    assert LINKS.unsubscribe("u1", "email", "g1").startswith("https://t.example/unsubscribe/")
    assert LINKS.click("u1", "email", "g1", "https://x.example").startswith("https://t.example/r/")
    assert LINKS.open("u1", "email", "g1").startswith("https://t.example/o/")


@given(st.data())
def test_a_changed_link_is_refused(data: st.DataObject) -> None:
    token = token_of(LINKS.unsubscribe("u1", "email", "g1"))
    place = data.draw(st.integers(0, len(token) - 2))  # the last character holds bits that base64 ignores
    letter = data.draw(st.characters(codec="ascii").filter(lambda c: c != token[place]))
    with pytest.raises(BadLinkError):
        LINKS.read("unsubscribe", token[:place] + letter + token[place + 1 :])


@pytest.mark.parametrize("token", ["", ".", "a.b", "é", "\0", "x" * 10_000, "W10.AAAA"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(BadLinkError, match="not valid"):
        LINKS.read("unsubscribe", token)


def test_a_pixel_cannot_unsubscribe() -> None:
    with pytest.raises(BadLinkError):
        LINKS.read("unsubscribe", token_of(LINKS.open("u1", "email", "g1")))


def test_links_signed_with_an_older_secret_still_work() -> None:
    before = Links(LinkSettings((OLD,), "https://t.example"))
    after = Links(LinkSettings((OLD, NEW), "https://t.example"))
    assert after.read("unsubscribe", token_of(before.unsubscribe("u1", "email", "g1"))).user_id == "u1"
    with pytest.raises(BadLinkError):
        before.read("unsubscribe", token_of(after.unsubscribe("u1", "email", "g1")))


def test_a_link_to_preferences_works_until_it_expires_and_says_so_after() -> None:
    token = token_of(LINKS.preferences("u1", NOW, "email", "g1"))
    until = LINKS.preferences_until(NOW)
    assert until == NOW + 90 * 86_400
    assert LINKS.read_preferences(token, until - 1) == LinkToken("preferences", "u1", "email", "g1", expires_at=until)
    with pytest.raises(ExpiredLinkError, match="expired"):
        LINKS.read_preferences(token, until)


@pytest.mark.parametrize("purpose", ["unsubscribe", "open", "click"])
def test_a_link_of_another_purpose_opens_no_preferences(purpose: str) -> None:
    url = LINKS.click("u1", "email", "g1", "https://x.example") if purpose == "click" else getattr(LINKS, purpose)("u1", "email", "g1")
    with pytest.raises(BadLinkError):
        LINKS.read_preferences(token_of(url), NOW)
    with pytest.raises(BadLinkError):
        LINKS.read("unsubscribe", token_of(LINKS.preferences("u1", NOW)))


def test_a_short_secret_and_a_base_that_is_no_url_are_refused() -> None:
    with pytest.raises(ValueError, match="16 or more"):
        LinkSettings(("short",), "https://t.example")
    with pytest.raises(ValueError, match="16 or more"):
        LinkSettings((), "https://t.example")
    with pytest.raises(ValueError, match="base_url"):
        LinkSettings((NEW,), "t.example")
