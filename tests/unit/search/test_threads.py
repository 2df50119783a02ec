"""The number of threads changes no front, and others get theirs back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from search.threads import one_blas_thread

ROOT = Path(__file__).resolve().parents[3]
SEARCH = """
import numpy as np
from search.record import front_digest
from search.run import Stop, search
from search.synthetic import additive_space

space = additive_space(27, 2, 1)
rng = np.random.default_rng(0)
weights = [rng.normal(size=shape).astype(np.float32) for shape in ((27, 400), (400, 400), (400, 1))]

def evaluate(rows):
    hidden = np.tanh(np.tanh(rows.astype(np.float32) @ weights[0]) @ weights[1] / 20)
    return {**space(rows), "accuracy": (hidden @ weights[2])[:, 0]}

print(front_digest(search(space, evaluate, stop=Stop(evaluations=20_000)).pareto))
"""


def blas_threads() -> list[int]:
    return [int(found["num_threads"]) for found in threadpool_info() if found["user_api"] == "blas"]


def digest(threads: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", SEARCH]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    return done.stdout


def test_the_same_front_on_any_number_of_threads() -> None:
    assert digest(1) == digest(2) == digest(4)


def test_the_limit_ends_with_the_last_who_is_inside() -> None:
    with threadpool_limits(2, "blas"):
        before = blas_threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        assert set(blas_threads()) == {1}
        first.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_an_error_and_other_threads_leave_the_limit_as_it_was() -> None:
    def often() -> None:
        for _ in range(300):
            with one_blas_thread():
                pass

    with threadpool_limits(2, "blas"):
        before = blas_threads()
        with pytest.raises(KeyError), one_blas_thread():
            raise KeyError
        others = [threading.Thread(target=often) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert blas_threads() == before
