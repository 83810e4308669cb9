"""A model's trees as arrays that are walked by a compiled loop: XGBoost's own predictions to the last bit, in a fraction of the time.

A split sends a value right that reaches its threshold, and a missing one left or right, whatever else it does. What is missing reaches
nothing, so it goes left by itself; where it is to go right, infinity stands for it, which reaches everything. A feature that some
splits send left and others right becomes two columns, one for each, and one that all send the same way stays one.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from ranking.blocks import Matrix
from ranking.boosting import xgboost

if TYPE_CHECKING:
    import xgboost as xgb

LEAF = -1
LEFT, RIGHT = np.float32(np.nan), np.float32(np.inf)
LEAST_ROWS = 2048
"""What a thread must have to do to be worth its start."""


@dataclass(frozen=True)
class Forest:
    """Trees over columns of feature rows, the nodes of all trees end to end, the two that a split leads to side by side.

    `places`: which feature each column is, (c,); `fill`: what stands for a missing value, (c,). `roots`, `depths`: of each tree, (t,).
    `column`, `threshold`: of each split, (n,); `left`: where what is less goes, a leaf's being itself, (n,); `value`: of each leaf, (n,).
    `base`: the margin without any tree. `width`: how many features a row has.
    """

    places: npt.NDArray[np.uint32]
    fill: Matrix
    roots: npt.NDArray[np.uint32]
    depths: npt.NDArray[np.uint32]
    column: npt.NDArray[np.uint32]
    threshold: Matrix
    left: npt.NDArray[np.uint32]
    value: Matrix
    base: np.float32
    width: int
    threads: int

    @staticmethod
    def of(booster: xgb.Booster) -> Forest:
        """Return the trees of a booster; raises ValueError where they are not all plain trees of one margin."""
        content = json.loads(bytes(booster.save_raw("json")))
        learner = content["learner"]
        kind, outputs = learner["gradient_booster"]["name"], learner["learner_model_param"]
        if kind != "gbtree" or int(outputs["num_class"]) > 1 or int(outputs["num_target"]) > 1:
            raise ValueError(f"the model is no sum of trees for one margin, but {kind} with {outputs}")
        columns: dict[tuple[int, bool], int] = {}
        trees = [_in_pairs(tree, columns) for tree in learner["gradient_booster"]["model"]["trees"]]
        if any(place >= booster.num_features() for place, _ in columns):
            raise ValueError(f"the model splits by features that it has not: it has {booster.num_features()}")
        starts = np.cumsum([0, *(len(tree.left) for tree in trees)]).astype(np.uint32)
        ends = list(columns)
        return Forest(
            places=np.array([place for place, _ in ends], np.uint32),
            fill=np.array([LEFT if goes_left else RIGHT for _, goes_left in ends], np.float32),
            roots=starts[:-1],
            depths=np.array([tree.depth for tree in trees], np.uint32),
            column=_joined([tree.column for tree in trees], np.uint32),
            threshold=_joined([tree.threshold for tree in trees], np.float32),
            left=_joined([tree.left + start for tree, start in zip(trees, starts[:-1], strict=True)], np.uint32),
            value=_joined([tree.value for tree in trees], np.float32),
            base=_margin_without_trees(content, booster.num_features()),
            width=booster.num_features(),
            threads=_threads_of(booster),
        )

    def margins(self, rows: Matrix) -> Matrix:
        """Return the raw margins of feature rows, float32 (n,); raises ValueError where rows are no feature rows."""
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.width or not rows.flags.c_contiguous:
            raise ValueError(f"feature rows must be C-contiguous float32 (n, {self.width}), not {rows.dtype} {rows.shape}")
        parts = min(self.threads, max(len(rows) // LEAST_ROWS, 1))
        if parts == 1:
            return self._walk(rows)
        with ThreadPoolExecutor(parts) as pool:
            return np.concatenate(list(pool.map(self._walk, np.array_split(rows, parts))))

    def _walk(self, rows: Matrix) -> Matrix:
        from ranking.forest_loops import walk  # the compiler takes a while to load, and most processes predict nothing

        trees = (self.places, self.fill, self.roots, self.depths, self.column, self.threshold, self.left, self.value, self.base)
        margins: Matrix = walk(rows, *trees)
        return margins


@dataclass(frozen=True)
class _Tree:
    column: npt.NDArray[np.uint32]
    threshold: Matrix
    left: npt.NDArray[np.uint32]
    value: Matrix
    depth: int


def _in_pairs(tree: dict[str, Any], columns: dict[tuple[int, bool], int]) -> _Tree:
    """Return a tree with the two nodes that a split leads to side by side; new columns join `columns`."""
    if any(tree["split_type"]):
        raise ValueError("the model splits by categories, which have no order to send a value by")
    left: list[int] = []
    order, level = [0], [0]
    for node in order:  # grows on the way
        if len(order) > len(tree["left_children"]):
            raise ValueError("the model has a tree whose branches meet again")
        child = tree["left_children"][node]
        left.append(len(left) if child == LEAF else len(order))
        if child != LEAF:
            order += [child, tree["right_children"][node]]
            level += [level[len(left) - 1] + 1] * 2
    is_leaf = np.array(left) == np.arange(len(left))
    ways = [(tree["split_indices"][node], bool(tree["default_left"][node])) for node in order]
    numbers = np.array([tree["split_conditions"][node] for node in order], np.float32)
    column = [0 if leaf else columns.setdefault(way, len(columns)) for way, leaf in zip(ways, is_leaf.tolist(), strict=True)]
    return _Tree(
        column=np.array(column, np.uint32),
        threshold=np.where(is_leaf, np.float32(np.nan), numbers),
        left=np.array(left, np.uint32),
        value=np.where(is_leaf, numbers, np.float32(0)),
        depth=max(level),
    )


def _joined(parts: list[npt.NDArray[Any]], kind: type[np.generic]) -> npt.NDArray[Any]:
    return np.concatenate([*parts, np.empty(0, kind)]).astype(kind)


def _threads_of(booster: xgb.Booster) -> int:
    """Return how many threads a booster predicts with; it writes all cores as 0 or -1."""
    wanted = int(json.loads(booster.save_config())["learner"]["generic_param"]["nthread"])
    return wanted if wanted > 0 else os.cpu_count() or 1


def _margin_without_trees(content: dict[str, Any], features: int) -> np.float32:
    """Return what XGBoost itself makes of a model's base score; leaves nothing in the leaves of `content`."""
    for tree in content["learner"]["gradient_booster"]["model"]["trees"]:
        tree["split_conditions"] = [-0.0] * len(tree["split_conditions"])
    booster: xgb.Booster = xgboost().Booster()
    booster.load_model(bytearray(json.dumps(content).encode()))
    rows = np.zeros((1, features), np.float32)
    margin: np.float32 = booster.inplace_predict(rows, predict_type="margin", validate_features=False)[0]
    return margin


_made: WeakKeyDictionary[xgb.Booster, Forest] = WeakKeyDictionary()
"""By the booster they were made of: bundles that are one model under several ids share them."""


def forest(booster: xgb.Booster) -> Forest:
    """Return the trees of a booster that nobody changes any more, made once; raises what Forest.of raises."""
    found = _made.get(booster)
    if found is None:
        found = _made[booster] = Forest.of(booster)
    return found
