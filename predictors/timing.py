"""Timing subnets so that the machine's drift cancels.

Subnets are timed in small groups, one inference each in turn, round after round in a new order, and next to each
inference the same reference subnet runs. What slows the machine down slows both, so the ratio of neighbours is
steady; a subnet's latency is the median ratio times the latency of the reference, which is measured once for a
whole table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from supernet.space import Arch

Runner: TypeAlias = Callable[[], float]
"""One inference of one photo; returns its milliseconds."""

Prepare: TypeAlias = Callable[[Arch], AbstractContextManager[Runner]]
"""Makes a subnet ready to run on a device; on leaving lets go of it."""

_MEDIAN_ERROR = 1.2533
"""Standard error of a median of normal values, in units of that of their mean."""


@dataclass(frozen=True)
class TimingPlan:
    """Rounds of each group, subnets in a group, inferences before the first that counts."""

    rounds: int = 15
    group: int = 8
    warm_up: int = 2


@dataclass(frozen=True, eq=False)
class Timings:
    """Of k subnets, each (k,): latency in units of the reference's, its relative standard error, and the plain
    median in milliseconds; `reference_ms` is the median of the reference meanwhile."""

    ratio: FloatArray
    noise: FloatArray
    raw_ms: FloatArray
    reference_ms: float


def time_group(
    prepare: Prepare, reference: Arch, archs: Sequence[Arch], plan: TimingPlan, rng: np.random.Generator
) -> Timings:
    """Time a group of subnets against the reference."""
    with ExitStack() as stack:
        anchor = stack.enter_context(prepare(reference))
        runners = [stack.enter_context(prepare(arch)) for arch in archs]
        for runner in (anchor, *runners):
            for _ in range(plan.warm_up):
                runner()
        own = np.empty((plan.rounds, len(runners)))
        beside = np.empty_like(own)
        for number in range(plan.rounds):
            for k in rng.permutation(len(runners)):
                beside[number, k] = anchor()
                own[number, k] = runners[k]()
    return _summarise(own, beside)


def _summarise(own: FloatArray, beside: FloatArray) -> Timings:
    """(rounds, k) milliseconds of the subnets and of the reference just before each."""
    ratios = own / beside
    ratio = np.median(ratios, axis=0)
    spread = 1.4826 * np.median(np.abs(ratios - ratio), axis=0)
    noise: NDArray[np.float64] = _MEDIAN_ERROR * spread / ratio / np.sqrt(len(own))
    return Timings(ratio, noise, np.median(own, axis=0), float(np.median(beside)))
