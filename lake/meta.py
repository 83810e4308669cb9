"""What is fixed when a store is created: its number of shards and the order of its channels."""

from __future__ import annotations

from dataclasses import dataclass

from lake.keys import LAYOUT, Keys

CHANNELS = ("in_app", "email", "push", "webhook", "sms", "chat", "maildir", "console")
MAX_CHANNELS = 16


@dataclass(frozen=True)
class Meta:
    """The fixed properties of a store. A channel's code is its place in `channels`."""

    shards: int = 16
    channels: tuple[str, ...] = CHANNELS
    layout: str = LAYOUT

    def __post_init__(self) -> None:
        if not 1 <= self.shards <= 16384:
            raise ValueError(f"shards must be between 1 and 16384, not {self.shards}")
        if len(self.channels) > MAX_CHANNELS or len(set(self.channels)) != len(self.channels):
            raise ValueError(f"channels must be at most {MAX_CHANNELS} different names, not {self.channels}")

    @property
    def keys(self) -> Keys:
        """The key names of this store."""
        return Keys(self.shards)

    def channel_codes(self, names: list[str] | tuple[str, ...]) -> list[int]:
        """Return the codes of channel names; raises ValueError naming the unknown one and the known ones."""
        unknown = [name for name in names if name not in self.channels]
        if unknown:
            raise ValueError(f"unknown channel {unknown[0]!r}; this store knows {', '.join(self.channels)}")
        return [self.channels.index(name) for name in names]
