"""The site is built without a warning and without the network; in a browser, nothing is missing on any page."""

import importlib.util
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests import browser

ROOT = Path(__file__).parents[1]
HITS = "new Promise((d) => setTimeout(() => d(document.querySelectorAll('#search-results li').length), 2000))"
WIDTHS = (1280, 390)  # of a desk and of a phone

pytestmark = pytest.mark.skipif(importlib.util.find_spec("myst_nb") is None, reason="needs pip install '.[docs]'")
needs_browser = pytest.mark.skipif(browser.program() is None, reason="needs Chromium: apt install chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder with the pages."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html", "-d", out / "cache"]
    done = subprocess.run([*command, ROOT / "notebooks", out / "html"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out / "html"


class Page(HTMLParser):
    """What a page links to and shows, and the names in it that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.names, self.alts = [], set(), []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.names |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]
        if tag == "img":
            self.alts.append(attrs.get("alt", ""))


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_and_picture_is_there(site, pages):
    missing = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            is_page = target in pages and parts.fragment
            if not target.exists() or (is_page and unquote(parts.fragment) not in pages[target].names):
                missing.append(f"{path.relative_to(site)}: {link}")
    assert not missing


def test_nothing_is_loaded_from_elsewhere(pages):
    loaded = [link for page in pages.values() for link in page.links if link.startswith(("http:", "//"))]
    assert not loaded


def test_every_public_name_has_its_page(pages):
    import jaxplain

    names = {path.stem for path in pages}
    assert {f"jaxplain.{method.name}" for method in jaxplain.methods()} <= names
    assert {f"jaxplain.metrics.{name}" for name in jaxplain.metrics.__all__} - {"jaxplain.metrics.quantus"} <= names


@needs_browser
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_in_a_browser(site, width, tmp_path):
    """Nothing is logged or asked of the network, no picture is missing, no page is wider than the window."""
    shown = [*sorted(site.glob("*.html")), site / "api" / "jaxplain.grad_cam_plus_plus.html"]
    with browser.Browser() as window:
        window.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        for page in shown:
            window.open(page)
            loaded = "[...document.images].every((i) => i.loading == 'lazy' || (i.complete && i.naturalWidth > 0))"
            assert window.run(loaded), page.name
            assert window.run("document.documentElement.scrollWidth") <= width, page.name
            window.screenshot(tmp_path / f"{page.stem}_{width}.png")
        assert window.errors == []
        assert window.requests == []


@needs_browser
def test_the_search_finds_a_method(site):
    with browser.Browser() as window:
        window.open(site / "search.html")
        window.run("location.search = '?q=grad_cam'")
        window.wait_for("Page.loadEventFired")
        assert window.run(HITS) > 0  # their excerpts are fetched, which browsers refuse to pages that are files


@needs_browser
def test_light_and_dark(site):
    colour = "getComputedStyle(document.body).backgroundColor"
    with browser.Browser() as window:
        window.open(site / "index.html")
        window.run("document.body.dataset.theme = 'light'")
        light = window.run(colour)
        window.run("document.body.dataset.theme = 'dark'")
        assert window.run(colour) != light
