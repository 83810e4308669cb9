"""What every channel is: it takes deliveries and answers each of them. Adding one is a file here and a line in registry.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from delivery.inbox import Inbox
from lake.messages import Message


@dataclass(frozen=True, slots=True)
class Content:
    """What a message says. `title` is one line; `plain` and `html` are the full bodies, "" on channels that need none.

    No field holds control characters other than line breaks and tabs; `url` is "" or starts with http:// or https://.
    """

    title: str
    text: str
    url: str
    why: str
    plain: str = ""
    html: str = ""
    unsubscribe_url: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one address. `at`: the time of the attempt, epoch seconds. `told`: the items that the content names."""

    message: Message
    address: str
    content: Content
    at: float
    told: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider has it; `provider_id` is its name there."""

    provider_id: str = ""


@dataclass(frozen=True, slots=True)
class Transient:
    """It was certainly not sent, and may be later: not before `retry_after_s`; `down`: nothing else would get through either."""

    reason: str
    retry_after_s: float | None = None
    down: bool = False


@dataclass(frozen=True, slots=True)
class Permanent:
    """It was certainly not sent and never will be; `bad_address`: nor will anything else to this address."""

    reason: str
    bad_address: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """The provider left it open whether it was sent: never blindly sent again; `down`: nothing else would get through either."""

    reason: str
    down: bool = False


Answer = Accepted | Transient | Permanent | Unknown


@dataclass(frozen=True, slots=True)
class Traits:
    """How a channel wants to be used.

    `address`: whether it needs one; where it has none, the user's own id stands in.
    `idempotent`: sending the same grant twice is the same as once, so no attempt mark is needed and nothing is ever unknown.
    `local`: it calls nobody but the store or this machine, so that nobody is helped by going on without it.
    `batch`: most deliveries per `send`. `concurrency`: most `send` calls of a wave, of which a courier
    has several under way (DispatchSettings.waves).
    """

    address: Literal["required", "optional", "unused"] = "required"
    needs_bodies: bool = True
    needs_unsubscribe: bool = True
    idempotent: bool = False
    local: bool = False
    batch: int = 1
    concurrency: int = 1


class Channel(Protocol):
    """A way to reach users. `send` never raises for what a provider or an address does: that is an answer."""

    @property
    def name(self) -> str:
        """The channel's name in the store."""
        ...

    @property
    def traits(self) -> Traits:
        """How to use it."""
        ...

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """Return one answer per delivery, in their order."""
        ...

    async def close(self) -> None:
        """Let go of connections; sending again opens new ones."""
        ...


@dataclass(frozen=True)
class Resources:
    """What channels may build on."""

    inbox: Inbox


class Settings(BaseModel):
    """Common to all channels' settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def check_address(self, address: str) -> None:
        """Raise ValueError, saying what is wrong, where a text cannot be an address of this channel; most take any."""
