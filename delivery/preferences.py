"""What users allow: preferences rows to profile fields, and the rules by kind and channel. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import numpy as np
import numpy.typing as npt

from lake.ids import Keys64, combine, hash64
from lake.meta import Meta
from lake.profiles import HAS_KIND_PREFERENCES, PROFILE, WEEKDAYS, Profiles

PreferenceRow = Mapping[str, Any]
"""One interchange preferences row: `allowed`, and `kind`, `channel`, `quiet_from`, `quiet_to`, `dial`, `digest_at`, `digest_days`
where given."""

NOTHING_SAID: Mapping[str, int] = {
    "flags": 0,
    "not_allowed": 0,
    "quiet_from": -1,
    "quiet_to": -1,
    "dial": 0,
    "digest_quarter": 0,
    "digest_days": 0,
}
"""The profile fields that follow from preferences, as they are without any."""

EVERY_DAY = (1 << len(WEEKDAYS)) - 1
MINUTES_PER_DAY, QUARTER_MINUTES = 1440, 15
ANY_CHANNEL = 255


class PreferenceError(ValueError):
    """A preferences row that makes no sense."""


def applied(profiles: Profiles, preferences: Sequence[Sequence[PreferenceRow]], meta: Meta) -> Profiles:
    """Return profiles, shape (n,), whose fields follow from each user's preferences rows alone; the rest is left as it is.

    Of rows about the same thing the last one counts. Raises PreferenceError.
    """
    return with_fields(profiles, profile_fields(preferences, meta))


def with_fields(profiles: Profiles, fields: Mapping[str, npt.NDArray[Any]]) -> Profiles:
    """Return profiles with the fields that `profile_fields` found."""
    changed = profiles.copy()
    for field, values in fields.items():
        changed[field] = (changed["flags"] & ~np.uint8(HAS_KIND_PREFERENCES)) | values if field == "flags" else values
    return changed


def profile_fields(preferences: Sequence[Sequence[PreferenceRow]], meta: Meta) -> dict[str, npt.NDArray[Any]]:
    """Return the profile fields that follow from each user's rows, shape (n,) each.

    Those of NOTHING_SAID, of `flags` only the HAS_KIND_PREFERENCES bit. Raises PreferenceError.
    """
    rows = [_fields_of(user_rows, meta) for user_rows in preferences]
    return {name: np.array([row[name] for row in rows], PROFILE[name]) for name in NOTHING_SAID}


def _fields_of(rows: Sequence[PreferenceRow], meta: Meta) -> dict[str, int]:
    fields = dict(NOTHING_SAID)
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
        _take_digest(fields, row)
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


def _take_digest(fields: dict[str, int], row: PreferenceRow) -> None:
    at, days = row.get("digest_at"), row.get("digest_days")
    if at is None:
        if days is not None:
            raise PreferenceError("digest_days needs digest_at: give both or leave it out")
        return
    minute = minute_of_day(at)
    if minute % QUARTER_MINUTES:
        raise PreferenceError(f"{at!r} is not a quarter of an hour: give digest_at as HH:00, HH:15, HH:30 or HH:45")
    fields["digest_quarter"] = minute // QUARTER_MINUTES
    fields["digest_days"] = EVERY_DAY if days is None else sum(1 << WEEKDAYS.index(day) for day in set(digest_days(days)))


def digest_days(value: Any) -> list[str]:
    """Return the weekdays of a list of names or of a text such as "mon|wed", at least one; raises PreferenceError."""
    days = value.split("|") if isinstance(value, str) else list(value)
    wrong = [day for day in days if day not in WEEKDAYS]
    if wrong or not days:
        raise PreferenceError(f"digest_days must be some of {', '.join(WEEKDAYS)}, not {wrong[0] if wrong else 'none'!r}")
    return days


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


def quiet_until(profiles: Profiles, zones: Sequence[tzinfo], now: float) -> list[float | None]:
    """Return when the quiet hours end in which each user is at `now`, epoch seconds, None: they are in none. `zones`: of their clocks."""
    ends: list[float | None] = [None] * len(profiles)
    having = np.flatnonzero(profiles["quiet_from"] >= 0)
    local = [datetime.fromtimestamp(now, zones[place]) for place in having.tolist()]
    quiet = in_quiet_hours(profiles[having], np.array([at.hour * 60 + at.minute for at in local], np.int64))
    for place, at, is_quiet in zip(having.tolist(), local, quiet.tolist(), strict=True):
        if is_quiet:
            ends[place] = _next(at, int(profiles["quiet_to"][place]))
    return ends


def _next(local: datetime, minute: int) -> float:
    """Return when a clock next shows a minute of the day."""
    then = local.replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0)
    return (then if then > local else then + timedelta(days=1)).timestamp()
