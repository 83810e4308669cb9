"""What is kept of users, and how what they say becomes fields of their profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from delivery.preferences import PreferenceRow, profile_fields, with_fields
from delivery.suppression import Suppression
from gateway.problems import not_found
from gateway.user_rows import UserRow, UserRows
from lake.follows import Followed, FollowStore
from lake.meta import Meta
from lake.profiles import (
    CLOCK_GUESSED,
    KNOWN,
    NO_OFFSET,
    NO_WINDOW,
    PROFILE,
    Profiles,
    ProfileStore,
    quarter_of,
    with_guesses,
    without_guesses,
)


@dataclass(frozen=True)
class UserBook:
    """Reads and writes users. Every method raises ProblemError 404 for a user nobody has put, except `put`."""

    meta: Meta
    profiles: ProfileStore
    rows: UserRows
    follows: FollowStore
    suppression: Suppression

    def put(self, user_id: str, row: UserRow) -> None:
        """Insert or replace a user's row; preferences, addresses, budgets and suppressions stay, also those that come meanwhile.

        Somebody new begins with the windows at which most people look, and who tells no clock goes by that of most people.
        """
        usual = self.profiles.usual()
        told = with_guesses(_told(row), usual["zone"][0].decode(), int(usual["utc_offset_minutes"][0]))
        self.rows.put(user_id, row)
        if self.profiles.get([user_id])["flags"][0] & KNOWN:
            for name in _TOLD:
                self.profiles.write([user_id], name, told[name])
            self.profiles.add_bits([user_id], "flags", CLOCK_GUESSED, on=bool(told["flags"][0] & CLOCK_GUESSED))
            return
        profile = without_guesses(usual).copy()
        profile["windows"] = np.where(profile["windows"] == NO_WINDOW, NO_WINDOW, profile["windows"] + quarter_of([user_id]))
        profile["suppressed"] = self.suppression.masks([user_id])
        profile["flags"] |= told["flags"]
        for name in _TOLD:
            profile[name] = told[name]
        self.profiles.put([user_id], profile)
        # Whoever unsubscribed since the masks were read found no profile to mark.
        self.profiles.add_bits([user_id], "suppressed", self.suppression.masks([user_id]), on=True)

    def get(self, user_id: str) -> dict[str, Any]:
        """Return a user's row; of one that came with imported history only what the profile holds."""
        return {"user_id": user_id, **_columns(without_guesses(self._known(user_id))), **(self.rows.get(user_id) or {})}

    def preferences(self, user_id: str) -> list[PreferenceRow]:
        """Return a user's preferences rows as given."""
        self._known(user_id)
        return list(self.profiles.preferences([user_id])[0])

    def put_preferences(self, user_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace a user's preferences rows and the profile fields that follow; raises ValueError for a row that makes no sense."""
        fields = profile_fields([rows], self.meta)
        changed = with_fields(self._known(user_id), fields)
        self.profiles.put_preferences(user_id, [dict(row) for row in rows])
        for name in fields:
            self.profiles.write([user_id], name, changed[name])

    def zone(self, user_id: str) -> str:
        """Return the zone that a user's local times are in, "" where only an offset is known."""
        return str(self._known(user_id)["zone"][0].decode())

    def addresses(self, user_id: str) -> dict[str, str]:
        """Return a user's addresses by channel."""
        self._known(user_id)
        return self.profiles.addresses([user_id])[0]

    def put_addresses(self, user_id: str, addresses: Mapping[str, str]) -> None:
        """Replace a user's addresses; raises ValueError for a channel the store does not know."""
        self._known(user_id)
        mask = sum(1 << code for code in self.meta.channel_codes(list(addresses)))
        self.profiles.put_addresses(user_id, dict(addresses))
        self.profiles.write([user_id], "addressed", np.array([mask], np.uint32))

    def followed(self, user_id: str) -> Followed:
        """Return what a user follows."""
        self._known(user_id)
        return self.follows.get([user_id])[0]

    def put_followed(self, user_id: str, followed: Followed) -> None:
        """Replace what a user follows."""
        self._known(user_id)
        self.follows.put([user_id], [followed])

    def _known(self, user_id: str) -> Profiles:
        profile = self.profiles.get([user_id])
        if not profile["flags"][0] & KNOWN:
            raise not_found(f"there is no user {user_id!r}; PUT /v1/users/{{id}} makes one")
        return profile


_TOLD = ("zone", "utc_offset_minutes", "locale", "place", "created_at")
"""The fields of a profile that a user's row fills."""


def _told(row: UserRow) -> Profiles:
    """Return a profile, shape (1,), of which only what a user's row tells is filled."""
    told = np.zeros(1, PROFILE)
    told["zone"] = str(row.get("timezone", "")).encode()
    told["locale"] = str(row.get("locale", "")).encode("ascii", "ignore")
    told["place"] = (row.get("latitude", np.nan), row.get("longitude", np.nan))
    told["utc_offset_minutes"] = row.get("utc_offset_minutes", NO_OFFSET)
    told["created_at"] = row.get("created_at", 0.0)
    return told


def _columns(profile: Profiles) -> dict[str, Any]:
    zone, offset, created_at = profile["zone"][0].decode(), int(profile["utc_offset_minutes"][0]), float(profile["created_at"][0])
    locale = profile["locale"][0].decode()
    columns = {
        "timezone": zone or None,
        "locale": locale or None,
        "utc_offset_minutes": None if offset == NO_OFFSET else offset,
        "created_at": created_at or None,
    }
    return {name: value for name, value in columns.items() if value is not None}
