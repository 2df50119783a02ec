"""Tune the models of accuracy with Ray Tune: Optuna proposes, ASHA stops what lags, Kendall's τ decides.

    python -m predictors.tune --trials 30 --workers 2

A trial is judged fold by fold on subnets that it has not seen; after each fold it reports the τ so far, and ASHA ends
it where others did better on as many folds. All trials share the folds. The fewer folds a trial lived, the noisier
its τ, so the table names them, and only trials with all folds can win.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from rich.console import Console

from predictors.candidates import CANDIDATES, networks
from predictors.estimate import FloatArray
from predictors.features import general_features
from predictors.gaussian import fit_gaussian
from predictors.ranking import Fit, Model, folds_of
from predictors.report import markdown
from predictors.tables import read_table
from supernet.errors import PredictorError, SettingsError
from supernet.files import write_atomic
from supernet.space import Rows, Space, get_space

FOLDS = 8
_FEWEST = 2
"""Folds before ASHA may stop a trial."""

TUNED = ("gaussian", "boosting", "networks", "ridge")

Choices = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Task:
    """What all trials share: a space, genotypes (n, d), targets (n,) and the fold (n,) of each subnet."""

    space: Space
    rows: Rows
    target: FloatArray
    fold: Any

    def scores(self, choices: Choices) -> Any:
        """Kendall's τ on the held-out subnets of the first fold, of the first two, and so on."""
        from scipy import stats

        predicted = np.full(len(self.target), np.nan)
        fit = fit_of(self.space, choices)
        for number in range(int(self.fold.max()) + 1):
            held = self.fold == number
            predicted[held] = fit(self.rows[~held], self.target[~held])(self.rows[held])
            seen = np.isfinite(predicted)
            tau = float(stats.kendalltau(self.target[seen], predicted[seen]).statistic)
            yield 0.0 if np.isnan(tau) else tau


def fit_of(space: Space, choices: Choices) -> Fit:
    """The model that `choices` describe: `model` and what belongs to it."""
    kind = choices["model"]
    if kind == "gaussian":

        def fit_process(rows: Rows, target: FloatArray) -> Model:
            return fit_gaussian(
                space,
                rows,
                target,
                usual_length=choices["usual_length"],
                spread_of_lengths=choices["spread_of_lengths"],
            )

        return fit_process
    if kind == "boosting":
        return _boosting(space, choices)
    if kind == "networks":
        return networks(space, hidden=choices["hidden"], penalty=choices["weight_decay"])
    if kind == "ridge":
        return CANDIDATES["ridge on pairs"](space)
    raise SettingsError(
        f"There is no model {kind!r} to tune.",
        field="model",
        value=kind,
        remedy=f"Use one of {', '.join(TUNED)}.",
    )


def _boosting(space: Space, choices: Choices) -> Fit:
    from sklearn.ensemble import HistGradientBoostingRegressor

    def fit(rows: Rows, target: FloatArray) -> Model:
        trees = HistGradientBoostingRegressor(
            learning_rate=choices["learning_rate"],
            max_iter=choices["trees"],
            max_leaf_nodes=choices["leaves"],
            min_samples_leaf=choices["least_samples"],
            l2_regularization=choices["penalty"],
            random_state=0,
        ).fit(general_features(space, rows), target)
        return lambda unseen: np.asarray(trees.predict(general_features(space, unseen)), dtype=np.float64)

    return fit


def search_space(trial: Any) -> dict[str, Any]:
    """What Optuna chooses from; a choice depends on the model that was chosen before it."""
    model = trial.suggest_categorical("model", list(TUNED))
    if model == "gaussian":
        trial.suggest_float("usual_length", 1.5, 15.0, log=True)
        trial.suggest_float("spread_of_lengths", 0.2, 2.0, log=True)
    elif model == "boosting":
        trial.suggest_float("learning_rate", 0.02, 0.3, log=True)
        trial.suggest_int("trees", 50, 600, log=True)
        trial.suggest_int("leaves", 3, 24, log=True)
        trial.suggest_int("least_samples", 3, 30, log=True)
        trial.suggest_float("penalty", 1e-2, 10.0, log=True)
    elif model == "networks":
        trial.suggest_int("hidden", 16, 96, log=True)
        trial.suggest_float("weight_decay", 1e-2, 30.0, log=True)
    return {}


def tune_models(task: Task, *, trials: int, workers: int, seed: int = 0) -> pd.DataFrame:
    """Run the trials on Ray (RAY_ADDRESS joins a cluster, otherwise a local one); best first, one line each."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
        from optuna.samplers import TPESampler
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search import ConcurrencyLimiter
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise SettingsError(
            f"Tuning needs {error.name}.",
            field="tune",
            value=error.name,
            remedy="Install it: pip install 'ray[tune]' optuna.",
        ) from error

    started = not ray.is_initialized()
    if started:
        local = {} if os.environ.get("RAY_ADDRESS") else _local(workers)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    folds = int(task.fold.max()) + 1
    try:
        proposer = OptunaSearch(search_space, metric="tau", mode="max", sampler=TPESampler(seed=seed))
        with tempfile.TemporaryDirectory() as folder:
            results = tune.Tuner(
                tune.with_parameters(_trial, task=task),
                tune_config=tune.TuneConfig(
                    metric="tau",
                    mode="max",
                    num_samples=trials,
                    search_alg=ConcurrencyLimiter(proposer, max_concurrent=workers),
                    scheduler=ASHAScheduler(max_t=folds, grace_period=_FEWEST, reduction_factor=2),
                ),
                run_config=tune.RunConfig(storage_path=folder, verbose=0),
            ).fit()
            lines = [_line(results[place]) for place in range(len(results))]
    finally:
        if started:
            ray.shutdown()
    frame = pd.DataFrame(lines)
    if frame.empty or not (frame["folds"] == folds).any():
        raise PredictorError("No trial came to its end.", field="trials", value=trials, remedy="Try more.")
    return frame.sort_values(["folds", "tau"], ascending=False, ignore_index=True)


def _local(workers: int) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": workers,
        "include_dashboard": False,
        "object_store_memory": 128 * 2**20,
        "_node_ip_address": "127.0.0.1",
    }


def _trial(choices: dict[str, Any], task: Task) -> None:
    from ray import tune

    for number, tau in enumerate(task.scores(choices), 1):
        tune.report({"tau": tau, "folds": number})


def _line(result: Any) -> dict[str, Any]:
    figures = result.metrics or {}
    return {
        "tau": figures.get("tau", float("nan")),
        "folds": figures.get("folds", 0),
        "model": result.config["model"],
        "choices": json.dumps({k: v for k, v in sorted(result.config.items()) if k != "model"}),
    }


def main(
    table: Annotated[Path, typer.Option(help="Accuracy table.")] = Path(
        "results/predictors/salnas-osie/accuracy.parquet"
    ),
    metric: Annotated[str, typer.Option(help="Column to predict.")] = "cc",
    trials: Annotated[int, typer.Option(min=1, help="Trials.")] = 30,
    workers: Annotated[int, typer.Option(min=1, help="Trials at the same time.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of folds and of Optuna.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("results/benchmarks"),
) -> None:
    """Tune, and write predictors-tuning.md and .json."""
    measured = read_table(table)
    space = get_space(str(measured.identity["space"]))
    fold = folds_of(len(measured), FOLDS, np.random.default_rng(seed))
    task = Task(space, measured.rows(space), measured.column(metric), fold)
    frame = tune_models(task, trials=trials, workers=workers, seed=seed)
    defaults = {"model": "gaussian", "usual_length": 4.5, "spread_of_lengths": 0.7}
    frame.attrs["default"] = list(task.scores(defaults))[-1]
    text = (
        f"# Tuning of the predictor of {metric}\n\n"
        f"`python -m predictors.tune {' '.join(sys.argv[1:])}`, {len(measured)} subnets, {FOLDS} folds.\n\n"
        f"τ is of held-out subnets in the folds that a trial lived; the process that ships has"
        f" {frame.attrs['default']:.4f} on all of them.\n\n{markdown(frame)}"
    )
    write_atomic(out / "predictors-tuning.md", text)
    figures = {"default": frame.attrs["default"], "trials": frame.to_dict("records")}
    write_atomic(out / "predictors-tuning.json", json.dumps(figures, indent=1) + "\n")
    Console().print(
        f"Best: {frame.iloc[0]['model']} {frame.iloc[0]['choices']}, τ {frame.iloc[0]['tau']:.4f}"
    )


if __name__ == "__main__":
    typer.run(main)
