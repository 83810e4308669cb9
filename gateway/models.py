"""Bodies and answers of the HTTP interface; the JSON schemas at /docs come from here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    StrictBool,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.limits import MAX_EVENTS, MAX_REHEARSED, MAX_USERS
from gateway.slips import meant
from lake.decisions import DISPOSITIONS
from lake.history import OWN_COLUMNS
from lake.items import ItemRow
from lake.profiles import WEEKDAYS
from lake.table_columns import SHOWN_CHARS, is_clock_time, is_quarter_hour, is_time_zone
from lake.tables import FURTHEST_OFFSET_MINUTES, LONGEST_HALF_LIFE_S, MAX_ADDRESS_CHARS, MAX_ID_CHARS, MAX_NAME_CHARS

LAST_MOMENT = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""Within the second after it, seconds as floats round up to a year that there is not."""

NO_CONTROLS = r"^[^\x00-\x1F\x7F-\x9F\u2028\u2029]+$"
"""No NUL, no line breaks: what is put into a header, a log line or a key must stay within it."""

NO_NUL = r"^[^\x00]*$"
HTTP_URL = r"^https?://[^\s\x00-\x20\x7F]+$"
PATTERN_ADVICE = {
    NO_CONTROLS: "has a control character; remove it",
    NO_NUL: "has a NUL character; remove it",
    HTTP_URL: "is not an http or https URL",
}
"""What to say instead of showing a person a regular expression."""

FIRST_YEAR = 1678
"""The first whole year that a table of times in nanoseconds can hold; one row before it would stop the filing of all others."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_CHARS, pattern=NO_CONTROLS)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_CHARS, pattern=NO_CONTROLS)]
Line = Annotated[str, StringConstraints(max_length=2_000, pattern=NO_CONTROLS)]
Text = Annotated[str, StringConstraints(max_length=200_000, pattern=NO_NUL)]
Url = Annotated[str, StringConstraints(max_length=2_048, pattern=HTTP_URL)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ADDRESS_CHARS, pattern=NO_CONTROLS)]


def _number(value: Any) -> Any:
    """Refuse what would be taken for a number, and is none: the schema says so, and who sends true for 1 has mixed something up."""
    if isinstance(value, bool | str):
        raise ValueError("is not a number")
    return value


def _zone(value: str) -> str:
    if not is_time_zone(value):
        raise ValueError("is not an IANA time zone such as Europe/Berlin")
    return value


def _moment(value: datetime) -> datetime:
    try:
        year = value.astimezone(UTC).year
    except OverflowError:
        year = 0
    if year < FIRST_YEAR:
        raise ValueError(f"is not a moment from {FIRST_YEAR} through 9999 (UTC)")
    return min(value, LAST_MOMENT)


def _clock_time(value: str) -> str:
    if not is_clock_time(value):
        raise ValueError("is not a time of day such as 22:30")
    return value


def _quarter_hour(value: str) -> str:
    if not is_quarter_hour(value):
        raise ValueError("is not a quarter of an hour such as 18:30")
    return value


def _split(value: Any) -> Any:
    """Return the days of a row that came with imported tables, where they are one text."""
    return value.split("|") if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """Return a further column's value: what the store can keep and a table can hold."""
    parts = value if isinstance(value, list) else [value]
    if not all(part is None or isinstance(part, str | int | float) for part in parts):
        raise ValueError("is not a text, a number, a truth value or a list of these")
    if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
        raise ValueError("is not a finite number")
    if any(isinstance(part, int) and not -(2**63) <= part < 2**63 for part in parts):
        raise ValueError("is a whole number of more than 64 bits; write it as text")
    if not all(_is_unicode(part) for part in parts if isinstance(part, str)):
        raise ValueError("is not valid Unicode: it has half of a surrogate pair")
    return value


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[FiniteFloat, BeforeValidator(_number)]
Offset = Annotated[Whole, Field(ge=-FURTHEST_OFFSET_MINUTES, le=FURTHEST_OFFSET_MINUTES)]
Latitude = Annotated[Number, Field(ge=-90, le=90)]
Longitude = Annotated[Number, Field(ge=-180, le=180)]
Moment = Annotated[
    AwareDatetime,
    AfterValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time", "description": "With its offset, such as 2026-01-01T09:00:00Z."},
                {"type": "number", "description": "Seconds since 1970 (UTC); beyond 2e10 milliseconds."},
            ]
        }
    ),
]
Zone = Annotated[str, AfterValidator(_zone)]
ClockTime = Annotated[str, AfterValidator(_clock_time)]
QuarterHour = Annotated[str, AfterValidator(_quarter_hour)]
Weekday = Literal[WEEKDAYS]  # type: ignore[valid-type]  # the names live in one place


SLIP = "slip"
"""The type of the error about a name; its context has the `field`."""


class Open(BaseModel):
    """A row of an interchange table: further columns are kept, but for those that are a slip of one that is not given."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_plain)]] = Field(init=False)

    @model_validator(mode="after")
    def _columns_have_names(self) -> Open:
        for name in self.__pydantic_extra__:
            if not (0 < len(name) <= MAX_ID_CHARS and re.match(NO_CONTROLS, name)):
                raise ValueError(
                    f"{name[:SHOWN_CHARS]!r} is no name of a column: give 1 to {MAX_ID_CHARS} characters, none of them a control"
                )
            column = meant(name, tuple(type(self).model_fields))
            if column is not None and column not in self.model_fields_set:
                raise PydanticCustomError(SLIP, "there is no such column; is {column} meant?", {"column": column, "field": name})
        return self

    def row(self) -> dict[str, Any]:
        """Return the columns that were given as plain values, times in epoch seconds."""
        given = self.model_dump(exclude_none=True)
        return {name: value.timestamp() if hasattr(value, "timestamp") else value for name, value in given.items()}


class Closed(BaseModel):
    """A body whose members are all known: a misspelt one is an error rather than ignored."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Placed(Open):
    """A row that may say where on earth."""

    latitude: Latitude | None = None
    longitude: Longitude | None = None

    @model_validator(mode="after")
    def _a_place_is_a_pair(self) -> Placed:
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("latitude and longitude go together; give both or neither")
        return self


class ItemColumns(Placed):
    """An items row without its id."""

    created_at: Moment | None = Field(None, description="When it came to be; by default the time of the request.")
    author_id: Id | None = None
    topics: Annotated[list[Name], Field(max_length=64)] | None = None
    title: Line | None = None
    text: Text | None = None
    url: Url | None = None
    kind: Name | None = None
    entity_id: Id | None = Field(None, description="Updates of one thing share the entity.")
    version: Annotated[Whole, Field(ge=0, lt=2**32)] | None = None
    expires_at: Moment | None = None
    half_life_s: Annotated[Number, Field(gt=0, le=LONGEST_HALF_LIFE_S)] | None = None


class Item(ItemColumns):
    """An items row."""

    item_id: Id


class UrgentBody(Closed):
    """Something to tell now: `item` or `item_id`, to `users` or to the followers of `topic`."""

    item: Item | None = None
    item_id: Id | None = None
    users: Annotated[list[Id], Field(min_length=1, max_length=MAX_USERS, fail_fast=True)] | None = Field(None, examples=[["u1", "u2"]])
    topic: Name | None = None
    channels: Annotated[list[Name], Field(min_length=1, max_length=16)] = Field(default=["in_app"])
    critical: StrictBool = Field(False, description="Skips ranking, threshold, budget and quiet hours; needs the scope urgent:critical.")

    dry_run: StrictBool = Field(
        False,
        description="Decide, log it as dry, and do nothing else. A known item is taken as it is known, a new one as it is given.",
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> UrgentBody:
        if (self.item is None) == (self.item_id is None):
            raise ValueError("give either item or item_id")
        if (self.users is None) == (self.topic is None):
            raise ValueError("give either users or topic")
        return self


class UrgentRow(BaseModel):
    """What was decided for one user on one channel."""

    user_id: str
    channel: str
    disposition: Literal[DISPOSITIONS]  # type: ignore[valid-type]  # the names live in one place
    score: float | None = Field(description="The value the row was ranked by; null where it was dropped before scoring.")
    threshold: float | None
    reason: str
    dry_run: Literal[True] | None = Field(None, description="Given, and true, where nothing was done.")


class UrgentAnswer(BaseModel):
    """The decision. Every `send` is on disk when this is answered."""

    decision_id: str
    results: list[UrgentRow] | None = None
    dry_run: Literal[True] | None = Field(None, description="Given, and true, where nothing was done.")
    fallback: Literal["popularity"] | None = Field(None, description="Given where no model serves, and popularity stood in for it.")
    status: Literal["accepted"] | None = Field(None, description="A topic of over 10,000 followers: read the rows at /v1/decisions.")


class WindowBody(Closed):
    """Whose next window to rehearse."""

    users: Annotated[list[Id], Field(min_length=1, max_length=MAX_REHEARSED)] = Field(examples=[["u1", "u2"]])


class WindowRow(UrgentRow):
    """What would be decided on one candidate."""

    item_id: str
    source: str
    probability: float | None
    allowance: int


class WindowAnswer(BaseModel):
    """What would be decided if the users' windows opened now."""

    decision_id: str
    dry_run: Literal[True]
    results: list[WindowRow]


class Event(Open):
    """Something a user did."""

    user_id: Id
    kind: Name
    item_id: Id | None = None
    at: Moment | None = Field(None, description="By default the time of the request.")
    channel: Name | None = None
    utc_offset_minutes: Offset | None = None
    event_id: Id | None = Field(None, description="A retry with the same id counts once.")
    send_id: Id | None = None

    @model_validator(mode="after")
    def _names_of_our_own_are_not_taken(self) -> Event:
        for name in OWN_COLUMNS:
            if name in (self.__pydantic_extra__ or {}):
                raise ValueError(f"{name} is a column of our own; give yours another name")
        return self


def _one_or_many(value: Any) -> str:
    return "many" if isinstance(value, list) else "one"


Events = Annotated[
    Annotated[Event, Tag("one")] | Annotated[list[Event], Field(min_length=1, max_length=MAX_EVENTS, fail_fast=True), Tag("many")],
    Discriminator(_one_or_many),
]


class EventsAnswer(BaseModel):
    """How many events were taken; the rest had been taken before."""

    accepted: int
    duplicates: int


class User(Placed):
    """A users row without its id."""

    timezone: Zone | None = Field(None, examples=["Europe/Berlin"])
    utc_offset_minutes: Offset | None = None
    locale: Name | None = Field(None, examples=["en-GB"])
    created_at: Moment | None = None


class Preference(Closed):
    """A preferences row without its user: whether a kind may come over a channel, both by default any."""

    kind: Name | None = None
    channel: Name | None = None
    allowed: StrictBool = True
    quiet_from: ClockTime | None = Field(None, examples=["22:00"])
    quiet_to: ClockTime | None = Field(None, examples=["07:00"])
    dial: Annotated[Whole, Field(ge=-2, le=2)] | None = Field(None, description="From -2 (fewer) to 2 (more).")
    digest_at: QuarterHour | None = Field(
        None, examples=["18:30"], description="A local time of the user's own; it goes before the times at which they are likely to look."
    )
    digest_days: Annotated[list[Weekday], Field(min_length=1, max_length=len(WEEKDAYS)), BeforeValidator(_split)] | None = Field(
        None, examples=[["mon", "wed", "fri"]], description="The days of digest_at, by default every day."
    )

    @model_validator(mode="after")
    def _quiet_hours_are_a_pair(self) -> Preference:
        if (self.quiet_from is None) != (self.quiet_to is None):
            raise ValueError("quiet_from and quiet_to go together; give both or neither")
        return self

    @model_validator(mode="after")
    def _days_need_a_time(self) -> Preference:
        if self.digest_days is not None and self.digest_at is None:
            raise ValueError("digest_days needs digest_at; give both or leave it out")
        return self


Preferences = Annotated[list[Preference], Field(max_length=1_000)]


class PreferencesLink(BaseModel):
    """A link to somebody's own page of preferences."""

    url: str
    expires_at: AwareDatetime


class Followed(Closed):
    """Everything a user follows."""

    topics: Annotated[list[Name], Field(max_length=5_000)] = Field(default=[])
    authors: Annotated[list[Id], Field(max_length=5_000)] = Field(default=[])


class Follows(BaseModel):
    """Everything that a user follows, which may be more than one request can put: tables have no such limit."""

    topics: list[str]
    authors: list[str]


Addresses = Annotated[dict[Name, Address], Field(max_length=16)]


def item_row(item_id: str, columns: Mapping[str, Any], now: float) -> ItemRow:
    """Return an item as the item store keeps it; an item without a time came to be now."""
    return {"created_at": now, **columns, "item_id": item_id}


class ReadEntries(Closed):
    """Which inbox entries were read; null: all of them."""

    entry_ids: Annotated[list[Id], Field(max_length=1_000)] | None = None


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    problem: str


class Problem(BaseModel):
    """An error (RFC 9457), served as application/problem+json."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldProblem] | None = None
