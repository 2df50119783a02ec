"""Photos in, tensors and pictures out."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from scipy.ndimage import convolve

from supernet import images
from supernet.errors import ImageError
from supernet.images import (
    heat,
    heat_colours,
    heat_png,
    load_image,
    load_upload,
    overlay,
    resize_maps,
    resize_photo,
    smooth_maps,
    stretch,
    to_tensor,
)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=form, **options)
    return stream.getvalue()


def picture(width: int = 40, height: int = 30) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = zlib.compress(bytes(1000))
    body = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return b"\x89PNG\r\n\x1a\n" + chunk + body


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_common_formats_from_bytes_and_files(form: str, tmp_path: Path) -> None:
    content = encoded(picture(), form)
    from_bytes = load_image(content)
    path = tmp_path / "photo"
    path.write_bytes(content)
    assert (from_bytes.mode, from_bytes.size) == ("RGB", (40, 30))
    for source in (path, str(path)):
        assert (np.asarray(load_image(source)) == np.asarray(from_bytes)).all()


def test_photos_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(picture(), "PNG", exif=exif)
    upright = load_image(content)
    assert upright.size == (30, 40)
    assert (np.asarray(upright) == np.rot90(np.asarray(picture()), -1)).all()


def test_transparency_lies_over_white_and_deep_grey_is_scaled() -> None:
    clear = Image.new("RGBA", (3, 2), (10, 20, 30, 0))
    assert (np.asarray(load_image(encoded(clear))) == 255).all()
    deep = Image.fromarray(np.array([[0, 32896, 65535]], dtype=np.uint16))
    assert np.asarray(load_image(encoded(deep)))[0, :, 0].tolist() == [0, 128, 255]
    for mode in ("L", "LA", "P", "1", "CMYK"):
        form = "TIFF" if mode == "CMYK" else "PNG"
        assert load_image(encoded(picture().convert(mode), form)).mode == "RGB"


def test_uploads_are_read_as_photos_are() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp = Image.linear_gradient("L").resize((40, 30))
    smooth = Image.merge("RGB", (ramp, ramp.rotate(180), Image.radial_gradient("L").resize((40, 30))))
    clear = smooth.convert("RGBA")
    clear.putalpha(ramp)
    deep = Image.fromarray(np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16))
    contents = [
        encoded(smooth, "JPEG", exif=exif),
        encoded(smooth, "WEBP"),
        encoded(smooth, transparency=smooth.getpixel((0, 0))),
        encoded(clear),
        encoded(deep),
        *(encoded(smooth.convert(mode)) for mode in ("L", "LA", "P")),
    ]
    for content in contents:
        whole = load_image(content)
        assert (np.asarray(load_upload(content, 40)) == np.asarray(whole)).all()
        small = load_upload(content, 20)
        expected = whole.resize(small.size, Image.Resampling.BICUBIC)
        assert (small.mode, sorted(small.size)) == ("RGB", [15, 20])
        difference = np.abs(np.asarray(small, np.float64) - np.asarray(expected, np.float64)).mean()
        assert difference < 4, (content[:10], difference)


def test_large_uploads_are_made_smaller_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def watched(image: Image.Image) -> Image.Image:
        seen.append(image.size)
        return to_rgb(image)

    to_rgb = images._to_rgb
    monkeypatch.setattr(images, "_to_rgb", watched)
    clear = Image.new("RGBA", (2000, 1000), (1, 2, 3, 4))
    assert load_upload(encoded(clear), 100).size == (100, 50)
    assert seen == [(100, 50)]
    decoded: list[tuple[int, int]] = []
    load = JpegImageFile.load

    def loaded(self: JpegImageFile) -> object:
        decoded.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImageFile, "load", loaded)
    assert load_upload(encoded(picture(1600, 800), "JPEG"), 100).size == (100, 50)
    assert decoded[0] == (200, 100), "an eighth of it is decoded"


def test_uploads_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "UPLOAD_PIXELS", 1000)
    monkeypatch.setattr(images, "MAX_PIXELS", 1500)
    assert load_upload(encoded(picture(), "JPEG"), 100).size == (40, 30)
    for content in (encoded(picture()), encoded(picture(), "WEBP"), encoded(picture(41, 40), "JPEG")):
        with pytest.raises(ImageError, match="more than") as caught:
            load_upload(content, 100)
        assert caught.value.remedy
    for form in ("BMP", "TIFF", "GIF", "EPS"):
        with pytest.raises(ImageError, match="known format"):
            load_upload(encoded(picture(10, 10), form), 100)


def test_bombs_are_told_by_their_header() -> None:
    for side, message in ((8_000, "8000x8000"), (10_000, "50,000,000"), (100_000, "50,000,000")):
        with pytest.raises(ImageError, match=message) as caught:
            load_image(bomb(side, side))
        assert caught.value.remedy == "Make the photo smaller first."
    with pytest.raises(ImageError, match="40x30"):
        load_image(encoded(picture()), max_pixels=1199)
    assert load_image(encoded(picture()), max_pixels=1200).size == (40, 30)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='a'/>", bytes(5000)])
def test_what_is_no_image(content: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        load_image(content)
    assert caught.value.remedy
    assert caught.value.field == "image"


def test_damaged_images_give_one_kind_of_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = encoded(picture(), form)
        with pytest.raises(ImageError):
            load_image(whole[: len(whole) // 2])
        for _ in range(40):
            damaged = bytearray(whole)
            for position in rng.integers(0, len(whole), 4):
                damaged[position] ^= int(rng.integers(1, 256))
            with contextlib.suppress(ImageError):
                assert load_image(bytes(damaged)).mode == "RGB"
    with pytest.raises(ImageError, match="There is no image"):
        load_image(tmp_path / "absent.png")
    with pytest.raises(ImageError):
        load_image(tmp_path)


def test_the_tensor_is_normalised_and_sized() -> None:
    x = to_tensor(picture(), (30, 40))
    assert x.shape == (1, 3, 30, 40)
    assert x.dtype == torch.float32
    expected = np.asarray(picture()).transpose(2, 0, 1) / 127.5 - 1
    np.testing.assert_allclose(x[0].numpy(), expected, atol=1e-6)
    assert to_tensor(picture(), (12, 20)).shape == (1, 3, 12, 20)
    assert resize_photo(picture(), (12, 20)).size == (20, 12)


def test_colours_rise_in_lightness() -> None:
    table = heat_colours()
    assert table.shape == (256, 3)
    linear = np.where(table / 255 <= 0.04045, table / 255 / 12.92, ((table / 255 + 0.055) / 1.055) ** 2.4)
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness[::15])
    assert (steps > 0).all()
    # Equal steps of saliency look equal: no step is three times another.
    assert steps.max() < 3 * steps.min()
    assert len(np.unique(table, axis=0)) > 250


def test_a_map_becomes_a_picture() -> None:
    saliency = np.linspace(3, 7, 20, dtype=np.float32).reshape(4, 5)
    pixels = np.asarray(heat(saliency))
    assert (pixels[0, 0] == heat_colours()[0]).all()
    assert (pixels[-1, -1] == heat_colours()[-1]).all()
    with Image.open(io.BytesIO(heat_png(saliency))) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == pixels).all()


def test_flat_and_broken_maps() -> None:
    assert not stretch(np.full((4, 5), 0.7)).any()
    for bad in (np.full((4, 5), np.nan), np.zeros((0, 5)), np.zeros(5)):
        with pytest.raises(ImageError, match="finite"):
            heat(bad)


def test_the_overlay_shows_the_photo_where_nothing_is_salient() -> None:
    image = picture()
    saliency = np.zeros((30, 40), np.float32)
    saliency[10, 20] = 1
    mixed, photo = np.asarray(overlay(image, saliency)), np.asarray(image)
    assert (mixed[saliency == 0] == photo[saliency == 0]).all()
    expected = 0.4 * photo[10, 20] + 0.6 * heat_colours()[-1]
    np.testing.assert_allclose(mixed[10, 20], expected, atol=0.51)
    assert (np.asarray(overlay(image, saliency, 0.0)) == photo).all()
    assert overlay(image, np.random.default_rng(0).random((7, 9))).size == image.size
    for opacity in (-0.1, 1.1, float("nan")):
        with pytest.raises(ImageError, match="Opacity"):
            overlay(image, saliency, opacity)


def test_smoothing_is_the_gaussian_of_the_public_code() -> None:
    maps = torch.rand(2, 14, 17, dtype=torch.float64)
    offsets = np.arange(-5, 6)
    taps = np.exp(-(offsets**2) / (2 * 10.5**2))
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    expected = [convolve(m, kernel, mode="mirror") for m in maps.numpy()]
    np.testing.assert_allclose(smooth_maps(maps).numpy(), expected, atol=1e-12)
    tiny = torch.rand(1, 5, 5)
    assert torch.equal(smooth_maps(tiny), tiny)


def test_maps_are_resized_like_photos() -> None:
    maps = torch.rand(1, 30, 40)
    resized = resize_maps(maps, (12, 20))
    expected = Image.fromarray(maps[0].numpy()).resize((20, 12), Image.Resampling.BILINEAR)
    np.testing.assert_allclose(resized[0].numpy(), np.asarray(expected), atol=1e-5)
    assert resize_maps(maps, (30, 40)) is maps
