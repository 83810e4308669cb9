"""The bytes of a ledger and the arithmetic of the rolling week."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from budgets.ledger import (
    CRITICAL,
    DIGESTED,
    ENTRY,
    HEADER,
    MAGIC,
    MAX_ENTRIES,
    NO_WINDOW,
    OPENED,
    ROLLING_S,
    UPDATED,
    WINDOWS_KEPT,
    Account,
    Grant,
    LedgerColumns,
    parse,
    used,
)

NOW = 1_700_000_000.0
ROOT = Path(__file__).parents[3]
SCRIPTS = (ROOT / "scheduler/lua/commit.lua", ROOT / "budgets/lua/ledger.lua")


def packed(grants: list[Grant]) -> bytes:
    entries = np.zeros(len(grants), ENTRY)
    for name in ("at", "channel", "flags", "version", "grant_id", "entity", "decision"):
        entries[name] = [getattr(grant, name) for grant in grants]
    return np.array([(MAGIC, [NO_WINDOW] * WINDOWS_KEPT)], HEADER).tobytes() + entries.tobytes()


def grant(number: int, *, at: float = NOW, flags: int = 0) -> Grant:
    return Grant(at=at, channel=0, version=1, grant_id=number, entity=number, decision=7, flags=flags)


grants = st.builds(
    Grant,
    at=st.floats(NOW - 2 * ROLLING_S, NOW + 60),
    channel=st.integers(0, 3),
    version=st.integers(0, 2**32 - 1),
    grant_id=st.integers(1, 2**64 - 1),
    entity=st.integers(1, 2**64 - 1),
    decision=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 7),
)


@given(st.lists(st.one_of(st.none(), st.just(b""), st.lists(grants, max_size=5)), max_size=8))
def test_parsing_gives_back_every_grant_of_every_user(accounts: list[list[Grant] | bytes | None]) -> None:
    ledger = parse([packed(account) if isinstance(account, list) else account for account in accounts])
    expected = [(code, one) for code, account in enumerate(accounts) if isinstance(account, list) for one in account]
    rows = zip(*(getattr(ledger, name).tolist() for name in LedgerColumns.__dataclass_fields__), strict=True)
    assert list(rows) == [
        (code, one.at, one.grant_id, one.entity, one.version, one.channel, one.flags, one.decision) for code, one in expected
    ]


@given(st.lists(st.lists(grants, max_size=12), min_size=1, max_size=4), st.floats(NOW - ROLLING_S, NOW + 60))
def test_units_are_counted_as_one_by_one(accounts: list[list[Grant]], now: float) -> None:
    counted = used(parse([packed(account) for account in accounts]), len(accounts), 4, now)
    assert counted.dtype == np.int16
    assert counted.tolist() == [[Account(account).used(channel, now) for channel in range(4)] for account in accounts]


def test_a_grant_counts_for_seven_days_to_the_second() -> None:
    ledger = parse([packed([grant(1)])])
    ages = [0.0, 1.0, ROLLING_S - 1, ROLLING_S, ROLLING_S + 1]
    assert [int(used(ledger, 1, 1, NOW + age)[0, 0]) for age in ages] == [1, 1, 1, 1, 0]


def test_critical_grants_count_for_nothing() -> None:
    ledger = parse([packed([grant(1, flags=CRITICAL), grant(2, flags=OPENED | UPDATED)])])
    assert used(ledger, 1, 1, NOW).tolist() == [[1]]


@pytest.mark.parametrize(("bad", "message"), [(b"x" * 35, "whole number"), (b"x" * 72, "header")])
def test_what_is_no_ledger_is_refused_by_its_place(bad: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"ledger 2 .*{message}"):
        parse([None, packed([grant(1)]), bad])


def test_a_ledger_forgets_its_oldest_grants_only_when_they_no_longer_count() -> None:
    many = [grant(number + 1, at=NOW - 8 * 86400 + number) for number in range(MAX_ENTRIES + 10)]
    account = Account(list(many))
    account.prune(NOW)
    assert account.grants == many[10:]
    account = Account([grant(number + 1) for number in range(MAX_ENTRIES + 10)])
    account.prune(NOW)
    assert len(account.grants) == MAX_ENTRIES + 10


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_know_where_the_fields_of_a_record_are(script: Path) -> None:
    source = script.read_text()
    assert ENTRY.fields is not None
    places = {name.upper(): ENTRY.fields[name][1] for name in ("grant_id", "entity", "flags")}
    known = {"RECORD": ENTRY.itemsize, "OPENED": OPENED, "CRITICAL": CRITICAL, "UPDATED": UPDATED, "DIGESTED": DIGESTED, **places}
    for names, values in re.findall(r"^local ([A-Z_, ]+) = ([0-9, ]+)", source, re.MULTILINE):
        pairs = dict(zip(names.split(", "), map(int, values.split(", ")), strict=True))
        assert pairs == {name: known[name] for name in pairs}
    assert ENTRY.itemsize == HEADER.itemsize
    assert MAGIC.to_bytes(4, "little") == b"LDT1"
