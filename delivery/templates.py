"""What a message says: Jinja templates in plain text and HTML, fed with cleaned text from the items and the decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, Template, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delivery.channels.base import Content
from delivery.links import Links
from delivery.locales import FILTERS, Reader, fallbacks
from delivery.wording import actor_facts, digest_facts, item_facts, one_line
from lake.actors import Actors
from lake.items import ItemRow
from lake.messages import Message

TITLE_CHARACTERS = 150
DIGEST = "_digest"
"""Stands for the kind of what tells of several items at once."""


@dataclass(frozen=True)
class TemplateSettings:
    """`folder`: own templates, found before ours by name. `track`: put an open pixel and counted links into e-mails."""

    folder: Path | None = None
    track: bool = True


class Templates:
    """Renders messages from `<kind>.<locale>.<twin>.j2`, with the reader's locale shortened until there is one, or without.

    The twins: `subject`, `txt`, `html`; `people`, who acted ("Ella and 3 others"); `why`, the end of "You get this because …". Where a
    kind has none, that of `default` counts.
    """

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
        self._environment.filters.update(FILTERS)
        self._chosen: dict[tuple[str, str, str], Template] = {}

    def render(
        self,
        message: Message,
        item: ItemRow,
        *,
        bodies: bool,
        unsubscribe: bool = True,
        reader: Reader | None = None,
        actors: Actors | None = None,
        others: Sequence[ItemRow] = (),
    ) -> Content:
        """Return what a message about an item says, with full `plain` and `html` bodies and an unsubscribe link where wanted.

        `reader`: for whom. `actors`: who acted on the item's entity. `others`: further items of a digest.
        """
        reader = reader or Reader()
        kind = DIGEST if others else str(item.get("kind") or "default")
        facts = self._facts(message, (item, *others), unsubscribe=unsubscribe) | {"actors": actor_facts(item, actors or Actors())}
        facts |= {"reader": reader}
        for part in ("people", "why"):
            facts[part] = one_line(self._template(kind, part, reader.locale).render(facts))
        title = one_line(self._template(kind, "subject", reader.locale).render(facts))[:TITLE_CHARACTERS] or "Something new"
        text = "\n".join(each["title"] for each in facts["items"] if each["title"]) if others else facts["text"]
        content = Content(title, text, facts["url"], facts["why"], unsubscribe_url=facts["unsubscribe_url"])
        if not bodies:
            return content
        facts |= {"title": title, "link": facts["items"][0]["link"]}
        plain, html = (self._template(kind, twin, reader.locale).render(facts) for twin in ("txt", "html"))
        return Content(title, content.text, content.url, content.why, plain, html, content.unsubscribe_url)

    def _facts(self, message: Message, items: Sequence[ItemRow], *, unsubscribe: bool) -> dict[str, Any]:
        whose = (message.user_id, message.channel, message.grant_id)
        told = [item_facts(item) for item in items]
        for facts in told:
            facts["link"] = self._click(whose, facts)
        return told[0] | {
            "items": told,
            "digest": digest_facts(message.digest_by, items),
            "update": message.update,
            "reason": message.reason,
            "source": message.source,
            "unsubscribe_url": self._links.unsubscribe(*whose) if self._links and unsubscribe else "",
            "preferences_url": self._preferences(message) if self._links and unsubscribe else "",
            "pixel": self._links.open(*whose, told[0]["item_id"]) if self._track and self._links else "",
        }

    def _preferences(self, message: Message) -> str:
        # By the time of the grant, so that a message that is sent again says the same.
        return self._links.preferences(message.user_id, message.granted_at, message.channel, message.grant_id) if self._links else ""

    def _click(self, whose: tuple[str, str, str], facts: dict[str, Any]) -> str:
        """Return the link to an item: counted, where that is wanted."""
        url = str(facts["url"])
        return self._links.click(*whose, url, facts["item_id"]) if self._track and self._links and url else url

    def _template(self, kind: str, twin: str, locale: str) -> Template:
        known = self._chosen.get((kind, twin, locale))
        if known is None:
            kinds = (kind, "default")
            names = [f"{each}{place}.{twin}.j2" for each in kinds for place in (*(f".{name}" for name in fallbacks(locale)), "")]
            known = self._environment.select_template(names)
            if len(self._chosen) < 1000:
                self._chosen[kind, twin, locale] = known
        return known
