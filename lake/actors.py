"""Who acted on a thing: the authors of the versions of one entity, for messages such as "Ella and 3 others"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NAMED = 3
"""Most actors that are named, the latest first; the others are counted."""

KEEP_S = 28 * 86400
"""How long actors are remembered after the last version: as long as a grant that a newer version could replace."""


@dataclass(frozen=True)
class Actors:
    """`names`: at most NAMED author ids, who came last first. `count`: how many there are, named or not."""

    names: tuple[str, ...] = ()
    count: int = 0


@dataclass(frozen=True)
class Asked:
    """Whose actors are wanted: of an entity by name, up to and with a version, without one of them (who is told), "" for none."""

    entity: str
    version: int
    besides: str = ""

    def answer(self, latest: Sequence[str], count: int, *, is_among: bool) -> Actors:
        """Return the actors, of the latest NAMED + 1, how many there are, and whether `besides` is one of them."""
        return Actors(tuple(name for name in latest if name != self.besides)[:NAMED], count - is_among)


@dataclass(frozen=True)
class Act:
    """An author's part in an entity: the version it came with."""

    entity: str
    author: str
    version: int


def entity_of(row: Mapping[str, Any]) -> str:
    """Return the name of what an item is about: its entity, else the item itself."""
    return str(row.get("entity_id") or row["item_id"])


def act_of(row: Mapping[str, Any]) -> Act | None:
    """Return the part that an item's author has in its entity; None where the item is no version of anything, or nobody's."""
    if not row.get("author_id") or (row.get("entity_id") is None and row.get("version") is None):
        return None
    return Act(entity_of(row), str(row["author_id"]), int(row.get("version") or 0))


@dataclass
class MemoryActors:
    """The actors of entities in a dictionary of first versions, for tests and replay."""

    first: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, act: Act) -> None:
        """Remember an act; an author counts from the first version on."""
        known = self.first.setdefault(act.entity, {})
        known[act.author] = min(known.get(act.author, act.version), act.version)

    def remove(self, act: Act) -> None:
        """Forget an author who came with this version."""
        known = self.first.get(act.entity, {})
        if known.get(act.author) == act.version:
            del known[act.author]

    def of(self, asked: Asked) -> Actors:
        """Return the actors of an entity."""
        known = self.first.get(asked.entity, {})
        there = [author for author in known if known[author] <= asked.version]
        latest = sorted(there, key=lambda author: (known[author], author), reverse=True)[: NAMED + 1]
        return asked.answer(latest, len(there), is_among=asked.besides in there)
