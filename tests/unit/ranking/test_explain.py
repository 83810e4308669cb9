"""An explanation adds up to the score it explains, and says so in words."""

from __future__ import annotations

import numpy as np
import pytest

from lake.items import ItemTable, MemoryItemStore
from ranking.explain import MOST_ROWS, Explained, explain, subject_of, words
from ranking.features import FEATURES
from ranking.scorer import Scorer, ScoreRequest
from ranking.store import MemoryFeatureStore
from tests.unit.ranking.models import bundle_of

AT = 1_700_000_000.0


def explained(rows: int = 6) -> tuple[Explained, Scorer, ScoreRequest]:
    items = MemoryItemStore()
    items.put([{"item_id": f"i{i}", "created_at": AT - 3600 * i, "author_id": "u1", "topics": ["a"]} for i in range(5)])
    features = MemoryFeatureStore()
    features.record_engagements(["i1", "i2"], ["u1", "u2"], [AT - 60, AT - 50])
    scorer = Scorer(bundle_of(), features, ItemTable(items))
    codes = np.arange(rows, dtype=np.int32)
    asked = ScoreRequest(["u1", "u2", "u3"], [f"i{i}" for i in range(6)], codes % 3, codes % 6, np.zeros(rows, np.uint8), ("in_app",), AT)
    return explain(scorer.bundle, scorer.prepare(asked), asked), scorer, asked


def test_contributions_and_the_base_sum_to_the_margin_and_the_probability_is_the_one_that_is_served() -> None:
    found, scorer, asked = explained()
    assert found.contributions.sum(axis=1) + found.base == pytest.approx(found.margin, abs=1e-5)
    assert len({round(float(margin), 6) for margin in found.margin}) > 1
    served = scorer.score(asked.users, asked.items, asked.user, asked.item, asked.channel, asked.channels, AT)
    assert np.array_equal(found.probability, served.probability)
    assert np.array_equal(found.value, served.value)
    assert found.model_id == served.model_id


def test_a_row_names_what_moved_its_score_most_first_with_the_values_it_had() -> None:
    found, scorer, asked = explained()
    row = found.row(1)
    sizes = [abs(each["contribution"]) for each in row["contributions"]]
    assert sizes == sorted(sizes, reverse=True)
    assert row["base"] + sum(each["contribution"] for each in row["contributions"]) == pytest.approx(row["margin"], abs=1e-5)
    matrix = scorer.prepare(asked).features(slice(0, 6))
    by_name = {each["feature"]: each["value"] for each in row["contributions"]}
    for name, value in by_name.items():
        real = float(matrix[1, FEATURES.index(name)])
        assert value == (real if np.isfinite(real) else None)


def test_words_add_up_features_of_one_subject_and_part_what_raised_from_what_lowered() -> None:
    shares = np.zeros(len(FEATURES), np.float32)
    shares[FEATURES.index("item_age_h")] = -0.9
    shares[[FEATURES.index("by_topic_30d_most"), FEATURES.index("by_topic_30d_sum")]] = 0.3
    shares[FEATURES.index("hour_fit")] = 0.5
    raised = "raised by the reader's interest in its topics and whether the reader tends to engage at this hour"
    assert words(shares) == f"{raised} and lowered by how old the post is"
    assert words(np.zeros(len(FEATURES), np.float32)) == "like any other"


def test_every_feature_has_words() -> None:
    assert not [name for name in FEATURES if "_" in subject_of(name)]


def test_more_rows_than_can_be_explained_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="51 rows are too many"):
        explained(MOST_ROWS + 1)
