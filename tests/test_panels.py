"""Panels and figures: their colours are those of `colorize`, their numbers those of the data, and nothing overlaps."""

import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxplain.visualize import _panel, colorize, curve, figure, panel, save
from jaxplain.visualize._colours import scale
from jaxplain.visualize._columns import Column
from jaxplain.visualize._panel import Type, arranged, ends, tile_sizes
from jaxplain.visualize._text import number, typeface, wrap

RNG = np.random.default_rng(0)
TEXTS = ("lrp", "lrp:composite=epsilon_plus_flat\nlayer _blocks.10", "Škoda (αβγ, 猫) " * 9, "", "x" * 99)


def parts_of(monkeypatch, *args, **options):
    """A panel with its layout and texts."""
    kept = []
    arrange = _panel.arranged
    monkeypatch.setattr(_panel, "arranged", lambda *a: kept.append(arrange(*a)) or kept[-1])
    return panel(*args, **options), *kept[0]


def tiles_of(picture, layout, column):
    boxes = [part.box for part in layout.parts if part.what == "tile" and part.column == column]
    return [np.asarray(picture.crop(box)) for box in boxes]


def colours_of(pixels):
    return {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}


# -------------------------------------------------------------------------------------------------------------- pixels


@pytest.mark.parametrize("size", [100, 201, 320])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_enlarged_map_has_the_colours_of_colorize_and_no_others(monkeypatch, size, sign):
    maps = sign * RNG.integers(0, 4, (2, 8, 8)) / 3
    picture, layout, _ = parts_of(monkeypatch, np.zeros((2, 16, 16, 3), np.uint8), {"a": maps}, size=size)
    for tile, coloured in zip(tiles_of(picture, layout, 1), colorize(maps), strict=True):
        assert colours_of(tile) == colours_of(coloured)
        side = tile.shape[0] // 8
        np.testing.assert_array_equal(tile, coloured.repeat(side, axis=0).repeat(side, axis=1))


def test_a_map_in_a_part_of_a_photograph_has_the_colours_of_colorize(monkeypatch):
    maps = RNG.integers(0, 4, (1, 7, 7)) / 3
    photograph = Image.new("RGB", (300, 200))
    picture, layout, _ = parts_of(monkeypatch, [photograph], {"a": maps}, boxes=[(50, 0, 250, 200)])
    (tile,) = tiles_of(picture, layout, 1)
    factor = tile.shape[0] / 200
    inside = tile[:, round(50 * factor) : round(250 * factor)]
    assert colours_of(inside) == colours_of(colorize(maps))
    left = tile[:, : round(48 * factor)]
    assert not colours_of(left) & colours_of(colorize(maps))
    assert len(colours_of(left)) == 2  # hatched


def test_a_map_that_shrinks_is_coloured_by_its_means(monkeypatch):
    checks = np.indices((64, 64)).sum(axis=0)[None] % 2 * 2.0 - 1
    picture, layout, _ = parts_of(monkeypatch, np.zeros((1, 64, 64, 3), np.uint8), {"a": checks}, size=16, resolution=1)
    (tile,) = tiles_of(picture, layout, 1)
    assert np.abs(tile[4:-4, 4:-4].astype(int) - 247).max() < 8  # the colour of zero: neither red nor blue


def test_a_photograph_is_shown_whole_and_pale_where_it_was_not_seen(monkeypatch):
    photograph = np.full((40, 80, 3), (200, 50, 50), np.uint8)
    maps = np.ones((1, 4, 4))
    picture, layout, texts = parts_of(
        monkeypatch, photograph[None], {"a": maps}, boxes=[20, 0, 60, 40], overlays=True, resolution=1
    )
    original, _, over = (tiles_of(picture, layout, column)[0] for column in (0, 1, 2))
    middle, edge = original.shape[1] // 2, 2
    assert (original[:, middle] == (200, 50, 50)).all()
    for tile in (original, over):
        assert (np.ptp(tile[:, edge].astype(int), axis=-1) == 0).all()  # grey
    assert np.ptp(over[5, middle].astype(int)) > 0
    assert "not seen" in " ".join(line for line, _ in texts["notes", 0, 0])


def test_pictures_are_shown_as_they_are(monkeypatch):
    pictures = RNG.integers(0, 256, (1, 10, 10, 3), np.uint8)
    picture, layout, _ = parts_of(monkeypatch, np.zeros_like(pictures), {"picture": pictures}, size=100, resolution=1)
    assert colours_of(tiles_of(picture, layout, 1)[0]) == colours_of(pictures)


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("factor", [1e-12, 1e-3, 1.0, 1234.5, 1e9])
@pytest.mark.parametrize("percentile", [90, 99.5, 100])
def test_the_numbers_of_the_legend_are_those_of_the_data(factor, percentile):
    maps = factor * RNG.normal(size=(3, 9, 9))
    scaled, positive = scale(maps, None, percentile), scale(np.abs(maps), None, percentile)
    for row in range(3):
        limit = np.percentile(np.abs(maps[row]), percentile)
        low, high = (float(label.replace("\N{MINUS SIGN}", "-")) for label in ends(scaled, row))
        assert high == pytest.approx(limit, rel=5e-3)
        assert low == -high
        assert ends(positive, row) == ("0", number(limit))
    shared = scale(maps, None, percentile, shared=True)
    assert {ends(shared, row) for row in range(3)} == {ends(scale(maps.reshape(1, 27, 9), None, percentile), 0)}


def test_whose_scale_it_is_and_where_it_ends_is_said(monkeypatch):
    images, maps = np.zeros((2, 4, 4, 3)), {"a": RNG.normal(size=(2, 4, 4))}
    expected = [
        ({}, "Each map has its own scale; its colours end at the 99.5th percentile of absolute values."),
        ({"shared": True, "percentile": 100}, "The maps of a column have one scale; its colours end at the largest"),
    ]
    for options, sentence in expected:
        _, _, texts = parts_of(monkeypatch, images, maps, **options)
        assert " ".join(line for line, _ in texts["notes", 0, 0]).startswith(sentence)
    _, _, texts = parts_of(monkeypatch, images, {})
    assert texts["notes", 0, 0] == []


# -------------------------------------------------------------------------------------------------------------- layout


def require_in_order(layout, texts, text):
    """Nothing overlaps, nothing is cut: neither by the edge of the panel nor by that of its box."""
    boxes = [part.box for part in layout.parts]
    for i, a in enumerate(boxes):
        assert a.left >= 0 <= a.top
        assert a.right <= layout.width
        assert a.bottom <= layout.height
        for b in boxes[:i]:
            assert a.right <= b.left or b.right <= a.left or a.bottom <= b.top or b.bottom <= a.top
    for part in layout.parts:
        for line, is_heading in texts.get((part.what, part.row, part.column), []):
            font = text.heading if is_heading else text.body
            assert font.getlength(line) <= part.box.size[0] or len(line) == 1


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (1, 12), (4, 6), (8, 12), (3, 0), (12, 1)])
@pytest.mark.parametrize(("size", "resolution"), [(8, 1), (320, 2)])
def test_nothing_overlaps_and_nothing_is_cut(n, m, size, resolution):
    text = Type.of(size, resolution)
    values = [scale((-1.0) ** i * RNG.random((n, 4, 4)) * 10.0 ** RNG.integers(-9, 9), None, 99.5) for i in range(m)]
    content = [Column("image", [])] + [Column(TEXTS[i % len(TEXTS)], scaled) for i, scaled in enumerate(values)]
    captions = [TEXTS[i % len(TEXTS)] for i in range(n)]
    for shapes in ([(224, 224)] * n, [(90, 30)] * n, [(30 + 40 * i, 90) for i in range(n)], [(1, 3000)] * n):
        sizes = tile_sizes(shapes, size * resolution)
        layout, texts = arranged(content, sizes, captions, "Each map has its own scale. " * 3, None, text)
        require_in_order(layout, texts, text)
        assert len([part for part in layout.parts if part.what == "tile" and part.column]) == n * m
        assert len([part for part in layout.parts if part.what == "legend"]) == n * m
        for (what, row, column), lines in texts.items():
            whole = {
                "title": content[column].title,
                "caption": captions[row],
                "notes": "Each map has its own scale." * 3,
            }
            assert re.sub(r"\s", "", "".join(line for line, _ in lines)) == re.sub(r"\s", "", whole[what])


@pytest.mark.parametrize(("n", "m"), [(4, 6), (1, 6), (1, 10), (8, 12), (2, 8), (4, 12)])
def test_grids_fill(n, m):
    images, maps = np.zeros((n, 4, 4, 3)), {str(i): np.ones((n, 4, 4)) for i in range(m)}
    coloured = (np.asarray(panel(images, maps, size=200, resolution=1)) != 255).any(axis=2)
    left, right = (coloured[:, part] for part in np.array_split(np.arange(coloured.shape[1]), 2))
    assert coloured.mean() > 0.65
    assert right.mean() > 0.9 * left.mean()  # no white half


def test_images_are_enlarged_by_whole_numbers_and_keep_their_shape():
    assert tile_sizes([(224, 224)] * 2, 640) == [(672, 672)] * 2
    assert tile_sizes([(7, 7)], 640) == [(637, 637)]
    ((width, height),) = tile_sizes([(3000, 1000)], 640)
    assert width / height == pytest.approx(3, rel=0.01)
    assert width * height == pytest.approx(640**2, rel=0.01)
    assert tile_sizes([(100, 50), (50, 100), (10, 100)], 100) == [(100, 50), (100, 200), (20, 200)]
    assert tile_sizes([(1, 3000)], 10) == [(1, 40)]


def test_the_picture_knows_its_resolution():
    images, maps = np.zeros((1, 300, 300, 3)), {"a": np.ones((1, 3, 3))}
    one, two = (panel(images, maps, size=100, resolution=r) for r in (1, 2))
    assert one.info["dpi"] == (96, 96)
    assert two.info["dpi"] == (192, 192)
    assert two.width / one.width == pytest.approx(2, rel=0.05)


def test_text_is_wrapped_and_never_cut():
    font = typeface(15)
    assert wrap("tabby", font, 200) == ["tabby"]
    assert wrap("lrp:composite=epsilon_plus", font, 130) == ["lrp:composite=", "epsilon_plus"]
    for text in TEXTS:
        for width in (20, 100, 300):
            lines = wrap(text, font, width)
            assert max(map(font.getlength, lines), default=0) <= width
            assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)
    assert wrap("ab", font, 0) == ["a", "b"]


@pytest.mark.parametrize("size", [1, 8, 300])
def test_panels_of_any_size_with_texts_of_any_length(size):
    images = np.zeros((1, 3, 500, 3), np.uint8)[:, :, : 500 if size < 300 else 3]
    panel(images, {TEXTS[2]: np.ones((1, 3, 3)), "": -np.ones((1, 3, 3))}, captions=[TEXTS[2]], size=size)


def test_mistakes():
    images, maps = np.zeros((2, 4, 4, 3)), {"a": np.ones((2, 4, 4))}
    with pytest.raises(ValueError, match="2 images and 1 captions"):
        panel(images, {}, captions=["one"])
    with pytest.raises(ValueError, match=r"boxes have shape \(1, 4\): pass .* for each of 2 images"):
        panel(images, maps, boxes=[(0, 0, 1, 1)])
    for box in [(0, 0, 9, 4), (-2, 0, 4, 4), (2, 0, 2, 4)]:
        with pytest.raises(ValueError, match="a box must lie inside its image"):
            panel(images, maps, boxes=[box] * 2)
    with pytest.raises(ValueError, match="2 images and 1 pictures of 'a'"):
        panel(images, {"a": np.zeros((1, 4, 4, 3), np.uint8)})
    with pytest.raises(ValueError, match=r"a single one is \[image\]"):
        panel(Image.new("RGB", (4, 4)), maps)


# ------------------------------------------------------------------------------------------------------------- figures


def test_a_figure_holds_each_map_with_its_own_pixels_and_true_type_fonts(tmp_path):
    maps = {"lrp": RNG.normal(size=(1, 7, 9)), "cam": RNG.random((1, 5, 6))}
    made = figure([Image.new("RGB", (90, 60))], maps, boxes=[(15, 0, 75, 60)], captions=["cat, 90 %"])
    save(made, tmp_path / "a.pdf")
    pdf = (tmp_path / "a.pdf").read_bytes()
    sizes = set(zip(re.findall(rb"/Width (\d+)", pdf), re.findall(rb"/Height (\d+)", pdf), strict=True))
    assert {(b"9", b"7"), (b"6", b"5")} <= sizes or {(b"7", b"9"), (b"5", b"6")} <= {size[::-1] for size in sizes}
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    save(made, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().count("<image ") >= 4
    assert isinstance(made, Figure)


def test_the_values_in_a_figure_are_the_maps():
    maps = RNG.normal(size=(1, 7, 9))
    made = figure(np.zeros((1, 14, 18, 3)), {"lrp": maps}, percentile=100)
    (shown,) = [image for ax in made.axes for image in ax.images if image.get_array().shape == (7, 9)]
    np.testing.assert_allclose(shown.get_array(), maps[0])
    assert shown.get_clim() == pytest.approx((-np.abs(maps).max(), np.abs(maps).max()))
    pixels = shown.to_rgba(shown.get_array(), bytes=True)[..., :3].astype(int)
    assert np.abs(pixels - colorize(maps, percentile=100)[0]).max() <= 3  # neighbours among 511 colours


def test_texts_of_a_figure_stand_beside_each_other():
    maps = {f"{'method ' * 5}{i}": 1e-10 * RNG.normal(size=(2, 7, 7)) for i in range(5)}
    made = figure(np.zeros((2, 14, 14, 3)), maps, captions=["a long name of a photograph, with a class, 12.3 %"] * 2)
    made.canvas.draw()
    texts = [text for text in made.findobj(lambda o: hasattr(o, "get_text")) if text.get_text() and text.get_visible()]
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) > 20
    for i, a in enumerate(boxes):
        assert not any(a.shrunk(0.95, 0.7).overlaps(b.shrunk(0.95, 0.7)) for b in boxes[:i])
        assert a.x1 <= made.bbox.x1 + 1
    assert made.get_figwidth() == pytest.approx(6.75, abs=0.1)


def test_a_figure_is_drawn_into_the_users_axes():
    images, maps = np.zeros((2, 4, 4, 3)), {"a": np.ones((2, 4, 4))}
    mine = Figure()
    axes = mine.subplots(2, 2)
    assert figure(images, maps, ax=axes, captions=["x", "y"]) is mine
    assert axes[0][1].get_title("left") == "a"
    one = Figure().subplots()
    figure(images[:1], {"a": np.ones((1, 4, 4))}, ax=one)
    assert one.images[0].get_array().shape == (4, 4)
    with pytest.raises(ValueError, match="ax holds 3 axes: pass 2 x 2 with the images, or 2 x 1 without"):
        figure(images, maps, ax=Figure().subplots(3))


def test_curves_tell_their_mean_their_area_and_their_interval():
    values = np.array([[1.0, 0.5, 0.0], [0.8, 0.3, 0.2]])
    ax = Figure().subplots()
    curve({"lrp": values, "one": [1, 1, 1]}, ax=ax, better="lower")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.9, 0.4, 0.1])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["lrp, area 0.45", "one, area 1"]
    assert ax.get_legend().get_title().get_text() == "lower is better"
    half = 12.706 * np.std([1.0, 0.8], ddof=1) / np.sqrt(2)  # t of one degree of freedom
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.9 + half, rel=1e-3)
    with pytest.raises(ValueError, match="no numbers"):
        curve({"lrp": [np.nan, 1]})
    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        curve({"lrp": values}, x=[0, 1])
