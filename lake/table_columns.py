"""The kinds of column of the interchange tables: each reads an Arrow column as it came and returns it checked and typed."""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from lake.profiles import WEEKDAYS

INSTANT = pa.timestamp("us", tz="UTC")
CONTROLS = r"[\p{Cc}\x{2028}\x{2029}]"
"""What never belongs in a name: NUL, line breaks and every other control character."""
SHOWN_CHARS = 60

_ISO_INSTANT = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}(:?\d{2})?)$"
_ISO_NAIVE = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$"
_ZONE_ADVICE = "write times in UTC or with their offset, such as 2016-03-14T13:54:36Z"


class BadValueError(Exception):
    """A value that breaks its column's rules: the 0-based row (None: the whole column) and what is wrong with it."""

    def __init__(self, row: int | None, problem: str) -> None:
        super().__init__(row, problem)
        self.row, self.problem = row, problem


class Kind(Protocol):
    """What a column holds. `read` blocks on nothing and raises BadValueError for the first value that breaks the rules."""

    @property
    def arrow(self) -> pa.DataType:
        """The type of the column that `read` returns."""
        ...

    def read(self, column: pa.Array) -> pa.Array:
        """Return the column checked and converted, nulls kept; an empty text is a null."""
        ...


@dataclass(frozen=True)
class Text:
    """Text of at most `max_chars` characters without those that match `forbidden`; `one_line` folds white space to single spaces."""

    max_chars: int
    forbidden: str = CONTROLS
    one_line: bool = False

    @property
    def arrow(self) -> pa.DataType:
        """UTF-8 text."""
        return pa.large_string()

    def read(self, column: pa.Array) -> pa.Array:
        """Return the column as text; whole numbers become text, other types are refused."""
        text = as_text(column)
        if self.one_line:
            text = _folded(text)
        if _has_no_control(text) and (pc.max(pc.binary_length(text)).as_py() or 0) <= self.max_chars:
            return text
        distinct = pc.unique(text)
        _refuse(text, distinct, pc.match_substring_regex(distinct, self.forbidden), "has a control character; remove it")
        _refuse(text, distinct, pc.greater(pc.utf8_length(distinct), self.max_chars), f"is longer than {self.max_chars:,} characters")
        return text


@dataclass(frozen=True)
class OneOf:
    """Text that must satisfy `accepts`; `advice` completes "... is not"."""

    accepts: Callable[[str], bool]
    advice: str

    @property
    def arrow(self) -> pa.DataType:
        """UTF-8 text."""
        return pa.large_string()

    def read(self, column: pa.Array) -> pa.Array:
        """Return the column as text, each distinct value judged once."""
        text = as_text(column)
        distinct = pc.unique(text)
        bad = pa.array([value is not None and not self.accepts(value) for value in distinct.to_pylist()], pa.bool_())
        _refuse(text, distinct, bad, f"is not {self.advice}")
        return text


@dataclass(frozen=True)
class Number:
    """A number from `low` (not included if `above_low`) to `high`; `whole` ones have no fraction, `integer` ones no gaps either."""

    low: float
    high: float
    whole: bool = False
    above_low: bool = False
    integer: bool = False

    @property
    def arrow(self) -> pa.DataType:
        """Float64, where NaN and null are one; int64 where no value may be missing."""
        return pa.int64() if self.integer else pa.float64()

    def read(self, column: pa.Array) -> pa.Array:
        """Return the column as numbers; text that reads as a number is one."""
        column = plain(column)
        if not (pa.types.is_null(column.type) or _is_number(column.type) or _is_text(column.type)):
            raise BadValueError(None, f"holds {column.type}, not {self._wanted}")
        if _is_text(column.type):
            column = _trimmed(column)
        number = _cast(column, pa.float64(), f"is not {self._wanted}")
        number = pc.if_else(pc.is_nan(number), None, number)
        below = pc.less_equal(number, self.low) if self.above_low else pc.less(number, self.low)
        bad = pc.or_(below, pc.greater(number, self.high))
        if self.whole:
            bad = pc.or_(bad, pc.not_equal(number, pc.floor(number)))
        _refuse_rows(column, bad, f"is not {self._wanted}")
        return number.cast(self.arrow)

    @property
    def _wanted(self) -> str:
        between = f"above {self.low:g} and at most {self.high:g}" if self.above_low else f"from {self.low:g} to {self.high:g}"
        return f"a {'whole ' if self.whole else ''}number {between}"


@dataclass(frozen=True)
class Flag:
    """True or false; 1, 0, yes and no are understood."""

    @property
    def arrow(self) -> pa.DataType:
        """Boolean."""
        return pa.bool_()

    def read(self, column: pa.Array) -> pa.Array:
        """Return the column as booleans."""
        column = plain(column)
        if pa.types.is_boolean(column.type) or pa.types.is_null(column.type):
            return column.cast(pa.bool_())
        if not (pa.types.is_integer(column.type) or _is_text(column.type)):
            raise BadValueError(None, f"holds {column.type}, not true or false")
        text = pc.utf8_lower(_trimmed(column.cast(pa.large_string())))
        known = pc.is_in(text, pa.array([*_YES, *_NO], pa.large_string()))
        _refuse_rows(column, pc.and_(pc.is_valid(text), pc.invert(known)), "is neither true nor false")
        return pc.if_else(pc.is_valid(text), pc.is_in(text, pa.array(_YES, pa.large_string())), None)


_YES, _NO = ("true", "1", "yes", "t", "y"), ("false", "0", "no", "f", "n")


@dataclass(frozen=True)
class Instant:
    """A moment, given with its zone; naive times are refused, since nobody knows which zone they meant."""

    @property
    def arrow(self) -> pa.DataType:
        """Microseconds since 1970-01-01 UTC."""
        return INSTANT

    def read(self, column: pa.Array) -> pa.Array:
        """Return the column in UTC, in microseconds (finer digits are cut)."""
        column = plain(column)
        if pa.types.is_null(column.type):
            return column.cast(INSTANT)
        if _is_text(column.type):
            return self._of_text(_trimmed(column))
        if not pa.types.is_timestamp(column.type):
            raise BadValueError(None, f"holds {column.type}, not times; {_ZONE_ADVICE}")
        if column.type.tz is None:
            raise BadValueError(_first_valid(column), f"{shown(column, _first_valid(column))} has no time zone; {_ZONE_ADVICE}")
        return _cast(column, INSTANT, "is out of range")

    def _of_text(self, text: pa.Array) -> pa.Array:
        with suppress(pa.ArrowInvalid):  # many times faster than the patterns below, which tell what is wrong
            return text.cast(INSTANT)
        _refuse_rows(text, pc.match_substring_regex(text, _ISO_NAIVE), f"has no time zone; {_ZONE_ADVICE}")
        _refuse_rows(text, pc.invert(pc.match_substring_regex(text, _ISO_INSTANT)), f"is not a time; {_ZONE_ADVICE}")
        text = pc.replace_substring_regex(text, pattern=r"(\.\d{6})\d+", replacement=r"\1")
        text = pc.replace_substring_regex(text, pattern="z$", replacement="Z")
        return _cast(text, INSTANT, f"is not a time; {_ZONE_ADVICE}")


@dataclass(frozen=True)
class Topics:
    """A list of names; as text, a JSON list or names separated by `|`."""

    max_chars: int

    @property
    def arrow(self) -> pa.DataType:
        """A list of UTF-8 texts."""
        return pa.large_list(pa.large_string())

    def read(self, column: pa.Array) -> pa.Array:
        """Return a list per row, without empty names; a missing list is an empty one."""
        column = plain(column)
        if pa.types.is_null(column.type):
            column = column.cast(self.arrow)
        elif _is_text(column.type):
            column = _topics_of_text(_trimmed(column))
        elif not _is_list(column.type):
            raise BadValueError(None, f'holds {column.type}, not lists; write ["one", "two"] or one|two')
        lists = column.cast(pa.large_list(column.type.value_type))
        parents = pc.list_parent_indices(lists)
        try:
            names = Text(self.max_chars).read(pc.list_flatten(lists))
        except BadValueError as bad:
            raise BadValueError(None if bad.row is None else parents[bad.row].as_py(), f"topic {bad.problem}") from None
        return _lists(names, parents, len(lists))


def as_text(column: pa.Array) -> pa.Array:
    """Return a column as UTF-8 text: whole numbers are written out, empty text is null; raises BadValueError for other types."""
    column = plain(column)
    kind = column.type
    if pa.types.is_floating(kind):
        raise BadValueError(None, "holds numbers with a decimal point (whole numbers with gaps turn into these); write the column as text")
    if not any(is_kind(kind) for is_kind in _TEXTUAL):
        raise BadValueError(None, f"holds {kind}, not text")
    text = _cast(column, pa.large_string(), "is not UTF-8 text")
    check_encoding(text)
    return pc.if_else(pc.equal(pc.binary_length(text), 0), None, text)


def check_encoding(column: pa.Array) -> None:
    """Raise BadValueError for the first text of a column that is not UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        row = first_failure(column, lambda part: part.validate(full=True))
        raise BadValueError(row, "is not UTF-8 text; save the file as UTF-8") from None


def plain(column: pa.Array) -> pa.Array:
    """Return a column without dictionary encoding, its chunks in one; numbers that are all NaN are nulls, as pandas writes those."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_floating(column.type) and pc.all(pc.is_null(column, nan_is_null=True), min_count=0).as_py():
        column = pa.nulls(len(column))
    return column


def shown(column: pa.Array, row: int) -> str:
    """Return a value as an error message shows it: quoted, escaped and shortened."""
    value = column[row].as_py()
    text = repr(value) if isinstance(value, str | bytes) else repr(str(value))
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 1]}…"


def first_failure(column: pa.Array, convert: Callable[[pa.Array], object]) -> int:
    """Return the first row that makes `convert` of the whole column fail, by bisection."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low))
            low = middle
        except pa.ArrowInvalid:
            high = middle
    return low


def is_time_zone(name: str) -> bool:
    """Return whether a name is in the IANA time zone database."""
    return name in _time_zones()


def is_quarter_hour(text: str) -> bool:
    """Return whether text is a time of day at which a window can open, such as 18:30."""
    return is_clock_time(text) and int(text[3:]) % 15 == 0


def is_weekdays(text: str) -> bool:
    """Return whether text is weekdays separated by `|`."""
    return all(day in WEEKDAYS for day in text.split("|"))


def is_clock_time(text: str) -> bool:
    """Return whether text is a time of day, HH:MM."""
    hours, colon, minutes = text.partition(":")
    digits = len(text) == 5 and hours.isdecimal() and minutes.isdecimal() and text.isascii()
    return digits and colon == ":" and int(hours) < 24 and int(minutes) < 60


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def _cast(column: pa.Array, to: pa.DataType, problem: str) -> pa.Array:
    def convert(part: pa.Array) -> pa.Array:
        # Times may lose digits below a microsecond; nothing else may change its value.
        return pc.cast(part, options=pc.CastOptions(to, allow_time_truncate=True))

    try:
        return convert(column)
    except pa.ArrowInvalid:
        row = first_failure(column, convert)
        raise BadValueError(row, f"{shown(column, row)} {problem}") from None


def _refuse(column: pa.Array, distinct: pa.Array, bad: pa.Array, problem: str) -> None:
    """Raise for the first row that holds one of the bad distinct values: rules run once per value, not once per row."""
    culprits = distinct.filter(bad)
    if len(culprits):
        _refuse_rows(column, pc.and_(pc.is_valid(column), pc.is_in(column, culprits)), problem)


def _refuse_rows(column: pa.Array, bad: pa.Array, problem: str) -> None:
    row = pc.index(bad, True).as_py()
    if row >= 0:
        raise BadValueError(row, f"{shown(column, row)} {problem}")


def _first_valid(column: pa.Array) -> int:
    return max(0, int(pc.index(pc.is_valid(column), True).as_py()))


def _has_no_control(text: pa.Array) -> bool:
    """Return whether the bytes alone show that no value holds a control character; false where it takes a closer look.

    C0 controls are single bytes, C1 controls begin with 0xC2, the separators U+2028 and U+2029 with 0xE2.
    """
    data = text.buffers()[2]
    octets = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return not ((octets < 0x20) | (octets == 0x7F) | (octets == 0xC2) | (octets == 0xE2)).any()


def _trimmed(text: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(pc.binary_length(text), 0), None, text)


def _folded(text: pa.Array) -> pa.Array:
    return _trimmed(pc.replace_substring_regex(text, pattern=r"[\s\x{85}\x{2028}\x{2029}]+", replacement=" "))


def _lists(names: pa.Array, parents: pa.Array, rows: int) -> pa.Array:
    kept = pc.is_valid(names)
    names, parents = names.filter(kept), parents.filter(kept)
    starts = pa.array(parents.to_numpy(zero_copy_only=False).searchsorted(range(rows + 1)), pa.int64())
    return pa.LargeListArray.from_arrays(starts, names)


def _topics_of_text(text: pa.Array) -> pa.Array:
    distinct = text.dictionary_encode()
    lists: list[list[str]] = []
    for value in distinct.dictionary.to_pylist():
        topics = _topics(value)
        if topics is None:
            row = pc.index(text, value).as_py()
            raise BadValueError(row, f'{shown(text, row)} is not a list of topics; write ["one", "two"] or one|two')
        lists.append(topics)
    return pa.array(lists, pa.large_list(pa.large_string())).take(distinct.indices)


def _topics(text: str) -> list[str] | None:
    if not text.startswith("["):
        return [topic.strip() for topic in text.split("|")]
    try:
        topics = orjson.loads(text)
    except ValueError:
        return None
    return topics if all(isinstance(topic, str) for topic in topics) else None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


_TEXTUAL = (_is_text, pa.types.is_integer, pa.types.is_null, pa.types.is_binary, pa.types.is_large_binary)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list_view(kind))
