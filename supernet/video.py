"""Saliency of films: every frame with its map laid over it.

Frames are read and written through ffmpeg, which imageio-ffmpeg brings (`pip install 'salnas[video]'`); it is
imported only here and only when called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from supernet.errors import ImageError, SettingsError
from supernet.files import atomic_path
from supernet.images import overlay

FILMS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"})
_WRITTEN = frozenset({".mp4", ".mov", ".mkv"})

Predict = Callable[[Image.Image], NDArray[np.float32]]
"""An RGB photo → its map (H, W) in [0, 1]."""


@dataclass(frozen=True)
class FilmReport:
    """What became of a film. `peaks` is the most salient pixel (x, y) of each frame."""

    path: Path
    frames: int
    fps: float
    size: tuple[int, int]
    peaks: tuple[tuple[int, int], ...]


def is_film(path: Path) -> bool:
    """Whether the name is that of a film."""
    return path.suffix.lower() in FILMS


def predict_film(
    predict: Predict,
    source: Path,
    target: Path,
    *,
    most: int | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> FilmReport:
    """Write `target` (.mp4, .mov or .mkv) with a map over each frame of `source`, or over the first `most`.

    Each frame is predicted by itself. Raises SettingsError without the package or for another suffix, ImageError
    where the film cannot be read; `target` is whole or not there.
    """
    if target.suffix.lower() not in _WRITTEN:
        raise SettingsError(
            f"A film cannot be written as {target.name}.",
            field="out",
            value=str(target),
            remedy="Name a file that ends in .mp4.",
        )
    ffmpeg = _ffmpeg()
    if not source.is_file():
        raise ImageError(
            f"There is no film at {source}.", field="image", value=str(source), remedy="Check the path."
        )
    peaks: list[tuple[int, int]] = []
    with atomic_path(target) as temporary, _reading(ffmpeg, source) as (meta, frames):
        width, height = meta["size"]
        total = int(meta.get("duration", 0) * meta["fps"]) if most is None else most
        writer = ffmpeg.write_frames(
            str(temporary), (width, height), fps=meta["fps"], macro_block_size=1, ffmpeg_log_level="error"
        )
        writer.send(None)
        try:
            for frame in frames:
                image = Image.frombytes("RGB", (width, height), frame)
                saliency = predict(image)
                y, x = np.unravel_index(int(saliency.argmax()), saliency.shape)
                peaks.append((int(x), int(y)))
                writer.send(np.ascontiguousarray(overlay(image, saliency)))
                progress(len(peaks), max(total, len(peaks)))
                if len(peaks) == most:
                    break
        finally:
            writer.close()
        if not peaks:
            raise _unreadable(source, "it has no frames")
    return FilmReport(target, len(peaks), float(meta["fps"]), (height, width), tuple(peaks))


@contextmanager
def _reading(ffmpeg: Any, source: Path) -> Iterator[tuple[dict[str, Any], Iterator[bytes]]]:
    frames = ffmpeg.read_frames(str(source), pix_fmt="rgb24")
    try:
        try:
            meta = next(frames)
        except (OSError, RuntimeError, StopIteration) as error:
            raise _unreadable(source, "ffmpeg finds no film in it") from error
        yield meta, frames
    finally:
        frames.close()


def _unreadable(source: Path, why: str) -> ImageError:
    return ImageError(
        f"{source} cannot be read as a film: {why}.",
        field="image",
        value=str(source),
        remedy="The file may be damaged; convert it to .mp4 first.",
    )


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise SettingsError(
            "Films need the package imageio-ffmpeg, which is not installed.",
            field="image",
            value="imageio-ffmpeg",
            remedy="Install it (pip install 'salnas[video]'), or pass photos.",
        ) from error
    return imageio_ffmpeg
