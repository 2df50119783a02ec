"""What all tests share: data at hand, a browser, one profile for hypothesis."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# A test's tensors are small: threads cost more than they bring. Read by torch and BLAS when they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# Services that tests start need a Ray of their own only where the test is about it.
os.environ.setdefault("SALNAS_RAY", "demand")

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What processes share where several run tests: a file at a time, and all that start services in one of them.

    Those wait more than they compute, and two services at once would take the cores from each other.
    """
    for item in items:
        path = item.path.relative_to(ROOT / "tests")
        group = "services" if path.parts[0] in ("contract", "e2e", "integration") else str(path)
        item.add_marker(pytest.mark.xdist_group(group))


def _shared_folder(variable: str, default: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not path.is_dir():
        pytest.skip(f"no folder {path}; name one with {variable}")
    return path


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the saliency data sets (`SALNAS_DATA`); skips where there is none."""
    return _shared_folder("SALNAS_DATA", "data")


@pytest.fixture(scope="session")
def weights_root() -> Path:
    """The folder of published weights (`SALNAS_WEIGHTS`); skips where there is none."""
    return _shared_folder("SALNAS_WEIGHTS", "weights")


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Path of Chromium, for playwright's `executable_path`; skips where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium here; `make setup-system` installs it where that is possible")
