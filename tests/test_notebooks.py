"""What notebooks show: tables in HTML, and short texts of long things."""

from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np

import jaxplain
from jaxplain._html import LONGEST, html_table, listing
from jaxplain.evaluation import Comparison


class Reader(HTMLParser):
    """The cells of a table; markup that was meant as text would open elements."""

    def __init__(self, html):
        super().__init__()
        self.rows, self.tags, self.text = [], set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def f(x):
    return jnp.tanh(x.sum(axis=(1, 2)))


def test_a_comparison():
    comparison = jaxplain.compare(
        f, {"<b>gradient</b>": "gradient", "lrp": "lrp", "mine": "lrp"}, metrics=["sparseness"]
    )(jnp.ones((2, 4, 4, 3)))
    assert repr(comparison) == "Comparison(2 images; 3 methods: <b>gradient</b>, lrp, mine; metrics: sparseness)"
    table = Reader(comparison._repr_html_())
    assert table.rows[0][:2] == ["method", "sparseness ↑"]
    assert [row[0] for row in table.rows[1:]] == ["<b>gradient</b>", "lrp:composite=epsilon_plus", "mine"]
    assert "b" not in table.tags
    assert len(comparison._repr_html_()) < 5000


def test_a_summary():
    def deep(x):
        for _ in range(300):
            x = jnp.maximum(x @ jnp.eye(4), 0)
        return x

    summary = jaxplain.summary(deep)(jnp.ones((1, 4)), target=0)
    assert repr(summary).startswith(
        "Summary(600 units; relevance of the outputs 1, of the input 0.9997, unaccounted for "
    )
    assert len(repr(summary)) <= 2000
    table = Reader(summary._repr_html_())
    assert table.rows[0][1:3] == ["path", "kind"]
    assert len(table.rows) == len(str(summary).splitlines()) - 3
    assert "unaccounted for" in table.text


def test_the_methods():
    methods = jaxplain.methods()
    assert repr(jaxplain.methods(needs="data")) == "[2 methods: expected_gradients, deep_shap]"
    assert len(repr(methods)) <= 2000
    assert isinstance(methods, list)
    table = Reader(methods._repr_html_())
    assert [row[0] for row in table.rows[1:]] == [method.name for method in methods]


def test_advice():
    advice = jaxplain.recommend()
    assert len(repr(advice)) <= 2000
    assert repr(advice).startswith(f"Advice({advice.choices[0].label}, ")
    table = Reader(advice._repr_html_())
    assert [row[1] for row in table.rows[1:]] == [choice.label for choice in advice.choices]
    assert advice.about in table.text


def test_reprs_of_many_and_long_names_are_short():
    names = [f"{'method' * 30}{i}" for i in range(500)]
    assert len(listing(names)) <= LONGEST + 20
    assert listing(names).endswith("and 495 more")
    maps = {name: np.zeros((1, 2, 2)) for name in names}
    long = Comparison(maps, {}, {}, {}, {"metric" * 99: ""}, {}, np.zeros((1, 2)), None)
    assert len(repr(long)) <= 2000


def test_markup_is_text():
    table = Reader(html_table(["<script>"], [["<img src=x onerror=alert(1)>", "a & b"]], caption="</table>"))
    assert table.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert table.rows[1] == ["<img src=x onerror=alert(1)>", "a & b"]
