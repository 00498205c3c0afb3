"""Every misuse is told in one sentence: what is wrong, where, and the remedy."""

import functools
import types

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxplain
from jaxplain import composites, rules

WEIGHTS = jnp.arange(12.0).reshape(4, 3)
X = jnp.ones((2, 4))
IMAGES = jnp.ones((2, 4, 4, 1))
KEY = jax.random.key(0)


def apply(x):
    return x @ WEIGHTS


def one_score(x):
    return apply(x)[:, 0]


def no_explainer(*args, target=None, key=None):
    return jnp.ones((2, 5))


explain = jaxplain.gradient(apply)

CLASS_OR_CLASSES = r"pass a class, 2 classes \(one per example\), floats of shape \(2, 3\), or a callable"
FLOATS = r"a target of floats weighs every output and must have shape \(2, 3\), got .*; a class is an integer"

TARGETS = [
    (3, "target class 3 is out of range: the network has classes 0 to 2"),
    (-1, "target class -1 is out of range"),
    ([0, 5], "target class 5 is out of range"),
    (2**40, f"target class {2**40} is out of range"),
    (np.array([2**32, 0]), f"target class {2**32} is out of range"),
    ([0, 1, 2], r"target has shape \(3,\) and dtype .*" + CLASS_OR_CLASSES),
    (np.zeros((2, 1), int), r"target has shape \(2, 1\) and dtype .*" + CLASS_OR_CLASSES),
    (True, r"target has shape \(\) and dtype bool: " + CLASS_OR_CLASSES),
    (np.ones((2, 3), bool), r"target has shape \(2, 3\) and dtype bool: " + CLASS_OR_CLASSES),
    (1j, r"target has shape \(\) and dtype complex128: " + CLASS_OR_CLASSES),
    (1.0, FLOATS),
    (np.ones((3, 3)), FLOATS),
    ("tiger cat", "target='tiger cat' is neither a class, nor an array, nor a callable"),
    ([[0], [1, 2]], "is neither a class, nor an array, nor a callable"),
    (lambda y: y, r"the callable target returned shape \(2, 3\).* one floating-point score per example, shape \(2,\)"),
    (lambda y: y.sum(), r"the callable target returned shape \(\)"),
    (lambda y: y.argmax(axis=1), r"the callable target returned shape \(2,\) and dtype int"),
    (lambda y: (y,), r"the callable target returned a tuple of 1 instead of an array \(N,\) of scores"),
    (lambda y: None, "the callable target returned an object of type NoneType instead of an array"),
]

INPUTS = [
    (np.ones((2, 4), np.uint8), "has dtype uint8 instead of floating point: preprocess it as the network expects it"),
    (np.ones((2, 4), bool), "has dtype bool instead of floating point"),
    (np.ones((2, 4), complex), "has dtype complex128 instead of floating point"),
    (np.array([[None]]), "has dtype object instead of floating point"),
    (X.at[1, 2].set(jnp.nan), "example 1 of the input to explain holds NaN or infinite values: clean it first"),
    (X.at[0, 0].set(-jnp.inf), "example 0 of the input to explain holds NaN or infinite values"),
    (jnp.array(1.0), r"has shape \(\): it needs a batch axis and at least one element"),
    (jnp.ones((0, 4)), r"has shape \(0, 4\): it needs a batch axis and at least one element"),
    (jnp.ones(4), r"returned shape \(3,\) for an input of shape \(4,\): .* give a single example as x\[None\]"),
    (1.0, "must be a JAX or NumPy array, got float: put variables and state before it"),
    ([[1.0, 2.0]], "must be a JAX or NumPy array, got list"),
    ({"params": X}, "must be a JAX or NumPy array, got dict: put variables and state before it$"),
    (
        {"mask": X[0], "image": X},
        r"inputs\['image'\], by wrapping .*apply\(\*args\[:-1\], {\*\*inputs, 'image': args\[-1\]}\)`",
    ),
    (None, "must be a JAX or NumPy array, got NoneType"),
]

OUTPUTS = [
    (lambda x: (x, x), r"apply returned a tuple of 2 instead of one array: .* `lambda \*args: apply\(\*args\)\[0\]`"),
    (
        lambda x: {"logits": x},
        r"a dict with keys \['logits'\] instead of .*`lambda \*args: apply\(\*args\)\['logits'\]`",
    ),
    (lambda x: {"aux": x[:, :, None], "out": apply(x)}, r"for example `lambda \*args: apply\(\*args\)\['out'\]`"),
    (lambda x: {"aux": x, "logits": apply(x)}, r"for example `lambda \*args: apply\(\*args\)\['logits'\]`"),
    (lambda x: (x.sum(), {"a": apply(x)}), r"for example `lambda \*args: apply\(\*args\)\[1\]\['a'\]`"),
    (lambda x: types.SimpleNamespace(logits=apply(x)), r"for example `lambda \*args: apply\(\*args\).logits`"),
    (lambda x: None, "apply returned an object of type NoneType instead of one array"),
    (lambda x: apply(x).argmax(axis=1), "apply returned int.*: return the floating-point logits, not labels"),
    (
        lambda x: apply(x)[:1],
        r"apply returned shape \(1, 3\) for an input of shape \(2, 4\): the first axis of both",
    ),
    (lambda x: apply(x).sum(), r"apply returned shape \(\) .* a model of single examples through jax.vmap"),
    (lambda x: apply(x)[:, :, None], r"shape \(2, 3, 1\), neither \(N, classes\) nor \(N,\): pass a callable target"),
]

FUNCTIONS = [None, WEIGHTS, {"params": WEIGHTS}, (apply, WEIGHTS), nn.Dense(3)]

KEYS = [
    (None, r"smooth draws random numbers: pass key=jax.random.key\(0\)"),
    (0, r"key is an object of type int instead of a PRNG key: pass key=jax.random.key\(0\)"),
    (jnp.ones(2, jnp.float32), r"key is float32 of shape \(2,\) instead of a PRNG key"),
    (jnp.ones(3, jnp.uint32), r"key is uint32 of shape \(3,\) instead of a PRNG key"),
    (jax.random.split(KEY, 3), r"key has shape \(3,\): pass one PRNG key, or 2 of them, one per example"),
    (jax.random.split(jax.random.PRNGKey(0), 3), r"key has shape \(3,\): pass one PRNG key, or 2 of them"),
]

OPTIONS = {
    "integrated_gradients": [
        ({"steps": 0}, "steps=0 must be a positive integer"),
        ({"steps": 2.5}, "steps=2.5 must be a positive integer"),
        ({"steps": "many"}, "steps=many must be a positive integer"),
        ({"steps": 1, "rule": "riemann_trapezoid"}, "the rule 'riemann_trapezoid' takes two steps or more"),
        ({"rule": "simpson"}, "unknown rule 'simpson': choose gauss_legendre, riemann_trapezoid, riemann_left"),
        ({"chunk": 0}, "chunk=0 must be a positive integer"),
        ({"chunk": 2.5}, "chunk=2.5 must be a positive integer"),
        (
            {"baseline": np.ones(3)},
            r"a baseline of shape \(3,\) does not broadcast against the input's \(2, 4\): ",
        ),
        ({"baseline": np.ones((5, 2, 4))}, r"a baseline of shape \(5, 2, 4\) does not broadcast"),
        ({"baseline": "black"}, "baseline='black' does not broadcast against the input's .* pass a number"),
        ({"baseline": None}, "baseline=None does not broadcast"),
    ],
    "expected_gradients": [
        ({"baselines": X[0]}, r"baselines have shape \(4,\): stack examples of shape \(4,\) along axis 0"),
        ({"baselines": X[:0]}, r"baselines have shape \(0, 4\)"),
        ({"baselines": X, "samples": 0}, "samples=0 must be a positive integer"),
    ],
    "blur_integrated_gradients": [
        ({}, r"explains images \(N, H, W, C\), got shape \(2, 4\)"),
        ({"max_sigma": -1.0}, "max_sigma=-1.0 must be positive"),
    ],
    "guided_integrated_gradients": [
        ({"fraction": 0.0}, r"fraction=0.0 must be in \(0, 1\] and max_distance=0.02 in \[0, 1\]"),
        ({"max_distance": 1.5}, "max_distance=1.5"),
        ({"steps": 0}, "steps=0 must be a positive integer"),
    ],
    "smoothgrad": [
        ({"samples": -1}, "samples=-1 must be a positive integer"),
        ({"stdev": -1.0}, "stdev=-1.0 must not be negative"),
        ({"stdev": np.nan}, "stdev=nan must not be negative"),
        ({"statistic": "median"}, "unknown statistic 'median': choose mean, square or variance"),
        ({"chunk": -3}, "chunk=-3 must be a positive integer"),
    ],
}

TRANSFORMS = [
    (lambda: jaxplain.multiply(), "no explainer to combine: pass at least one"),
    (lambda: jaxplain.ensemble([]), "no explainer to combine: pass at least one"),
    (lambda: jaxplain.ensemble(explain), "an ensemble is made of several explainers: pass them in a list"),
    (lambda: jaxplain.ensemble([explain], statistic="max"), "unknown statistic 'max': choose mean or variance"),
    (lambda: jaxplain.multiply(explain, X), "is no explainer: pass what a method returns, like jaxplain.gradient"),
    (lambda: jaxplain.smooth(X), "is no explainer"),
    (
        lambda: jaxplain.multiply(explain, no_explainer)(X),
        r"shapes \[\(2, 4\), \(2, 5\)\] do not combine: upsample",
    ),
    (lambda: jaxplain.smooth(no_explainer)(X, key=KEY), "`no_explainer` does not say .* pass target=, or make it with"),
    (lambda: jaxplain.contrast(no_explainer)(X, target=0), "`no_explainer` does not say which network it explains"),
    (lambda: jaxplain.contrast(explain, "all"), "unknown against='all': choose others, runner_up or softmax"),
    (lambda: jaxplain.contrast(explain)(X, target=lambda y: y[:, 0]), "contrast needs a class as its target: an int,"),
    (lambda: jaxplain.contrast(explain)(X, target=jnp.ones((2, 3))), "contrast needs a class as its target"),
    (lambda: jaxplain.contrast(explain)(X, target="cat"), "target='cat' is neither"),
    (lambda: jaxplain.contrast(jaxplain.gradient(one_score))(X), "contrast needs outputs .* with two or more classes"),
    (lambda: jaxplain.chunked(explain, 0), "size=0 must be a positive integer"),
    (lambda: jaxplain.chunked(explain, 1)(X, target=9), "target class 9 is out of range"),
    (lambda: jaxplain.chunked(explain, 1)(X, target=[0, 1, 2]), r"target has shape \(3,\).*" + CLASS_OR_CLASSES),
    (lambda: jaxplain.heatmap(IMAGES, "mean"), "unknown reduce='mean': choose sum, norm, max_abs"),
    (lambda: jaxplain.heatmap(explain)(X), r"made of an attribution \(N, H, W, C\) or \(N, H, W\), got shape \(2, 4\)"),
]


def told(sentence):
    return pytest.raises((ValueError, TypeError), match=sentence)


@pytest.mark.parametrize(("target", "sentence"), TARGETS)
def test_targets(target, sentence):
    with told(sentence):
        explain(X, target=target)
    with told(sentence):
        jaxplain.integrated_gradients(apply)(X, target=target)


def test_scores_have_no_classes():
    with told("apply returns one score per example, so there is no class to choose: leave target=None"):
        jaxplain.gradient(one_score)(X, target=0)


@pytest.mark.parametrize(("x", "sentence"), INPUTS)
def test_inputs(x, sentence):
    with told(sentence):
        explain(x)


def test_arguments():
    with told(r"explain\(\) got no positional argument: the last one is the input to explain"):
        explain()
    with told("must be a JAX or NumPy array, got dict: put variables and state before it"):
        jaxplain.gradient(nn.Dense(3).apply)(X, {"params": {}})


@pytest.mark.parametrize(("network", "sentence"), OUTPUTS)
def test_outputs(network, sentence):
    with told(sentence):
        jaxplain.gradient(network)(X)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: type(function).__name__)
def test_what_is_no_function(function):
    with told(f"apply must be a function of the input, got {type(function).__name__}: pass `model.apply`, or"):
        jaxplain.gradient(function)


def test_a_module_that_knows_its_variables_is_a_function():
    bound = nn.Dense(3).bind({"params": {"kernel": WEIGHTS, "bias": jnp.zeros(3)}})
    np.testing.assert_array_equal(jaxplain.gradient(bound)(X), explain(X))


@pytest.mark.parametrize(("key", "sentence"), KEYS)
def test_keys(key, sentence):
    with told(sentence):
        jaxplain.smoothgrad(apply)(X, key=key)


@pytest.mark.parametrize(
    ("method", "options", "sentence"), [(name, *case) for name, cases in OPTIONS.items() for case in cases]
)
def test_options(method, options, sentence):
    with told(sentence):
        getattr(jaxplain, method)(apply, **options)(X, key=KEY)


@pytest.mark.parametrize(("misuse", "sentence"), TRANSFORMS)
def test_transforms(misuse, sentence):
    with told(sentence):
        misuse()


@pytest.mark.parametrize(
    "explain",
    [
        explain,
        jaxplain.integrated_gradients(apply),
        jaxplain.smoothgrad(apply),
        jaxplain.chunked(explain, 1),
        *(jaxplain.contrast(explain, against) for against in ("others", "runner_up", "softmax")),
    ],
)
@pytest.mark.parametrize("wrong", [3, -1])
def test_a_class_out_of_range_that_cannot_be_seen_gives_nan(explain, wrong):
    maps = jax.jit(explain)(X, target=jnp.array([wrong, 1]), key=KEY)
    assert np.isnan(maps[0]).all()
    assert np.isfinite(maps[1]).all()


# ------------------------------------------------------------------------ networks that cannot be called as they are


class Trained(nn.Module):
    """Fails without ``train``, and in training without more."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(2, (3, 3))(x)))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=not train)(x.reshape(len(x), -1)))


class Layers(nnx.Module):
    """With the statistics of a BatchNorm, or a Dropout, left in training mode."""

    def __init__(self, layer):
        self.layer, self.last = layer, nnx.Linear(1, 3, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.last(self.layer(x)).mean((1, 2))


class Single(eqx.Module):
    """Of one example, channels in front."""

    conv: eqx.nn.Conv2d
    dropout: eqx.nn.Dropout

    def __call__(self, x):
        return self.dropout(self.conv(x).mean((1, 2)))


TRAINED = Trained()
VARIABLES = TRAINED.init(KEY, IMAGES, train=False)
INFERRED = functools.partial(TRAINED.apply, train=False)
SINGLE = Single(eqx.nn.Conv2d(1, 3, 3, key=KEY), eqx.nn.Dropout(0.5))
CALM = eqx.nn.inference_mode(SINGLE)
IN_FLOAT32 = IMAGES.astype(jnp.float32)
FIRST = IMAGES.transpose(0, 3, 1, 2)
EVAL = r"training mode.*model\.eval\(\)"

CALLS = {
    "no train=": (TRAINED.apply, (VARIABLES, IMAGES), r"functools.partial\(apply, train=False\)"),
    "train=True": (functools.partial(TRAINED.apply, train=True), (VARIABLES, IMAGES), r"apply, train=False\)"),
    "no variables": (INFERRED, (IMAGES,), r"its variables are missing .* explain\(variables, x\)"),
    "the parameters alone": (INFERRED, (VARIABLES["params"], IMAGES), "its variables are missing or not complete"),
    "no statistics": (INFERRED, ({"params": VARIABLES["params"]}, IMAGES), "pass all collections .*batch_stats"),
    "no batch axis": (INFERRED, (VARIABLES, IMAGES[0]), r"give a single example as x\[None\]"),
    "another size": (INFERRED, (VARIABLES, jnp.ones((2, 6, 6, 1))), r"do not fit an input of shape \(2, 6, 6, 1\)"),
    "NNX statistics": (Layers(nnx.BatchNorm(1, rngs=nnx.Rngs(0))), (IN_FLOAT32,), EVAL),
    "NNX dropout": (Layers(nnx.Dropout(0.5)), (IMAGES,), EVAL),
    "Equinox dropout": (jax.vmap(SINGLE), (FIRST,), r"training mode.*eqx.nn.inference_mode\(model\)"),
    "Equinox without vmap": (CALM, (FIRST,), r"it takes single examples, so explain jax.vmap\(apply\)"),
    "Equinox without a batch": (jax.vmap(CALM), (FIRST[0],), r"give a single example as x\[None\]"),
    "one argument too few": (
        lambda w, b, x: x @ w + b,
        (WEIGHTS, X),
        "needs more arguments: pass them before the input",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_network_that_cannot_be_called(name):
    network, args, remedy = CALLS[name]
    for method in (jaxplain.gradient, jaxplain.lrp):
        with pytest.raises(ValueError, match=f"the network cannot be called with these arguments .*{remedy}") as raised:
            method(network)(*args, target=0)
        assert raised.value.__cause__ is not None


def test_an_error_of_the_network_itself_passes():
    def broken(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        jaxplain.gradient(broken)(X)


def test_one_entry_of_an_input_that_is_a_dict_is_explained_as_the_sentence_says():
    inputs = {"image": X, "mask": jnp.array([[1.0, 0.0, 1.0, 1.0]])}
    network = lambda w, inputs: (inputs["image"] * inputs["mask"]) @ w
    wrapped = lambda *args: network(*args[:-1], {**inputs, "image": args[-1]})
    np.testing.assert_array_equal(jaxplain.gradient(wrapped)(WEIGHTS, X, target=1)[0], [1, 0, 7, 10])


NO_RULES = [
    (lambda: composites.first_match("dense", rules.epsilon()), r"first_match takes pairs \(matcher, rule\)"),
    (
        lambda: composites.first_match(("dense", rules.epsilon)),
        r"rules.epsilon makes rules: call it, rules.epsilon\(\)",
    ),
    (lambda: jaxplain.lrp(apply, lambda unit: rules.gamma)(X), r"rules.gamma makes rules: call it, rules.gamma\(\)"),
    (lambda: jaxplain.lrp(apply, lambda unit: 0.25)(X), r"0.25 is no rule: pass a function \(call, inputs"),
]


@pytest.mark.parametrize(("call", "message"), NO_RULES)
def test_what_is_no_rule(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_options_in_the_wrong_place():
    with pytest.raises(TypeError, match=r"not train=: an option of the network is bound before, functools.partial"):
        explain(X, train=False)


def test_names_that_are_nearly_right():
    with pytest.raises(AttributeError, match="no attribute 'GradCAM': did you mean grad_cam"):
        jaxplain.GradCAM  # noqa: B018


def test_maps_with_their_channels_first_in_metrics_of_maps():
    with pytest.raises(ValueError, match=r'sum them before, jaxplain.heatmap\(attribution, channels="first"\)'):
        jaxplain.metrics.pointing_game(jnp.ones((1, 3, 32, 32)), jnp.ones((1, 32, 32)))


def test_options_that_are_nearly_right():
    with pytest.raises(TypeError, match=r"not targets=: did you mean target=\?"):
        explain(X, targets=1)


COMPOSITES = [
    (rules.gamma(), r"gamma\(\) is a rule: pass composites.uniform\(rules.gamma\(\)\)"),
    (rules.gamma, r"rules.gamma makes rules: call it"),
    (composites.epsilon_plus_flat, "composites.epsilon_plus_flat makes composites: call it, or pass its name"),
]


@pytest.mark.parametrize(("composite", "message"), COMPOSITES)
def test_what_is_no_composite(composite, message):
    with pytest.raises(TypeError, match=message):
        jaxplain.lrp(apply, composite)


def test_modules_that_are_not_imported_by_themselves():
    with pytest.raises(AttributeError, match=r"jaxplain\.cli is a module: import jaxplain\.cli"):
        jaxplain.__getattr__("cli")


def test_layers_that_are_no_names():
    with pytest.raises(TypeError, match="layer=3 is no name of a layer"):
        jaxplain.lrp(apply, layer=3)(X)


PATHS = [
    ("straight", TypeError, "path='straight' is no path: pass a function"),
    (lambda x0, x, t: None, ValueError, r"path\(x0, x, t\) returned NoneType: return a point"),
    (lambda x0, x, t: jnp.round(x).astype(int), ValueError, "returned .*int.*: return a point in the input's shape"),
]


@pytest.mark.parametrize(("path", "error", "message"), PATHS)
def test_what_is_no_path(path, error, message):
    with pytest.raises(error, match=message):
        jaxplain.integrated_gradients(apply, path=path)(X)


def test_xrai_of_what_is_no_method_and_of_plain_lists():
    f = lambda x: x.sum(axis=(1, 2))
    for method in ("lrp", jaxplain.gradient(f)):
        with pytest.raises(TypeError, match="makes no explainers of functions: pass a method"):
            jaxplain.xrai(f, method=method)
    labels = jnp.arange(16).reshape(4, 4) // 8
    options = {"dilation": 0, "smallest": 1}
    maps = [jaxplain.xrai(f, segments=given, **options)(IMAGES) for given in (labels, labels.tolist(), [labels])]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
