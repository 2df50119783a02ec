"""Islands in this process: one front for a seed whatever runs them, migration, resuming, records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.archive import Scored
from search.engine import Generation, Settings, constrained_ranks, evolve
from search.executors import InProcess
from search.front import hypervolume, nondominated
from search.islands import MOST, Advance, Island, Leg, Ring, search_islands, with_arrivals
from search.problem import make_problem
from search.record import load_manifest, load_record
from search.run import SearchResult, Stop
from search.synthetic import additive_space
from supernet.errors import CheckpointError, InfeasibleBudget, SettingsError

SPACE = additive_space(27, 2, 1)
SMALL = Settings(population=40, archive=500, starts=0)
RING = Ring(3, every=10, migrants=5)


class Killed(Exception):
    pass


class Shuffled:
    """Runs tasks in another order, some of them twice, as where a worker died."""

    workers = 2

    def run(
        self, function: Callable[[Any], Any], tasks: Sequence[Any], *, device: str | None = None
    ) -> Iterator[tuple[int, Any]]:
        for index in reversed(range(len(tasks))):
            function(tasks[index])
            yield index, function(tasks[index])


def run(executor: Any = None, **options: Any) -> SearchResult:
    values = {"ring": RING, "stop": Stop(generations=60), "settings": SMALL, "seed": 5, **options}
    return search_islands(SPACE, SPACE, executor=executor or InProcess(), **values)


def test_the_front_depends_on_seed_and_islands_only() -> None:
    front = run().front
    assert run(Shuffled()).front.equals(front)
    assert not run(seed=6).front.equals(front)
    assert not run(ring=Ring(2, every=10, migrants=5)).front.equals(front)


@pytest.mark.parametrize("islands", [1, 3])
def test_islands_reach_the_exact_front(islands: int) -> None:
    result = search_islands(
        SPACE, SPACE, ring=Ring(islands), executor=InProcess(), stop=Stop(evaluations=200_000)
    )
    problem = make_problem(SPACE, SPACE)
    truth = hypervolume(SPACE.exact_front()[0], problem.reference, problem.scale)
    assert result.hypervolume > 0.999 * truth
    F = result.pareto.F
    assert nondominated(F).all()
    assert len(result.front["id"].unique()) == len(result.front)


def test_an_island_travels_without_loss() -> None:
    problem = make_problem(SPACE, SPACE)
    run_on = evolve(problem, settings=SMALL, seed=1)
    generation = [next(run_on) for _ in range(8)][-1]
    back = Island.of(generation).generation(problem, SMALL)
    for name in ("rows", "values", "ranks", "crowding"):
        np.testing.assert_array_equal(getattr(back, name), getattr(generation, name))
    assert back.random_state == generation.random_state
    np.testing.assert_array_equal(back.front.rows, generation.front.rows)
    assert Island.of(generation).rows.dtype == np.uint8
    nothing = generation.front.at(np.empty(0, dtype=np.int64))
    ahead = Advance(problem, SMALL)(Leg(Island.of(generation), nothing, 3))
    assert ahead.number == generation.number + 3


def test_arrivals_settle_where_they_are_better() -> None:
    problem = make_problem(SPACE, SPACE)
    generation = next(evolve(problem, settings=SMALL, seed=1))
    _, best = SPACE.exact_front()
    values = problem.values(best[:3])
    arrivals = Scored(best[:3], values, problem.minimised(values))
    after = with_arrivals(generation, arrivals)
    assert len(after.rows) == len(generation.rows) == SMALL.population
    for row in best[:3]:
        assert (after.rows == row).all(axis=1).sum() == 1
        assert (after.front.rows == row).all(axis=1).any()
    ranks = constrained_ranks(after.F, after.violations)
    np.testing.assert_array_equal(after.ranks, np.sort(after.ranks))
    assert (ranks[:-1] <= ranks[1:] + after.ranks.max()).all()
    assert (after.ranks[:3] == 0).all()
    again = with_arrivals(after, arrivals)
    np.testing.assert_array_equal(np.unique(again.rows, axis=0), np.unique(after.rows, axis=0))


def test_migrants_come_from_the_front_of_the_island_before() -> None:
    legs: list[list[Leg]] = []

    class Watching(InProcess):
        def run(
            self, function: Callable[[Any], Any], tasks: Sequence[Any], *, device: str | None = None
        ) -> Iterator[tuple[int, Any]]:
            legs.append(list(tasks))
            return super().run(function, tasks, device=device)

    run(Watching())
    assert len(legs) == 6
    for tasks in legs:
        for i, leg in enumerate(tasks):
            before = tasks[i - 1].island.kept_rows.astype(np.int64)
            assert 1 <= len(leg.arrivals.rows) <= RING.migrants
            assert all((before == row).all(axis=1).any() for row in leg.arrivals.rows)
    first = [leg.island.random_state["state"]["state"] for leg in legs[0]]
    assert len(set(first)) == 3


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (Stop(evaluations=5_000), "evaluations"),
        (Stop(generations=37), "generations"),
        (Stop(seconds=0.2), "seconds"),
        (Stop(stalled_hypervolume=0.01, window=20, evaluations=10**6), "stalled_hypervolume"),
    ],
)
def test_each_stop_condition_ends_it(stop: Stop, reason: str) -> None:
    result = run(stop=stop)
    assert result.reason == reason
    if stop.generations:
        assert result.generations == 37
    if reason == "evaluations":
        assert 5_000 <= result.evaluations < 5_000 + 2 * 3 * 40


def test_it_can_be_stopped_and_watched() -> None:
    seen: list[Generation] = []
    result = run(on_generation=seen.append, should_stop=lambda: len(seen) == 4)
    assert result.reason == "stopped"
    assert [g.number for g in seen] == [0, 10, 20, 30]
    assert [g.hypervolume for g in seen] == [m.hypervolume for m in result.history]
    assert result.hypervolume == seen[-1].hypervolume
    assert result.evaluations == seen[-1].evaluations > 3 * 30 * 30


@pytest.mark.parametrize("at", [10, 30, 50])
def test_a_killed_search_resumes_to_the_same_front(tmp_path: Path, at: int) -> None:
    def die(generation: Generation) -> None:
        if generation.number == at:
            raise Killed

    expected = run()
    with pytest.raises(Killed):
        run(directory=tmp_path, save_every=0.0, on_generation=die)
    told: list[int] = []
    result = run(directory=tmp_path, resume=True, on_generation=lambda g: told.append(g.number))
    assert told[0] == at - 10
    assert result.front.equals(expected.front)
    assert [m.generation for m in result.history] == [m.generation for m in expected.history]
    assert result.evaluations == expected.evaluations


def test_a_torn_set_of_states_is_passed_over(tmp_path: Path) -> None:
    def die(generation: Generation) -> None:
        if generation.number == 30:
            raise Killed

    with pytest.raises(Killed):
        run(directory=tmp_path, save_every=0.0, on_generation=die)
    states = tmp_path / "states"
    assert sorted(p.name for p in states.iterdir()) == ["20-0.npz", "20-1.npz", "20-2.npz"]
    for island in range(2):
        (states / f"30-{island}.npz").write_bytes((states / f"20-{island}.npz").read_bytes())
    assert run(directory=tmp_path, resume=True).front.equals(run().front)
    (states / "60-1.npz").unlink()
    with pytest.raises(CheckpointError, match="another seed"):
        run(directory=tmp_path, resume=True, seed=9)


def test_another_search_is_not_resumed(tmp_path: Path) -> None:
    run(directory=tmp_path, stop=Stop(generations=10))
    for other in ({"seed": 9}, {"ring": Ring(2, every=10, migrants=5)}, {"constraints": ["latency_ms<=3"]}):
        with pytest.raises(CheckpointError, match="another"):
            run(directory=tmp_path, resume=True, **other)


def test_without_resume_it_begins_anew(tmp_path: Path) -> None:
    run(directory=tmp_path, seed=9, save_every=0.0)
    assert run(directory=tmp_path).front.equals(run().front)
    assert load_manifest(tmp_path).history[0].generation == 0


def test_it_leaves_a_record(tmp_path: Path) -> None:
    result = run(directory=tmp_path, provenance={"supernet": "s"})
    record = load_record(tmp_path)
    assert record.front is not None
    assert record.front.table.equals(result.front)
    manifest = record.manifest
    assert (manifest.engine, manifest.state, manifest.reason) == ("islands", "done", "generations")
    assert manifest.settings["islands"] == 3
    assert manifest.provenance == {"supernet": "s"}


def test_constraints_hold_and_impossible_ones_are_told() -> None:
    result = run(constraints=["latency_ms<=2"])
    assert (result.front["latency_ms"] <= 2).all()
    assert len(result.front) > 10
    with pytest.raises(InfeasibleBudget, match="The smallest latency_ms found is"):
        run(constraints=["latency_ms<=-1"])


def test_a_small_space_is_enumerated() -> None:
    space = additive_space(7, 2, 0, choices=(2, 3))
    result = search_islands(space, space, ring=RING, executor=InProcess())
    assert result.reason == "enumerated"
    assert result.evaluations == np.prod(space.sizes)


def test_a_warm_start_reaches_every_island() -> None:
    _, best = SPACE.exact_front()
    result = run(warm_start=best, stop=Stop(generations=1), settings=Settings(population=40))
    assert set(SPACE.ids(best)) == set(result.front["id"])


@pytest.mark.parametrize("wrong", [(0, 1, 1), (MOST + 1, 1, 1), (2, 0, 1), (2, 1, 0)])
def test_nonsense_rings_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(SettingsError):
        Ring(*wrong)
