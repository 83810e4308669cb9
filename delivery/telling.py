"""What messages tell of by now: a digest only of those items that are still there and not over, and who acted on an entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lake.actors import Actors, Asked, act_of, entity_of
from lake.items import ItemRow, ItemStore
from lake.messages import Message


@dataclass(frozen=True, slots=True)
class Told:
    """What a message tells of: `item` first, None: it is gone, then the `others` of a digest.

    `item_ids`: all of them. `kind`: of the first, "" where it has none. `ends_at`: when there is nothing left of them to tell, epoch
    seconds, inf: never. `has_actors`: whether people act on what it tells of, so that its words say who did.
    """

    item: ItemRow | None
    others: tuple[ItemRow, ...] = ()
    item_ids: tuple[str, ...] = ()
    kind: str = ""
    ends_at: float = float("inf")
    has_actors: bool = False

    @staticmethod
    def of(items: Sequence[ItemRow]) -> Told:
        """Return what a message tells of that tells of these items."""
        if not items:
            return Told(None)
        first, *others = items
        return Told(
            item=first,
            others=tuple(others),
            item_ids=tuple([str(item["item_id"]) for item in items]),
            kind=str(first.get("kind") or ""),
            ends_at=max([ends_at(item) for item in items]),
            has_actors=not others and act_of(first) is not None,
        )


def ends_at(item: ItemRow) -> float:
    """Return when an item expires, epoch seconds, inf: never."""
    end = item.get("expires_at")
    return float("inf") if end is None else float(end)


def items_of(messages: Sequence[Message]) -> list[str]:
    """Return the distinct items that messages tell of."""
    return list(dict.fromkeys(item_id for message in messages for item_id in message.item_ids))


def told_of(messages: Sequence[Message], items: Mapping[str, ItemRow | None], now: float) -> list[Told]:
    """Return what each message tells of at a time, given the rows of their items: the same object where it is the same."""
    asked = [message.item_ids for message in messages]
    told = {item_ids: _told(item_ids, items, now) for item_ids in dict.fromkeys(asked)}
    return [told[item_ids] for item_ids in asked]


def _told(item_ids: Sequence[str], items: Mapping[str, ItemRow | None], now: float) -> Told:
    there = [row for item_id in item_ids if (row := items[item_id]) is not None]
    alive = [row for row in there if ends_at(row) > now] or there[:1]
    return Told.of(alive)


def actors_of(messages: Sequence[Message], told: Sequence[Told], store: ItemStore) -> list[Actors]:
    """Return who acted on what each message tells of, up to its version and without its recipient; one round trip, or none."""
    asked = {
        place: Asked(entity_of(each.item), message.version, message.user_id)
        for place, (message, each) in enumerate(zip(messages, told, strict=True))
        if each.has_actors and each.item is not None
    }
    found = dict(zip(asked, store.actors(list(asked.values())), strict=True)) if asked else {}
    nobody = Actors()
    return [found.get(place, nobody) for place in range(len(messages))]
