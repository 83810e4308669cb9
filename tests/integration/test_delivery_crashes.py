"""Two hundred couriers killed between a call and its acknowledgement: nothing is lost or sent twice, what nobody knows is unknown."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from subprocess import PIPE

import pytest
from redis import Redis

from delivery.outbox import Backlog
from delivery.redis_outbox import RedisOutbox
from tests.integration.dying_couriers import BETWEEN, MOMENTS
from tests.integration.test_delivery_end_to_end import META, Receiver, dispatcher, grant, outcomes, served, webhook
from tests.unit.delivery.examples import NOW, a_message

MESSAGES, KILLS, SEED = 750, 200, 7


@pytest.mark.timeout(600)
async def test_two_hundred_killed_couriers_lose_nothing_and_send_nothing_twice(redis_client: Redis, embedded_store: str) -> None:
    receiver = Receiver()
    messages = [a_message(number, channel="webhook", deliver_by=NOW + 86400) for number in range(1, MESSAGES + 1)]
    async with served(receiver) as url:
        grant(redis_client, messages, {"webhook": url})
        command = (sys.executable, "-m", "tests.integration.dying_couriers", embedded_store, str(KILLS), str(SEED))
        dying = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
        printed, _ = await dying.communicate()
        assert dying.returncode == 0
        taken_by_the_dead = Counter(receiver.ids)
        channel = webhook()
        last = dispatcher(redis_client, {"webhook": channel})
        while RedisOutbox(redis_client, META.keys).backlog([0]) != [Backlog()]:
            await last.drain(0, "last", NOW)
        await channel.close()

    died = json.loads(printed)
    assert sum(died[moment] for moment in BETWEEN) == KILLS
    assert set(died) == set(MOMENTS)
    ended, received = outcomes(redis_client), Counter(receiver.ids)
    assert set(ended) == {message.grant_id for message in messages}, "lost"
    assert set(ended.values()) == {"accepted", "unknown"}
    assert max(received.values()) == 1, "sent twice"
    accepted = {grant_id for grant_id, state in ended.items() if state == "accepted"}
    assert accepted <= set(received)
    unknown = set(ended) - accepted
    assert set(taken_by_the_dead) - accepted <= unknown
    assert unknown & set(received), "some had arrived before nobody could say so"
    assert unknown - set(received), "and some had not"
