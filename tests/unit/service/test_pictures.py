from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.pictures import load_folder, plan_outputs, write_prediction
from supernet.errors import ImageError, SettingsError
from supernet.images import load_image
from tests.fixtures.tiny import write_photo

PHOTO = Path("a/photo.jpg")


def test_one_photo_becomes_an_overlay_and_a_map_beside_it() -> None:
    (target,) = plan_outputs([PHOTO], Path("out/map.png"))
    assert (target.overlay, target.raw) == (Path("out/map.png"), Path("out/map.npy"))
    (target,) = plan_outputs([PHOTO], Path("out/map.jpg"), Path("raw.png"))
    assert target.raw == Path("raw.png")


def test_photos_go_into_a_folder_by_name(tmp_path: Path) -> None:
    for folder in (tmp_path, Path("new")):
        targets = plan_outputs([PHOTO, Path("b.png")], folder)
        assert [t.overlay for t in targets] == [folder / "photo.png", folder / "b.png"]
        assert [t.raw for t in targets] == [folder / "photo.npy", folder / "b.npy"]


@pytest.mark.parametrize(
    ("images", "out", "raw", "field"),
    [
        (["a.jpg", "b.jpg"], "one.png", None, "out"),
        (["a.jpg"], "map.gif", None, "out"),
        (["a.jpg"], "map.npy", None, "out"),
        (["a.jpg"], "map.png", "map.tiff", "raw"),
        (["a.jpg"], "folder", "map.npy", "raw"),
        (["x/a.jpg", "y/a.jpg"], "folder", None, "out"),
        (["a.png"], "a.png", None, "out"),
        (["x/a.png"], "x", None, "out"),
        (["a.jpg"], "map.png", "map.png", "out"),
    ],
)
def test_what_would_lose_a_file_is_refused(images: list[str], out: str, raw: str | None, field: str) -> None:
    with pytest.raises(SettingsError) as caught:
        plan_outputs([Path(i) for i in images], Path(out), None if raw is None else Path(raw))
    assert caught.value.field == field
    assert caught.value.remedy


@pytest.mark.parametrize("raw", ["map.npy", "map.png"])
def test_files_hold_the_map(tmp_path: Path, raw: str) -> None:
    path = write_photo(tmp_path / "photo.png", (30, 40))
    saliency = np.linspace(0, 1, 1200, dtype=np.float32).reshape(30, 40)
    (target,) = plan_outputs([path], tmp_path / "overlay.png", tmp_path / raw)
    write_prediction(target, load_image(path), saliency)
    assert load_image(target.overlay).size == (40, 30)
    if raw.endswith("npy"):
        stored = np.load(target.raw)
    else:
        with Image.open(target.raw) as picture:
            stored = np.asarray(picture) / 65535
    np.testing.assert_allclose(stored, saliency, atol=1e-5)
    assert target.to_json(saliency)["peak"] == [39, 29]
    assert target.to_json(saliency)["size"] == [30, 40]


def test_a_folder_of_photos_is_read_in_order(tmp_path: Path) -> None:
    for name, size in (("b.png", (20, 30)), ("a.jpg", (40, 50)), ("c.PNG", (10, 12))):
        write_photo(tmp_path / name, size)
    (tmp_path / "notes.txt").write_text("no photo")
    assert [photo.size for photo in load_folder(tmp_path, most=2)] == [(50, 40), (30, 20)]
    assert len(load_folder(tmp_path)) == 3


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ImageError) as caught:
            load_folder(folder)
        assert caught.value.field == "photos"
