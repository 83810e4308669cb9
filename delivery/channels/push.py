"""What push providers over HTTP share: a conversation that says what became of a request, and texts that fit a phone."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from delivery.channels.base import Transient, Unknown

LONGEST_WAIT_S = 86400.0
MOST_TITLE_BYTES = 200
MOST_TEXT_BYTES = 1000
NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


async def post(client: httpx.AsyncClient, url: str, headers: Mapping[str, str], body: bytes) -> httpx.Response | Transient | Unknown:
    """Return the answer to one POST; Transient where it was certainly not sent, Unknown where nobody can tell."""
    try:
        return await client.post(url, headers=dict(headers), content=body)
    except NOTHING_SENT as error:
        return Transient(f"no connection: {type(error).__name__}", down=True)
    except httpx.TransportError as error:
        return Unknown(f"no answer: {type(error).__name__}", down=True)


def json_of(response: httpx.Response) -> dict[str, Any]:
    """Return the object an answer holds, empty where it holds none, as when a proxy answered in the provider's stead."""
    try:
        found = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def retry_after_s(value: str, now: float) -> float | None:
    """Return the seconds a Retry-After header asks for, given in seconds or as a date; None where it says neither."""
    text = value.strip()
    try:
        seconds = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def clipped(text: str, most_bytes: int) -> str:
    """Return a text of at most so many bytes of UTF-8, with an ellipsis where something was cut off; no character is split."""
    encoded = text.encode()
    if len(encoded) <= most_bytes:
        return text
    return encoded[: most_bytes - 3].decode(errors="ignore") + "…"


def check_rsa_key(pem: str) -> None:
    """Raise ValueError where a text is no RSA private key in PEM."""
    if not isinstance(_key(pem), RSAPrivateKey):
        raise ValueError("this is no RSA key: take private_key from the service account's JSON file")


def check_p256_key(pem: str) -> None:
    """Raise ValueError where a text is no private key on P-256 in PEM."""
    key = _key(pem)
    if not (isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1)):
        raise ValueError("this is no key on the curve P-256; for APNs take the text of the .p8 file")


def _key(pem: str) -> object:
    try:
        return load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        # The library's own words may quote the key.
        raise ValueError("this is no unencrypted private key in PEM") from error
