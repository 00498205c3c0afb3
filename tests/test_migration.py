"""Options of version 0.1 do what they did, and say what they are called now."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics
from jaxplain.cli._method_specs import name_and_options

X = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
logits = lambda x: x.mean(axis=(1, 2)) ** 2
MAPS = jnp.abs(X)


@pytest.mark.parametrize(("old", "new"), [(True, "probability"), (False, "output")])
def test_metrics(old, new):
    with pytest.warns(DeprecationWarning, match=f"softmax={old} is now of='{new}'"):
        metric = metrics.deletion(logits, steps=4, softmax=old)
    expected = metrics.deletion(logits, steps=4, of=new)(X, attribution=MAPS, target=1)
    np.testing.assert_array_equal(metric(X, attribution=MAPS, target=1), expected)


def test_metrics_that_are_compared():
    deletion = functools.partial(metrics.deletion, steps=4, softmax=False)
    with pytest.warns(DeprecationWarning, match="softmax=False is now of='output'"):
        values = jaxplain.compare(logits, ["gradient"], metrics={"d": deletion})(X, target=1).values["gradient"]["d"]
    maps = jaxplain.gradient(logits)(X, target=1)
    expected = metrics.deletion(logits, steps=4, of="output")(X, attribution=maps, target=1)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_score_cam():
    f = lambda x: jax.ad_checkpoint.checkpoint_name(x, "features").mean(axis=(1, 2))
    with pytest.warns(DeprecationWarning, match="probabilities=False is now of='output'"):
        maps = jaxplain.score_cam(f, "features", probabilities=False)(X, target=1)
    np.testing.assert_array_equal(maps, jaxplain.score_cam(f, "features", of="output")(X, target=1))


def test_meaningful_perturbation():
    make = functools.partial(jaxplain.meaningful_perturbation, logits, steps=2, factor=2, mask_blur=1.0, jitter=0)
    with pytest.warns(DeprecationWarning, match="left=0.1 is now target_fraction=0.1"):
        maps = make(left=0.1)(X, target=1)
    np.testing.assert_array_equal(maps, make(target_fraction=0.1)(X, target=1))


def test_the_command_line():
    with pytest.warns(DeprecationWarning, match="softmax=False is now of='output'"):
        assert name_and_options("deletion:softmax=false:steps=5") == ("deletion", {"of": "output", "steps": 5})


def test_mistakes():
    with pytest.warns(DeprecationWarning, match="softmax=True"), pytest.raises(TypeError, match="of is given twice"):
        metrics.deletion(logits, softmax=True, of="output")
    with pytest.raises(ValueError, match="softmax='yes' must be True or False; it is called of now"):
        metrics.deletion(logits, softmax="yes")
