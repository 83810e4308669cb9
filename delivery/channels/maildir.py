"""A channel that files messages as e-mails in a Maildir, for the demo and for looking at what would have been sent."""

from __future__ import annotations

import asyncio
import mailbox
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from pathlib import Path
from typing import Literal

from delivery.channels.base import Accepted, Answer, Delivery, Permanent, Resources, Settings, Traits, Transient
from delivery.mime import BadAddressError, compose, parse_address


class MaildirSettings(Settings):
    """Settings of the Maildir channel. `path`: the folder, made where it does not exist."""

    kind: Literal["maildir"] = "maildir"
    name: str = "maildir"
    path: Path
    sender: str = "tidings@localhost"

    def check_address(self, address: str) -> None:
        """See Settings."""
        parse_address(address)

    def open(self, resources: Resources) -> Maildir:
        """Return the channel."""
        del resources
        return Maildir(self.name, self.path, parse_address(self.sender))


@dataclass(frozen=True)
class Maildir:
    """Files messages in one Maildir. A user without an address gets `<user_id>@localhost`."""

    name: str
    path: Path
    sender: Address
    traits: Traits = Traits(address="optional", local=True, batch=100)

    async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        """See Channel."""
        return await asyncio.to_thread(self._file, deliveries)

    async def close(self) -> None:
        """See Channel."""

    def _file(self, deliveries: Sequence[Delivery]) -> list[Answer]:
        try:
            # mailbox.Maildir takes a folder that another shard has just begun to make for a whole one.
            for part in ("tmp", "new", "cur"):
                (self.path / part).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return [self._away(error)] * len(deliveries)
        folder = mailbox.Maildir(self.path, create=False)
        return [self._file_one(folder, delivery) for delivery in deliveries]

    def _file_one(self, folder: mailbox.Maildir, delivery: Delivery) -> Answer:
        try:
            message = compose(delivery, self.sender, _recipient(delivery))
            return Accepted(folder.add(message))
        except BadAddressError as error:
            return Permanent(str(error), bad_address=True)
        except OSError as error:
            return self._away(error)

    def _away(self, error: OSError) -> Transient:
        return Transient(f"{self.path}: {error.strerror}", down=True)


def _recipient(delivery: Delivery) -> Address:
    if delivery.address != delivery.message.user_id:
        return parse_address(delivery.address)
    # A user id may hold anything; quoted, it cannot break out of the local part.
    return Address(username="".join(c if c.isascii() and c.isprintable() else "_" for c in delivery.address), domain="localhost")
