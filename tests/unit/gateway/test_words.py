"""The language of the pages that users see: their own, else their browser's, else English; and no text is forgotten."""

from __future__ import annotations

import ast
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from babel.messages.pofile import read_po

from delivery.feedback import Feedback
from delivery.suppression import MemorySuppressionStore, Suppression
from gateway import preference_form
from gateway.app import create_app
from gateway.preference_form import CHANNEL_NAMES, DIAL_NAMES, Offer
from gateway.words import CATALOGUES, ENGLISH, words_for
from lake.profiles import blank
from tests.unit.gateway.conftest import META, NOW, World, client_of

GATEWAY = Path(preference_form.__file__).parent
PAGES = ("base.html", "bad_link.html", "expired_link.html", "unsubscribe.html", "preferences.html")
BROWSER = {"Accept": "text/html"}


def texts() -> set[str]:
    """Every text that the pages may say."""
    found = {*DIAL_NAMES.values(), *CHANNEL_NAMES.values(), *_said("preference_form.py"), *_said("routes/preferences.py")}
    for name in PAGES:
        found |= set(re.findall(r'words\("([^"]*)"', (GATEWAY / "templates" / name).read_text()))
    return found


def _said(name: str) -> Iterator[str]:
    """Yield the texts of a module: what it hands to words, yields as a problem, or keeps to be said."""
    for node in ast.walk(ast.parse((GATEWAY / name).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "words":
            yield from _constants(node.args)
        elif isinstance(node, ast.Yield):
            yield from _constants([node.value] if node.value else [])
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "attr", "") in ("_said", "_problems"):
            yield from _constants([node.value])


def _constants(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        found = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.elts if isinstance(node, ast.List) else [node]
        yield from (each.value for each in found if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value)


@pytest.mark.parametrize("path", sorted(CATALOGUES.glob("*.po")), ids=lambda path: path.stem)
def test_a_catalogue_says_every_text_and_no_other_with_the_same_names_in_it(path: Path) -> None:
    with path.open("rb") as file:
        said = {str(each.id): str(each.string) for each in read_po(file) if each.id}
    assert set(said) == texts()
    for text, translated in said.items():
        assert translated, text
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", translated)), text


@pytest.mark.parametrize(
    ("locale", "accepted", "lang"),
    [
        ("de", "", "de"),
        ("de-AT", "en", "de"),
        ("en-GB", "de", "en"),
        ("fr", "de-CH, en;q=0.5", "de"),
        ("", "fr, en;q=0.2, de;q=0.8", "de"),
        ("", "fr, de;q=0, en;q=0.1", "en"),
        ("", "*", "en"),
        ("", "de;q=nonsense, ;;,," + "x" * 5000, "en"),
        ("no locale", "", "en"),
        ("", "", "en"),
    ],
)
def test_a_user_s_own_language_goes_before_their_browser_s_and_english_is_for_everybody(locale: str, accepted: str, lang: str) -> None:
    assert words_for(locale, accepted).lang == lang


def test_english_days_are_called_what_they_are() -> None:
    assert ENGLISH.days()[0] == ("Monday", "Mon")
    assert words_for("de").days()[6] == ("Sonntag", "So")


@pytest.fixture
async def visitor(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A browser, and somebody who reads German as it is written in Austria."""
    profile = blank(1)
    profile["zone"], profile["locale"] = b"Europe/Vienna", b"de-AT"
    world.profiles.put(["u1"], profile)
    suppression = Suppression(MemorySuppressionStore(), world.profiles, META)
    app = create_app(
        world.services(offer=Offer({}, ("in_app", "email")), suppression=suppression, feedback=Feedback(world.events, suppression))
    )
    async with client_of(app) as client:
        client.headers.update(BROWSER | {"Accept-Language": "en"})
        yield client


async def test_the_preference_page_speaks_german_and_so_does_its_answer(visitor: httpx.AsyncClient, world: World) -> None:
    link = world.links.preferences("u1", NOW)
    page = await visitor.get(link)
    for words in (
        '<html lang="de">',
        "Ihre Benachrichtigungen",
        "Wie üblich",
        "In Ihrer Ortszeit, Europe/Vienna",
        "Um 18:30",
        "E-Mail",
        "Montag",
    ):
        assert words in page.text
    quiet = {"quiet_from": "18:00", "quiet_to": "20:00"}
    saved = (await visitor.post(link, data={"digest_at": "18:30", "digest_days": ["mon", "tue"]} | quiet)).text
    for words in ("Gespeichert", "Um 18:30, Montag, Dienstag; das liegt in Ihrer Ruhezeit, also erst um 20:00", "18:00 bis 20:00"):
        assert words in saved
    wrong = await visitor.post(link, data={"quiet_from": "22:00", "quiet_to": ""})
    assert (wrong.status_code, "Ruhezeit: Geben Sie Beginn und Ende an" in wrong.text) == (422, True)


async def test_the_unsubscribe_page_speaks_german(visitor: httpx.AsyncClient, world: World) -> None:
    link = world.links.unsubscribe("u1", "email", "g1")
    page = (await visitor.get(link)).text
    assert '<html lang="de">' in page
    assert "Über E-Mail bekommen Sie von uns nichts mehr." in page
    assert "Auch was schon unterwegs war, wird angehalten." in (await visitor.post(link)).text


async def test_where_nobody_knows_the_user_the_browser_s_language_counts(visitor: httpx.AsyncClient, world: World) -> None:
    visitor.headers["Accept-Language"] = "de-DE,de;q=0.9,en;q=0.5"
    for page in (await visitor.get("/unsubscribe/cut-off"), await visitor.get(world.links.unsubscribe("nobody", "email", "g1"))):
        assert '<html lang="de">' in page.text


async def test_an_unsubscribe_page_is_shown_while_the_store_is_away(world: World) -> None:
    class Away:
        def get(self, _: object) -> None:
            raise ConnectionError("refused")

    async with client_of(create_app(world.services(profiles=Away()))) as client:
        page = await client.get(world.links.unsubscribe("u1", "email", "g1"), headers=BROWSER)
    assert (page.status_code, '<html lang="en">' in page.text) == (200, True)
