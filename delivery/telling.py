"""What messages tell of by now: a digest only of those items that are still there and not over, and who acted on an entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lake.actors import Actors, Asked, act_of, entity_of
from lake.items import ItemRow, ItemStore
from lake.messages import Message


@dataclass(frozen=True, slots=True)
class Told:
    """`item`: what a message tells of first, None: it is gone. `others`: the further items of a digest."""

    item: ItemRow | None
    others: tuple[ItemRow, ...] = ()

    @property
    def item_ids(self) -> tuple[str, ...]:
        """The items that are told of."""
        return tuple(str(item["item_id"]) for item in (self.item, *self.others) if item is not None)

    @property
    def ends_at(self) -> float:
        """When there is nothing left of it to tell, epoch seconds, inf: never."""
        items = [item for item in (self.item, *self.others) if item is not None]
        return max((ends_at(item) for item in items), default=float("inf"))


def ends_at(item: ItemRow) -> float:
    """Return when an item expires, epoch seconds, inf: never."""
    end = item.get("expires_at")
    return float("inf") if end is None else float(end)


def items_of(messages: Sequence[Message]) -> list[str]:
    """Return the distinct items that messages tell of."""
    return list(dict.fromkeys(item_id for message in messages for item_id in message.item_ids))


def told_of(message: Message, items: Mapping[str, ItemRow | None], now: float) -> Told:
    """Return what a message tells of at a time, given the rows of its items."""
    there = [row for item_id in message.item_ids if (row := items[item_id]) is not None]
    alive = [row for row in there if ends_at(row) > now] or there[:1]
    return Told(alive[0], tuple(alive[1:])) if alive else Told(None)


def actors_of(messages: Sequence[Message], told: Sequence[Told], store: ItemStore) -> list[Actors]:
    """Return who acted on what each message tells of, up to its version and without its recipient; one round trip, or none."""
    asked = {
        place: Asked(entity_of(each.item), message.version, message.user_id)
        for place, (message, each) in enumerate(zip(messages, told, strict=True))
        if each.item is not None and not each.others and act_of(each.item)
    }
    found = dict(zip(asked, store.actors(list(asked.values())), strict=True)) if asked else {}
    return [found.get(place, Actors()) for place in range(len(messages))]
