from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from predictors import report
from predictors.candidates import CANDIDATES, compare, learning_curve, ridge
from predictors.estimate import FloatArray
from predictors.features import scaled_genes
from predictors.ranking import quality
from predictors.report import (
    CEILING,
    HeldOut,
    Page,
    _drawn,
    accuracy_report,
    by_band,
    by_budget,
    by_gene,
    by_resolution,
    coverage,
    hold_out,
    latency_report,
    markdown,
    noise_ceiling,
    photo_ceiling,
    recalibration_ceiling,
    sampling_report,
    transfer_report,
)
from predictors.tables import Table, gene_columns
from supernet.metric_names import METRICS
from supernet.sampling import covering_rows
from supernet.space import Rows, Space, get_space

N = 60


def accuracy_of(space: Space, rows: Rows) -> FloatArray:
    z = scaled_genes(space.sizes, rows)
    return np.asarray(0.6 + z @ np.linspace(0.01, 0.03, z.shape[1]) + 0.02 * z[:, 0] * z[:, 1])


@pytest.fixture(scope="module")
def rows(tiny: Space) -> Rows:
    return covering_rows(tiny, np.random.default_rng(0), N)


def table_of(space: Space, rows: Rows, **columns: FloatArray) -> Table:
    identity = {"space_fingerprint": space.fingerprint}
    return Table(pd.DataFrame({**gene_columns(space, rows), **columns}), identity)


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_rank_unseen_subnets(tiny: Space, rows: Rows, name: str) -> None:
    model = CANDIDATES[name](tiny)(rows, accuracy_of(tiny, rows))
    unseen = tiny.sample(np.random.default_rng(1), 200)
    assert quality(accuracy_of(tiny, unseen), model(unseen)).kendall > 0.6


def test_comparison_is_on_equal_folds(tiny: Space, rows: Rows) -> None:
    found = compare(
        tiny, rows, accuracy_of(tiny, rows), np.random.default_rng(0), names=["ridge on pairs"] * 1
    )
    again = compare(tiny, rows, accuracy_of(tiny, rows), np.random.default_rng(0), names=["ridge on pairs"])
    assert found == again
    assert found["ridge on pairs"].n == N


def test_more_subnets_teach_more(tiny: Space, rows: Rows) -> None:
    target = accuracy_of(tiny, rows) + 0.005 * np.random.default_rng(2).normal(size=N)
    curve = learning_curve(ridge(tiny), rows, target, [12, 48], np.random.default_rng(0), repeats=4)
    assert [q.n for q in curve[12]] == [48] * 4
    assert np.mean([q.kendall for q in curve[48]]) > np.mean([q.kendall for q in curve[12]])


def test_bands_and_genes_say_where_errors_are(tiny: Space, rows: Rows) -> None:
    truth = accuracy_of(tiny, rows)
    biased = truth - 0.5 * (rows[:, 0] == 1)
    held = HeldOut("cc", tiny, rows, truth, biased)
    genes = by_gene(held)
    resolution = genes[genes["gene"] == "resolution"].set_index("choice")["bias"]
    assert resolution["64x64"] == pytest.approx(0.5)
    assert resolution["32x32"] == pytest.approx(0.0)
    assert genes["n"].sum() == N * len(tiny.genes)
    assert by_band(held)["n"].sum() == N


def test_residuals_of_latencies_are_relative(tiny: Space, rows: Rows) -> None:
    truth = np.full(N, 30.0)
    assert HeldOut("x", tiny, rows, truth, truth / 1.1, relative=True).residual == pytest.approx(np.log(1.1))
    assert HeldOut("x", tiny, rows, truth, truth - 3.0).residual == pytest.approx(3.0)


def test_coverage_of_intervals(tiny: Space) -> None:
    rows = covering_rows(tiny, np.random.default_rng(0), 300)
    truth = np.random.default_rng(1).normal(size=300)
    held = HeldOut("cc", tiny, rows, truth, np.zeros(300))
    assert coverage(held, np.random.default_rng(0)) == pytest.approx(0.905, abs=0.02)


def test_drawn_subnets_are_told_from_those_of_fronts() -> None:
    space = get_space("salnas")
    drawn = covering_rows(space, np.random.default_rng(0), 30)
    others = space.sample(np.random.default_rng(9), 20)
    assert _drawn(space, np.concatenate([others, drawn])).tolist() == [False] * 20 + [True] * 30


def test_photos_that_agree_and_photos_that_do_not(tiny: Space, rows: Rows) -> None:
    rng = np.random.default_rng(0)
    signal = accuracy_of(tiny, rows)
    noisy = {name: signal + 0.01 * rng.normal(size=N) for name in ("first", "second")}
    n = np.full(N, 10.0)
    same = table_of(tiny, rows, cc=signal, cc_half=signal, n_photos=n)
    assert photo_ceiling(same, "cc")["kendall_halves"] == pytest.approx(1.0)
    mean = (noisy["first"] + noisy["second"]) / 2
    found = photo_ceiling(table_of(tiny, rows, cc=mean, cc_half=noisy["first"], n_photos=n), "cc")
    expected = signal.var() / (signal.var() + 0.01**2 / 2)
    assert found["reliability"] == pytest.approx(expected, abs=0.03)
    assert found["kendall_halves"] < 0.95


def test_the_noise_ceiling_is_quoted_for_the_supernet_it_was_measured_on(tmp_path: Path) -> None:
    path = tmp_path / CEILING
    assert recalibration_ceiling(path, "one") == {}
    line = {"metric": "cc", "recalibrated twice": 0.9, "fitted and recalibrated": 0.8}
    about = {"supernet_fingerprint": "one", "subnets": 16}
    path.write_text(json.dumps({"about": about, "rows": [line]}))
    assert recalibration_ceiling(path, "one") == {"cc": 0.9}
    assert recalibration_ceiling(path, "another") == {}
    path.write_text(json.dumps({"about": about | {"subnets": 8}, "rows": [line]}))
    assert recalibration_ceiling(path, "one") == {}, "a ranking of eight says little"


def test_noise_limits_even_a_perfect_predictor() -> None:
    latency = np.linspace(10.0, 100.0, 200)
    rng = np.random.default_rng(0)
    assert noise_ceiling(latency, np.full(200, 1e-6), rng).within_5 == 1.0
    assert noise_ceiling(latency, np.full(200, 0.05), rng).within_5 == pytest.approx(0.68, abs=0.03)


def test_figures_are_of_unseen_subnets(tiny: Space, rows: Rows) -> None:
    noise = np.random.default_rng(0).normal(size=N)
    held = hold_out("noise", tiny, rows, noise, ridge(tiny), np.random.default_rng(0))
    assert abs(held.quality.kendall) < 0.35


@pytest.mark.slow
def test_reports_hold_every_target_and_their_plots(
    tiny: Space, rows: Rows, make_gadget: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_CURVE", (30, 40))
    monkeypatch.setattr("predictors.candidates._NETWORKS", 1)
    monkeypatch.setattr("predictors.candidates._STACK_FOLDS", 2)
    truth = accuracy_of(tiny, rows)
    columns = dict.fromkeys(METRICS, truth) | {f"{name}_half": truth for name in METRICS}
    table = table_of(tiny, rows, **columns, n_photos=np.full(N, 8.0))
    page = Page(tmp_path)
    sampling_report(page, tiny, np.random.default_rng(0), 40)
    accuracy_report(page, table, tiny, np.random.default_rng(0))
    text = page.save("predictors").read_text()
    assert all(f"| {name} |" in text for name in (*METRICS, *CANDIDATES))
    devices = {
        name: table_of(
            tiny, rows, latency_ms=make_gadget(seed).latency_ms(tiny, rows), noise=np.full(N, 0.01)
        )
        for name, seed in (("old", 70), ("new", 71))
    }
    latency_report(page, devices, tiny, np.random.default_rng(0))
    transfer_report(page, devices, tiny, np.random.default_rng(0))
    text = page.save("predictors").read_text()
    assert "| old |" in text
    assert "### new by size" in text
    assert "transfer" not in page.tables, "none of the pack was measured"
    named = set(re.findall(r"\]\((.*?)\)", text))
    assert {path.name for path in tmp_path.iterdir()} == named | {"predictors.md", "predictors.json"}
    figures = json.loads((tmp_path / "predictors.json").read_text())
    assert [line["target"] for line in figures["accuracy"]] == list(METRICS)
    assert figures["latency"][0]["n"] == N


def test_each_resolution_is_judged_by_itself(tiny: Space, rows: Rows) -> None:
    small = rows[:, 0] == 0
    held = HeldOut("a device", tiny, rows, np.ones(N), np.where(small, 1.04, 1.2), relative=True)
    found = by_resolution(held)
    assert found["n"].sum() == N
    assert found[["resolution", "≤5 %", "≤10 %"]].values.tolist() == [["32x32", 1, 1], ["64x64", 0, 0]]


def test_a_budget_shows_what_a_wrong_prediction_costs(tiny: Space, rows: Rows) -> None:
    truth = accuracy_of(tiny, rows)
    right = by_budget(HeldOut("cc", tiny, rows, truth, truth))
    assert (right["best measured"] == right["measured of the preferred"]).all()
    assert right["best measured"].is_monotonic_increasing
    wrong = by_budget(HeldOut("cc", tiny, rows, truth, -truth))
    assert (wrong["best measured"] > wrong["measured of the preferred"]).all()
    assert wrong["measured of the preferred"].iloc[-1] == pytest.approx(truth.min())


def test_markdown_tables() -> None:
    text = markdown(pd.DataFrame({"a": ["x", "y"], "b": [0.123456, 12345.0]}))
    assert text == "| a | b |\n| --- | --- |\n| x | 0.1235 |\n| y | 12,345 |\n"
