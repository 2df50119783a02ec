"""What users may ask for, and how a wrong wish is answered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.problem import Clause, Constraint, Objective, Problem, choice_text, make_problem, names_asked
from search.synthetic import additive_space
from supernet.errors import InvalidConstraint, PredictorError
from supernet.space import get_space

SPACE = get_space("salnas")


def score(rows: np.ndarray) -> dict[str, np.ndarray]:
    total = rows.sum(axis=1).astype(float)
    return {
        "accuracy": total / 100,
        "latency_ms": total + rows[:, 0],
        "latency_ms@pi-4": total * 2,
        "macs": total * 1e7,
    }


def problem_with(*constraints: str, objectives: tuple[str, ...] = ("accuracy", "latency_ms")) -> Problem:
    return make_problem(SPACE, score, objectives, constraints)


def choices_left(problem: Problem, gene: str) -> list[str]:
    index = SPACE.gene_index(gene)
    return [choice_text(SPACE.genes[index].choices[i]) for i in problem.domain.choices[index]]


@pytest.mark.parametrize(
    ("text", "name", "direction"),
    [
        ("accuracy", "accuracy", "max"),
        ("latency_ms", "latency_ms", "min"),
        ("latency_ms@pi-4", "latency_ms@pi-4", "min"),
        ("accuracy@osie", "accuracy@osie", "max"),
        ("min:accuracy", "accuracy", "min"),
        ("max:macs", "macs", "max"),
    ],
)
def test_objectives_know_their_direction(text: str, name: str, direction: str) -> None:
    assert Objective.parse(text) == Objective(name, direction)  # type: ignore[arg-type]


@given(
    st.sampled_from(["latency_ms", "latency_ms@cpu-1-thread", "mb3.kernel", "macs"]),
    st.sampled_from(["<=", ">=", "==", "!="]),
    st.sampled_from(["30", "1.5e9", "256x192", "-3"]),
    st.text(" \t", max_size=3),
)
def test_clauses_are_read_whatever_the_spaces(name: str, relation: str, value: str, gap: str) -> None:
    clause = Clause.parse(f"{gap}{name}{gap}{relation}{gap}{value}{gap}")
    assert (clause.name, clause.relation, clause.value) == (name, relation, value)


@pytest.mark.parametrize("text", ["", "latency_ms", "<=30", "latency_ms<=", "3<=latency_ms", "a b<=3"])
def test_what_is_no_comparison_is_refused(text: str) -> None:
    with pytest.raises(InvalidConstraint, match="is not a constraint"):
        Clause.parse(text)


@pytest.mark.parametrize("text", ["latency_ms<30", "latency_ms=30", "latency_ms>30"])
def test_comparisons_that_are_not_supported_name_the_ones_that_are(text: str) -> None:
    with pytest.raises(InvalidConstraint, match="<=, >=, == and !="):
        Clause.parse(text)


def test_violation_is_the_relative_excess() -> None:
    column = np.array([20.0, 30.0, 45.0])
    assert Constraint("latency_ms", "<=", 30.0).violation(column).tolist() == [0.0, 0.0, 0.5]
    assert Constraint("accuracy", ">=", 40.0).violation(column).tolist() == [0.5, 0.25, 0.0]
    assert Constraint("x", "<=", 0.0).violation(column).tolist() == [20.0, 30.0, 45.0]


def test_violations_of_several_bounds_add_up() -> None:
    problem = problem_with("latency_ms<=10", "macs<=1e8", "latency_ms@pi-4<=20")
    rows = SPACE.sample(np.random.default_rng(1), 50)
    values = problem.values(rows)
    columns = dict(zip(problem.columns, values.T, strict=True))
    expected = (
        np.maximum(columns["latency_ms"] - 10, 0) / 10
        + np.maximum(columns["macs"] - 1e8, 0) / 1e8
        + np.maximum(columns["latency_ms@pi-4"] - 20, 0) / 20
    )
    np.testing.assert_allclose(problem.violations(values), expected)


@pytest.mark.parametrize(
    ("constraint", "gene", "left"),
    [
        ("resolution==256x192", "resolution", ["256x192"]),
        ("resolution==256×192", "resolution", ["256x192"]),
        ("resolution!=384x288", "resolution", ["256x192"]),
        ("mb3.kernel==3", "mb3.kernel", ["3"]),
        ("mb5.depth<=5", "mb5.depth", ["3", "4", "5"]),
        ("mb5.depth>=6.5", "mb5.depth", ["7", "8"]),
        ("mb5.depth==3,8", "mb5.depth", ["3", "8"]),
        ("mb6.width!=200, 208", "mb6.width", ["192", "216"]),
        ("resolution<=256x192", "resolution", ["256x192"]),
    ],
)
def test_genes_can_be_fixed_and_forbidden(constraint: str, gene: str, left: list[str]) -> None:
    problem = problem_with(constraint)
    assert choices_left(problem, gene) == left
    others = [g.name for g in SPACE.genes if g.name != gene]
    assert all(len(choices_left(problem, g)) == SPACE.sizes[SPACE.gene_index(g)] for g in others)


def test_a_bare_name_means_that_gene_of_every_stage() -> None:
    problem = problem_with("kernel==3")
    kernels = [gene.name for gene in SPACE.genes if gene.name.endswith(".kernel")]
    assert len(kernels) == 7
    assert all(choices_left(problem, gene) == ["3"] for gene in kernels)
    assert choices_left(problem, "mb5.depth") == ["3", "4", "5", "6", "7", "8"]


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("bogus<=3", "Known: accuracy, latency_ms, latency_ms@pi-4, macs, resolution, stem.width"),
        ("kernel==7", "Its choices: 3, 5"),
        ("resolution==100x100", "Its choices: 256x192, 384x288"),
        ("resolution<=big", "Its choices: 256x192, 384x288"),
        ("mb3.kernel<=2", "leaves no choice for mb3.kernel"),
        ("mb3.kernel!=3,5", "leaves no choice for mb3.kernel"),
        ("macs<=many", "is not a number"),
        ("macs<=nan", "is not a number"),
        ("macs<=inf", "is not a number"),
        ("macs==3", "macs<=3 or macs>=3"),
    ],
)
def test_wrong_constraints_name_the_remedy(constraint: str, message: str) -> None:
    with pytest.raises(InvalidConstraint) as caught:
        problem_with(constraint)
    assert message in str(caught.value)
    assert caught.value.field == "constraints"


@pytest.mark.parametrize(
    "objectives", [(), ("accuracy",), ("accuracy", "accuracy"), ("accuracy", "a", "b", "c", "d")]
)
def test_two_to_four_objectives(objectives: tuple[str, ...]) -> None:
    with pytest.raises(InvalidConstraint, match="2 to 4"):
        problem_with(objectives=objectives)


def test_names_asked_are_those_of_objectives_and_constraints() -> None:
    asked = names_asked(("accuracy", "min:energy"), ["macs<=1e9", "accuracy>=0.7", "kernel==3"])
    assert asked == ("accuracy", "energy", "macs", "kernel")


def test_an_unknown_objective_lists_the_known() -> None:
    with pytest.raises(InvalidConstraint, match=r"'speed' is unknown.*accuracy, latency_ms"):
        problem_with(objectives=("accuracy", "speed"))


def test_maximised_objectives_change_their_sign() -> None:
    problem = problem_with(objectives=("accuracy", "macs"))
    values = problem.values(SPACE.sample(np.random.default_rng(2), 5))
    np.testing.assert_array_equal(problem.minimised(values), values[:, [0, 3]] * [-1, 1])


def test_the_hypervolume_box_ends_at_a_bound_on_an_objective() -> None:
    free, bounded = problem_with(), problem_with("latency_ms<=12", "accuracy>=0.05")
    assert bounded.reference.tolist() == [-0.05, 12.0]
    assert (free.reference > bounded.reference).all()
    np.testing.assert_array_equal(free.scale, bounded.scale)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"accuracy": lambda n: np.full(n, np.nan)}, "not finite"),
        ({"accuracy": lambda n: np.zeros(n + 1)}, "no column accuracy"),
    ],
)
def test_broken_predictors_are_named(broken: dict[str, Any], message: str) -> None:
    def evaluate(rows: np.ndarray) -> dict[str, np.ndarray]:
        return score(rows) | {name: make(len(rows)) for name, make in broken.items()}

    with pytest.raises(PredictorError, match=message):
        make_problem(SPACE, evaluate)


def test_objectives_that_never_change_do_not_divide_by_zero() -> None:
    space = additive_space(5, 2, 0)
    problem = make_problem(space, lambda rows: {**space(rows), "latency_ms": np.ones(len(rows))})
    assert problem.scale[1] == 1.0
