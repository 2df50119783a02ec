"""From fixated points to maps.

Notation: fixations are (n, 2), x and y in pixels with (0, 0) the outer corner of the top left pixel;
a point (x, y) lies in pixel (floor y, floor x). Counts and densities are (H, W).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: Blur as a share of the photo's long side: the 16 px at 800x600 that the public code uses for OSIE.
#: There one degree of visual angle is 24 px, so this is 0.67 degrees; on the photos of MIT1003 (35 px
#: a degree at 1024) it is 0.6. One share for every set keeps the targets alike where sets are mixed.
SIGMA_SHARE = 16 / 800


def default_sigma(size: tuple[int, int]) -> float:
    """Standard deviation in pixels of the blur for a photo of `size` = (H, W)."""
    return SIGMA_SHARE * max(size)


def inside(fixations: npt.NDArray[np.floating], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """The fixations, (n, 2) float32, that lie on a photo of `size` = (H, W)."""
    height, width = size
    points = np.asarray(fixations, dtype=np.float32).reshape(-1, 2)
    x, y = points[:, 0], points[:, 1]
    return points[(x >= 0) & (y >= 0) & (x < width) & (y < height)]


def fixation_counts(
    fixations: npt.NDArray[np.floating], size: tuple[int, int], grid: tuple[int, int] | None = None
) -> npt.NDArray[np.int64]:
    """Number of fixations in each cell of `grid` (h, w), by default one cell a pixel of `size` (H, W).

    Coordinates are truncated to pixels first; a coarser grid bins the pixels' centres.
    """
    height, width = size
    rows, columns = grid or size
    pixels = np.floor(inside(fixations, size)).astype(np.int64)
    x = pixels[:, 0] if columns == width else ((pixels[:, 0] + 0.5) * columns / width).astype(np.int64)
    y = pixels[:, 1] if rows == height else ((pixels[:, 1] + 0.5) * rows / height).astype(np.int64)
    return np.bincount(y * columns + x, minlength=rows * columns).reshape(rows, columns)


def _blurred_impulses(at: npt.NDArray[np.int64], length: int, sigma: float) -> npt.NDArray[np.float32]:
    """(n, length): row j is a unit impulse at `at[j]`, blurred, mirrored at the borders.

    The Gaussian ends at 4 sigma as scipy's does, or at `length`, past which it would be mirrored twice.
    """
    radius = min(int(4 * sigma + 0.5), length)
    offsets = np.arange(-radius, radius + 1)
    taps = np.exp(-0.5 * (offsets / sigma) ** 2)
    padded = np.zeros((len(at), length + 2 * radius), dtype=np.float32)
    padded[np.arange(len(at))[:, None], at[:, None] + radius + offsets] = taps / taps.sum()
    rows = padded[:, radius : radius + length].copy()
    if radius:
        rows[:, :radius] += padded[:, radius - 1 :: -1]
        rows[:, length - radius :] += padded[:, : length + radius - 1 : -1]
    return rows


def density_map(counts: npt.NDArray[np.integer], sigma: float) -> npt.NDArray[np.float32]:
    """Blur counts (H, W) with a Gaussian of `sigma` pixels; the result's maximum is 1.

    Equals `scipy.ndimage.gaussian_filter(counts, sigma)` over its maximum, in a fraction of the time,
    since only the fixated pixels are summed. Without fixations the map is zero.
    """
    height, width = counts.shape
    y, x = np.nonzero(counts)
    if len(y) == 0:
        return np.zeros((height, width), dtype=np.float32)
    weights = counts[y, x].astype(np.float32)
    rows = _blurred_impulses(y, height, sigma) * weights[:, None]
    blurred = rows.T @ _blurred_impulses(x, width, sigma)
    return np.asarray(blurred / blurred.max(), dtype=np.float32)


def eight_bits(density: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """A density in [0, 1] as a grey image, rounded.

    Published ground truth is stored so, and the numbers it is compared by depend on it: what lies
    under 1/510 of the maximum counts as nothing, which adds about 0.015 to a divergence.
    """
    return np.asarray(np.rint(np.clip(density, 0.0, 1.0) * 255), dtype=np.uint8)
