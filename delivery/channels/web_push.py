"""Push to browsers (RFC 8030): encrypted for the one browser (RFC 8291), signed by this server (VAPID, RFC 8292)."""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Literal

import http_ece
import httpx
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from delivery.channels import push
from delivery.channels.base import Answer, Delivery, Permanent, Resources
from delivery.channels.one_by_one import OneByOne, OneByOneSettings
from delivery.channels.poster import Poster, Response, endpoint

GONE = frozenset({404, 410})
"""The subscription has ended (RFC 8030 section 7.3)."""
REFUSED = frozenset({401, 403})
"""The signature is the deployment's fault, or the subscription was made under an earlier key: nothing may be lost for it."""
MOST_PLAIN_BYTES = 3993
"""What fits the 4,096 bytes every push service takes (RFC 8291 section 4)."""
LONGEST_TTL_S = 2_419_200
"""Four weeks: push services take no more."""
TOKEN_LIVES_S = 12 * 3600.0
"""RFC 8292 allows a day; hosts' clocks differ."""
MOST_TOKENS = 1000
AUTH_BYTES = 16


class WebPushSettings(OneByOneSettings):
    """Settings of the web push channel. `private_key`: PEM, on P-256. `subject`: mailto: or https:, whom a push service may ask."""

    kind: Literal["web_push"] = "web_push"
    name: str = "push"
    private_key: SecretStr
    subject: str = Field(pattern=r"^(mailto:.+@.+|https://.+)$")
    allow_private: bool = False

    @field_validator("private_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        push.check_p256_key(key.get_secret_value())
        return key

    @property
    def application_server_key(self) -> str:
        """The public key, as `pushManager.subscribe` takes it in a browser."""
        key = load_pem_private_key(self.private_key.get_secret_value().encode(), password=None)
        assert isinstance(key, EllipticCurvePrivateKey)
        return _base64(key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))

    def check_address(self, address: str) -> None:
        """See Settings."""
        Subscription.parse(address, allow_http=self.allow_private)

    def open(self, resources: Resources) -> WebPush:
        """Return the channel."""
        del resources
        return WebPush(self)


class _Keys(BaseModel):
    p256dh: str
    auth: str


class _Given(BaseModel):
    endpoint: str
    keys: _Keys


@dataclass(frozen=True)
class Subscription:
    """Where one browser is reached, and what its messages are encrypted for."""

    url: httpx.URL
    key: EllipticCurvePublicKey
    auth: bytes

    @staticmethod
    def parse(text: str, *, allow_http: bool = False) -> Subscription:
        """Return what `JSON.stringify(subscription)` gave in a browser; raises ValueError where it is no subscription."""
        try:
            given = _Given.model_validate_json(text)
        except ValidationError as error:
            raise ValueError('not a push subscription: {"endpoint": URL, "keys": {"p256dh": KEY, "auth": SECRET}} as JSON text') from error
        try:
            key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), _bytes(given.keys.p256dh))
            auth = _bytes(given.keys.auth)
        except ValueError as error:
            raise ValueError("keys.p256dh must be a point on P-256 and keys.auth 16 bytes, both in base64url") from error
        if len(auth) != AUTH_BYTES:
            raise ValueError(f"keys.auth must be 16 bytes in base64url, not {len(auth)}")
        return Subscription(endpoint(given.endpoint, allow_http=allow_http), key, auth)

    @property
    def origin(self) -> str:
        """Whom a token is for: scheme, host and port."""
        return f"{self.url.scheme}://{self.url.netloc.decode('ascii')}"

    def encrypt(self, plain: bytes) -> bytes:
        """Return a text that this browser alone can read (RFC 8291), as one record with its header."""
        private_key = generate_private_key(SECP256R1())
        point = self.key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        packed = http_ece.encrypt(plain, salt=os.urandom(16), private_key=private_key, dh=point, auth_secret=self.auth, version="aes128gcm")
        return bytes(packed)


class WebPush(OneByOne[Subscription]):
    """Sends to subscriptions. Updates of one thing share its topic, so that a browser that was away gets the latest only."""

    def __init__(self, settings: WebPushSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._public = settings.application_server_key
        self._poster = Poster(settings.timeout_s, settings.concurrency, allow_private=settings.allow_private)
        self._tokens: dict[str, tuple[float, str]] = {}

    async def close(self) -> None:
        """See Channel."""
        await self._poster.close()

    def _parse(self, address: str) -> Subscription:
        return Subscription.parse(address, allow_http=self._settings.allow_private)

    async def _deliver(self, delivery: Delivery, address: Subscription) -> Answer:
        plain = _payload(delivery)
        if len(plain) > MOST_PLAIN_BYTES:
            return Permanent(f"{len(plain):,} bytes: a push takes {MOST_PLAIN_BYTES:,}; its URL may be too long")
        response = await self._poster.post(address.url, self._headers(address, delivery), address.encrypt(plain))
        return response.answer(delivery.at, gone=GONE, later=REFUSED, reference="location") if isinstance(response, Response) else response

    def _headers(self, browser: Subscription, delivery: Delivery) -> list[tuple[bytes, bytes]]:
        message = delivery.message
        left_s = min(max(message.deliver_by - delivery.at, 0.0), LONGEST_TTL_S)
        return [
            (b"content-type", b"application/octet-stream"),
            (b"content-encoding", b"aes128gcm"),
            (b"ttl", b"%d" % left_s),
            (b"topic", message.entity.encode()),
            (b"urgency", b"high" if message.lane == "urgent" else b"normal"),
            (b"authorization", f"vapid t={self._token(browser.origin, delivery.at)}, k={self._public}".encode()),
        ]

    def _token(self, origin: str, now: float) -> str:
        until, token = self._tokens.get(origin, (0.0, ""))
        # Half its life is left at least: a push service checks it when it delivers.
        if not now + TOKEN_LIVES_S / 2 <= until <= now + TOKEN_LIVES_S:
            claims = {"aud": origin, "exp": int(now + TOKEN_LIVES_S), "sub": self._settings.subject}
            token = jwt.encode(claims, self._settings.private_key.get_secret_value(), "ES256")
            # Origins are the users' to choose: how many are remembered is not.
            if len(self._tokens) >= MOST_TOKENS:
                self._tokens.clear()
            self._tokens[origin] = (now + TOKEN_LIVES_S, token)
        return token


def _payload(delivery: Delivery) -> bytes:
    message, content = delivery.message, delivery.content
    return orjson.dumps(
        {
            "title": push.clipped(content.title, push.MOST_TITLE_BYTES),
            "body": push.clipped(content.text, push.MOST_TEXT_BYTES),
            "url": content.url,
            "tag": message.entity,
            "send_id": message.grant_id,
            "item_id": message.item_id,
        }
    )


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Return what base64url stands for, padded or not, also where a browser wrote plain base64."""
    url_safe = text.rstrip("=").translate(str.maketrans("+/", "-_"))
    return urlsafe_b64decode(url_safe + "=" * (-len(url_safe) % 4))
