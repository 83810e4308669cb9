"""What whoever delivers works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from delivery.channels.base import Channel
from delivery.outbox import Outbox
from delivery.suppression import Suppression
from delivery.templates import Templates
from lake.ids import Keys64
from lake.items import ItemStore
from lake.meta import Meta
from lake.profiles import ProfileStore
from lake.switches import nothing_off

Refund = Callable[[Sequence[str], Keys64], object]
"""Gives units of budget back: user ids and grant ids (uint64). Repeating it changes nothing."""


@dataclass(frozen=True)
class Parts:
    """The parts of a deployment that deliver. `stand_ins`: by channel, the providers that are asked while the one in `channels` is down."""

    outbox: Outbox
    channels: Mapping[str, Channel]
    profiles: ProfileStore
    items: ItemStore
    suppression: Suppression
    templates: Templates
    refund: Refund
    meta: Meta
    off: Callable[[], frozenset[str]] = nothing_off
    stand_ins: Mapping[str, Sequence[Channel]] = field(default_factory=dict)
