"""Readers: the split rule, the real sets where they lie, and files that are broken."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.ndimage import gaussian_filter

from supernet.data.dut_omron import read_dut_omron
from supernet.data.fixation_csv import read_fixation_csv
from supernet.data.folder import read_folder, write_folder
from supernet.data.osie import read_osie
from supernet.data.registry import data_root, list_datasets, open_dataset
from supernet.data.sample import split_indices
from supernet.data.synthetic import SyntheticDataset, synthetic
from supernet.errors import DataError


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (data_root() / name).is_dir(), reason=f"{name} is not at SALNAS_DATA")


def photo(path: Path, size: tuple[int, int] = (30, 40), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def grey(path: Path, size: tuple[int, int] = (30, 40), value: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, value, np.uint8)).save(path)


def write_mat(root: Path, entries: list[dict[str, Any]], key: str = "fixations") -> None:
    cells = np.empty((1, len(entries)), dtype=object)
    for i, entry in enumerate(entries):
        cells[0, i] = entry
    savemat(root / "fixations.mat", {key: cells})


def entry(name: str, x: list[float], y: list[float]) -> dict[str, Any]:
    viewers = np.empty((1, 2), dtype=object)
    viewers[0, 0] = {"fix_x": np.array(x), "fix_y": np.array(y), "fix_duration": np.ones(len(x))}
    viewers[0, 1] = {"fix_x": np.array([]), "fix_y": np.array([]), "fix_duration": np.array([])}
    return {"img": name, "subjects": viewers}


def osie_folder(root: Path, n: int = 7) -> Path:
    for i in range(n):
        photo(root / "stimuli" / f"{i:03d}.png", seed=i)
    write_mat(root, [entry(f"{i:03d}.png", [3.9, 10.2], [5.5, 20.0]) for i in reversed(range(n))])
    return root


def csv_folder(root: Path, rows: str, packed: bool = False) -> Path:
    photo(root / "stimuli" / "a.png")
    text = f"image,subject,x_px,y_px,duration_ms\n{rows}"
    if packed:
        (root / "fixations.csv.gz").write_bytes(gzip.compress(text.encode()))
    else:
        (root / "fixations.csv").write_text(text)
    return root


# The split rule -------------------------------------------------------------------------------------


def test_the_split_is_that_of_the_public_code() -> None:
    order = np.arange(700)
    np.random.RandomState(42).shuffle(order)
    assert split_indices(700, 500, "train").tolist() == order[:500].tolist()
    assert split_indices(700, 500, "val").tolist() == order[500:].tolist()
    # Written down once, so that a change of NumPy's stream would be noticed.
    assert split_indices(700, 500, "train")[:5].tolist() == FIRST_OF_700
    assert split_indices(700, 500, "all").tolist() == list(range(700))


FIRST_OF_700 = [158, 500, 396, 155, 321]


def test_a_split_of_another_name_is_refused() -> None:
    with pytest.raises(DataError, match="train, val, all"):
        open_dataset("synthetic", split="test")


# Real sets ------------------------------------------------------------------------------------------


@needs("osie")
def test_osie() -> None:
    train, val = open_dataset("osie", split="train"), open_dataset("osie", split="val")
    assert (len(train), len(val)) == (500, 200)
    assert not set(train.names) & set(val.names)
    everything = sorted(path.name for path in (data_root() / "osie" / "stimuli").iterdir())
    assert sorted(train.names + val.names) == everything
    assert train.names[:5] == tuple(everything[i] for i in FIRST_OF_700)
    assert sum(map(len, read_osie(data_root() / "osie", "all").fixations)) == 98_321

    sample = val[0]
    assert sample.size == (600, 800)
    assert sample.density is not None
    assert sample.fixations is not None
    binary = np.zeros((600, 800))
    pixels = sample.fixations.astype(int)
    binary[pixels[:, 1], pixels[:, 0]] = 1
    expected = gaussian_filter(binary, 16)
    np.testing.assert_allclose(sample.density, expected / expected.max(), atol=1e-6)


@needs("mit1003")
@needs("crowd")
@pytest.mark.parametrize(
    ("name", "sizes", "n_fixations"), [("mit1003", (803, 200), 104_171), ("crowd", (400, 100), 126_348)]
)
def test_tables_of_fixations(name: str, sizes: tuple[int, int], n_fixations: int) -> None:
    train, val = open_dataset(name, split="train"), open_dataset(name, split="val")
    assert (len(train), len(val)) == sizes
    assert not set(train.names) & set(val.names)
    assert sum(map(len, read_fixation_csv(data_root() / name, "all", name).fixations)) == n_fixations
    sample = val[0]
    assert sample.fixations is not None
    assert sample.density is not None
    assert sample.density.shape == sample.size
    assert max(sample.size) == 448
    assert (sample.fixations < sample.size[::-1]).all()


@needs("dut_omron")
def test_dut_omron() -> None:
    assert len(open_dataset("dut_omron", split="train")) == 3006
    val = open_dataset("dut_omron", split="val")
    assert len(val) == 1128
    sample = val[0]
    assert sample.size == (224, 224)
    assert sample.fixations is None
    assert sample.density is not None
    assert sample.density.shape == (224, 224)
    assert sample.density.max() == 1


@needs("ecssd")
def test_ecssd() -> None:
    dataset = open_dataset("ecssd", split="all")
    assert len(dataset) == 1000
    sample = dataset[0]
    assert sample.mask is not None
    assert sample.mask.shape == sample.size
    assert 0 < sample.mask.mean() < 1
    with pytest.raises(DataError, match="test set"):
        open_dataset("ecssd", split="train")


# Layouts --------------------------------------------------------------------------------------------


def test_folders_are_recognised(tmp_path: Path) -> None:
    osie = osie_folder(tmp_path / "one")
    table = csv_folder(tmp_path / "two", "a.png,0,1.5,2.5,100\n", packed=True)
    maps, masks, dut = tmp_path / "three", tmp_path / "four", tmp_path / "five"
    for folder, kind in ((maps, "maps"), (masks, "masks")):
        photo(folder / "stimuli" / "a.jpg")
        grey(folder / kind / "a.png")
    for part in ("train", "val"):
        photo(dut / "stimuli" / part / f"{part}.jpg")
        grey(dut / "saliency" / part / f"{part}.png", (15, 20))
    for folder in (osie, table, maps, masks, dut):
        dataset = open_dataset(folder, split="all")
        assert dataset.name == folder.name
        assert len(dataset) >= 1
        sample = dataset[0]
        if sample.density is not None:
            assert sample.density.shape == sample.size == (30, 40)
            assert sample.density.max() == 1
    assert open_dataset(dut, split="all").names == ("train.jpg", "val.jpg")
    assert len(open_dataset(osie, split="train")) == 5
    assert len(open_dataset(osie, split="val")) == 2


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    dataset = synthetic(5)
    write_folder(dataset, tmp_path / "points")
    again = open_dataset(tmp_path / "points", split="all")
    assert len(again) == 5
    for i in range(5):
        before, after = dataset[i], again[i]
        assert (before.image == after.image).all()
        assert before.fixations is not None
        assert after.fixations is not None
        np.testing.assert_allclose(before.fixations, after.fixations, atol=0.006)
    maps = read_folder(_with_maps(tmp_path / "maps"), "all", "mine")
    write_folder(maps, tmp_path / "copy")
    assert (open_dataset(tmp_path / "copy", split="all")[0].image == maps[0].image).all()


def _with_maps(root: Path) -> Path:
    photo(root / "stimuli" / "a.png")
    grey(root / "maps" / "a.png")
    return root


def test_names_and_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="osie") as caught:
        open_dataset("nonsense")
    assert "synthetic" in str(caught.value)
    with pytest.raises(DataError, match="SALNAS_DATA"):
        open_dataset("osie", root=tmp_path)
    with pytest.raises(DataError, match="layout"):
        open_dataset(tmp_path)


def test_the_data_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SALNAS_DATA", str(tmp_path))
    assert data_root() == tmp_path
    osie_folder(tmp_path / "osie")
    assert len(open_dataset("osie", split="val")) == 2
    monkeypatch.delenv("SALNAS_DATA")
    assert data_root().parts[-2:] == ("shared", "data")
    assert set(list_datasets()) >= {"osie", "mit1003", "crowd", "dut_omron", "ecssd", "synthetic"}


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, "a.png,0,1.5,2.5,100\n")
    first = open_dataset(root, split="all").fingerprint()
    assert open_dataset(root, split="all").fingerprint() == first
    photo(root / "stimuli" / "a.png", seed=1)
    second = open_dataset(root, split="all").fingerprint()
    (root / "fixations.csv").write_text("image,x_px,y_px\na.png,3,4\n")
    assert len({first, second, open_dataset(root, split="all").fingerprint()}) == 3


# Points ---------------------------------------------------------------------------------------------


def test_osie_drops_points_beside_the_photo_and_cuts_coordinates(tmp_path: Path) -> None:
    photo(tmp_path / "stimuli" / "a.png")
    write_mat(tmp_path, [entry("a.png", [3.9, 40.0, -0.5, 39.9], [5.5, 3.0, 3.0, 29.9])])
    sample = read_osie(tmp_path, "all")[0]
    assert sample.fixations is not None
    assert sample.density is not None
    assert sample.fixations.tolist() == [
        [pytest.approx(3.9), 5.5],
        [pytest.approx(39.9), pytest.approx(29.9)],
    ]
    counts = np.zeros((30, 40))
    counts[5, 3] = counts[29, 39] = 1
    expected = gaussian_filter(counts, 0.8)
    np.testing.assert_allclose(sample.density, expected / expected.max(), atol=1e-6)


@pytest.mark.parametrize(("x", "y"), [([4.5], [9.5]), ([], [])])
def test_one_fixation_is_enough_and_none_is_an_error(tmp_path: Path, x: list[float], y: list[float]) -> None:
    photo(tmp_path / "stimuli" / "a.png")
    write_mat(tmp_path, [entry("a.png", x, y)])
    dataset = read_osie(tmp_path, "all")
    if x:
        density = dataset[0].density
        assert density is not None
        assert density[9, 4] == density.max()
    else:
        with pytest.raises(DataError, match=r"a\.png"):
            dataset[0]


# Broken files ---------------------------------------------------------------------------------------


def test_a_truncated_photo_is_named(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, "a.png,0,1.5,2.5,100\n")
    target = root / "stimuli" / "a.png"
    target.write_bytes(target.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.png") as caught:
        open_dataset(root, split="all")[0]
    assert caught.value.remedy
    assert caught.value.field == "file"
    target.write_bytes(b"hello")
    with pytest.raises(DataError, match="not an image"):
        open_dataset(root, split="all")[0]


def test_maps_of_another_size_missing_or_black(tmp_path: Path) -> None:
    root = _with_maps(tmp_path / "set")
    grey(root / "maps" / "a.png", (31, 40))
    with pytest.raises(DataError, match="40x31, its photo 40x30"):
        read_folder(root, "all", "mine")[0]
    grey(root / "maps" / "a.png", value=0)
    with pytest.raises(DataError, match="black"):
        read_folder(root, "all", "mine")[0]
    photo(root / "stimuli" / "b.png")
    with pytest.raises(DataError, match=r"b\.png"):
        read_folder(root, "all", "mine")


def test_a_map_of_dut_omron_must_have_the_shape_of_its_photo(tmp_path: Path) -> None:
    for part in ("train", "val"):
        photo(tmp_path / "stimuli" / part / "a.jpg")
        grey(tmp_path / "saliency" / part / "a.png", (20, 20))
    with pytest.raises(DataError, match=r"a\.png"):
        read_dut_omron(tmp_path, "train")[0]


@pytest.mark.parametrize("missing", ["fixations", "img", "subjects", "fix_x"])
def test_a_missing_key_is_named(tmp_path: Path, missing: str) -> None:
    photo(tmp_path / "stimuli" / "a.png")
    content = entry("a.png", [1.0], [2.0])
    if missing in content:
        del content[missing]
        content["other"] = 1
    elif missing == "fix_x":
        del content["subjects"][0, 0]["fix_x"]
    write_mat(tmp_path, [content, content], key="other" if missing == "fixations" else "fixations")
    with pytest.raises(DataError, match=f"'{missing}'") as caught:
        read_osie(tmp_path, "all")
    assert "fixations.mat" in str(caught.value)


def test_broken_mat_files(tmp_path: Path) -> None:
    root = osie_folder(tmp_path)
    whole = (root / "fixations.mat").read_bytes()
    for content in (whole[: len(whole) // 2], b"hello", b"", whole[:130]):
        (root / "fixations.mat").write_bytes(content)
        with pytest.raises(DataError, match=r"fixations\.mat"):
            read_osie(root, "all")
    write_mat(root, [entry("a.png", [float("nan")], [2.0])])
    with pytest.raises(DataError, match="finite"):
        read_osie(root, "all")
    write_mat(root, [entry("a.png", [1.0, 2.0], [2.0])])
    with pytest.raises(DataError, match="2 x and 1 y"):
        read_osie(root, "all")
    write_mat(root, [entry("../../etc/passwd", [1.0], [2.0])])
    with pytest.raises(DataError, match="passwd, which"):
        read_osie(root, "all")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,0,1.5\n", "line 2"),
        ("a.png,0,1,1,100\na.png,0,left,2.5,100\n", "line 3"),
        ("a.png,0,nan,2.5,100\n", "not finite"),
        ("../a.png,0,1,2.5,100\n", "path instead of a name"),
        ("b.png,0,1.5,2.5,100\n", r"b\.png"),
        ("", "no rows"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_fixation_csv(csv_folder(tmp_path, rows), "all", "mine")


def test_broken_tables(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, "a.png,0,1.5,2.5,100\n" * 500, packed=True)
    table = root / "fixations.csv.gz"
    assert len(read_fixation_csv(root, "all", "mine").fixations[0]) == 500
    whole = table.read_bytes()
    for content in (whole[:40], b"hello", whole[:-8] + bytes(8)):
        table.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read"):
            read_fixation_csv(root, "all", "mine")
    table.write_bytes(gzip.compress(b"image,x,y\n"))
    with pytest.raises(DataError, match="x_px"):
        read_fixation_csv(root, "all", "mine")
    table.unlink()
    with pytest.raises(DataError, match="lacks"):
        read_fixation_csv(root, "all", "mine")


# Synthetic photos -----------------------------------------------------------------------------------


def test_synthetic_photos_are_the_same_each_time() -> None:
    first, second = synthetic(6, seed=3), synthetic(6, seed=3)
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != synthetic(6, seed=4).fingerprint()
    for i in range(6):
        a, b = first[i], second[i]
        assert (a.image == b.image).all()
        assert (a.fixations == b.fixations).all()  # type: ignore[union-attr]
    assert (synthetic(6, seed=4)[0].image != first[0].image).any()
    assert not set(synthetic(20, "train").names) & set(synthetic(20, "val").names)


def test_synthetic_fixations_lie_on_what_stands_out() -> None:
    for i in range(8):
        sample = SyntheticDataset((i,))[0]
        assert sample.fixations is not None
        assert sample.density is not None
        colourfulness = np.ptp(sample.image.astype(float), axis=2)
        looked_at = colourfulness[sample.density > 0.5].mean()
        assert looked_at > 2 * colourfulness[sample.density < 0.05].mean()


def test_synthetic_photos_that_are_too_small() -> None:
    with pytest.raises(DataError, match="16 pixels"):
        synthetic(2, size=(8, 8))


def test_grey_and_palette_photos_are_read_as_rgb(tmp_path: Path) -> None:
    root = csv_folder(tmp_path, "a.png,0,1.5,2.5,100\n")
    for mode in ("L", "P", "RGBA", "1"):
        stream = io.BytesIO()
        Image.new("RGB", (40, 30), (200, 100, 50)).convert(mode).save(stream, format="PNG")
        (root / "stimuli" / "a.png").write_bytes(stream.getvalue())
        assert open_dataset(root, split="all")[0].image.shape == (30, 40, 3)
