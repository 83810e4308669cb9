"""Events in the store: a stream per shard until they are history, and a short memory of the event ids seen."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b

import msgpack
from redis import Redis

from delivery.feedback import EventRow
from delivery.redis_streams import read_stream
from lake.ids import shard_of
from lake.keys import Keys
from lake.redis_scripts import script_of

SEEN = f"{Keys.EVENTS}-seen"
REMEMBERED_S = 7 * 86400
"""How long a retry with the same `event_id` is recognised."""
NAMELESS_REMEMBERED_S = 120
"""How long an event without an id is: long enough for a client of the store that repeats a call whose reply was lost."""


class RedisEventLog:
    """The event feed on a Redis-protocol server."""

    def __init__(self, client: Redis, keys: Keys, remembered_s: int = REMEMBERED_S) -> None:
        self._client, self._keys, self._remembered_s = client, keys, remembered_s
        self._append = script_of(client, "delivery", "append_events")

    def append(self, rows: Sequence[EventRow], token: str, now: float) -> list[bool]:
        """See EventLog."""
        del now
        by_shard: dict[int, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            by_shard[shard_of(row["user_id"], self._keys.shards)].append(place)
        fresh = [False] * len(rows)
        for shard, places in by_shard.items():
            names, arguments = [self._keys.of_shard(Keys.EVENTS, shard)], []
            for place in places:
                claim = f"{token}:{place}"
                names.append(self._seen(rows[place], claim))
                remembered_s = self._remembered_s if rows[place].get("event_id") else NAMELESS_REMEMBERED_S
                arguments += [remembered_s, claim, msgpack.packb(dict(rows[place]))]
            for place, answer in zip(places, self._append(names, arguments), strict=True):
                fresh[place] = answer == 1
        return fresh

    def read(self, shard: int, count: int) -> list[tuple[str, EventRow]]:
        """See EventLog."""
        entries = read_stream(self._client, self._keys.of_shard(Keys.EVENTS, shard), count)
        return [(name, msgpack.unpackb(fields[b"m"])) for name, fields in entries]

    def remove(self, shard: int, names: Sequence[str]) -> None:
        """See EventLog."""
        if names:
            self._client.xdel(self._keys.of_shard(Keys.EVENTS, shard), *names)

    def _seen(self, row: EventRow, claim: str) -> str:
        # A hash, so that what is left of an erased user until it expires does not name them.
        identity = f"{row['user_id']}\x1f{row.get('event_id') or claim}".encode()
        shard = shard_of(row["user_id"], self._keys.shards)
        return f"{self._keys.of_shard(SEEN, shard)}:{blake2b(identity, digest_size=16).hexdigest()}"
