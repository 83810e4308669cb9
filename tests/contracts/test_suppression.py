"""What every suppression list promises: who unsubscribed is not written to, and one can see why."""

from __future__ import annotations

from typing import cast

import pytest
from redis import Redis

from delivery.redis_suppression import RedisSuppressionStore
from delivery.suppression import MemorySuppressionStore, Suppressed, Suppression, SuppressionStore
from lake.keys import Keys
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, ProfileStore, blank
from lake.redis_profiles import RedisProfileStore

META = Meta(shards=4)
EMAIL, PUSH = (1 << META.channels.index(name) for name in ("email", "push"))


@pytest.fixture(params=["memory", "redis"])
def suppression(request: pytest.FixtureRequest) -> Suppression:
    store: SuppressionStore
    profiles: ProfileStore
    if request.param == "memory":
        store, profiles = MemorySuppressionStore(), MemoryProfileStore()
    else:
        client = cast(Redis, request.getfixturevalue("redis_client"))
        store, profiles = RedisSuppressionStore(client, Keys(4)), RedisProfileStore(client, Keys(4))
    profiles.put(["ada", "bob"], blank(2))
    return Suppression(store, profiles, META)


def bits(suppression: Suppression, user_id: str = "ada") -> int:
    return int(suppression.profiles.get([user_id])["suppressed"][0])


def test_unsubscribing_from_a_channel_stops_that_channel_only(suppression: Suppression) -> None:
    suppression.unsubscribe("ada", "email", "link", 5.0)
    assert bits(suppression) == EMAIL
    assert bits(suppression, "bob") == 0
    assert suppression.records("ada") == {"email": Suppressed("unsubscribed", "link", 5.0)}


def test_unsubscribing_from_everything_stops_every_channel(suppression: Suppression) -> None:
    suppression.unsubscribe("ada", None, "event", 5.0)
    assert bits(suppression) == (1 << len(META.channels)) - 1


def test_the_first_record_stays(suppression: Suppression) -> None:
    suppression.unsubscribe("ada", "email", "link", 5.0)
    suppression.unsubscribe("ada", "email", "event", 9.0, "complained")
    assert suppression.records("ada")["email"] == Suppressed("unsubscribed", "link", 5.0)


def test_resubscribing_lifts_it(suppression: Suppression) -> None:
    suppression.unsubscribe("ada", "email", "link", 5.0)
    suppression.unsubscribe("ada", "push", "link", 5.0)
    suppression.resubscribe("ada", "email")
    assert bits(suppression) == PUSH
    assert set(suppression.records("ada")) == {"push"}
    suppression.resubscribe("ada", None)
    assert (bits(suppression), suppression.records("ada")) == (0, {})


def test_the_bits_can_be_made_again_from_the_records(suppression: Suppression) -> None:
    suppression.unsubscribe("ada", "email", "link", 5.0)
    suppression.unsubscribe("ada", "push", "link", 5.0)
    assert suppression.masks(["ada", "bob"]).tolist() == [EMAIL | PUSH, 0]


def test_an_unknown_channel_is_named(suppression: Suppression) -> None:
    with pytest.raises(ValueError, match="unknown channel 'pigeon'"):
        suppression.unsubscribe("ada", "pigeon", "link", 5.0)


def test_an_address_is_suppressed_however_it_is_written(suppression: Suppression) -> None:
    suppression.suppress_address("email", "Ada@Example.org", "bounced", "smtp", 5.0)
    written = ["ada@example.org", " ADA@EXAMPLE.ORG ", "bob@example.org", "ada@example.org"]
    assert suppression.addresses_suppressed(["email", "email", "email", "push"], written).tolist() == [True, True, False, False]
    suppression.allow_address("email", "ada@example.org")
    assert suppression.addresses_suppressed(["email"], ["ada@example.org"]).tolist() == [False]


def test_no_addresses_are_no_question(suppression: Suppression) -> None:
    assert suppression.addresses_suppressed([], []).tolist() == []


def test_the_store_never_holds_an_address(redis_client: Redis) -> None:
    suppression = Suppression(RedisSuppressionStore(redis_client, Keys(4)), MemoryProfileStore(), META)
    suppression.suppress_address("email", "ada@example.org", "bounced", "smtp", 5.0)
    (key,) = redis_client.keys("*")
    assert "ada" not in f"{key!r} {redis_client.get(key)!r}"


def test_the_suppressions_of_somebody_erased_stay_without_their_name(suppression: Suppression) -> None:
    suppression.unsubscribe("ada", "email", "ada's own words", 5.0)
    suppression.unsubscribe("ada", "push", "provider", 6.0, "550 ada@example.org: no")
    assert suppression.store.forget_name("ada") == 2
    kept = {"email": Suppressed("unsubscribed", "erased", 5.0), "push": Suppressed("suppressed", "erased", 6.0)}
    assert suppression.records("ada") == kept
    assert suppression.masks(["ada"]).tolist() == [EMAIL | PUSH]
    suppression.unsubscribe("ada", "sms", "link", 7.0)
    assert suppression.store.forget_name("ada") == 3
    assert suppression.records("ada") == kept | {"sms": Suppressed("unsubscribed", "erased", 7.0)}
    suppression.resubscribe("ada", None)
    assert suppression.records("ada") == {}


def test_what_a_provider_says_of_an_address_is_kept_without_it(redis_client: Redis) -> None:
    suppression = Suppression(RedisSuppressionStore(redis_client, Keys(4)), MemoryProfileStore(), META)
    for channel, address in (("email", "ada@example.org"), ("sms", "+4915112345678"), ("push", "ada-device")):
        suppression.suppress_address(channel, address, f"550 <{address}>: no such user", channel, 5.0)
    kept = [redis_client.get(name) or b"" for name in redis_client.keys("*")]
    assert all(b"no such user" in value and b"ada" not in value and b"4915" not in value for value in kept)
