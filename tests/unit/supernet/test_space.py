"""The space: sizes, genotypes both ways, ids, and errors that name the gene."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.errors import InvalidArch, InvalidSpace
from supernet.network import SaliencyNet
from supernet.space import Space, get_space, list_spaces, make_divisible

SALNAS = get_space("salnas")
spaces = st.sampled_from([get_space(name) for name in list_spaces()])


@st.composite
def space_and_rows(draw: st.DrawFn) -> tuple[Space, np.ndarray]:
    space = draw(spaces)
    rows = [[draw(st.integers(0, int(size) - 1)) for size in space.sizes] for _ in range(3)]
    return space, np.array(rows, dtype=np.int64)


def test_size_of_the_published_space() -> None:
    assert SALNAS.size == 110_075_314_176
    assert len(SALNAS.genes) == 27


def test_extremes() -> None:
    largest, smallest = SALNAS.largest(), SALNAS.smallest()
    assert largest.resolution == (288, 384)
    assert largest.last_width == 1344
    assert sum(stage.depth for stage in largest.stages) == 37
    assert smallest.resolution == (192, 256)
    assert smallest.last_width == 1296
    assert sum(stage.depth for stage in smallest.stages) == 17


@given(space_and_rows())
def test_every_way_of_writing_a_subnet_leads_back(given_rows: tuple[Space, np.ndarray]) -> None:
    space, rows = given_rows
    for row, text in zip(rows, space.ids(rows), strict=True):
        arch = space.decode(row)
        assert (space.encode(arch) == row).all()
        assert space.parse_arch(text) == arch
        assert space.id_of(arch) == text
        assert space.arch_of_json(json.loads(json.dumps(arch.to_json()))) == arch
    assert (space.rows_of_indices(space.indices(rows)) == rows).all()


@settings(max_examples=15)
@given(space_and_rows())
def test_identity_shortcuts_are_those_of_the_network(given_rows: tuple[Space, np.ndarray]) -> None:
    space, rows = given_rows
    stages = [widths.stage for widths in space.meeting_widths]
    for arch, found in zip(space.decode_many(rows), space.identity_shortcuts(rows), strict=True):
        with torch.device("meta"):
            net = SaliencyNet(arch, space)
        projected = [next(iter(stage.children())).projects_shortcut for stage in net.stages]
        assert [not projected[stage] for stage in stages] == found.astype(bool).tolist()
        if space is SALNAS:
            assert all(projected[stage] for stage in range(7) if stage not in stages)


@given(space_and_rows(), st.data())
def test_a_mistyped_id_is_refused(given_rows: tuple[Space, np.ndarray], data: st.DataObject) -> None:
    space, rows = given_rows
    text = space.ids(rows)[0]
    code_starts = len(space.name) + 1
    place = data.draw(st.integers(code_starts, len(text) - 1))
    letter = data.draw(st.sampled_from("0123456789abcdefghjkmnpqrstvwxyz"))
    if letter == text[place] or {letter, text[place]} == {"0", "z"}:
        return
    with pytest.raises(InvalidArch, match="copy it whole"):
        space.arch_of_id(text[:place] + letter + text[place + 1 :])


def test_ids_are_stable() -> None:
    """Ids stand in tables, papers and mails: these may never change."""
    assert SALNAS.id_of(SALNAS.smallest()) == "salnas-000000000"
    assert SALNAS.id_of(SALNAS.largest()) == "salnas-36gfzzzzm"
    assert SALNAS.fingerprint == "29f9806a2f96ec1f"


def test_random_is_deterministic() -> None:
    assert SALNAS.parse_arch("random:7") == SALNAS.parse_arch("random:7")
    assert SALNAS.parse_arch("random:7") != SALNAS.parse_arch("random:8")


def test_arch_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(SALNAS.largest().to_json()))
    assert SALNAS.parse_arch(str(path)) == SALNAS.largest()
    path.write_text("{")
    with pytest.raises(InvalidArch, match="cannot be read"):
        SALNAS.parse_arch(str(path))


def test_errors_name_the_gene() -> None:
    rows = SALNAS.encode(SALNAS.largest())[None].copy()
    rows[0, SALNAS.gene_index("mb3.kernel")] = 2
    with pytest.raises(InvalidArch, match=r"mb3\.kernel is 2 in row 0"):
        SALNAS.validate_rows(rows)
    content = SALNAS.largest().to_json()
    content["stages"][4]["width"] = 111
    with pytest.raises(InvalidArch, match=r"mb5\.width is 111") as caught:
        SALNAS.arch_of_json(content)
    assert caught.value.field == "mb5.width"
    assert "[112, 120, 128]" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "big", "random:", "random:x", "random:-1", "salnas-", "tiny-00", "salnas-0000"]
)
def test_words_that_name_no_subnet(text: str) -> None:
    with pytest.raises(InvalidArch) as caught:
        SALNAS.parse_arch(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "content", [None, [], {"stages": 3}, {"unknown": 1}, {"stages": [], "resolution": [1]}]
)
def test_plain_data_that_is_no_subnet(content: object) -> None:
    with pytest.raises(InvalidArch):
        SALNAS.arch_of_json(content)


def test_shapes_and_types_of_rows() -> None:
    with pytest.raises(InvalidArch, match=r"\(n, 27\)"):
        SALNAS.validate_rows(np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(InvalidArch, match="integers"):
        SALNAS.validate_rows(np.zeros((2, 27)))


def test_unknown_and_nonsensical_spaces() -> None:
    with pytest.raises(InvalidSpace, match="salnas"):
        get_space("imagenet")
    with pytest.raises(InvalidSpace, match="multiple of 32"):
        dataclasses.replace(SALNAS, resolutions=((100, 100),))
    with pytest.raises(InvalidSpace, match=r"stem\.width"):
        dataclasses.replace(SALNAS, stem_widths=(24, 16))


@given(st.floats(1, 5000))
def test_make_divisible(value: float) -> None:
    rounded = make_divisible(value)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * value
