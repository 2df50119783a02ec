"""Tuning: trials are judged on unseen subnets, and every choice makes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.ranking import folds_of
from predictors.tune import TUNED, Task, fit_of, search_space
from supernet.errors import SettingsError
from supernet.sampling import covering_rows
from supernet.space import Space

ROOT = Path(__file__).resolve().parents[3]
CHOICES: dict[str, dict[str, Any]] = {
    "gaussian": {"usual_length": 4.0, "spread_of_lengths": 0.7},
    "boosting": {"learning_rate": 0.1, "trees": 60, "leaves": 6, "least_samples": 4, "penalty": 1.0},
    "networks": {"hidden": 16, "weight_decay": 1.0},
    "ridge": {},
}


def task_of(space: Space, target: Any, n: int = 60) -> Task:
    rows = covering_rows(space, np.random.default_rng(0), n)
    return Task(space, rows, target(rows), folds_of(n, 4, np.random.default_rng(0)))


@pytest.mark.parametrize("name", TUNED)
def test_trials_are_judged_on_unseen_subnets(tiny: Space, name: str) -> None:
    choices = CHOICES[name] | {"model": name}
    learnable = list(task_of(tiny, lambda rows: rows.sum(axis=1) + 0.1 * rows[:, 0]).scores(choices))
    assert len(learnable) == 4
    assert learnable[-1] > 0.6
    noise = np.random.default_rng(1)
    assert abs(list(task_of(tiny, lambda rows: noise.normal(size=len(rows))).scores(choices))[-1]) < 0.35


def test_choices_make_a_model(tiny: Space) -> None:
    class First:
        """Takes the first of everything; the model it is told to."""

        def __init__(self, model: str) -> None:
            self.model, self.asked = model, dict[str, Any]()

        def suggest_categorical(self, name: str, options: list[str]) -> str:
            assert self.model in options
            self.asked[name] = self.model
            return self.model

        def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
            assert 0 < low < high
            assert log
            self.asked[name] = low
            return low

        suggest_int = suggest_float

    for name in TUNED:
        trial = First(name)
        search_space(trial)
        rows = covering_rows(tiny, np.random.default_rng(0), 20)
        assert np.isfinite(fit_of(tiny, trial.asked)(rows, rows.sum(axis=1).astype(float))(rows)).all()
    with pytest.raises(SettingsError, match="abacus"):
        fit_of(tiny, {"model": "abacus"})
