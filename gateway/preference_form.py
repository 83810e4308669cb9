"""What the preference page shows and reads: rows of preferences as choices a person can tick, and back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from delivery.preferences import PreferenceRow, digest_days, minute_of_day
from gateway.words import ENGLISH, Words
from lake.profiles import WEEKDAYS
from lake.table_columns import is_clock_time, is_quarter_hour

DIAL_NAMES: Mapping[int, str] = {-2: "Far fewer", -1: "Fewer", 0: "Usual", 1: "More", 2: "Far more"}
CHANNEL_NAMES: Mapping[str, str] = {
    "in_app": "App",
    "email": "E-mail",
    "push": "Push",
    "webhook": "Webhook",
    "sms": "Text message",
    "chat": "Chat",
}
DAY_FIELDS = ("quiet_from", "quiet_to", "dial", "digest_at", "digest_days")
"""The fields of a row that hold for every kind and channel."""

Place = tuple[str | None, str]
"""A kind, None for everything else, and a channel."""
Form = Mapping[str, Sequence[str]]
"""A submitted form: the values of each field."""


@dataclass(frozen=True)
class Offer:
    """What users may choose among. `kinds`: kinds of items and how people call them. `channels`: names, as of the store."""

    kinds: Mapping[str, str]
    channels: tuple[str, ...]

    def to(self, rows: Sequence[PreferenceRow]) -> Offer:
        """Return what is offered to a user, who may have chosen about other kinds before."""
        own = {row["kind"]: row["kind"] for row in rows if row.get("kind") is not None and row["kind"] not in self.kinds}
        return replace(self, kinds={**self.kinds, **own})

    def places(self) -> list[Place]:
        """Return every choice of a kind and a channel, everything else last."""
        return [(kind, channel) for kind in (*self.kinds, None) for channel in self.channels]

    def kind_name(self, kind: str | None, words: Words = ENGLISH) -> str:
        """Return how people call a kind."""
        if kind is None:
            return words("Everything else" if self.kinds else "Everything")
        return self.kinds[kind]


def channel_name(channel: str) -> str:
    """Return how people call a channel."""
    return CHANNEL_NAMES.get(channel, channel.replace("_", " ").capitalize())


@dataclass(frozen=True)
class Choices:
    """What a user chose: where each kind may reach them, how much (-2..2), and when, in local times; "" for none."""

    allowed: Mapping[Place, bool]
    dial: int = 0
    quiet_from: str = ""
    quiet_to: str = ""
    digest_at: str = ""
    digest_days: tuple[str, ...] = WEEKDAYS

    @staticmethod
    def of(rows: Sequence[PreferenceRow], offer: Offer) -> Choices:
        """Return the choices that rows of preferences come to: of rules the most specific counts, of equals the last."""
        day: dict[str, Any] = {}
        for row in rows:
            day |= {name: row[name] for name in DAY_FIELDS if row.get(name) is not None}
            if row.get("digest_at") is not None and row.get("digest_days") is None:
                day.pop("digest_days", None)
        days = digest_days(day["digest_days"]) if "digest_days" in day else WEEKDAYS
        return Choices(
            allowed={place: _allowed(rows, *place) for place in offer.places()},
            dial=int(day.get("dial", 0)),
            quiet_from=_clock(day.get("quiet_from")),
            quiet_to=_clock(day.get("quiet_to")),
            digest_at=_clock(day.get("digest_at")),
            digest_days=tuple(name for name in WEEKDAYS if name in days),
        )

    def rows(self, before: Sequence[PreferenceRow], offer: Offer) -> list[dict[str, Any]]:
        """Return the fewest rows that say the same, behind them those of `before` about channels that are not offered."""
        everything = [self.allowed[None, channel] for channel in offer.channels]
        default = any(everything)
        rows: list[dict[str, Any]] = [{"allowed": default} | self._day()]
        rows += [{"channel": channel, "allowed": False} for channel in offer.channels if default and not self.allowed[None, channel]]
        for kind in offer.kinds:
            rows += self._about(kind, offer)
        kept = [row for row in before if row.get("channel") is not None and row["channel"] not in offer.channels]
        return rows + [{name: value for name, value in row.items() if name not in DAY_FIELDS} for row in kept]

    def _about(self, kind: str, offer: Offer) -> Iterator[dict[str, Any]]:
        here = [self.allowed[kind, channel] for channel in offer.channels]
        differs = [self.allowed[kind, channel] != self.allowed[None, channel] for channel in offer.channels]
        if any(differs) and len(set(here)) == 1:
            yield {"kind": kind, "allowed": here[0]}
            return
        for channel, allowed, differ in zip(offer.channels, here, differs, strict=True):
            if differ:
                yield {"kind": kind, "channel": channel, "allowed": allowed}

    def _day(self) -> dict[str, Any]:
        day: dict[str, Any] = {"dial": self.dial} if self.dial else {}
        if self.quiet_from:
            day |= {"quiet_from": self.quiet_from, "quiet_to": self.quiet_to}
        if self.digest_at:
            day["digest_at"] = self.digest_at
            if self.digest_days != WEEKDAYS:
                day["digest_days"] = list(self.digest_days)
        return day

    def told(self, offer: Offer, words: Words = ENGLISH) -> list[tuple[str, str]]:
        """Return what was chosen, in words: pairs of what and how."""
        where = [(offer.kind_name(kind, words), self._where(kind, offer, words)) for kind in (*offer.kinds, None)]
        quiet = words("{begin} to {end}", begin=self.quiet_from, end=self.quiet_to) if self.quiet_from else words("None")
        when = (words("When"), self._when(words))
        return [*where, (words("How much"), words(DIAL_NAMES[self.dial])), when, (words("Quiet hours"), quiet)]

    def _where(self, kind: str | None, offer: Offer, words: Words) -> str:
        names = [words(channel_name(channel)) for channel in offer.channels if self.allowed[kind, channel]]
        return ", ".join(names) or words("Off")

    def _when(self, words: Words) -> str:
        if not self.digest_at:
            return words("When I am likely to look")
        names = words.days()
        every = self.digest_days == WEEKDAYS
        days = words("every day") if every else ", ".join(names[WEEKDAYS.index(day)][0] for day in self.digest_days)
        when = words("At {time}, {days}", time=self.digest_at, days=days)
        if not self._is_quiet(self.digest_at):
            return when
        return words("{when}; inside your quiet hours, so it waits until {end}", when=when, end=self.quiet_to)

    def _is_quiet(self, at: str) -> bool:
        if not self.quiet_from:
            return False
        begins, ends, minute = (minute_of_day(each) for each in (self.quiet_from, self.quiet_to, at))
        return begins <= minute < ends if begins <= ends else minute >= begins or minute < ends


def submitted(form: Form, now: Choices) -> tuple[Choices, list[str]]:
    """Return the choices of a form and what is wrong with them, in words; what the form does not hold stays as it is `now`.

    Fields: `shown` lists the places that the form had boxes for, `allow` those that are ticked, as `channel/kind`; `dial`, `quiet_from`,
    `quiet_to`, `digest_at`, `digest_days`.
    """
    shown, ticked = set(form.get("shown", ())), set(form.get("allow", ()))
    allowed = {place: name_of(place) in ticked if name_of(place) in shown else before for place, before in now.allowed.items()}
    given = {name: form[name][-1].strip() for name in ("dial", "quiet_from", "quiet_to", "digest_at") if form.get(name)}
    wanted = replace(
        now,
        allowed=allowed,
        quiet_from=given.get("quiet_from", now.quiet_from),
        quiet_to=given.get("quiet_to", now.quiet_to),
        digest_at=given.get("digest_at", now.digest_at),
    )
    if "dial" in given and given["dial"] in map(str, DIAL_NAMES):
        wanted = replace(wanted, dial=int(given["dial"]))
    if "digest_at" in given:
        wanted = replace(wanted, digest_days=tuple(day for day in WEEKDAYS if day in form.get("digest_days", ())))
    return wanted, list(_problems(wanted, given))


def name_of(place: Place) -> str:
    """Return how the form names a place; names of channels have no slash."""
    kind, channel = place
    return f"{channel}/{kind or ''}"


def _problems(wanted: Choices, given: Mapping[str, str]) -> Iterator[str]:
    if given.get("dial", "0") not in map(str, DIAL_NAMES):
        yield "How much: choose one of the five."
    quiet = (wanted.quiet_from, wanted.quiet_to)
    if not all(is_clock_time(each) for each in quiet if each):
        yield "Quiet hours: give times such as 22:00."
    elif bool(quiet[0]) != bool(quiet[1]):
        yield "Quiet hours: give both a beginning and an end, or clear both."
    elif quiet[0] and quiet[0] == quiet[1]:
        yield "Quiet hours: they begin and end at the same time; make these differ, or clear both."
    if wanted.digest_at and not is_quarter_hour(wanted.digest_at):
        yield "When: choose a time from the list."
    elif wanted.digest_at and not wanted.digest_days:
        yield "When: choose at least one day, or “When I am likely to look”."


def _allowed(rows: Sequence[PreferenceRow], kind: str | None, channel: str) -> bool:
    """Return what the most specific rule says, as delivery.preferences.allowed does."""
    for wanted in ((kind, channel), (kind, None), (None, channel), (None, None)):
        found = [row.get("allowed", True) for row in rows if (row.get("kind"), row.get("channel")) == wanted]
        if found:
            return bool(found[-1])
    return True


def _clock(value: Any) -> str:
    """Return a time of day as HH:MM, "" for none."""
    if value is None:
        return ""
    minute = minute_of_day(value)
    return f"{minute // 60:02}:{minute % 60:02}"
