"""Metrics count, and name nobody: their tags come from short lists of our own words."""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.meta import CHANNELS
from lake.metrics import COUNTERS, GAUGES, HISTOGRAMS, MOST_TAG_CHARS, TAGS, MemoryMetrics, checked

ROOMS = ("lake", "ranking", "budgets", "delivery", "scheduler", "gateway", "simulation", "tidings")
ROOT = Path(__file__).parents[3]


def test_every_metric_has_only_tags_that_say_what_and_never_who() -> None:
    declared = {tag for metrics in (COUNTERS, GAUGES, HISTOGRAMS) for metric in metrics.values() for tag in metric.tags}
    assert declared <= TAGS
    assert TAGS.isdisjoint({"user", "user_id", "address", "email", "title", "text", "item", "item_id", "topic", "path", "url"})


def _records() -> Iterator[tuple[str, ast.Call]]:
    files = [ROOT / "serve_app.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("count", "gauge", "observe")
                and node.args
            ):
                first = node.args[0]
                if isinstance(first, ast.Constant) and str(first.value).startswith("tidings_"):
                    yield f"{path.name}:{node.lineno}", node


def test_whoever_records_gives_a_metric_the_tags_it_declares() -> None:
    known = {str(name): metric for metrics in (COUNTERS, GAUGES, HISTOGRAMS) for name, metric in metrics.items()}
    found = list(_records())
    assert len(found) >= 5
    for where, call in found:
        name = str(ast.literal_eval(call.args[0]))
        assert {keyword.arg for keyword in call.keywords} == set(known[name].tags), where


@pytest.mark.parametrize("value", [*CHANNELS, "scheduled", "urgent", "accepted", "suppressed", "429", "503"])
def test_our_own_words_pass(value: str) -> None:
    assert checked({"channel": value}) == {"channel": value}


@given(
    st.one_of(
        st.emails(),
        st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True),
        st.from_regex(r"https://hook\.example/[a-z]{3,9}", fullmatch=True),
        st.text(string.ascii_letters, min_size=2, max_size=8).map(lambda word: f"Hello {word}"),
        st.text(string.ascii_letters + string.digits, min_size=MOST_TAG_CHARS + 1, max_size=200),
    )
)
def test_an_address_and_a_text_become_other(value: str) -> None:
    assert checked({"channel": value}) == {"channel": "other"}
    metrics = MemoryMetrics()
    metrics.count("tidings_outcomes_total", 1, channel=value, outcome="accepted")
    assert list(metrics.counters) == [("tidings_outcomes_total", (("channel", "other"), ("outcome", "accepted")))]


def test_a_tag_that_is_none_of_ours_is_dropped() -> None:
    assert checked({"user_id": "ada", "lane": "urgent"}) == {"lane": "urgent"}
