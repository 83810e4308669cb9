"""What messages say. Golden files lie in tests/golden; TIDINGS_RECORD_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery.channels.base import Content
from delivery.locales import Reader
from delivery.mime import compose, parse_address
from delivery.templates import Templates, TemplateSettings
from delivery.wording import clean, one_line, safe_url
from tests.unit.delivery.examples import LINKS, NOW, a_delivery, a_message

GOLDEN = Path(__file__).parents[2] / "golden"
TEMPLATES = Templates(TemplateSettings(), LINKS)
ITEMS: dict[str, dict[str, Any]] = {
    "room": {
        "item_id": "i1",
        "created_at": NOW,
        "title": "Jazz after midnight",
        "text": "Live from the cellar.\nBring your own chair.",
        "url": "https://rooms.example/1?a=1&b=2",
        "topics": ["jazz", "live"],
        "author_id": "Ella",
    },
    "bare": {"item_id": "i1", "created_at": NOW},
    "hostile": {
        "item_id": "i1",
        "created_at": NOW,
        "title": "<script>alert(1)</script>\r\nBcc: everyone@example.org\0",
        "text": '{{ 7 * 7 }} <img src=x onerror=alert(1)> & "quotes"\u202egpj.exe',
        "url": "javascript:alert(1)",
        "topics": ["<b>bold</b>"],
        "author_id": "Eve <eve@example.org>",
    },
}


def golden(name: str, text: str) -> None:
    """Compare with a golden file, or write it."""
    path = GOLDEN / name
    if os.environ.get("TIDINGS_RECORD_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text, f"{path} differs; look, then run with TIDINGS_RECORD_GOLDEN=1 to accept"


def rendered(name: str) -> Content:
    """Return what a message says of an item, steadily."""
    return steady(TEMPLATES.render(a_message(), ITEMS[name], bodies=True))


def steady(content: Content) -> Content:
    """Return a message with its tokens replaced by a word: their compressed form depends on the machine's zlib."""
    pattern = re.compile(r"(/(?:unsubscribe|preferences|r|o)/)[\w.-]+")
    return Content(**{field: pattern.sub(r"\1TOKEN", getattr(content, field)) for field in Content.__slots__})


@pytest.mark.parametrize("name", ITEMS)
def test_messages_read_as_agreed(name: str) -> None:
    content = rendered(name)
    golden(f"message_{name}.txt", f"{content.title}\n\n{content.plain}")
    golden(f"message_{name}.html", content.html)


def test_an_email_reads_as_agreed() -> None:
    content = rendered("room")
    delivery = replace(a_delivery(), content=content)
    message = compose(delivery, parse_address("news@t.example"), parse_address("ada@example.org"), "boundary")
    golden("message_room.eml", message.decode("ascii").replace("\r\n", "\n"))


def test_what_a_user_wrote_never_becomes_markup_code_or_a_header() -> None:
    content = TEMPLATES.render(a_message(), ITEMS["hostile"], bodies=True)
    assert "<script" not in content.html
    assert "<img src=x" not in content.html
    assert "javascript:" not in content.html + content.plain
    assert "{{ 7 * 7 }}" in content.plain
    assert "\n" not in content.title
    assert content.url == ""


@given(st.text(), st.text(), st.text(), st.lists(st.text(), max_size=3))
def test_any_text_makes_a_message_without_control_characters(title: str, text: str, url: str, topics: list[str]) -> None:
    item = {"item_id": "i1", "created_at": NOW, "title": title, "text": text, "url": url, "topics": topics}
    content = TEMPLATES.render(a_message(), item, bodies=True)
    assert content.title.isprintable() or not _controls(content.title)
    assert not _controls(content.text + content.plain + content.html, but="\n\t")
    assert len(content.title.splitlines()) == 1
    assert content.url == "" or content.url.lower().startswith(("http://", "https://"))
    content.plain.encode()


def _controls(text: str, but: str = "") -> list[str]:
    return [character for character in text if unicodedata.category(character) in ("Cc", "Cs") and character not in but]


def test_channels_that_need_no_bodies_get_none_and_the_plain_link() -> None:
    content = TEMPLATES.render(a_message(), ITEMS["room"], bodies=False)
    assert (content.plain, content.html) == ("", "")
    assert content.url == ITEMS["room"]["url"]


def test_links_are_counted_in_bodies_unless_that_is_switched_off() -> None:
    tracked = TEMPLATES.render(a_message(), ITEMS["room"], bodies=True)
    assert ITEMS["room"]["url"] not in tracked.plain
    assert "https://t.example/r/" in tracked.plain
    plain = Templates(TemplateSettings(track=False), LINKS).render(a_message(), ITEMS["room"], bodies=True)
    assert ITEMS["room"]["url"] in plain.plain
    assert "<img" not in plain.html


def test_without_links_there_is_no_unsubscribe_link() -> None:
    content = Templates(TemplateSettings()).render(a_message(), ITEMS["room"], bodies=True)
    assert content.unsubscribe_url == ""
    assert "No more of these" not in content.plain + content.html


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": "new_posts"}, "it is new in what you follow"),
        ({"source": "trending"}, "many people are engaging with it now"),
        ({"source": "unheard of"}, "it is likely to matter to you"),
        ({"reason": "critical"}, "it was marked critical"),
    ],
)
def test_every_message_says_why_it_was_sent(changes: dict[str, str], reason: str) -> None:
    content = TEMPLATES.render(a_message(**changes), ITEMS["room"], bodies=True)
    assert content.why == reason
    assert reason in content.plain
    assert reason in content.html


def test_own_templates_go_before_ours_by_kind(tmp_path: Path) -> None:
    (tmp_path / "room.subject.j2").write_text("Room: {{ title }}")
    templates = Templates(TemplateSettings(folder=tmp_path), LINKS)
    assert templates.render(a_message(), ITEMS["room"] | {"kind": "room"}, bodies=False).title == "Room: Jazz after midnight"
    assert templates.render(a_message(), ITEMS["room"] | {"kind": "post"}, bodies=False).title == "Jazz after midnight"
    assert templates.render(a_message(), ITEMS["room"] | {"kind": "../../etc/passwd"}, bodies=False).title == "Jazz after midnight"


def test_what_is_told_to_many_is_still_everyones_own(tmp_path: Path) -> None:
    (tmp_path / "linked.subject.j2").write_text("{{ link }}")
    templates = Templates(TemplateSettings(folder=tmp_path), LINKS)
    ada, bob = a_message(user_id="ada"), a_message(user_id="bob")
    for kind in ("post", "linked"):
        mine, others = (templates.render(each, ITEMS["room"] | {"kind": kind}, bodies=True) for each in (ada, bob))
        assert mine.unsubscribe_url != others.unsubscribe_url
        assert mine.html != others.html
        assert (mine.title == others.title) == (kind == "post")
        assert mine == Templates(TemplateSettings(folder=tmp_path), LINKS).render(ada, ITEMS["room"] | {"kind": kind}, bodies=True)


def test_words_follow_the_item_the_reader_and_the_reason() -> None:
    templates, post = Templates(TemplateSettings(), LINKS), ITEMS["room"] | {"kind": "post"}
    first = templates.render(a_message(), post, bodies=False)
    assert templates.render(a_message(), post | {"title": "Moved"}, bodies=False).title == "Moved"
    assert templates.render(a_message(), post, bodies=False, reader=Reader("de")).why != first.why
    assert templates.render(a_message(reason="critical"), post, bodies=False).why == "it was marked critical"
    assert templates.render(a_message(), post, bodies=False) == first


def test_an_own_template_cannot_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    (tmp_path / "default.subject.j2").write_text("{{ ''.__class__.__mro__ }}")
    with pytest.raises(Exception, match="unsafe"):
        Templates(TemplateSettings(folder=tmp_path), LINKS).render(a_message(), ITEMS["room"], bodies=False)


def test_cleaning_keeps_line_breaks_and_drops_what_cannot_be_seen() -> None:
    assert clean("a\r\nb\rc\0\x1b[31m\u202e\ud800 ") == "a\nb\nc[31m?"
    assert one_line(" a\n b\tc ") == "a b c"


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "//example.org", "ftp://x", "http://a b", "", "https:/x y"])
def test_only_web_addresses_are_links(url: str) -> None:
    assert safe_url(url) == ""
