"""Channels whose providers take one message per request: each goes by itself, several at a time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from pydantic import Field

from delivery.channels.base import Answer, Delivery, Permanent, Settings, Traits

AddressT = TypeVar("AddressT")


class OneByOneSettings(Settings):
    """Common to these channels' settings. `timeout_s`: of one request; `concurrency`: most requests of a wave at a time."""

    name: str
    timeout_s: float = Field(default=10.0, gt=0)
    concurrency: int = Field(default=32, ge=1)


class OneByOne(ABC, Generic[AddressT]):
    """A Channel by what it makes of an address and how it sends one message there."""

    def __init__(self, settings: OneByOneSettings, *, needs_unsubscribe: bool = False) -> None:
        self._of_all = settings
        self._traits = Traits(needs_bodies=False, needs_unsubscribe=needs_unsubscribe, concurrency=settings.concurrency)

    @property
    def name(self) -> str:
        """See Channel."""
        return self._of_all.name

    @property
    def traits(self) -> Traits:
        """See Channel."""
        return self._traits

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """See Channel."""
        if len(deliveries) == 1:  # as a courier asks for; a task of its own would only cost time
            return [await self._one(deliveries[0])]
        return list(await asyncio.gather(*(self._one(delivery) for delivery in deliveries)))

    async def close(self) -> None:
        """See Channel."""

    async def _one(self, delivery: Delivery) -> Answer:
        try:
            address = self._parse(delivery.address)
        except ValueError as error:
            return Permanent(str(error), bad_address=True)
        return await self._deliver(delivery, address)

    @abstractmethod
    def _parse(self, address: str) -> AddressT:
        """Return what an address stands for; raises ValueError where it is none of this channel's."""

    @abstractmethod
    async def _deliver(self, delivery: Delivery, address: AddressT) -> Answer:
        """Send one message."""


class OneByOneText(OneByOne[str]):
    """A channel whose addresses are sent as they are, once they have passed the settings' check."""

    def _parse(self, address: str) -> str:
        self._of_all.check_address(address)
        return address
