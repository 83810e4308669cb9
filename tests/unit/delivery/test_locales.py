"""In which language and how messages are written: fallback of locales, dates and numbers, and twins that say the same."""

from __future__ import annotations

import re
from datetime import UTC
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from delivery.channels.base import Content
from delivery.locales import Reader, babel_locale, fallbacks, readers_of
from delivery.templates import Templates, TemplateSettings
from lake.actors import Actors
from lake.profiles import blank
from tests.unit.delivery.examples import LINKS, NOW, a_message
from tests.unit.delivery.test_templates import ITEMS, golden, steady

SHIPPED = Templates(TemplateSettings(), LINKS)
BERLIN = ZoneInfo("Europe/Berlin")
ROOM = ITEMS["room"] | {"entity_id": "room", "version": 3, "kind": "room", "expires_at": NOW + 7200}
FOUR = Actors(("Ella", "bob", "cid"), 4)
POSTS = [
    {"item_id": f"p{n}", "created_at": NOW, "title": f"Post {n}", "url": f"https://posts.example/{n}", "kind": "post"} for n in range(3)
]
POSTS[1]["author_id"] = "Ella"


@pytest.mark.parametrize(
    ("locale", "names"),
    [
        ("pt-BR", ("pt-BR", "pt")),
        ("de_AT", ("de-AT", "de")),
        ("pt-AO", ("pt-AO", "pt-PT", "pt")),
        ("en-AU", ("en-AU", "en-001", "en")),
        ("zh-TW", ("zh-Hant-TW", "zh-Hant")),
        ("zh-Hans-CN", ("zh-Hans-CN", "zh-Hans", "zh")),
        ("fr-XX", ("fr",)),
        ("xx", ()),
        ("", ()),
        ("../../etc", ()),
        ("☃", ()),
    ],
)
def test_a_locale_falls_back_to_what_its_readers_read(locale: str, names: tuple[str, ...]) -> None:
    assert fallbacks(locale) == names


def test_templates_are_found_by_the_closest_locale_and_dates_and_numbers_follow_the_reader_s_own(tmp_path: Path) -> None:
    (tmp_path / "post.pt.subject.j2").write_text("{{ title }} até {{ expires_at | moment('short') }}, {{ 1234.5 | number }}")
    (tmp_path / "post.subject.j2").write_text("{{ title }} by {{ expires_at | time }} on {{ expires_at | date }}, {{ 2 | plural }}")
    templates = Templates(TemplateSettings(folder=tmp_path))
    item = {"item_id": "p", "created_at": NOW, "title": "Chess", "kind": "post", "expires_at": NOW}

    def title(locale: str) -> str:
        return templates.render(a_message(), item, bodies=False, reader=Reader(locale, ZoneInfo("America/Sao_Paulo"))).title

    assert title("pt-BR") == "Chess até 14/11/2023 19:13, 1.234,5"
    assert title("pt-PT").endswith("1 234,5")
    assert title("de") == "Chess by 19:13 on 14.11.2023, other"
    assert title("unheard of") == title("") == "Chess by 7:13 PM on Nov 14, 2023, other"
    assert babel_locale("unheard of").language == "en"


def test_a_reader_has_the_locale_and_the_clock_of_the_profile() -> None:
    rows = np.concatenate([blank(1), blank(1), blank(1)])
    rows["locale"][0], rows["zone"][0], rows["utc_offset_minutes"][1] = b"pt-BR", b"Europe/Berlin", 90
    rows["zone"][2] = b"Nowhere/Land"
    readers = readers_of(rows)
    assert readers[0] == Reader("pt-BR", BERLIN)
    assert str(readers[1].zone) == "UTC+01:30"
    assert readers[2].zone is UTC


@pytest.mark.parametrize(
    ("count", "title"),
    [
        (1, "Jazz after midnight"),
        (2, "Ella and bob are talking: Jazz after midnight"),
        (4, "Ella and 3 others are talking: Jazz after midnight"),
        (1235, "Ella and 1,234 others are talking: Jazz after midnight"),
    ],
)
def test_several_who_acted_are_told_of_as_one_and_others(count: int, title: str) -> None:
    content = SHIPPED.render(a_message(), ROOM, bodies=True, actors=Actors(("bob", "cid"), count))
    assert content.title == title
    assert ("and" in content.plain.splitlines()[1]) == (count > 1)


def digest(locale: str = "") -> Content:
    message = a_message(digest_by="topic:*", digest=(("p1", "2"), ("p2", "3")))
    first = POSTS[0] | {"topics": ["Gardening", "DIY"]}
    return SHIPPED.render(message, first, bodies=True, reader=Reader(locale, BERLIN), others=POSTS[1:])


def room(locale: str) -> Content:
    return SHIPPED.render(a_message(), ROOM, bodies=True, reader=Reader(locale, BERLIN), actors=FOUR)


def test_a_digest_says_how_many_of_what_and_names_each() -> None:
    content = digest()
    assert content.title == "3 new posts in Gardening"
    assert content.text == "Post 0\nPost 1\nPost 2"
    assert digest("de-CH").title == "3 neue Beiträge in Gardening"


def test_messages_in_another_language_read_as_agreed() -> None:
    for name, content in (("digest", digest()), ("digest.de", digest("de-AT")), ("people", room("")), ("people.de", room("de-AT"))):
        shown = steady(content)
        golden(f"message_{name}.txt", f"{shown.title}\n\n{shown.plain}")
        golden(f"message_{name}.html", shown.html)


class Said(HTMLParser):
    """The texts that a page shows and the links it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self._hidden = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._hidden = tag in ("title", "style")
        self.links += [value or "" for name, value in attrs if (tag, name) == ("a", "href")]

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._hidden:
            self.texts.append(" ".join(data.split()))


@pytest.mark.parametrize("locale", ["", "de"])
@pytest.mark.parametrize("name", [*ITEMS, "people", "digest"])
def test_every_link_and_text_of_the_html_is_in_its_plain_twin(name: str, locale: str) -> None:
    reader = Reader(locale, BERLIN)
    content = digest(locale) if name == "digest" else room(locale) if name == "people" else None
    content = content or SHIPPED.render(a_message(), ITEMS[name], bodies=True, reader=reader)
    said, plain = Said(content.html), " ".join(content.plain.split())
    assert [link for link in said.links if link not in plain] == []
    assert [text for text in said.texts if text.rstrip("·. ").strip("· ") not in plain] == []
    assert set(re.findall(r"https?://\S+", content.plain)) == set(said.links)


def test_every_locale_that_is_shipped_has_all_twins() -> None:
    folder = Path(__file__).parents[3] / "delivery" / "templates"
    names = {path.name for path in folder.iterdir()}
    base = {name for name in names if name.count(".") == 2}
    for locale in {name.split(".")[1] for name in names - base}:
        assert {name.replace(".", f".{locale}.", 1) for name in base} <= names, locale
