"""The sources a deployment may use, by name: each is a file here and a line in MAKERS, can be switched off, limited and set by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from budgets.ledger import Ledger
from lake.follows import FollowStore
from scheduler.held import HeldStore
from scheduler.sources.base import Source
from scheduler.sources.dormant import Dormant, Unseen
from scheduler.sources.growing import Growing
from scheduler.sources.held import HeldRows
from scheduler.sources.nearby import Nearby
from scheduler.sources.new_posts import NewPosts
from scheduler.sources.trending import Heat, Trending


@dataclass(frozen=True)
class Needs:
    """What sources read."""

    held: HeldStore
    follows: FollowStore
    ledger: Ledger
    heat: Heat
    burst: Heat
    unseen: Unseen


_ABSENT: Any = None
_NOTHING = Needs(*[_ABSENT] * 6)
"""To make sources whose numbers are looked at and that propose nothing."""

MAKERS: Mapping[str, Callable[[Needs], Any]] = {
    "held": lambda needs: HeldRows(needs.held),
    "nearby": lambda _: Nearby(),
    "new_posts": lambda needs: NewPosts(needs.follows),
    "growing": lambda needs: Growing(needs.heat),
    "trending": lambda needs: Trending(needs.burst),
    "dormant": lambda needs: Dormant(needs.heat, needs.unseen, needs.ledger),
}
"""In order of precedence: a row that several sources propose is credited to the first."""

OFF_UNLESS_ASKED = ("growing", "dormant")
"""Sources that tell people of what they did not ask for."""


@dataclass(frozen=True)
class SourceRule:
    """Whether a source is used, None: as by default, and what of it is set otherwise, such as its `limit` or `radius_km`."""

    on: bool | None = None
    set: dict[str, float] = field(default_factory=dict)


def check_rules(rules: dict[str, SourceRule]) -> dict[str, SourceRule]:
    """Return the rules; raises ValueError, saying what there is, where one names or sets what there is not."""
    if unknown := sorted(set(rules) - set(MAKERS)):
        raise ValueError(f"there is no source {unknown[0]!r}; name one of {', '.join(MAKERS)}")
    for name, rule in rules.items():
        _set(MAKERS[name](_NOTHING), rule.set)
    return rules


def open_sources(needs: Needs, rules: dict[str, SourceRule]) -> tuple[Source, ...]:
    """Return the sources that are on, in order of precedence; raises ValueError for what there is not to set."""
    check_rules(rules)
    found: list[Source] = []
    for name, make in MAKERS.items():
        rule = rules.get(name, SourceRule())
        if rule.on if rule.on is not None else name not in OFF_UNLESS_ASKED:
            found.append(_set(make(needs), rule.set))
    return tuple(found)


def _set(source: Any, values: Mapping[str, float]) -> Source:
    """Return a source with some of its numbers changed."""
    numbers = {name: type(value) for name, value in vars(source).items() if type(value) in (int, float) and not name.startswith("_")}
    if wrong := sorted(set(values) - set(numbers)):
        raise ValueError(f"the source {source.name} has no {wrong[0]!r} to set; it has {', '.join(numbers)}")
    changed: Source = replace(source, **{name: numbers[name](value) for name, value in values.items()})
    return changed
