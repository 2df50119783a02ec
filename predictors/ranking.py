"""How well predictions rank and how far they are off, always on subnets that the model has not seen.

Notation: rows (n, d), truth and prediction (n,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from supernet.errors import PredictorError
from supernet.space import Rows

Model: TypeAlias = Callable[[Rows], FloatArray]
Fit: TypeAlias = Callable[[Rows, FloatArray], Model]

FOLDS = 10


@dataclass(frozen=True)
class Quality:
    """Agreement of predictions with measurements of n subnets that were not fitted.

    kendall and spearman rank correlations, r2 the share of variance explained, mae the mean absolute error and p90
    the 90th percentile of it in the unit of the target; within_5 and within_10 the shares off by at most 5 and 10 %.
    """

    n: int
    kendall: float
    spearman: float
    r2: float
    mae: float
    p90: float
    within_5: float
    within_10: float

    def to_json(self) -> dict[str, float]:
        """Plain numbers."""
        return asdict(self)


def quality(truth: FloatArray, prediction: FloatArray) -> Quality:
    """Compare predictions with measurements, (n,) each. Correlations are 0 where one of both is constant."""
    from scipy import stats  # takes a second to import, and whoever only predicts needs none of it

    error = np.abs(prediction - truth)
    relative = error / np.maximum(np.abs(truth), 1e-12)
    flat = np.ptp(truth) == 0 or np.ptp(prediction) == 0
    return Quality(
        n=len(truth),
        kendall=0.0 if flat else float(stats.kendalltau(truth, prediction).statistic),
        spearman=0.0 if flat else float(stats.spearmanr(truth, prediction).statistic),
        r2=float(1.0 - np.square(error).mean() / max(float(truth.var()), 1e-300)),
        mae=float(error.mean()),
        p90=float(np.quantile(error, 0.9)),
        within_5=float((relative <= 0.05).mean()),
        within_10=float((relative <= 0.10).mean()),
    )


def folds_of(n: int, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) the fold of each subnet, sizes as equal as they can be. Raises PredictorError under 1 a fold."""
    if n < folds:
        raise PredictorError(
            f"{n} measured subnets are too few for {folds}-fold cross-validation.",
            field="subnets",
            value=n,
            remedy=f"Measure at least {folds}.",
        )
    return rng.permutation(np.arange(n, dtype=np.int64) % folds)


def out_of_fold(
    fit: Fit, rows: Rows, targets: FloatArray, *, rng: np.random.Generator, folds: int = FOLDS
) -> FloatArray:
    """What models fitted to the other folds' `targets`, (n,) or (n, t), say of every subnet: (n,) or (n, …)."""
    fold = folds_of(len(rows), folds, rng)
    said = [fit(rows[fold != f], targets[fold != f])(rows[fold == f]) for f in range(folds)]
    result = np.empty((len(rows), *said[0].shape[1:]))
    for f, values in enumerate(said):
        result[fold == f] = values
    return result
