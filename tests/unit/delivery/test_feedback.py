"""Events that come back change what they should, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from delivery.feedback import UNDELIVERABLE, Effects, EventRow, Feedback, FeedbackCounts, MemoryEventLog, Sink, drain_events, opened_grants
from delivery.links import LinkToken
from delivery.suppression import MemorySuppressionStore, Suppression
from lake.history import History
from lake.ids import shard_of
from lake.kinds import NO_ENGAGEMENT
from lake.meta import Meta
from lake.profiles import MemoryProfileStore, blank
from ranking.labels import LabelRule
from tests.unit.delivery.examples import NOW

META = Meta(shards=2)


@dataclass
class Seen:
    """The rows each effect got."""

    engagement: list[EventRow] = field(default_factory=list)
    opened: list[EventRow] = field(default_factory=list)

    def __post_init__(self) -> None:
        profiles = MemoryProfileStore()
        profiles.put(["ada"], blank(1))
        self.suppression = Suppression(MemorySuppressionStore(), profiles, META)
        effects = Effects(self.engagement.extend, self.opened.extend)
        self.feedback = Feedback(MemoryEventLog(META.shards), self.suppression, effects)


def an_event(kind: str, **more: object) -> EventRow:
    return {"user_id": "ada", "kind": kind, "at": NOW} | more


def test_events_reach_what_they_change() -> None:
    seen = Seen()
    rows = [an_event("visit"), an_event("like", item_id="i1"), an_event("open", item_id="i1", send_id="00000000000000aa")]
    assert seen.feedback.accept(rows, NOW) == FeedbackCounts(accepted=3, duplicates=0, unsubscribed=0)
    assert seen.engagement == rows[1:]
    assert seen.opened == rows[2:]


def test_what_counts_as_engagement_live_is_what_counts_where_features_and_labels_are_computed_from_the_log() -> None:
    seen = Seen()
    kinds = ["visit", "view", "open", "like", "anything else", *sorted(NO_ENGAGEMENT - UNDELIVERABLE.keys())]
    seen.feedback.accept([an_event(kind, item_id="i1") for kind in kinds], NOW)
    counts = LabelRule().is_engagement(np.array(kinds, object))
    assert [row["kind"] for row in seen.engagement] == [kind for kind, counted in zip(kinds, counts, strict=True) if counted]


def test_a_retry_changes_nothing() -> None:
    seen = Seen()
    row = an_event("like", item_id="i1", event_id="e1")
    seen.feedback.accept([row, row], NOW)
    assert seen.feedback.accept([row], NOW) == FeedbackCounts(accepted=0, duplicates=1, unsubscribed=0)
    assert seen.engagement == [row]


def test_an_unsubscribe_event_suppresses() -> None:
    seen = Seen()
    assert seen.feedback.accept([an_event("unsubscribe", channel="email")], NOW).unsubscribed == 1
    assert set(seen.suppression.records("ada")) == {"email"}
    assert seen.engagement == seen.opened == []
    seen.feedback.accept([an_event("unsubscribe")], NOW)
    assert set(seen.suppression.records("ada")) == set(META.channels)


def test_an_unknown_channel_is_refused_before_anything_changes() -> None:
    seen = Seen()
    with pytest.raises(ValueError, match="pigeon"):
        seen.feedback.accept([an_event("visit"), an_event("unsubscribe", channel="email"), an_event("unsubscribe", channel="pigeon")], NOW)
    assert (seen.opened, seen.suppression.records("ada")) == ([], {})


def test_a_followed_link_counts_once() -> None:
    seen = Seen()
    link = LinkToken("click", "ada", "email", "00000000000000aa", "https://t.example", "i1")
    assert seen.feedback.accept_link(link, NOW).accepted == 1
    assert seen.feedback.accept_link(link, NOW + 9).duplicates == 1
    ((row,), (opened,)) = (seen.engagement, seen.opened)
    assert row == opened
    assert (row["kind"], row["item_id"], row["send_id"], row["channel"]) == ("click", "i1", "00000000000000aa", "email")


def test_each_item_of_a_digest_is_clicked_by_itself() -> None:
    seen = Seen()
    for item_id in ("i1", "i2", "i1"):
        link = LinkToken("click", "ada", "email", "00000000000000aa", "https://t.example", item_id)
        seen.feedback.accept_link(link, NOW)
    assert [row["item_id"] for row in seen.engagement] == ["i1", "i2"]


def test_an_unsubscribe_link_works_again_after_resubscribing() -> None:
    seen = Seen()
    link = LinkToken("unsubscribe", "ada", "email", "00000000000000aa")
    seen.feedback.accept_link(link, NOW)
    seen.suppression.resubscribe("ada", "email")
    assert seen.feedback.accept_link(link, NOW).duplicates == 1
    assert seen.suppression.records("ada")["email"].source == "link"


def filing(history: History) -> Sink:
    return lambda frame, shard, first, last: history.file("events", frame, at="at", shard=shard, first=first, last=last)


def test_of_two_that_file_the_same_events_the_slower_one_takes_none_away(tmp_path: Path) -> None:
    log, history = MemoryEventLog(META.shards), History(str(tmp_path))
    shard = shard_of(an_event("visit")["user_id"], META.shards)
    log.append([an_event("visit"), an_event("view")], "t", NOW)

    def while_another_files_more(frame: pd.DataFrame, shard: int, first: str, last: str) -> None:
        log.append([an_event("open")], "u", NOW)
        assert drain_events(log, shard, filing(history)) == 3
        filing(history)(frame, shard, first, last)

    assert drain_events(log, shard, while_another_files_more) == 2
    assert history.read("events", NOW - 1, NOW + 1)["kind"].tolist() == ["visit", "view", "open"]


def test_events_whose_further_columns_mix_kinds_are_filed_all_the_same(tmp_path: Path) -> None:
    log, history = MemoryEventLog(META.shards), History(str(tmp_path))
    rows = [an_event("visit", x=value) for value in ("a", 1, [1, "b"], None)]
    log.append(rows, "t", NOW)
    shard = shard_of(rows[0]["user_id"], META.shards)
    assert drain_events(log, shard, filing(history)) == 4
    assert history.read("events", NOW - 1, NOW + 1)["x"].tolist()[:3] == ['"a"', "1", '[1,"b"]']


def test_opened_grants_are_the_ledgers_numbers() -> None:
    rows = [an_event("open", send_id="00000000000000ff"), an_event("open", send_id="not one"), an_event("open")]
    users, grants = opened_grants(rows)
    assert (users, grants.tolist()) == (["ada"], [255])
