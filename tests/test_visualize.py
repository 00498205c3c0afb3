import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxplain.visualize import animation, colorize, figure, overlay, panel, save
from jaxplain.visualize._overlay import resize

WHITE = (247, 247, 247)  # the middle of RdBu
BLACK = (0, 0, 3)  # the start of inferno
RED = (103, 0, 31)
BLUE = (5, 48, 97)


def ramp(low, high):
    return np.linspace(low, high, 64).reshape(1, 8, 8)


@pytest.mark.parametrize(("signed", "colour"), [(True, WHITE), (False, BLACK), (None, BLACK)])
def test_zero_has_the_colour_of_zero(signed, colour):
    assert (colorize(np.zeros((2, 3, 4)), signed=signed) == colour).all()


def test_signed_maps_are_centred_at_zero_however_uneven_they_are():
    colours = colorize(np.array([[[-1.0, 0.0, 4.0]]]), percentile=100)[0, 0]
    assert tuple(colours[1]) == WHITE
    assert tuple(colours[2]) == RED
    assert colours[0, 2] > colours[0, 0]  # a pale blue
    assert tuple(colorize(np.array([[[-4.0, 0.0, 1.0]]]), percentile=100)[0, 0, 0]) == BLUE


def test_unsigned_maps_start_at_zero_even_where_they_do_not_reach_it():
    assert (colorize(ramp(5, 10), percentile=100)[0, -1, -1] == colorize(ramp(0, 10))[0, -1, -1]).all()
    assert (colorize(ramp(5, 10), percentile=100)[0, 0, 0] != BLACK).any()
    assert (colorize(ramp(-2, -1), signed=False) == BLACK).all()


def test_one_outlier_does_not_darken_the_rest():
    maps = np.concatenate([ramp(0, 1)] * 2).repeat(8, axis=1)
    maps[1, 0, 0] = 1e6
    robust, exact = colorize(maps), colorize(maps, percentile=100)
    assert np.abs(robust[0].astype(int) - robust[1]).mean() < 3
    assert (exact[1, 1:] == BLACK).all()


def test_fewer_pixels_than_the_percentile_leaves_out_are_still_shown():
    maps = np.zeros((1, 100, 100))
    maps[0, 0, 0] = -1e-9
    colours = colorize(maps)
    assert tuple(colours[0, 0, 0]) == BLUE
    assert (colours[0, 1:] == WHITE).all()


@pytest.mark.parametrize("factor", [1e-320, 1e-30, 1e30, 1e300])
def test_the_scale_of_a_map_does_not_matter(factor):
    maps = ramp(-1, 2)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    assert np.abs(colorize(maps).astype(int) - colorize(maps * factor)).max() <= 5
    assert np.abs(overlay(images, maps).astype(int) - overlay(images, maps * factor)).max() <= 5


def test_every_map_has_its_own_scale_but_all_share_the_colours():
    maps = np.concatenate([ramp(0, 1), ramp(0, 1000), ramp(-1, 0)])
    colours = colorize(maps)
    assert (colours[0] == colours[1]).all()
    assert tuple(colours[0, 0, 0]) == WHITE


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_channels_are_summed(channels):
    maps = np.random.default_rng(0).normal(size=(2, 5, 4, channels))
    assert (colorize(maps) == colorize(maps.sum(axis=3))).all()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32, bool])
def test_arrays_of_any_real_dtype(dtype):
    assert colorize(jnp.eye(4, dtype=dtype)[None]).shape == (1, 4, 4, 3)


def test_an_empty_batch_is_an_empty_batch():
    assert colorize(np.zeros((0, 4, 5))).shape == (0, 4, 5, 3)
    assert overlay(np.zeros((0, 8, 8, 3)), np.zeros((0, 4, 5))).shape == (0, 8, 8, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_has_no_colour_is_an_error(value):
    maps = np.zeros((3, 4, 4))
    maps[1, 2, 2] = value
    with pytest.raises(ValueError, match="map 1 holds NaN or infinite"):
        colorize(maps)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (1, 4, 4, 3, 1), (1, 0, 4), (1, 4, 4, 0)])
def test_maps_of_another_shape(shape):
    with pytest.raises(ValueError, match="maps have shape"):
        colorize(np.zeros(shape))


def test_another_colour_map():
    assert colorize(ramp(0, 1), cmap="gray", percentile=100)[0, -1, -1].tolist() == [255, 255, 255]
    with pytest.raises(ValueError, match="grayish"):
        colorize(ramp(0, 1), cmap="grayish")


def test_an_overlay_is_grey_where_the_map_is_zero_and_coloured_where_it_is_large():
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    maps = np.zeros((1, 8, 8))
    maps[0, :4] = 1
    laid = overlay(images, maps, alpha=1)
    assert (np.ptp(laid[0, 4:], axis=-1) == 0).all()
    assert (laid[0, :4] == colorize(maps)[0, :4]).all()
    assert np.ptp(laid[0, 4:]) > 50  # the photograph is still there
    assert (overlay(images, maps, alpha=0) == overlay(images, 0 * maps)).all()


def test_overlays_scale_maps_up_and_down_to_the_image():
    images = np.zeros((2, 9, 12, 3), np.uint8)
    for shape in [(2, 1, 1), (2, 3, 4), (2, 90, 120), (2, 3, 4, 3)]:
        assert overlay(images, np.ones(shape)).shape == images.shape
    step = np.array([[[0.0, 1.0]]])
    values = resize(step[0], (8, 1))[0]
    assert (np.diff(values) >= 0).all()
    assert values[0] == 0
    assert values[-1] == 1


def test_photographs_of_every_layout_look_the_same():
    grey = np.random.default_rng(0).integers(0, 256, (2, 8, 9, 1), np.uint8)
    maps = np.linspace(-1, 1, 144).reshape(2, 8, 9)
    opaque = np.full_like(grey, 255)
    expected = overlay(grey, maps)
    layouts = [grey[..., 0], grey.repeat(3, axis=3), np.concatenate([grey, opaque], axis=3)]
    layouts += [np.concatenate([grey, grey, grey, opaque], axis=3), grey[..., 0] / 255]
    for images in layouts:
        np.testing.assert_array_equal(overlay(images, maps), expected)
        if images.ndim == 4:
            np.testing.assert_array_equal(overlay(np.moveaxis(images, 3, 1), maps), expected)
    transparent = np.concatenate([grey, 0 * opaque], axis=3)
    np.testing.assert_array_equal(overlay(transparent, maps), overlay(opaque, maps))


def test_channels_first_are_those_of_the_images_or_said():
    maps = np.random.default_rng(0).normal(size=(2, 3, 8, 9))
    images = np.zeros((2, 3, 8, 9), np.uint8)
    expected = colorize(maps.sum(axis=1))
    np.testing.assert_array_equal(colorize(maps, channels="first"), expected)
    np.testing.assert_array_equal(overlay(images, maps, alpha=1), overlay(images, maps.sum(axis=1), alpha=1))
    with pytest.raises(ValueError, match='say channels="first"'):
        colorize(maps)
    square = np.zeros((1, 3, 4, 3), np.uint8)  # either axis may be the channels
    assert overlay(square, np.zeros((1, 3, 4))).shape == (1, 3, 4, 3)
    assert overlay(square, np.zeros((1, 4, 3)), channels="first").shape == (1, 4, 3, 3)


def test_images_are_bytes_or_floats_up_to_one():
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 1), np.uint8)
    maps = ramp(-1, 1)
    assert (overlay(images, maps) == overlay(images.repeat(3, axis=3) / 255, maps)).all()
    for wrong in (images.astype(int), images / 100, images / 255 - 0.1, images * np.nan):
        with pytest.raises(ValueError, match=r"uint8 or floats in \[0, 1\]"):
            overlay(wrong, maps)
    for wrong in (images[0, 0], np.uint8(0)):
        with pytest.raises(ValueError, match="images have shape"):
            overlay(wrong, maps)
    with pytest.raises(ValueError, match="1 images and 2 maps"):
        overlay(images, np.concatenate([maps, maps]))
    with pytest.raises(ValueError, match=r"images have the shapes \(8, 8, 1\), \(9, 8, 1\): pass those of one shape"):
        overlay([images[0], np.zeros((9, 8, 1), np.uint8)], np.concatenate([maps, maps]))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"resolution": -1.0}, {"columns": 0}])
def test_sizes_are_positive(wrong):
    with pytest.raises(ValueError, match="positive"):
        panel(np.ones((1, 8, 8)), {"map": ramp(-1, 1)}, **wrong)


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.webp", "a.tiff"])
def test_files_of_several_formats(tmp_path, name):
    save(Image.new("RGB", (5, 4)), tmp_path / name)
    with Image.open(str(tmp_path / name)) as image:
        assert image.size == (5, 4)
    save(np.zeros((6, 7, 3), np.uint8), str(tmp_path / name))
    with Image.open(tmp_path / name) as image:
        assert image.size == (7, 6)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, error):
    def half(self, file, format):
        file.write(b"half")
        raise error

    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises(type(error)):
        save(Image.new("RGB", (5, 4)), path)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_files_that_cannot_be_written(tmp_path):
    image = Image.new("RGB", (5, 4))
    for name in ("a", "a.txt", "a.psd", ".png"):
        with pytest.raises(ValueError, match="is no picture format"):
            save(image, tmp_path / name)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        save(image, tmp_path / "missing" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OSError, match="folder"):
        save(image, tmp_path / "folder.png")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_a_batch_is_no_picture(tmp_path):
    batch = overlay(np.zeros((1, 4, 4, 3), np.uint8), np.ones((1, 4, 4)))
    with pytest.raises(ValueError, match=r"got \(1, 4, 4, 3\) of uint8, of a batch name one, such as pictures\[0\]"):
        save(batch, tmp_path / "a.png")
    save(batch[0], tmp_path / "a.png")


def test_a_file_tells_its_resolution_and_the_command_that_made_it(tmp_path):
    image = Image.new("RGB", (5, 4))
    image.info["dpi"] = (192, 192)
    save(image, tmp_path / "a.png", text={"Command": "jaxplain explain Škoda.png"})
    with Image.open(tmp_path / "a.png") as read:
        assert read.text == {"Command": "jaxplain explain Škoda.png"}
        assert read.info["dpi"] == pytest.approx((192, 192), abs=0.1)
    for name in ("a.jpg", "a.webp"):
        save(image, tmp_path / name, text={"Command": "x"})


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_animations(tmp_path, name):
    growing = np.linspace(0, 1, 3)[:, None, None, None] * np.ones((1, 4, 4))
    save(animation(np.zeros((1, 8, 8, 3), np.uint8), {"mask": growing}, size=20), tmp_path / name, seconds=0.5)
    with Image.open(tmp_path / name) as read:
        assert read.n_frames == 3
        read.load()
        assert read.info["duration"] == 500


def test_an_animation_has_one_scale(tmp_path):
    steps = np.array([1.0, 4.0, -2.0])[:, None, None, None] * np.ones((1, 1, 1))
    frames = animation(np.zeros((1, 2, 2, 3), np.uint8), {"mask": steps}, labels=["a", "b", "c " * 99], percentile=100)
    assert len({frame.size for frame in frames}) == 1
    shown = [{colour for _, colour in frame.getcolors(10**6)} for frame in frames]
    for colours, value in zip(shown, (0.25, 1, -0.5), strict=True):
        assert tuple(colorize(np.array([[[value, -1.0]]]), percentile=100)[0, 0, 0].tolist()) in colours
    with pytest.raises(ValueError, match="2 and 3 frames or labels"):
        animation(np.zeros((1, 2, 2, 3), np.uint8), {"mask": steps}, labels=["a", "b"])


def test_what_holds_one_picture_only(tmp_path):
    with pytest.raises(ValueError, match=r"'.jpg' holds one picture only, try .webp or .gif"):
        save([Image.new("RGB", (5, 4))] * 2, tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"'.txt' is no format of figures, try .pdf"):
        save(figure(np.zeros((1, 2, 2, 3)), {}), tmp_path / "a.txt")


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxplain\[plot\]'"):
        colorize(ramp(0, 1))


def test_the_library_imports_neither_matplotlib_nor_the_command_line():
    program = "import jaxplain.visualize, sys; print({'matplotlib', 'tyro', 'jaxplain.cli'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "set()"
