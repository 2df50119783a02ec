"""Cost of 100,000 genotype rows, against one fvcore analysis of one subnet in the same run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.report import median_seconds, publish
from supernet.cost import cost, layer_table
from supernet.space import get_space

ROWS = 100_000


def fvcore_run() -> Callable[[], object]:
    """One analysis of a random subnet by fvcore."""
    import torch
    from fvcore.nn import FlopCountAnalysis

    from supernet.network import SaliencyNet

    net = SaliencyNet(get_space("salnas").parse_arch("random:0")).eval()

    def run() -> object:
        analysis = FlopCountAnalysis(net, torch.zeros(1, 3, *net.resolution))
        return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()

    return run


def main() -> None:
    """Measure and publish."""
    space = get_space("salnas")
    rows = space.sample(np.random.default_rng(0), ROWS)
    arch = space.largest()
    figures = [
        ("cost, 100,000 rows", ROWS, median_seconds(lambda: cost(space, rows), 9)),
        ("cost, 1 row", 1, median_seconds(lambda: cost(space, rows[:1]), 99)),
        ("layer table of one subnet", 1, median_seconds(lambda: layer_table(space, arch), 99)),
        ("fvcore, one subnet", 1, median_seconds(fvcore_run(), 5)),
    ]
    frame = pd.DataFrame(
        [(name, 1000 * seconds, count / seconds) for name, count, seconds in figures],
        columns=["what", "median ms", "subnets a second"],
    )
    publish("cost", "Exact macs, parameters and memory", frame, command="make bench-cost")


if __name__ == "__main__":
    main()
