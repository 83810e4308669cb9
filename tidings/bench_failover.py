"""`tidings bench failover`: one window of a crowd while its schedulers are killed, frozen and the clock is set, and what came of it.

The schedulers are processes of their own on a store as durable as the one that serves; lane, commit, leases, fences and tick loop are
those that serve, without rankers. As soon as a share of the crowd is decided, the next fault hits whoever leads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle, islice
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lake.decision_log import unpack
from lake.embedded import EmbeddedStore
from lake.follows import Followed
from lake.keys import LEADER, Keys
from lake.messages import FIELD, Message
from lake.meta import Meta
from lake.profiles import blank
from lake.redis_decision_log import RedisDecisionStream
from scheduler.redis_stores import RedisStores
from scheduler.windows import SLOT_S
from tidings.bench_system import Step
from tidings.drill_worker import TOP_N, Pace, SteppedClock, owner_of, quarters_of, work

Fault = Literal["kill", "freeze", "clock-on", "kill-clock-back"]
FAULTS: tuple[Fault, ...] = get_args(Fault)
META = Meta(shards=64)
ITEMS = 4
PAGE = 2000
POLL_S = 0.005
WEEK_SLOTS = 7 * 86400 // SLOT_S
PATIENCE = 10
"""How many times as long as a failover may take the drill waits before it gives up."""


@dataclass(frozen=True)
class Drill:
    """`at`: the shares of the crowd whose deciding brings the next of `faults`, which are repeated in turn. A fault of the clock sets it
    by three lifetimes of a lease, and a frozen scheduler goes on after as long: 60 s at the pace that serves.
    """

    users: int
    at: tuple[float, ...]
    faults: tuple[Fault, ...] = FAULTS
    pace: Pace = field(default_factory=Pace)

    @property
    def planned(self) -> list[tuple[float, Fault]]:
        """Each share, and the fault it brings."""
        return list(zip(self.at, islice(cycle(self.faults), len(self.at)), strict=True))

    @property
    def span_s(self) -> float:
        """By how much the clock is set, and how long a scheduler is frozen."""
        return 3 * self.pace.ttl_s


DRILLS = {
    "ten_failovers": Drill(100_000, tuple(np.round(np.linspace(0.05, 0.9, 10), 3).tolist())),
    "killed_at_10_50_90": Drill(100_000, (0.1, 0.5, 0.9), ("kill",)),
}


def sized(users: int, ttl_s: float) -> dict[str, Drill]:
    """Return the drills of the bench for a crowd of some size, at some pace."""
    return {name: replace(drill, users=users, pace=Pace(ttl_s)) for name, drill in DRILLS.items()}


def run(drills: dict[str, Drill] | None = None, *, step: Step = lambda _: None) -> dict[str, Any]:
    """Return the figures of `tidings bench failover --json`: per drill its failovers and what was found
    afterwards, and the sums.

    `twice`, `skipped`: users decided twice or not at all. `slowest_s`: longest time between a fault and the next user's decision.
    """
    given = DRILLS if drills is None else drills
    found = {name: play(drill, partial(_named, step, name)) for name, drill in given.items()}
    sums = {name: sum(each[name] for each in found.values()) for name in ("twice", "skipped", "lost_messages", "surplus_messages")}
    return sums | {"slowest_s": max(each["slowest_s"] for each in found.values()), "drills": found}


def _named(step: Step, name: str, text: str) -> None:
    step(f"{name}: {text}")


def play(drill: Drill, step: Step = lambda _: None) -> dict[str, Any]:
    """Return what became of one window of `drill.users` users."""
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder)) as store:
        stores = RedisStores.open(store.url, META)
        crowd = [f"user-{number:07}" for number in range(drill.users)]
        slot = int(stores.clock.now() // SLOT_S) + 1
        step(f"making {drill.users:,} users")
        prepare(stores, crowd, slot)
        with schedulers(store.url, drill) as workers:
            window = Window(stores, crowd, slot, drill, workers, SteppedClock(stores.client))
            window.open()
            failovers = [window.disturb(share, fault, step) for share, fault in drill.planned]
            window.finish()
        return {"users": drill.users, "ttl_s": drill.pace.ttl_s, **summed(failovers), **audit(stores, crowd, slot), "failovers": failovers}


def prepare(stores: RedisStores, crowd: list[str], slot: int) -> None:
    """Give everybody the same window, and something to be told in it."""
    rows = blank(PAGE)
    rows["zone"] = b"UTC"
    rows["windows"][:, 0] = quarters_of(slot)
    for first in range(0, len(crowd), PAGE):
        page = crowd[first : first + PAGE]
        stores.profiles.put(page, rows[: len(page)])
        stores.follows.put(page, [Followed(("news",))] * len(page))
        stores.due.enroll(page, np.full(len(page), slot))
    stores.items.put([{"item_id": f"item-{n}", "created_at": slot * SLOT_S - 60.0 * n, "topics": ["news"]} for n in range(ITEMS)])


@dataclass
class Worker:
    """A scheduler's process, and the line to it."""

    process: ForkServerProcess
    line: Connection
    frozen_until: float = 0.0

    def signal(self, number: int) -> None:
        """Send the process a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


@contextmanager
def schedulers(url: str, drill: Drill) -> Iterator[dict[str, Worker]]:
    """Yield as many schedulers as the drill uses up and two more, all of them ready; none of them outlives the block."""
    lost = sum(fault != "clock-on" for _, fault in drill.planned)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])  # or each would import all of it by itself
    workers = {}
    try:
        for number in range(lost + 2):
            line, theirs = context.Pipe()
            process = context.Process(target=work, args=(url, number, drill.pace, theirs), daemon=True)
            process.start()
            theirs.close()
            workers[owner_of(number)] = Worker(process, line)
        for worker in workers.values():
            worker.line.recv()
        yield workers
        for worker in workers.values():
            if worker.process.is_alive():
                worker.line.send("stop")
        for worker in workers.values():
            worker.process.join(drill.pace.resumed_s)
    finally:
        for worker in workers.values():
            if worker.process.is_alive():
                worker.signal(signal.SIGKILL)
                worker.process.join()


@dataclass
class Window:
    """A window under way."""

    stores: RedisStores
    crowd: list[str]
    slot: int
    drill: Drill
    workers: dict[str, Worker]
    clock: SteppedClock

    def open(self) -> None:
        """Set the clock to a third into the window's slot, which leaves room for it to be set on and back."""
        self.clock.step((self.slot + 1 / 3) * SLOT_S - self.clock.now())

    def left(self) -> int:
        """Return how many users are still to be decided."""
        return int(self.stores.due.counts(self.slot).sum())

    def disturb(self, share: float, fault: Fault, step: Step) -> dict[str, Any]:
        """Wait until a share of the crowd is decided, let the fault happen, and return how it was got over."""
        self._until(lambda: self.left() <= (1 - share) * len(self.crowd))
        if not self.left():
            raise RuntimeError(f"the window was over before {share:.0%} of it could be disturbed: take more users")
        fence = self._strike(fault, self._leader())
        began, at = time.monotonic(), self.left()
        self._until(lambda: self.stores.leases.token(LEADER) > fence or self.left() == 0)
        behind = self.left()
        self._until(lambda: self.left() < behind or behind == 0)
        took_s = round(time.monotonic() - began, 2)
        step(f"{fault} with {at:,} users left: the next one was decided after {took_s} s")
        return {"fault": fault, "left": at, "resumed_s": took_s, "fences": self.stores.leases.token(LEADER) - fence}

    def finish(self) -> None:
        """Wait until everybody is decided and the frozen go on, and what they still believe is theirs has been refused."""
        self._until(lambda: self.left() == 0 and not any(worker.frozen_until for worker in self.workers.values()))

    def _leader(self) -> str:
        return str(self.stores.client.hget(LEADER, "owner").decode())  # type: ignore[union-attr]

    def _strike(self, fault: Fault, leader: str) -> int:
        """Let a fault happen; return the token of the lead as it left it: a leader may still take a new one right before it is hit."""
        worker = self.workers[leader]
        if fault == "freeze":
            worker.signal(signal.SIGSTOP)
            worker.frozen_until = time.monotonic() + self.drill.span_s
        elif fault != "clock-on":
            worker.signal(signal.SIGKILL)
            worker.process.join()
        fence = self.stores.leases.token(LEADER)
        if fault == "clock-on":
            self.clock.step(self.drill.span_s)
        elif fault == "kill-clock-back":
            self.clock.step(-self.drill.span_s)
        return fence

    def _until(self, holds: Any) -> None:
        late = time.monotonic() + PATIENCE * self.drill.pace.resumed_s + self.drill.users / 500
        while not holds():
            if time.monotonic() > late:
                raise RuntimeError(f"the drill got stuck with {self.left():,} of {len(self.crowd):,} users to be decided")
            for worker in self.workers.values():
                if 0 < worker.frozen_until < time.monotonic():
                    worker.signal(signal.SIGCONT)
                    worker.frozen_until = 0.0
            time.sleep(POLL_S)


def summed(failovers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how many failovers there were, and the longest time one took."""
    return {"faults": len(failovers), "slowest_s": max((each["resumed_s"] for each in failovers), default=0.0)}


def audit(stores: RedisStores, crowd: list[str], slot: int) -> dict[str, int]:
    """Return what the log, the ledger, the outbox and the due index say of a window, against one another.

    A user with other than TOP_N grants, with two decisions in the log, or whose place is not a week later was not decided once.
    """
    ledger = stores.ledger.read(crowd)
    grants = np.bincount(ledger.user, minlength=len(crowd))
    logged: dict[str, set[str]] = {}
    for shard in range(stores.meta.shards):
        rows = unpack(RedisDecisionStream(stores.client, stores.meta.keys).read(shard, 1 << 30))
        for user, decisions in rows.groupby("user_id")["decision_id"].agg(set).items() if len(rows) else ():
            logged[str(user)] = decisions
    decisions = np.array([len(logged.get(user, ())) for user in crowd])
    enqueued = [grant for shard in range(stores.meta.shards) for grant in _enqueued(stores, shard)]
    granted = set(ledger.grant_id.tolist())
    return {
        "twice": int(((grants > TOP_N) | (decisions > 1)).sum()),
        "skipped": int(((grants < TOP_N) | (decisions < 1) | (stores.due.slots(crowd) != slot + WEEK_SLOTS)).sum()),
        "lost_messages": len(granted - set(enqueued)),
        "surplus_messages": len(enqueued) - len(granted & set(enqueued)),
    }


def _enqueued(stores: RedisStores, shard: int) -> list[int]:
    entries: Any = stores.client.xrange(stores.meta.keys.of_shard(Keys.OUTBOX, shard))
    return [int(Message.unpack(fields[FIELD.encode()]).grant_id, 16) for _, fields in entries]
