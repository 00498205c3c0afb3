"""A comparison as one HTML file that needs nothing else: no network, no folder beside it, no framework.

`report.css` and `report.js` beside this module are written into it. All text is escaped, and a content security policy
lets no script run but that one, whatever files and classes are called.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.typing import ArrayLike

from .._taxonomy import METHODS
from ._environment import environment
from ._table import Statistic, arrow, statistic

__all__ = ["report"]

if TYPE_CHECKING:
    from PIL import Image

    from ..visualize._photographs import Photographs
    from ._compare import Comparison

LONGEST = 480  # pixels along a side of a photograph
COLOURS = 255  # of a map: as many as a byte tells apart, an odd number so that zero has one of its own

Summary = Mapping[str, Mapping[str, Statistic]]


def report(
    comparison: Comparison,
    images: Photographs,
    *,
    names: Sequence[str] = (),
    classes: Sequence[Sequence[str]] = (),
    boxes: ArrayLike | None = None,
    summary: Summary | None = None,
    better: Mapping[str, str] | None = None,
    about: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """A page of photographs, maps over them, and a table that sorts: one HTML file that works offline.

    Args:
      comparison: what `jaxplain.compare` returns, of N images, or of N times K: all of them for one class each, then
        all of them for another.
      images: the N photographs as they look, as for `jaxplain.visualize.panel`.
      names: what they are called.
      classes: for each image, the names of the K classes that are explained, the first one at the beginning.
      boxes: what the network saw of each image, as for `jaxplain.visualize.panel`.
      summary: what `summarize` returns, for the table; by default the metrics of the comparison, for the first classes.
      better: metric -> which direction is better, where there is a ``summary``.
      about: what else the page tells of its numbers.

    Returns:
      The page.

    Raises:
      ValueError: where the numbers of images, names, classes and maps do not fit.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> from jaxplain.evaluation import report
      >>> x = jnp.ones((1, 4, 4, 3))
      >>> comparison = jaxplain.compare(lambda x: x.sum(axis=(1, 2)), ["gradient"], metrics=["sparseness"])(x)
      >>> report(comparison, x, names=["white.png"])[:15]
      '<!doctype html>'
    """
    from ..visualize._photographs import as_boxes, as_photographs

    photographs = as_photographs(images)
    n = len(photographs)
    names = names or [f"image {i + 1}" for i in range(n)]
    classes = classes or [[text] for text in explained(comparison)]
    count = len(classes[0]) if len(classes) else 0
    rows = len(comparison.outputs)
    if not (n == len(names) == len(classes) and rows == n * count and all(len(c) == count for c in classes)):
        raise ValueError(
            f"there are {n} images, {len(names)} names, {len(classes)} lists of classes and {rows} maps of a method: "
            "pass a name and as many classes for each image as it has maps"
        )
    if summary is None:
        summary, better = summary_of(comparison, n), comparison.better
    heat = {comparison.title(method): array for method, array in comparison.heatmaps().items()}
    signed = {label: bool((array < 0).any()) for label, array in heat.items()}  # of one method all maps are alike
    body = [toolbar(heat, count)]
    for i, (photograph, box) in enumerate(zip(photographs, as_boxes(boxes, photographs), strict=True)):
        maps = {label: array[i::n] for label, array in heat.items()}  # one for each class
        body.append(section(i, names[i], classes[i], photograph.shape[1::-1], box, maps, signed))
    body += [table(summary, better or {}), methods_list(heat), footer(about)]
    return page("\n".join(body), [photo_rule(i, photograph) for i, photograph in enumerate(photographs)])


def explained(comparison: Comparison) -> list[str]:
    """What was explained of each example, where nobody says how it is called."""
    if comparison.target is None:
        return ["the target"] * len(comparison.outputs)
    return [f"class {label}" for label in comparison.target]


def page(body: str, rules: Iterable[str]) -> str:
    """The whole file around its content."""
    css, script = (
        files("jaxplain.evaluation").joinpath(f"report.{ending}").read_text("utf-8") for ending in ("css", "js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>jaxplain: a comparison</title>\n'
        f"<style>\n{css}{''.join(rules)}</style>\n</head>\n<body>\n{body}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def toolbar(labels: Iterable[str], count: int) -> str:
    """What holds for all images: which class, which methods, how opaque."""
    ranks = ["explained class", *(f"class {k + 1} of {count}" for k in range(1, count))]
    choices = "".join(f'<option value="{k}">{rank}</option>' for k, rank in enumerate(ranks))
    switches = "".join(
        f'<label><input type="checkbox" class="switch" value="{i}" checked> {escape(label)}</label>'
        for i, label in enumerate(labels)
    )
    classes = f'<label>Class <select id="class">{choices}</select></label>' if count > 1 else ""
    return (
        '<header><h1>Comparison of explanations</h1><div class="tools" role="toolbar" aria-label="View">'
        '<label>Photograph <input id="opacity" type="range" min="0" max="100" value="50" '
        'aria-label="Opacity of the maps, from photograph to map"> map</label>'
        f'{classes}<span class="zoom"><button id="closer" aria-label="Zoom in">+</button>'
        '<button id="farther" aria-label="Zoom out">&minus;</button><button id="whole">Whole</button></span>'
        '<button id="theme">Light or dark</button></div>'
        f"<fieldset><legend>Methods</legend>{switches}</fieldset></header>"
    )


def section(
    i: int,
    name: str,
    classes: Sequence[str],
    size: tuple[int, int],
    box: np.ndarray,
    maps: Mapping[str, np.ndarray],
    signed: Mapping[str, bool],
) -> str:
    """One photograph with the maps of all methods, ``(K, H, W)`` each."""
    left, top, right, bottom = (box / np.tile(size, 2)).tolist()
    share = (right - left) * (bottom - top)
    place = f"left:{left:.3%};top:{top:.3%};width:{right - left:.3%};height:{bottom - top:.3%}"
    frame = f'<div class="seen" style="{place}"></div>' if share < 0.999 else ""
    about = "".join(f'<span data-class="{k}">{escape(text)}</span>' for k, text in enumerate(classes))
    about += f"<span>The network sees {share:.0%} of it; the rest is pale.</span>" if frame else ""

    def card(inside: str, caption: str, attribute: str = "") -> str:
        """A picture with its caption; all cards of the page zoom together."""
        moved = f'<div class="moved">{inside}{frame}</div>'
        stage = f'<div class="stage" tabindex="0" style="aspect-ratio:{size[0]}/{size[1]}">{moved}</div>'
        return f'<figure class="card"{attribute}>{stage}<figcaption>{caption}</figcaption></figure>'

    photo = f'<div class="photo photo-{i}" role="img" aria-label="Photograph {escape(name)}"></div>'
    behind = f'<div class="photo photo-{i}" aria-hidden="true"></div>'
    cards = [card(photo, "photograph")]
    for m, (label, values) in enumerate(maps.items()):
        layers, scales = behind, ""
        is_signed = signed[label]
        for k, (text, one) in enumerate(zip(classes, values, strict=True)):
            source, low, high = map_image(one, is_signed)
            alt = escape(f"Map of {label} for {name}, {text}: from {low} to {high}")
            layers += f'<img data-class="{k}" class="map" style="{place}" alt="{alt}" src="{source}">'
            scales += f'<span data-class="{k}" class="scale">{low} <i></i> {high}</span>'
        sign = f'data-method="{m}" data-sign="{"signed" if is_signed else "positive"}"'
        cards.append(card(layers, escape(label) + scales, f" {sign}"))
    heading = f'<h2>{escape(name)}</h2><p class="about">{about}</p>'
    return f'<section class="image">{heading}<div class="cards">{"".join(cards)}</div></section>'


def map_image(values: np.ndarray, signed: bool) -> tuple[str, str, str]:
    """A map as a picture of its own pixels, and the values at the ends of its colours."""
    from PIL import Image

    from ..visualize._colours import colour_map, scale
    from ..visualize._panel import ends

    scaled = scale(np.asarray(values, np.float64)[None], signed, 99.5)
    position = (scaled.values[0] + 1) / 2 if scaled.signed else scaled.values[0]
    picture = Image.fromarray(np.rint((COLOURS - 1) * position).astype(np.uint8))
    palette = colour_map(scaled.signed)(np.linspace(0, 1, COLOURS), bytes=True)[:, :3]
    picture.putpalette(palette.tobytes())
    return (data_url(picture, "PNG", optimize=True), *ends(scaled, 0))


def photo_rule(i: int, photograph: np.ndarray) -> str:
    """A photograph as a rule of the style sheet, so that it is in the file once."""
    from PIL import Image

    picture = Image.fromarray(photograph)
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return f".photo-{i}{{background-image:url({data_url(picture, 'JPEG', quality=85)})}}\n"


def data_url(picture: Image.Image, kind: str, **options: Any) -> str:
    """A picture as text."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def summary_of(comparison: Comparison, n: int) -> Summary:
    """The means of a comparison's metrics over the images that have a value, and their intervals."""
    numbers = {
        comparison.title(method): {name: [v for v in vs[:n].tolist() if np.isfinite(v)] for name, vs in metrics.items()}
        for method, metrics in comparison.values.items()
    }
    return {m: {name: statistic(vs) for name, vs in metrics.items() if vs} for m, metrics in numbers.items()}


def table(summary: Summary, better: Mapping[str, str]) -> str:
    """The metrics, a row for each method, to be sorted by any column."""
    if not any(summary.values()):
        return ""
    heads = "".join(f'<th scope="col"><button>{escape(name)}{arrow(better[name])}</button></th>' for name in better)
    rows = []
    for method, statistics in summary.items():
        cells = [
            f'<td data-value="{s.mean!r}">{escape(str(s))}</td>' if (s := statistics.get(name)) else "<td>none</td>"
            for name in better
        ]
        rows.append(f'<tr><th scope="row">{escape(method)}</th>{"".join(cells)}</tr>')
    most = max(s.n for statistics in summary.values() for s in statistics.values())
    caption = f"Means over up to {most} images, with 95 % confidence intervals. A heading sorts."
    head = f'<thead><tr><th scope="col"><button>method</button></th>{heads}</tr></thead>'
    body = f"<caption>{caption}</caption>{head}<tbody>{''.join(rows)}</tbody>"
    return f'<section class="metrics"><h2>Metrics</h2><div class="wide"><table>{body}</table></div></section>'


def methods_list(labels: Iterable[str]) -> str:
    """What the taxonomy knows of each method."""
    items = []
    for label in labels:
        method = METHODS.get(label.partition(":")[0])
        if method is None:
            continue
        told = f"{method.summary} ({method.reference}). Family: {method.family}. Passes: {method.cost}. "
        told += f"Resolution: {method.resolution}."
        items.append(f"<dt>{escape(label)}</dt><dd>{escape(told)}</dd>")
    return f'<section class="methods"><h2>Methods</h2><dl>{"".join(items)}</dl></section>' if items else ""


def footer(about: Mapping[str, Any]) -> str:
    """What the numbers are of."""
    told = {**about, **environment()}
    flat = lambda value: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, Mapping) else str(value)
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(flat(value))}</dd>" for name, value in told.items())
    return (
        "<footer><p>Each map has its own scale; its colours end at the 99.5th percentile of absolute values.</p>"
        f"<dl>{items}</dl></footer>"
    )
