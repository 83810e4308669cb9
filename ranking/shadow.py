"""A challenger scored on live traffic beside the model that serves, within a bounded cost, and logged for comparison."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from lake.history import KEEP_DAYS, History
from lake.ids import combine, hash64
from lake.user_keys import UserKeys, keyed
from ranking.blocks import Matrix
from ranking.bundle import Bundle
from ranking.gates import Paired
from ranking.labels import LabelRule, is_over, label
from ranking.past import seconds
from ranking.scorer import Job, ScoreRequest

TABLE = "shadow"
COLUMNS = ("at", "user_id", "item_id", "channel", "serving_id", "challenger_id", "serving", "challenger")
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ShadowRule:
    """What a challenger may cost a replica.

    `cost_share`: of the time that live scoring takes. `rows_per_s`: on average, so that the log stays small; `burst_rows`: saved
    up in quiet times, and the most (but for one user's rows) that wait to be written. `sample_rows`: about as many rows are
    scored at once, so that nothing urgent waits for more than some milliseconds.
    """

    cost_share: float = 0.05
    rows_per_s: float = 20.0
    burst_rows: int = 5_000
    sample_rows: int = 256


@dataclass
class Allowance:
    """What may be spent on the challenger now: time earned by live scoring, and rows earned by the clock."""

    rule: ShadowRule
    live_s: float = 0.0
    spent_s: float = 0.0
    rows: float = 0.0
    _seen_at: float | None = None

    def earn(self, live_s: float, now_s: float) -> None:
        """Note live scoring; `now_s`: any clock's seconds."""
        passed_s = 0.0 if self._seen_at is None else max(now_s - self._seen_at, 0.0)
        self.rows = float(self.rule.burst_rows) if self._seen_at is None else self.rows + passed_s * self.rule.rows_per_s
        self.rows = min(self.rows, float(self.rule.burst_rows))
        self.live_s, self._seen_at = self.live_s + live_s, now_s

    @property
    def is_left(self) -> bool:
        """Whether another sample may be scored."""
        return self.rows >= 1 and self.spent_s < self.rule.cost_share * self.live_s

    def spend(self, took_s: float, rows: int) -> None:
        """Note what a sample took."""
        self.spent_s, self.rows = self.spent_s + took_s, self.rows - rows


@dataclass(frozen=True)
class Sample:
    """Rows of a job that is done, and the request they came from. `rows`: their places in the job; `own`: in the request."""

    job: Job
    request: ScoreRequest
    rows: Rows
    own: Rows


def sample_of(job: Job, requests: Sequence[ScoreRequest], rows: int, random: np.random.Generator) -> Sample | None:
    """Return all rows of some users of one of the requests that were merged into a job, about `rows` of them and at least one user's."""
    sizes = np.array([len(request) for request in requests])
    if not sizes.sum():
        return None
    chosen = int(random.choice(len(requests), p=sizes / sizes.sum()))
    request, start = requests[chosen], int(sizes[:chosen].sum())
    users, count = np.unique(request.user, return_counts=True)
    order = random.permutation(len(users))
    some = order[: max(1, int(np.searchsorted(np.cumsum(count[order]), rows, side="right")))]
    own = np.flatnonzero(np.isin(request.user, users[some]) & ~job.cut[start : start + len(request)])
    return Sample(job, request, start + own, own) if len(own) else None


def scored(sample: Sample, challenger: Bundle) -> pd.DataFrame:
    """Return a sample's rows (COLUMNS) with the challenger's probability beside the one that was answered."""
    job, request, own = sample.job, sample.request, sample.own
    codes = challenger.channel_codes(request.channels)[request.channel[own]]
    matrix: Matrix = job.assembler.rows(job.user[sample.rows], job.item[sample.rows], codes)
    at = np.broadcast_to(np.asarray(request.at, np.float64), len(request.items))[request.item[own]]
    columns = {
        "at": pd.to_datetime((at * 1e6).astype(np.int64), unit="us", utc=True),
        "user_id": np.array(request.users, object)[request.user[own]],
        "item_id": np.array(request.items, object)[request.item[own]],
        "channel": np.array(request.channels, object)[request.channel[own]],
        "serving_id": job.bundle.model_id,
        "challenger_id": challenger.model_id,
        "serving": job.probability[sample.rows],
        "challenger": challenger.probabilities(matrix),
    }
    return pd.DataFrame({name: columns[name] for name in COLUMNS})


class ShadowLog(Protocol):
    """Where rows that a challenger scored are kept. May block; the caller's thread does nothing else."""

    def write(self, frame: pd.DataFrame) -> None:
        """Keep rows of COLUMNS."""
        ...


@dataclass
class MemoryShadowLog:
    """Rows in a list of frames, for tests."""

    frames: list[pd.DataFrame] = field(default_factory=list)

    def write(self, frame: pd.DataFrame) -> None:
        """See ShadowLog."""
        self.frames.append(frame)


@dataclass
class HistoryShadowLog:
    """Rows in the history, under the users' random keys, in files named after this writer."""

    history: History
    user_keys: UserKeys
    _writer: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    _files: int = 0

    def write(self, frame: pd.DataFrame) -> None:
        """See ShadowLog."""
        self._files += 1
        self.history.write(TABLE, keyed(frame, self.user_keys), at="at", shard=0, name=f"{self._writer}-{self._files:06}")


def read(history: History, serving_id: str, challenger_id: str, now: float) -> pd.DataFrame:
    """Return the rows that two models scored side by side, user_key in the place of user_id."""
    where = (pc.field("serving_id") == serving_id) & (pc.field("challenger_id") == challenger_id)
    return history.read(TABLE, now - KEEP_DAYS * 86400, now, where=where)


def engagements(history: History, rows: pd.DataFrame, now: float, rule: LabelRule) -> pd.DataFrame:
    """Return the engagements (user_key, item_id, at) that came since the first of some rows."""
    empty = pd.DataFrame(columns=["user_key", "item_id", "at"])
    if not len(rows):
        return empty
    events = history.read("events", float(rows["at"].min().timestamp()), now)
    if not len(events) or "item_id" not in events:
        return empty
    kept = events["item_id"].notna() & rule.is_engagement(events["kind"].to_numpy(object))
    found: pd.DataFrame = events.loc[kept, ["user_key", "item_id", "at"]]
    return found


def paired(rows: pd.DataFrame, engaged: pd.DataFrame, now: float, rule: LabelRule) -> Paired:
    """Return rows of the log with what followed them: an engagement of the user with the item within the label's window.

    Whoever was sent what the serving model liked had more reason to engage with it, so a challenger is judged a little too severely.
    """
    if not len(rows):
        nothing: npt.NDArray[Any] = np.empty(0)
        return Paired(nothing, nothing, nothing, nothing, np.empty(0, bool), np.empty(0, bool))
    user, at = hash64(rows["user_key"].to_numpy(object)), seconds(rows["at"])
    following = _first_after(rows.assign(row=np.arange(len(rows))), engaged)
    return Paired(
        owner=user,
        group=combine(user, at.view(np.int64)),
        serving=rows["serving"].to_numpy(np.float32),
        challenger=rows["challenger"].to_numpy(np.float32),
        label=label(at, following, rule),
        known=is_over(at, now, rule),
    )


def _first_after(rows: pd.DataFrame, engaged: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the first engagement at or after each row's moment, seconds, NaN: none."""
    found = np.full(len(rows), np.nan)
    if len(engaged):
        engaged_at = seconds(engaged["at"])
        right = engaged[["user_key", "item_id"]].assign(at=engaged_at, engaged_at=engaged_at).sort_values("at", kind="stable")
        left = rows[["user_key", "item_id", "row"]].assign(at=seconds(rows["at"])).sort_values("at", kind="stable")
        merged = pd.merge_asof(left, right, on="at", by=["user_key", "item_id"], direction="forward")
        found[merged["row"].to_numpy()] = merged["engaged_at"].to_numpy(np.float64)
    return found
