"""Why rows got their scores: what each feature added to the model's margin, in numbers and in plain words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.bundle import Bundle
from ranking.features import FEATURES
from ranking.scorer import Job, ScoreRequest
from ranking.value import value_of

MOST_ROWS = 50
LARGEST = 5
"""How many contributions are put into words."""

WORDS = {
    "user_recency_h": "how long ago the reader was last here",
    "user_tenure_d": "how long the reader has been here",
    "user_sent_1d": "how much the reader was sent yesterday",
    "user_sent_7d": "how much the reader was sent this week",
    "user_sent_28d": "how much the reader was sent this month",
    "user_answered_28d": "how many notifications the reader answered this month",
    "user_answer_rate": "how often the reader answers notifications",
    "by_author_sent": "how much the reader was sent of its author lately",
    "by_topic_sent_most": "how much the reader was sent of its topics lately",
    "by_topic_sent_sum": "how much the reader was sent of its topics lately",
    "by_kind_sent": "how much the reader was sent of this kind lately",
    "distance_km": "how far the reader is from it",
    "item_age_h": "how old the post is",
    "item_age_active": "how old the post is, in hours when people are about",
    "item_users_1h": "how many people engaged with the post in the last hour",
    "item_users_1d": "how many people engaged with the post today",
    "item_users_7d": "how many people engaged with the post this week",
    "item_quiet_h": "how long ago anyone engaged with the post",
    "channel": "the channel",
    "local_hour": "the hour where the reader is",
    "local_day": "the day of the week where the reader is",
    "hour_fit": "whether the reader tends to engage at this hour",
    "seen_since_h": "whether the reader was here after the post appeared",
    "touched_since": "how much else the reader engaged with since the post appeared",
}
"""What a feature is about, said to someone who has seen no list of features."""

SUBJECTS = {
    "user_": "how active the reader is",
    "item_": "how the post has been doing",
    "author_": "how people take to its author",
    "topic_": "how people take to its topics",
    "by_author": "the reader's history with its author",
    "back_author": "the reader's history with its author",
    "by_topic": "the reader's interest in its topics",
    "own_topic": "the reader's interest in its topics",
    "likeness": "how like it is to what the reader engaged with",
    "text_": "how like its words are to what the reader engaged with",
}
"""The same for features that have no words of their own, by how their names begin."""


@dataclass(frozen=True)
class Explained:
    """Contributions to the margin of rows, which with `base` sum to `margin`.

    `features` (n, FEATURES): their values. `contributions` (n, FEATURES), `base`, `margin`, `probability`, `risk` (of opting out), `value`:
    float32 (n,).
    """

    model_id: str
    features: Matrix
    contributions: Matrix
    base: Matrix
    margin: Matrix
    probability: Matrix
    risk: Matrix
    value: Matrix

    def row(self, place: int) -> dict[str, Any]:
        """Return a row's explanation as plain values, its features by how much they moved the score, the largest first."""
        order = np.argsort(-np.abs(self.contributions[place]), kind="stable")
        moved = [
            {
                "feature": FEATURES[column],
                "value": _number(self.features[place, column]),
                "contribution": float(self.contributions[place, column]),
            }
            for column in order.tolist()
            if self.contributions[place, column]
        ]
        single = {name: float(getattr(self, name)[place]) for name in ("base", "margin", "probability", "risk", "value")}
        return {"model_id": self.model_id, **single, "contributions": moved, "words": words(self.contributions[place])}


def explain(bundle: Bundle, job: Job, request: ScoreRequest) -> Explained:
    """Return the explanation of a prepared job's rows by a model; raises ValueError for more than MOST_ROWS.

    TreeSHAP (Lundberg et al. 2020) as XGBoost computes it: a row's contributions and the base sum to its margin.
    """
    if len(request) > MOST_ROWS:
        raise ValueError(f"{len(request)} rows are too many to explain at once; ask for at most {MOST_ROWS}")
    codes = bundle.channel_codes(request.channels)[request.channel]
    rows = job.assembler.rows(job.user, job.item, codes)
    margin, probability = bundle.margins(rows), bundle.probabilities(rows)
    risk = bundle.opt_out.risks(rows)
    shares = contributions(bundle, rows)
    return Explained(bundle.model_id, rows, shares[:, :-1], shares[:, -1], margin, probability, risk, value_of(probability, risk, job.rule))


def contributions(bundle: Bundle, rows: Matrix) -> npt.NDArray[np.float32]:
    """Return each feature's contribution to the margin and, last, the base: (n, FEATURES + 1)."""
    if not len(rows):
        return np.empty((0, len(FEATURES) + 1), np.float32)
    import xgboost as xgb

    data = xgb.DMatrix(rows, feature_names=list(FEATURES), nthread=1)
    return np.asarray(bundle.booster.predict(data, pred_contribs=True), np.float32)


def words(shares: npt.NDArray[np.float32], most: int = LARGEST) -> str:
    """Return what moved a score most, in plain words: subjects whose features together moved it, the largest first."""
    by_subject: dict[str, float] = {}
    for name, share in zip(FEATURES, shares.tolist(), strict=True):
        subject = subject_of(name)
        by_subject[subject] = by_subject.get(subject, 0.0) + share
    ordered = sorted(((subject, share) for subject, share in by_subject.items() if share), key=lambda each: -abs(each[1]))[:most]
    ups, downs = ([subject for subject, share in ordered if (share > 0) == is_up] for is_up in (True, False))
    said = [f"{verb} by {_listed(subjects)}" for verb, subjects in (("raised", ups), ("lowered", downs)) if subjects]
    return " and ".join(said) if said else "like any other"


def subject_of(feature: str) -> str:
    """Return what a feature is about, in plain words."""
    begins = (said for start, said in SUBJECTS.items() if feature.startswith(start))
    return WORDS.get(feature) or next(begins, feature.replace("_", " "))


def _listed(subjects: list[str]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{', '.join(subjects[:-1])} and {subjects[-1]}"


def _number(value: np.float32) -> float | None:
    return float(value) if np.isfinite(value) else None
