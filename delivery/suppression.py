"""Whom we must not write to: users who unsubscribed from a channel, and addresses that bounced or complained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lake.meta import Meta
from lake.profiles import ProfileStore
from lake.redaction import ADDRESS, redact

REASONS = ("unsubscribed", "bounced", "complained")
"""The reasons that are words of our own; any other may be a provider's text."""


@dataclass(frozen=True)
class Suppressed:
    """Why something is suppressed. `reason`: unsubscribed, bounced, complained, …; `source`: who said so; `at`: seconds."""

    reason: str
    source: str
    at: float

    def as_row(self) -> dict[str, str | float]:
        """Return the plain values."""
        return asdict(self)


class SuppressionStore(Protocol):
    """Where suppressions are recorded. One round trip per call."""

    def put_user(self, user_id: str, channels: Sequence[str], record: Suppressed) -> None:
        """Record that a user is suppressed on channels; an earlier record of a channel stays."""
        ...

    def remove_user(self, user_id: str, channels: Sequence[str]) -> None:
        """Forget a user's suppression on channels."""
        ...

    def of_users(self, user_ids: Sequence[str]) -> list[dict[str, Suppressed]]:
        """Return each user's suppressions by channel."""
        ...

    def forget_name(self, user_id: str) -> int:
        """Keep a user's suppressions under a hash of their id, with their reason and time only; return how many there are.

        They are found again should the user come back; nobody can tell from them whose they are.
        """
        ...

    def put_address(self, digest: str, record: Suppressed) -> None:
        """Record that an address is suppressed."""
        ...

    def remove_address(self, digest: str) -> None:
        """Forget that an address is suppressed."""
        ...

    def of_addresses(self, digests: Sequence[str]) -> list[Suppressed | None]:
        """Return the record of each address, None where it may be written to."""
        ...


@dataclass(frozen=True)
class Suppression:
    """The suppression list: its records, and the `suppressed` bits of profiles that eligibility and dispatch read."""

    store: SuppressionStore
    profiles: ProfileStore
    meta: Meta

    def unsubscribe(self, user_id: str, channel: str | None, source: str, now: float, reason: str = "unsubscribed") -> None:
        """Stop a channel, or all (None), for a user; what is queued is stopped at dispatch. ValueError: unknown channel."""
        channels = self._channels(channel)
        # The bits come last: whoever sees them set finds the reason recorded.
        self.store.put_user(user_id, channels, Suppressed(reason, source, now))
        self.profiles.add_bits([user_id], "suppressed", [self._mask(channels)], on=True)

    def resubscribe(self, user_id: str, channel: str | None) -> None:
        """Lift a user's suppression on a channel, or on all (None)."""
        channels = self._channels(channel)
        self.profiles.add_bits([user_id], "suppressed", [self._mask(channels)], on=False)
        self.store.remove_user(user_id, channels)

    def records(self, user_id: str) -> dict[str, Suppressed]:
        """Return why a user is suppressed, by channel."""
        return self.store.of_users([user_id])[0]

    def masks(self, user_ids: Sequence[str]) -> npt.NDArray[np.uint32]:
        """Return the `suppressed` bits that follow from the records, shape (n,); whoever rewrites a profile must keep them."""
        return np.array([self._mask(list(records)) for records in self.store.of_users(user_ids)], np.uint32)

    def suppress_address(self, channel: str, address: str, reason: str, source: str, now: float) -> None:
        """Never write to an address again; only its hash is kept, and of what the provider said of it no address."""
        said = redact(reason.replace(address, ADDRESS))
        self.store.put_address(address_digest(channel, address), Suppressed(said, source, now))

    def allow_address(self, channel: str, address: str) -> None:
        """Lift the suppression of an address."""
        self.store.remove_address(address_digest(channel, address))

    def addresses_suppressed(self, channels: Sequence[str], addresses: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return whether each address of a channel is suppressed, shape (n,)."""
        digests = [address_digest(channel, address) for channel, address in zip(channels, addresses, strict=True)]
        return np.array([record is not None for record in self.store.of_addresses(digests)], np.bool_)

    def _channels(self, channel: str | None) -> list[str]:
        channels = list(self.meta.channels) if channel is None else [channel]
        self.meta.channel_codes(channels)
        return channels

    def _mask(self, channels: Sequence[str]) -> int:
        return sum(1 << code for code in self.meta.channel_codes([name for name in channels if name in self.meta.channels]))


def address_digest(channel: str, address: str) -> str:
    """Return the hash an address is suppressed under, the same for any case and surrounding space."""
    return hashlib.sha256(f"{channel}\x1f{address.strip().casefold()}".encode()).hexdigest()


def user_digest(user_id: str) -> str:
    """Return the hash that the suppressions of a user who was erased are kept under."""
    return hashlib.sha256(f"user\x1f{user_id}".encode()).hexdigest()


def nameless(record: Suppressed) -> Suppressed:
    """Return a record without what could say whose it is."""
    return Suppressed(record.reason if record.reason in REASONS else "suppressed", "erased", record.at)


@dataclass
class MemorySuppressionStore:
    """Suppressions in dictionaries, for tests and replay."""

    _users: dict[str, dict[str, Suppressed]] = field(default_factory=dict)
    _nameless: dict[str, dict[str, Suppressed]] = field(default_factory=dict)
    _addresses: dict[str, Suppressed] = field(default_factory=dict)

    def put_user(self, user_id: str, channels: Sequence[str], record: Suppressed) -> None:
        """See SuppressionStore."""
        for channel in channels:
            self._users.setdefault(user_id, {}).setdefault(channel, record)

    def remove_user(self, user_id: str, channels: Sequence[str]) -> None:
        """See SuppressionStore."""
        for channel in channels:
            self._users.get(user_id, {}).pop(channel, None)
            self._nameless.get(user_digest(user_id), {}).pop(channel, None)

    def of_users(self, user_ids: Sequence[str]) -> list[dict[str, Suppressed]]:
        """See SuppressionStore."""
        return [self._nameless.get(user_digest(user_id), {}) | self._users.get(user_id, {}) for user_id in user_ids]

    def forget_name(self, user_id: str) -> int:
        """See SuppressionStore."""
        kept = self._nameless.setdefault(user_digest(user_id), {})
        for channel, record in self._users.pop(user_id, {}).items():
            kept.setdefault(channel, nameless(record))
        return len(kept)

    def put_address(self, digest: str, record: Suppressed) -> None:
        """See SuppressionStore."""
        self._addresses.setdefault(digest, record)

    def remove_address(self, digest: str) -> None:
        """See SuppressionStore."""
        self._addresses.pop(digest, None)

    def of_addresses(self, digests: Sequence[str]) -> list[Suppressed | None]:
        """See SuppressionStore."""
        return [self._addresses.get(digest) for digest in digests]
