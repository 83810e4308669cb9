"""In which language and how a message is written: whose locale falls back to which, and their dates, numbers and plurals by Babel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError
from babel.core import get_global
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_decimal
from jinja2 import pass_context
from jinja2.runtime import Context

from lake.profiles import NO_OFFSET, Profiles

DEFAULT = "en"
"""The language of templates without a locale in their name."""


@dataclass(frozen=True, slots=True)
class Reader:
    """For whom a message is written: their `locale` as BCP 47, "" where it is unknown, and the zone of their clock."""

    locale: str = ""
    zone: tzinfo = UTC


@lru_cache(1024)
def fallbacks(locale: str) -> tuple[str, ...]:
    """Return the locales to look for, the closest first, as pt-BR, pt; nothing for a text that is no locale."""
    found = _parsed(locale)
    if found is None:
        return ()
    names, parents = [], get_global("parent_exceptions")
    name: str | None = str(found)
    while name:
        names.append(name.replace("_", "-"))
        name = parents.get(name) or _shorter(name)
    return tuple(names)


def _shorter(name: str) -> str | None:
    """Drop the last part of a locale's name, unless what is left is written in another script."""
    shorter, _, last = name.rpartition("_")
    is_script = len(last) == 4 and last.isalpha()
    return None if is_script and last not in get_global("likely_subtags").get(shorter, last) else shorter


@lru_cache(1024)
def babel_locale(locale: str) -> Locale:
    """Return the locale by which dates and numbers are written: DEFAULT where Babel does not know it, nor its language."""
    return _parsed(locale) or Locale.parse(DEFAULT)


def _parsed(locale: str) -> Locale | None:
    parts = locale.replace("_", "-").split("-")
    while parts and parts[0]:
        try:
            return Locale.parse("_".join(parts), sep="_")
        except (UnknownLocaleError, ValueError):
            parts.pop()
    return None


def readers_of(profiles: Profiles) -> list[Reader]:
    """Return the reader of each profile."""
    columns = (profiles[name].tolist() for name in ("locale", "zone", "utc_offset_minutes"))
    return [_reader_of(*facts) for facts in zip(*columns, strict=True)]


@lru_cache(1024)
def _reader_of(locale: bytes, zone: bytes, offset: int) -> Reader:
    place = _place(zone.decode()) or (UTC if offset == NO_OFFSET else timezone(timedelta(minutes=offset)))
    return Reader(locale.decode(), place)


@lru_cache(1024)
def _place(zone: str) -> tzinfo | None:
    try:
        return ZoneInfo(zone) if zone else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _reader(context: Context) -> tuple[Locale, tzinfo]:
    reader: Reader = context["reader"]
    return babel_locale(reader.locale), reader.zone


@pass_context
def _number(context: Context, value: float) -> str:
    return format_decimal(value, locale=_reader(context)[0])


@pass_context
def _plural(context: Context, value: float) -> str:
    return str(_reader(context)[0].plural_form(value))


@pass_context
def _date(context: Context, at: float, form: str = "medium") -> str:
    locale, zone = _reader(context)
    return format_date(datetime.fromtimestamp(at, zone), form, locale=locale)


@pass_context
def _time(context: Context, at: float, form: str = "short") -> str:
    locale, zone = _reader(context)
    return format_time(datetime.fromtimestamp(at, zone), form, tzinfo=zone, locale=locale)


@pass_context
def _moment(context: Context, at: float, form: str = "medium") -> str:
    locale, zone = _reader(context)
    return format_datetime(datetime.fromtimestamp(at, zone), form, tzinfo=zone, locale=locale)


FILTERS: Mapping[str, Callable[..., Any]] = {"number": _number, "plural": _plural, "date": _date, "time": _time, "moment": _moment}
"""What templates may write by the reader's locale and clock: numbers; which plural a number takes (one, few, many, other); epoch
seconds as a date, a time of day or both, in Babel's short, medium, long and full forms or a pattern of its.
"""
