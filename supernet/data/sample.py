"""What a data set is made of, whatever its files look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from supernet.errors import DataError

Split = Literal["train", "val", "all"]
SPLITS: tuple[str, ...] = get_args(Split)


@dataclass(frozen=True, eq=False)
class Sample:
    """One photo and what people looked at.

    name       file name of the photo, unique in its data set
    image      (H, W, 3) uint8, RGB
    density    (H, W) float32 in [0, 1] with maximum 1: where people look; None for object masks
    fixations  (n, 2) float32, x and y in pixels of `image`, all inside it; None where only maps exist
    mask       (H, W) bool, the salient object; None for fixation data
    """

    name: str
    image: npt.NDArray[np.uint8]
    density: npt.NDArray[np.float32] | None = None
    fixations: npt.NDArray[np.float32] | None = None
    mask: npt.NDArray[np.bool_] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the photo."""
        height, width = self.image.shape[:2]
        return height, width


class Dataset(Protocol):
    """A sized, indexable set of samples. Reading a sample may raise DataError."""

    @property
    def name(self) -> str: ...

    @property
    def split(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]:
        """The photos' names, in the order of the samples."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def fingerprint(self) -> str:
        """A hexadecimal digest of everything the samples are made from, the files' bytes included."""
        ...


def check_split(split: str) -> None:
    """Raise DataError unless `split` is one of train, val, all."""
    if split not in SPLITS:
        raise DataError(
            f"There is no split named {split!r}.",
            field="split",
            value=split,
            remedy=f"Use one of {', '.join(SPLITS)}.",
        )


def split_indices(n: int, n_train: int, split: str) -> npt.NDArray[np.int64]:
    """Positions, in the sorted file names, of the samples of a split, in the order of the public code.

    The rule of the published SalNAS code: `arange(n)` is shuffled by `RandomState(42)`; the first
    `n_train` train, the others validate. "all" is every position in sorted order.
    """
    check_split(split)
    order = np.arange(n, dtype=np.int64)
    if split == "all":
        return order
    np.random.RandomState(42).shuffle(order)
    return order[:n_train] if split == "train" else order[n_train:]
