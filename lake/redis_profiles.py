"""Profiles in the store: one packed string per user, so that 500 users are one MGET and one field is one SETRANGE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
from redis import Redis

from lake.keys import LAYOUT, USUAL_PROFILE, Keys
from lake.profiles import PROFILE, Profiles, blank, from_packed, weeks_from_packed

SCANNED = 1_000
"""Keys that one step of a walk through the store looks at: others wait for it for less than a millisecond."""


@dataclass(frozen=True)
class RedisProfileStore:
    """The profile store on a Redis-protocol server."""

    client: Redis
    keys: Keys

    def get(self, user_ids: Sequence[str]) -> Profiles:
        """See ProfileStore."""
        packed: Any = self.client.mget(self._names(user_ids)) if user_ids else []
        return from_packed(packed)

    def everybody(self) -> list[str]:
        """See ProfileStore."""
        found: dict[str, None] = {}
        for name in self.client.scan_iter(match=f"{LAYOUT}:{{*}}:{Keys.PROFILE}:*", count=SCANNED):
            found[name.decode().split(f"}}:{Keys.PROFILE}:", 1)[1]] = None
        return list(found)

    def put(self, user_ids: Sequence[str], rows: Profiles) -> None:
        """See ProfileStore."""
        if user_ids:
            self.client.mset({name: row.tobytes() for name, row in zip(self._names(user_ids), rows, strict=True)})

    def usual(self) -> Profiles:
        """See ProfileStore."""
        packed: Any = self.client.get(USUAL_PROFILE)
        return blank(1) if packed is None else from_packed([packed]).copy()

    def put_usual(self, row: Profiles) -> None:
        """See ProfileStore."""
        self.client.set(USUAL_PROFILE, row.tobytes())

    def write(self, user_ids: Sequence[str], name: str, values: npt.ArrayLike) -> None:
        """See ProfileStore."""
        base, offset = PROFILE.fields[name][:2]  # type: ignore[index]
        column = np.asarray(values).astype(base.base)
        known = self._known(user_ids)
        pipe = self.client.pipeline(transaction=False)
        for place, (key, there) in enumerate(zip(self._names(user_ids), known, strict=True)):
            if there:
                pipe.setrange(key, offset, column[place : place + 1].tobytes())  # of a text by itself numpy leaves the padding out
        pipe.execute()

    def add_bits(self, user_ids: Sequence[str], name: str, bits: npt.ArrayLike, on: bool) -> None:
        """See ProfileStore."""
        offset = PROFILE.fields[name][1]  # type: ignore[index]
        known = self._known(user_ids)
        pipe = self.client.pipeline(transaction=False)
        for key, mask, there in zip(self._names(user_ids), np.broadcast_to(np.asarray(bits, np.uint32), len(known)), known, strict=True):
            for bit in range(32):
                if there and int(mask) >> bit & 1:
                    pipe.setbit(key, 8 * (offset + bit // 8) + 7 - bit % 8, int(on))
        pipe.execute()

    def put_weeks(self, user_ids: Sequence[str], rows: npt.NDArray[np.void]) -> None:
        """See ProfileStore."""
        if user_ids:
            names = self.keys.of_users(Keys.WEEK, list(user_ids))
            self.client.mset({name: row.tobytes() for name, row in zip(names, rows, strict=True)})

    def weeks(self, user_ids: Sequence[str]) -> npt.NDArray[np.void]:
        """See ProfileStore."""
        packed: Any = self.client.mget(self.keys.of_users(Keys.WEEK, list(user_ids))) if user_ids else []
        return weeks_from_packed(packed)

    def delete(self, user_ids: Sequence[str]) -> None:
        """See ProfileStore."""
        pipe = self.client.pipeline(transaction=False)
        for kind in (Keys.PROFILE, Keys.WEEK, Keys.ADDRESSES, Keys.PREFERENCES):
            for key in self.keys.of_users(kind, list(user_ids)):
                pipe.delete(key)
        pipe.execute()

    def addresses(self, user_ids: Sequence[str]) -> list[dict[str, str]]:
        """See ProfileStore."""
        return [packed or {} for packed in self._packed(Keys.ADDRESSES, user_ids)]

    def put_addresses(self, user_id: str, addresses: dict[str, str]) -> None:
        """See ProfileStore."""
        self.client.set(self.keys.of_user(Keys.ADDRESSES, user_id), msgpack.packb(addresses))

    def preferences(self, user_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        """See ProfileStore."""
        return [packed or [] for packed in self._packed(Keys.PREFERENCES, user_ids)]

    def put_preferences(self, user_id: str, rows: list[dict[str, Any]]) -> None:
        """See ProfileStore."""
        self.client.set(self.keys.of_user(Keys.PREFERENCES, user_id), msgpack.packb(rows))

    def _names(self, user_ids: Sequence[str]) -> list[str]:
        return self.keys.of_users(Keys.PROFILE, list(user_ids))

    def _known(self, user_ids: Sequence[str]) -> list[bool]:
        packed: Any = self.client.mget(self._names(user_ids)) if user_ids else []
        return [row is not None for row in packed]

    def _packed(self, kind: str, user_ids: Sequence[str]) -> list[Any]:
        if not user_ids:
            return []
        rows: Any = self.client.mget(self.keys.of_users(kind, list(user_ids)))
        return [None if row is None else msgpack.unpackb(row) for row in rows]
