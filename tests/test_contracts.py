"""What every explainer promises, tested over one table of all of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain._taxonomy import METHODS
from tests.attending import maker
from tests.close import within
from tests.convolution import conv
from tests.frameworks import LINEN, TWINS

pytestmark = pytest.mark.filterwarnings("ignore:deep_taylor divides positive scores")

KEY = jax.random.key(7)
BASELINES = np.random.default_rng(0).normal(size=(4, 6, 6, 3)) * 0.3
SEGMENTS = jaxplain.perturbation.grid_segments((6, 6), (3, 3))

OPTIONS = {
    "integrated_gradients": {"steps": 6, "chunk": 4},
    "expected_gradients": {"baselines": BASELINES, "samples": 6, "chunk": 4},
    "blur_integrated_gradients": {"steps": 6, "max_sigma": 3.0, "chunk": 4},
    "guided_integrated_gradients": {"steps": 4},
    "xrai": {"segments": [SEGMENTS, SEGMENTS // 3], "steps": 4, "dilation": 1, "smallest": 3, "chunk": 3},
    "smoothgrad": {"samples": 6, "chunk": 4},
    "vargrad": {"samples": 6, "chunk": 4},
    "deeplift": {"baseline": BASELINES[:1], "rule": "reveal_cancel"},
    "deep_shap": {"baselines": BASELINES[:3], "chunk": 2},
    "lrp": {"composite": jaxplain.composites.epsilon_plus()},
    "score_cam": {"chunk": 3, "top": 3},
    "ablation_cam": {"chunk": 3},
    "multilayer_fem": {"layer": [None]},
    "conductance": {"steps": 4, "chunk": 3},
    "internal_influence": {"steps": 4, "chunk": 3},
    "fgvis": {"steps": 6},
    "adversarial_gradient_integration": {"classes": 3, "steps": 4, "chunk": 2},
    "perceptual_ball": {"steps": 15, "gamma": 1.0},
    "similar_adversarial": {"steps": 8},
    "deepfool": {"steps": 5},
    "occlusion": {"window": (3, 2), "stride": (2, 2), "chunk": 4},
    "feature_ablation": {"segments": SEGMENTS, "chunk": 4},
    "rise": {"masks": 12, "grid": (2, 3), "chunk": 4},
    "lime": {"segments": SEGMENTS, "samples": 12, "chunk": 4},
    "kernel_shap": {"segments": SEGMENTS, "samples": 24, "chunk": 4},
    "sobol": {"segments": SEGMENTS, "samples": 4, "chunk": 7},
    "hsic": {"segments": SEGMENTS, "samples": 12, "chunk": 5},
    "meaningful_perturbation": {"steps": 3, "factor": 2, "mask_blur": 0.0, "jitter": 1, "of": "output"},
    "extremal_perturbation": {"areas": (0.2, 0.5), "steps": 3, "step": 2, "sigma": 2.0, "max_blur": 2.0, "chunk": 1},
}
ELSEWHERE = (
    *("pattern_net", "pattern_attribution"),  # fitted to one network: tests/propagation/test_methods.py
    *("cam", "neuron_attribution"),  # of networks of one form; of a neuron, not a target: tests/features
)
CLASSES_ONLY = (  # contrast a class with the others
    *("contrast", "contrastive_lrp", "fgvis", "adversarial_gradient_integration"),
    *("perceptual_ball", "similar_adversarial", "deepfool"),
)
TOWARDS_A_BOUNDARY = ("adversarial_gradient_integration", "similar_adversarial", "deepfool")
BY_LBFGS = ("perceptual_ball", "similar_adversarial")
OF_PROBABILITIES = ("softmax_gradient_lrp", "score_cam", "rise", "lime", "hsic", "meaningful_perturbation")
TRANSFORMS = {
    "smooth_squares_of_input_x_gradient": lambda f: jaxplain.smooth(
        jaxplain.input_x_gradient(f), samples=5, statistic="square", chunk=2
    ),
    "smooth_of_smooth": lambda f: jaxplain.smooth(jaxplain.smoothgrad(f, samples=2), samples=3),
    "multiply": lambda f: jaxplain.multiply(jaxplain.gradient(f), jaxplain.smoothgrad(f, samples=3)),
    "ensemble": lambda f: jaxplain.ensemble([jaxplain.gradient(f), jaxplain.smoothgrad(f, samples=3)], normalize=True),
    "augment": lambda f: jaxplain.augment(jaxplain.smoothgrad(f, samples=2)),
    "contrast": lambda f: jaxplain.contrast(jaxplain.input_x_gradient(f), "softmax"),
    "chunked": lambda f: jaxplain.chunked(jaxplain.smoothgrad(f, samples=3), 2),
    "smooth_map_of_a_layer": lambda f: jaxplain.smooth(jaxplain.layer_cam(f), samples=2),
}
EXPLAINERS = {
    name: maker(m, **OPTIONS.get(name, {})) for name, m in METHODS.items() if name not in ELSEWHERE
} | TRANSFORMS


def explainers(names):
    return pytest.mark.parametrize("make", [EXPLAINERS[name] for name in names], ids=names)


every_explainer = explainers(EXPLAINERS)


X = jax.random.normal(jax.random.key(1), (3, 6, 6, 3), jnp.float64)
APPLY, VARIABLES = LINEN["pooled"].apply, LINEN["pooled"].init(jax.random.key(0), X)
TARGETS = jnp.array([4, 0, 2])
close = within(1e-9)


@functools.cache
def jitted(make):
    """The explainer of the Linen network: compiled once for all tests that call it with arguments of these shapes."""
    return jax.jit(make(APPLY))


@functools.cache
def expected(make):
    """What most tests compare with."""
    return jitted(make)(VARIABLES, X, target=TARGETS, key=KEY)


RANDOM = [name for name, m in METHODS.items() if "key" in m.needs]


def with_a_key_each(make, keys):
    """The same for a key per example, which only random explainers are compiled for again."""
    if make in [EXPLAINERS[name] for name in (*RANDOM, *(TRANSFORMS.keys() - {"contrast"}))]:
        return jitted(make)(VARIABLES, X, target=TARGETS, key=keys)
    return expected(make)


@every_explainer
def test_shape_dtype_and_jit(make):
    eager = make(APPLY)(VARIABLES, X, target=TARGETS, key=KEY)
    assert eager.shape == X.shape[: eager.ndim]
    assert eager.ndim >= 3
    assert eager.dtype == X.dtype
    assert np.isfinite(eager).all()
    close(expected(make), eager)


@every_explainer
def test_no_recompilation(make):
    traces = []

    def counted(variables, x):
        traces.append(1)
        return APPLY(variables, x)

    explain = jax.jit(make(counted)).trace  # what jit would recompile, it would trace again
    explain(VARIABLES, X, target=TARGETS, key=KEY)
    before = len(traces)
    explain(VARIABLES, X + 1, target=TARGETS - 0, key=jax.random.key(3))
    assert len(traces) == before


@every_explainer
def test_the_predicted_class_is_the_default(make):
    explain = jitted(make)
    predicted = APPLY(VARIABLES, X).argmax(axis=1)
    close(explain(VARIABLES, X, key=KEY), explain(VARIABLES, X, target=predicted, key=KEY))


@every_explainer
def test_one_class_for_all(make):
    explain = jitted(make)
    close(explain(VARIABLES, X, target=2, key=KEY), explain(VARIABLES, X, target=jnp.full(3, 2), key=KEY))


def chosen(logits):
    return jnp.take_along_axis(logits, TARGETS[:, None], axis=1)[:, 0]


OF_ANY_SCORE = [name for name in EXPLAINERS if name not in CLASSES_ONLY]


@explainers(OF_ANY_SCORE)
def test_weights_agree_with_classes(make):
    weights = jax.nn.one_hot(TARGETS, 5, dtype=X.dtype)
    close(jitted(make)(VARIABLES, X, target=weights, key=KEY), expected(make))


# The arrays of a callable do not come in chunks; methods of probabilities need every logit.
@explainers([name for name in OF_ANY_SCORE if name != "chunked"])
def test_callables_agree_with_classes(make):
    close(jax.jit(functools.partial(make(APPLY), target=chosen))(VARIABLES, X, key=KEY), expected(make))


@explainers([name for name in OF_ANY_SCORE if name not in ("chunked", *OF_PROBABILITIES)])
def test_one_output_agrees_with_its_class(make):
    scored = make(lambda variables, x: chosen(APPLY(variables, x)))
    close(jax.jit(scored)(VARIABLES, X, key=KEY), expected(make))


@every_explainer
def test_batch_mates_do_not_matter(make):
    keys = jax.random.split(KEY, 3)
    together = with_a_key_each(make, keys)
    for i in range(3):
        alone = jitted(make)(VARIABLES, X[i : i + 1], target=TARGETS[i : i + 1], key=keys[i : i + 1])
        close(alone[0], together[i])
    if together is not expected(make):  # one key is folded with the index alone
        first = jitted(make)(VARIABLES, X[:1], target=TARGETS[:1], key=KEY)
        close(first[0], expected(make)[0])


@every_explainer
def test_vmap_equals_loop(make):
    explain = make(APPLY)
    shifted = jax.jit(jax.vmap(lambda s: explain(VARIABLES, X, target=(TARGETS + s) % 5, key=KEY)))(jnp.arange(2))
    close(shifted[0], expected(make))
    close(shifted[1], jitted(make)(VARIABLES, X, target=(TARGETS + 1) % 5, key=KEY))


@every_explainer
@pytest.mark.parametrize("framework", ["equinox", "nnx", "plain"])
def test_frameworks_agree(make, framework):
    close(jax.jit(make(TWINS[framework]("pooled", VARIABLES)))(X, target=TARGETS, key=KEY), expected(make))


def smooth_network(variables, x):
    """No kinks, on which a rounding error decides."""
    p = variables["params"]
    x = jnp.tanh(conv(x, p["conv"]["kernel"]))
    x = jnp.tanh(x[:, ::2, ::2].reshape(len(x), -1) @ p["hidden"]["kernel"])
    return x @ p["head"]["kernel"]


def agrees_with_float64(make, dtype, tolerance):
    explain = jax.jit(make(smooth_network))
    low = jax.tree.map(lambda a: a.astype(dtype), (VARIABLES, X))
    same = jax.tree.map(lambda a: a.astype(jnp.float64), low)
    keys = jax.random.split(KEY, 3)
    maps = explain(*low, target=TARGETS, key=keys)
    assert maps.dtype == dtype
    close(maps, explain(*same, target=TARGETS, key=keys), tolerance)


# It ranks the pixels of a mask that is constant at first, so that rounding errors decide.
ROUNDED = [name for name in EXPLAINERS if name != "extremal_perturbation"]
# Guided integrated gradients sort the gradients, XRAI the densities of regions, and bfloat16 has too few distinct ones
# to agree on an order; at which of the small steps towards a boundary the class changes is decided by rounding errors.
NOT_IN_BFLOAT16 = ("guided_integrated_gradients", "xrai", *TOWARDS_A_BOUNDARY)


@explainers(ROUNDED)
def test_float32(make):
    agrees_with_float64(make, jnp.float32, 1e-4)


@explainers([name for name in ROUNDED if name not in NOT_IN_BFLOAT16])
def test_bfloat16(make):
    agrees_with_float64(make, jnp.bfloat16, 0.1)


@every_explainer
def test_zero_and_constant_images_are_finite(make):
    explain = jitted(make)
    for image in (jnp.zeros_like(X), jnp.ones_like(X)):
        assert np.isfinite(explain(VARIABLES, image, target=TARGETS, key=KEY)).all()


@every_explainer
def test_inside_scan_cond_and_remat(make):
    explain = make(APPLY)
    call = jax.checkpoint(lambda x: explain(VARIABLES, x, target=TARGETS, key=KEY))
    wanted = expected(make)
    maybe = lambda x: jax.lax.cond(x.sum() < 1e9, call, lambda x: jnp.zeros(wanted.shape), x)
    _, maps = jax.jit(lambda xs: jax.lax.scan(lambda c, x: (c, maybe(x)), 0, xs))(X[None])
    close(maps[0], wanted)


@every_explainer
def test_gradient_with_respect_to_the_parameters(make):
    """An explanation is differentiable in the parameters: against finite differences, on a network without kinks."""

    def network(w, x):
        return jnp.tanh(jnp.sin(conv(x, w))[:, ::2].sum(axis=(1, 2)))

    if make in [EXPLAINERS[name] for name in BY_LBFGS]:  # which has no exact derivative in optax
        make = functools.partial(make, optimizer=optax.sgd(0.1))
    explain = make(network)
    w = jax.random.normal(jax.random.key(2), (3, 3, 3, 5), jnp.float64) * 0.1
    direction = jax.random.normal(jax.random.key(3), w.shape, jnp.float64)
    loss = jax.jit(jax.value_and_grad(lambda w: (explain(w, X, target=TARGETS, key=KEY) ** 2).sum()))
    step = 1e-6
    finite = (loss(w + step * direction)[0] - loss(w - step * direction)[0]) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(loss(w)[1], direction), finite, rtol=1e-4)


@pytest.mark.parametrize("chunk", [None, 1, 4, 100])
@pytest.mark.parametrize("name", [n for n in EXPLAINERS if "chunk" in OPTIONS.get(n, {})])
def test_independent_of_chunk(name, chunk):
    explain = METHODS[name].make(APPLY, **OPTIONS[name] | {"chunk": chunk})
    close(jax.jit(explain)(VARIABLES, X, target=TARGETS, key=KEY), expected(EXPLAINERS[name]))


@pytest.mark.parametrize("name", RANDOM)
def test_random_methods_are_reproducible_from_their_key(name):
    explain = jitted(EXPLAINERS[name])
    first, again, other = (explain(VARIABLES, X, target=TARGETS, key=jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0
    np.testing.assert_array_equal(explain(VARIABLES, X, target=TARGETS, key=jax.random.PRNGKey(0)), first)


@pytest.mark.parametrize("name", RANDOM)
def test_a_missing_key_is_an_error(name):
    with pytest.raises(ValueError, match=r"pass key=jax.random.key\(0\)"):
        EXPLAINERS[name](APPLY)(VARIABLES, X)


@every_explainer
def test_exported_for_any_batch_size(make):
    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, 6, 6, 3"), X.dtype)
    apply = lambda variables, x: TWINS["plain"]("pooled", variables)(x)
    explain = jax.jit(lambda variables, x: make(apply)(variables, x, key=jax.random.key(0)))
    (attribution,) = jax.export.export(explain)(VARIABLES, images).out_avals
    assert attribution.shape == images.shape[: attribution.ndim]


@every_explainer
def test_inside_shard_map(make):
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:3])
    call = lambda x, target, key: make(APPLY)(VARIABLES, x, target=target, key=key)
    spec, keys = jax.sharding.PartitionSpec("batch"), jax.random.split(KEY, 3)
    maps = jax.jit(jax.shard_map(call, mesh=mesh, in_specs=spec, out_specs=spec))(X, TARGETS, keys)
    close(maps, with_a_key_each(make, keys))


@every_explainer
def test_on_an_explicit_mesh(make):
    """Where the sharding is a part of every value's type, JAX refuses what would gather the batch."""
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(jax.sharding.AxisType.Explicit,), devices=jax.devices()[:3])
    with jax.set_mesh(mesh):
        variables = jax.device_put(VARIABLES, jax.NamedSharding(mesh, jax.P()))
        x, targets = jax.device_put((X, TARGETS), jax.NamedSharding(mesh, jax.P("batch")))
        maps = jax.jit(make(APPLY))(variables, x, target=targets, key=KEY)
    assert maps.sharding.spec[0] == "batch"
    close(maps, expected(make), 1e-6)  # random numbers are drawn in float32


@every_explainer
def test_sharded_over_devices(make):
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:3])
    x = jax.device_put(X, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch")))
    maps = jitted(make)(VARIABLES, x, target=TARGETS, key=KEY)
    close(maps, expected(make))
