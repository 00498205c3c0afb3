"""Class activation maps, FEM and attributions of layers, by their definitions."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name

import jaxplain
from jaxplain._reductions import over_largest
from jaxplain.features._full_grad import full_gradient
from jaxplain.features._maps import unit_range
from tests.close import within
from tests.convolution import conv
from tests.features.networks import NET_IN, W1, W3, X
from tests.zoo import ZOO

close = within(1e-9)
NET = NET_IN["linen"]
TARGETS = jnp.array([3, 1])
MAPS = {
    name: getattr(jaxplain, name)
    for name in (
        *("cam", "grad_cam", "grad_cam_plus_plus", "xgrad_cam", "hires_cam", "layer_cam", "grad_cam_elementwise"),
        *("shapley_cam", "eigen_cam", "eigen_grad_cam", "score_cam", "ablation_cam", "fem"),
    )
}
every_map = pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)


@functools.cache
def jitted(framework, make):
    return jax.jit(make(NET_IN[framework], upsample=False))


@every_map
@pytest.mark.parametrize("framework", ["equinox", "nnx", "plain"])
def test_frameworks_agree(make, framework):
    wanted = jitted("linen", make)(X, target=TARGETS)
    assert wanted.shape == (2, 4, 4)
    close(jitted(framework, make)(X, target=TARGETS), wanted)


@every_map
def test_calls_are_independent(make):
    explain = make(NET)
    first = explain(X, target=TARGETS)
    assert first.shape == X.shape[:3]
    explain(X[::-1], target=jnp.array([0, 4]))
    np.testing.assert_array_equal(explain(X, target=TARGETS), first)
    for i in range(2):
        close(explain(X[i : i + 1], target=int(TARGETS[i]))[0], first[i])


TURNED = {  # the same network where height and width change places, in front of it or in its last convolution
    "before": lambda x: of_pixels(x.transpose(0, 2, 1, 3), ("NHWC", "HWIO", "NHWC")),
    "inside": lambda x: of_pixels(x, ("NHWC", "HWIO", "NWHC")),
    "channels first": lambda x: of_pixels(x.transpose(0, 3, 1, 2), ("NCHW", "HWIO", "NCWH")),
}


def of_pixels(x, layout):
    features = jax.lax.conv_general_dilated(x, W1, (1, 1), "SAME", dimension_numbers=layout)
    space = tuple(axis for axis in (1, 2, 3) if layout[2][axis] != "C")
    return jax.nn.relu(features).mean(axis=space) @ jnp.eye(4)


@every_map
def test_maps_lie_as_the_image_does_where_the_network_turns_it(make):
    x = jax.random.normal(jax.random.key(3), (2, 6, 10, 3))
    explain = make(lambda x: of_pixels(x, ("NHWC", "HWIO", "NHWC")))
    as_it_is, turned = explain(x, target=TARGETS), explain(x.transpose(0, 2, 1, 3), target=TARGETS)
    wanted = {"before": turned.transpose(0, 2, 1), "inside": as_it_is, "channels first": as_it_is}
    for place, network in TURNED.items():
        close(make(network)(x, target=TARGETS), wanted[place])


def test_grad_cam_is_cam_over_the_number_of_positions():
    cam, grad_cam = (
        jax.jit(make(NET, upsample=False))(X, target=TARGETS) for make in (jaxplain.cam, jaxplain.grad_cam)
    )
    close(grad_cam, cam / 16)
    features = jaxplain.tap(NET)(X).features
    close(cam, jnp.einsum("nhwk,kn->nhw", features, W3[:, TARGETS]))
    close(cam.mean(axis=(1, 2)), NET(X)[jnp.arange(2), TARGETS])


def test_grad_cam_costs_one_forward_pass():
    """Counted by the compiler, on a network that is deep in front of the layer."""

    def flops(f, *args):
        return jax.jit(f).lower(*args).compile().cost_analysis()["flops"]

    def network(x):
        for _ in range(6):
            x = nn.relu(conv(x, kernel))
        return x.mean(axis=(1, 2)) @ jnp.ones((16, 5))

    kernel, x = jnp.full((3, 3, 16, 16), 0.1), jnp.ones((2, 16, 16, 16))
    forward = flops(network, x)
    assert flops(jaxplain.grad_cam(network), x) < 1.1 * forward
    assert flops(jax.grad(lambda x: network(x)[:, 0].sum()), x) > 1.9 * forward


def test_shapley_cam_by_the_whole_second_derivative():
    behind = lambda A: (jnp.tanh(A).mean(axis=(1, 2)) ** 2 @ W3) * 3  # curved
    f = lambda x: behind(checkpoint_name(x, "features"))
    A = jax.random.normal(jax.random.key(0), (2, 3, 3, W3.shape[0]), jnp.float64)
    for n, target in enumerate(TARGETS):
        score = lambda a, target=target: behind(a.reshape(1, *A.shape[1:]))[0, target]
        g, H = jax.grad(score)(A[n].ravel()), jax.hessian(score)(A[n].ravel())
        weights = (g - H @ A[n].ravel() / 2).reshape(A.shape[1:]).mean(axis=(0, 1))
        close(jaxplain.shapley_cam(f, "features")(A, target=TARGETS)[n], A[n] @ weights)


def test_shapley_cam_is_grad_cam_where_nothing_is_curved():
    close(jaxplain.shapley_cam(NET)(X, target=TARGETS), jaxplain.grad_cam(NET)(X, target=TARGETS))


def test_finer_cam_is_the_difference_of_two_maps():
    explain = jaxplain.grad_cam(NET)
    second = NET(X).at[jnp.arange(2), TARGETS].set(-jnp.inf).argmax(axis=1)
    finer = jaxplain.contrast(explain, "runner_up")(X, target=TARGETS)
    close(finer, explain(X, target=TARGETS) - explain(X, target=second))


def naive_fem(features, k=2.0):
    """The paper's formula, a channel of an image at a time."""
    maps = []
    for image in np.asarray(features):
        total = np.zeros(image.shape[:2])
        for channel in np.moveaxis(image, -1, 0):
            total += (channel > channel.mean() + k * channel.std()) * channel.mean()
        maps.append(total / total.max() if total.max() > 0 else total)
    return np.stack(maps)


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0])
def test_fem_is_the_papers_formula(k):
    features = jaxplain.tap(NET)(X).features
    close(jax.jit(jaxplain.fem(NET, k=k, upsample=False))(X), naive_fem(features, k))


def test_fem_knows_no_class_and_ignores_constant_channels():
    close(jaxplain.fem(NET)(X, target=0), jaxplain.fem(NET)(X, target=4))
    for value in (1.0, 0.1, 1 / 3):  # whose means are rounded
        constant = lambda x, value=value: checkpoint_name(0 * x + value, "features").mean(axis=(1, 2))
        np.testing.assert_array_equal(jaxplain.fem(constant, "features")(X[:, :7].astype(jnp.float32)), 0)


def test_fem_warns_of_small_maps():
    tiny = lambda x: checkpoint_name(x[:, :1, :5], "features").mean(axis=(1, 2))
    with pytest.warns(UserWarning, match="a layer with 5 positions has none beyond 2.0 standard deviations"):
        np.testing.assert_array_equal(jaxplain.fem(tiny, "features")(X), 0)


def test_multilayer_fem():
    explain = functools.partial(jaxplain.multilayer_fem, NET_IN["linen"], ["conv1", "conv2"])
    maps = jnp.stack([jaxplain.fem(NET, layer)(X) for layer in ("conv1", "conv2")])
    close(explain()(X), maps.mean(axis=0))
    close(explain(combine="product")(X), maps[0] * maps[1])
    with pytest.raises(ValueError, match="use fem for one"):
        jaxplain.multilayer_fem(NET, "conv1")


def test_several_layers():
    maps = jnp.stack([jaxplain.grad_cam(NET, layer)(X, target=TARGETS) for layer in ("conv1", "conv2")])
    statistics = {
        "mean": maps.mean(axis=0),
        "sum": maps.sum(axis=0),
        "max": maps.max(axis=0),
        "product": maps.prod(axis=0),
    }
    for combine, wanted in statistics.items():
        close(jaxplain.grad_cam(NET, ["conv1", "conv2"], combine=combine)(X, target=TARGETS), wanted)
    spread = jaxplain.grad_cam(NET, ["conv1", "conv2"], combine=lambda maps: jnp.ptp(maps, axis=0))
    close(spread(X, target=TARGETS), jnp.ptp(maps, axis=0))


def test_maps_are_enlarged_bilinearly():
    small = jaxplain.grad_cam(NET, upsample=False)(X, target=TARGETS)
    close(jaxplain.grad_cam(NET)(X, target=TARGETS), jax.image.resize(small, (2, 8, 8), "bilinear"))


@pytest.mark.parametrize("of", [None, "output", "probability"])
def test_score_cam_by_its_definition(of):
    scores = jax.nn.softmax if of == "probability" else lambda logits: logits  # the default is the output
    options = {"of": of} if of else {}
    features = np.asarray(jaxplain.tap(NET)(X).features)
    weights = []
    for k in range(6):
        mask = jax.image.resize(features[..., k], (2, 8, 8), "bilinear")
        low, high = (f(axis=(1, 2), keepdims=True) for f in (mask.min, mask.max))
        mask = np.where(high > low, (mask - low) / np.where(high > low, high - low, 1), 0)
        weights.append(scores(NET(X * mask[..., None]))[jnp.arange(2), TARGETS])
    weights = jax.nn.softmax(jnp.stack(weights), axis=0)
    close(
        jaxplain.score_cam(NET, upsample=False, chunk=4, **options)(X, target=TARGETS),
        np.einsum("nhwk,kn->nhw", features, weights),
    )


def test_a_subset_of_channels():
    """Asked for as many as there are, nothing changes; for fewer, the strongest of each image are kept."""
    for make in (jaxplain.score_cam, jaxplain.ablation_cam):
        close(make(NET, top=6)(X, target=TARGETS), make(NET)(X, target=TARGETS))
    features = jaxplain.tap(NET)(X).features
    z = NET(X)[jnp.arange(2), TARGETS]
    total = jnp.zeros((2, 4, 4))
    for i, k in enumerate((features**2).sum(axis=(1, 2)).argmax(axis=1).tolist()):
        share = features[i, ..., k].mean() * W3[k, TARGETS[i]] / z[i]
        total = total.at[i].set(share * features[i, ..., k])
    close(jaxplain.ablation_cam(NET, top=1, upsample=False)(X, target=TARGETS), total)


@pytest.mark.parametrize("make", [jaxplain.score_cam, jaxplain.ablation_cam])
def test_memory_grows_no_more_than_the_features(make):
    def memory(channels):
        def network(x):
            features = checkpoint_name(x[..., :1] * jnp.ones(channels).reshape(1, 1, 1, -1), "features")
            return jnp.tanh(features.mean(axis=(1, 2)).sum(axis=1, keepdims=True) + x.sum(axis=(1, 2)))

        x = jnp.ones((1, 64, 64, 3))
        compiled = jax.jit(make(network, "features", chunk=4)).lower(x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(512) < 1.05 * 8 * memory(64)  # as large as the features are; not as the channels times these


def test_eigen_cam_is_the_first_principal_component():
    features = np.asarray(jaxplain.tap(NET)(X).features)
    maps = jaxplain.eigen_cam(NET, upsample=False)(X)
    for image, got in zip(features.reshape(2, 16, 6), np.asarray(maps), strict=True):
        centred = image - image.mean(axis=0)
        component = centred @ np.linalg.svd(centred)[2][0]
        close(got.ravel(), component * np.sign(component @ image.sum(axis=1)))


def test_eigen_cam_is_differentiable_where_channels_are_dead():
    dead = lambda w, x: checkpoint_name(
        jnp.tanh(x) * jnp.stack([w, 0 * w, 2 * w]).reshape(1, 1, 1, 3), "features"
    ).mean(axis=(1, 2))
    loss = lambda w: (jaxplain.eigen_cam(dead, "features")(w, X) ** 2).sum()
    np.testing.assert_allclose(jax.grad(loss)(1.5), 2 * loss(1.5) / 1.5)  # the map is linear in w


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (2, 2), strides=2, name="patches", param_dtype=jnp.float64)(x).reshape(len(x), 16, 8)
        x = jnp.concatenate([jnp.zeros((len(x), 1, 8)), x], axis=1)
        for i in range(2):
            y = nn.LayerNorm(param_dtype=jnp.float64)(x)
            y = nn.MultiHeadDotProductAttention(2, param_dtype=jnp.float64, name=f"attention{i}")(y)
            x = checkpoint_name(x + y, f"block{i}")
        return nn.Dense(5, param_dtype=jnp.float64)(x[:, 0])


def test_tokens_of_a_transformer():
    net = Transformer()
    variables = jax.jit(net.init)(jax.random.key(0), X)
    explain = jaxplain.hires_cam(net.apply, "block0", grid=(4, 4), upsample=False)

    @jax.jit
    def wanted(variables, x):
        _, features, pullback = jaxplain.tap(net.apply, "block0")(variables, x)
        gradient = pullback(jax.nn.one_hot(TARGETS, 5, dtype=X.dtype))
        return (gradient * features).sum(axis=-1)[:, 1:].reshape(2, 4, 4)

    close(jax.jit(explain)(variables, X, target=TARGETS), wanted(variables, X))
    enlarged = jaxplain.hires_cam(net.apply, "block0", grid=(4, 4))
    assert jax.eval_shape(enlarged, variables, X).shape == (2, 8, 8)
    for options, message in {
        (("layer", "block0"),): r"tokens need grid=\(rows, columns\)",
        (("layer", "block0"), ("grid", (5, 5))): r"grid=\(5, 5\) needs tokens \(N, T, K\), T at least 25",
        (): "behind its last convolution the network goes on with many positions",
    }.items():
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(jaxplain.grad_cam(net.apply, **dict(options)), variables, X)


@pytest.mark.parametrize(
    "head",
    [
        lambda a: a.max(axis=(1, 2)) @ W3,
        lambda a: jax.nn.softmax(a.mean(axis=(1, 2)) @ W3),
        lambda a: (a**2).mean(axis=(1, 2)),
    ],
)
def test_cam_refuses_networks_of_another_form(head):
    apply = lambda x: head(checkpoint_name(jnp.concatenate([x, x], axis=-1), "features"))
    with pytest.raises(
        ValueError, match="cam needs a network that ends in features, a global average and dense layers"
    ):
        jaxplain.cam(apply, "features")(X)


def test_full_grad_where_products_resize_the_features():
    case = ZOO["vgg"]  # which pools to a fixed size by products with interpolation matrices, axes in their order
    terms = full_gradient(lambda x: case.apply(case.variables, x), case.args[1], TARGETS)
    assert all(len(term) == len(case.args[1]) for term in terms.biases)
    total = sum(term.sum(axis=tuple(range(1, term.ndim))) for term in (terms.input, *terms.biases))
    close(total, case.logits[jnp.arange(2), TARGETS])
    assert jaxplain.full_grad(case.apply)(*case.args, target=TARGETS).shape == (2, 16, 16)


def test_full_grad_is_complete():
    def network(x):
        x = nn.relu(jax.lax.conv(x.transpose(0, 3, 1, 2), kernel, (1, 1), "SAME") + bias.reshape(1, 4, 1, 1))
        return nn.relu(x.max(axis=(2, 3)) @ dense + bias[None]) @ dense

    kernel, dense = (jax.random.normal(jax.random.key(i), s, X.dtype) for i, s in enumerate([(4, 3, 3, 3), (4, 4)]))
    bias = jnp.array([0.5, -0.3, 0.2, 1.0])
    terms = full_gradient(network, X, TARGETS)
    parts = [terms.input, *terms.biases]
    assert terms.biases[0].shape == (2, 8, 8, 4)  # channels last
    total = sum(part.reshape(2, -1).sum(axis=1) for part in parts)
    close(total, network(X)[jnp.arange(2), TARGETS])
    unscaled = jaxplain.full_grad(network, rescale=False)(X, target=TARGETS)
    close(unscaled, sum(jnp.abs(part).sum(axis=-1) for part in parts if part.ndim == 4))
    assert jaxplain.full_grad(network)(X, target=TARGETS).max() <= 3 + 4


def behind_a_depthwise_convolution(weights, x, *, pool):
    """Convolution, maximum, depthwise convolution, BatchNorm, and a rectifier without a kink in the way."""
    x = nn.relu(conv(x, weights["first"]) + weights["bias"][None, None, None])
    x = nn.max_pool(x, (2, 2), (2, 2)) if pool else x
    x = conv(x, weights["depthwise"])
    scale = weights["scale"] * jax.lax.rsqrt(weights["variance"] + 1e-3)
    return nn.relu(x * scale[None, None, None] + weights["shift"][None, None, None]).mean(axis=(1, 2)) @ weights["head"]


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("pool", [True, False])
def test_full_grad_has_a_derivative_in_the_parameters(pool, rescale):
    shapes = {
        "first": (3, 3, 3, 4),
        "bias": (4,),
        "depthwise": (3, 3, 1, 4),
        "scale": (4,),
        "shift": (4,),
        "head": (4, 4),
    }
    weights = {name: jax.random.normal(jax.random.key(i), s, X.dtype) for i, (name, s) in enumerate(shapes.items())}
    weights["variance"] = jnp.array([0.5, 1.0, 2.0, 0.1], X.dtype)
    direction = jax.tree.map(lambda w: jax.random.normal(jax.random.key(w.size), w.shape, w.dtype), weights)
    explain = jaxplain.full_grad(functools.partial(behind_a_depthwise_convolution, pool=pool), rescale=rescale)
    loss = jax.jit(lambda w, x: (explain(w, x, target=TARGETS) ** 2).sum())
    slope = jax.jit(jax.grad(loss))
    along = lambda step: jax.tree.map(lambda w, d: w + step * d, weights, direction)
    finite = (loss(along(1e-6), X) - loss(along(-1e-6), X)) / 2e-6
    exact = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, slope(weights, X), direction)))
    np.testing.assert_allclose(exact, finite, rtol=1e-4)
    small = jax.tree.map(lambda w: w.astype(jnp.float32), weights)
    assert all(jnp.isfinite(v).all() for v in jax.tree.leaves(slope(small, X.astype(jnp.float32))))


@pytest.mark.parametrize("scale", [unit_range, over_largest, lambda a: jaxplain.heatmap(a, "max_abs")])
def test_maxima_of_what_is_computed_twice_have_a_derivative(scale):
    """Behind an accelerated depthwise convolution and BatchNorm the compiler rounds a value in two ways."""

    @jaxplain.accelerate
    def loss(w, x):
        y = conv(x, w[0])
        return (scale((y - 0.1) * w[1][None, None, None] * jax.lax.rsqrt(w[1] + 1e-3)[None, None, None]) ** 2).sum()

    x = X.astype(jnp.float32)
    w = jax.random.normal(jax.random.key(0), (3, 3, 1, 3), jnp.float32), jnp.array([1.0, 2.0, 3.0], jnp.float32)
    slope = jax.jit(jax.grad(loss))(w, x)
    exact = jax.grad(loss)(*jax.tree.map(lambda a: a.astype(jnp.float64), (w, x)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4 * jnp.abs(b).max()), slope, exact)


def test_full_grad_refuses_loops():
    loop = lambda x: jax.lax.fori_loop(0, 2, lambda _, x: jnp.tanh(x @ jnp.ones((3, 3))), x).mean(axis=(1, 2))
    with pytest.raises(ValueError, match="full_grad does not look into loops"):
        jaxplain.full_grad(loop)(X)


def test_conductance_is_complete():
    smooth = lambda x: jnp.tanh(checkpoint_name(jnp.sin(x), "features").mean(axis=(1, 2)) @ W3[:3])
    explain = jaxplain.conductance(smooth, "features", baseline=0.2, upsample=False)
    total = explain(X, target=TARGETS).sum(axis=(1, 2, 3))
    close(total, (smooth(X) - smooth(jnp.full_like(X, 0.2)))[jnp.arange(2), TARGETS])
    close(jaxplain.conductance(smooth, "features", baseline=0.2)(X, target=TARGETS).sum(axis=(1, 2)), total)


class Halves(nn.Module):
    """A layer of two features."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(3, (3, 3))(x)
        return nn.relu(y), nn.tanh(y)


class AfterHalves(nn.Module):
    @nn.compact
    def __call__(self, x):
        rectified, squashed = Halves(name="halves")(x)
        return nn.Dense(4)((2 * rectified + squashed).mean(axis=(1, 2)))


@pytest.mark.parametrize(("layer", "part", "factor"), [("halves[0]", nn.relu, 2), ("halves[1]", nn.tanh, 1)])
def test_conductance_of_one_of_two_features(layer, part, factor):
    """The head is linear: what flows through a feature is what its change makes of the score."""
    net = AfterHalves()
    variables = net.init(jax.random.key(1), X)
    feature = lambda x: part(nn.Conv(3, (3, 3)).apply({"params": variables["params"]["halves"]["Conv_0"]}, x))
    change = factor * (feature(X) - feature(jnp.zeros_like(X))).mean(axis=(1, 2))
    wanted = (change * variables["params"]["Dense_0"]["kernel"][:, TARGETS].T).sum(axis=1)
    found = jaxplain.conductance(net.apply, layer, steps=400, upsample=False)(variables, X, target=TARGETS)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), wanted, rtol=1e-2)


def test_relevance_at_a_layer():
    """LRP of the rest of the network is LRP stopped at the layer."""
    composite = jaxplain.composites.epsilon_plus()
    method = functools.partial(jaxplain.lrp, composite=composite)
    ours = jaxplain.layer_attribution(NET, "conv2", method, upsample=False)(X, target=TARGETS)
    close(ours, jaxplain.lrp(NET, composite, layer="conv2")(X, target=TARGETS))


def test_random_methods_at_a_layer():
    method = functools.partial(jaxplain.smoothgrad, samples=3)
    explain = jaxplain.layer_attribution(NET, "conv2", method)
    assert explain(X, key=jax.random.key(0)).shape == (2, 8, 8)
    with pytest.raises(ValueError, match="pass key="):
        explain(X)


def test_neurons():
    features = lambda x: jaxplain.tap(NET, "conv2")(x).features
    wanted = jax.grad(lambda x: features(x)[:, 1, 2, 4].sum())(X)
    close(jaxplain.neuron_attribution(NET, "conv2", (1, 2, 4))(X), wanted)
    channel = jax.grad(lambda x: features(x)[..., 4].sum())(X)
    close(jaxplain.neuron_attribution(NET, "conv2", 4)(X), channel)
    close(jaxplain.neuron_attribution(NET, "conv2", lambda a: a[..., 4].sum(axis=(1, 2)))(X), channel)
    for neuron in (6, (1, 2), (4, 0, 0)):
        with pytest.raises(ValueError, match="is none of the layer's"):
            jaxplain.neuron_attribution(NET, "conv2", neuron)(X)
    with pytest.raises(ValueError, match="leave target=None"):
        jaxplain.neuron_attribution(NET, "conv2", 4)(X, target=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxplain.grad_cam(NET, combine="median"), "unknown combine='median': choose mean, sum, max, product"),
        (lambda: jaxplain.grad_cam(NET, []), r"layer=\[\] names no layer"),
        (lambda: jaxplain.score_cam(NET, chunk=0), "chunk=0 must be a positive integer"),
        (lambda: jaxplain.ablation_cam(NET, top=-1), "top=-1 must be a positive integer"),
        (lambda: jaxplain.guided_grad_cam(NET, upsample=False), "guided_grad_cam has the input's shape"),
        (lambda: jaxplain.grad_cam(NET, "head")(X), "features without positions make no map"),
        (lambda: jaxplain.conductance(NET, "head")(X), "features without positions make no map"),
        (lambda: jaxplain.grad_cam(NET, ["conv1", "conv2"], upsample=False)(X), "combine at the input's only"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("layer", [3, ["conv1", 3]])
def test_layers_are_names(layer):
    with pytest.raises(TypeError, match=r"layer=3 is no name: jaxplain.layers\(apply\)\(\*args\) lists the names"):
        jaxplain.grad_cam(NET, layer)


def test_unknown_options_are_errors():
    with pytest.raises(TypeError, match="upsampled"):
        jaxplain.grad_cam(NET, upsampled=False)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@every_map
def test_half_precision(make, dtype):
    """The dtype is kept, and nothing is lost below the smallest number, as the cube of a gradient may be."""
    weights, x = (a.astype(dtype) for a in (W3[:3], jnp.abs(X)))
    network = lambda w, x: (checkpoint_name(x * 2, "features").mean(axis=(1, 2)) @ w).astype(x.dtype)
    explain = lambda w, x, upsample: make(network, "features", upsample=upsample)(w, x, target=1)
    run = jax.jit(lambda w, x: (explain(w, x, True), explain(w, x, False)))
    wanted, _ = run(weights.astype(float), x.astype(float))
    for got in run(weights, x):
        assert got.dtype == dtype
        close(got.astype(float), wanted, 0.03)


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
def test_half_precision_inside(make):
    """Of inputs in bfloat16 to a network that goes on in float32, and the other way round."""
    for outside, inside in [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.bfloat16)]:
        network = lambda x, outside=outside, inside=inside: checkpoint_name(
            jax.lax.mul(x, jnp.asarray(2, outside)).astype(inside), "features"
        ).mean(axis=(1, 2))
        explain = make(network, "features")
        assert jax.eval_shape(lambda x, explain=explain: explain(x, target=1), X.astype(outside)).dtype == outside


def test_positions_of_one_and_three_dimensions():
    for ndim in (1, 3):
        x = jax.random.normal(jax.random.key(0), (2, *(4,) * ndim, 3), jnp.float64)
        apply = lambda x, axes=tuple(range(1, ndim + 1)): checkpoint_name(x**2, "features").mean(axis=axes)
        got = jaxplain.grad_cam(apply, "features")(x, target=1)
        close(got, x[..., 1] ** 2 / math.prod(x.shape[1:-1]))


@pytest.mark.parametrize("examples", [1, 2])
def test_full_grad_of_layers_that_have_positions_among_their_examples(examples):
    def halves(x):  # each half of the image by itself
        x = x.reshape(x.shape[0], 2, 4, 8, 3).reshape(-1, 4, 8, 3)
        return (conv(x, jnp.ones((3, 3, 3, 2))) + 1.0).mean(axis=(1, 2)).reshape(-1, 4)

    with pytest.raises(ValueError, match=r"positions among its examples, [24] where the batch is [12]: keep"):
        jaxplain.full_grad(halves)(jnp.ones((examples, 8, 8, 3)), target=1)
