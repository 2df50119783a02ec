"""MIT1003 (Judd et al., 2009) as it is published.

    ALLSTIMULI/name.jpeg
    ALLFIXATIONMAPS/name_fixPts.jpg     bright where somebody looked
    ALLFIXATIONMAPS/name_fixMap.jpg     blurred
    DATA/<person>/name.mat              instead of the points: the traces of 15 people, 240 samples a second

From traces fixations are found by their dispersion (Salvucci and Goldberg, 2000): at least 100 ms within 35
pixels, one degree of that experiment. The authors' own MATLAB code finds others; the images of points hold
those. 803 of 1003 photos train, as in the public SalNAS code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from supernet.data.files import RecordedDataset, list_photos, partners, points_of_image
from supernet.data.matfile import read_mat
from supernet.data.sample import split_indices
from supernet.errors import DataError

STIMULI, MAPS, TRACES = "ALLSTIMULI", "ALLFIXATIONMAPS", "DATA"
SHORTEST = 24
"""Samples of a fixation: 100 ms at 240 Hz."""
DISPERSION = 35.0
"""Largest width plus height of a fixation, in pixels."""

Points = npt.NDArray[np.float32]


def is_mit1003(root: Path) -> bool:
    """Whether `root` has the layout of MIT1003."""
    return (root / STIMULI).is_dir() and ((root / MAPS).is_dir() or (root / TRACES).is_dir())


def read_mit1003(root: Path, split: str, name: str = "mit1003") -> RecordedDataset:
    """Read points from images where there are some, else from traces. Raises DataError for missing files."""
    everything = list_photos(root / STIMULI)
    order = split_indices(len(everything), len(everything) * 803 // 1003, split)
    photos = [everything[i] for i in order]
    maps = partners(photos, root / MAPS, "map", ending="_fixMap") if (root / MAPS).is_dir() else None
    if any((root / MAPS).glob("*_fixPts.*")):
        images = partners(photos, root / MAPS, "image of points", ending="_fixPts")
        return RecordedDataset(
            name, split, tuple(photos), images, lambda index: points_of_image(images[index]), maps
        )
    people = _people(root)
    traces = [tuple(person / f"{photo.stem}.mat" for person in people) for photo in photos]
    _check_traces(traces)
    return RecordedDataset(
        name,
        split,
        tuple(photos),
        tuple(path for files in traces for path in files if path.is_file()),
        lambda index: np.concatenate([points_of_trace(path) for path in traces[index] if path.is_file()]),
        maps,
    )


def _people(root: Path) -> list[Path]:
    people = sorted(path for path in (root / TRACES).glob("*") if path.is_dir())
    if not people:
        raise DataError(
            f"{root} holds neither {MAPS}/*_fixPts.jpg nor traces in {TRACES}.",
            field="data",
            value=str(root),
            remedy="Unpack ALLFIXATIONMAPS.zip or DATA.zip beside ALLSTIMULI.",
        )
    return people


def _check_traces(traces: list[tuple[Path, ...]]) -> None:
    for files in traces:
        if not any(path.is_file() for path in files):
            raise DataError(
                f"Nobody's trace is there for {files[0].stem}.",
                field="DATA",
                value=str(files[0]),
                remedy="Unpack DATA.zip again, or remove the photo.",
            )


def points_of_trace(path: Path) -> Points:
    """(n, 2): the fixations of one person on one photo; the first, which the cross forced, is left out."""
    samples = _samples(read_mat(path), path)
    return find_fixations(samples)[1:]


def _samples(content: dict[str, Any], path: Path) -> npt.NDArray[np.float64]:
    """(n, 2) gaze from 0, NaN where the eye was lost."""
    # The only variable has the photo's name, cut to what MATLAB allows.
    record = next((value for value in content.values() if isinstance(value, dict) and "DATA" in value), {})
    data = record.get("DATA", {})
    data = data[0] if isinstance(data, list) and data else data
    trace = data.get("eyeData") if isinstance(data, dict) else None
    if not isinstance(trace, np.ndarray) or trace.ndim != 2 or trace.shape[1] < 2:
        raise DataError(
            f"{path} lacks DATA.eyeData (n, 2).",
            field="eyeData",
            value=str(path),
            remedy="Download DATA.zip again.",
        )
    gaze = trace[:, :2].astype(np.float64) - 1
    gaze[(gaze < 0).any(axis=1)] = np.nan
    return gaze


def find_fixations(
    gaze: npt.NDArray[np.float64], *, shortest: int = SHORTEST, dispersion: float = DISPERSION
) -> Points:
    """Samples (n, 2), NaN where lost → centres (m, 2) of windows that stay within `dispersion`, in order."""
    centres = []
    start = 0
    while start + shortest <= len(gaze):
        end = start + shortest
        if not _spread(gaze[start:end]) <= dispersion:
            start += 1
            continue
        while end < len(gaze) and _spread(gaze[start : end + 1]) <= dispersion:
            end += 1
        centres.append(np.median(gaze[start:end], axis=0))
        start = end
    return np.asarray(centres, np.float32).reshape(-1, 2)


def _spread(window: npt.NDArray[np.float64]) -> float:
    return float((window.max(axis=0) - window.min(axis=0)).sum())
