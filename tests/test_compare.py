import functools
import inspect
import json
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxplain
from jaxplain import metrics
from jaxplain.evaluation import BETTER, Measure
from jaxplain.evaluation._measures import MEASURES, find_measure

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (2, 8, 8, 3), jnp.float32)
W = jax.random.normal(jax.random.key(2), (192, 4), jnp.float32)
DELETION = functools.partial(metrics.deletion, steps=4)


def network(weights, x):
    return jnp.tanh(x.reshape(len(x), -1)) @ weights


@functools.cache
def compared():
    methods = {"gradient": "gradient", "smooth": jaxplain.smoothgrad(network, samples=3), "occlusion": "occlusion"}
    measures = {"deletion": DELETION, "sparseness": "sparseness", "sensitivity": sensitivity()}
    return jaxplain.compare(network, methods, metrics=measures)(W, X, target=jnp.array([1, 3]), key=KEY)


def sensitivity():
    return functools.partial(metrics.max_sensitivity, samples=3)


def test_maps_are_those_of_the_explainers():
    maps, target = compared().maps, jnp.array([1, 3])
    assert list(maps) == ["gradient", "smooth", "occlusion"]
    np.testing.assert_allclose(maps["gradient"], jaxplain.gradient(network)(W, X, target=target), rtol=1e-5, atol=1e-6)
    smooth = jaxplain.smoothgrad(network, samples=3)(W, X, target=target, key=KEY)
    np.testing.assert_allclose(maps["smooth"], smooth, rtol=1e-4, atol=1e-6)


def test_values_are_those_of_the_metrics():
    target, maps = jnp.array([1, 3]), compared().maps
    for label, values in compared().values.items():
        expected = DELETION(network)(W, X, attribution=maps[label], target=target)
        np.testing.assert_allclose(values["deletion"], expected, rtol=1e-5)
        np.testing.assert_allclose(values["sparseness"], metrics.sparseness(maps[label]), rtol=1e-5)
    expected = sensitivity()(jaxplain.gradient(network))(W, X, target=target, key=KEY)
    np.testing.assert_allclose(compared().values["gradient"]["sensitivity"], expected, rtol=1e-4)


def test_the_predicted_class_is_the_default_for_maps_and_metrics():
    run = jaxplain.compare(network, ["gradient"], metrics={"deletion": DELETION})
    predicted = network(W, X).argmax(axis=1)
    default, named, called = run(W, X), run(W, X, target=predicted), run(W, X, target=lambda y: y.max(axis=1))
    np.testing.assert_array_equal(default.maps["gradient"], named.maps["gradient"])
    np.testing.assert_array_equal(default.values["gradient"]["deletion"], named.values["gradient"]["deletion"])
    np.testing.assert_allclose(default.maps["gradient"], called.maps["gradient"], rtol=1e-6, atol=1e-6)


def test_a_model_that_holds_functions():
    mlp = eqx.nn.MLP(12, 3, width_size=8, depth=1, key=KEY)
    apply = lambda model, x: jax.vmap(model)(x.reshape(len(x), -1))
    x = X[:, :2, :2]
    comparison = jaxplain.compare(apply, ["gradient"], metrics={"d": DELETION})(mlp, x, target=1)
    np.testing.assert_allclose(comparison.maps["gradient"], jaxplain.gradient(apply)(mlp, x, target=1), rtol=1e-5)


def test_metrics_of_parameters_see_the_parameters_as_they_are():
    def normalised(variables, x):
        x = (x.reshape(len(x), -1) - variables["batch_stats"]["mean"]) @ variables["params"]["a"]["kernel"]
        return jnp.tanh(x) @ variables["params"]["b"]["kernel"]

    layers = {"a": {"kernel": W}, "b": {"kernel": W[:4]}}
    variables = {"params": layers, "batch_stats": {"mean": X[:1].reshape(1, -1)}}
    mprt = functools.partial(metrics.mprt, layers=["a", "b"])
    measured = jaxplain.compare(normalised, ["gradient"], metrics={"mprt": mprt})(variables, X, target=1, key=KEY)
    expected = mprt(jaxplain.gradient(normalised))(variables, X, target=1, key=KEY)
    np.testing.assert_allclose(measured.values["gradient"]["mprt"], expected, rtol=1e-4)


def test_one_score_per_example():
    apply = lambda x: (x**2).sum(axis=(1, 2, 3))
    measures = {"sensitivity": sensitivity(), "deletion": functools.partial(DELETION, of="output")}
    comparison = jaxplain.compare(apply, ["gradient"], metrics=measures)(X, key=KEY)
    np.testing.assert_allclose(comparison.maps["gradient"], 2 * X, rtol=1e-6)


def test_times_are_taken():
    assert all(seconds > 0 for seconds in compared().seconds.values())
    assert all(seconds >= 0 for seconds in compared().compile_seconds.values())


def test_the_table_and_the_numbers():
    lines = compared().markdown().splitlines()
    assert lines[0] == "| method | deletion ↓ | sparseness ↑ | sensitivity ↓ | s per image | s to compile |"
    assert len(lines) == 2 + 3
    numbers = json.loads(json.dumps(compared().as_dict(), allow_nan=False))
    row = numbers["methods"]["occlusion"]
    assert row["metrics"]["deletion"]["mean"] == pytest.approx(np.mean(row["metrics"]["deletion"]["values"]))
    assert f"{row['metrics']['deletion']['mean']:.3g}" in lines[4]
    assert row["seconds_per_image"] > 0


def test_a_metric_without_an_answer_is_none():
    run = jaxplain.compare(lambda x: x.sum(axis=(1, 2)), {"zero": zero}, metrics=["complexity"])
    assert run(X).as_dict()["methods"]["zero"]["metrics"]["complexity"] == {"mean": None, "values": [None, None]}


def zero(x, target=None, key=None):
    return jnp.zeros(x.shape[:3])


def test_one_picture_one_table_one_file_of_numbers(tmp_path):
    images = np.zeros((2, 8, 8, 3), np.uint8)
    files = compared().save(tmp_path / "all", images, captions=["a", "b"])
    assert [file.name for file in files] == ["all.png", "all.md", "all.json"]
    assert {file.name for file in tmp_path.iterdir()} == {"all.png", "all.md", "all.json"}
    with Image.open(files[0]) as wide, compared().panel(images, columns=2) as tall:
        assert wide.width > tall.width
        assert wide.height < tall.height
    assert json.loads(files[2].read_text()) == compared().as_dict()


def test_every_metric_by_name_is_one_that_can_be_compared():
    for name in BETTER:
        measure = find_measure(name, name)
        assert measure.kind in ("network", "explainer", "map")
        assert measure.better in ("higher", "lower")


def test_every_metric_of_the_library_says_what_it_is_made_from():
    elsewhere = {"grid_images", "input_invariance", "ledger", "parameter_layers"}  # which compare no methods
    assert MEASURES.keys() == {name for name in metrics.__all__ if callable(getattr(metrics, name))} - elsewhere
    for name, measure in MEASURES.items():
        first = next(iter(inspect.signature(measure.function).parameters))
        assert first == {"network": "apply", "explainer": "explain", "map": "attribution"}[measure.kind]
        assert find_measure("mine", functools.partial(measure.function, **dict.fromkeys(measure.needs))).kind == (
            measure.kind
        ), name


def test_a_metric_of_no_kind():
    with pytest.raises(ValueError, match="unknown kind of metric 'maps': did you mean map"):
        Measure(jnp.sum, "maps")


@pytest.mark.parametrize("first", ["map", "network", "explainer"])
def test_a_metric_of_ones_own(first):
    largest = {
        "map": lambda a: jnp.abs(a).max(axis=(1, 2, 3)),
        "network": lambda f: lambda *args, attribution, target, key: jnp.abs(attribution).max(axis=(1, 2, 3)),
        "explainer": lambda e: lambda *args, target, key: jnp.abs(e(*args, target=target)).max(axis=(1, 2, 3)),
    }
    run = jaxplain.compare(network, ["gradient"], metrics={"largest": Measure(largest[first], first, "higher")})
    comparison = run(W, X, target=1)
    expected = np.abs(jaxplain.gradient(network)(W, X, target=1)).max(axis=(1, 2, 3))
    np.testing.assert_allclose(comparison.values["gradient"]["largest"], expected, rtol=1e-5)
    assert comparison.better == {"largest": "higher"}


@pytest.mark.parametrize("name", ["road", "pixel_flipping", "region_perturbation"])
def test_the_direction_is_the_opposite_where_the_least_relevant_goes_first(name):
    function = getattr(metrics, name)
    directions = [find_measure("it", functools.partial(function, order=order)).better for order in ("morf", "lerf")]
    assert directions[0] == BETTER[name]
    assert set(directions) == {"higher", "lower"}


@pytest.mark.parametrize(
    ("methods", "measures", "sentence"),
    [
        (["gradeint"], [], "unknown method 'gradeint': did you mean gradient"),
        (["deep_shap"], [], "deep_shap needs data: make it yourself and pass {label: explainer}"),
        ([], [], "there are no methods to compare"),
        ("gradient", [], "methods='gradient' is one method: pass a list"),
        ([zero], [], "an explainer has no name of its own: pass {label: explainer}"),
        (["gradient"], "sparseness", "metrics='sparseness' is one metric: pass a list"),
        (["gradient"], ["sparsenes"], "unknown metric 'sparsenes': did you mean sparseness"),
        (["gradient"], ["auc"], "the metric auc needs mask: bind it with functools.partial"),
        (["gradient"], {"irof": metrics.irof}, "the metric irof needs segments: bind it"),
        (["gradient"], {"own": lambda image: image}, "the metric own is none of jaxplain.metrics, so say what"),
    ],
)
def test_mistakes(methods, measures, sentence):
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        jaxplain.compare(network, methods, metrics=measures)


def test_mistakes_of_the_call():
    with pytest.raises(ValueError, match="class 4 is out of range"):
        jaxplain.compare(network, ["gradient"])(W, X, target=4)
    with pytest.raises(ValueError, match="apply returns one score per example, so there is no class to choose"):
        jaxplain.compare(lambda x: x.sum(axis=(1, 2, 3)), ["gradient"])(X, target=0)
    with pytest.raises(ValueError, match="pass a callable target"):
        jaxplain.compare(lambda x: x, ["gradient"])(X)
    with pytest.raises(ValueError, match="smooth draws random numbers: pass key="):
        jaxplain.compare(network, ["smoothgrad"])(W, X)
    with pytest.raises(ValueError, match=r"the metric total returned shape \(\)"):
        jaxplain.compare(network, ["gradient"], metrics={"total": Measure(jnp.sum, "map")})(W, X)
