"""What every store of thresholds promises: by channel, and of users' own by shard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from redis import Redis

from lake.ids import hash64, shards_of
from lake.keys import Keys
from scheduler.redis_thresholds import RedisThresholds
from scheduler.thresholds import FRESH_S, MemoryThresholds, OwnThresholds, Thresholds

NOW = 1_700_000_000.0
SHARDS = 4
USERS = [f"user{number}" for number in range(40)]

Open = Callable[[], Thresholds]


@pytest.fixture(params=["memory", "redis"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens the store as another process would."""
    if request.param == "memory":
        kept = MemoryThresholds()
        return lambda: kept
    client: Redis = request.getfixturevalue("redis_client")
    return lambda: RedisThresholds(client, Keys(SHARDS))


def of_shard(shard: int) -> list[str]:
    return [user for user, of in zip(USERS, shards_of(USERS, SHARDS).tolist(), strict=True) if of == shard]


def table_of(users: list[str], shift: float = 0.0) -> OwnThresholds:
    """Return a table of two channels in which each user's threshold is their number; they have none of the second."""
    own = np.array([[int(user.removeprefix("user")) + shift, np.nan] for user in users], np.float32)
    return OwnThresholds.of(users, own)


def test_thresholds_of_channels_are_replaced_as_a_whole(opened: Open) -> None:
    opened().write({"email": 0.25, "in_app": 1 / 3})
    assert opened().read() == {"email": 0.25, "in_app": 1 / 3}
    opened().write({"email": 0.5})
    assert opened().read() == {"email": 0.5}


def test_nobody_has_a_threshold_of_their_own_before_one_is_written(opened: Open) -> None:
    assert opened().own(USERS, shards_of(USERS, SHARDS), NOW) is None
    assert opened().own([], shards_of([], SHARDS), NOW) is None
    assert opened().state(0) == b""


def test_users_of_several_shards_find_their_own_in_any_order_and_strangers_have_none(opened: Open) -> None:
    for shard in (0, 2):
        opened().write_own(shard, table_of(of_shard(shard)), b"state of %d" % shard)
    asked = [*reversed(USERS), "a stranger"]
    own = opened().own(asked, shards_of(asked, SHARDS), NOW)
    assert own is not None
    assert own.shape == (len(asked), 2)
    written = np.isin(shards_of(asked[:-1], SHARDS), (0, 2))
    numbers = np.arange(len(USERS))[::-1]
    assert np.array_equal(own[:-1, 0], np.where(written, numbers, np.nan), equal_nan=True)
    assert np.isnan(own[:, 1]).all()
    assert np.isnan(own[-1]).all()
    assert [opened().state(shard) for shard in range(SHARDS)] == [b"state of 0", b"", b"state of 2", b""]


def test_what_another_process_writes_is_seen_a_minute_later(opened: Open) -> None:
    reader, users = opened(), of_shard(1)
    opened().write_own(1, table_of(users))
    assert reader.own(users, shards_of(users, SHARDS), NOW) is not None
    opened().write_own(1, table_of(users, 0.5), b"later")
    after = reader.own(users, shards_of(users, SHARDS), NOW + FRESH_S)
    assert after is not None
    assert after[:, 0].tolist() == table_of(users, 0.5).find(hash64(users))[:, 0].tolist()
    assert reader.state(1) == b"later"


def test_a_revision_replaces_thresholds_and_state_together_and_makes_nothing_of_nothing(opened: Open) -> None:
    users = of_shard(3)
    opened().write_own(3, table_of(users), b"one")
    for shard in (0, 3):
        opened().revise_own(shard, lambda table, state: (table.without(hash64(users[:1])), state + b"+"))
    own = opened().own(users, shards_of(users, SHARDS), NOW)
    assert own is not None
    assert np.isnan(own[0]).all()
    assert not np.isnan(own[1:, 0]).any()
    assert opened().state(3) == b"one+"
    assert opened().state(0) == b""


def test_a_revision_is_made_again_where_another_process_has_written_meanwhile(redis_client: Redis) -> None:
    mine, other, users = RedisThresholds(redis_client, Keys(SHARDS)), RedisThresholds(redis_client, Keys(SHARDS)), of_shard(3)
    mine.write_own(3, table_of(users), b"first")
    seen: list[bytes] = []

    def revise(table: OwnThresholds, state: bytes) -> tuple[OwnThresholds, bytes]:
        seen.append(state)
        if len(seen) == 1:
            other.write_own(3, table_of(users, 0.5), b"second")
        return table, state + b", revised"

    mine.revise_own(3, revise)
    assert seen == [b"first", b"second"]
    assert mine.state(3) == b"second, revised"
    own = mine.own(users, shards_of(users, SHARDS), NOW)
    assert own is not None
    assert np.array_equal(own[:, 0], table_of(users, 0.5).find(hash64(users))[:, 0])
