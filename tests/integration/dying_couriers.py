"""Couriers that are killed while they work, one after the other: a program, for a process that forks should have no threads.

`python -m tests.integration.dying_couriers STORE_URL KILLS SEED` prints how often each moment of death came; KILLS counts those between
the provider's call and its acknowledgement.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Never

from delivery.channels.base import Answer, Delivery
from delivery.channels.webhook import Webhook
from delivery.outbox import Entry, Outcome
from delivery.redis_outbox import RedisOutbox
from delivery.turn import DispatchSettings
from tests.integration.test_delivery_end_to_end import dispatcher, webhook
from tests.stores import undaunted
from tests.unit.delivery.examples import NOW

BETWEEN = ("after the call", "before it is recorded")
"""The provider has the message, and nobody here has written down that it does."""
MOMENTS = ("before the mark", "before the call", *BETWEEN)
CHANCES = (1, 1, 7, 7)
BATCH = 3


def die() -> Never:
    """End as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def courier(url: str, moment: str, calls: int) -> None:
    """Drain one batch; die at the moment, after so many calls of the provider where it is one of a call."""
    left = calls

    class Doomed(Webhook):
        async def send(self, deliveries: Sequence[Delivery]) -> list[Answer]:
            nonlocal left
            left -= 1
            if moment == "before the call" and left < 0:
                die()
            answers = await super().send(deliveries)
            if moment == "after the call" and left < 0:
                die()
            return answers

    class DoomedOutbox(RedisOutbox):
        def attempt(self, shard: int, consumer: str, entries: Sequence[Entry], now: float) -> list[bool]:
            if moment == "before the mark":
                die()
            return super().attempt(shard, consumer, entries, now)

        def settle(self, shard: int, outcomes: Sequence[Outcome], now: float) -> list[bool]:
            if moment == "before it is recorded" and any(outcome.state == "accepted" for outcome in outcomes):
                die()
            return super().settle(shard, outcomes, now)

    settings = DispatchSettings(abandoned_after_s=0.0, batch=BATCH)
    with undaunted(url) as client:
        asyncio.run(dispatcher(client, {"webhook": webhook(Doomed)}, DoomedOutbox, settings).drain(0, f"courier-{os.getpid()}", NOW))


def main(url: str, kills: int, seed: int) -> None:
    """Kill couriers until enough died in between; one that found only what others had left open lives and is followed by another."""
    chance, died = random.Random(seed), Counter[str]()
    while sum(died[moment] for moment in BETWEEN) < kills:
        (moment,), calls = chance.choices(MOMENTS, CHANCES), chance.randrange(BATCH)
        child = os.fork()
        if child == 0:
            courier(url, moment, calls)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        died[moment] += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise SystemExit("a courier failed in a way of its own")
    sys.stdout.write(json.dumps(died))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
