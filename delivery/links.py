"""Signed links in messages: open pixel, click redirect, one-click unsubscribe, preferences. Nobody without the secret can make one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from itsdangerous import BadData, Signer, URLSafeSerializer
from itsdangerous.encoding import base64_encode

Purpose = Literal["unsubscribe", "click", "open", "preferences"]
PATHS: dict[Purpose, str] = {"unsubscribe": "unsubscribe", "click": "r", "open": "o", "preferences": "preferences"}
"""The gateway's route of each kind of link: /unsubscribe/{token}, /r/{token}, /o/{token}, /preferences/{token}."""

DAY_S = 86_400
SHORT_BYTES = 100
"""A token's content below this is signed as it is: compressing it makes it no shorter."""


class BadLinkError(ValueError):
    """The link was not made by this deployment, or was changed on the way."""


class ExpiredLinkError(BadLinkError):
    """The link was ours, and its time is over."""


@dataclass(frozen=True)
class LinkToken:
    """What a signed link says: whose message it was in, and for a click the address to go to.

    `channel` and `grant_id` are empty where it was in none of our messages. `expires_at`: seconds, 0: never.
    """

    purpose: Purpose
    user_id: str
    channel: str
    grant_id: str
    url: str = ""
    item_id: str = ""
    expires_at: int = 0


@dataclass(frozen=True)
class LinkSettings:
    """`secrets`: signing secrets, oldest first; the last one signs, all verify. `base_url`: the gateway as users reach it.

    `preferences_days`: how long a link to somebody's preferences opens them.
    """

    secrets: tuple[str, ...] = field(repr=False)
    base_url: str
    preferences_days: int = 90

    def __post_init__(self) -> None:
        if not self.secrets or any(len(secret) < 16 for secret in self.secrets):
            raise ValueError("links need at least one signing secret of 16 or more characters")
        if not self.base_url.startswith(("https://", "http://")):
            raise ValueError(f"base_url must start with https:// or http://, not {self.base_url!r}")


class Links:
    """Makes and reads signed links.

    An unsubscribe link must work for as long as the message exists, so it does not expire; one to preferences lets whoever holds it
    see and change more, so it does.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self._base_url, self._preferences_s = settings.base_url.rstrip("/"), settings.preferences_days * DAY_S
        self._serializers = {purpose: _serializer(settings.secrets, purpose) for purpose in PATHS}

    def unsubscribe(self, user_id: str, channel: str, grant_id: str) -> str:
        """Return the link that ends messages to a user on a channel."""
        return self._url(LinkToken("unsubscribe", user_id, channel, grant_id))

    def click(self, user_id: str, channel: str, grant_id: str, url: str, item_id: str = "") -> str:
        """Return the link that counts a click and goes on to `url`; only what we signed is ever redirected to."""
        return self._url(LinkToken("click", user_id, channel, grant_id, url, item_id))

    def open(self, user_id: str, channel: str, grant_id: str, item_id: str = "") -> str:
        """Return the link of the pixel that counts an open."""
        return self._url(LinkToken("open", user_id, channel, grant_id, item_id=item_id))

    def preferences(self, user_id: str, now: float, channel: str = "", grant_id: str = "") -> str:
        """Return the link to a user's preferences, good for some time from `now`."""
        return self._url(LinkToken("preferences", user_id, channel, grant_id, expires_at=self.preferences_until(now)))

    def preferences_until(self, now: float) -> int:
        """Return when a link to preferences that is made at `now` expires; seconds."""
        return int(now) + self._preferences_s

    def read_preferences(self, token: str, now: float) -> LinkToken:
        """Return what the token of a link to preferences says; raises BadLinkError, where its time is over ExpiredLinkError."""
        link = self.read("preferences", token)
        if now >= link.expires_at:
            raise ExpiredLinkError("this link to your preferences has expired; open the one in a newer message")
        return link

    def read(self, purpose: Purpose, token: str) -> LinkToken:
        """Return what a link's token says; compares in constant time; raises BadLinkError."""
        try:
            fields = self._serializers[purpose].loads(token)
        except BadData as error:
            raise BadLinkError(f"this {purpose} link is not valid; it may have been cut off") from error
        return LinkToken(purpose, *fields)

    def _url(self, token: LinkToken) -> str:
        fields: list[str | int] = [token.user_id, token.channel, token.grant_id, token.url, token.item_id]
        if token.expires_at:
            fields.append(token.expires_at)
        return f"{self._base_url}/{PATHS[token.purpose]}/{self._serializers[token.purpose].dumps(fields)}"


class _Json:
    dumps = staticmethod(json.JSONEncoder(separators=(",", ":")).encode)
    loads = staticmethod(json.loads)


class _Signer(Signer):
    """The library's, which derives its keys anew for every token of every message."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._derived: dict[str | bytes | None, bytes] = {}

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        if secret_key not in self._derived:
            self._derived[secret_key] = super().derive_key(secret_key)
        return self._derived[secret_key]


class _Serializer(URLSafeSerializer):
    """The library's, which makes a signer and an encoder for every token and tries to compress what is too short for it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, serializer=_Json, **kwargs)
        self._signer = super().make_signer()

    def make_signer(self, salt: str | bytes | None = None) -> Signer:
        return self._signer if salt is None else super().make_signer(salt)

    def dump_payload(self, obj: Any) -> bytes:
        packed = _Json.dumps(obj).encode()
        return base64_encode(packed) if len(packed) < SHORT_BYTES else super().dump_payload(obj)


def _serializer(secrets: Sequence[str], purpose: Purpose) -> URLSafeSerializer:
    # The salt keeps a token of one purpose from passing for another.
    signing = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    return _Serializer(list(secrets), salt=f"tidings.{purpose}", signer=_Signer, signer_kwargs=signing)
