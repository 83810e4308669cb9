"""When to try again: exponentially later each time, with jitter, and never before the provider asked."""

from __future__ import annotations

from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, wait_random_exponential


@dataclass(frozen=True)
class Backoff:
    """`max_attempts`: provider calls before giving up. Waits double from `first_s` to `longest_s`; these add up to about 3 hours."""

    max_attempts: int = 12
    first_s: float = 10.0
    longest_s: float = 3600.0

    def wait_s(self, attempts: int, retry_after_s: float | None) -> float:
        """Return the seconds to wait after so many attempts, at least what the provider asked for.

        Half of the exponential wait is fixed and half random ("equal jitter"): waits spread, and none is near zero.
        """
        longest_s: float = min(self.longest_s, self.first_s * 2.0 ** min(attempts - 1, 60))
        jitter_s = float(wait_random_exponential(multiplier=self.first_s / 2, max=self.longest_s / 2)(_after(attempts)))
        asked_s = retry_after_s or 0.0
        return max(longest_s / 2 + jitter_s, asked_s)


def _after(attempts: int) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempts
    return state
