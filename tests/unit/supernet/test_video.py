"""Films: every frame keeps its place and gets its own map."""

from __future__ import annotations

import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from supernet.errors import ExportError, ImageError, SettingsError
from supernet.video import is_film, predict_film

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
# It leaves the pipes of ffmpeg to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

WIDTH, HEIGHT = 64, 48


def film(path: Path, frames: int = 6) -> None:
    """A white square that moves to the right on black."""
    writer = imageio_ffmpeg.write_frames(str(path), (WIDTH, HEIGHT), fps=5, macro_block_size=1)
    writer.send(None)
    for number in range(frames):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[20:28, 8 * number : 8 * number + 8] = 255
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def brightness(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("L"), np.float32) / np.float32(255)


def test_each_frame_gets_its_map(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    seen: list[int] = []
    report = predict_film(
        brightness, tmp_path / "a.mp4", tmp_path / "out" / "b.mp4", progress=lambda done, _: seen.append(done)
    )
    assert (report.frames, report.fps, report.size) == (6, 5.0, (HEIGHT, WIDTH))
    assert seen == [1, 2, 3, 4, 5, 6]
    for number, (x, y) in enumerate(report.peaks):
        assert 8 * number - 2 <= x <= 8 * number + 10
        assert 18 <= y <= 30
    frames = imageio_ffmpeg.read_frames(str(report.path), pix_fmt="rgb24")
    meta = next(frames)
    shown = [np.frombuffer(frame, np.uint8).reshape(HEIGHT, WIDTH, 3).astype(int) for frame in frames]
    assert meta["size"] == (WIDTH, HEIGHT)
    assert len(shown) == 6
    # Heat colours are yellow where it is most salient: more red than blue on the white square.
    square = shown[2][22:26, 18:22].mean((0, 1))
    assert square[0] > square[2] + 20


def test_only_the_first_frames(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4")
    assert predict_film(brightness, tmp_path / "a.mp4", tmp_path / "b.mp4", most=2).frames == 2


def test_what_is_no_film_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"hello" * 100)
    with pytest.raises(ImageError, match="cannot be read as a film"):
        predict_film(brightness, source, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(ImageError, match="no film at"):
        predict_film(brightness, tmp_path / "c.mp4", tmp_path / "b.mp4")
    with pytest.raises(SettingsError, match=r"b\.png"):
        predict_film(brightness, source, tmp_path / "b.png")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(SettingsError, match="imageio-ffmpeg") as caught:
        predict_film(brightness, source, tmp_path / "b.mp4")
    assert "salnas[video]" in str(caught.value)
    assert is_film(source)
    assert not is_film(Path("a.jpg"))


def test_a_full_disk_leaves_the_old_film_whole(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", frames=8)
    (tmp_path / "b.mp4").write_bytes(b"an older film")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # No file may grow further, that of ffmpeg included: what a full disk is to the writer.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(ExportError, match=r"b\.mp4 was not written"):
            predict_film(brightness, tmp_path / "a.mp4", tmp_path / "b.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "b.mp4").read_bytes() == b"an older film"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_a_film_that_ends_before_it_should_is_told(tmp_path: Path) -> None:
    film(tmp_path / "a.mkv", frames=60)
    whole = predict_film(brightness, tmp_path / "a.mkv", tmp_path / "b.mp4")
    assert (whole.frames, whole.announced, whole.is_cut_off) == (60, 60, False)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "half.mkv").write_bytes(content[: len(content) * 2 // 3])
    half = predict_film(brightness, tmp_path / "half.mkv", tmp_path / "b.mp4")
    assert 0 < half.frames < 60
    assert half.is_cut_off
