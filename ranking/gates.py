"""Whether a challenger may take the place of the model that serves: each gate with its figure, its bound and why. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ranking.evaluation import Column, Resampled, log_loss, ndcg_each
from ranking.stability import shares, stability

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

EDGE = 1e-7
"""Keeps log-odds finite."""


@dataclass(frozen=True)
class GateRule:
    """What a challenger must show.

    `most_psi`: of its score distribution against the serving one's; above 0.25 is commonly called a major shift, and thresholds that were
    learned from the old scores would let through another volume. `least_rows`: scored by both. `least_decisions`: choices with a right
    answer that rankings are compared on. `tolerance`: how much NDCG@5 it may lose.
    """

    most_psi: float = 0.2
    least_rows: int = 1_000
    least_decisions: int = 30
    tolerance: float = 0.005


@dataclass(frozen=True)
class Paired:
    """Rows that both models scored, one entry per row.

    `owner`: the user, whom intervals resample. `group`: the choice a row belongs to: a user at a moment. `serving`, `challenger`: their
    probabilities. `label`: whether the user engaged in time; `known`: whether there has been time.
    """

    owner: Column
    group: Column
    serving: Column
    challenger: Column
    label: Bools
    known: Bools

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: Bools) -> Paired:
        """Return some of the rows."""
        return Paired(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Verdict:
    """What a gate says. `figure`: what it measured, None where it could not; `bound`: what it asks for; `why`: both in words."""

    gate: str
    passed: bool
    why: str
    figure: float | None = None
    bound: float | None = None


def schema(serving: Mapping[str, Any], challenger: Mapping[str, Any]) -> Verdict:
    """Return whether two models read the same columns: version, features and channels, in order."""
    for name in ("version", "features", "channels"):
        mine, theirs = serving.get(name), challenger.get(name)
        if mine == theirs:
            continue
        if not isinstance(mine, list) or not isinstance(theirs, list):
            return Verdict("schema", False, f"its {name} is {theirs} where the serving one has {mine}")
        place = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
        said = [columns[place] if place < len(columns) else "nothing" for columns in (theirs, mine)]
        return Verdict("schema", False, f"its {name}[{place}] is {said[0]!r} where the serving one has {said[1]!r}")
    return Verdict("schema", True, "both read the same columns")


def drift(rows: Paired, rule: GateRule | None = None) -> Verdict:
    """Return whether the challenger's scores are distributed like the serving model's, by PSI over tenths of the latter."""
    rule = rule or GateRule()
    if len(rows) < rule.least_rows:
        return Verdict("drift", False, f"{len(rows)} rows were scored by both, and it takes {rule.least_rows}", None, rule.most_psi)
    found = psi(log_odds(rows.serving), log_odds(rows.challenger))
    passed = found <= rule.most_psi
    why = f"PSI {found:.3f}, {'at most' if passed else f'{found - rule.most_psi:.3f} above the'} {rule.most_psi:g} allowed"
    return Verdict("drift", passed, why, found, rule.most_psi)


def metric(rows: Paired, rule: GateRule | None = None) -> Verdict:
    """Return whether the challenger ranks what users engaged with no worse: NDCG@5 on the same choices, users resampled."""
    rule = rule or GateRule()
    rows = rows.take(rows.known)
    decisions, serving = ndcg_each(rows.group, rows.serving, rows.label)
    if len(decisions) < rule.least_decisions:
        why = f"{len(decisions)} choices have a right answer that is known, and it takes {rule.least_decisions}"
        return Verdict("metric", False, why, None, -rule.tolerance)
    gain = ndcg_each(rows.group, rows.challenger, rows.label)[1] - serving
    distinct, first = np.unique(rows.group, return_index=True)
    owner = rows.owner[first[np.searchsorted(distinct, decisions)]]
    found, (low, high) = float(gain.mean()), Resampled.of(owner).mean(gain)
    passed = found >= -rule.tolerance and high >= 0
    surely = "" if high >= 0 else ", surely worse"
    measured = f"NDCG@5 {serving.mean() + found:.4f} against {serving.mean():.4f}: {found:+.4f} ({low:+.4f} .. {high:+.4f}{surely})"
    allowed = f"on {len(gain)} choices, where {-rule.tolerance:+g} is allowed"
    return Verdict("metric", passed, f"{measured} {allowed}", found, -rule.tolerance)


def psi(expected: Floats, found: Floats, parts: int = 10) -> float:
    """Return the population stability index of two samples, 0 where alike, over quantiles of `expected`; equal values share a bin."""
    edges = np.unique(np.quantile(expected, np.linspace(0, 1, parts + 1)[1:-1]))
    was, now = (shares(np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)) for values in (expected, found))
    return float(stability(was, now))


def log_odds(probability: Column) -> Floats:
    """Return the log-odds of probabilities, finite also at 0 and 1."""
    clipped = np.clip(probability.astype(np.float64), EDGE, 1 - EDGE)
    found: Floats = np.log(clipped / (1 - clipped))
    return found


def compared(rows: Paired, top: int = 3) -> dict[str, Any]:
    """Return how far apart two models are on the same rows, and how each did by what happened later.

    `rank_agreement`: the mean over choices among several of Spearman's correlation; `same_top`: the share of the serving model's `top` that
    the challenger puts there too.
    """
    n = len(rows)
    difference = rows.challenger.astype(np.float64) - rows.serving.astype(np.float64)
    agreement, same = _agreement(rows, top)
    report: dict[str, Any] = {
        "rows": n,
        "choices": len(np.unique(rows.group)),
        "mean_serving": float(rows.serving.mean()) if n else None,
        "mean_challenger": float(rows.challenger.mean()) if n else None,
        "mean_difference": float(difference.mean()) if n else None,
        "mean_absolute_difference": float(np.abs(difference).mean()) if n else None,
        "largest_difference": float(np.abs(difference).max()) if n else None,
        "psi": psi(log_odds(rows.serving), log_odds(rows.challenger)) if n else None,
        "rank_agreement": agreement,
        f"same_top_{top}": same,
    }
    known = rows.take(rows.known)
    report |= {"rows_with_outcome": len(known), "engaged": int(known.label.sum())}
    if len(known):
        for name, score in (("serving", known.serving), ("challenger", known.challenger)):
            each = ndcg_each(known.group, score, known.label)[1]
            report[f"ndcg_at_5_{name}"] = float(each.mean()) if len(each) else None
            report[f"log_loss_{name}"] = log_loss(score, known.label, np.ones(len(known)))
    return report


def _agreement(rows: Paired, top: int) -> tuple[float | None, float | None]:
    """Return the mean Spearman correlation and the mean share of the top that stays, over groups of two rows and more."""
    _, group, size = np.unique(rows.group, return_inverse=True, return_counts=True)
    several = size[group] > 1
    if not several.any():
        return None, None
    group, size = np.unique(group[several], return_inverse=True, return_counts=True)[1:]
    start = np.cumsum(size) - size
    ranks = [_ranks(group, score[several], start) for score in (rows.serving, rows.challenger)]
    apart = np.bincount(group, (ranks[0] - ranks[1]).astype(np.float64) ** 2)
    spearman = 1 - 6 * apart / (size * (size.astype(np.float64) ** 2 - 1))
    kept = np.bincount(group, (ranks[0] < top) & (ranks[1] < top)) / np.minimum(size, top)
    return float(spearman.mean()), float(kept.mean())


def _ranks(group: npt.NDArray[np.intp], score: Column, start: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return each row's rank within its group, 0 the best; ties go by the row's place, in both models alike."""
    order = np.lexsort((-score, group))
    rank = np.empty(len(group), np.intp)
    rank[order] = np.arange(len(group)) - start[group[order]]
    return rank
