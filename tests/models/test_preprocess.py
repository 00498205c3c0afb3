"""Photographs of every kind, and the crop that the network sees."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxplain.models import Preprocess, to_rgb

PREPROCESS = Preprocess(mean=(127.0, 100.0, 50.0), std=(128.0, 64.0, 32.0))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def rgb(image):
    return np.asarray(to_rgb(image))


def test_the_crop_is_the_centre_of_the_resized_photograph():
    photograph = Image.fromarray(np.random.default_rng(1).integers(0, 256, (300, 451, 3), np.uint8))
    resized = photograph.resize((384, 256), Image.Resampling.BILINEAR)  # 451 · 256 / 300 = 384.85
    expected = np.asarray(resized)[16:240, 80:304]
    difference = PREPROCESS.view(photograph)[0].astype(int) - expected
    assert np.abs(difference).max() <= 1  # Pillow takes the crop's edges in single precision
    assert PREPROCESS.view(photograph.rotate(90, expand=True)).shape == (1, 224, 224, 3)


@pytest.mark.parametrize("size", [(451, 300), (300, 451), (224, 224), (1, 3000)])
def test_boxes_are_what_the_view_shows(size):
    photograph = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), np.uint8))
    boxes = PREPROCESS.boxes([photograph, photograph])
    assert boxes.shape == (2, 4)
    left, top, right, bottom = boxes[0]
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert right - left == pytest.approx(224 / 256 * min(size), rel=1e-2)
    shown = np.asarray(photograph.resize((224, 224), Image.Resampling.BILINEAR, tuple(boxes[0])))
    np.testing.assert_array_equal(PREPROCESS.view(photograph)[0], shown)


@pytest.mark.parametrize("size", [(1, 1_000_000), (1_000_000, 1), (1, 1)])
def test_a_photograph_without_width_takes_no_memory(size):
    np.testing.assert_array_equal(PREPROCESS.view(Image.new("RGB", size, (1, 2, 3)))[0, :, :, 1], 2)


def test_normalisation():
    images = PREPROCESS(np.zeros((224, 224, 3), np.uint8))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, 0, 0], [-127 / 128, -100 / 64, -50 / 32], rtol=1e-6)
    low, high = PREPROCESS.bounds
    np.testing.assert_allclose(low, images[0, 0, 0])
    np.testing.assert_allclose(high, [1, 155 / 64, 205 / 32], rtol=1e-6)


def test_one_photograph_or_several():
    array, image = PIXELS, Image.fromarray(PIXELS)
    one = PREPROCESS(array)
    assert one.shape == (1, 224, 224, 3)
    for several in ([array, image], (image, image), np.stack([array, array])):
        np.testing.assert_array_equal(PREPROCESS(several), np.concatenate([one, one]))


def test_a_crop_larger_than_the_photograph():
    with pytest.raises(ValueError, match="a crop of 300 does not fit in a shorter side of 256: raise resize="):
        Preprocess(mean=(0, 0, 0), std=(1, 1, 1), crop=300)


def test_no_photographs():
    with pytest.raises(ValueError, match="there are no photographs"):
        PREPROCESS([])


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "I;16"]
)
def test_black_and_white_in_every_mode(mode):
    for value in (0, 255):
        source = Image.new("RGB", (2, 3), (value,) * 3)
        if mode.startswith("I"):
            image = Image.new(mode, (2, 3), value * 257)
        else:
            image = source.convert("L").convert(mode) if mode == "PA" else source.convert(mode)
        assert to_rgb(image).mode == "RGB"
        np.testing.assert_array_equal(rgb(image), source)


def test_sixteen_bits_are_scaled():
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535]], np.uint16))
    np.testing.assert_array_equal(rgb(deep)[0, :, 0], [0, 1, 128, 255])
    buffer = io.BytesIO()
    deep.save(buffer, "png")
    np.testing.assert_array_equal(rgb(Image.open(buffer))[0, :, 2], [0, 1, 128, 255])


def test_transparency_shows_white():
    image = Image.new("RGBA", (1, 1), (255, 0, 0, 51))  # a fifth of red
    np.testing.assert_array_equal(rgb(image)[0, 0], [255, 204, 204])
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([0, 0, 255])
    np.testing.assert_array_equal(rgb(palette)[0, 0], [0, 0, 255])
    for transparency in (0, b"\0"):
        palette.info["transparency"] = transparency
        np.testing.assert_array_equal(rgb(palette)[0, 0], [255, 255, 255])


def test_exif_orientation():
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise
    Image.fromarray(PIXELS).save(buffer, "png", exif=exif)
    np.testing.assert_array_equal(rgb(Image.open(buffer)), np.rot90(PIXELS, -1))


def test_arrays():
    np.testing.assert_array_equal(rgb(PIXELS), PIXELS)
    np.testing.assert_array_equal(rgb(PIXELS[..., 0]), np.repeat(PIXELS[..., :1], 3, axis=2))
    np.testing.assert_array_equal(rgb(np.zeros((1, 1, 4), np.uint8)), np.full((1, 1, 3), 255))
    for wrong in (PIXELS / 255, PIXELS.astype(int), PIXELS[..., :2], PIXELS[None]):
        with pytest.raises(ValueError, match=r"an image must be \(H, W, 3\) of uint8"):
            to_rgb(wrong)
    with pytest.raises(ValueError, match="no agreed white"):
        to_rgb(Image.new("F", (1, 1)))
