"""Signed webhooks (standardwebhooks.com): no redirects, no private addresses, and answers taken for what they mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import httpx
import orjson
from pydantic import SecretStr
from standardwebhooks import Webhook as Signer

from delivery.channels.base import Answer, Delivery, Resources
from delivery.channels.one_by_one import OneByOne, OneByOneSettings
from delivery.channels.poster import Poster, Response, endpoint

GONE = frozenset({410})


class WebhookSettings(OneByOneSettings):
    """Settings of the webhook channel. `secret`: the signing secret (whsec_…). `allow_private`: for tests and development."""

    kind: Literal["webhook"] = "webhook"
    name: str = "webhook"
    secret: SecretStr
    allow_private: bool = False

    def check_address(self, address: str) -> None:
        """See Settings."""
        endpoint(address, allow_http=self.allow_private)

    def open(self, resources: Resources) -> Webhook:
        """Return the channel."""
        del resources
        return Webhook(self)


class Webhook(OneByOne[httpx.URL]):
    """Posts messages to the users' endpoints. The `webhook-id` is the grant's, so a receiver can drop a copy."""

    def __init__(self, settings: WebhookSettings) -> None:
        super().__init__(settings, needs_unsubscribe=True)
        self._settings = settings
        self._signer = Signer(settings.secret.get_secret_value())
        self._poster = Poster(settings.timeout_s, settings.concurrency, allow_private=settings.allow_private)

    async def close(self) -> None:
        """See Channel."""
        await self._poster.close()

    def _parse(self, address: str) -> httpx.URL:
        return endpoint(address, allow_http=self._settings.allow_private)

    async def _deliver(self, delivery: Delivery, address: httpx.URL) -> Answer:
        body = _body(delivery)
        response = await self._poster.post(address, self._headers(delivery, body), body)
        return response.answer(delivery.at, gone=GONE) if isinstance(response, Response) else response

    def _headers(self, delivery: Delivery, body: bytes) -> list[tuple[bytes, bytes]]:
        at = datetime.fromtimestamp(delivery.at, UTC)
        signature = self._signer.sign(delivery.message.grant_id, at, body.decode())
        return [
            (b"content-type", b"application/json"),
            (b"webhook-id", delivery.message.grant_id.encode()),
            (b"webhook-timestamp", b"%d" % int(delivery.at)),
            (b"webhook-signature", signature.encode()),
        ]


def _body(delivery: Delivery) -> bytes:
    message, content = delivery.message, delivery.content
    return orjson.dumps(
        {
            "type": "notification.updated" if message.update else "notification.sent",
            "timestamp": datetime.fromtimestamp(delivery.at, UTC).isoformat(),
            "data": {
                "send_id": message.grant_id,
                "user_id": message.user_id,
                "item_id": message.item_id,
                "entity": message.entity,
                "version": message.version,
                "decision_id": message.decision_id,
                "title": content.title,
                "text": content.text,
                "url": content.url,
                "why": content.why,
                "unsubscribe_url": content.unsubscribe_url,
            },
        }
    )
