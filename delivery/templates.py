"""What a message says: Jinja templates in plain text and HTML, fed with cleaned text from the items and the decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined, Template, meta, nodes, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from delivery.channels.base import Content
from delivery.links import Links
from delivery.locales import FILTERS, Reader, fallbacks
from delivery.wording import actor_facts, digest_facts, item_facts, one_line
from lake.actors import Actors
from lake.items import ItemRow
from lake.messages import Message

TITLE_CHARACTERS = 150
MOST_FOUND = 1024
"""Words that are remembered: one item goes to many."""
MOST_CHOSEN = 1000
"""Kinds and locales whose templates are remembered; items may name any kind."""
PARTS = ("people", "why", "subject")
PERSONAL = frozenset(("items", "link", "unsubscribe_url", "preferences_url", "pixel"))
"""Facts that are of one message alone."""
DIGEST = "_digest"
"""Stands for the kind of what tells of several items at once."""


@dataclass(frozen=True)
class TemplateSettings:
    """`folder`: own templates, found before ours by name. `track`: put an open pixel and counted links into e-mails."""

    folder: Path | None = None
    track: bool = True


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a message is about, for whom, and why: all that its words depend on beside its own links."""

    kind: str
    items: tuple[ItemRow, ...]
    reader: Reader
    actors: Actors
    digest_by: str
    update: bool
    reason: str
    source: str

    def key(self) -> tuple[object, ...]:
        """Return what is equal for equal subjects; an item by what it says now, since its text may change under its id."""
        items = msgpack.packb([dict(item) for item in self.items], default=repr, unicode_errors="surrogatepass")
        return (items, self.reader, self.actors, self.digest_by, self.update, self.reason, self.source)

    def facts(self) -> dict[str, Any]:
        """Return what templates are told."""
        told = [item_facts(item) for item in self.items]
        return told[0] | {
            "items": told,
            "digest": digest_facts(self.digest_by, self.items),
            "update": self.update,
            "reason": self.reason,
            "source": self.source,
            "actors": actor_facts(self.items[0], self.actors),
            "reader": self.reader,
        }


@dataclass(frozen=True, slots=True)
class Words:
    """What a message says without links of its own, and the `facts` its bodies are written from."""

    bare: Content
    facts: dict[str, Any]

    def linked(self, plain: str = "", html: str = "", unsubscribe_url: str = "") -> Content:
        """Return the content of one message."""
        bare = self.bare
        return Content(bare.title, bare.text, bare.url, bare.why, plain, html, unsubscribe_url)


Seen = dict[tuple[object, ...], Words]
"""What was worded of a batch's items, by the very objects: good for as long as the batch holds them, and does not change them."""


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
        self._found: dict[tuple[object, ...], Words] = {}
        self._personal_by_name: dict[str, bool] = {}
        self._personal_by_kind: dict[tuple[str, str], bool] = {}

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
        seen: Seen | None = None,
    ) -> Content:
        """Return what a message about an item says, with full `plain` and `html` bodies and an unsubscribe link where wanted.

        `reader`: for whom. `actors`: who acted on the item's entity. `others`: further items of a digest. `seen`: of the messages that
        are rendered together, so that what many are told alike is looked up once.
        """
        reader, seen = reader or Reader(), {} if seen is None else seen
        key = (id(item), *map(id, others), reader, actors, message.digest_by, message.update, message.reason, message.source)
        words = seen.get(key)
        if words is None:
            kind = DIGEST if others else _kind_of(item)
            subject = _Subject(
                kind, (item, *others), reader, actors or Actors(), message.digest_by, message.update, message.reason, message.source
            )
            if self._has_personal_parts(kind, reader.locale):
                facts = subject.facts()
                words = self._worded(subject, facts | self._personal(message, facts["items"], unsubscribe))
            else:
                words = seen[key] = self._alike(subject)
        if bodies:
            return self._with_bodies(message, words, DIGEST if others else _kind_of(item), reader.locale, unsubscribe)
        return words.linked(unsubscribe_url=self._unsubscribe(message, unsubscribe)) if unsubscribe else words.bare

    def _with_bodies(self, message: Message, words: Words, kind: str, locale: str, unsubscribe: bool) -> Content:
        facts = words.facts | {"title": words.bare.title} | self._personal(message, words.facts["items"], unsubscribe)
        plain, html = (self._template(kind, twin, locale).render(facts) for twin in ("txt", "html"))
        return words.linked(plain, html, facts["unsubscribe_url"])

    def _alike(self, subject: _Subject) -> Words:
        """Return the words for a subject; they are found once for all whom the same is told."""
        key = subject.key()
        words = self._found.get(key)
        if words is None:
            if len(self._found) >= MOST_FOUND:
                self._found.clear()
            words = self._found[key] = self._worded(subject, subject.facts())
        return words

    def _worded(self, subject: _Subject, facts: dict[str, Any]) -> Words:
        for part in ("people", "why"):
            facts[part] = one_line(self._template(subject.kind, part, subject.reader.locale).render(facts))
        title = one_line(self._template(subject.kind, "subject", subject.reader.locale).render(facts))[:TITLE_CHARACTERS] or "Something new"
        is_digest = len(subject.items) > 1
        text = "\n".join(each["title"] for each in facts["items"] if each["title"]) if is_digest else facts["text"]
        return Words(Content(title, text, facts["url"], facts["why"]), facts)

    def _has_personal_parts(self, kind: str, locale: str) -> bool:
        known = self._personal_by_kind.get((kind, locale))
        if known is None:
            known = any(self._is_personal(self._template(kind, part, locale)) for part in PARTS)
            if len(self._personal_by_kind) < MOST_CHOSEN:
                self._personal_by_kind[kind, locale] = known
        return known

    def _is_personal(self, template: Template) -> bool:
        """Return whether what a template says may differ between two who are told the same: it asks for links, or plays with chance."""
        name = str(template.name)
        if name not in self._personal_by_name:
            assert self._environment.loader is not None
            tree = self._environment.parse(self._environment.loader.get_source(self._environment, name)[0])
            asks = not PERSONAL.isdisjoint(meta.find_undeclared_variables(tree))
            chance = any(each.name == "random" for each in tree.find_all(nodes.Filter))
            # What a template includes is not looked into: it may ask for anything.
            self._personal_by_name[name] = asks or chance or any(True for _ in meta.find_referenced_templates(tree))
        return self._personal_by_name[name]

    def _personal(self, message: Message, items: Sequence[dict[str, Any]], unsubscribe: bool) -> dict[str, Any]:
        """Return the facts that are of one message alone."""
        whose = (message.user_id, message.channel, message.grant_id)
        linked = [facts | {"link": self._click(whose, facts)} for facts in items]
        return {
            "items": linked,
            "link": linked[0]["link"],
            "unsubscribe_url": self._unsubscribe(message, unsubscribe),
            "preferences_url": self._preferences(message) if self._links and unsubscribe else "",
            "pixel": self._links.open(*whose, linked[0]["item_id"]) if self._track and self._links else "",
        }

    def _unsubscribe(self, message: Message, wanted: bool) -> str:
        return self._links.unsubscribe(message.user_id, message.channel, message.grant_id) if self._links and wanted else ""

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
            if len(self._chosen) < MOST_CHOSEN:
                self._chosen[kind, twin, locale] = known
        return known


def _kind_of(item: ItemRow) -> str:
    return str(item.get("kind") or "default")
