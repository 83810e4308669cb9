"""What a message says: Jinja templates in plain text and HTML, fed with cleaned text from the item and the decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, Template, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delivery.channels.base import Content
from delivery.links import Links
from lake.items import ItemRow
from lake.messages import Message

TITLE_CHARACTERS = 150
TEXT_CHARACTERS = 2000
CLEANED = 4096
"""Texts whose cleaned form is remembered: one item goes to many users."""

_WHY_SOURCE: Mapping[str, str] = {
    "new_posts": "it is new in what you follow",
    "trending": "many people are engaging with it now",
    "held": "it was kept for you until now",
}
_WHY_REASON: Mapping[str, str] = {
    "critical": "it was marked critical",
    "explored": "we are learning what interests you",
}
_WHY_OTHERWISE = "it is likely to matter to you"

# Control characters, and the marks that reverse the direction of text to make it look like something else.
_UNWANTED = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)))


@dataclass(frozen=True)
class TemplateSettings:
    """`folder`: own templates, found before ours by name. `track`: put an open pixel and counted links into e-mails."""

    folder: Path | None = None
    track: bool = True


class Templates:
    """Renders messages. For an item of a kind, `<kind>.subject.j2`, `.txt.j2` and `.html.j2` go before `default.…`."""

    def __init__(self, settings: TemplateSettings, links: Links | None = None) -> None:
        self._links, self._track = links, settings.track and links is not None
        folders = [folder for folder in (settings.folder, Path(__file__).parent / "templates") if folder is not None]
        self._environment = ImmutableSandboxedEnvironment(
            loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
            autoescape=select_autoescape(enabled_extensions=("html.j2",), default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        self._chosen: dict[tuple[str, str], Template] = {}

    def render(self, message: Message, item: ItemRow, *, bodies: bool, unsubscribe: bool = True) -> Content:
        """Return what a message about an item says, with full `plain` and `html` bodies and an unsubscribe link where wanted."""
        facts = self._facts(message, item, unsubscribe=unsubscribe)
        kind = str(item.get("kind") or "default")
        title = one_line(self._template(kind, "subject").render(facts))[:TITLE_CHARACTERS] or "Something new"
        content = Content(title, facts["text"], facts["url"], facts["why"], unsubscribe_url=facts["unsubscribe_url"])
        if not bodies:
            return content
        facts |= {"title": title} | self._tracked(message, facts["url"])
        plain, html = (self._template(kind, twin).render(facts) for twin in ("txt", "html"))
        return Content(title, content.text, content.url, content.why, plain, html, content.unsubscribe_url)

    def _facts(self, message: Message, item: ItemRow, *, unsubscribe: bool) -> dict[str, Any]:
        topics = item.get("topics")
        whose = (message.user_id, message.channel, message.grant_id)
        return {
            "title": one_line(str(item.get("title") or "")),
            "text": clean(str(item.get("text") or ""))[:TEXT_CHARACTERS],
            "url": safe_url(str(item.get("url") or "")),
            "topics": [one_line(str(topic)) for topic in topics] if topics is not None else [],
            "author": one_line(str(item.get("author_id") or "")),
            "update": message.update,
            "why": why(message),
            "unsubscribe_url": self._links.unsubscribe(*whose) if self._links and unsubscribe else "",
            "preferences_url": self._preferences(message) if self._links and unsubscribe else "",
        }

    def _preferences(self, message: Message) -> str:
        # By the time of the grant, so that a message that is sent again says the same.
        return self._links.preferences(message.user_id, message.granted_at, message.channel, message.grant_id) if self._links else ""

    def _tracked(self, message: Message, url: str) -> dict[str, str]:
        if not (self._track and self._links):
            return {"link": url, "pixel": ""}
        whose = (message.user_id, message.channel, message.grant_id)
        link = self._links.click(*whose, url, message.item_id) if url else ""
        return {"link": link, "pixel": self._links.open(*whose, message.item_id)}

    def _template(self, kind: str, twin: str) -> Template:
        known = self._chosen.get((kind, twin))
        if known is None:
            known = self._environment.select_template([f"{kind}.{twin}.j2", f"default.{twin}.j2"])
            if len(self._chosen) < 1000:
                self._chosen[kind, twin] = known
        return known


def why(message: Message) -> str:
    """Return why a message was sent, as the end of "You get this because …"."""
    return _WHY_REASON.get(message.reason) or _WHY_SOURCE.get(message.source) or _WHY_OTHERWISE


@lru_cache(CLEANED)
def clean(text: str) -> str:
    """Return text without control characters other than line breaks and tabs, as valid Unicode."""
    unbroken = text.replace("\r\n", "\n").replace("\r", "\n").translate(_UNWANTED)
    return unbroken.encode("utf-8", "replace").decode("utf-8").strip()


def one_line(text: str) -> str:
    """Return cleaned text on one line, its white space collapsed."""
    return " ".join(clean(text).split())


def safe_url(url: str) -> str:
    """Return the URL if it is one to follow in a browser, else ""; keeps out javascript: and the like."""
    cleaned = one_line(url)
    return cleaned if cleaned.lower().startswith(("https://", "http://")) and " " not in cleaned else ""
