"""What templates are told of items: cleaned text, safe links, who acted, and the items of a digest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from lake.actors import Actors
from lake.items import ItemRow

TEXT_CHARACTERS = 2000
CLEANED = 4096
"""Texts whose cleaned form is remembered: one item goes to many users."""

# Control characters, and the marks that reverse the direction of text to make it look like something else.
_UNWANTED = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)))


def item_facts(item: ItemRow) -> dict[str, Any]:
    """Return what a template may say of an item; `expires_at` is None where it does not end."""
    topics = item.get("topics")
    return {
        "item_id": str(item["item_id"]),
        "name": one_line(str(item.get("title") or item["item_id"])),
        "title": one_line(str(item.get("title") or "")),
        "text": clean(str(item.get("text") or ""))[:TEXT_CHARACTERS],
        "url": safe_url(str(item.get("url") or "")),
        "topics": [one_line(str(topic)) for topic in topics] if topics is not None else [],
        "author": one_line(str(item.get("author_id") or "")),
        "kind": one_line(str(item.get("kind") or "")),
        "created_at": item["created_at"],
        "expires_at": item.get("expires_at"),
    }


def actor_facts(item: ItemRow, actors: Actors) -> dict[str, Any]:
    """Return who acted: `count`, the `first` (the item's author), a `second`, and how many `others` than the first there are."""
    names = [one_line(name) for name in (str(item.get("author_id") or ""), *actors.names)]
    named = list(dict.fromkeys(name for name in names if name))
    first, second, *_ = [*named, "", ""]
    return {"count": actors.count, "first": first, "second": second, "others": max(actors.count - 1, 0)}


def digest_facts(by: str, items: Sequence[ItemRow]) -> dict[str, Any]:
    """Return what a digest is about: its `size`, what it was made `by` (topic, kind or source), the topic's name, and its items' one kind.

    `by`: the rule, such as topic:gardening or topic:*; "" for what is none.
    """
    column, _, name = by.partition(":")
    topics = items[0].get("topics") if items else None
    first = str(topics[0]) if topics is not None and len(topics) else ""
    topic = (first if name == "*" else name) if column == "topic" else ""
    kinds = {str(item.get("kind") or "") for item in items}
    return {"size": len(items), "by": column, "topic": one_line(topic), "kind": one_line(kinds.pop()) if len(kinds) == 1 else ""}


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
