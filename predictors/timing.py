"""Timing subnets so that the machine's drift cancels.

Subnets are timed in small groups, one inference each in turn, round after round in a new order, and next to each
inference the same reference subnet runs. What slows the machine down slows both, so the ratio of neighbours is
steady; a subnet's latency is the median ratio times the latency of the reference, which is measured once for a
whole table. Rounds in which the system took the processor away are left out where enough others remain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from predictors.estimate import FloatArray
from supernet.space import Arch

try:
    import resource
except ImportError:  # not a Unix
    resource = None  # type: ignore[assignment]

Runner: TypeAlias = Callable[[], float]
"""One inference of one photo; returns its milliseconds."""

Prepare: TypeAlias = Callable[[Arch], AbstractContextManager[Runner]]
"""Makes a subnet ready to run on a device; on leaving lets go of it."""

ON_CUDA = "onnxruntime-cuda"

RUNTIMES = ("onnxruntime", "onnxruntime-int8", ON_CUDA, "openvino", "torch")
"""What `predictors.runtimes` makes subnets ready for."""

_MEDIAN_ERROR = 1.2533
"""Standard error of a median of normal values, in units of that of their mean."""


_ENOUGH = 5
"""Undisturbed rounds that are enough to leave the disturbed ones out."""


@dataclass(frozen=True)
class TimingPlan:
    """Rounds of each group, subnets in a group, inferences before the first that counts; a subnet whose latency has
    a relative standard error above `noise` is made ready and timed anew, at most `retries` times."""

    rounds: int = 15
    group: int = 8
    warm_up: int = 2
    noise: float = 0.02
    retries: int = 2


@dataclass(frozen=True, eq=False)
class Timings:
    """Of k subnets, each (k,): latency in units of the reference's, its relative standard error, and the plain
    median in milliseconds, the share of rounds in which the system took the processor away; `reference_ms` is the
    median of the reference meanwhile."""

    ratio: FloatArray
    noise: FloatArray
    raw_ms: FloatArray
    disturbed: FloatArray
    reference_ms: float


def time_group(
    prepare: Prepare, reference: Arch, archs: Sequence[Arch], plan: TimingPlan, rng: np.random.Generator
) -> Timings:
    """Time a group of subnets against the reference; of repeated timings the least noisy one counts."""
    best = _time_once(prepare, reference, archs, plan, rng)
    for _ in range(plan.retries):
        noisy = np.flatnonzero(best.noise > plan.noise)
        if not len(noisy):
            break
        best = _better(best, noisy, _time_once(prepare, reference, [archs[int(k)] for k in noisy], plan, rng))
    return best


def _time_once(
    prepare: Prepare, reference: Arch, archs: Sequence[Arch], plan: TimingPlan, rng: np.random.Generator
) -> Timings:
    with ExitStack() as stack:
        anchor = stack.enter_context(prepare(reference))
        runners = [stack.enter_context(prepare(arch)) for arch in archs]
        for runner in (anchor, *runners):
            for _ in range(plan.warm_up):
                runner()
        own = np.empty((plan.rounds, len(runners)))
        beside = np.empty_like(own)
        disturbed = np.zeros(own.shape, dtype=bool)
        for number in range(plan.rounds):
            for k in rng.permutation(len(runners)):
                before = interruptions()
                beside[number, k] = anchor()
                own[number, k] = runners[k]()
                disturbed[number, k] = interruptions() > before
    return summarise(own, beside, disturbed)


def _better(old: Timings, which: NDArray[np.int64], new: Timings) -> Timings:
    """`old`, with those of the subnets `which` that are less noisy in `new`."""
    improved = new.noise < old.noise[which]
    merged = {}
    for name in ("ratio", "noise", "raw_ms", "disturbed"):
        values = getattr(old, name).copy()
        values[which[improved]] = getattr(new, name)[improved]
        merged[name] = values
    return replace(old, **merged)


def summarise(own: FloatArray, beside: FloatArray, disturbed: NDArray[np.bool_]) -> Timings:
    """(rounds, k) milliseconds of the subnets, of the reference just before each, and what was disturbed."""
    leave_out = disturbed & ((~disturbed).sum(axis=0) >= _ENOUGH)
    ratios = np.where(leave_out, np.nan, own / beside)
    ratio = np.nanmedian(ratios, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(ratios - ratio), axis=0)
    noise = _MEDIAN_ERROR * spread / ratio / np.sqrt((~leave_out).sum(axis=0))
    return Timings(
        ratio=ratio,
        noise=noise,
        raw_ms=np.nanmedian(np.where(leave_out, np.nan, own), axis=0),
        disturbed=disturbed.mean(axis=0),
        reference_ms=float(np.nanmedian(np.where(leave_out, np.nan, beside))),
    )


def interruptions() -> int:
    """How often the system has taken the processor away from this process; 0 where it does not tell."""
    return 0 if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
