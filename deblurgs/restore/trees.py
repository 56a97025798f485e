"""Boosted trees as plain arrays: written by a training tool as JSON, evaluated with NumPy alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 8
MAX_TREES = 4000


@dataclass(frozen=True)
class Trees:
    """A sum of complete binary trees of one depth D.

    features int [T, 2^D - 1] and thresholds [T, 2^D - 1] in level order; leaves [T, 2^D]; base is added to the sum. At
    a node the left child is taken when x[feature] < threshold.
    """

    features: NDArray[np.int32]
    thresholds: NDArray[np.float32]
    leaves: NDArray[np.float32]
    base: float

    def predict(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """rows [N,F] -> [N]: the raw sum (log odds for a classifier)."""
        rows = np.asarray(rows, np.float32)
        depth = int(self.leaves.shape[1]).bit_length() - 1
        tree = np.arange(len(self.leaves))
        sample = np.arange(len(rows))[:, None]
        node = np.zeros((len(rows), len(tree)), np.int64)
        for _ in range(depth):
            right = ~(rows[sample, self.features[tree, node]] < self.thresholds[tree, node])
            node = 2 * node + 1 + right
        return self.leaves[tree, node - (2**depth - 1)].sum(axis=1) + np.float32(self.base)

    def as_json(self) -> dict[str, Any]:
        return {
            "features": self.features.tolist(),
            "thresholds": [[_short(v) for v in row] for row in self.thresholds],
            "leaves": [[_short(v) for v in row] for row in self.leaves],
            "base": _short(self.base),
        }


def trees_from_json(record: Any, num_features: int) -> Trees:
    """Read `Trees.as_json` back. Raises ValueError for anything that could not be evaluated safely."""
    try:
        features = np.asarray(record["features"], np.int32)
        thresholds = np.asarray(record["thresholds"], np.float32)
        leaves = np.asarray(record["leaves"], np.float32)
        base = float(record["base"])
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"trees are incomplete ({type(error).__name__}: {error})") from error
    if features.ndim != 2 or leaves.ndim != 2 or not 1 <= len(leaves) <= MAX_TREES:
        raise ValueError(f"trees have the shapes {features.shape} and {leaves.shape}")
    depth = int(leaves.shape[1]).bit_length() - 1
    nodes = (len(leaves), 2**depth - 1)
    if (
        leaves.shape[1] != 2**depth
        or depth > MAX_DEPTH
        or features.shape != nodes
        or thresholds.shape != nodes
    ):
        raise ValueError(f"trees of {leaves.shape[1]} leaves have {features.shape} nodes")
    if features.size and (features.min() < 0 or features.max() >= num_features):
        raise ValueError(f"trees ask for features outside 0..{num_features - 1}")
    if not (np.isfinite(thresholds).all() and np.isfinite(leaves).all() and np.isfinite(base)):
        raise ValueError("trees hold numbers that are not finite")
    return Trees(features, thresholds, leaves, base)


def _short(value: float) -> float:
    """Six significant digits: rounding moves no split by more than its features are sure of."""
    return float(f"{value:.6g}")
