"""The report: one file that needs nothing else, and works in a browser, whatever things are called."""

import base64
import io
import re
from html import unescape

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxplain.evaluation import Comparison, report, summarize
from jaxplain.visualize import colorize
from tests import browser

NASTY = "<img src=x onerror=alert(1)>.png"
RNG = np.random.default_rng(0)


def comparison(n=2, k=2, side=8, methods=("gradient", "lrp:composite=epsilon_plus", "<b>own</b>")):
    """A comparison of ``n`` images and ``k`` classes; the first method's maps are positive, the others signed."""
    maps = {m: RNG.normal(size=(n * k, side, side)) for m in methods}
    maps[methods[0]] = np.abs(maps[methods[0]])
    values = {
        m: {"deletion": np.arange(n * k) + 10.0 * (7 * i % 5), "none": np.full(n * k, np.nan)}
        for i, m in enumerate(methods)
    }
    zeros, axes = dict.fromkeys(methods, 0.0), dict.fromkeys(methods, 2)
    return Comparison(
        {m: jnp.asarray(a) for m, a in maps.items()},
        values,
        zeros,
        zeros,
        {"deletion": "lower", "none": ""},
        axes,
        np.zeros((n * k, 4)),
        np.arange(n * k),
    )


def page(made=None, **options):
    made = made or comparison()
    photographs = [Image.fromarray(RNG.integers(0, 256, (60, 90, 3), np.uint8)) for _ in range(2)]
    options = {
        "names": [NASTY, "dog.png"],
        "classes": [["<i>cat</i>, 90 %", "dog, 5 %"], ["dog, 60 %", "ant, 9 %"]],
    } | options
    return report(
        made, photographs, boxes=[(15, 0, 75, 60)] * 2, about={"command": f"jaxplain compare '{NASTY}'"}, **options
    )


# ---------------------------------------------------------------------------------------------------- without a browser


def test_it_needs_nothing_else():
    html = page()
    assert set(re.findall(r'(?:src|href)="?([a-z]+:)', html)) == {"data:"}
    assert set(re.findall(r"url\(([a-z]+:)", html)) == {"data:"}
    assert "default-src 'none'" in html
    assert html.count("<script>") == 1


def test_names_with_markup_are_text():
    html = page()
    assert NASTY not in html
    assert "<b>own</b>" not in html
    assert "<i>cat</i>" not in html
    assert html.count("&lt;img src=x onerror=alert(1)&gt;.png") > 3


def test_the_maps_are_those_of_the_comparison():
    made = comparison(side=6)
    html = page(made)
    pictures = re.findall(
        r'alt="Map of ([^"]*) for ([^"]*?), ([^"]*): from [^"]*" src="data:image/png;base64,([^"]+)"', html
    )
    assert len(pictures) == 3 * 2 * 2
    for label, name, explained, data in pictures:
        image, k = int(name == "dog.png"), int(explained in ("dog, 5 %", "ant, 9 %"))
        maps = np.asarray(made.maps[unescape(label)])
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), int)
        assert np.abs(shown - colorize(maps[2 * k + image][None])[0]).max() <= 8  # neighbours among 255 colours


def test_the_numbers_are_those_of_the_first_classes():
    cells = re.findall(r'<td data-value="([^"]+)">([^<]+)</td>', page())
    assert [float(value) for value, _ in cells] == [0.5, 20.5, 40.5]
    assert cells[0][1].startswith("0.500 (")
    records = [{"image": str(i), "method": "gradient", "metrics": {"insertion": v}} for i, v in enumerate([0.2, 0.4])]
    html = page(summary=summarize(records), better={"insertion": "higher"})
    assert "0.300 (" in html
    assert "insertion ↑" in html


def test_twelve_images_and_eight_methods_are_five_megabytes_at_most():
    # Half of the methods as noisy as gradients, which are products of many factors; half as smooth as features.
    methods = tuple(f"method {i}" for i in range(8))
    made = comparison(12, 1, 224, methods)
    shape = made.maps[methods[0]].shape
    for i, method in enumerate(methods):
        noise = RNG.normal(size=shape) * RNG.normal(size=shape)
        smooth = np.cos(np.linspace(0, 9, 224)[:, None] + np.linspace(0, 5 + i, 224)) * np.ones(shape)
        made.maps[method] = jnp.asarray(smooth if i % 2 else noise)
    scene = 128 + 80 * np.cos(np.linspace(0, 9, 480))[:, None, None] * np.sin(np.linspace(0, 7, 480))[:, None]
    photographs = np.clip(scene + RNG.normal(0, 8, (12, 480, 480, 3)), 0, 255).astype(np.uint8)
    assert len(report(made, photographs)) <= 5e6


def test_mistakes():
    with pytest.raises(ValueError, match="2 images, 1 names, 2 lists of classes and 4 maps of a method"):
        page(names=["one"])
    with pytest.raises(ValueError, match="4 maps of a method"):
        page(classes=[["a"], ["b"]])


# --------------------------------------------------------------------------------------------------------- in a browser

SET = "(v => { const e = document.querySelector('#opacity'); e.value = v; e.dispatchEvent(new Event('input')); })"
CENTRED = "(e => { e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect(); "
BOX = CENTRED + "return [b.x, b.y, b.right, b.bottom]; })"
ZOOMS = (
    "[...document.querySelectorAll('.moved')].map((e) => e.getBoundingClientRect().width / e.parentElement.clientWidth)"
)
RIGHT = "(s => document.querySelector(s).getBoundingClientRect().right)"
NAMELESS = (
    "[...document.querySelectorAll('button, input, select, img, [role=img]')].filter((e) => "
    "!(e.ariaLabel || e.alt || e.textContent.trim() || (e.labels && e.labels.length))).length"
)
UNREACHABLE = "[...document.querySelectorAll('button, input, select, .stage')].filter((e) => e.tabIndex < 0).length"

needs_browser = pytest.mark.skipif(browser.program() is None, reason="needs Chromium: apt install chromium")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The page in a browser. Tests share it, and leave it as it was."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(), "utf-8")
    with browser.Browser() as window:
        window.open(path)
        yield window


def style(window, selector, name):
    return window.run(f"getComputedStyle(document.querySelector('{selector}')).getPropertyValue('{name}')")


@needs_browser
def test_nothing_is_logged_nothing_is_asked_for_and_nothing_of_a_name_runs(opened):
    assert opened.run("document.title") == "jaxplain: a comparison"
    assert opened.run("document.querySelectorAll('b, i:not(.scale i), img:not(.map)').length") == 0
    assert opened.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    assert opened.errors == []
    assert opened.requests == []


@needs_browser
def test_the_slider_goes_from_photograph_to_map(opened):
    opened.run("document.querySelector('#opacity').focus()")
    before = style(opened, "[data-method] .map", "opacity"), style(opened, "[data-method] .photo", "opacity")
    assert before == ("1", "0.5")
    opened.press("Home", 36)
    assert style(opened, "[data-method] .map", "opacity") == "0"
    assert style(opened, "[data-method] .photo", "opacity") == "1"
    opened.press("End", 35)
    assert style(opened, "[data-method] .photo", "opacity") == "0"
    opened.run(f"{SET}(50)")


@needs_browser
def test_where_a_map_is_zero_the_photograph_shows_and_at_the_end_of_the_slider_the_map_alone(opened, tmp_path):
    opened.run(f"{SET}(100)")
    left, top, right, bottom = opened.run(f"{BOX}(document.querySelector('[data-sign=signed] .map'))")
    opened.screenshot(tmp_path / "a.png")
    opened.run(f"{SET}(50)")
    data = opened.run("document.querySelector('[data-sign=signed] .map').src").partition(",")[2]
    expected = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    with Image.open(tmp_path / "a.png") as shot:
        for i in range(8):
            x, y = (left + (i + 0.5) * (right - left) / 8, top + (i + 0.5) * (bottom - top) / 8)
            assert np.abs(np.subtract(shot.convert("RGB").getpixel((x, y)), expected.getpixel((i, i)))).max() <= 2


@needs_browser
def test_the_class_is_switched(opened):
    shown = (
        "[...document.querySelectorAll('.about [data-class]')].filter((e) => e.offsetParent).map((e) => e.textContent)"
    )
    assert opened.run(shown) == ["<i>cat</i>, 90 %", "dog, 60 %"]
    opened.run("document.querySelector('#class').focus()")
    opened.press("ArrowDown", 40)
    assert opened.run(shown) == ["dog, 5 %", "ant, 9 %"]
    assert opened.run("[...document.querySelectorAll('.map')].filter((e) => e.offsetParent).length") == 6
    opened.press("ArrowUp", 38)
    assert opened.run(shown) == ["<i>cat</i>, 90 %", "dog, 60 %"]


@needs_browser
def test_methods_are_switched_off_and_on(opened):
    shown = "[...document.querySelectorAll('[data-method]')].filter((e) => e.offsetParent).length"
    assert opened.run(shown) == 6
    opened.click(".switch[value='1']")
    assert opened.run(shown) == 4
    opened.run("document.querySelector('.switch[value=\"1\"]').focus()")
    opened.press(" ", 32, " ")
    assert opened.run(shown) == 6


@needs_browser
def test_all_pictures_zoom_together_by_mouse_and_keys(opened):
    assert set(opened.run(ZOOMS)) == {1}
    opened.click("#closer")
    assert opened.run(ZOOMS) == pytest.approx([1.5] * 8, rel=0.01)
    opened.run("document.querySelector('.stage').focus()")
    opened.press("+", 187, "+")
    assert opened.run(ZOOMS) == pytest.approx([2.25] * 8, rel=0.01)
    for _ in range(30):
        opened.press("ArrowRight", 39)
    assert opened.run(f"{RIGHT}('.moved') - {RIGHT}('.stage')") == pytest.approx(0, abs=0.5)  # no farther than the edge
    opened.press("0", 48, "0")
    assert set(opened.run(ZOOMS)) == {1}


@needs_browser
def test_a_heading_sorts_the_table(opened):
    column = "[...document.querySelectorAll('tbody th')].map((e) => e.textContent)"
    first = ["gradient", "lrp:composite=epsilon_plus", "<b>own</b>"]
    assert opened.run(column) == first
    opened.click("thead th:nth-child(2) button")
    assert opened.run(column) == ["gradient", "lrp:composite=epsilon_plus", "<b>own</b>"]
    opened.click("thead th:nth-child(2) button")
    assert opened.run(column) == ["<b>own</b>", "lrp:composite=epsilon_plus", "gradient"]
    assert opened.run("document.querySelector('thead th:nth-child(2)').getAttribute('aria-sort')") == "descending"
    opened.click("thead th:nth-child(1) button")
    assert opened.run(column) == ["<b>own</b>", "gradient", "lrp:composite=epsilon_plus"]


@needs_browser
def test_light_and_dark(opened):
    assert style(opened, "body", "background-color") == "rgb(255, 255, 255)"
    opened.click("#theme")
    assert style(opened, "body", "background-color") == "rgb(22, 22, 26)"
    opened.click("#theme")
    assert style(opened, "body", "background-color") == "rgb(255, 255, 255)"


@needs_browser
def test_every_control_and_picture_has_a_name_and_is_reached_by_keys(opened):
    assert opened.run(NAMELESS) == 0
    assert opened.run(UNREACHABLE) == 0


@needs_browser
def test_nothing_is_wider_than_the_window(opened):
    for width in (1200, 380):
        opened.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert opened.run("document.documentElement.scrollWidth") <= width
    opened.ask("Emulation.clearDeviceMetricsOverride")
