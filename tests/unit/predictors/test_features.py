from __future__ import annotations

import numpy as np
import pytest

from predictors.features import (
    WORK_COLUMNS,
    _work_of,
    columns,
    contrast_table,
    contrasts,
    degrees,
    general_features,
    one_hot,
    scaled_genes,
    sections,
    work_of_rows,
)
from supernet.cost import Operation, cost, layer_table
from supernet.space import Space, get_space


@pytest.fixture(params=["tiny", "salnas"])
def space(request: pytest.FixtureRequest) -> Space:
    return get_space(request.param)


def test_one_hot_leaves_out_the_first_choice() -> None:
    found = one_hot(np.array([2, 3]), np.array([[0, 0], [1, 2], [0, 1]]))
    assert found.tolist() == [[0, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_columns_name_gene_and_choice() -> None:
    named = columns(np.array([2, 3, 2]))
    assert named.gene.tolist() == [0, 1, 1, 2]
    assert named.choice.tolist() == [1, 1, 2, 1]
    assert degrees(np.array([2, 3, 2])).tolist() == [1, 1, 2, 1]


@pytest.mark.parametrize("k", [2, 3, 4, 6])
def test_contrasts_are_orthonormal_polynomials_of_rising_degree(k: int) -> None:
    table = contrast_table(k)
    assert np.allclose(table.sum(axis=0), 0.0)
    assert np.allclose(table.T @ table / k, np.eye(k - 1))
    x = np.linspace(-1.0, 1.0, k)
    for degree in range(1, k):
        residual = np.polyval(np.polyfit(x, table[:, degree - 1], degree), x) - table[:, degree - 1]
        assert np.abs(residual).max() < 1e-9
        assert table[-1, degree - 1] > 0


def test_genes_are_scaled_to_both_ends(space: Space) -> None:
    ends = np.stack([np.zeros_like(space.sizes), space.sizes - 1])
    assert scaled_genes(space.sizes, ends).tolist() == [[-1.0] * len(ends[0]), [1.0] * len(ends[0])]
    assert contrasts(space.sizes, ends).shape == (2, int((space.sizes - 1).sum()))


def test_general_features_end_in_log_costs(space: Space) -> None:
    rows = space.sample(np.random.default_rng(0), 5)
    found = general_features(space, rows)
    assert np.allclose(np.exp(found[:, -2]), cost(space, rows).macs)
    assert np.allclose(np.exp(found[:, -1]), cost(space, rows).parameters)


def test_work_adds_up_to_the_exact_costs(space: Space) -> None:
    rows = space.sample(np.random.default_rng(1), 300)
    work = work_of_rows(space, rows)
    by_kind = {
        kind: work[:, [i for i, (_, k) in enumerate(WORK_COLUMNS) if k == kind]].sum(axis=1)
        for kind in ("macs", "weights")
    }
    assert (by_kind["macs"] == cost(space, rows).macs).all()
    assert (by_kind["weights"] == cost(space, rows).parameters).all()


def test_work_equals_the_layer_table_of_each_subnet(space: Space) -> None:
    rows = space.sample(np.random.default_rng(2), 8)
    work = work_of_rows(space, rows)
    for row, found in zip(rows, work, strict=True):
        operations = layer_table(space, space.decode(row))
        depthwise = [op for op in operations if op.kind == "depthwise" and op.kernel == 5]
        at = WORK_COLUMNS.index(("depthwise-5", "traffic"))
        expected = sum(
            op.c_in * op.height * op.width * op.stride**2 + op.c_out * op.height * op.width
            for op in depthwise
        )
        assert found[at] == expected
        assert found[[i for i, (_, kind) in enumerate(WORK_COLUMNS) if kind == "count"]].sum() == len(
            operations
        )


def test_channels_count_in_blocks_of_sixteen() -> None:
    def work(kind: str, c_in: int, c_out: int) -> tuple[int, ...]:
        macs = 9 * c_out * 6 if kind == "depthwise" else c_in * c_out * 6
        return _work_of(Operation("a", kind, c_in, c_out, 1, 1, 2, 3, macs, 7, 0))

    for kind in ("conv", "depthwise"):
        macs, blocked, traffic, blocked_traffic, *_ = work(kind, 32, 48)
        assert (macs, traffic) == (blocked, blocked_traffic), kind
    assert work("conv", 24, 40)[1] == work("conv", 32, 48)[0]
    assert work("conv", 24, 40)[3] == work("conv", 32, 48)[2]
    assert work("depthwise", 24, 24)[1] == work("depthwise", 32, 32)[0]
    assert work("conv", 3, 16)[:4] == (288, 288, 114, 114), "photos are read as they are"


def test_sections_depend_on_few_genes() -> None:
    space = get_space("salnas")
    by_name = {section.name: section for section in sections(space)}
    names = {space.genes[gene].name for gene in by_name["mb5"].genes}
    assert names == {"resolution", "mb4.width", "mb5.width", "mb5.depth", "mb5.kernel", "mb5.expansion"}
    assert max(len(section.work) for section in by_name.values()) < 1000
