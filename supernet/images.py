"""Photos in, tensors and pictures out.

Notation: a photo is a PIL image in RGB, a tensor is (B, 3, H, W) float32 in [-1, 1], a saliency map
is (H, W) float32 in [0, 1]. Sizes are (H, W) except where PIL speaks, which says (W, H).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional

from supernet.errors import ImageError

MAX_PIXELS = 50_000_000
UPLOAD_PIXELS = 25_000_000
"""Of a photo that is decoded whole before it is made smaller; a JPEG is not, and may have twice as many."""

_UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP")
_AVERAGED = ("L", "LA", "RGB", "RGBA", "CMYK", "F")
"""Modes whose pixels can be averaged as they are."""

_HEAT_COLOURS = 256
_SMOOTHING_RADIUS = 5
_SMOOTHING_SIGMA = 10.5


def load_image(source: Path | str | bytes, max_pixels: float = MAX_PIXELS) -> Image.Image:
    """Decode a photo to RGB, upright as its EXIF orientation says.

    `source` is a path or the encoded bytes. The size is read from the header before anything is
    decoded, so that a small file cannot claim gigabytes. Transparency is laid over white, 16-bit grey
    is scaled to 8 bits. Raises ImageError for what cannot be read or has more than `max_pixels`.
    """
    label = "the uploaded bytes" if isinstance(source, bytes) else str(source)
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    with _explained(label, max_pixels), Image.open(stream) as opened:
        _check_size(opened.size, max_pixels, label)
        opened.load()
        return _to_rgb(ImageOps.exif_transpose(opened))


def load_upload(content: bytes, longest_side: int) -> Image.Image:
    """A photo from a stranger as `load_image` reads one, no side longer than `longest_side` pixels.

    It is made smaller before anything else is done with it, JPEG while it is decoded, so that it takes less
    than half a GB of memory. Raises ImageError for what cannot be read, is no JPEG, PNG or WebP, or has more
    than `UPLOAD_PIXELS`; for JPEG `MAX_PIXELS`.
    """
    label = "the uploaded bytes"
    with _explained(label, UPLOAD_PIXELS), Image.open(io.BytesIO(content), formats=_UPLOAD_FORMATS) as opened:
        is_jpeg = opened.format in ("JPEG", "MPO")
        _check_size(opened.size, MAX_PIXELS if is_jpeg else UPLOAD_PIXELS, label)
        share = longest_side / max(opened.size)
        if share < 1.0:
            width, height = opened.size
            opened.draft(None, (math.ceil(share * width), math.ceil(share * height)))
        opened.load()
        small = _averageable(opened)
        small.thumbnail((longest_side, longest_side))
        return _to_rgb(ImageOps.exif_transpose(small))


def _averageable(image: Image.Image) -> Image.Image:
    """In a mode whose pixels can be averaged, with at most one copy."""
    if image.mode.startswith("I"):
        return image.convert("I")
    if image.mode in _AVERAGED and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


@contextmanager
def _explained(label: str, max_pixels: float) -> Iterator[None]:
    """Whatever goes wrong with an image as an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(
            f"There is no image at {label}.", field="image", value=label, remedy="Check the path."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{label} is not an image in a known format.",
            field="image",
            value=label,
            remedy="Use a JPEG, PNG or WebP photo.",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(f"{label} claims a size", max_pixels, label) from error
    except Exception as error:  # Decoders raise whatever they stumble over in damaged files.
        raise ImageError(
            f"{label} cannot be decoded: {error}.",
            field="image",
            value=label,
            remedy="The file may be truncated or damaged; save or download it again.",
        ) from error


def _check_size(size: tuple[int, int], max_pixels: float, label: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise _too_large(f"{label} has {width}x{height} pixels, a size", max_pixels, [width, height])


def _too_large(what: str, max_pixels: float, value: object) -> ImageError:
    return ImageError(
        f"{what} of more than {int(max_pixels):,} pixels.",
        field="image",
        value=value,
        remedy="Make the photo smaller first.",
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        grey = np.asarray(image, dtype=np.float64)
        scale = 1 / 257 if grey.size and grey.max() > 255 else 1.0
        return Image.fromarray((grey * scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        backdrop = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(backdrop, layer).convert("RGB")
    # A copy, so that the caller's image does not hang on the file that was opened.
    return image.convert("RGB").copy()


def resize_photo(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize to `size` = (H, W) with PIL's bilinear filter, which averages when it shrinks."""
    height, width = size
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def normalise(photos: torch.Tensor) -> torch.Tensor:
    """(B, 3, H, W) uint8 to float32 in [-1, 1]: mean 0.5, deviation 0.5."""
    return photos.float().div_(127.5).sub_(1.0)


def to_tensor(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """The network's input: (1, 3, H, W) float32 in [-1, 1] for `size` = (H, W)."""
    pixels = np.array(resize_photo(image.convert("RGB"), size), dtype=np.uint8)
    return normalise(torch.from_numpy(pixels).permute(2, 0, 1)[None])


def resize_photos(photos: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, C, h, w) -> (B, C, H, W) for `size` = (H, W), bilinear, averaging where it shrinks."""
    if photos.shape[2:] == size:
        return photos
    return functional.interpolate(photos, size=size, mode="bilinear", align_corners=False, antialias=True)


def resize_maps(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(B, h, w) -> (B, H, W) for `size` = (H, W), as `resize_photos`."""
    return maps if maps.shape[1:] == size else resize_photos(maps[:, None], size)[:, 0]


def smooth_maps(maps: torch.Tensor) -> torch.Tensor:
    """Blur (B, H, W) as the public SalNAS code does at evaluation: 11x11 Gaussian, sigma 10.5 pixels.

    Borders are mirrored; maps under 6 pixels a side, too small for that, are returned as they are.
    """
    if min(maps.shape[1:]) <= _SMOOTHING_RADIUS:
        return maps
    taps = np.exp(-0.5 * (np.arange(_SMOOTHING_RADIUS + 1) / _SMOOTHING_SIGMA) ** 2)
    taps /= taps[0] + 2 * taps[1:].sum()
    padded = functional.pad(maps, [_SMOOTHING_RADIUS] * 4, mode="reflect")
    return _weighted_sum(_weighted_sum(padded, 1, taps.tolist()), 2, taps.tolist())


def _weighted_sum(padded: torch.Tensor, dim: int, taps: Sequence[float]) -> torch.Tensor:
    """Blur along one dimension, which loses its padding; `taps` from the centre outwards.

    Shifted sums, since torch convolves one channel slowly (`make bench-smoothing`).
    """
    radius = len(taps) - 1
    length = padded.shape[dim] - 2 * radius
    total: torch.Tensor = taps[0] * padded.narrow(dim, radius, length)
    for distance in range(1, radius + 1):
        for start in (radius - distance, radius + distance):
            total.add_(padded.narrow(dim, start, length), alpha=taps[distance])
    return total


@lru_cache(maxsize=1)
def heat_colours() -> npt.NDArray[np.uint8]:
    """(256, 3) uint8 colour table from dark violet over red to pale yellow.

    A path through OKLab (Ottosson, 2020) on which lightness rises in equal steps, so that equal steps
    of saliency look equal, and the table still reads when printed in grey.
    """
    t = np.linspace(0.0, 1.0, _HEAT_COLOURS)
    lightness = 0.16 + 0.80 * t
    hue = np.deg2rad(290.0 + 175.0 * t)
    chroma = 0.05 + 0.13 * np.sin(np.pi * np.clip(t, 0.02, 0.9) ** 0.9)
    return _oklab_to_srgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))


def _oklab_to_srgb(
    lightness: npt.NDArray[np.float64], a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]
) -> npt.NDArray[np.uint8]:
    l_ = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    m_ = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    s_ = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * l_ - 3.3077115913 * m_ + 0.2309699292 * s_,
            -1.2684380046 * l_ + 2.6097574011 * m_ - 0.3413193965 * s_,
            -0.0041960863 * l_ - 0.7034186147 * m_ + 1.7076147010 * s_,
        ],
        axis=-1,
    ).clip(0.0, 1.0)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(encoded * 255), dtype=np.uint8)


def stretch(saliency: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Scale a finite (H, W) map linearly to [0, 1]; a flat map becomes 0. Raises ImageError otherwise."""
    values = np.asarray(saliency, dtype=np.float32)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all():
        raise ImageError(
            "A saliency map must be a finite (H, W) array.",
            field="map",
            value=list(values.shape),
            remedy="Check the network's output for NaN.",
        )
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return (values - low) / np.float32(high - low)


def heat(saliency: npt.NDArray[np.floating]) -> Image.Image:
    """Colour a (H, W) map: its lowest value darkest, its highest brightest."""
    picture = Image.fromarray(np.rint(stretch(saliency) * (_HEAT_COLOURS - 1)).astype(np.uint8))
    picture.putpalette(heat_colours().tobytes())
    return picture.convert("RGB")


def heat_png(saliency: npt.NDArray[np.floating]) -> bytes:
    """`heat` as the bytes of a PNG file."""
    stream = io.BytesIO()
    heat(saliency).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def overlay(image: Image.Image, saliency: npt.NDArray[np.floating], opacity: float = 0.6) -> Image.Image:
    """Lay the heat colours over a photo, the more opaque the more salient.

    `saliency` is (h, w) of any size; it is resized to the photo. At `opacity` 0.6 the most salient
    pixel is 60 % heat colour, the least salient one is the photo. Raises ImageError outside [0, 1].
    """
    if not 0.0 <= opacity <= 1.0:
        raise ImageError(
            f"Opacity {opacity} is not between 0 and 1.",
            field="opacity",
            value=opacity,
            remedy="Choose a value such as 0.6.",
        )
    stretched = Image.fromarray(stretch(saliency))
    if stretched.size != image.size:
        stretched = stretched.resize(image.size, Image.Resampling.BILINEAR)
    values = np.asarray(stretched).clip(0, 1)
    # The square root, since colour and cover both fade: else half as salient would look a quarter.
    cover = Image.fromarray(np.rint(255 * opacity * np.sqrt(values)).astype(np.uint8))
    return Image.composite(heat(values), image.convert("RGB"), cover)
