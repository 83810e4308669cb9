"""What every channel promises, each against a receiver that speaks its protocol: one answer per delivery, and a true one."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest

from delivery.channels.base import Accepted, Answer, Permanent, Transient, Unknown
from delivery.channels.registry import ChannelSettings
from tests.contracts.channel_rigs import Rig, rigs
from tests.unit.delivery.examples import a_delivery, a_message

KINDS = [settings.model_fields["kind"].default for settings in get_args(get_args(ChannelSettings)[0])]
WITH_PROVIDER = [kind for kind in KINDS if kind not in ("in_app", "maildir", "console")]
WITH_ADDRESSES = [kind for kind in KINDS if kind not in ("in_app", "console")]


@pytest.fixture
async def rig(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Rig]:
    async with rigs(tmp_path, capsys)[request.param]() as opened:
        yield opened


def every(kinds: list[str]) -> pytest.MarkDecorator:
    """Run a test with the channels of these kinds."""
    return pytest.mark.parametrize("rig", kinds, indirect=True)


async def send(rig: Rig, *titles: str, addresses: tuple[str, ...] = (), first: int = 1) -> list[Answer]:
    """Send messages to users of their own, all to the rig's address or each to one of `addresses`; `first`: the number of the first."""
    given = addresses or (rig.address,) * len(titles)
    deliveries = [
        a_delivery(a_message(number, channel=rig.channel.name), address, title=title)
        for number, (title, address) in enumerate(zip(titles, given, strict=True), first)
    ]
    most = rig.channel.traits.batch
    chunks = [deliveries[start : start + most] for start in range(0, len(deliveries), most)]
    return [answer for chunk in chunks for answer in await rig.channel.send(chunk)]


def test_no_kind_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(rigs(tmp_path, capsys)) == set(KINDS)


@every(KINDS)
async def test_each_message_arrives_once_and_is_answered_in_its_place(rig: Rig) -> None:
    titles = [f"Room {number}" for number in range(1, 6)]
    answers = await send(rig, *titles)
    assert [type(answer) for answer in answers] == [Accepted] * 5
    assert Counter(rig.titles()) == Counter(titles)


@every(KINDS)
async def test_it_can_be_closed_and_used_again(rig: Rig) -> None:
    await send(rig, "Before")
    await rig.channel.close()
    (answer,) = await send(rig, "After", first=2)
    await rig.channel.close()
    assert isinstance(answer, Accepted)
    assert "After" in rig.titles()


@every(KINDS)
async def test_text_in_any_script_arrives_as_it_was_written(rig: Rig) -> None:
    title = "Größe, 新しい部屋, غرفة جديدة, 🎉 & <b>bold</b>"
    (answer,) = await send(rig, title)
    assert isinstance(answer, Accepted)
    assert rig.titles() == [title]


@every(WITH_ADDRESSES)
async def test_what_can_be_no_address_is_refused_for_good_and_costs_the_others_nothing(rig: Rig) -> None:
    answers = await send(rig, "First", "Lost", "Last", addresses=(rig.address, rig.wrong, rig.address))
    assert [type(answer) for answer in answers] == [Accepted, Permanent, Accepted]
    assert isinstance(answers[1], Permanent)
    assert answers[1].bad_address
    assert sorted(rig.titles()) == ["First", "Last"]


@every(WITH_PROVIDER)
async def test_where_nobody_answers_the_call_it_was_certainly_not_sent(rig: Rig) -> None:
    assert rig.away is not None
    channel, address = rig.away
    (answer,) = await channel.send([a_delivery(a_message(1, channel=channel.name), address)])
    await channel.close()
    assert isinstance(answer, Transient)
    assert answer.down is not rig.of_users
    assert rig.titles() == []


@every(WITH_PROVIDER)
async def test_where_the_message_was_taken_and_nobody_answers_it_is_left_open(rig: Rig) -> None:
    assert rig.hush is not None
    rig.hush()
    (answer,) = await send(rig, "A new room")
    assert isinstance(answer, Unknown)
