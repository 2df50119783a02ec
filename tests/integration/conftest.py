"""What tests of the whole service share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.made_up import write_made_up_results


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny supernet with made-up predictors; not to be changed."""
    folder = tmp_path_factory.mktemp("results")
    write_made_up_results(folder)
    return folder
