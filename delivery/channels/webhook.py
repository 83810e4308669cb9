"""Signed webhooks (standardwebhooks.com): no redirects, no private addresses, and answers taken for what they mean."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import httpcore
import httpx
import orjson
from pydantic import Field, SecretStr
from standardwebhooks import Webhook as Signer

from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Settings, Traits, Transient, Unknown
from delivery.channels.guard import ForbiddenAddressError, GuardedBackend
from delivery.channels.push import retry_after_s

GONE = 410
TRY_LATER = frozenset({408, 425, 429})
NOTHING_SENT = (httpcore.ConnectError, httpcore.ConnectTimeout, httpcore.PoolTimeout)


class WebhookSettings(Settings):
    """Settings of the webhook channel. `secret`: the signing secret (whsec_…). `allow_private`: for tests and development."""

    kind: Literal["webhook"] = "webhook"
    name: str = "webhook"
    secret: SecretStr
    allow_private: bool = False
    timeout_s: float = Field(default=10.0, gt=0)
    concurrency: int = Field(default=32, ge=1)

    def open(self, resources: Resources) -> Webhook:
        """Return the channel."""
        del resources
        return Webhook(self)


class Webhook:
    """Posts messages to the users' endpoints. The `webhook-id` is the grant's, so a receiver can drop a copy."""

    def __init__(self, settings: WebhookSettings, backend: GuardedBackend | None = None) -> None:
        self._settings = settings
        self._signer = Signer(settings.secret.get_secret_value())
        self._backend = backend or GuardedBackend(allow_private=settings.allow_private)
        self._pool = self._new_pool()

    @property
    def name(self) -> str:
        """See Channel."""
        return self._settings.name

    @property
    def traits(self) -> Traits:
        """See Channel."""
        return Traits(needs_bodies=False, concurrency=self._settings.concurrency)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """See Channel."""
        return list(await asyncio.gather(*(self._post(delivery) for delivery in deliveries)))

    async def close(self) -> None:
        """See Channel."""
        await self._pool.aclose()
        self._pool = self._new_pool()

    def _new_pool(self) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            max_connections=4 * self._settings.concurrency, keepalive_expiry=30.0, network_backend=self._backend
        )

    async def _post(self, delivery: Delivery) -> Answer:
        url = self._endpoint(delivery.address)
        if isinstance(url, Permanent):
            return url
        try:
            # The limits of single reads do not stop a server that drips its answer; this one does.
            async with asyncio.timeout(2 * self._settings.timeout_s):
                return await self._exchange(url, delivery)
        except ForbiddenAddressError as error:
            return Permanent(str(error))
        except NOTHING_SENT as error:
            return Transient(f"no connection to {url.host}: {error}")
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, TimeoutError) as error:
            return Unknown(f"{url.host} did not answer: {type(error).__name__}")

    async def _exchange(self, url: httpx.URL, delivery: Delivery) -> Answer:
        body = _body(delivery)
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._settings.timeout_s)
        headers = [(b"host", url.netloc), *self._headers(delivery, body)]
        # The body of the answer is not read: only its status and headers count, and it may be of any size.
        async with self._pool.stream("POST", target, headers=headers, content=body, extensions={"timeout": limits}) as response:
            return _answer(response.status, {name.lower(): value for name, value in response.headers}, delivery)

    def _endpoint(self, address: str) -> httpx.URL | Permanent:
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL as error:
            return Permanent(f"not a URL: {error}", bad_address=True)
        if url.scheme != "https" and not (self._settings.allow_private and url.scheme == "http"):
            return Permanent("a webhook's URL must start with https://", bad_address=True)
        if not url.host or url.userinfo:
            return Permanent("a webhook's URL needs a host and no user name or password", bad_address=True)
        if url.port is not None and not 0 < url.port < 65536:
            return Permanent(f"there is no port {url.port}", bad_address=True)
        return url

    def _headers(self, delivery: Delivery, body: bytes) -> list[tuple[bytes, bytes]]:
        at = datetime.fromtimestamp(delivery.at, UTC)
        signature = self._signer.sign(delivery.message.grant_id, at, body.decode())
        return [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"user-agent", b"Tidings"),
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


def _answer(status: int, headers: dict[bytes, bytes], delivery: Delivery) -> Answer:
    if 200 <= status < 300:
        return Accepted()
    if status >= 500 or status in TRY_LATER:
        return Transient(f"HTTP {status}", retry_after_s(headers.get(b"retry-after", b"").decode("ascii", "replace"), delivery.at))
    return Permanent(f"HTTP {status}", bad_address=status == GONE)
