"""The long tail of chats and phones through Apprise: the deployment writes the service's URL, a user's address is one part of it.

A Retry-After is not obeyed: Apprise's services call `requests` by themselves and log the status alone, and there is no place to look at
the answer's headers short of patching that library for the whole process. What was answered 429 or 5xx is tried again with the usual
growing pauses.

An Apprise URL can hold credentials and lead anywhere, so users never give one: what they give is checked and quoted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Literal
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator

from delivery.channels import push
from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Transient, Unknown
from delivery.channels.one_by_one import OneByOneSettings, OneByOneText

PLACE = "{address}"
STATUS = re.compile(r"error=([1-5][0-9]{2})\b")
"""How Apprise's services report the status they were answered with; without one nobody can tell what happened."""
REFUSED = frozenset({401, 403})
"""The deployment's credentials do not count: no message may be lost for it, and no other would get through."""
TRY_LATER = REFUSED | {408, 425, 429}
"""Beside 5xx."""
NO_CONNECTION = re.compile("NewConnectionError|ConnectTimeoutError|NameResolutionError|Failed to establish a new connection")
"""What its services quote of urllib3 where nobody took the call; anything else may have broken after the message was sent."""


class AppriseSettings(OneByOneSettings):
    """Settings of an Apprise channel. `url`: such as tgram://TOKEN/{address}; `address_pattern`: what the whole address must match."""

    kind: Literal["apprise"] = "apprise"
    name: str = "chat"
    url: SecretStr
    address_pattern: str = r"[A-Za-z0-9_.@+-]{1,128}"
    timeout_s: float = Field(default=15.0, gt=0)
    concurrency: int = Field(default=8, ge=1)

    @field_validator("url")
    @classmethod
    def _has_a_place(cls, url: SecretStr) -> SecretStr:
        scheme, _, rest = url.get_secret_value().partition("://")
        if not _is_known(scheme):
            raise ValueError("this is no URL of a service that Apprise knows: see github.com/caronc/apprise/wiki")
        if rest.count(PLACE) != 1:
            raise ValueError(f"the URL must have {PLACE} once, where the user's address belongs")
        return url

    @field_validator("address_pattern")
    @classmethod
    def _is_a_pattern(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    def check_address(self, address: str) -> None:
        """See Settings."""
        if not re.fullmatch(self.address_pattern, address):
            raise ValueError(f"an address of {self.name} must match {self.address_pattern}")

    def open(self, resources: Resources) -> AppriseChannel:
        """Return the channel."""
        del resources
        return AppriseChannel(self)


class AppriseChannel(OneByOneText):
    """Sends through one of Apprise's services, each message by itself, with no redirects followed and nothing kept on disk."""

    def __init__(self, settings: AppriseSettings) -> None:
        import apprise

        super().__init__(settings)
        self._settings = settings
        self._asset = apprise.AppriseAsset(app_id="Tidings", http_redirects=False, secure_logging=True, storage_mode="memory")
        _Overhears.on(logging.getLogger("apprise"))

    async def _deliver(self, delivery: Delivery, address: str) -> Answer:
        import apprise

        service = apprise.Apprise(asset=self._asset)
        if not service.add(self._settings.url.get_secret_value().replace(PLACE, quote(address, safe=""))):
            return Permanent("the service takes no such address", bad_address=True)
        body, title = _text(delivery), push.clipped(delivery.content.title, push.MOST_TITLE_BYTES)
        with (
            overheard() as said,
            await service.async_notify(
                body=body, title=title, body_format=apprise.NotifyFormat.TEXT, timeout=self._settings.timeout_s
            ) as result,
        ):
            return Accepted() if result else _failed(said)


_said: ContextVar[list[str] | None] = ContextVar("said", default=None)


@contextmanager
def overheard() -> Iterator[list[str]]:
    """Yield what the services called meanwhile complain about, also in threads: Apprise hands them the context."""
    said: list[str] = []
    token = _said.set(said)
    try:
        yield said
    finally:
        _said.reset(token)


class _Overhears(logging.Handler):
    """Gives what services complain about to whoever called them, and to nobody else: it may quote whom they were to reach.

    Apprise's own results lack now and then what they are read for: they listen with a handler for each call, and whenever one leaves the
    list of them in the middle of another call's record, the next in the list is passed over. The first in it never is.
    """

    @classmethod
    def on(cls, complaints: logging.Logger) -> None:
        """Have the first of a logger's handlers be one of these, and nothing of it come to any other logger."""
        complaints.propagate = False
        complaints.setLevel(logging.DEBUG)
        if not any(isinstance(handler, cls) for handler in complaints.handlers):
            complaints.handlers.insert(0, cls())

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        said = _said.get()
        if said is not None:
            with suppress(Exception):  # what does not fit its own format says nothing; raised here, it would end the service's call
                said.append(record.getMessage())


def _text(delivery: Delivery) -> str:
    content = delivery.content
    return "\n".join(part for part in (push.clipped(content.text, push.MOST_TEXT_BYTES), content.url) if part) or content.title


def _failed(said: Sequence[str]) -> Answer:
    statuses = [int(found[1]) for message in said if (found := STATUS.search(message))]
    if not statuses:
        if any(NO_CONNECTION.search(message) for message in said):
            return Transient("no connection to the service", down=True)
        return Unknown("the service did not answer")
    status = statuses[-1]
    if status >= 500 or status in TRY_LATER:
        return Transient(f"HTTP {status}", down=status in REFUSED)
    return Permanent(f"HTTP {status}")


def _is_known(scheme: str) -> bool:
    from apprise.plugins import N_MGR

    return scheme in N_MGR
