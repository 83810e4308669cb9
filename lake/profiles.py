"""What a user has told us or we must obey, as one packed row per user: zone, windows, budgets, preferences, suppression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from lake.ids import hash64
from lake.meta import MAX_CHANNELS

KNOWN = 1
HAS_KIND_PREFERENCES = 2
CLOCK_GUESSED = 4
"""Nobody told the user's zone or offset: those of the row are what most users go by."""

DEFAULT_BUDGET = 255
"""In `budget`: the deployment's default for the channel applies."""

NO_OFFSET = -32768
NO_WINDOW = 0xFFFF
MAX_WINDOWS = 14

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""How people write days; a day's place is its bit in `digest_days`."""

PROFILE = np.dtype(
    [
        ("flags", "u1"),
        ("dial", "i1"),
        ("utc_offset_minutes", "<i2"),
        ("quiet_from", "<i2"),
        ("quiet_to", "<i2"),
        ("not_allowed", "<u4"),
        ("suppressed", "<u4"),
        ("addressed", "<u4"),
        ("zone", "S32"),
        ("budget", "u1", (MAX_CHANNELS,)),
        ("windows", "<u2", (MAX_WINDOWS,)),
        ("created_at", "<f8"),
        ("window_share", "u1", (MAX_WINDOWS,)),
        ("digest_quarter", "u1"),
        ("digest_days", "u1"),
        ("locale", "S16"),
        ("place", "<f4", (2,)),
        ("learned", "u1", (MAX_CHANNELS,)),
        ("hours", "u1", (48,)),
    ]
)
"""One user's settings.

`flags`: KNOWN, HAS_KIND_PREFERENCES, CLOCK_GUESSED. `dial`: -2..2, fewer to more. `utc_offset_minutes`: used where `zone` (an IANA
name) is empty; NO_OFFSET: unknown. `quiet_from`, `quiet_to`: local minutes of the day, -1: none. `not_allowed`,
`suppressed`, `addressed`: one bit per channel code. `budget`: most sends per rolling 7 days and channel. `windows`:
local quarter-hours of the week (0 = Monday 00:00), NO_WINDOW: none. `created_at`: seconds, 0: unknown.
`window_share`: how likely the user is to engage at each of the windows, 255 at the likeliest, 0: unknown.
`digest_days`: where it is not 0, the weekdays (bit 0 = Monday) at whose `digest_quarter` (local quarter-hour of the day) the user
wants to be told, whatever `windows` says.
`locale`: the language they read, as BCP 47 such as pt-BR, empty: unknown. `place`: latitude and longitude in degrees, NaN or both 0:
unknown.
`learned`: the budget that was learned for the user and channel, plus 1; 0: none was, and the deployment's default applies.
`hours`: how likely the user is to look at each local hour of a working day, then of a weekend's, 255 at the likeliest, all 0: unknown.
"""

WEEK = np.dtype([("scores", "u1", (168,)), ("rests_on", "u1"), ("as_of", "<f8")])
"""When one user is likely to look: `scores` of the local hours of the week, 255 at the likeliest, all 0: unknown; what they rest on
(scheduler.send_time.LEVELS); and as of when, seconds. For people to look at: decisions go by the windows of the profile.
"""

EVERYBODY = ""
"""Whose week is the population's: no user has this id."""

Profiles = npt.NDArray[np.void]


def blank(n: int) -> Profiles:
    """Return `n` profiles of known users who have told us nothing."""
    rows = np.zeros(n, PROFILE)
    rows["flags"] = KNOWN
    rows["utc_offset_minutes"] = NO_OFFSET
    rows["quiet_from"] = rows["quiet_to"] = -1
    rows["budget"] = DEFAULT_BUDGET
    rows["windows"] = NO_WINDOW
    rows["place"] = np.nan
    return rows


def weeks_from_packed(packed: Sequence[bytes | None]) -> npt.NDArray[np.void]:
    """Return the weeks of packed rows; None gives one of zeros."""
    return np.frombuffer(b"".join([row or bytes(WEEK.itemsize) for row in packed]), WEEK)


def place_of(rows: Profiles) -> npt.NDArray[np.float32]:
    """Return users' latitudes and longitudes, (n, 2), NaN: unknown; rows of before there were places hold zeros."""
    place: npt.NDArray[np.float32] = rows["place"]
    return np.where((place == 0).all(axis=1, keepdims=True), np.float32(np.nan), place)


def from_packed(packed: Sequence[bytes | None]) -> Profiles:
    """Return the profiles of packed rows, unknown users (None) as rows without the KNOWN flag; rows of before a field was added lack it."""
    return np.frombuffer(b"".join([(row or b"").ljust(PROFILE.itemsize, b"\0") for row in packed]), PROFILE)


def without_guesses(rows: Profiles) -> Profiles:
    """Return rows without the clocks that are guesses: what is known of users, for whoever asks for that."""
    guessed = rows["flags"] & CLOCK_GUESSED != 0
    if not guessed.any():
        return rows
    told = rows.copy()
    told["flags"] &= ~np.uint8(CLOCK_GUESSED)
    told["zone"][guessed], told["utc_offset_minutes"][guessed] = b"", NO_OFFSET
    return told


def with_guesses(rows: Profiles, zone: str, offset_minutes: int) -> Profiles:
    """Return rows in which whoever has told neither zone nor offset goes by these; "" and NO_OFFSET: nothing is known to go by."""
    told = without_guesses(rows)
    lost = (told["zone"] == b"") & (told["utc_offset_minutes"] == NO_OFFSET)
    if not lost.any() or (not zone and offset_minutes == NO_OFFSET):
        return told
    guessed = told.copy()
    guessed["flags"][lost] |= np.uint8(CLOCK_GUESSED)
    guessed["zone"][lost], guessed["utc_offset_minutes"][lost] = zone.encode(), offset_minutes
    return guessed


def quarter_of(user_ids: Sequence[str]) -> npt.NDArray[np.uint16]:
    """Return the quarter of the hour, 0 to 3, that each user's windows keep to, so that an hour's load spreads over its slots."""
    return (hash64(list(user_ids)) % np.uint64(4)).astype(np.uint16)


class ProfileStore(Protocol):
    """Where profiles, addresses and preferences live. One round trip per call; unknown users do not raise."""

    def get(self, user_ids: Sequence[str]) -> Profiles:
        """Return the profiles of users, shape (n,); unknown users lack the KNOWN flag."""
        ...

    def everybody(self) -> list[str]:
        """Return the ids of all users, in no order; takes a walk through the whole store, for daily work."""
        ...

    def put(self, user_ids: Sequence[str], rows: Profiles) -> None:
        """Insert or replace profiles."""
        ...

    def usual(self) -> Profiles:
        """Return the profile that somebody new begins with, shape (1,), its windows in the first quarter of the hour."""
        ...

    def put_usual(self, row: Profiles) -> None:
        """Replace the profile that somebody new begins with."""
        ...

    def write(self, user_ids: Sequence[str], name: str, values: npt.ArrayLike) -> None:
        """Overwrite one field of existing profiles, shape (n,) or (n, width), leaving the others as they are."""
        ...

    def add_bits(self, user_ids: Sequence[str], name: str, bits: npt.ArrayLike, on: bool) -> None:
        """Set (`on`) or clear bits of a mask field of existing profiles, atomically per user."""
        ...

    def put_weeks(self, user_ids: Sequence[str], rows: npt.NDArray[np.void]) -> None:
        """Insert or replace weeks (WEEK)."""
        ...

    def weeks(self, user_ids: Sequence[str]) -> npt.NDArray[np.void]:
        """Return the weeks of users, shape (n,); those of users that have none are all 0."""
        ...

    def delete(self, user_ids: Sequence[str]) -> None:
        """Forget users' profiles, weeks, preferences and addresses."""
        ...

    def addresses(self, user_ids: Sequence[str]) -> list[dict[str, str]]:
        """Return each user's addresses by channel name."""
        ...

    def put_addresses(self, user_id: str, addresses: dict[str, str]) -> None:
        """Replace a user's addresses (the `addressed` bits are the caller's to set)."""
        ...

    def preferences(self, user_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return each user's preferences rows as given (interchange columns)."""
        ...

    def put_preferences(self, user_id: str, rows: list[dict[str, Any]]) -> None:
        """Replace a user's preferences rows (the profile fields that follow from them are the caller's to set)."""
        ...


@dataclass
class MemoryProfileStore:
    """Profiles in dictionaries, for tests and replay."""

    rows: dict[str, bytes] = field(default_factory=dict)
    _weeks: dict[str, bytes] = field(default_factory=dict)
    _usual: Profiles = field(default_factory=lambda: blank(1))
    _addresses: dict[str, dict[str, str]] = field(default_factory=dict)
    _preferences: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def get(self, user_ids: Sequence[str]) -> Profiles:
        """See ProfileStore."""
        return from_packed([self.rows.get(user_id) for user_id in user_ids])

    def everybody(self) -> list[str]:
        """See ProfileStore."""
        return list(self.rows)

    def put(self, user_ids: Sequence[str], rows: Profiles) -> None:
        """See ProfileStore."""
        self.rows.update({user_id: row.tobytes() for user_id, row in zip(user_ids, rows, strict=True)})

    def usual(self) -> Profiles:
        """See ProfileStore."""
        return self._usual.copy()

    def put_usual(self, row: Profiles) -> None:
        """See ProfileStore."""
        self._usual = row.copy()

    def write(self, user_ids: Sequence[str], name: str, values: npt.ArrayLike) -> None:
        """See ProfileStore."""
        for user_id, value in zip(user_ids, np.asarray(values), strict=True):
            if user_id in self.rows:
                row = from_packed([self.rows[user_id]]).copy()
                row[name][0] = value
                self.rows[user_id] = row.tobytes()

    def add_bits(self, user_ids: Sequence[str], name: str, bits: npt.ArrayLike, on: bool) -> None:
        """See ProfileStore."""
        old = self.get(user_ids)[name]
        mask = np.asarray(bits, np.uint32)
        self.write(user_ids, name, old | mask if on else old & ~mask)

    def put_weeks(self, user_ids: Sequence[str], rows: npt.NDArray[np.void]) -> None:
        """See ProfileStore."""
        self._weeks.update({user_id: row.tobytes() for user_id, row in zip(user_ids, rows, strict=True)})

    def weeks(self, user_ids: Sequence[str]) -> npt.NDArray[np.void]:
        """See ProfileStore."""
        return weeks_from_packed([self._weeks.get(user_id) for user_id in user_ids])

    def delete(self, user_ids: Sequence[str]) -> None:
        """See ProfileStore."""
        for kept in (self.rows, self._weeks, self._addresses, self._preferences):
            for user_id in user_ids:
                kept.pop(user_id, None)

    def addresses(self, user_ids: Sequence[str]) -> list[dict[str, str]]:
        """See ProfileStore."""
        return [dict(self._addresses.get(user_id, {})) for user_id in user_ids]

    def put_addresses(self, user_id: str, addresses: dict[str, str]) -> None:
        """See ProfileStore."""
        self._addresses[user_id] = dict(addresses)

    def preferences(self, user_ids: Sequence[str]) -> list[list[dict[str, Any]]]:
        """See ProfileStore."""
        return [list(self._preferences.get(user_id, [])) for user_id in user_ids]

    def put_preferences(self, user_id: str, rows: list[dict[str, Any]]) -> None:
        """See ProfileStore."""
        self._preferences[user_id] = list(rows)
