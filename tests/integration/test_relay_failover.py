"""Two real mail relays: what one no longer takes goes by the other, each message once."""

from __future__ import annotations

from contextlib import AsyncExitStack

from delivery.channels.base import Resources
from delivery.channels.email import EmailSettings
from delivery.channels.registry import open_channels, open_stand_ins
from delivery.inbox import MemoryInbox
from tests.integration.test_delivery_email import Mailbox, served
from tests.unit.delivery.examples import NOW, World, a_message

REST_S = 30.0


class Tired(Mailbox):
    """A mailbox that says it is shutting down once it has taken so many messages."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.takes = takes

    async def handle_MAIL(self, *args: object) -> str:  # noqa: N802  # aiosmtpd's name
        self.on_mail = "421 shutting down" if len(self.received) >= self.takes else None
        return await super().handle_MAIL(*args)  # type: ignore[arg-type]


async def test_when_a_relay_shuts_down_in_the_middle_the_other_takes_over_until_it_is_back() -> None:
    first, second, resources = Tired(takes=25), Mailbox(), Resources(MemoryInbox())
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(served(relay)) for relay in (first, second)]
        settings = [EmailSettings(host="127.0.0.1", port=port, sender="news@t.example", tls="never", messages_per_turn=5) for port in ports]
        channels, stand_ins = open_channels(settings, resources), open_stand_ins(settings, resources)
        world = World(channels=dict(channels), stand_ins={name: list(others) for name, others in stand_ins.items()})
        dispatcher = world.dispatcher()
        stack.push_async_callback(dispatcher.close)

        messages = [a_message(number, deliver_by=NOW + 86400) for number in range(1, 101)]
        world.enqueue(*messages)
        for _ in range(2):
            await dispatcher.drain(0, "a", NOW)
        taken = len(first.received)
        assert 25 <= taken < 35, "four connections may have a message on its way each"
        assert len(second.received) == 100 - taken

        first.takes = 1000
        world.enqueue(*(a_message(number, deliver_by=NOW + 86400) for number in range(101, 111)))
        await dispatcher.drain(0, "a", NOW + REST_S)
        assert (len(first.received), len(second.received)) == (taken + 10, 100 - taken)

        ids = [message["Message-ID"] for relay in (first, second) for _, message in relay.received]
        assert len(set(ids)) == len(ids) == 110
        assert list(world.outcomes().values()) == ["accepted"] * 110
