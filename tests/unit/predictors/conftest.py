from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from predictors.estimate import FloatArray
from predictors.features import GROUPS, WORK_COLUMNS, contrasts, work_of_rows
from predictors.latency import LatencyPredictor, fit_latency
from supernet.data.synthetic import synthetic
from supernet.evaluate import EvaluationSet, build_evaluation_set
from supernet.network import Supernet
from supernet.sampling import covering_rows
from supernet.space import Rows, Space, get_space


@pytest.fixture(scope="session")
def tiny() -> Space:
    return get_space("tiny")


@pytest.fixture(scope="session")
def salnas() -> Space:
    return get_space("salnas")


@pytest.fixture(scope="session")
def tiny_supernet(tiny: Space) -> Supernet:
    torch.manual_seed(0)
    return Supernet(tiny).eval()


@pytest.fixture(scope="session")
def photos(tiny: Space) -> EvaluationSet:
    return build_evaluation_set(synthetic(4), resolutions=tiny.resolutions, map_size=(32, 32))


@dataclass(frozen=True)
class Gadget:
    """A device that never existed: a speed for each kind of operation, a time to start each, habits of its own.

    `contrast` is how much the kinds differ from the usual, `habit` the size of what depends on genes alone, `start`
    the milliseconds of an operation, `noise` the relative error of a measurement.
    """

    seed: int
    contrast: float = 0.2
    habit: float = 0.004
    start: float = 0.0
    noise: float = 0.01

    def latency_ms(self, space: Space, rows: Rows, *, noise: float | None = None) -> FloatArray:
        """(n,) milliseconds of measurements."""
        rng = np.random.default_rng(self.seed)
        speed = {group: math.exp(self.contrast * rng.normal()) for group in GROUPS}
        usual = {"macs": 2.5e-8, "traffic": 2.0e-7, "weights": 1.0e-7, "count": 5e-3}
        costs = np.array([usual.get(kind, 0.0) * speed[group] for group, kind in WORK_COLUMNS])
        work = work_of_rows(space, rows)
        starts = work[:, [kind == "count" for _, kind in WORK_COLUMNS]].sum(axis=1)
        x = contrasts(space.sizes, rows)
        habits = np.exp(x @ rng.normal(size=x.shape[1]) * self.habit)
        level = self.noise if noise is None else noise
        disturbed = np.exp(level * np.random.default_rng([self.seed, len(rows)]).normal(size=len(rows)))
        return np.asarray((work @ costs + self.start * starts) * habits * disturbed)


@pytest.fixture(scope="session")
def make_gadget() -> type[Gadget]:
    return Gadget


@pytest.fixture(scope="session")
def known(salnas: Space) -> LatencyPredictor:
    """The predictor of a well measured device."""
    rows = covering_rows(salnas, np.random.default_rng(0), 150)
    return fit_latency(salnas, rows, Gadget(1).latency_ms(salnas, rows), np.random.default_rng(0), folds=5)
