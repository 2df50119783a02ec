"""The original formats of the paper's seven sets, as synthetic folders of the published layouts."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image
from scipy.io import loadmat, savemat

from supernet.__main__ import app
from supernet.data.check import check_dataset
from supernet.data.matfile import read_mat
from supernet.data.mit1003 import find_fixations
from supernet.data.osie import read_osie
from supernet.data.registry import NAMED, find_layout, open_dataset
from supernet.data.sample import split_indices
from supernet.errors import DataError
from tests.unit.supernet.test_data import entry, grey, osie_folder, photo, write_mat

SIZE = (30, 40)
POINTS = [(3, 5), (10, 20), (39, 29)]
"""x, y from 0."""


def people(points: list[tuple[int, int]]) -> np.ndarray[Any, Any]:
    """SALICON's gaze: two people, the second of whom saw nothing."""
    dtype = [("location", "O"), ("timestamp", "O"), ("fixations", "O")]
    gaze = np.empty((2, 1), dtype=dtype)
    for row, seen in enumerate([np.array(points, np.uint16) + 1, np.empty((0, 2), np.uint16)]):
        gaze[row, 0] = (np.zeros((4, 2)), np.zeros((4, 1)), seen)
    return gaze


def mat(path: Path, **variables: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables)


def dots(path: Path) -> None:
    canvas = np.zeros(SIZE, np.uint8)
    for x, y in POINTS:
        canvas[y, x] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(path)


def salicon(root: Path) -> None:
    for part, n in (("train", 3), ("val", 2)):
        for i in range(n):
            photo(root / "stimuli" / part / f"COCO_{part}_{i}.jpg", SIZE, seed=10 * n + i)
            grey(root / "saliency" / part / f"COCO_{part}_{i}.png", SIZE)
            mat(root / "fixations" / part / f"COCO_{part}_{i}.mat", gaze=people(POINTS))


def salicon_json(root: Path) -> None:
    for part, n in (("train", 3), ("val", 2)):
        names = [f"COCO_{part}_{i}.jpg" for i in range(n)]
        for name in names:
            photo(root / "images" / part / name, SIZE)
        rows = [[y + 1, x + 1] for x, y in POINTS]
        content = {
            "images": [{"id": 7 + i, "file_name": name} for i, name in enumerate(names)],
            "annotations": [{"image_id": 7 + i, "worker_id": 1, "fixations": rows} for i in range(n)],
        }
        (root / f"fixations_{part}2014.json").write_text(json.dumps(content))


def cat2000(root: Path) -> None:
    locations = np.zeros(SIZE, np.uint8)
    for x, y in POINTS:
        locations[y, x] = 1
    for category in ("Action", "Art"):
        for i in range(1, 6):
            photo(root / "trainSet" / "Stimuli" / category / f"{i:03d}.jpg", SIZE, seed=i)
            mat(root / "trainSet" / "FIXATIONLOCS" / category / f"{i:03d}.mat", fixLocs=locations)
            grey(root / "trainSet" / "FIXATIONMAPS" / category / f"{i:03d}.jpg", SIZE)


def mit1003(root: Path) -> None:
    for i in range(5):
        photo(root / "ALLSTIMULI" / f"i{i}.jpeg", SIZE, seed=i)
        grey(root / "ALLFIXATIONMAPS" / f"i{i}_fixMap.jpg", SIZE)
        dots(root / "ALLFIXATIONMAPS" / f"i{i}_fixPts.png")


def mit1003_traces(root: Path) -> None:
    # A cross in the middle first, then half a second on each point; the eye is lost in between.
    trace = [(20.0, 15.0)] * 40
    for x, y in POINTS[:2]:
        trace += [(-1.0, -1.0)] * 5 + [(x + 1.0, y + 1.0)] * 120
    for i in range(5):
        photo(root / "ALLSTIMULI" / f"i{i}.jpeg", SIZE, seed=i)
        for person in ("ajs", "CNG"):
            record = {"imgName": f"i{i}.jpeg", "DATA": {"eyeData": np.array(trace)}}
            mat(root / "DATA" / person / f"i{i}.mat", **{f"i{i}": record})


def pascal_s(root: Path) -> None:
    n = 17
    for i in range(1, n + 1):
        photo(root / "datasets" / "imgs" / "pascal" / f"{i}.jpg", SIZE, seed=i)
        grey(root / "datasets" / "algmaps" / "pascal" / "humanFix" / f"{i}.png", SIZE)
    cells = np.empty((n, 1), dtype=object)
    for i in range(n):
        cells[i, 0] = np.array([[y + 1, x + 1, 1] for x, y in POINTS], float)
    mat(root / "datasets" / "fixations" / "pascalFix.mat", fixCell=cells)


def dut_omron(root: Path) -> None:
    for i in range(5):
        photo(root / "DUT-OMRON-image" / f"sun_{i}.jpg", SIZE, seed=i)
        rows = [[SIZE[1], SIZE[0], 0], *([x, y, 1] for x, y in POINTS)]
        mat(root / "DUT-OMRON-eye-fixations" / "mat" / f"sun_{i}.mat", s=np.array(rows, np.int16))


def fiwi(root: Path) -> None:
    for i in range(3):
        photo(root / "stimuli" / f"page{i}.png", SIZE, seed=i)
        dots(root / "fixations" / f"page{i}_fixPts.png")
        grey(root / "saliency" / f"page{i}_fixMap.png", SIZE)


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, tuple[int, int]]] = {
    "salicon": (salicon, "SALICON", (3, 2)),
    "salicon as JSON": (salicon_json, "SALICON", (3, 2)),
    "cat2000": (cat2000, "CAT2000", (8, 2)),
    "mit1003": (mit1003, "MIT1003", (4, 1)),
    "pascal_s": (pascal_s, "PASCAL-S", (13, 4)),
    "dut_omron": (dut_omron, "DUT-OMRON", (4, 1)),
    "fiwi": (fiwi, "FIWI", (1, 2)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_is_read(name: str, tmp_path: Path) -> None:
    write, layout, sizes = LAYOUTS[name]
    write(tmp_path)
    found = find_layout(tmp_path)
    assert found is not None
    assert found[0] == layout
    train, val = (open_dataset(tmp_path, split=split) for split in ("train", "val"))
    everything = open_dataset(tmp_path, split="all")
    assert (len(train), len(val)) == sizes
    assert sorted(train.names + val.names) == sorted(everything.names)
    assert len(set(everything.names)) == len(everything)
    for dataset in (train, val):
        for index in range(len(dataset)):
            sample = dataset[index]
            assert sample.density is not None
            assert sample.fixations is not None
            assert sorted(map(tuple, sample.fixations.tolist())) == sorted(POINTS)
            assert sample.density.shape == SIZE
            assert sample.density.max() == 1
    assert train.fingerprint() != val.fingerprint()
    assert train.fingerprint() == open_dataset(tmp_path, split="train").fingerprint()
    report = check_dataset(tmp_path)
    assert report.is_sound, report.problems
    assert report.fixations == len(POINTS) * sum(sizes)


def test_the_split_of_cat2000_is_the_same_in_each_category(tmp_path: Path) -> None:
    cat2000(tmp_path)
    chosen = [f"{i + 1:03d}.jpg" for i in split_indices(5, 4, "train")]
    names = [f"{category}/{name}" for category in ("Action", "Art") for name in chosen]
    assert list(open_dataset(tmp_path, split="train").names) == names


def test_traces_become_fixations(tmp_path: Path) -> None:
    mit1003_traces(tmp_path)
    sample = open_dataset(tmp_path, split="all")[0]
    assert sample.fixations is not None
    assert sorted(map(tuple, sample.fixations.tolist())) == sorted(POINTS[:2] * 2)
    assert check_dataset(tmp_path).is_sound


def test_a_fixation_ends_where_the_eye_moves_on() -> None:
    rng = np.random.default_rng(0)
    still = [np.tile(centre, (50, 1)) + rng.normal(0, 1, (50, 2)) for centre in ((100, 100), (300, 200))]
    jump = np.linspace((100, 100), (300, 200), 10)
    found = find_fixations(np.concatenate([still[0], jump, still[1], np.full((9, 2), np.nan)]))
    np.testing.assert_allclose(found, [(100, 100), (300, 200)], atol=8)
    assert find_fixations(np.empty((0, 2))).shape == (0, 2)


def test_all_sets_of_the_paper_have_a_name() -> None:
    assert set(NAMED) >= {"salicon", "cat2000", "mit1003", "pascal_s", "dut_omron", "osie", "fiwi"}


@pytest.mark.parametrize(
    ("write", "broken", "message"),
    [
        (salicon, "fixations/train/COCO_train_0.mat", "gaze"),
        (cat2000, "trainSet/FIXATIONLOCS/Art/001.mat", "fixLocs"),
        (dut_omron, "DUT-OMRON-eye-fixations/mat/sun_0.mat", "table s"),
        (mit1003_traces, "DATA/ajs/i0.mat", "eyeData"),
    ],
)
def test_a_file_of_other_content_is_named(
    write: Callable[[Path], None], broken: str, message: str, tmp_path: Path
) -> None:
    write(tmp_path)
    mat(tmp_path / broken, other=np.zeros((2, 2)))
    problems = check_dataset(tmp_path).problems
    assert [(message in problem.message, Path(broken).name in problem.message) for problem in problems] == [
        (True, True)
    ]
    (tmp_path / broken).unlink()
    if write is not mit1003_traces:
        with pytest.raises(DataError, match="holds no file of fixations"):
            open_dataset(tmp_path, split="all")


def test_broken_annotations_are_named(tmp_path: Path) -> None:
    salicon_json(tmp_path)
    for content in ("{", "[]", '{"images": [{"id": 1}], "annotations": []}'):
        (tmp_path / "fixations_val2014.json").write_text(content)
        with pytest.raises(DataError, match="fixations_val2014"):
            open_dataset(tmp_path, split="val")


def test_a_file_of_version_7_3_is_read(tmp_path: Path) -> None:
    pascal_s(tmp_path)
    path = tmp_path / "datasets" / "fixations" / "pascalFix.mat"
    before = open_dataset(tmp_path, split="all")[3].fixations
    cells = read_mat(path)["fixCell"]
    path.unlink()
    with h5py.File(path, "w", userblock_size=512) as stored:
        references = stored.create_dataset("fixCell", (1, len(cells)), dtype=h5py.ref_dtype)
        for i, cell in enumerate(cells):
            references[0, i] = stored.create_dataset(f"#refs#/{i}", data=np.asarray(cell).T).ref
    after = open_dataset(tmp_path, split="all")[3].fixations
    assert before is not None
    assert after is not None
    assert before.tolist() == after.tolist()
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DataError, match="pascalFix"):
        open_dataset(tmp_path, split="all")


# Checking -------------------------------------------------------------------------------------------


def test_what_is_wrong_is_named_file_by_file(tmp_path: Path) -> None:
    fiwi(tmp_path)
    truncated = tmp_path / "stimuli" / "page0.png"
    truncated.write_bytes(truncated.read_bytes()[:300])
    grey(tmp_path / "saliency" / "page1_fixMap.png", (30, 30))
    report = check_dataset(tmp_path)
    assert not report.is_sound
    assert (report.photos, report.usable) == (3, 1)
    assert [Path(problem.file).name for problem in report.problems] == ["page0.png", "page1_fixMap.png"]
    assert "30x30, its photo 40x30" in report.problems[1].message


def test_fixations_beside_the_photo_and_twins_are_noted(tmp_path: Path) -> None:
    for i in range(7):
        photo(tmp_path / "stimuli" / f"{i:03d}.png", seed=0)
    write_mat(tmp_path, [entry(f"{i:03d}.png", [3.0, 99.0], [5.0, 5.0]) for i in range(7)])
    report = check_dataset(tmp_path)
    assert report.is_sound
    assert report.fixations == 7
    messages = [problem.message for problem in report.problems]
    assert sum("1 of 2 fixations lie outside the photo of 40x30" in m for m in messages) == 7
    assert any("the same photo" in m for m in messages)


def test_files_that_do_not_fit_together_are_still_decoded(tmp_path: Path) -> None:
    fiwi(tmp_path)
    (tmp_path / "saliency" / "page2_fixMap.png").unlink()
    (tmp_path / "stimuli" / "page1.png").write_bytes(b"hello")
    messages = [problem.message for problem in check_dataset(tmp_path).problems]
    assert "holds no map for page2.png" in messages[0]
    assert "page1.png is not an image" in messages[1]
    with pytest.raises(DataError, match="no folder"):
        check_dataset(tmp_path / "nowhere")


def test_an_image_of_fixations_has_the_size_of_its_photo(tmp_path: Path) -> None:
    fiwi(tmp_path)
    path = min((tmp_path / "fixations").iterdir())
    grey(path, (20, 20))
    report = check_dataset(tmp_path)
    assert (report.photos, report.usable) == (3, 2)
    assert [Path(problem.file).name for problem in report.problems] == [path.name]
    assert "is 20x20, its photo 40x30" in report.problems[0].message


def test_every_missing_map_is_named_and_those_that_are_there_are_looked_at(tmp_path: Path) -> None:
    for i in range(7):
        photo(tmp_path / "stimuli" / f"{i}.png", seed=i)
    grey(tmp_path / "maps" / "0.png", SIZE)
    grey(tmp_path / "maps" / "1.png", (20, 20))
    report = check_dataset(tmp_path)
    assert (report.photos, report.usable) == (7, 1)
    assert [Path(problem.file).name for problem in report.problems] == [
        "1.png",
        *(f"{i}.png" for i in range(2, 7)),
    ]
    assert "20x20, its photo 40x30" in report.problems[0].message
    assert all("no map" in problem.message for problem in report.problems[1:])


def test_what_nothing_is_done_with_is_noted(tmp_path: Path) -> None:
    for i in range(3):
        photo(tmp_path / "stimuli" / f"{i}.png", seed=i)
    table = tmp_path / "fixations.csv"
    table.write_text("image,x_px,y_px\n0.png,3,3\n1.png,3,3\n")
    report = check_dataset(tmp_path)
    assert report.is_sound
    assert [(problem.file, "left out" in problem.message) for problem in report.problems] == [("2.png", True)]
    for name in ("0", "1", "2", "stray"):
        grey(tmp_path / "maps" / f"{name}.png", SIZE)
    report = check_dataset(tmp_path)
    assert report.is_sound
    assert [problem.file for problem in report.problems] == ["stray.png", "fixations.csv"]


def test_every_photo_that_is_only_in_the_table_is_named(tmp_path: Path) -> None:
    photo(tmp_path / "stimuli" / "0.png", seed=0)
    rows = "".join(f"{name}.png,3,3\n" for name in ("0", "gone", "lost"))
    (tmp_path / "fixations.csv").write_text(f"image,x_px,y_px\n{rows}")
    report = check_dataset(tmp_path)
    assert [problem.file for problem in report.problems] == ["gone.png", "lost.png"]
    assert (report.photos, report.usable) == (3, 1)
    with pytest.raises(DataError, match=r"gone\.png and 1 more"):
        open_dataset(tmp_path, split="all")


def test_the_command_shows_and_tells_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    salicon(tmp_path)
    assert app(["data", "check", str(tmp_path)], standalone_mode=False) in (None, 0)
    shown = capsys.readouterr().out
    assert "SALICON" in shown
    assert "5 of 5 photos can be used (3 train, 2 val)" in shown
    (tmp_path / "stimuli" / "val" / "COCO_val_0.jpg").write_bytes(b"")
    assert app(["data", "check", str(tmp_path), "--json"], standalone_mode=False) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["sound"] is False
    assert report["problems"][0]["file"].endswith("COCO_val_0.jpg")


# MATLAB files ---------------------------------------------------------------------------------------


@given(
    st_numpy.arrays(
        st.sampled_from([np.float64, np.float32, np.uint8, np.int16, np.int64]),
        st_numpy.array_shapes(min_dims=2, max_dims=3, min_side=0, max_side=4),
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2000, exclude_categories=["Cs"]), min_size=1),
    st.booleans(),
)
def test_what_scipy_writes_is_read_as_scipy_reads_it(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], text: str, packed: bool
) -> None:
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    cells = np.empty((2, 1), dtype=object)
    cells[0, 0], cells[1, 0] = array, {"name": text, "inner": {"deep": array}}
    savemat(path, {"array": array, "cells": cells, "text": text}, do_compression=packed)
    ours, theirs = read_mat(path), loadmat(str(path))
    np.testing.assert_array_equal(ours["array"], theirs["array"])
    assert ours["array"].dtype == theirs["array"].dtype
    assert ours["text"].rstrip() == str(theirs["text"][0]).rstrip() == text.rstrip()
    np.testing.assert_array_equal(ours["cells"][0], theirs["cells"][0, 0])
    np.testing.assert_array_equal(ours["cells"][1]["inner"]["deep"], array)


def test_damaged_bytes_never_end_the_process(tmp_path: Path) -> None:
    # In a child: what this is about took the whole interpreter down.
    osie_folder(tmp_path)
    code = """
import sys
from pathlib import Path
import numpy as np
from supernet.data.osie import read_osie
from supernet.errors import DataError
root = Path(sys.argv[1])
whole = (root / "fixations.mat").read_bytes()
rng = np.random.default_rng(0)
refused = 0
for _ in range(400):
    damaged = bytearray(whole)
    for position in rng.integers(124, len(whole), 6):
        damaged[position] ^= int(rng.integers(1, 256))
    (root / "fixations.mat").write_bytes(damaged)
    try:
        read_osie(root, "all")
    except DataError:
        refused += 1
print(refused)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, tail: bytes) -> None:
    path = tmp_path_factory.mktemp("mat") / "a.mat"
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + tail)
    with contextlib.suppress(DataError):
        assert isinstance(read_mat(path), dict)


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    value: Any = np.zeros((1, 1))
    for _ in range(60):
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0] = value
        value = cell
    savemat(tmp_path / "a.mat", {"a": value})
    with pytest.raises(DataError, match="nested"):
        read_mat(tmp_path / "a.mat")
    with pytest.raises(DataError):
        read_osie(tmp_path, "all")
