"""A challenger scores a bounded share of live rows with the features they were scored with, and is judged by what happened later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lake.history import History
from lake.items import ItemTable, MemoryItemStore
from lake.user_keys import MemoryUserKeys, keyed
from ranking import shadow
from ranking.chunks import merge
from ranking.labels import LabelRule
from ranking.scorer import Job, Scorer, ScoreRequest
from ranking.shadow import Allowance, HistoryShadowLog, ShadowRule
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import bundle_of

AT = 1_700_000_000.0
DAY_S = 86400.0


def request(seed: int, users: int, each: int) -> ScoreRequest:
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(users), each).astype(np.int32)
    item = random.integers(0, 7, users * each).astype(np.int32)
    names = [f"u{seed}-{i}" for i in range(users)]
    return ScoreRequest(names, [f"i{i}" for i in range(7)], user, item, np.ones(users * each, np.uint8), ("in_app", "email"), AT + seed)


def scorer(seed: int = 0) -> Scorer:
    items = MemoryItemStore()
    items.put([{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": "u1", "topics": ["a"]} for i in range(5)])
    features = MemoryFeatureStore()
    features.record_engagements(["i1", "i2"], ["u1", "u2"], [AT - 60, AT - 50])
    return Scorer(bundle_of(seed), features, ItemTable(items))


def done(requests: list[ScoreRequest]) -> Job:
    job = scorer().prepare(merge(requests))
    for chunk in job.chunks():
        job.run(chunk)
    return job


def test_a_sample_holds_all_rows_of_some_users_of_one_request_with_what_each_model_says_of_them() -> None:
    requests = [request(0, 4, 3), request(1, 30, 5)]
    job, challenger, other = done(requests), bundle_of(1), scorer(1)
    for draw in range(8):
        sample = shadow.sample_of(job, requests, 20, np.random.default_rng(draw))
        assert sample is not None
        frame, asked = shadow.scored(sample, challenger), sample.request
        assert (frame.groupby("user_id").size() == len(asked) // len(asked.users)).all()
        assert len(frame) <= 20
        for row in frame.itertuples():
            one, channel = np.zeros(1, np.int32), np.ones(1, np.uint8)
            alone = [
                s.score([str(row.user_id)], [str(row.item_id)], one, one, channel, asked.channels, float(asked.at))
                for s in (scorer(), other)
            ]
            assert [row.serving, row.challenger] == [float(each.probability[0]) for each in alone]
        assert set(frame["serving_id"]) == {bundle_of(0).model_id}
        assert set(frame["challenger_id"]) == {challenger.model_id}


def test_a_request_without_rows_gives_no_sample() -> None:
    assert shadow.sample_of(done([request(0, 0, 1)]), [request(0, 0, 1)], 20, np.random.default_rng(0)) is None


@given(st.lists(st.tuples(st.floats(0, 0.1), st.floats(0, 0.05), st.integers(1, 300)), min_size=1, max_size=60))
def test_the_challenger_never_costs_more_than_its_share_and_one_sample_however_long_samples_take(
    turns: list[tuple[float, float, int]],
) -> None:
    rule = ShadowRule(cost_share=0.1, rows_per_s=10, burst_rows=500)
    allowance, now_s, longest_s, sampled = Allowance(rule), 0.0, 0.0, 0
    for live_s, sample_s, rows in turns:
        now_s += live_s
        allowance.earn(live_s, now_s)
        if allowance.is_left:
            taken = min(rows, int(allowance.rows))
            allowance.spend(sample_s, taken)
            longest_s, sampled = max(longest_s, sample_s), sampled + taken
    assert allowance.spent_s <= rule.cost_share * allowance.live_s + longest_s + 1e-9
    assert sampled <= rule.burst_rows + rule.rows_per_s * now_s + 1e-6


def test_the_log_holds_no_user_id_and_is_read_back_by_the_two_models(tmp_path: Path) -> None:
    history, user_keys = History(str(tmp_path)), MemoryUserKeys()
    log, requests = HistoryShadowLog(history, user_keys), [request(0, 10, 3)]
    sample = shadow.sample_of(done(requests), requests, 9, np.random.default_rng(0))
    assert sample is not None
    frame = shadow.scored(sample, bundle_of(1))
    log.write(frame)
    log.write(frame)
    found = shadow.read(history, bundle_of(0).model_id, bundle_of(1).model_id, AT + DAY_S)
    assert len(found) == 2 * len(frame)
    assert set(found["user_key"]) == set(keyed(frame, user_keys)["user_key"])
    assert "user_id" not in found
    assert shadow.read(history, bundle_of(1).model_id, bundle_of(0).model_id, AT + DAY_S).empty


def logged(*rows: tuple[str, str, float]) -> pd.DataFrame:
    users, items, at = zip(*rows, strict=True)
    times = pd.to_datetime((np.array(at) * 1e6).astype(np.int64), unit="us", utc=True)
    return pd.DataFrame({"user_key": users, "item_id": items, "at": times, "serving": 0.1, "challenger": 0.2})


def events(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    users, items, kinds, at = zip(*rows, strict=True)
    times = pd.to_datetime((np.array(at) * 1e6).astype(np.int64), unit="us", utc=True)
    return pd.DataFrame({"user_key": users, "item_id": items, "kind": kinds, "at": times})


def test_a_row_is_engaged_with_if_its_user_engages_with_its_item_in_time_and_unknown_while_there_is_time(tmp_path: Path) -> None:
    history, rule, now = History(str(tmp_path)), LabelRule(window_s=DAY_S), AT + 2 * DAY_S
    rows = logged(("a", "i", AT), ("a", "j", AT), ("b", "i", AT), ("a", "i", AT - 9 * DAY_S), ("b", "j", AT), ("c", "i", AT + 1.5 * DAY_S))
    happened = events(
        ("a", "i", "view", AT + 60),
        ("b", "i", "view", AT + DAY_S + 60),
        ("b", "j", "mute", AT + 60),
        ("c", "i", "view", AT + 1.5 * DAY_S + 60),
    )
    history.write("events", happened, at="at", shard=0, name="some")
    found = shadow.paired(rows, shadow.engagements(history, rows, now, rule), now, rule)
    assert found.known.tolist() == [True, True, True, True, True, False]
    assert found.label[found.known].tolist() == [True, False, False, False, False]
    assert found.group[0] == found.group[1] != found.group[3]
    assert found.owner[0] == found.owner[3] != found.owner[2]


def test_without_any_rows_or_events_there_is_simply_nothing_known(tmp_path: Path) -> None:
    history, rule = History(str(tmp_path)), LabelRule()
    empty = shadow.read(history, "a", "b", AT)
    assert len(shadow.paired(empty, shadow.engagements(history, empty, AT, rule), AT, rule)) == 0
    rows = logged(("a", "i", AT))
    assert shadow.paired(rows, shadow.engagements(history, rows, AT, rule), AT, rule).known.tolist() == [False]


def test_the_challenger_reads_its_own_code_of_a_channel() -> None:
    requests = [request(0, 3, 2)]
    job = done(requests)
    sample = shadow.sample_of(job, requests, 99, np.random.default_rng(0))
    assert sample is not None
    challenger = bundle_of(1)
    mine = shadow.scored(sample, challenger)["challenger"].to_numpy()
    matrix = job.features(slice(0, 6))[sample.rows]
    assert mine == pytest.approx(challenger.probabilities(matrix))
