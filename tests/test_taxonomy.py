"""The table of methods says what is so: needs are options, costs are counted, claims about maps are measured."""

import functools
import inspect
import math
import re
from importlib import resources

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain import _references as references
from jaxplain._images import gaussian_blur
from jaxplain._options import options_of
from jaxplain._taxonomy import METHODS
from tests.attending import attending, maker
from tests.convolution import conv
from tests.test_contracts import OPTIONS

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(1), (4, 6, 6, 3), jnp.float64)
TARGETS = jnp.array([4, 0, 2, 1])
WIDTH, CLASSES = 37, 23
EXAMPLES = {name: maker(m, **OPTIONS.get(name, {})) for name, m in METHODS.items() if "patterns" not in m.needs}
of_a_class = pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "neuron_attribution"])


def weights(width, classes):
    shapes = (3, 3, 3, width), (3, 3, width, width), (width, classes)
    drawn = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate(shapes))
    return [jnp.asarray(w / np.sqrt(w[..., 0].size / 2)) for w in drawn]


def network(w, x, activation=jax.nn.relu):
    """Without biases."""
    features = checkpoint_name(activation(conv(activation(conv(x, w[0])), w[1])), "features")
    return features.mean(axis=(1, 2)) @ w[2]


W = weights(8, 5)
SCORES = network(W, X)


@functools.cache
def maps(name, classes=(4, 0, 2, 1)):
    """The maps of each method for one choice of classes."""
    explain = jax.jit(EXAMPLES[name](network))
    return np.asarray(explain(W, X, target=jnp.array(classes), key=None if METHODS[name].deterministic else KEY))


def unlike(a, b):
    """Whether maps differ by more than a factor."""
    flat = [m.reshape(len(m), -1) - m.reshape(len(m), -1).mean(axis=1, keepdims=True) for m in (a, b)]
    a, b = (m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-12) for m in flat)
    return bool((np.abs((a * b).sum(axis=1)) < 0.999).any())


# ------------------------------------------------------------------------------------------------------ needs


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_is_needed_can_be_given(method):
    options = inspect.signature(method.make).parameters
    taken = {"layer": "layer", "baseline": "baseline", "segments": "segments", "data": "baselines"}
    taken |= {"composite": "composite", "patterns": "patterns"}
    optional = {"layer"} if method.name == "lrp" else set()  # it explains the input unless it is asked for a layer
    found = {need for need, option in taken.items() if option in options}
    assert found - optional == {*method.needs} - {"gradient", "key", "attention"}
    assert ("gradient" in method.needs) == (method.cost.backward > 0)
    assert getattr(jaxplain, method.name) is method.make


def test_filters():
    everything = jaxplain.methods()
    assert len({m.name for m in everything}) == len(everything) > 40
    black_box = jaxplain.methods(without=["gradient", "layer", "attention"])
    assert [m.name for m in black_box] == [
        *("occlusion", "feature_ablation", "rise", "lime", "kernel_shap", "sobol", "hsic"),
    ]
    assert jaxplain.methods(needs=["data", "key"]) == [METHODS["expected_gradients"]]
    assert jaxplain.methods(needs="key") == [m for m in everything if not m.deterministic]
    assert jaxplain.methods(needs="key", without="key") == []
    assert sum(len(jaxplain.methods(family=f)) for f in {m.family for m in everything}) == len(everything)
    assert sum(len(jaxplain.methods(mechanism=m)) for m in {m.mechanism for m in everything}) == len(everything)
    cheap = jaxplain.methods(max_cost=3)
    assert METHODS["deeplift"] in cheap
    assert not [m for m in cheap if m.cost.each or m.cost.forward + m.cost.backward > 3]
    assert jaxplain.methods(max_cost=0) == []


def test_mechanisms_show_in_needs_and_costs():
    named = lambda *mechanisms: jaxplain.methods(mechanism=mechanisms)
    assert all(m.cost.backward == 0 and m.family == "perturbation" for m in named("sampled masks"))
    assert all("layer" in m.needs for m in named("weighted features", "feature statistics"))
    assert named("attention") == jaxplain.methods(needs="attention")
    assert all("gradient" in m.needs for m in named("gradient", "modified gradient", "path integral"))
    assert all(m.cost.backward > 10 for m in named("path integral", "optimisation"))
    assert all(m.cost.forward <= 2 for m in named("relevance rules"))


def test_what_is_black_box_or_later_than_the_survey_extends_it():
    beyond = {m.name for m in jaxplain.methods() if not m.in_survey}
    black_box, of_attention = jaxplain.methods(family="perturbation"), jaxplain.methods(needs="attention")
    optimised = {"meaningful_perturbation", "extremal_perturbation"}  # through the network
    later = {"multilayer_fem", "concept_relevance", "shapley_cam"}
    assert beyond == {m.name for m in [*black_box, *of_attention]} - optimised | later


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mechanism": "mask"}, "unknown mechanism 'mask': did you mean sampled masks?"),
        ({"family": "linearization"}, "unknown family 'linearization': did you mean linearisation?"),
        ({"needs": "layers"}, "unknown need 'layers': did you mean layer?"),
        ({"without": ["key", "xyz"]}, "unknown need 'xyz': choose gradient, layer, baseline, .* or attention"),
    ],
)
def test_unknown_conditions(options, message):
    with pytest.raises(ValueError, match=message):
        jaxplain.methods(**options)


# ----------------------------------------------------------------------------------------------------- claims


@of_a_class
def test_resolution(name):
    shape = jax.eval_shape(EXAMPLES[name](network), W, X, target=0, key=KEY).shape
    assert shape == (X.shape if METHODS[name].resolution == "colour" else X.shape[:3])


@of_a_class
def test_sign(name):
    assert (maps(name).min() < -1e-9) == METHODS[name].signed


@of_a_class
def test_maps_of_classes_differ(name):
    """Where they are said to; and where no class enters the formula they do not differ at all."""
    difference = unlike(maps(name), maps(name, (0, 1, 3, 2)))
    if METHODS[name].class_discriminative:
        assert difference
    if name in ("eigen_cam", "fem", "multilayer_fem"):
        np.testing.assert_array_equal(maps(name), maps(name, (0, 1, 3, 2)))


RAW = {"layer": "features", "upsample": False}
CONSERVATIVE = [name for name, m in METHODS.items() if m.total in ("score", "1", "0")]


@pytest.mark.parametrize("name", CONSERVATIVE)
def test_conservative(name):
    options = RAW if METHODS[name].resolution == "layer" else {}
    explain = jax.jit(METHODS[name].make(network, **options))
    best = SCORES.argmax(axis=1)
    assert SCORES.max(axis=1).min() > 0
    totals = explain(W, X, target=best).sum(axis=tuple(range(1, X.ndim - (explain(W, X).ndim < X.ndim))))
    expected = {"score": SCORES.max(axis=1), "1": jnp.ones(4), "0": jnp.zeros(4)}[METHODS[name].total]
    np.testing.assert_allclose(totals, expected, rtol=1e-4, atol=1e-5)


SEGMENTS = jaxplain.perturbation.grid_segments((6, 6), (3, 3))
BLACK = np.zeros((1, 6, 6, 3))
COMPLETE = {  # options with which their sums are near the integrals, and what the input is compared with
    "integrated_gradients": ({}, BLACK),
    "expected_gradients": ({"baselines": BLACK, "samples": 3000, "chunk": 100}, BLACK),
    "blur_integrated_gradients": ({"max_sigma": 4.0}, gaussian_blur(X, 4.0)),
    "guided_integrated_gradients": ({"steps": 400}, BLACK),
    "deeplift": ({}, BLACK),
    "deep_shap": ({"baselines": BLACK}, BLACK),
    "conductance": (RAW, BLACK),
    "kernel_shap": ({"segments": SEGMENTS, "samples": 30, "upsample": False}, BLACK),
}


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.total == "difference"])
def test_complete(name):
    smooth = functools.partial(network, activation=lambda v: jnp.tanh(v - 0.3))
    if name == "adversarial_gradient_integration":  # two classes, so that every path ends where both are as probable
        explain = METHODS[name].make(lambda x: smooth(W, x)[:, :2], classes=[0, 1], epsilon=1e-3, steps=3000)
        p = jax.nn.softmax(smooth(W, X)[:, :2]).max(axis=1)
        np.testing.assert_allclose(jax.jit(explain)(X).sum(axis=(1, 2, 3)), p - 0.5, atol=2e-3)
        return
    options, compared = COMPLETE[name]
    explain = jax.jit(METHODS[name].make(smooth, **options))
    attribution = explain(W, X, target=TARGETS, key=KEY)
    score = lambda x: jnp.take_along_axis(smooth(W, x), TARGETS[:, None], axis=1)[:, 0]
    difference = score(X) - score(jnp.broadcast_to(compared, X.shape))
    np.testing.assert_allclose(attribution.reshape(4, -1).sum(axis=1), difference, rtol=0.02, atol=0.02)


# ------------------------------------------------------------------------------------------------------- cost


def work(jaxpr):
    """Multiplications by the weights in what a function's outputs need, loops counted as often as they run."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    variables = lambda values: {v for v in values if not isinstance(v, jax.extend.core.Literal)}
    needed, total = variables(jaxpr.outvars), 0
    for eqn in reversed(jaxpr.eqns):
        if needed.isdisjoint(eqn.outvars):
            continue
        needed |= variables(eqn.invars)
        if eqn.primitive.name in ("conv_general_dilated", "dot_general"):
            total += multiplications(eqn)
        parts = [part for value in eqn.params.values() for part in (value if isinstance(value, tuple) else (value,))]
        inner = [work(part) for part in parts if hasattr(part, "eqns") or hasattr(part, "jaxpr")]
        total += max(inner, default=0) if eqn.primitive.name == "cond" else sum(inner) * eqn.params.get("length", 1)
    return total


def multiplications(eqn):
    left, right = (v.aval.shape for v in eqn.invars)
    if all(size % WIDTH for size in left + right):  # of an image, by a blur or an enlargement
        return 0
    if eqn.primitive.name == "dot_general":
        contracted = math.prod(left[axis] for axis in eqn.params["dimension_numbers"][0][0])
    else:
        contracted = math.prod(right) // right[eqn.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(eqn.outvars[0].aval.shape) * contracted


MANY = {  # how many there are of what a cost is for
    "deep_shap": ({"baselines": np.zeros((3, 16, 16, 3))}, 3),
    "score_cam": ({}, WIDTH),
    "ablation_cam": ({}, WIDTH),
    "occlusion": ({}, 9),
}
NEEDED = {"expected_gradients": {"baselines": np.zeros((3, 16, 16, 3))}, "multilayer_fem": {"layer": [None]}}
OTHER_RULES = (  # z+ evaluates every layer again
    *("lrp", "softmax_gradient_lrp", "deep_taylor", "excitation_backprop", "contrastive_lrp"),
)
TO_A_LAYER = [
    "ablation_cam",
    *(m.name for m in jaxplain.methods(needs=["gradient", "layer"]) if m.name not in OTHER_RULES),
]


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if "patterns" not in m.needs])
def test_cost(name):
    """The passes of the table against a count of the multiplications of each method at its default options."""
    method = METHODS[name]
    options, many = MANY.get(name, (NEEDED.get(name, {}), 1))
    if "chunk" in options_of(method.make):
        options = options | {"chunk": 1}  # so that no last chunk is filled up
    plain = jaxplain.accelerate(attending(network) if "attention" in method.needs else network, False)
    w, x = weights(WIDTH, CLASSES), jnp.zeros((1, 16, 16, 3))
    target = None if name == "neuron_attribution" else 1
    explain = lambda w, x: method.make(plain, **options)(w, x, target=target, key=KEY)
    passes = work(jax.make_jaxpr(explain)(w, x)) / work(jax.make_jaxpr(plain)(w, x))
    forward, backward = method.cost.forward * many, method.cost.backward * many
    if method.needs == ("attention",):  # what is behind the last one is not evaluated
        assert passes <= forward
    elif name in TO_A_LAYER:  # behind the last layer there is hardly anything
        assert min(1, forward) - 0.01 < passes < forward + backward + 0.2
    elif name in OTHER_RULES:
        assert forward + backward <= passes <= forward + 2.5 * backward
    else:  # one more, of the image as it is, where the number of others is open
        assert passes == pytest.approx(forward + backward + (name in ("score_cam", "occlusion")), abs=0.12, rel=1e-3)


# -------------------------------------------------------------------------------------------------- citations


def test_the_bibliography_is_well_formed():
    text = resources.files("jaxplain").joinpath("references.bib").read_text("utf-8")
    bib = references.entries()
    assert len(bib) == len(re.findall("^@", text, re.MULTILINE))
    assert list(bib) == sorted(bib)
    for key, entry in bib.items():
        first, *lines, last = entry.splitlines()
        assert re.fullmatch(rf"@(article|inproceedings|misc)\{{{key},", first)
        assert last == "}"
        fields = [re.fullmatch(r"  (\w+) = \{(.+)\},", line) for line in lines]
        assert all(fields)
        names, values = zip(*(field.groups() for field in fields), strict=True)
        assert len({*names}) == len(names)
        venue = {"article": "journal", "inproceedings": "booktitle", "misc": "title"}[first[1 : first.index("{")]]
        assert {"author", "title", "year", venue} <= {*names}
        assert {"eprint", "doi", "url", "journal"} & {*names} or key == "shrikumar2017"
        assert all(value.count("{") == value.count("}") for value in values)
        assert key.endswith(references.field(key, "year"))
        assert all(", " in author or author == "others" for author in references.field(key, "author").split(" and "))
        assert re.fullmatch(r"(\d{4}\.\d{4,5})?", references.field(key, "eprint"))
        assert ("eprint" in names) == ("archiveprefix" in names)


def test_every_entry_is_cited_and_every_citation_has_an_entry():
    assert {key for m in METHODS.values() for key in m.citations} == {*references.entries()}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_docstring_cites_the_same_paper(method):
    reference = " ".join(inspect.getdoc(method.make).partition("Reference:")[2].split())
    key = method.citations[0]
    assert references.field(key, "author").partition(",")[0] in reference
    assert references.field(key, "year") in reference
    known = {references.field(key, "eprint") for key in method.citations}
    assert {*re.findall(r"arXiv:([\d.]+\d)", reference)} <= known


def test_short_references():
    assert METHODS["lrp"].reference == "Bach et al. 2015"
    assert METHODS["kernel_shap"].reference == "Lundberg & Lee 2017"
    assert METHODS["grad_cam_elementwise"].reference == "Gildenblat et al. 2021"


def test_cite():
    assert jaxplain.cite("eigen_grad_cam", "eigen_cam").count("@") == 2  # each once
    assert jaxplain.cite("lrp") == references.entries()["bach2015"]
    assert {*re.findall(r"@\w+\{(\w+)", jaxplain.cite())} == {*references.entries()}
    with pytest.raises(ValueError, match=r"unknown method 'gradcam': did you mean grad_cam, .*\?"):
        jaxplain.cite("lrp", "gradcam")
