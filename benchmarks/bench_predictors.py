"""How fast predictors answer a search, and how long they take to fit, to choose and to time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import median_seconds, publish
from predictors.estimate import FloatArray
from predictors.features import contrasts, scaled_genes, sections, work_of_rows
from predictors.gaussian import GaussianModel, fit_gaussian
from predictors.latency import fit_latency_model
from predictors.pack import pack_rows
from predictors.pairs import fit_pairs
from predictors.transfer import transferred
from supernet.sampling import covering_rows
from supernet.space import Rows, Space, get_space

ROWS = 50_000


def main() -> None:
    """Measure on made-up accuracies and latencies, and publish."""
    space = get_space("salnas")
    rng = np.random.default_rng(0)
    rows = covering_rows(space, rng, 300)
    x = contrasts(space.sizes, rows)
    accuracy = 0.7 + 0.01 * x @ rng.normal(size=x.shape[1]) + 0.01 * x[:, 0] * x[:, 1] * x[:, 2]
    latency = work_of_rows(space, rows).sum(axis=1) / 1e8 * np.exp(0.01 * rng.normal(size=300))
    gaussian = fit_gaussian(space, rows, accuracy)
    pairs = fit_pairs(space.sizes, rows, accuracy[:, None])[0][0]
    timed = fit_latency_model(space, rows, latency)
    lines = []
    thousand = covering_rows(space, rng, 1000)
    many = fit_gaussian(space, thousand, contrasts(space.sizes, thousand)[:, 0])
    models: tuple[tuple[str, Callable[[Rows], object]], ...] = (
        ("Gaussian process of 300", gaussian),
        ("Gaussian process of 1000", many),
        ("Gaussian process of 1000, scikit-learn", scikit(space, thousand, many)),
        ("ridge on pairs", pairs),
        ("latency", timed),
    )
    for name, model in models:
        for n in (200, ROWS):
            sample = space.sample(rng, n)
            took = median_seconds(partial(model, sample), 5)
            lines.append({"what": f"predict: {name}", "subnets": n, "seconds": took, "a second": n / took})
    jobs: list[tuple[str, int, Callable[[], object]]] = [
        ("fit: Gaussian process", 300, lambda: fit_gaussian(space, rows, accuracy)),
        ("fit: ridge on pairs", 300, lambda: fit_pairs(space.sizes, rows, accuracy[:, None])),
        ("fit: latency", 100, lambda: fit_latency_model(space, rows[:100], latency[:100])),
        ("fit: latency from a known device", 10, lambda: transferred(space, timed, rows[:10], latency[:10])),
        ("choose: covering the space", 1000, lambda: covering_rows(space, rng, 1000)),
        ("choose: a pack", 30, lambda: pack_rows(space, 30)),
        ("sections of the network, once", 1, lambda: sections.__wrapped__(space)),
    ]
    for name, n, run in jobs:
        took = median_seconds(run, 3)
        lines.append({"what": name, "subnets": n, "seconds": took, "a second": n / took})
    publish(
        "predictors-speed",
        "Speed of the predictors",
        pd.DataFrame(lines),
        command="python benchmarks/bench_predictors.py",
        note="A search asks for a few hundred subnets at a time, or for as many as it likes.",
    )


def scikit(space: Space, rows: Rows, model: GaussianModel) -> Callable[[Rows], object]:
    """scikit-learn's process of the same subnets, with what all genes say together alone: it knows no pairs."""
    parameters = model.support.parameters
    far, near = (RBF(lengths, "fixed") for lengths in parameters.lengths)
    kernel = far + ConstantKernel(parameters.near, "fixed") * near
    fitted = GaussianProcessRegressor(kernel, alpha=parameters.noise, optimizer=None)

    def seen(asked: Rows) -> FloatArray:
        return scaled_genes(space.trait_sizes, space.traits(asked))

    fitted.fit(seen(rows), model(rows) - model.constant)
    return lambda asked: fitted.predict(seen(asked))


if __name__ == "__main__":
    main()
