"""What must not be sent after all: a last look at every message, for the world may have changed since it was granted. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from delivery.channels.base import Channel
from delivery.outbox import Entry, State
from delivery.preferences import KindRules, allowed
from delivery.telling import Told
from lake.ids import Keys64, hash64
from lake.profiles import KNOWN, Profiles

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a message is not sent. `refund`: its unit of budget goes back. `dead`: it is kept as a dead letter."""

    state: State
    reason: str
    refund: bool = False
    dead: bool = False


LEFT_OPEN = Drop("unknown", "an earlier attempt ended without an answer")
NO_CHANNEL = Drop("failed", "no such channel is configured", dead=True)
SUPERSEDED = Drop("cancelled", "a newer version is on its way")
EXPIRED = Drop("expired", "its time to be delivered has passed", refund=True)
UNKNOWN_USER = Drop("cancelled", "the user is gone", refund=True)
SUPPRESSED = Drop("suppressed", "unsubscribed", refund=True)
BAD_ADDRESS = Drop("suppressed", "the address is suppressed", refund=True)
NOT_ALLOWED = Drop("suppressed", "the user's preferences", refund=True)
NO_ITEM = Drop("cancelled", "the item is gone", refund=True)
NO_ADDRESS = Drop("failed", "the user has no address on this channel", refund=True)


@dataclass(frozen=True)
class Facts:
    """What is known about a batch, one row per entry.

    `profiles`: (n,). `preferences`: each user's rows as made into rules. `codes`: channel codes, int (n,), -1: unknown.
    `told`: what each tells of by now. `addresses`: None: none. `address_suppressed`, `overtaken` by a newer version: bool (n,).
    """

    profiles: Profiles
    rules: KindRules
    codes: npt.NDArray[np.int64]
    told: Sequence[Told]
    addresses: Sequence[str | None]
    address_suppressed: Bools
    overtaken: Bools


def screen(entries: Sequence[Entry], facts: Facts, channels: Mapping[str, Channel], now: float) -> list[Drop | None]:
    """Return why each message is dropped, None where it may go; the first rule that applies names the reason."""
    messages = [entry.message for entry in entries]
    codes = np.maximum(facts.codes, 0)
    critical = _column([message.critical for message in messages])
    preferred = allowed(facts.profiles, facts.rules, np.arange(len(entries)), _kinds(facts.told), codes)
    rules = (
        (_column([message.channel not in channels for message in messages]) | (facts.codes < 0), NO_CHANNEL),
        (_left_open(entries, channels), LEFT_OPEN),
        (facts.overtaken, SUPERSEDED),
        (_deadlines(entries, facts.told) <= now, EXPIRED),
        (facts.profiles["flags"] & KNOWN == 0, UNKNOWN_USER),
        (facts.profiles["suppressed"] >> codes.astype(np.uint32) & np.uint32(1) != 0, SUPPRESSED),
        (facts.address_suppressed, BAD_ADDRESS),
        (~preferred & ~critical, NOT_ALLOWED),
        (_column([told.item is None for told in facts.told]), NO_ITEM),
        (_column([address is None for address in facts.addresses]), NO_ADDRESS),
    )
    first = np.argmax(np.stack([*(applies for applies, _ in rules), np.ones(len(entries), np.bool_)]), axis=0)
    drops = [*(drop for _, drop in rules), None]
    return [drops[rule] for rule in first.tolist()]


def _column(values: Sequence[bool]) -> Bools:
    return np.array(values, np.bool_)


def _kinds(told: Sequence[Told]) -> Keys64:
    names = [each.kind for each in told]
    return np.where(_column([name != "" for name in names]), hash64(names), np.uint64(0))


def _left_open(entries: Sequence[Entry], channels: Mapping[str, Channel]) -> Bools:
    safe = {name for name, channel in channels.items() if channel.traits.idempotent}
    return _column([entry.open and entry.message.channel not in safe for entry in entries])


def _deadlines(entries: Sequence[Entry], told: Sequence[Told]) -> npt.NDArray[np.float64]:
    return np.array([deadline(entry, each) for entry, each in zip(entries, told, strict=True)])


def deadline(entry: Entry, told: Told) -> float:
    """Return until when a message may go to its provider, epoch seconds."""
    return min(entry.message.deliver_by, told.ends_at)
