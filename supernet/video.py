"""Saliency of films: every frame with its map laid over it.

Frames are read and written through ffmpeg, which imageio-ffmpeg brings (`pip install 'salnas[video]'`); it is
imported only here and only when called.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from supernet.errors import ExportError, ImageError, SettingsError
from supernet.files import atomic_path
from supernet.images import overlay

FILMS = frozenset({".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".gif"})
_WRITTEN = frozenset({".mp4", ".mov", ".mkv"})
_IMPRECISION = 0.02
"""Of the frames that a file announces: it tells its length, of picture or sound, and a rounded rate."""

Predict = Callable[[Image.Image], NDArray[np.float32]]
"""An RGB photo → its map (H, W) in [0, 1]."""

Write = Callable[[Image.Image], None]
"""Appends a frame to a film."""


@dataclass(frozen=True)
class FilmReport:
    """What became of a film. `peaks` is the most salient pixel (x, y) of each frame, `size` is (H, W).

    `announced` is about how many frames were to be expected; None where the file does not tell its length.
    """

    path: Path
    frames: int
    fps: float
    size: tuple[int, int]
    peaks: tuple[tuple[int, int], ...]
    announced: int | None = None

    @property
    def is_cut_off(self) -> bool:
        """Whether frames are missing, be it that the file is damaged or that its sound is longer."""
        return self.announced is not None and self.frames < self.announced - max(
            1, _IMPRECISION * self.announced
        )


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
    where the film cannot be read, ExportError where not every frame can be read back; `target` is whole or as it
    was. A film that ends before it should is no error, see `FilmReport.is_cut_off`.
    """
    ffmpeg = _checked(source, target)
    peaks: list[tuple[int, int]] = []
    with _reading(ffmpeg, source) as (meta, frames), _writing(ffmpeg, target, meta) as write:
        announced = _announced(meta, most)
        for frame in frames:
            image = Image.frombytes("RGB", meta["size"], frame)
            saliency = predict(image)
            y, x = np.unravel_index(int(saliency.argmax()), saliency.shape)
            peaks.append((int(x), int(y)))
            write(overlay(image, saliency))
            progress(len(peaks), max(announced or most or 0, len(peaks)))
            if len(peaks) == most:
                break
        if not peaks:
            raise _unreadable(source, "it has no frames")
    width, height = meta["size"]
    return FilmReport(target, len(peaks), float(meta["fps"]), (height, width), tuple(peaks), announced)


def _checked(source: Path, target: Path) -> Any:
    """The package that reads and writes films, where both names make sense."""
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
    return ffmpeg


def _announced(meta: dict[str, Any], most: int | None) -> int | None:
    """About how many frames the file says it has, `most` at most."""
    frames = round(float(meta.get("duration", 0)) * float(meta["fps"]))
    if not frames:
        return None
    return frames if most is None else min(frames, most)


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


@contextmanager
def _writing(ffmpeg: Any, target: Path, meta: dict[str, Any]) -> Iterator[Write]:
    sent = 0

    def write(frame: Image.Image) -> None:
        nonlocal sent
        try:
            writer.send(np.ascontiguousarray(frame))
        except OSError as error:
            raise _not_written(target, f"ffmpeg stopped after {sent} frames") from error
        sent += 1

    with atomic_path(target) as temporary:
        writer = ffmpeg.write_frames(
            str(temporary), meta["size"], fps=meta["fps"], macro_block_size=1, ffmpeg_log_level="error"
        )
        writer.send(None)
        try:
            yield write
        finally:
            writer.close()
        # Closing does not tell whether ffmpeg could write what it was given.
        readable = _count_frames(ffmpeg, temporary)
        if readable < sent:
            raise _not_written(target, f"{readable} of {sent} frames can be read back")


def _count_frames(ffmpeg: Any, path: Path) -> int:
    """Frames that can be decoded; none where ffmpeg finds an error in the file."""
    # Not imageio-ffmpeg's own count: it lets ffmpeg read the standard input, which belongs to the caller.
    command = [
        ffmpeg.get_ffmpeg_exe(),
        "-nostdin",
        "-v",
        "error",
        "-xerror",
        "-i",
        str(path),
        "-map",
        "0:v:0",
    ]
    command += ["-f", "null", "-progress", "pipe:1", "-"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    counts = re.findall(rb"^frame=\s*(\d+)", done.stdout, re.MULTILINE)
    return int(counts[-1]) if counts and done.returncode == 0 else 0


def _not_written(target: Path, why: str) -> ExportError:
    return ExportError(
        f"{target} was not written: {why}.",
        field="out",
        value=str(target),
        remedy="Check that the disk has room; a file that was there before is untouched.",
    )


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
