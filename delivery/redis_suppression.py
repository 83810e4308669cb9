"""Suppressions in the store: a hash per user, by channel, and a key per suppressed address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgpack
from redis import Redis

from delivery.suppression import Suppressed, nameless, user_digest
from lake.ids import shard_of
from lake.keys import Keys

ADDRESS = f"{Keys.SUPPRESSED}-address"
NAMELESS = f"{Keys.SUPPRESSED}-erased"


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
            for name in (self.keys.of_user(Keys.SUPPRESSED, user_id), self._nameless(user_id)):
                self.client.hdel(name, *channels)

    def of_users(self, user_ids: Sequence[str]) -> list[dict[str, Suppressed]]:
        """See SuppressionStore."""
        pipe = self.client.pipeline(transaction=False)
        for user_id, name in zip(user_ids, self.keys.of_users(Keys.SUPPRESSED, list(user_ids)), strict=True):
            pipe.hgetall(self._nameless(user_id))
            pipe.hgetall(name)
        found = pipe.execute()
        return [_records(nameless | named) for nameless, named in zip(found[::2], found[1::2], strict=True)]

    def forget_name(self, user_id: str) -> int:
        """See SuppressionStore."""
        named, kept = self.keys.of_user(Keys.SUPPRESSED, user_id), self._nameless(user_id)
        records = self.of_users([user_id])[0]
        pipe = self.client.pipeline(transaction=True)
        for channel, record in records.items():
            pipe.hsetnx(kept, channel, _pack(nameless(record)))
        pipe.delete(named)
        pipe.execute()
        return len(records)

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

    def _nameless(self, user_id: str) -> str:
        return f"{self.keys.of_shard(NAMELESS, shard_of(user_id, self.keys.shards))}:{user_digest(user_id)}"


def _records(fields: dict[bytes, bytes]) -> dict[str, Suppressed]:
    return {channel.decode(): _unpack(packed) for channel, packed in fields.items()}


def _pack(record: Suppressed) -> bytes:
    return bytes(msgpack.packb(record.as_row()))


def _unpack(packed: bytes) -> Suppressed:
    return Suppressed(**msgpack.unpackb(packed))
