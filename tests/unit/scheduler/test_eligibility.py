"""Eligibility: each rule drops what it should with its own reason, the first rule that applies names it, and a loop agrees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.decisions import DISPOSITIONS, PENDING, REASONS, Candidates
from lake.ids import hash64
from lake.items import Items
from lake.key_lists import KeyLists
from lake.profiles import KNOWN, blank
from scheduler.eligibility import MAX_SKEW_S, Facts, Sent, eligible

NOW = 1_700_000_000.0
IN_APP, EMAIL = 0, 1
ADDRESSLESS = np.array([IN_APP], np.uint8)


@dataclass(frozen=True)
class Case:
    """One row about one user and one item, and what is known about them. `sent`: versions of the item's entity."""

    item: dict[str, Any] | None
    channel: int = IN_APP
    known: bool = True
    suppressed: int = 0
    addressed: int = 0
    allowed: bool = True
    sent: tuple[int, ...] = ()
    seen: bool = False


PLAIN = Case({"item_id": "i", "created_at": NOW - 60, "author_id": "eve"})


def judged(*cases: Case) -> list[tuple[str, str]]:
    """Return (disposition or "", reason) of each case, all judged together; case n is user `u<n>`'s row about item `i<n>`."""
    n = len(cases)
    rows = [{**case.item, "item_id": f"i{k}"} for k, case in enumerate(cases) if case.item is not None]
    places = np.cumsum([case.item is not None for case in cases]) - 1
    profiles = blank(n)
    profiles["flags"] = [KNOWN if case.known else 0 for case in cases]
    profiles["suppressed"], profiles["addressed"] = [case.suppressed for case in cases], [case.addressed for case in cases]
    entity = hash64([(case.item or {}).get("entity_id") or f"i{k}" for k, case in enumerate(cases)])
    grants = [(k, entity[k], version) for k, case in enumerate(cases) for version in case.sent]
    facts = Facts(
        items=Items.from_rows(rows),
        item_row=np.array([place if case.item is not None else -1 for place, case in zip(places, cases, strict=True)], np.int32),
        profiles=profiles,
        allowed=np.array([case.allowed for case in cases], bool),
        sent=Sent(
            np.array([user for user, _, _ in grants], np.int32),
            np.array([key for _, key, _ in grants], np.uint64),
            np.array([version for _, _, version in grants], np.uint32),
        ),
        seen=KeyLists.from_packed([hash64([f"i{k}"]).tobytes() if case.seen else None for k, case in enumerate(cases)]),
    )
    codes = np.arange(n, dtype=np.int32)
    channel = np.array([case.channel for case in cases], np.uint8)
    nothing = np.zeros(n, np.uint8)
    names = [f"u{k}" for k in range(n)], [f"i{k}" for k in range(n)]
    candidates = Candidates(*names, codes, codes, channel, nothing, ("s",), np.zeros(n, np.int32))
    disposition, reason = eligible(candidates, facts, ADDRESSLESS, NOW)
    named = ["" if code == PENDING else DISPOSITIONS[code] for code in disposition.tolist()]
    return list(zip(named, (REASONS[code] for code in reason.tolist()), strict=True))


def item(**more: Any) -> dict[str, Any]:
    return {"created_at": NOW - 60, "author_id": "eve", **more}


RULES = {
    "nothing stands against it": (PLAIN, ("", "")),
    "an unknown user": (replace(PLAIN, known=False), ("ineligible", "unknown_user")),
    "an unknown item": (replace(PLAIN, item=None), ("ineligible", "unknown_item")),
    "an item of the future": (replace(PLAIN, item=item(created_at=NOW + MAX_SKEW_S + 1)), ("ineligible", "in_future")),
    "an item of a clock a little ahead": (replace(PLAIN, item=item(created_at=NOW + MAX_SKEW_S)), ("", "")),
    "an item that is over": (replace(PLAIN, item=item(expires_at=NOW)), ("expired", "item_expired")),
    "an item almost over": (replace(PLAIN, item=item(expires_at=NOW + 0.001)), ("", "")),
    "one's own item": (replace(PLAIN, item=item(author_id="u0")), ("ineligible", "author_is_recipient")),
    "an unsubscribed channel": (replace(PLAIN, suppressed=1 << IN_APP), ("suppressed", "unsubscribed")),
    "another channel unsubscribed": (replace(PLAIN, suppressed=1 << EMAIL), ("", "")),
    "a preference against it": (replace(PLAIN, allowed=False), ("ineligible", "preference")),
    "no address": (replace(PLAIN, channel=EMAIL), ("ineligible", "no_address")),
    "an address": (replace(PLAIN, channel=EMAIL, addressed=1 << EMAIL), ("", "")),
    "sent before": (replace(PLAIN, sent=(0,)), ("duplicate", "already_sent")),
    "an older version sent": (replace(PLAIN, item=item(version=3), sent=(1, 2)), ("", "")),
    "a newer version sent": (replace(PLAIN, item=item(version=3), sent=(5, 1)), ("duplicate", "already_sent")),
    "read before": (replace(PLAIN, seen=True), ("ineligible", "already_engaged")),
}


@pytest.mark.parametrize(("case", "expected"), RULES.values(), ids=RULES)
def test_each_rule_drops_what_it_should(case: Case, expected: tuple[str, str]) -> None:
    assert judged(case) == [expected]


def test_rows_judged_together_are_judged_as_if_alone() -> None:
    cases = [case for case, _ in RULES.values() if (case.item or {}).get("author_id") != "u0"]
    assert judged(*cases) == [judged(case)[0] for case in cases]


def test_no_rows_are_judged_in_peace() -> None:
    assert judged() == []


def loop(case: Case, user: str) -> tuple[str, str]:
    """The rules once more, for one row, in words."""
    row = case.item or {}
    if not case.known:
        return "ineligible", "unknown_user"
    if case.item is None:
        return "ineligible", "unknown_item"
    if row["created_at"] > NOW + MAX_SKEW_S:
        return "ineligible", "in_future"
    if row.get("expires_at", np.inf) <= NOW:
        return "expired", "item_expired"
    if row.get("author_id") == user:
        return "ineligible", "author_is_recipient"
    if case.suppressed >> case.channel & 1:
        return "suppressed", "unsubscribed"
    if not case.allowed:
        return "ineligible", "preference"
    if case.channel != IN_APP and not case.addressed >> case.channel & 1:
        return "ineligible", "no_address"
    if case.sent and row.get("version", 0) <= max(case.sent):
        return "duplicate", "already_sent"
    return ("ineligible", "already_engaged") if case.seen else ("", "")


some_items = st.fixed_dictionaries(
    {"created_at": st.sampled_from([NOW - 60, NOW + 200, NOW + 400]), "author_id": st.sampled_from(["u0", "u1", "eve"])},
    optional={"expires_at": st.sampled_from([NOW - 1, NOW + 60]), "version": st.integers(0, 3), "entity_id": st.sampled_from("ab")},
)
some_cases = st.builds(
    Case,
    item=st.none() | some_items,
    channel=st.sampled_from([IN_APP, EMAIL]),
    known=st.booleans(),
    suppressed=st.integers(0, 3),
    addressed=st.integers(0, 3),
    allowed=st.booleans(),
    sent=st.lists(st.integers(0, 3), max_size=2).map(tuple),
    seen=st.booleans(),
)


@given(st.lists(some_cases, max_size=8))
def test_any_rows_are_judged_as_the_rules_say_in_words(cases: list[Case]) -> None:
    assert judged(*cases) == [loop(case, f"u{k}") for k, case in enumerate(cases)]
