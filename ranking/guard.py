"""The guard of live traffic: which features or scores have left what they were, by bounds learned from the deployment's own last week.

Rows of scheduled work are sampled into blocks. A block is compared with the week before it, hour by hour: how far each column's
distribution has moved (PSI), how much of it is missing, and how much lies beyond all that training saw. What the hours of that week reached
themselves, and a margin, is the bound; a share must also be more than chance makes of so few people and items. Until a day of it is known,
only columns that are all but gone, or far beyond, count, and nothing but an alarm comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.features import FEATURES, ITEM_FEATURES, USER_FEATURES
from ranking.reference import ABOVE, BELOW, BINS, COLUMNS, MISSING, Counts, Reference, binned
from ranking.stability import Floats, shares, stability, surprise

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

WIDTH = len(COLUMNS)
IS_SCORE = np.arange(WIDTH) >= len(FEATURES)
OF_USERS, OF_ITEMS = (np.isin(COLUMNS, names) for names in (USER_FEATURES, ITEM_FEATURES))
"""Which columns say the same in all rows of a user, and of an item."""
GROWS = np.isin(COLUMNS, ("user_tenure_d",))
"""Which columns grow by themselves: days after a log began, all who were there then are known for longer than training ever saw."""
KINDS = ("PSI", "missing", "beyond training")
CELL_SCORES = 120
"""Scores kept of each hour."""


@dataclass(frozen=True)
class GuardRule:
    """How a guard looks and judges.

    `sample_rows`: most rows of one job; `rows_per_minute`: most in all; `block_rows`: judged together. `cell_s`, `cells`: the memory,
    an hour each for a week; `least_cells`: before limits are learned. A PSI is calm up to `stretch` times the `quantile` of what those
    reached and a margin, which is wider for scores, for a new model may move them a little; it is borne up to twice that. A share is
    borne up to half as much again, and `share_margin`, and as long as chance makes so much of it once in e to `chance` times. What is
    beyond trips after `strikes` blocks in a row; a share that chance makes once in the square of that, or a PSI of `gross` times the most,
    at once. `calm` blocks in a row end it. Before limits are learned `hard_share` missing, where training saw at most half as much
    missing, or beyond training trips.
    """

    sample_rows: int = 256
    rows_per_minute: int = 6_000
    block_rows: int = 2_000
    cell_s: float = 3600.0
    cells: int = 168
    least_cells: int = 24
    quantile: float = 0.99
    stretch: float = 1.5
    psi_margin: float = 0.2
    share_margin: float = 0.2
    chance: float = 9.0
    score_margin: float = 0.3
    hard_share: float = 0.9
    strikes: int = 2
    gross: float = 3.0
    calm: int = 3


class Finding(NamedTuple):
    """Why a column is out: which of KINDS, how much, and the bound."""

    column: str
    kind: str
    figure: float
    bound: float

    def __str__(self) -> str:
        return f"{self.column}: {self.kind} {self.figure:.2f}, bound {self.bound:.2f}"


@dataclass
class Memory:
    """What the hours of the last week were like, a cell each, with some of their `scores`.

    `number`: hours since 1970, -1: none; `worst`: the most that their blocks reached, by KINDS and columns.
    """

    number: Ints
    counts: Counts
    worst: Matrix
    scores: Matrix

    @staticmethod
    def empty(cells: int) -> Memory:
        """Return a memory of nothing."""
        shapes = (cells, WIDTH, BINS), (cells, len(KINDS), WIDTH), (cells, CELL_SCORES, 2)
        counts, worst, scores = (np.zeros(shape, np.float32) for shape in shapes)
        return Memory(np.full(cells, -1, np.int64), counts, worst, scores * np.float32(np.nan))

    @property
    def known(self) -> Bools:
        """Which cells hold anything."""
        return self.number >= 0

    def learn(self, number: int, counts: Counts, figures: Floats, scores: Matrix, random: np.random.Generator) -> None:
        """Add a block to the cell of its hour."""
        place = number % len(self.number)
        if self.number[place] != number:
            self.number[place], self.counts[place], self.worst[place], self.scores[place] = number, 0, 0, np.nan
        self.counts[place] += counts
        self.worst[place] = np.maximum(self.worst[place], figures)
        drawn = scores[random.integers(0, len(scores), CELL_SCORES)]
        old = self.scores[place]
        self.scores[place] = np.where(np.isnan(old) | (random.random(CELL_SCORES) < 0.5)[:, None], drawn, old)


@dataclass
class Guard:
    """Watches one ranker's traffic by one thread. `out`: which columns are out now, bool (columns,); `findings`: why."""

    reference: Reference
    rule: GuardRule = field(default_factory=GuardRule)
    memory: Memory = field(init=False)
    out: Bools = field(default_factory=lambda: np.zeros(WIDTH, bool))
    findings: tuple[Finding, ...] = ()
    _calm: Ints = field(default_factory=lambda: np.zeros(WIDTH, np.int64))
    _limits: tuple[Floats, Floats] | None = None
    _strikes: Ints = field(default_factory=lambda: np.zeros(WIDTH, np.int64))
    _block: list[Matrix] = field(default_factory=list)
    _seen: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    _minute: tuple[int, int] = (-1, 0)
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        self.memory = Memory.empty(self.rule.cells)

    @property
    def is_tripped(self) -> bool:
        """Whether any column is out."""
        return bool(self.out.any())

    @property
    def normal_scores(self) -> Matrix:
        """Return scores (n, 2) of when all was well, of the last week; none before any of it is known."""
        return self.memory.scores[self.memory.known].reshape(-1, 2)

    def room(self, now: float) -> int:
        """Return how many rows of a job may be looked at."""
        minute = int(now // 60)
        if self._minute[0] != minute:
            self._minute = (minute, 0)
        return max(min(self.rule.sample_rows, self.rule.rows_per_minute - self._minute[1]), 0)

    def see(self, rows: Matrix, scores: Matrix, users: int, items: int, now: float) -> Matrix | None:
        """Look at a job's sampled feature rows as they came and at the serving model's `scores` (n, 2) of them.

        Returns the block (rows, columns) that was judged, None where it is not full yet. `users`, `items`: how many the rows are of; `now`:
        the moment of the rows, seconds.
        """
        self._minute = (self._minute[0], self._minute[1] + len(rows))
        # The next job is of other users, but of much the same items.
        self._seen = np.array([self._seen[0] + users, max(self._seen[1], items)])
        self._block.append(np.concatenate([rows, scores], axis=1))
        if sum(map(len, self._block)) < self.rule.block_rows:
            return None
        block = np.concatenate(self._block)
        self._block.clear()
        self._judge(block, now)
        self._seen[:] = 0
        return block

    @property
    def has_learned(self) -> bool:
        """Whether enough is known of normal days to say what is usual."""
        return int(self.memory.known.sum()) >= self.rule.least_cells

    def _judge(self, block: Matrix, now: float) -> None:
        counts = binned(block, self.reference.edges)
        if self._limits is None:
            self._limits = self.limits()
        figures, (calm, most) = self._figures(counts), self._limits
        is_beyond, surprises = figures > most, self._surprises(figures)
        is_beyond[1:] &= surprises > self.rule.chance
        is_bad = is_beyond.any(axis=0)
        is_gross = (figures[0] > self.rule.gross * most[0]) | (is_beyond[1:] & (surprises > 2 * self.rule.chance)).any(axis=0)
        self._strikes = np.where(is_bad, self._strikes + 1 + self.rule.strikes * is_gross, 0)
        self._calm = np.where((figures <= calm).all(axis=0), self._calm + 1, 0)
        self.out = np.where(self.out, self._calm < self.rule.calm, self._strikes >= self.rule.strikes)
        self.findings = tuple(self._finding(place, figures, most) for place in np.flatnonzero(self.out).tolist())
        if not self.is_tripped and not is_bad.any():
            self._limits = None
            self.memory.learn(int(now // self.rule.cell_s), counts, figures, block[:, len(FEATURES) :], self._random)

    def _figures(self, counts: Counts) -> Floats:
        """Return how far a block's columns are from what they were, (KINDS, columns)."""
        share = shares(counts)
        return np.stack([stability(self._usual, share), *missing_and_beyond(share)])

    @property
    def _usual(self) -> Floats:
        """What part of each column lay in each bin before, (columns, BINS)."""
        known = self.memory.known
        return shares(self.memory.counts[known].sum(axis=0, dtype=np.float64) if known.any() else self.reference.counts)

    def _surprises(self, figures: Floats) -> Floats:
        """Return how surely the shares missing and beyond are more than they were, (2, columns)."""
        users, items = self._seen
        seen = np.where(OF_USERS, users, np.where(OF_ITEMS, items, min(users, items)))
        return surprise(missing_and_beyond(self._usual), figures[1:], np.stack([seen, seen * (1 - figures[1])]))

    def limits(self) -> tuple[Floats, Floats]:
        """Return what counts as calm and the most that is borne, (KINDS, columns) each."""
        rule = self.rule
        if not self.has_learned:
            missing = shares(self.reference.counts)[:, MISSING]
            unknown = np.full(WIDTH, np.inf)
            # Of what training never saw, nothing can be beyond.
            most = np.where(np.stack([missing <= rule.hard_share / 2, missing < 1]), rule.hard_share, np.inf)
            return np.stack([unknown, *most / 2]), np.stack([unknown, *most])
        reached = np.quantile(self.memory.worst[self.memory.known], rule.quantile, axis=0)
        calm = rule.stretch * reached[0] + np.where(IS_SCORE, rule.score_margin, rule.psi_margin)
        room = 1 - reached[1:]  # a share cannot exceed 1
        slack = np.minimum(reached[1:], room) / 2 + np.minimum(rule.share_margin, room / 4)
        return np.stack([calm, *(reached[1:] + slack / 2)]), np.stack([2 * calm, *(reached[1:] + slack)])

    def _finding(self, place: int, figures: Floats, most: Floats) -> Finding:
        kind = int(np.argmax(figures[:, place] / np.maximum(most[:, place], 1e-9)))
        return Finding(COLUMNS[place], KINDS[kind], float(figures[kind, place]), float(most[kind, place]))

    def save(self, path: Path) -> None:
        """Keep what was learned, so that a replica that starts need not learn it again; replaces the file as a whole."""
        aside = path.with_name(f".{path.name}.part")
        memory = self.memory
        with aside.open("wb") as file:
            np.savez(file, edges=self.reference.edges, number=memory.number, counts=memory.counts, worst=memory.worst, scores=memory.scores)
        aside.replace(path)

    def load(self, path: Path) -> bool:
        """Take what was kept, with the bins it was counted in; returns whether there was something that fits."""
        try:
            with np.load(path) as kept:
                edges, memory = kept["edges"], Memory(*(kept[name] for name in ("number", "counts", "worst", "scores")))
        except (OSError, KeyError, ValueError):
            return False
        mine = self.memory
        shapes = [(a.shape, b.shape) for a, b in ((getattr(memory, n), getattr(mine, n)) for n in ("number", "counts", "worst", "scores"))]
        if edges.shape != self.reference.edges.shape or any(a != b for a, b in shapes):
            return False
        self.reference, self.memory = Reference(edges, self.reference.counts, self.reference.middle), memory
        self._limits = None
        return True


def missing_and_beyond(share: Floats) -> Floats:
    """Return what part of each column is missing, and what part of the rest lies beyond training, (2, columns), from shares of bins."""
    beyond = (share[:, BELOW] + np.where(GROWS, 0.0, share[:, ABOVE])) / np.maximum(1 - share[:, MISSING], 1e-9)
    return np.stack([share[:, MISSING], beyond])
