"""API keys in the store: one hash, a field per key."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import orjson
from redis import Redis

from gateway.api_keys import ApiKey
from lake.keys import API_KEYS


@dataclass(frozen=True)
class RedisApiKeys:
    """The API keys on a Redis-protocol server."""

    client: Redis

    def put(self, key: ApiKey) -> None:
        """See ApiKeyStore."""
        self.client.hset(API_KEYS, key.id, orjson.dumps(asdict(key)))

    def get(self, key_id: str) -> ApiKey | None:
        """See ApiKeyStore."""
        packed = self.client.hget(API_KEYS, key_id)
        return None if packed is None else _unpack(packed)

    def all(self) -> list[ApiKey]:
        """See ApiKeyStore."""
        return sorted(map(_unpack, self.client.hvals(API_KEYS)), key=lambda key: key.created_at)

    def revoke(self, key_id: str) -> bool:
        """See ApiKeyStore."""
        return bool(self.client.hdel(API_KEYS, key_id))


def _unpack(packed: bytes | str) -> ApiKey:
    fields = orjson.loads(packed)
    return ApiKey(**fields | {"scopes": tuple(fields["scopes"])})
