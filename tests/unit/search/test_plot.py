"""Plots are written in the format their name says."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from search.front import Front, front_table
from search.plot import PICTURES, plot_fronts
from search.problem import Objective
from supernet.errors import SettingsError
from supernet.space import get_space

SPACE = get_space("salnas")


def front_of(seed: int, shift: float = 0.0) -> Front:
    rows = SPACE.sample(np.random.default_rng(seed), 40)
    cost = np.sort(rows.sum(axis=1) + rows[:, 0] * 30.0 + np.linspace(0, 1, 40))
    columns = {"accuracy": 0.5 + np.log(cost) / 12 - shift, "macs": cost * 3e7}
    return front_table(SPACE, rows, columns, (Objective("accuracy", "max"), Objective("macs", "min")))


@pytest.mark.parametrize("suffix", PICTURES)
def test_pictures(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"front{suffix}"
    plot_fronts({"a": front_of(0)}, path, title="A front", budget=1.5e9)
    assert path.stat().st_size > 5000
    if suffix == ".png":
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert image.width > 1500
        for colour in ([0x0B, 0x6E, 0x4F], [0xD9, 0x48, 0x01]):
            assert (np.abs(pixels.astype(int) - colour).sum(axis=2) < 40).sum() > 500, "a colour a resolution"


def test_a_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "front.html"
    plot_fronts({"a": front_of(0), "b": front_of(1, 0.02)}, path, budget=1.5e9)
    page = path.read_text()
    assert front_of(0).table["id"][0] in page
    assert 'src="http' not in page


@pytest.mark.parametrize("name", ["front.gif", "front"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"\.png.*\.html"):
        plot_fronts({"a": front_of(0)}, tmp_path / name)


def test_a_machine_without_matplotlib_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return find(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match="matplotlib is not installed"):
        plot_fronts({"a": front_of(0)}, tmp_path / "front.png")
