"""Signed links in messages: open pixel, click redirect and one-click unsubscribe. Nobody without the secret can make one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from itsdangerous import BadData, URLSafeSerializer

Purpose = Literal["unsubscribe", "click", "open"]
PATHS: dict[Purpose, str] = {"unsubscribe": "unsubscribe", "click": "r", "open": "o"}
"""The gateway's route of each kind of link: /unsubscribe/{token}, /r/{token}, /o/{token}."""


class BadLinkError(ValueError):
    """The link was not made by this deployment, or was changed on the way."""


@dataclass(frozen=True)
class LinkToken:
    """What a signed link says: whose message it was in, and for a click the address to go to."""

    purpose: Purpose
    user_id: str
    channel: str
    grant_id: str
    url: str = ""
    item_id: str = ""


@dataclass(frozen=True)
class LinkSettings:
    """`secrets`: signing secrets, oldest first; the last one signs, all verify. `base_url`: the gateway as users reach it."""

    secrets: tuple[str, ...] = field(repr=False)
    base_url: str

    def __post_init__(self) -> None:
        if not self.secrets or any(len(secret) < 16 for secret in self.secrets):
            raise ValueError("links need at least one signing secret of 16 or more characters")
        if not self.base_url.startswith(("https://", "http://")):
            raise ValueError(f"base_url must start with https:// or http://, not {self.base_url!r}")


class Links:
    """Makes and reads signed links. They do not expire: an unsubscribe link must work for as long as the message exists."""

    def __init__(self, settings: LinkSettings) -> None:
        self._base_url = settings.base_url.rstrip("/")
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

    def read(self, purpose: Purpose, token: str) -> LinkToken:
        """Return what a link's token says; compares in constant time; raises BadLinkError."""
        try:
            fields = self._serializers[purpose].loads(token)
        except BadData as error:
            raise BadLinkError(f"this {purpose} link is not valid; it may have been cut off") from error
        return LinkToken(purpose, *fields)

    def _url(self, token: LinkToken) -> str:
        fields = [token.user_id, token.channel, token.grant_id, token.url, token.item_id]
        return f"{self._base_url}/{PATHS[token.purpose]}/{self._serializers[token.purpose].dumps(fields)}"


def _serializer(secrets: Sequence[str], purpose: Purpose) -> URLSafeSerializer:
    # The salt keeps a token of one purpose from passing for another.
    signing = {"digest_method": hashlib.sha256, "key_derivation": "hmac"}
    return URLSafeSerializer(list(secrets), salt=f"tidings.{purpose}", signer_kwargs=signing)
