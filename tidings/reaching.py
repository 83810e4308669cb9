"""How commands reach the store, and what they say where it does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.redis_faults import STORE_AWAY
from lake.redaction import without_password
from tidings.console import fail
from tidings.home import store_url


@contextmanager
def reachable() -> Iterator[str]:
    """Yield the URL of the store to talk to; where it does not answer meanwhile, say so and leave with 1. Raises InputError without one."""
    url = store_url()
    try:
        yield url
    except STORE_AWAY as error:
        fail(f"the store at {without_password(url)} does not answer: {error}", code=1)
