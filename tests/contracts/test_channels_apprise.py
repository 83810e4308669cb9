"""Apprise against a local server, through three of its services: what arrives, what each answer means, and what users cannot reach."""

from __future__ import annotations

import logging.handlers
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ConfigDict, SecretStr, TypeAdapter, ValidationError

from delivery.channels.apprise import AppriseSettings
from delivery.channels.base import Accepted, Answer, Permanent, Resources, Transient, Unknown
from delivery.channels.registry import ChannelSettings
from delivery.inbox import MemoryInbox
from lake.meta import Meta
from tests.integration.waiting import LONG_S
from tests.unit.delivery.examples import NOW, World, a_delivery, a_message

RESOURCES = Resources(MemoryInbox())


def a_setting(url: str, **settings: Any) -> AppriseSettings:
    return AppriseSettings(url=SecretStr(url), **settings)


@dataclass
class Service:
    """A service that answers with the status its path ends in, else 200."""

    got: list[tuple[str, str]] = field(default_factory=list)

    async def receive(self, request: web.Request) -> web.Response:
        self.got.append((request.path, await request.text()))
        last = request.path.rpartition("/")[2]
        if last == "silent":
            assert request.transport is not None
            request.transport.close()
        status = int(last) if last.isdecimal() else 200
        return web.Response(status=status, headers={"location": "/elsewhere"} if status == 302 else {})

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.receive)
        async with TestServer(app) as server:
            yield f"127.0.0.1:{server.port}"

    async def send(self, scheme: str, *addresses: str, **content: str) -> list[Answer]:
        async with self.served() as at:
            channel = a_setting(f"{scheme}://{at}/{{address}}", timeout_s=LONG_S).open(RESOURCES)
            return await channel.send([a_delivery(a_message(n), address, 0.0, **content) for n, address in enumerate(addresses, 1)])


@pytest.mark.parametrize("scheme", ["json", "form", "ntfy"])
async def test_a_message_arrives_in_the_services_own_words(scheme: str) -> None:
    service = Service()
    assert await service.send(scheme, "ada-1") == [Accepted()]
    ((path, body),) = service.got
    assert "ada-1" in path + body
    assert "A new room" in body.replace("+", " ")
    assert "Come in" in body.replace("+", " ")


async def test_every_answer_is_taken_for_what_it_means_and_costs_the_others_nothing() -> None:
    service = Service()
    answers = await service.send("json", "503", "ada", "429", "401", "404", "302", "silent")
    assert [type(each) for each in answers] == [Transient, Accepted, Transient, Transient, Permanent, Permanent, Unknown]
    assert not any(getattr(each, "bad_address", False) for each in answers)
    assert "/elsewhere" not in [path for path, _ in service.got]


async def test_an_answer_is_heard_also_where_other_calls_end_in_the_middle_of_its_record() -> None:
    complaints = logging.getLogger("apprise")

    class Leaves(logging.Handler):
        """What two other calls listen with, which end just then: whoever comes after them in the list is passed over."""

        def emit(self, record: logging.LogRecord) -> None:
            if "error=" in record.getMessage():
                complaints.removeHandler(other)
                complaints.removeHandler(self)

    other, leaving = logging.NullHandler(), Leaves()
    complaints.addHandler(other)
    complaints.addHandler(leaving)
    (answer,) = await Service().send("json", "401")
    assert leaving not in complaints.handlers
    assert isinstance(answer, Transient)
    assert answer.down


async def test_what_a_service_answers_429_is_tried_again_later_and_is_no_dead_letter() -> None:
    service = Service()
    async with service.served() as at:
        chat = a_setting(f"json://{at}/{{address}}", timeout_s=LONG_S).open(RESOURCES)
        world = World(channels={"chat": chat}, meta=Meta(1, ("email", "chat")))
        world.enqueue(a_message(1, channel="chat"))
        world.profiles.put_addresses("u1", {"chat": "429"})
        await world.dispatcher().drain(0, "a", NOW)
        (backlog,) = world.memory.backlog([0])
        assert (backlog.retrying, backlog.total, world.memory.dead(0, 10), world.outcomes()) == (1, 1, [], {})
        world.profiles.put_addresses("u1", {"chat": "200"})
        await world.dispatcher().drain(0, "a", NOW + 3000)
    assert world.outcomes() == {a_message(1).grant_id: "accepted"}
    assert len(service.got) == 2


@pytest.mark.parametrize("address", ["", "../admin", "a b", "x/y", "?to=b", "a@b/..", "json://10.0.0.1", "a\r\nb", "é", "a" * 129])
async def test_an_address_can_be_nothing_but_the_one_part_of_the_url_it_is_for(address: str) -> None:
    service = Service()
    (answer,) = await service.send("json", address)
    assert isinstance(answer, Permanent)
    assert answer.bad_address
    assert service.got == []
    with pytest.raises(ValueError, match="must match"):
        a_setting("json://localhost/{address}").check_address(address)


async def test_what_a_wider_pattern_lets_through_is_quoted() -> None:
    service = Service()
    async with service.served() as at:
        channel = a_setting(f"json://{at}/{{address}}", address_pattern=".+").open(RESOURCES)
        await channel.send([a_delivery(address="a?method=GET&-x=1#y")])
    ((path, _),) = service.got
    assert path == "/a?method=GET&-x=1#y"


async def test_whom_a_message_was_for_is_in_no_log_and_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logging.handlers.BufferingHandler(100)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    assert await Service().send("json", "503") == [Transient("HTTP 503")]
    assert not [record for record in handler.buffer if record.name.startswith("apprise")]


@pytest.mark.parametrize(
    "wrong",
    [{"url": "nosuch://secret-token/{address}"}, {"url": "json://secret-token/"}, {"address_pattern": "("}, {"colour": "red"}],
)
def test_wrong_settings_are_refused_without_telling_the_secret(wrong: dict[str, Any]) -> None:
    right = {"kind": "apprise", "url": "tgram://secret-token/{address}"}
    read: TypeAdapter[Any] = TypeAdapter(ChannelSettings, config=ConfigDict(hide_input_in_errors=True))  # as the deployment does
    assert "secret-token" not in repr(read.validate_python(right))
    with pytest.raises(ValidationError) as caught:
        read.validate_python(right | wrong)
    assert "secret-token" not in str(caught.value)
