"""The two tables of `tidings evaluate policy`: what was logged and what the other policy would choose, checked and joined."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from lake.errors import InputError, TableError
from lake.table_columns import Number
from lake.table_files import read_file
from lake.tables import ID, TIME, Column, Schema
from ranking.policy_value import Logged, tabular

SUM_TOLERANCE = 1e-3
"""How far the probabilities of a position may be from 1 in sum; rounding to a few digits stays within."""

PROBABILITY, POSITION, REWARD = Number(0, 1), Number(0, 1_000_000, whole=True), Number(-1e12, 1e12)
OTHER_NAMES = {"propensity_score": "propensity", "click": "reward", "clicked": "reward", "engaged": "reward"}
"""What the columns of a log are called elsewhere."""

LOGGED = Schema(
    "logged",
    (
        Column("item_id", ID, required=True),
        Column("propensity", PROBABILITY, required=True),
        Column("reward", REWARD),
        Column("engaged_at", TIME),
        Column("position", POSITION),
        Column("user_id", ID),
    ),
)
TARGET = Schema(
    "target",
    (Column("item_id", ID, required=True), Column("probability", PROBABILITY, required=True), Column("position", POSITION)),
    key=("position", "item_id"),
)


@dataclass(frozen=True)
class Tables:
    """A log and a target that fit together. `sums`: of the target's probabilities, by position (None: everywhere the same).

    `unseen`: share of the target's probability that lies on items the log never chose at that position.
    """

    logged: Logged
    sums: dict[int | None, float]
    unseen: float

    @property
    def is_distribution(self) -> bool:
        """Whether the probabilities of every position sum to 1."""
        return all(abs(total - 1) <= SUM_TOLERANCE for total in self.sums.values())


def read_tables(logged: Path, target: Path, *, seed: int = 0) -> Tables:
    """Return the tables of two files, joined; raises InputError naming file, column and row of what does not fit."""
    log, choice = read_logged(logged), read_target(target)
    placed = bool(choice["position"].notna().all())
    if placed and log["position"].isna().any():
        raise InputError(f"{logged}: table logged, column position: is missing or empty, but {target} gives probabilities by position")
    if not placed:
        log["position"] = choice["position"] = -1.0
    sums = choice.groupby("position")["probability"].sum()
    refuse_sums(sums, placed, target)
    strange = ~log["position"].isin(sums.index)
    if strange.any():
        row = int(np.argmax(strange.to_numpy()))
        raise InputError(
            f"{target}: has no rows for position {log['position'].iloc[row]:.0f}, which {logged} has in row {row + 1:,}; "
            "give the probabilities of every position"
        )
    places = sums.index.to_numpy(np.int64).tolist() if placed else [None]
    return joined(log, choice, dict(zip(places, sums.tolist(), strict=True)), seed)


def refuse_sums(sums: pd.Series[float], placed: bool, target: Path) -> None:
    """Raise InputError where the probabilities of a position sum to less than 1, or to more at some positions only.

    More than 1 everywhere is let through, to be warned of beside its mean weight: that is what propensities look like which were
    averaged over the rows where an item was chosen, since E[p^2] / E[p] is at least E[p] for each item.
    """
    off = sums[(sums - 1).abs() > SUM_TOLERANCE]
    if len(off) and not (sums > 1 + SUM_TOLERANCE).all():
        where = f"position {off.index[0]:.0f}: the" if placed else "the"
        raise InputError(
            f"{target}: table target, column probability: {where} probabilities sum to {off.iloc[0]:.4f}, not to 1; "
            "give how often the policy chooses each item, items it never chooses with 0 or not at all"
        )


def joined(log: pd.DataFrame, choice: pd.DataFrame, sums: dict[int | None, float], seed: int) -> Tables:
    """Return a log beside a target; an item that the target leaves out has probability 0 there."""
    cells = pd.MultiIndex.from_frame(pd.concat([choice[["position", "item_id"]], log[["position", "item_id"]]])).unique()
    probability = choice.set_index(["position", "item_id"])["probability"].reindex(cells).fillna(0.0).to_numpy(np.float64)
    cell = cells.get_indexer(pd.MultiIndex.from_frame(log[["position", "item_id"]])).astype(np.int64)
    place = np.unique(cells.get_level_values("position"), return_inverse=True)[1].astype(np.int64)
    unit = log["user_id"].factorize(use_na_sentinel=True)[0].astype(np.int64) if log["user_id"].notna().all() else None
    rows = tabular(log["reward"].to_numpy(np.float64), log["propensity"].to_numpy(np.float64), cell, place, probability, unit, seed=seed)
    return Tables(rows, sums, unseen_share(probability, place, cell))


def unseen_share(probability: npt.NDArray[np.float64], place: npt.NDArray[np.int64], cell: npt.NDArray[np.int64]) -> float:
    """Return the share of probability on cells without a row, each position weighed by its rows."""
    seen = np.bincount(cell, minlength=len(probability)) > 0
    rows = np.bincount(place[cell], minlength=int(place.max()) + 1)
    total = np.bincount(place, probability)
    lost = np.bincount(place, probability * ~seen)
    return float((rows * lost / np.maximum(total, 1e-300)).sum() / rows.sum())


def read_logged(path: Path) -> pd.DataFrame:
    """Return the rows of a log with their reward; raises InputError."""
    table = read_file(path, LOGGED.expected)
    for other, name in OTHER_NAMES.items():
        if name not in table.column_names and other in table.column_names:
            table = table.rename_columns([name if column == other else column for column in table.column_names])
    if not {"reward", "engaged_at"} & set(table.column_names):
        raise TableError("logged", "reward", None, "is missing; give reward, click (0 or 1) or engaged_at (empty where never)", str(path))
    rows = LOGGED.frame(LOGGED.check(_with_numbers(table), str(path)))
    if rows.empty:
        raise InputError(f"{path}: table logged: has no rows; give what the logging policy chose and what came of it")
    if "reward" not in table.column_names:
        rows["reward"] = rows["engaged_at"].notna().astype(float)
    for name, bad in (("propensity", ~(rows["propensity"] > 0)), ("reward", rows["reward"].isna())):
        if bad.any():
            row = int(np.argmax(bad.to_numpy()))
            advice = "must be above 0: what was chosen had a chance" if name == "propensity" else "is missing or empty"
            raise TableError("logged", name, row + 1, advice, str(path))
    return rows


def read_target(path: Path) -> pd.DataFrame:
    """Return the rows of a target; raises InputError."""
    rows = TARGET.frame(TARGET.check(read_file(path, TARGET.expected), str(path)))
    if rows.empty:
        raise InputError(f"{path}: table target: has no rows; give item_id and probability, and position where that matters")
    empty = rows["position"].isna()
    if empty.any() and not empty.all():
        raise TableError("target", "position", int(np.argmax(empty.to_numpy())) + 1, "is empty; give it in every row or in none", str(path))
    return rows


def _with_numbers(table: pa.Table) -> pa.Table:
    """Return a table whose rewards are numbers where they were true and false."""
    if "reward" in table.column_names and pa.types.is_boolean(table.schema.field("reward").type):
        place = table.column_names.index("reward")
        return table.set_column(place, "reward", table.column("reward").cast(pa.int8()))
    return table
