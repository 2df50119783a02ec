from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from predictors.timing import Prepare, Runner, TimingPlan, summarise, time_group
from supernet.space import Arch, Space


class Machine:
    """Pretends to run subnets: a subnet takes its resolution's height in milliseconds, times the load."""

    def __init__(self, drift: float = 0.0, noise: float = 0.0, spikes: float = 0.0) -> None:
        self.rng = np.random.default_rng(0)
        self.clock, self.drift, self.noise, self.spikes = 0, drift, noise, spikes
        self.open: list[Arch] = []
        self.runs: list[Arch] = []

    @property
    def prepare(self) -> Prepare:
        @contextmanager
        def prepared(arch: Arch) -> Iterator[Runner]:
            self.open.append(arch)
            yield lambda: self.run(arch)
            self.open.remove(arch)

        return prepared

    def run(self, arch: Arch) -> float:
        assert arch in self.open
        self.clock += 1
        self.runs.append(arch)
        load = 1.0 + self.drift * self.clock
        spike = 10.0 if self.rng.random() < self.spikes else 1.0
        return arch.resolution[0] * load * spike * (1.0 + self.noise * self.rng.normal())


def group(space: Space) -> tuple[Arch, list[Arch]]:
    return space.smallest(), [
        space.largest(),
        space.decode(np.append(1, 0 * space.sizes[1:])),
        space.smallest(),
    ]


def test_drift_cancels(tiny: Space) -> None:
    machine = Machine(drift=0.02)  # the machine slows to four times as long
    timed = time_group(machine.prepare, *group(tiny), TimingPlan(rounds=15), np.random.default_rng(0))
    assert timed.ratio == pytest.approx([2.0, 2.0, 1.0], rel=0.02)
    assert timed.raw_ms[0] > 1.5 * 64
    assert machine.open == []


def test_spikes_do_not_matter(tiny: Space) -> None:
    timed = time_group(
        Machine(noise=0.01, spikes=0.1).prepare, *group(tiny), TimingPlan(rounds=31), np.random.default_rng(0)
    )
    assert timed.ratio == pytest.approx([2.0, 2.0, 1.0], rel=0.02)


def test_noise_is_the_standard_error(tiny: Space) -> None:
    plan = TimingPlan(rounds=40)
    found = [
        time_group(Machine(noise=0.03).prepare, *group(tiny), plan, np.random.default_rng(seed)).noise.mean()
        for seed in range(20)
    ]
    expected = 1.2533 * 0.03 * np.sqrt(2) / np.sqrt(40)
    assert np.mean(found) == pytest.approx(expected, rel=0.15)


def test_each_subnet_runs_in_every_round_beside_the_reference(tiny: Space) -> None:
    machine = Machine()
    reference, archs = group(tiny)
    time_group(machine.prepare, reference, archs, TimingPlan(rounds=5, warm_up=2), np.random.default_rng(0))
    counted = machine.runs[2 * 4 :]
    assert counted[::2] == [reference] * 15
    assert counted.count(tiny.largest()) == 5
    assert len({tuple(a.resolution for a in counted[i : i + 6]) for i in range(0, 30, 6)}) > 1


def test_disturbed_rounds_are_left_out_where_others_are_enough() -> None:
    own, beside = np.full((8, 2), 6.0), np.full((8, 2), 2.0)
    disturbed = np.zeros((8, 2), dtype=bool)
    disturbed[:3, 0] = disturbed[:5, 1] = True
    own[disturbed] = 60.0
    found = summarise(own, beside, disturbed)
    assert found.ratio.tolist() == [3.0, 30.0]  # of the second subnet three rounds are left: all are taken
    assert found.disturbed.tolist() == [3 / 8, 5 / 8]
    assert found.noise[0] == 0.0


def test_a_noisy_subnet_is_made_ready_and_timed_anew(tiny: Space) -> None:
    machine = Machine()
    prepared: list[Arch] = []

    @contextmanager
    def sometimes_bad(arch: Arch) -> Iterator[Runner]:
        prepared.append(arch)
        is_bad = arch == tiny.largest() and prepared.count(arch) <= 2
        with machine.prepare(arch) as run:
            yield lambda: run() * (machine.rng.uniform(1.0, 9.0) if is_bad else 1.0)

    timed = time_group(sometimes_bad, *group(tiny), TimingPlan(rounds=9), np.random.default_rng(0))
    assert timed.ratio == pytest.approx([2.0, 2.0, 1.0])
    assert prepared.count(tiny.largest()) == 3
    assert len(prepared) == 4 + 2 + 2
    assert machine.open == []


def test_everything_is_closed_when_a_subnet_fails(tiny: Space) -> None:
    machine = Machine()
    real = machine.run

    def fail(arch: Arch) -> float:
        if arch == tiny.largest():
            raise RuntimeError("out of memory")
        return real(arch)

    machine.run = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="out of memory"):
        time_group(machine.prepare, *group(tiny), TimingPlan(), np.random.default_rng(0))
