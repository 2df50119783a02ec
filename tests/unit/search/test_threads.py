"""The number of threads changes no front."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def digest(threads: int) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", SEARCH]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    return done.stdout


def test_the_same_front_on_any_number_of_threads() -> None:
    assert digest(1) == digest(2) == digest(4)
