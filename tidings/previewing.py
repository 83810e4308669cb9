"""`tidings preview`: what a message about an item would say to a user, from the store or from tables, without sending it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel

from delivery.preview import Preview, Wanted, preview
from lake.dataset import Dataset
from lake.items import MemoryItemStore, rows_of_frame
from lake.meta import CHANNELS
from lake.profiles import MemoryProfileStore
from lake.redis_items import RedisItemStore
from lake.redis_profiles import RedisProfileStore
from lake.redis_store import connect, open_meta
from scheduler.loading import told_of
from tidings.console import Json, emit, fail
from tidings.reaching import reachable


def register(app: typer.Typer) -> None:
    """Add `preview`."""
    app.command("preview")(show)


def show(
    item: Annotated[str, typer.Option(help="The item to tell of, by its id.")],
    user: Annotated[str, typer.Option(help="Who would be told, by their id.")],
    channel: Annotated[str, typer.Option(help="The channel it would take.")] = "email",
    locale: Annotated[str, typer.Option(help="A locale such as pt-BR instead of the user's own.")] = "",
    data: Annotated[Path | None, typer.Option(help="Take the item and the user from this folder of tables instead of the store.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write the HTML body to this file, to look at in a browser.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a message about an item would say to a user; nothing is sent."""
    wanted = Wanted(item, user, channel, locale)
    shown = _from_store(wanted) if data is None else from_tables(wanted, data)
    if html is not None:
        html.write_text(shown.content.html)
    report = {**asdict(wanted), "locale": shown.locale, "zone": shown.zone, **asdict(shown.content)}
    emit(report, as_json=as_json, summary=_readable(shown))


def from_tables(wanted: Wanted, data: Path) -> Preview:
    """Return the preview of an item and a user of a folder of tables; raises InputError where one of them is not there."""
    dataset, items, profiles = Dataset.load(data), MemoryItemStore(), MemoryProfileStore()
    table = dataset.items
    entity = table["entity_id"].fillna(table["item_id"])
    items.put(rows_of_frame(table[entity.isin(entity[table["item_id"] == wanted.item_id])]))
    user = dataset.users[dataset.users["user_id"] == wanted.user_id]
    if len(user):
        profiles.put([wanted.user_id], told_of(user))
    _check_channel(wanted.channel, CHANNELS)
    return preview(wanted, items, profiles.get([wanted.user_id]))


def _from_store(wanted: Wanted) -> Preview:
    with reachable() as url, connect(url) as client:
        meta = open_meta(client)
        _check_channel(wanted.channel, meta.channels)
        return preview(wanted, RedisItemStore(client, meta.keys), RedisProfileStore(client, meta.keys).get([wanted.user_id]))


def _check_channel(channel: str, known: tuple[str, ...]) -> None:
    if channel not in known:
        fail(f"--channel: there is no channel {channel!r}; name one of {', '.join(known)}")


def _readable(shown: Preview) -> RenderableType:
    content = shown.content
    short = f"{content.title}\n{content.text}\n{content.url}".strip()
    return Group(
        Panel(escape(short), title=f"as on a phone ({shown.locale}, {shown.zone})", title_align="left"),
        Panel(escape(content.plain.rstrip()), title="plain text", title_align="left"),
    )
