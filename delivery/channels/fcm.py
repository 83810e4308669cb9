"""Push through Firebase Cloud Messaging, HTTP v1: tokens by service account, and every error taken for what it means."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlencode

import httpx
import jwt
import orjson
from pydantic import Field, SecretStr, field_validator

from delivery.channels import push
from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Transient, Unknown
from delivery.channels.one_by_one import OneByOneSettings, OneByOneText

SIGN_IN = "https://oauth2.googleapis.com/token"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_LIVES_S = 3600
RENEW_BEFORE_S = 60.0
QUOTA_WAIT_S = 60.0
"""What the provider asks for where it says 429 without a Retry-After (firebase.google.com, "Scale FCM")."""
LONGEST_TTL_S = 2_419_200
"""Four weeks, the most FCM keeps a message for."""
REGISTRATION_TOKEN = re.compile(r"[A-Za-z0-9_:-]{20,4096}")
DEAD_TOKEN = frozenset({"UNREGISTERED", "SENDER_ID_MISMATCH"})


class FcmSettings(OneByOneSettings):
    """Settings of the FCM channel: `project_id`, `client_email` and `private_key` are those of the service account's JSON file."""

    kind: Literal["fcm"] = "fcm"
    name: str = "push"
    project_id: str = Field(pattern=r"^[a-z0-9-]{4,40}$")
    client_email: str
    private_key: SecretStr
    token_uri: str = SIGN_IN
    endpoint: str = "https://fcm.googleapis.com"

    @field_validator("private_key")
    @classmethod
    def _is_a_key(cls, key: SecretStr) -> SecretStr:
        push.check_rsa_key(key.get_secret_value())
        return key

    def check_address(self, address: str) -> None:
        """See Settings."""
        if not REGISTRATION_TOKEN.fullmatch(address):
            raise ValueError("not a registration token: letters, digits, '-', '_' and ':'")

    def open(self, resources: Resources) -> Fcm:
        """Return the channel."""
        del resources
        return Fcm(self)


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    until: float


class Fcm(OneByOneText):
    """Sends to registration tokens. Updates of one thing share its collapse key and tag, so that a phone shows the latest only."""

    def __init__(self, settings: FcmSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._url = f"{settings.endpoint}/v1/projects/{settings.project_id}/messages:send"
        self._client = self._new_client()
        self._token: _Token | None = None
        self._refused: tuple[float, Transient] | None = None
        self._renewing = asyncio.Lock()

    async def close(self) -> None:
        """See Channel."""
        await self._client.aclose()
        self._client = self._new_client()

    def _new_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(http2=True, timeout=self._settings.timeout_s, trust_env=False)

    async def _deliver(self, delivery: Delivery, address: str) -> Answer:
        async with self._renewing:
            token = await self._current_token(delivery.at)
        if isinstance(token, Transient):
            return token
        headers = {"authorization": f"Bearer {token.value}", "content-type": "application/json"}
        response = await push.post(self._client, self._url, headers, orjson.dumps({"message": _message(delivery, address)}))
        if isinstance(response, Transient | Unknown):
            return response
        if response.status_code == httpx.codes.UNAUTHORIZED and self._token is token:
            self._token = None
        return _answer(response, delivery.at)

    async def _current_token(self, now: float) -> _Token | Transient:
        if self._token is None or now >= self._token.until - RENEW_BEFORE_S:
            # One failure answers all deliveries of its moment: each waiting for its own would hold up the courier.
            if self._refused is not None and self._refused[0] == now:
                return self._refused[1]
            fetched = await self._fetch_token(now)
            if isinstance(fetched, Transient):
                self._refused = (now, fetched)
                return fetched
            self._token = fetched
        return self._token

    async def _fetch_token(self, now: float) -> _Token | Transient:
        settings = self._settings
        claims = {"iss": settings.client_email, "scope": SCOPE, "aud": settings.token_uri, "iat": int(now), "exp": int(now) + TOKEN_LIVES_S}
        assertion = jwt.encode(claims, settings.private_key.get_secret_value(), "RS256")
        form = urlencode({"grant_type": GRANT, "assertion": assertion}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        response = await push.post(self._client, settings.token_uri, headers, form)
        if isinstance(response, Transient | Unknown):
            return Transient(f"no access token: {response.reason}", down=True)
        says = push.json_of(response)
        value, lives_s = says.get("access_token"), says.get("expires_in", TOKEN_LIVES_S)
        if response.status_code != httpx.codes.OK or not isinstance(value, str) or not isinstance(lives_s, int | float):
            wait_s = push.retry_after_s(response.headers.get("retry-after", ""), now)
            return Transient(f"no access token: HTTP {response.status_code}", wait_s, down=True)
        return _Token(value, now + lives_s)


def _message(delivery: Delivery, address: str) -> dict[str, Any]:
    message, content = delivery.message, delivery.content
    left_s = min(max(message.deliver_by - delivery.at, 0.0), LONGEST_TTL_S)
    return {
        "token": address,
        "notification": {
            "title": push.clipped(content.title, push.MOST_TITLE_BYTES),
            "body": push.clipped(content.text, push.MOST_TEXT_BYTES),
        },
        "data": {"send_id": message.grant_id, "item_id": message.item_id, "url": content.url},
        "android": {"collapse_key": message.entity, "ttl": f"{int(left_s)}s", "notification": {"tag": message.entity}},
        "apns": {"headers": {"apns-collapse-id": message.entity, "apns-expiration": str(int(delivery.at + left_s))}},
    }


def _answer(response: httpx.Response, now: float) -> Answer:
    status, says = response.status_code, push.json_of(response)
    if 200 <= status < 300:
        return Accepted(str(says.get("name", "")))
    error = says.get("error")
    codes, fields = _details(error if isinstance(error, dict) else {})
    reason = " ".join([f"HTTP {status}", *sorted(codes)])
    if codes & DEAD_TOKEN or (status == httpx.codes.BAD_REQUEST and "message.token" in fields):
        return Permanent(reason, bad_address=True)
    wait_s = push.retry_after_s(response.headers.get("retry-after", ""), now)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Transient(reason, QUOTA_WAIT_S if wait_s is None else wait_s)
    # Refused credentials are the deployment's fault, and hit every message alike as an outage does: none of them may be lost for it.
    down = status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN, httpx.codes.SERVICE_UNAVAILABLE)
    return Transient(reason, wait_s, down=down) if down or status >= 500 else Permanent(reason)


def _details(error: dict[str, Any]) -> tuple[set[str], set[str]]:
    """Return the FCM error codes of an error and the fields it finds fault with."""
    details = error.get("details")
    found = [each for each in details if isinstance(each, dict)] if isinstance(details, list) else []
    codes = {str(each["errorCode"]) for each in found if "errorCode" in each}
    violations = [fault for each in found if isinstance(each.get("fieldViolations"), list) for fault in each["fieldViolations"]]
    return codes, {str(fault.get("field")) for fault in violations if isinstance(fault, dict)}
