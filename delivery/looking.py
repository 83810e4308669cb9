"""A look at messages shortly before they are sent: what must not go is sorted out, what may is worded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jinja2 import TemplateError

from delivery.channels.base import Content, Delivery
from delivery.locales import Reader, readers_of
from delivery.newest import Newest
from delivery.outbox import Entry, Outcome, Retry
from delivery.parts import Parts
from delivery.preferences import KindRules, quiet_until
from delivery.screening import NO_ITEM, Bools, Drop, Facts, deadline, screen
from delivery.telling import Told, actors_of, items_of, told_of
from delivery.templates import Seen
from lake.actors import Actors
from lake.messages import Message
from lake.profiles import HAS_KIND_PREFERENCES, Profiles
from lake.switches import EVERYTHING

TEMPLATE_ERRORS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError)
"""What a template or an odd item can raise; such a message is kept as a dead letter and must not stop the others."""


@dataclass(frozen=True)
class Ready:
    """A message to send. `delivery.message` is the entry's. `until`: when it is too late to call the provider, epoch seconds.

    `kind`: of the item it tells of first.
    """

    entry: Entry
    delivery: Delivery
    until: float
    kind: str


@dataclass(frozen=True)
class Ended:
    """An outcome to record, and whether its unit of budget goes back."""

    outcome: Outcome
    refund: bool = False


def names_of(message: Message, kind: str) -> set[str]:
    """Return by which names a message could be switched off."""
    return {EVERYTHING, f"lane:{message.lane}", f"channel:{message.channel}", f"source:{message.source}", f"kind:{kind}"}


@dataclass(frozen=True)
class Look:
    """Looks at messages. `off_s`: how long what is switched off waits before it is looked at again. Blocks for the store."""

    parts: Parts
    newest: Newest
    off_s: float

    def at(self, entries: Sequence[Entry], now: float) -> tuple[list[Ready], list[Ended], list[Retry]]:
        """Return what to send, what has ended, and what waits because it is switched off or its user's quiet hours have begun."""
        facts, off = self._facts(entries, now), self.parts.off()
        actors = actors_of([entry.message for entry in entries], facts.told, self.parts.items)
        readers, seen = readers_of(facts.profiles), Seen()
        quiet = quiet_until(facts.profiles, [reader.zone for reader in readers], now)
        ready: list[Ready] = []
        ended: list[Ended] = []
        waiting: list[Retry] = []
        for place, (entry, drop) in enumerate(zip(entries, screen(entries, facts, self.parts.channels, now), strict=True)):
            told, message = facts.told[place], entry.message
            if off and drop is None and off & names_of(message, told.kind):
                waiting.append(Retry(entry, min(now + self.off_s, message.deliver_by)))
                continue
            quiet_ends = quiet[place]
            if drop is None and quiet_ends is not None and not message.critical:
                waiting.append(Retry(entry, min(quiet_ends, message.deliver_by)))
                continue
            content = self._render(message, told, actors[place], readers[place], seen) if drop is None else drop
            if isinstance(content, Content):
                delivery = Delivery(message, facts.addresses[place] or "", content, now, told.item_ids)
                ready.append(Ready(entry, delivery, deadline(entry, told), told.kind))
            else:
                ended.append(Ended(Outcome(entry, content.state, content.reason, dead=content.dead), content.refund))
        return ready, ended, waiting

    def _facts(self, entries: Sequence[Entry], now: float) -> Facts:
        parts = self.parts
        messages = [entry.message for entry in entries]
        users = [message.user_id for message in messages]
        profiles = parts.profiles.get(users)
        item_ids = items_of(messages)
        items = dict(zip(item_ids, parts.items.get(item_ids), strict=True))
        addresses = self._addresses(entries)
        known = {name: code for code, name in enumerate(parts.meta.channels)}
        return Facts(
            profiles=profiles,
            rules=self._rules(users, profiles),
            codes=np.array([known.get(message.channel, -1) for message in messages], np.int64),
            told=told_of(messages, items, now),
            addresses=addresses,
            address_suppressed=self._suppressed(entries, addresses),
            overtaken=np.array([self.newest.overtaken(message) for message in messages], np.bool_),
        )

    def _rules(self, users: Sequence[str], profiles: Profiles) -> KindRules:
        having = np.flatnonzero(profiles["flags"] & HAS_KIND_PREFERENCES)
        rows = self.parts.profiles.preferences([users[place] for place in having.tolist()]) if len(having) else []
        found = dict(zip(having.tolist(), rows, strict=True))
        return KindRules.of([found.get(place, []) for place in range(len(users))], self.parts.meta)

    def _addresses(self, entries: Sequence[Entry]) -> list[str | None]:
        """Return each message's address; on channels that can do without, the user's own id stands in."""
        use = {name: channel.traits.address for name, channel in self.parts.channels.items()}
        messages = [entry.message for entry in entries]
        asked = list(dict.fromkeys(message.user_id for message in messages if use.get(message.channel, "unused") != "unused"))
        known = dict(zip(asked, self.parts.profiles.addresses(asked), strict=True)) if asked else {}
        return [
            known.get(message.user_id, {}).get(message.channel) or (None if use.get(message.channel) == "required" else message.user_id)
            for message in messages
        ]

    def _suppressed(self, entries: Sequence[Entry], addresses: Sequence[str | None]) -> Bools:
        suppressed = np.zeros(len(entries), np.bool_)
        places = [
            place
            for place, (entry, address) in enumerate(zip(entries, addresses, strict=True))
            if address is not None and address != entry.message.user_id
        ]
        if places:
            names = [entries[place].message.channel for place in places]
            suppressed[places] = self.parts.suppression.addresses_suppressed(names, [str(addresses[place]) for place in places])
        return suppressed

    def _render(self, message: Message, told: Told, actors: Actors, reader: Reader, seen: Seen) -> Content | Drop:
        if told.item is None:
            return NO_ITEM
        needs = self.parts.channels[message.channel].traits
        try:
            return self.parts.templates.render(
                message,
                told.item,
                bodies=needs.needs_bodies,
                unsubscribe=needs.needs_unsubscribe,
                reader=reader,
                actors=actors,
                others=told.others,
                seen=seen,
            )
        except TEMPLATE_ERRORS as error:
            return Drop("failed", f"the template failed: {error}", dead=True)
