"""Stored fronts from the command line: shown, queried, drawn, compared, found again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from service.cli import run
from tests.fixtures.tiny import TINY, write_predictors, write_supernet

Salnas = Callable[..., Any]


@pytest.fixture(scope="module")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the records of three searches."""
    folder = tmp_path_factory.mktemp("searches")
    write_supernet(folder / "results")
    write_predictors(folder / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SALNAS_RESULTS", str(folder / "results"))
        patch.setenv("SALNAS_SUPERNET", TINY)
        for name, *more in (
            ("a",),
            ("b", "--seed", "1"),
            ("three", "-o", "accuracy", "-o", "latency_ms", "-o", "macs"),
        ):
            assert run(["search", "--evaluations", "400", "--out", str(folder / name), *more, "--json"]) == 0
    return folder


@pytest.fixture
def salnas(searches: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Salnas:
    """Run a command in the folder of the searches; returns what it printed, parsed if --json was given."""
    monkeypatch.chdir(searches)
    monkeypatch.setenv("SALNAS_RESULTS", "results")
    monkeypatch.setenv("SALNAS_SUPERNET", TINY)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: str) -> Any:
        code = run(words)
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out) if "--json" in words else captured.out

    return call


@pytest.mark.parametrize("form", ["a", "a/front.csv", "a/front.parquet"])
def test_a_front_is_read_from_a_record_and_from_its_tables(salnas: Salnas, form: str) -> None:
    found, record = salnas("front", "show", form, "--json"), salnas("front", "show", "a", "--json")
    assert found == record
    assert found["knee"] in [subnet["id"] for subnet in found["subnets"]]
    assert found["hypervolume"] > 0
    shown = salnas("front", "show", form)
    assert f"knee {found['knee']}" in shown
    assert f"{found['hypervolume']:.4f}" in shown


def test_a_table_without_a_record_is_a_front_too(salnas: Salnas, tmp_path: Path) -> None:
    table = pd.read_csv("a/subnets.csv")
    table.to_csv(tmp_path / "mine.csv", index=False)
    found = salnas("front", "show", str(tmp_path / "mine.csv"), "-o", "accuracy", "-o", "macs", "--json")
    assert [subnet["id"] for subnet in found["subnets"]] == table["id"].tolist()
    assert found["objectives"] == ["max:accuracy", "min:macs"]
    assert found["hypervolume"] is found["seed"] is None


def test_a_query_answers_with_the_best_inside_the_budget(salnas: Salnas) -> None:
    table = pd.read_csv("a/front.csv")
    budget = float(table["latency_ms"].median())
    inside = table[table["latency_ms"] <= budget].sort_values("accuracy", ascending=False)
    found = salnas("front", "query", "a", "-c", f"latency_ms<={budget}", "-k", "2", "--json")["subnets"]
    assert [subnet["id"] for subnet in found] == inside["id"].head(2).tolist()
    small = salnas("front", "query", "a", "-c", f"latency_ms<={budget}", "--by", "latency_ms", "--json")
    assert small["subnets"][0]["id"] == table.sort_values("latency_ms")["id"].iloc[0]


def test_an_impossible_query_says_what_is_possible(
    salnas: Salnas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["front", "query", "a", "-c", "latency_ms<=0.001"]) == 2
    assert "goes from" in capsys.readouterr().err


def test_fronts_are_compared_in_one_box(salnas: Salnas) -> None:
    found = salnas("front", "compare", "a", "b/front.csv", "--json")
    assert [line["front"] for line in found["fronts"]] == ["a", "b"]
    assert all(0 < line["hypervolume"] <= 1 and 0 < line["share"] <= 1 for line in found["fronts"])
    attained = {line["percentile"]: line["hypervolume"] for line in found["attainment"]}
    assert attained[0] == pytest.approx(1.0)
    worst = min(line["hypervolume"] for line in found["fronts"])
    assert attained[100] <= worst + 1e-12
    shown = salnas("front", "compare", "a", "b")
    assert "at least one" in shown
    assert found["fronts"][0]["knee"] in shown


def test_fronts_over_other_objectives_are_compared_where_they_agree(
    salnas: Salnas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["front", "compare", "a", "three"]) == 2
    assert "different objectives" in capsys.readouterr().err
    found = salnas("front", "compare", "a", "three", "-o", "accuracy", "-o", "latency_ms", "--json")
    assert len(found["fronts"]) == 2


@pytest.mark.parametrize(
    "words",
    [("a",), ("a", "b", "--budget", "5"), ("a", "b", "--attainment", "--title", "Two"), ("three",)],
)
def test_pictures_are_drawn(salnas: Salnas, tmp_path: Path, words: tuple[str, ...]) -> None:
    path = tmp_path / "front.png"
    found = salnas("front", "plot", *words, "--out", str(path), "--json")
    assert found["size_bytes"] == path.stat().st_size
    with Image.open(path) as image:
        assert image.width > 1500
        assert len(image.convert("RGB").getcolors(10**7) or ()) > 50


def test_a_picture_of_one_front_names_the_device(salnas: Salnas, tmp_path: Path) -> None:
    path = tmp_path / "front.html"
    device = salnas("front", "show", "a", "--json")["device"]
    salnas("front", "plot", "a", "--out", str(path))
    assert f"latency on {device}" in path.read_text()
    salnas("front", "plot", "a", "b", "--out", str(path))
    assert f"latency on {device}" not in path.read_text()
    salnas("front", "plot", "a", "--title", "Mine", "--out", str(path))
    assert f"latency on {device}" not in path.read_text()


def test_attainment_of_three_objectives_is_not_drawn(
    salnas: Salnas, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["front", "plot", "three", "--attainment", "--out", "x.png"]) == 2
    assert "two objectives" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a", "three"])
def test_a_search_is_found_again(salnas: Salnas, tmp_path: Path, name: str) -> None:
    found = salnas("rerun", name, "--out", str(tmp_path / "again"), "--json")
    assert found["identical"] is True
    assert found["differences"] == {}
    assert pd.read_csv(tmp_path / "again" / "front.csv").equals(pd.read_csv(Path(name) / "front.csv"))
    assert "identical to" in salnas("rerun", str(tmp_path / "again"))


def test_a_search_with_other_predictors_is_not_the_same(
    salnas: Salnas, searches: Path, tmp_path: Path
) -> None:
    manifest = json.loads(Path("a/manifest.json").read_text())
    manifest["provenance"]["predictors"]["accuracy"] = "0" * 16
    manifest["front_sha256"] = "0" * 64
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    found = salnas("rerun", str(copy), "--json")
    assert found["identical"] is False
    assert found["differences"]["accuracy"][0] == "0" * 16
    assert "not the front of" in salnas("rerun", str(copy))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["front", "show", "nowhere.csv"], "cannot be read"),
        (["front", "show", "results/supernets"], "manifest.json"),
        (["front", "show", "a", "-o", "beauty", "-o", "accuracy"], "no numbers of beauty"),
        (["front", "compare", "a", "a"], "named twice"),
        (["front", "plot", "a", "--out", "front.gif"], ".png"),
        (["rerun", "nowhere"], "manifest.json"),
    ],
)
def test_mistakes_are_told(
    salnas: Salnas, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert run(words) == 2
    assert text in capsys.readouterr().err
