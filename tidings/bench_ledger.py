"""`tidings bench ledger`: how many users a store core commits per second, and that a crowd of deciders overspends nobody.

Both parts run the commit that serves, on an embedded store that is as durable as the one that serves.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from budgets.ledger import used
from budgets.redis_ledger import RedisLedger
from gateway.redis_faults import STORE_AWAY
from lake.decision_log import LOG_ROW
from lake.decisions import REASON, SEND
from lake.embedded import EmbeddedStore
from lake.ids import combine, hash64, shard_of, shards_of
from lake.keys import Keys
from lake.messages import FIELD, Message
from lake.meta import Meta
from lake.redis_store import connect
from scheduler.commit import MAX_USERS, NO_SLOT, CommitBatch, NotDurableError
from scheduler.redis_commit import RedisCommitter
from scheduler.redis_due import RedisDueIndex

NOW = 1_700_000_000.0
"""The bench's moment: everything happens within one rolling week, so that budgets bite."""

META = Meta(shards=32)
BUDGET = 3
SLOT = 1_888_888
BATCHES_PER_CALL = 4
PEER_NAME = "the same commit, one script call per user, 500 to a pipeline"
START_TIMEOUT_S = 120.0
REPEATS = 10
# A disk that is busy for seconds has a commit repeated, as whoever commits does; the repeat must change nothing.
_AGAIN = Retrying(retry=retry_if_exception_type((NotDurableError, *STORE_AWAY)), stop=stop_after_attempt(REPEATS), reraise=True)


@dataclass(frozen=True)
class Proposal:
    """What one batch of the bench proposes: codes of users and items per row, and the decision they belong to."""

    shard: int
    users: list[str]
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    channel: npt.NDArray[np.uint8]
    decision_id: str
    slot: int = NO_SLOT

    def batch(self, now: float) -> CommitBatch:
        """Return the batch, its rows sorted by user; one row of the decision log per row."""
        n, codes = len(self.user), np.unique(self.item)
        items = [f"item-{code}" for code in codes.tolist()]
        item = np.searchsorted(codes, self.item).astype(np.int32)
        entity = hash64(items)[item]
        scheduled = self.slot != NO_SLOT
        per_user, zeros, chance = (len(self.users),), np.zeros(n, np.uint8), np.linspace(1, 0.5, n, dtype=np.float32)
        return CommitBatch(
            shard=self.shard,
            lane="scheduled" if scheduled else "urgent",
            now=now,
            users=self.users,
            window_id=np.full(per_user, self.slot, np.int32),
            slot=np.full(per_user, self.slot, np.int64),
            next_slot=np.full(per_user, self.slot + 1 if scheduled else NO_SLOT, np.int64),
            items=items,
            user=self.user,
            item=item,
            channel=self.channel,
            budget=np.full(n, BUDGET, np.uint8),
            grant_id=combine(hash64(self.users)[self.user], entity, zeros, self.channel),
            entity=entity,
            version=np.zeros(n, np.uint32),
            deliver_by=np.full(n, now + 86400.0),
            expires_at=np.full(n, np.inf),
            disposition=np.full(n, SEND, np.uint8),
            reason=np.full(n, REASON["above_threshold"], np.uint8),
            critical=np.zeros(n, bool),
            probability=chance,
            value=chance,
            threshold=np.full(n, 0.1, np.float32),
            source=zeros,
            sources=("new_posts",),
            request=np.zeros(n, np.int32),
            decision_ids=[self.decision_id],
            model_id="bench",
            log_blob=np.zeros(n, LOG_ROW).tobytes(),
        )


def run(*, users: int = 64_000, rounds: int = 4, clients: int = 2, processes: int = 64, decisions: int = 100_000) -> dict[str, Any]:
    """Return the figures of `tidings bench ledger --json`.

    `users_per_s`: the best of `rounds` windows of all `users` (claim, budget, one grant and its message, log, due move, on
    disk), sent by `clients` processes; `users_per_s_by_round` has them all, the first on empty ledgers. `overspent`: users
    and channels with more grants in 7 days than their budget after `processes` at once made `decisions` on a thousand users.
    """
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder)) as store:
        speed = throughput(store.url, users, rounds, clients)
    with tempfile.TemporaryDirectory(prefix="tidings-") as folder, EmbeddedStore(Path(folder)) as store:
        return speed | contention(store.url, processes, decisions)


def throughput(url: str, users: int, rounds: int, clients: int) -> dict[str, Any]:
    """Return the speed of whole windows, in batches of MAX_USERS and, as the peer, of one user."""
    names = [f"user-{number}" for number in range(users)]
    RedisDueIndex(connect(url), META.keys).enroll(names, np.full(users, SLOT))
    parts = [[name for name in names if shard_of(name, META.shards) % clients == client] for client in range(clients)]
    timed = [crowd(_window, [(url, part, SLOT + number, MAX_USERS) for part in parts]) for number in range(rounds)]
    figures = [_figures(spans, users) for spans in timed]
    best = max(figures, key=lambda figure: figure["users_per_s"])
    some = [part[: 4000 // clients] for part in parts]
    peer = _figures(crowd(_window, [(url, part, SLOT + rounds, 1) for part in some]), sum(map(len, some)))
    return {
        **best,
        "users_per_s_by_round": [figure["users_per_s"] for figure in figures],
        "users": users,
        "clients": clients,
        "peer_name": PEER_NAME,
        "peer_users_per_s": peer["users_per_s"],
        "ratio": round(best["users_per_s"] / peer["users_per_s"], 2),
    }


Span = tuple[float, float, float]
"""When a client began and ended (seconds), and the store's processor seconds meanwhile."""


def _figures(spans: Sequence[Span], users: int) -> dict[str, float]:
    elapsed_s = max(end for _, end, _ in spans) - min(start for start, _, _ in spans)
    return {"users_per_s": round(users / elapsed_s), "store_cpu_us_per_user": round(max(cpu for _, _, cpu in spans) / users * 1e6, 1)}


def _window(start: Callable[[], None], url: str, users: list[str], slot: int, batch_size: int) -> Span:
    """Decide one window of some users: propose, commit, wait for the disk."""
    client = connect(url)
    committer = RedisCommitter(client, META)
    chunks = list(_chunks(users, batch_size))
    per_call = BATCHES_PER_CALL * MAX_USERS // max(batch_size, BATCHES_PER_CALL)
    start()
    began, cpu = time.perf_counter(), _store_cpu_s(client)
    for first in range(0, len(chunks), per_call):
        batches = [_one_each(shard, some, slot).batch(NOW + slot - SLOT) for shard, some in chunks[first : first + per_call]]
        granted = sum(int(result.granted.sum()) for result in _AGAIN(committer.commit, batches))
        if slot - SLOT < BUDGET and granted != sum(len(batch.users) for batch in batches):
            raise RuntimeError("the bench granted fewer rows than it proposed")
    return began, time.perf_counter(), _store_cpu_s(client) - cpu


def _one_each(shard: int, users: list[str], slot: int) -> Proposal:
    user = np.arange(len(users), dtype=np.int32)
    channel = np.full(len(users), (slot - SLOT) // BUDGET, np.uint8)
    item = (user % 50 + 1000 * (slot - SLOT)).astype(np.int32)
    return Proposal(shard, users, user, item, channel, f"{slot:016x}", slot)


def _chunks(users: list[str], size: int) -> Iterator[tuple[int, list[str]]]:
    shards = shards_of(users, META.shards)
    for shard in np.unique(shards).tolist():
        mine = [users[row] for row in np.flatnonzero(shards == shard)]
        for first in range(0, len(mine), size):
            yield shard, mine[first : first + size]


def _store_cpu_s(client: Any) -> float:
    spent = client.info("cpu")
    return float(spent["used_cpu_user"]) + float(spent["used_cpu_sys"])


def contention(url: str, processes: int, decisions: int, users: int = 1000) -> dict[str, Any]:
    """Let many processes decide about the same few users at once, and count what went wrong."""
    names = [f"user-{number}" for number in range(users)]
    shares = [decisions // processes + (number < decisions % processes) for number in range(processes)]
    made = sum(crowd(_decide, [(url, names, number, share) for number, share in enumerate(shares)]))
    return {"decisions": made, "processes": processes, **audit(url, names)}


def _decide(start: Callable[[], None], url: str, users: list[str], seed: int, decisions: int) -> int:
    """Propose 1-4 rows for each of some 25 users at a time, on two channels."""
    random, made = np.random.default_rng(seed), 0
    committer = RedisCommitter(connect(url), META)
    shards = shards_of(users, META.shards)
    start()
    while made < decisions:
        shard = int(random.integers(META.shards))
        mine = np.flatnonzero(shards == shard)
        chosen = [users[row] for row in random.choice(mine, min(25, len(mine)), replace=False)]
        user = np.repeat(np.arange(len(chosen), dtype=np.int32), random.integers(1, 5, len(chosen)))[: decisions - made]
        item, channel = random.integers(0, 200, len(user)).astype(np.int32), random.integers(0, 2, len(user)).astype(np.uint8)
        proposal = Proposal(shard, chosen, user, item, channel, f"{seed:08x}{made:08x}")
        batches = [proposal.batch(NOW + float(random.random()) * 3600)]
        _AGAIN(committer.commit, batches)
        made += len(user)
    return made


def audit(url: str, users: list[str]) -> dict[str, int]:
    """Count overspent budgets, and grants and messages that lack one another."""
    client = connect(url)
    ledger = RedisLedger(client, META.keys).read(users)
    spent = used(ledger, len(users), len(META.channels), NOW + 3600)
    outboxes: list[Any] = [client.xrange(META.keys.of_shard(Keys.OUTBOX, shard)) for shard in range(META.shards)]
    enqueued = [_grant_id(fields) for entries in outboxes for _, fields in entries]
    granted = set(ledger.grant_id.tolist())
    return {
        "overspent": int(np.sum(spent > BUDGET)),
        "granted": len(ledger),
        "granted_not_enqueued": len(granted - set(enqueued)),
        "enqueued_not_granted": len(set(enqueued) - granted),
        "enqueued_twice": len(enqueued) - len(set(enqueued)),
    }


def _grant_id(fields: dict[bytes, bytes]) -> int:
    return int(Message.unpack(fields[FIELD.encode()]).grant_id, 16)


def crowd(task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Run `task(start, *arguments)` in one process each, all past `start()` at once, and return what they return.

    Raises RuntimeError where one of them failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    barrier = context.Barrier(len(arguments))
    members = []
    for given in arguments:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_member, args=(task, given, barrier, sender))
        process.start()
        sender.close()
        members.append((process, receiver))
    results = [_received(receiver) for _, receiver in members]
    for process, _ in members:
        process.join()
    return results


def _member(task: Callable[..., Any], given: tuple[Any, ...], barrier: Barrier, sender: Connection) -> None:
    sender.send(task(lambda: barrier.wait(START_TIMEOUT_S), *given))


def _received(receiver: Connection) -> Any:
    try:
        return receiver.recv()
    except EOFError as error:
        raise RuntimeError("a process of the bench failed; its error is printed above") from error
