"""What users allow: preferences rows to profile fields, and the rules by kind and channel. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine, hash64
from lake.meta import Meta
from lake.profiles import HAS_KIND_PREFERENCES, Profiles

PreferenceRow = Mapping[str, Any]
"""One interchange preferences row: `allowed`, and `kind`, `channel`, `quiet_from`, `quiet_to`, `dial` where given."""

MINUTES_PER_DAY = 1440
ANY_CHANNEL = 255


class PreferenceError(ValueError):
    """A preferences row that makes no sense."""


def applied(profiles: Profiles, preferences: Sequence[Sequence[PreferenceRow]], meta: Meta) -> Profiles:
    """Return profiles, shape (n,), whose fields follow from each user's preferences rows alone; the rest is left as it is.

    Of rows about the same thing the last one counts. Raises PreferenceError.
    """
    changed = profiles.copy()
    for field, values in profile_fields(preferences, meta).items():
        changed[field] = (changed["flags"] & ~np.uint8(HAS_KIND_PREFERENCES)) | values if field == "flags" else values
    return changed


def profile_fields(preferences: Sequence[Sequence[PreferenceRow]], meta: Meta) -> dict[str, npt.NDArray[Any]]:
    """Return the profile fields that follow from each user's rows, shape (n,) each.

    `not_allowed`, `quiet_from`, `quiet_to`, `dial`, and in `flags` only the HAS_KIND_PREFERENCES bit. Raises PreferenceError.
    """
    rows = [_fields_of(user_rows, meta) for user_rows in preferences]
    types = {"flags": np.uint8, "not_allowed": np.uint32, "quiet_from": np.int16, "quiet_to": np.int16, "dial": np.int8}
    return {name: np.array([row[name] for row in rows], kind) for name, kind in types.items()}


def _fields_of(rows: Sequence[PreferenceRow], meta: Meta) -> dict[str, int]:
    fields = {"flags": 0, "not_allowed": 0, "quiet_from": -1, "quiet_to": -1, "dial": 0}
    everywhere = True
    by_channel: dict[int, bool] = {}
    for row in rows:
        code = _channel_code(row, meta)
        if row.get("kind") is not None:
            fields["flags"] = HAS_KIND_PREFERENCES
        elif code == ANY_CHANNEL:
            everywhere = bool(row.get("allowed", True))
        else:
            by_channel[code] = bool(row.get("allowed", True))
        _take_day(fields, row)
    allowed = [by_channel.get(code, everywhere) for code in range(len(meta.channels))]
    fields["not_allowed"] = sum(1 << code for code, is_allowed in enumerate(allowed) if not is_allowed)
    return fields


def _take_day(fields: dict[str, int], row: PreferenceRow) -> None:
    begins, ends = row.get("quiet_from"), row.get("quiet_to")
    if (begins is None) != (ends is None):
        raise PreferenceError("quiet_from and quiet_to come together: give both or neither")
    if begins is not None:
        fields["quiet_from"], fields["quiet_to"] = minute_of_day(begins), minute_of_day(ends)
    if row.get("dial") is not None:
        fields["dial"] = _dial(row["dial"])


def minute_of_day(value: Any) -> int:
    """Return local minutes since midnight of "HH:MM" or of minutes, 0 to 1439; raises PreferenceError."""
    hours, colon, minutes = str(value).partition(":")
    try:
        total = int(hours) * 60 + int(minutes[:2]) if colon else int(float(value))
    except (TypeError, ValueError):
        total = -1
    if not 0 <= total < MINUTES_PER_DAY:
        raise PreferenceError(f"{value!r} is not a time of day: give HH:MM, or minutes from 0 to 1439")
    return total


def _dial(value: Any) -> int:
    if not isinstance(value, int | float | np.integer) or int(value) != value or not -2 <= value <= 2:
        raise PreferenceError(f"dial must be a whole number from -2 (fewer) to 2 (more), not {value!r}")
    return int(value)


def _channel_code(row: PreferenceRow, meta: Meta) -> int:
    channel = row.get("channel")
    if channel is None:
        return ANY_CHANNEL
    try:
        return meta.channel_codes([channel])[0]
    except ValueError as error:
        raise PreferenceError(str(error)) from error


@dataclass(frozen=True)
class KindRules:
    """The rules that name a kind, sorted by key for lookup. `keys`: uint64 of (user, kind, channel); `allowed`: bool."""

    keys: Keys64
    allowed: npt.NDArray[np.bool_]

    @staticmethod
    def of(preferences: Sequence[Sequence[PreferenceRow]], meta: Meta) -> KindRules:
        """Return the rules of users given by position; of rows about the same thing the last one counts."""
        rules = [
            (user, row["kind"], _channel_code(row, meta), bool(row.get("allowed", True)))
            for user, rows in enumerate(preferences)
            for row in rows
            if row.get("kind") is not None
        ]
        if not rules:
            return KindRules(np.empty(0, np.uint64), np.empty(0, np.bool_))
        user, kind, channel, allowed = zip(*rules, strict=True)
        keys = combine(np.array(user), hash64(list(kind)), np.array(channel))
        last = len(keys) - 1 - np.unique(keys[::-1], return_index=True)[1]
        return KindRules(keys[last], np.array(allowed, np.bool_)[last])

    def find(self, keys: Keys64) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Return whether there is a rule for each key, and what it allows, shape (n,) each."""
        if not len(self.keys):
            return np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.bool_)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return self.keys[place] == keys, self.allowed[place]


def allowed(
    profiles: Profiles,
    rules: KindRules,
    user: npt.NDArray[np.integer[Any]],
    kind: Keys64,
    channel: npt.NDArray[np.integer[Any]],
) -> npt.NDArray[np.bool_]:
    """Return whether each row may be sent as far as preferences go, shape (n,): the most specific rule wins.

    `user`: positions in `profiles` and in what `rules` was made of. `kind`: lake.ids.hash64 of the item's kind, 0: none.
    `channel`: channel codes. Order: kind and channel, kind, channel, everything.
    """
    result = (profiles["not_allowed"][user] >> channel.astype(np.uint32) & np.uint32(1)) == 0
    if len(rules.keys):
        for channels in (np.full(len(user), ANY_CHANNEL), channel):
            found, value = rules.find(combine(user, kind, channels))
            result = np.where(found & (kind != 0), value, result)
    return np.asarray(result, np.bool_)


def in_quiet_hours(profiles: Profiles, local_minute: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Return whether each user's local minute of the day is within the quiet hours, which may run past midnight, shape (n,)."""
    begins, ends = profiles["quiet_from"], profiles["quiet_to"]
    same_day = (begins <= local_minute) & (local_minute < ends)
    past_midnight = (local_minute >= begins) | (local_minute < ends)
    return np.asarray((begins >= 0) & np.where(begins <= ends, same_day, past_midnight), np.bool_)
