"""The bench of an outage sees every urgent message delivered while e-mail's provider is silent, and no e-mail."""

from __future__ import annotations

from tidings.bench_outage import Outage, Seen, span


def test_while_the_provider_is_silent_all_that_was_granted_is_delivered_and_no_email() -> None:
    seen = Seen()
    span(Outage(emails=40, users=20, audience=4, span_s=0.5), "silent", seen)
    assert len(seen.decided_ms) > 0
    assert seen.granted == len(seen.delivered_ms) == 4 * len(seen.decided_ms)
    assert (seen.emails, seen.figures()["accepted"]) == (0, seen.granted)
