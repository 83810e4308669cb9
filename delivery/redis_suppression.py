"""Suppressions in the store: a hash per user, by channel, and a key per suppressed address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
from redis import Redis

from delivery.suppression import Suppressed
from lake.keys import Keys

ADDRESS = f"{Keys.SUPPRESSED}-address"


@dataclass(frozen=True)
class RedisSuppressionStore:
    """The suppression store on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def put_user(self, user_id: str, channels: Sequence[str], record: Suppressed) -> None:
        """See SuppressionStore."""
        pipe = self.client.pipeline(transaction=False)
        for channel in channels:
            pipe.hsetnx(self.keys.of_user(Keys.SUPPRESSED, user_id), channel, _pack(record))
        pipe.execute()

    def remove_user(self, user_id: str, channels: Sequence[str]) -> None:
        """See SuppressionStore."""
        if channels:
            self.client.hdel(self.keys.of_user(Keys.SUPPRESSED, user_id), *channels)

    def of_users(self, user_ids: Sequence[str]) -> list[dict[str, Suppressed]]:
        """See SuppressionStore."""
        pipe = self.client.pipeline(transaction=False)
        for name in self.keys.of_users(Keys.SUPPRESSED, list(user_ids)):
            pipe.hgetall(name)
        return [{channel.decode(): _unpack(packed) for channel, packed in fields.items()} for fields in pipe.execute()]

    def put_address(self, digest: str, record: Suppressed) -> None:
        """See SuppressionStore."""
        self.client.set(self.keys.of_user(ADDRESS, digest), _pack(record), nx=True)

    def remove_address(self, digest: str) -> None:
        """See SuppressionStore."""
        self.client.delete(self.keys.of_user(ADDRESS, digest))

    def of_addresses(self, digests: Sequence[str]) -> list[Suppressed | None]:
        """See SuppressionStore."""
        pipe = self.client.pipeline(transaction=False)
        for name in self.keys.of_users(ADDRESS, list(digests)):
            pipe.get(name)
        return [None if packed is None else _unpack(packed) for packed in pipe.execute()]


def _pack(record: Suppressed) -> bytes:
    return bytes(msgpack.packb(record.as_row()))


def _unpack(packed: bytes) -> Suppressed:
    return Suppressed(**msgpack.unpackb(packed))
