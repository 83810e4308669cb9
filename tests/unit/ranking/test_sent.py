"""Sends become rows once their window is over, engaged with or not, tapped or not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lake.dataset import Dataset
from ranking.examples import ExampleRule
from ranking.features import NO_CHANNEL
from ranking.labels import DAY_S
from ranking.offline import State
from ranking.past import Past
from ranking.sent import Engagements, sent
from ranking.training_set import SENT, TrainingSet
from tests.unit.ranking.worlds import DAYS, START, world

RULE = ExampleRule()
SENT_AT = START + pd.Timedelta(days=20)
UNTIL = (START + pd.Timedelta(days=40)).timestamp()


def told(sends: list[dict[str, object]], events: list[dict[str, object]]) -> Past:
    """Return the past of sends of items i1, i2, ... that all were made long before."""
    names = sorted({str(row["item_id"]) for row in [*sends, *events]})
    items = pd.DataFrame({"item_id": names, "created_at": START, "entity_id": ["e" if name.startswith("i") else name for name in names]})
    tables = {"items": items, "sends": pd.DataFrame(sends), "events": pd.DataFrame(events)}
    return Past.of(Dataset.of(tables), RULE.label)


def send(user: str = "u", item: str = "i1", *, at: pd.Timestamp = SENT_AT, engaged_at: pd.Timestamp | None = None) -> dict[str, object]:
    return {"user_id": user, "item_id": item, "channel": "email", "at": at, "engaged_at": engaged_at}


def event(user: str = "u", item: str = "i1", kind: str = "join", *, hours: float = 1.0) -> dict[str, object]:
    return {"user_id": user, "item_id": item, "kind": kind, "at": SENT_AT + pd.Timedelta(hours=hours)}


@pytest.mark.parametrize(
    ("row", "happened", "cared"),
    [
        (send(), event(), True),
        (send(engaged_at=SENT_AT + pd.Timedelta(hours=2)), event(item="other"), True),
        (send(), event(item="other"), False),
        (send(), event(user="v"), False),
        (send(), event(hours=7 * 24 + 1), False),
        (send(), event(hours=-1), False),
        (send(), event(kind="unsubscribe"), False),
        (send(engaged_at=SENT_AT + pd.Timedelta(days=9)), event(item="other"), False),
    ],
    ids=["joined without a tap", "tapped", "joined another", "somebody else", "too late", "before", "left", "tapped too late"],
)
def test_a_send_is_engaged_with_by_a_tap_or_by_any_engagement_within_the_window(
    row: dict[str, object], happened: dict[str, object], cared: bool
) -> None:
    rows, channel = sent(told([row], [happened]), UNTIL, RULE)
    assert rows.label.tolist() == [cared]
    assert channel.tolist() == [1]


def test_a_send_younger_than_the_window_is_no_row_whether_or_not_somebody_engaged() -> None:
    past = told([send(), send("v", engaged_at=SENT_AT + pd.Timedelta(hours=1))], [event("w")])
    over = SENT_AT.timestamp() + RULE.label.window_s
    assert len(sent(past, over - 1, RULE)[0]) == 0
    assert sent(past, over, RULE)[0].label.tolist() == [False, True]


def test_the_next_engagement_of_a_pair_is_the_first_at_or_after_the_moment() -> None:
    past = told([send()], [event(hours=1), event(hours=3), event(item="other", hours=2)])
    after = Engagements(past)
    user, item = past.send_user, past.send_item
    found = [after.next_at(user, item, np.array([SENT_AT.timestamp() + 3600 * hours]))[0] for hours in (0, 1, 1.5, 3, 4)]
    assert np.array_equal(np.array(found), SENT_AT.timestamp() + 3600 * np.array([1, 1, 3, 3, np.nan]), equal_nan=True)


def test_updates_of_one_entity_share_one_discounted_label_and_other_things_of_the_day_another() -> None:
    hour = pd.Timedelta(hours=1)
    sends = [send(item="i1"), send(item="i2", at=SENT_AT + hour), send(item="x", at=SENT_AT + 2 * hour), send("v", "x")]
    past = told(sends, [event(item="i2", hours=2), event(item="x", hours=3), event("v", "x", hours=3)])
    rows, channel = sent(past, UNTIL, RULE)
    data = TrainingSet.of(State(past), rows, channel, np.ones(len(rows), bool), RULE.label)
    named = {
        (past.user_ids[user], past.items.ids[item]): target
        for user, item, target in zip(rows.user, rows.item, data.targets["discounted"].tolist(), strict=True)
    }
    assert named["u", "i1"] == 0.5  # stands for its update i2, which was engaged with
    assert np.isnan(named["u", "i2"])
    assert named["u", "x"] == 0.5
    assert named["v", "x"] == 1.0
    assert (data.origin == SENT).all()


def test_many_sends_are_thinned_without_changing_what_they_stand_for() -> None:
    dataset = world(1)
    sends = pd.concat([dataset.sends] * 40, ignore_index=True)
    past = Past.of(Dataset.of_checked(dataset.tables | {"sends": sends.sort_values("at", ignore_index=True)}), RULE.label)
    end = (START + pd.Timedelta(days=DAYS)).timestamp()
    whole, channel = sent(past, end, RULE)
    few, fewer_channels = sent(past, end, ExampleRule(rows=200))
    assert len(few) < len(whole) / 2
    assert len(few) == len(fewer_channels)
    assert few.label.sum() == whole.label.sum()
    assert few.weight.sum() == pytest.approx(len(whole), rel=0.15)
    assert (channel != NO_CHANNEL).all()


def test_a_graded_target_lies_between_the_least_worth_and_one_exactly_where_a_row_is_engaged_with() -> None:
    past = told(
        [send(), send("v"), send("w"), send("x", engaged_at=SENT_AT + pd.Timedelta(hours=1))],
        [
            event("u", kind="view"),
            event("u", kind="like", hours=5),
            event("v", kind="view"),
            event("w", item="other"),
        ],
    )
    rows, channel = sent(past, UNTIL, RULE)
    data = TrainingSet.of(State(past), rows, channel, np.ones(len(rows), bool), RULE.label)
    by_user = {past.user_ids[user]: value for user, value in zip(rows.user, data.targets["graded"].tolist(), strict=True)}
    assert by_user == {"u": 1.0, "v": RULE.label.weak_weight, "w": 0.0, "x": RULE.label.weak_weight}
    assert np.array_equal(data.rows.at, np.full(4, SENT_AT.timestamp()))
    assert SENT_AT.timestamp() + 7 * DAY_S < UNTIL
