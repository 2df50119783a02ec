from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.tiny import TINY, write_predictors, write_supernet


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny supernet and its predictors."""
    folder = tmp_path_factory.mktemp("results")
    write_supernet(folder)
    write_predictors(folder)
    return folder


@pytest.fixture
def here(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; the tiny supernet is the default one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SALNAS_RESULTS", str(results))
    monkeypatch.setenv("SALNAS_SUPERNET", TINY)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path
