"""The explanation belongs to the function: frameworks, tied weights and compiled loops change nothing."""

import functools
from importlib.util import find_spec

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain import composites
from tests.close import within
from tests.frameworks import TWINS
from tests.networks import NETWORKS
from tests.zoo import ARCHITECTURES, CONTROL_FLOW, IMAGES, TARGETS, control_flow, convolutional
from tests.zoo.layers import draw

BASELINE = np.array([0.3, -0.2, 0.5])  # one value per channel
METHODS = {
    "epsilon_plus": lambda f: jaxplain.lrp(f, composites.epsilon_plus()),
    "guided_backprop": jaxplain.guided_backprop,
    "rescale": functools.partial(jaxplain.deeplift, baseline=BASELINE),
    "reveal_cancel": functools.partial(jaxplain.deeplift, baseline=BASELINE, rule="reveal_cancel"),
}
TOLERANCE = {"keras": 1e-5}  # its BatchNorm computes in float32, whatever it is given
SMALL_IMAGES, SMALL_TARGETS = IMAGES[:, :8, :8], np.array([1, 3])

close = within(1e-10)


@functools.cache
def twin(framework, name):
    return TWINS[framework](name, draw(NETWORKS[name], SMALL_IMAGES.shape))


@functools.cache
def small_map(framework, name, method):
    return jax.jit(METHODS[method](twin(framework, name)))(SMALL_IMAGES, target=SMALL_TARGETS)


optional = lambda name: pytest.param(name, marks=pytest.mark.skipif(not find_spec(name), reason=f"no {name}"))
others = pytest.mark.parametrize("framework", ["nnx", "equinox", optional("haiku"), optional("keras")])
networks = pytest.mark.parametrize("name", ["chain", "residual"])


@others
@networks
def test_the_twins_compute_the_same(framework, name):
    outputs = jax.jit(twin(framework, name))(SMALL_IMAGES)
    close(outputs, jax.jit(twin("linen", name))(SMALL_IMAGES), TOLERANCE.get(framework, 1e-12))


@others
@networks
@pytest.mark.parametrize("method", METHODS)
def test_frameworks_agree(framework, name, method):
    close(small_map(framework, name, method), small_map("linen", name, method), TOLERANCE.get(framework, 1e-10))


@pytest.mark.parametrize("method", METHODS)
def test_tied_layers_are_explained_like_separate_ones(method):
    tied = ARCHITECTURES["tied"]
    untied = convolutional.Tied(tied=False)
    maps = jax.jit(METHODS[method](tied.apply))(*tied.args, target=TARGETS)
    separate = jax.jit(METHODS[method](untied.apply))(untied.untie(tied.variables), IMAGES, target=TARGETS)
    close(maps, separate)


@functools.cache
def large_map(name, method):
    case = (ARCHITECTURES | CONTROL_FLOW)[name]
    return jax.jit(METHODS[method](case.apply))(*case.args, target=TARGETS)


@pytest.mark.parametrize("method", METHODS)
def test_scanned_and_rematerialised_blocks_are_explained_like_unrolled_ones(method):
    close(large_map("linen_scan_remat", method), large_map("linen_unrolled", method))


@pytest.mark.parametrize("method", ["epsilon_plus", "rescale", "guided_backprop", "reveal_cancel"])
@pytest.mark.parametrize("name", sorted(set(control_flow.NETWORKS) - {"unrolled"}))
def test_control_flow_is_explained_like_straight_code(name, method):
    if name == "cond_on_input" and method in ("rescale", "reveal_cancel"):
        with pytest.raises(ValueError, match="decided by the explained input"):
            large_map(name, method)
        return
    if name == "map_over_patches" and method == "epsilon_plus":
        pytest.skip("its stem is a dot product, and dense layers have a rule of their own")
    close(large_map(name, method), large_map("unrolled", method))
