"""Push to Apple devices (APNs): HTTP/2, token authentication, and every reason taken for what it means."""

from __future__ import annotations

import math
import re
import uuid
from typing import Literal

import httpx
import jwt
import orjson
from pydantic import Field, SecretStr, field_validator

from delivery.channels import push
from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Transient, Unknown
from delivery.channels.one_by_one import OneByOneSettings, OneByOneText

RENEW_AFTER_S = 2400.0
"""Apple refuses tokens older than an hour and new ones more often than every 20 minutes."""
DEVICE_TOKEN = re.compile(r"[0-9a-fA-F]{64,200}")
DEAD_TOKEN = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic", "ExpiredToken", "Unregistered"})
MISCONFIGURED = frozenset({"BadTopic", "MissingTopic", "TopicDisallowed", "TooManyProviderTokenUpdates"})
GRANTS = uuid.UUID("1d0f3c1e-6f0e-4a53-9d6c-2b8f5f9a7a10")
"""The name space of the apns-id made from a grant's id."""


class ApnsSettings(OneByOneSettings):
    """Settings of the APNs channel. `private_key`: the text of the .p8 file; `topic`: the app's bundle id."""

    kind: Literal["apns"] = "apns"
    name: str = "push"
    team_id: str
    key_id: str
    private_key: SecretStr
    topic: str = Field(pattern=r"^[A-Za-z0-9.-]+$")
    endpoint: str = "https://api.push.apple.com"

    @field_validator("private_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        push.check_p256_key(key.get_secret_value())
        return key

    def check_address(self, address: str) -> None:
        """See Settings."""
        # The token becomes part of the path: nothing but hexadecimal digits may.
        if not DEVICE_TOKEN.fullmatch(address):
            raise ValueError("not a device token: 64 or more hexadecimal digits")

    def open(self, resources: Resources) -> Apns:
        """Return the channel."""
        del resources
        return Apns(self)


class Apns(OneByOneText):
    """Sends to device tokens over one HTTP/2 connection. Updates of one thing share its collapse id."""

    def __init__(self, settings: ApnsSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._client = self._new_client()
        self._token, self._token_at = "", -math.inf

    async def close(self) -> None:
        """See Channel."""
        await self._client.aclose()
        self._client = self._new_client()

    def _new_client(self) -> httpx.AsyncClient:
        # Apple speaks nothing but HTTP/2.
        return httpx.AsyncClient(http1=False, http2=True, timeout=self._settings.timeout_s, trust_env=False)

    async def _deliver(self, delivery: Delivery, address: str) -> Answer:
        url = f"{self._settings.endpoint}/3/device/{address}"
        response = await push.post(self._client, url, self._headers(delivery), _payload(delivery))
        if isinstance(response, Transient | Unknown):
            return response
        return self._answer(response, delivery.at)

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        message = delivery.message
        headers = {
            "authorization": f"bearer {self._provider_token(delivery.at)}",
            "apns-topic": self._settings.topic,
            "apns-push-type": "alert",
            "apns-priority": "10",
            "apns-id": str(uuid.uuid5(GRANTS, message.grant_id)),
            "apns-collapse-id": message.entity,
        }
        if math.isfinite(message.deliver_by):
            headers["apns-expiration"] = str(int(message.deliver_by))
        return headers

    def _provider_token(self, now: float) -> str:
        if not 0 <= now - self._token_at < RENEW_AFTER_S:
            key = self._settings.private_key.get_secret_value()
            claims = {"iss": self._settings.team_id, "iat": int(now)}
            self._token = jwt.encode(claims, key, "ES256", headers={"kid": self._settings.key_id})
            self._token_at = now
        return self._token

    def _answer(self, response: httpx.Response, now: float) -> Answer:
        status = response.status_code
        if status == httpx.codes.OK:
            return Accepted(response.headers.get("apns-id", ""))
        why = str(push.json_of(response).get("reason", ""))
        reason = f"HTTP {status} {why}".strip()
        if why in DEAD_TOKEN:
            return Permanent(reason, bad_address=True)
        if why == "ExpiredProviderToken":
            self._token_at = -math.inf
        wait_s = push.retry_after_s(response.headers.get("retry-after", ""), now)
        # What the deployment got wrong hits every message alike, as an outage does: none of them may be lost for it.
        down = status in (httpx.codes.FORBIDDEN, httpx.codes.SERVICE_UNAVAILABLE) or why in MISCONFIGURED
        if down or status >= 500 or status == httpx.codes.TOO_MANY_REQUESTS:
            return Transient(reason, wait_s, down=down)
        return Permanent(reason)


def _payload(delivery: Delivery) -> bytes:
    message, content = delivery.message, delivery.content
    alert = {"title": push.clipped(content.title, push.MOST_TITLE_BYTES), "body": push.clipped(content.text, push.MOST_TEXT_BYTES)}
    aps = {"alert": alert, "thread-id": message.entity}
    return orjson.dumps({"aps": aps, "send_id": message.grant_id, "item_id": message.item_id, "url": content.url})
