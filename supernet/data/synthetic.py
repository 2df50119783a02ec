"""Photos made from numbers, with fixations planted where the eye-catchers are.

For tests, examples and first trials: nothing to download, the same for the same seed, and easy
enough for a tiny network to learn in seconds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import zoom

from supernet.data.density import default_sigma, density_map, fixation_counts, inside
from supernet.data.sample import Sample, check_split, split_indices
from supernet.errors import DataError

TRAIN_SHARE = 0.8
_CENTRE_SHARE = 0.1


@dataclass(frozen=True)
class SyntheticDataset:
    """`indices` of an endless series of photos of `size` = (H, W), given by `seed`.

    Each shows a dull texture and one to three coloured discs or squares; nine of ten fixations lie
    on these, the others about the centre.
    """

    indices: tuple[int, ...]
    split: str = "all"
    size: tuple[int, int] = (96, 128)
    seed: int = 0
    fixations_per_photo: int = 60
    name: str = "synthetic"

    def __post_init__(self) -> None:
        if min(self.size) < 16 or self.fixations_per_photo < 1:
            raise DataError(
                "Synthetic photos need 16 pixels a side and a fixation each.",
                field="size",
                value=list(self.size),
                remedy="Use a size such as (96, 128).",
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"synthetic-{self.seed}-{index:05d}.png" for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Sample:
        rng = np.random.default_rng([self.seed, self.indices[index]])
        image, targets = _draw(rng, self.size)
        points = _look(rng, self.size, targets, self.fixations_per_photo)
        density = density_map(fixation_counts(points, self.size), default_sigma(self.size))
        return Sample(self.names[index], image, density, points)

    def fingerprint(self) -> str:
        return hashlib.blake2b(repr(self).encode(), digest_size=16).hexdigest()


def synthetic(
    n: int = 80, split: str = "all", *, size: tuple[int, int] = (96, 128), seed: int = 0
) -> SyntheticDataset:
    """The first `n` synthetic photos, split as every other set is (four of five train)."""
    check_split(split)
    order = split_indices(n, int(n * TRAIN_SHARE), split)
    return SyntheticDataset(tuple(int(i) for i in order), split, size, seed)


def _draw(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """(H, W, 3) uint8 and the targets (k, 3): x, y and radius in pixels."""
    height, width = size
    canvas = _texture(rng, size)
    yy, xx = np.mgrid[0:height, 0:width] + 0.5
    count = int(rng.integers(1, 4))
    radius = rng.uniform(0.06, 0.14, count) * min(size)
    x = rng.uniform(0.12, 0.88, count) * width
    y = rng.uniform(0.12, 0.88, count) * height
    for k in range(count):
        distance = np.hypot(xx - x[k], yy - y[k])
        if rng.random() < 0.5:
            distance = np.maximum(abs(xx - x[k]), abs(yy - y[k]))
        cover = np.clip(radius[k] - distance + 0.5, 0.0, 1.0)[..., None]
        canvas = canvas * (1 - cover) + _vivid(rng) * cover
    noisy = canvas + rng.normal(0.0, 4.0, canvas.shape)
    return np.rint(noisy.clip(0, 255)).astype(np.uint8), np.stack([x, y, radius], axis=1)


def _texture(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(H, W, 3) in [0, 255]: soft noise of low contrast and colour."""
    coarse = rng.normal(0.0, 18.0, (6, 8))
    soft = zoom(coarse, (size[0] / 6, size[1] / 8), order=1)[: size[0], : size[1]]
    base = rng.uniform(70.0, 170.0) + rng.uniform(-14.0, 14.0, 3)
    return np.asarray(base + soft[..., None])


def _vivid(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A saturated colour: one channel high, one low, one between."""
    return rng.permutation(np.array([rng.uniform(220, 255), rng.uniform(0, 40), rng.uniform(40, 220)]))


def _look(
    rng: np.random.Generator, size: tuple[int, int], targets: npt.NDArray[np.float64], n: int
) -> npt.NDArray[np.float32]:
    """(m, 2) float32 fixations, m <= n since those beside the photo are dropped."""
    height, width = size
    chosen = targets[rng.choice(len(targets), n, p=targets[:, 2] / targets[:, 2].sum())]
    points = chosen[:, :2] + rng.normal(0.0, 0.5, (n, 2)) * chosen[:, 2:]
    central = rng.normal(0.5, 0.2, (n, 2)) * (width, height)
    points = np.where(rng.random((n, 1)) < _CENTRE_SHARE, central, points)
    # The first target always keeps one, so that no photo is without.
    points[0] = targets[0, :2]
    return inside(points, size)
