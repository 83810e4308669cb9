"""API keys: who may call what. A key is shown once; what is kept is the SHA-256 of its 256 random bits, so no slow hash is needed."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lake.errors import InputError

PREFIX = "tk"
SCOPES = {
    "urgent": "post urgent items",
    "urgent:critical": "post critical ones, which skip ranking, threshold, budget and quiet hours",
    "events": "report events, and put and delete items",
    "users": "put, read and erase users, their preferences, follows, addresses and inboxes",
    "read": "look: decisions and the console",
    "operate": "look, and replay and drop dead letters in the console",
}
LOGIN = "login"
"""A scope only `tidings up` gives: the key opens the console once and is gone."""


@dataclass(frozen=True)
class ApiKey:
    """A key as kept. `digest`: SHA-256 of the secret, in hex. Times are epoch seconds; `expires_at` None: never.

    `critical_quota`: critical rows it may cause per UTC day, None: the deployment's. `rate`: how often it may call, such as
    100/minute, "": as often as the deployment lets its scopes.
    """

    id: str
    digest: str
    scopes: tuple[str, ...]
    name: str
    created_at: float
    expires_at: float | None = None
    critical_quota: int | None = None
    rate: str = ""

    def opens(self, secret: str, now: float) -> bool:
        """Return whether this is the key's secret and the key still holds."""
        alive = self.expires_at is None or now < self.expires_at
        return hmac.compare_digest(self.digest, digest_of(secret)) and alive

    def may(self, scopes: Sequence[str]) -> bool:
        """Return whether the key has any of `scopes`."""
        return any(scope in self.scopes for scope in scopes)


class ApiKeyStore(Protocol):
    """Where keys live. One round trip per call."""

    def put(self, key: ApiKey) -> None:
        """Insert or replace a key."""
        ...

    def get(self, key_id: str) -> ApiKey | None:
        """Return a key, None where it is not (or no longer) known."""
        ...

    def all(self) -> list[ApiKey]:
        """Return every key, oldest first."""
        ...

    def revoke(self, key_id: str) -> bool:
        """Forget a key; returns whether this call did it. Of several callers at once exactly one gets True."""
        ...


def digest_of(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new_key(scopes: Sequence[str], now: float, *, name: str = "", lifetime_s: float | None = None) -> tuple[ApiKey, str]:
    """Return a new key and the token that is shown once, `tk_<id>_<secret>`."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    expires_at = None if lifetime_s is None else now + lifetime_s
    key = ApiKey(key_id, digest_of(secret), tuple(dict.fromkeys(scopes)), name, now, expires_at)
    return key, f"{PREFIX}_{key_id}_{secret}"


def split_token(token: str) -> tuple[str, str] | None:
    """Return the id and the secret of a token, None where it cannot be one."""
    prefix, _, rest = token.partition("_")
    key_id, _, secret = rest.partition("_")
    return (key_id, secret) if prefix == PREFIX and key_id and secret and len(token) <= 128 else None


def check_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes; raises InputError naming an unknown one and those there are."""
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        named = f"unknown scope {unknown[0]!r}" if unknown else "a key needs a scope"
        raise InputError(f"{named}; there are {', '.join(SCOPES)}")
    return tuple(scopes)


@dataclass
class MemoryApiKeys:
    """Keys in a dictionary, for tests."""

    keys: dict[str, ApiKey] = field(default_factory=dict)

    def put(self, key: ApiKey) -> None:
        """See ApiKeyStore."""
        self.keys[key.id] = key

    def get(self, key_id: str) -> ApiKey | None:
        """See ApiKeyStore."""
        return self.keys.get(key_id)

    def all(self) -> list[ApiKey]:
        """See ApiKeyStore."""
        return sorted(self.keys.values(), key=lambda key: key.created_at)

    def revoke(self, key_id: str) -> bool:
        """See ApiKeyStore."""
        return self.keys.pop(key_id, None) is not None


LOGIN_S = 600.0


def login_token(keys: ApiKeyStore, now: float) -> str:
    """Return a token that opens the console once, at /console?token=..., within ten minutes."""
    key, token = new_key((LOGIN,), now, name="console link", lifetime_s=LOGIN_S)
    keys.put(key)
    return token
