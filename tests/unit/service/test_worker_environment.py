"""What a worker's process finds lets Ray fork beside the search."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from service.processes import Lane, environment_of
from service.settings import Settings

FORKING_BESIDE_BLAS = """
import subprocess, threading
import numpy as np

def fork():
    while True:
        subprocess.run(["true"], preexec_fn=lambda: None)

threading.Thread(target=fork, daemon=True).start()
matrix = np.eye(1100) + 1e-4
for _ in range(30):
    np.linalg.cholesky(matrix)
print("done")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_forks_do_not_stop_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # the tests set them, users do not
        monkeypatch.delenv(name, raising=False)
    environment = environment_of(Settings(), Lane.SEARCHES)
    process = subprocess.run(
        [sys.executable, "-c", FORKING_BESIDE_BLAS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert process.stdout.strip() == "done"


def test_other_workers_keep_the_threads_of_their_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    environment = environment_of(Settings(), Lane.CHORES)
    assert "OPENBLAS_NUM_THREADS" not in environment
    assert environment["PATH"] == os.environ["PATH"]
