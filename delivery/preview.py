"""What a message about an item would say to a user, without sending it: for the command line and the console."""

from __future__ import annotations

from dataclasses import dataclass, replace

from delivery.channels.base import Content
from delivery.links import Links, LinkSettings
from delivery.locales import DEFAULT, fallbacks, readers_of
from delivery.telling import Told, actors_of
from delivery.templates import Templates, TemplateSettings
from lake.errors import InputError
from lake.items import ItemStore
from lake.messages import Message
from lake.profiles import KNOWN, Profiles

# The links of a preview are signed by nobody: following one must not unsubscribe a user or count as a click.
_LINKS = Links(LinkSettings(("signs nothing but previews",), "https://preview.invalid"))
_NO_GRANT = "0" * 16


@dataclass(frozen=True)
class Wanted:
    """What to show: an item, for a user, on a channel; `locale`: instead of the user's own, "" for theirs."""

    item_id: str
    user_id: str
    channel: str = "email"
    locale: str = ""


@dataclass(frozen=True)
class Preview:
    """The content, the `locale` it was written in and the `zone` of its times."""

    content: Content
    locale: str
    zone: str


def preview(wanted: Wanted, items: ItemStore, profile: Profiles, templates: TemplateSettings | None = None) -> Preview:
    """Return what a message would say, given the profile of its user, shape (1,).

    Raises InputError where there is no such item or user, or where the locale is none.
    """
    (item,) = items.get([wanted.item_id])
    if item is None:
        raise InputError(f"there is no item {wanted.item_id!r}; name one that was put, or loaded and not yet too old to be told of")
    if not profile["flags"][0] & KNOWN:
        raise InputError(f"there is no user {wanted.user_id!r}; name one that was put or loaded")
    if wanted.locale and not fallbacks(wanted.locale):
        raise InputError(f"{wanted.locale!r} is no locale; write a language and perhaps a territory, such as de or pt-BR")
    reader = readers_of(profile)[0]
    reader = replace(reader, locale=wanted.locale or reader.locale)
    message = _message(wanted, int(item.get("version") or 0))
    (actors,) = actors_of([message], [Told.of([item])], items)
    content = Templates(templates or TemplateSettings(), _LINKS).render(message, item, bodies=True, reader=reader, actors=actors)
    return Preview(content, (*fallbacks(reader.locale), DEFAULT)[0], str(reader.zone))


def _message(wanted: Wanted, version: int) -> Message:
    return Message(
        grant_id=_NO_GRANT,
        user_id=wanted.user_id,
        item_id=wanted.item_id,
        channel=wanted.channel,
        entity=_NO_GRANT,
        version=version,
        update=False,
        decision_id="",
        lane="scheduled",
        source="new_posts",
        reason="above_threshold",
        model_id="",
        probability=0.0,
        value=0.0,
        threshold=0.0,
        granted_at=0.0,
        deliver_by=float("inf"),
    )
