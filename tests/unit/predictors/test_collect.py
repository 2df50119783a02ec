from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.collect import (
    EVALUATORS,
    METRIC_COLUMNS,
    Evaluator,
    LastPhotos,
    collect_accuracy,
    collect_latency,
)
from predictors.executors import WorkerLost
from predictors.fit import parse_part
from predictors.tables import read_table
from predictors.timing import Runner, TimingPlan
from supernet.cost import cost
from supernet.data.synthetic import synthetic
from supernet.errors import DataError
from supernet.evaluate import EvaluationSet, evaluate_net, score_net
from supernet.metric_names import METRICS
from supernet.network import Supernet, extract
from supernet.sampling import covering_rows
from supernet.space import Arch, Rows, Space

ROOT = Path(__file__).resolve().parents[3]
IDENTITY = {"supernet_fingerprint": "feed", "data": "synthetic"}


@contextmanager
def pretended(arch: Arch) -> Iterator[Runner]:
    """A machine that does a million macs a millisecond."""
    from supernet.space import get_space

    space = get_space(arch.space)
    yield lambda: float(cost(space, space.encode(arch)[None]).macs[0]) / 1e6


def test_the_table_holds_what_an_evaluation_gives(
    tmp_path: Path, tiny_supernet: Supernet, photos: EvaluationSet
) -> None:
    space = tiny_supernet.space
    rows = covering_rows(space, np.random.default_rng(0), 5)
    steps: list[tuple[int, int]] = []
    table = collect_accuracy(
        tiny_supernet,
        rows,
        photos,
        tmp_path / "a.parquet",
        IDENTITY,
        progress=lambda *step: steps.append(step),
    )
    assert (table.rows(space) == rows).all()
    assert steps == [(number, 5) for number in range(6)]
    expected = evaluate_net(extract(tiny_supernet, space.decode(rows[3])), photos)
    assert table.column("cc")[3] == pytest.approx(expected.cc, abs=1e-4)
    assert table.column("auc")[3] == pytest.approx(expected.auc, abs=1e-3)
    every_other = score_net(extract(tiny_supernet, space.decode(rows[3])), photos)["kld"][::2]
    assert table.column("kld_half")[3] == pytest.approx(float(every_other.mean()), abs=1e-4)
    assert table.column("n_photos").tolist() == [4.0] * 5
    assert table.identity["supernet_fingerprint"] == "feed"


def test_what_is_there_is_not_measured_again(
    tmp_path: Path, tiny_supernet: Supernet, photos: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = covering_rows(tiny_supernet.space, np.random.default_rng(0), 6)
    path = tmp_path / "a.parquet"
    collect_accuracy(tiny_supernet, rows[:4], photos, path, IDENTITY)
    evaluated: list[object] = []

    def counted(net: object, *rest: object) -> object:
        evaluated.append(net)
        return score_net(net, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("predictors.collect.score_net", counted)
    twice = np.concatenate([rows, rows[2:]])
    table = collect_accuracy(tiny_supernet, twice, photos, path, IDENTITY)
    assert len(evaluated) == 2
    assert len(table) == 6
    with pytest.raises(DataError, match="supernet_fingerprint"):
        collect_accuracy(tiny_supernet, rows, photos, path, IDENTITY | {"supernet_fingerprint": "beef"})


KILLED = """
import sys, time
from pathlib import Path
import numpy as np, torch
import predictors.collect as collect
from supernet.sampling import covering_rows
from supernet.data.synthetic import synthetic
from supernet.evaluate import build_evaluation_set
from supernet.network import Supernet
from supernet.space import get_space

space = get_space("tiny")
torch.manual_seed(0)
supernet = Supernet(space).eval()
photos = build_evaluation_set(synthetic(4), resolutions=space.resolutions, map_size=(32, 32))
rows = covering_rows(space, np.random.default_rng(0), int(sys.argv[2]))
identity = {"supernet_fingerprint": "feed", "data": "synthetic"}
collect.collect_accuracy(supernet, rows, photos, Path(sys.argv[1]), identity, chunk_seconds=0.0)
"""


def collecting(path: Path, n: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(n)], cwd=ROOT)


@pytest.mark.slow
def test_a_killed_collection_goes_on_where_it_stopped(tmp_path: Path, tiny: Space) -> None:
    path = tmp_path / "a.parquet"
    process = collecting(path, 300)
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and not (path.exists() and len(read_table(path)) >= 5):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    survived = read_table(path)
    assert 5 <= len(survived) < 300
    wanted = len(survived) + 5
    assert collecting(path, wanted).wait(100) == 0
    finished = read_table(path)
    assert finished.ids[: len(survived)] == survived.ids
    assert finished.frame.iloc[: len(survived)].equals(survived.frame)
    assert len(set(finished.ids)) == len(finished) == wanted


def test_latencies_are_in_milliseconds_of_the_first_reference(tmp_path: Path, tiny: Space) -> None:
    rows = covering_rows(tiny, np.random.default_rng(0), 11)
    path = tmp_path / "l.parquet"
    identity = {"device": {"runtime": "pretended"}}
    rng = np.random.default_rng(0)
    plan = TimingPlan(rounds=3, group=4)
    collect_latency(tiny, rows[:5], pretended, path, identity, rng, plan=plan)

    @contextmanager
    def slower(arch: Arch) -> Iterator[Runner]:
        with pretended(arch) as run:
            yield lambda: 3.0 * run()

    steps: list[tuple[int, int]] = []
    table = collect_latency(
        tiny, rows, slower, path, identity, rng, plan=plan, progress=lambda *step: steps.append(step)
    )
    assert table.column("latency_ms") == pytest.approx(cost(tiny, rows).macs / 1e6)
    assert table.column("raw_ms")[-1] == pytest.approx(3.0 * cost(tiny, rows).macs[-1] / 1e6)
    assert table.identity["reference_ms"] == pytest.approx(cost(tiny, rows[:1]).macs[0] / 1e6)
    assert table.column("rounds").tolist() == [3.0] * 11
    assert steps == [(5, 11), (9, 11), (11, 11)]


def test_last_photos_are_the_end_of_a_split() -> None:
    whole = synthetic(10)
    part = LastPhotos(whole, 3)
    assert len(part) == 3
    assert part.names == whole.names[7:]
    assert [part[i].name for i in range(3)] == list(part.names)
    assert part.fingerprint() != whole.fingerprint()
    for count in (0, 11):
        with pytest.raises(DataError, match="10 photos"):
            LastPhotos(whole, count)


@pytest.mark.parametrize("name", ["min", "max"])
def test_all_evaluators_score_alike(tiny_supernet: Supernet, photos: EvaluationSet, name: str) -> None:
    varied = deepcopy(tiny_supernet)
    # Maps of an untrained network vary by 1e-4, and NSS divides by that: it would compare rounding alone.
    varied.weights.decoder[-1].get_parameter("bn.weight").data.mul_(1000)
    row = varied.space.encode(varied.space.parse_arch(name))
    found = {runtime: Evaluator(varied, photos, runtime).measure(row) for runtime in EVALUATORS}
    assert set(found["masked"]) == set(METRIC_COLUMNS)
    for metric in METRICS:
        assert found["onnxruntime"][metric] == pytest.approx(found["torch"][metric], abs=1e-5)
        assert found["masked"][metric] == pytest.approx(found["torch"][metric], abs=1e-5)
    with pytest.raises(DataError, match="abacus"):
        Evaluator(tiny_supernet, photos, "abacus")


class Scattered:
    """An executor that works backwards, and loses the worker at one task each time it runs."""

    workers = 2

    def __init__(self, deadly: Rows | None = None) -> None:
        self.deadly, self.seen = deadly, list[tuple[int, ...]]()

    def run(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], *, device: str | None = None
    ) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(tasks))):
            if self.deadly is not None and (tasks[index] == self.deadly).all():
                raise WorkerLost("A worker died 4 times at the same task.", index=index)
            self.seen.append(tuple(tasks[index]))
            yield index, function(tasks[index])


def test_workers_that_die_and_subnets_that_fail_cost_only_themselves(
    tmp_path: Path, tiny_supernet: Supernet, photos: EvaluationSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tiny_supernet.space
    rows = covering_rows(space, np.random.default_rng(0), 7)
    path = tmp_path / "a.parquet"
    whole = Evaluator.measure

    def failing(self: Evaluator, row: Rows) -> dict[str, Any]:
        if (row == rows[2]).all():
            raise MemoryError("no room")
        return whole(self, row)

    monkeypatch.setattr(Evaluator, "measure", failing)
    executor = Scattered(deadly=rows[4])
    with pytest.raises(DataError, match="2 of 7 subnets"):
        collect_accuracy(tiny_supernet, rows, photos, path, IDENTITY, executor=executor)
    good = [0, 1, 3, 5, 6]
    assert sorted(read_table(path).ids) == sorted(space.ids(rows[good]))
    assert len(set(executor.seen)) == len(executor.seen)
    monkeypatch.setattr(Evaluator, "measure", whole)
    again = Scattered()
    table = collect_accuracy(tiny_supernet, rows, photos, path, IDENTITY, executor=again)
    assert again.seen == [tuple(rows[4]), tuple(rows[2])]
    assert sorted(table.ids) == sorted(space.ids(rows))
    here = collect_accuracy(tiny_supernet, rows, photos, tmp_path / "b.parquet", IDENTITY)
    for name in ("cc", "auc_half"):
        found, expected = (one.frame.set_index("id")[name] for one in (table, here))
        assert found.loc[expected.index].to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-12)


def test_latency_goes_to_where_the_device_is(tmp_path: Path, tiny: Space) -> None:
    asked: list[str | None] = []

    class Lent(Scattered):
        def run(
            self, function: Callable[[Any], Any], tasks: Sequence[Any], *, device: str | None = None
        ) -> Iterator[tuple[int, Any]]:
            asked.append(device)
            yield from super().run(function, tasks, device=device)

    rows = covering_rows(tiny, np.random.default_rng(0), 6)
    table = collect_latency(
        tiny,
        rows,
        pretended,
        tmp_path / "l.parquet",
        {"device": {}},
        np.random.default_rng(0),
        plan=TimingPlan(rounds=3, group=4),
        executor=Lent(),
        device="pi4",
    )
    assert asked == ["pi4"]
    assert table.column("latency_ms") == pytest.approx(cost(tiny, table.rows(tiny)).macs / 1e6)


def test_parts_share_the_subnets() -> None:
    assert parse_part("1/1") == (0, 1)
    assert parse_part("2/3") == (1, 3)
    for wrong in ("0/2", "3/2", "half", "1/2/3"):
        with pytest.raises(DataError, match="no part"):
            parse_part(wrong)
