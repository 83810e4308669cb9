"""What the store's client raises where the store does not answer."""

from __future__ import annotations

from redis.exceptions import ConnectionError as StoreAwayError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as StoreSlowError

STORE_AWAY: tuple[type[Exception], ...] = (StoreAwayError, StoreSlowError, ReadOnlyError)
"""For Services.away_errors; a store that has lost its primary answers, but takes no writes."""
