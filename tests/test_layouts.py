"""Networks of images (N, C, H, W) are explained and measured as their twins of images (N, H, W, C) are."""

import functools
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import checkpoint_name
from PIL import Image

import jaxplain
from jaxplain import metrics
from jaxplain._channels import channel_axis
from jaxplain._taxonomy import METHODS
from jaxplain.cli._network import Network
from jaxplain.perturbation import generators
from tests.attending import attending
from tests.close import within
from tests.metrics.test_metric_contracts import OF_ATTRIBUTIONS
from tests.test_contracts import OPTIONS

KEY, TARGETS = jax.random.key(5), jnp.array([3, 1])
SHAPE = (2, 8, 9, 3)
random = lambda seed, *shape: np.random.default_rng(seed).normal(size=shape)


def parameters(colours=3):
    return {
        "conv": {"kernel": random(0, 3, 3, colours, 4), "bias": random(1, 4)},
        "conv2": {"kernel": random(2, 3, 3, 4, 5) / 3, "bias": random(3, 5)},
        "head": {"kernel": random(4, 5, 4), "bias": random(5, 4)},
    }


def convolve(x, kernel, layout, kernel_layout, **options):
    numbers = (layout, kernel_layout, layout)
    return jax.lax.conv_general_dilated(
        x, kernel, dimension_numbers=numbers, **{"window_strides": (1, 1), "padding": "SAME"} | options
    )


def network(first, p, x):
    """Two convolutions and a global average, of the same parameters: channels first or last."""
    layout, channels = ("NCHW", (1, -1, 1, 1)) if first else ("NHWC", (1, 1, 1, -1))

    def conv(x, name):
        return jax.nn.relu(convolve(x, p[name]["kernel"], layout, "HWIO") + p[name]["bias"].reshape(channels))

    with jax.named_scope("block"):
        x = conv(x, "conv")
    x = checkpoint_name(conv(x, "conv2"), "features")
    return x.mean(axis=(2, 3) if first else (1, 2)) @ p["head"]["kernel"] + p["head"]["bias"][None]


LAST, FIRST = functools.partial(network, False), functools.partial(network, True)


def turned(p, x):
    """A network of images (N, C, H, W) that turns them itself, so that random numbers fall on the same values."""
    return LAST(p, jnp.moveaxis(x, 1, -1))


def in_front(a):
    """What counts colours last, images or baselines, with the colours before rows and columns."""
    return np.moveaxis(a, -1, -3) if isinstance(a, np.ndarray | jax.Array) and a.ndim >= 4 else a


close = within(1e-9)


# ------------------------------------------------------------------------------------------------------ every method

BASELINE, BASELINES = random(6, 1, *SHAPE[1:]) * 0.3, random(7, 3, *SHAPE[1:]) * 0.3
SEGMENTS = jaxplain.perturbation.grid_segments(SHAPE[1:3], (3, 3))
OF_COLOURS = {  # options that are as large as the images
    "integrated_gradients": {"baseline": BASELINE},
    "guided_integrated_gradients": {"baseline": BASELINE},
    "expected_gradients": {"baselines": BASELINES},
    "deeplift": {"baseline": BASELINE},
    "deep_shap": {"baselines": BASELINES},
    "conductance": {"baseline": BASELINE},
    "internal_influence": {"baseline": BASELINE},
    "fgvis": {"baseline": BASELINE},
    "occlusion": {"baseline": BASELINE},
    "rise": {"baseline": BASELINE},
    "feature_ablation": {"baseline": BASELINE, "segments": SEGMENTS},
    "sobol": {"baseline": BASELINE, "segments": SEGMENTS},
    "hsic": {"baseline": BASELINE, "segments": SEGMENTS},
    "xrai": {"segments": [SEGMENTS, SEGMENTS // 3]},
    "lime": {"baseline": BASELINE, "segments": SEGMENTS},
    "kernel_shap": {"baseline": BASELINE, "segments": SEGMENTS},
    "perceptual_ball": {"layers": 2, "bounds": (-2 + BASELINE, 2 + BASELINE)},
}


def fitted(make):
    """A pattern method, its patterns those of the network itself."""

    def explained(apply):
        def explain(p, x, target, key):
            bound = functools.partial(apply, p)
            return make(bound, jaxplain.fit_patterns(bound, batches=[x]))(x, target=target)

        return explain

    return explained


def of_a_neuron(apply):
    explain = jaxplain.neuron_attribution(apply, neuron=2)
    return lambda p, x, target, key: explain(p, x)


def made(name, apply, options):
    """The explainer, called with parameters, images, target and key."""
    if name in ("pattern_net", "pattern_attribution"):
        return fitted(METHODS[name].make)(apply)
    if "attention" in METHODS[name].needs:
        apply = attending(apply, 1 if apply is FIRST else -1)
    return of_a_neuron(apply) if name == "neuron_attribution" else METHODS[name].make(apply, **options)


MORE = {  # what takes options that change what is returned
    "neurons_of_a_layer": lambda f, **_: jaxplain.layer_attribution(f, "features", upsample=False),
    "excitation_at_a_layer": lambda f, **_: jaxplain.excitation_backprop(f, "block"),
    "norms_of_the_gradient": lambda f, **_: jaxplain.heatmap(jaxplain.gradient(f), "norm"),
    "largest_of_lrp_in_chunks": lambda f, **_: jaxplain.heatmap(jaxplain.chunked(jaxplain.lrp(f), 1), "max_abs"),
    "map_times_gradient": lambda f, **_: jaxplain.multiply(jaxplain.grad_cam(f), jaxplain.gradient(f)),
    "mean_of_map_and_gradient": lambda f, **_: jaxplain.ensemble([jaxplain.gradient(f), jaxplain.grad_cam(f)]),
    "smooth_map": lambda f, **_: jaxplain.smooth(jaxplain.grad_cam(f), samples=2, stdev=0.0),
}
NOISE = ("smoothgrad", "vargrad")


@pytest.mark.parametrize("name", [*METHODS, *MORE])
def test_maps_of_every_method_are_those_of_the_twin(name):
    p, x, xc = parameters(), random(8, *SHAPE), in_front(random(8, *SHAPE))
    options = OPTIONS.get(name, {}) | OF_COLOURS.get(name, {})
    options_first = {k: tuple(map(in_front, v)) if k == "bounds" else in_front(v) for k, v in options.items()}
    make = MORE.get(name, functools.partial(made, name))
    make = make if name in MORE else lambda f, **options: made(name, f, options)
    if name in NOISE:
        want = jax.jit(make(turned, **options))(p, xc, target=TARGETS, key=KEY)
    else:
        want = jax.jit(make(LAST, **options))(p, x, target=TARGETS, key=KEY)
        want = in_front(want) if want.shape == x.shape else want
    maps = jax.jit(make(FIRST, **options_first))(p, xc, target=TARGETS, key=KEY)
    assert np.abs(want).max() > 0
    close(maps, want)


SHAPES = [(2, 16, 20, 1), (2, 16, 20, 4), (2, 3, 3, 3), (1, 5, 6, 1), (2, 16, 20, 3), (3, 4, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_grey_and_other_images_and_of_those_as_high_as_they_have_channels(shape):
    p, x = parameters(shape[-1]), random(9, *shape)
    for make in (jaxplain.layer_cam, lambda f: jaxplain.heatmap(jaxplain.input_x_gradient(f))):
        maps = make(FIRST)(p, in_front(x), target=2)
        assert maps.shape == shape[:3]
        close(maps, make(LAST)(p, x, target=2))


@pytest.mark.parametrize("make", [jaxplain.layer_cam, jaxplain.guided_grad_cam])
def test_in_float32_under_jit(make):
    low = jax.tree.map(jnp.float32, (parameters(), random(8, 2, 16, 20, 3)))
    want = make(LAST)(*jax.tree.map(jnp.float64, low), target=TARGETS)
    maps = jax.jit(make(FIRST))(low[0], in_front(low[1]), target=TARGETS)
    assert maps.dtype == jnp.float32
    close(maps, in_front(want) if want.ndim == 4 else want, 1e-4)


# ------------------------------------------------------------------------------------------------------ every metric

OF_METRICS = {
    "insertion": {"baseline": BASELINE},
    "deletion": {"baseline": "blur"},
    "pixel_flipping": {"baseline": "mean"},
    "irof": {"segments": np.arange(72).reshape(8, 9) // 7},
    "road": {"noise": 0.0},
    "infidelity": {"baseline": BASELINE},
}


@pytest.mark.parametrize("colours", [True, False])
@pytest.mark.parametrize("name", OF_ATTRIBUTIONS)
def test_values_of_every_metric_are_those_of_the_twin(name, colours):
    p, x, a = parameters(), random(8, *SHAPE), random(10, *SHAPE)
    make, options = OF_ATTRIBUTIONS[name]
    options = options | {k: v for k, v in OF_METRICS.get(name, {}).items() if k in inspect.signature(make).parameters}
    a = a if colours else a.sum(axis=-1)
    want = jax.jit(make(LAST, **options))(p, x, attribution=a, target=TARGETS, key=KEY)
    metric = jax.jit(make(FIRST, **{k: in_front(v) for k, v in options.items()}))
    close(metric(p, in_front(x), attribution=in_front(a), target=TARGETS, key=KEY), want)


NEIGHBOURS = random(11, 4, 1, *SHAPE[1:]) * 0.1
AGAIN = {
    "max_sensitivity": lambda e, noise: metrics.max_sensitivity(e, noise=noise),
    "avg_sensitivity": lambda e, noise: metrics.avg_sensitivity(e, noise=noise),
    "local_lipschitz_estimate": lambda e, noise: metrics.local_lipschitz_estimate(e, noise=noise),
    "relative_input_stability": lambda e, noise: metrics.relative_input_stability(e, noise=noise),
    "relative_output_stability": lambda e, noise: metrics.relative_output_stability(e, noise=noise),
    "relative_representation_stability": lambda e, noise: metrics.relative_representation_stability(e, noise=noise),
    "continuity": lambda e, noise: metrics.continuity(e, steps=4),
    "adcc": lambda e, noise: metrics.adcc(e, baseline=0.1),
    "mprt": lambda e, noise: metrics.mprt(e, similarity=metrics.pcc),
    "smooth_mprt": lambda e, noise: metrics.smooth_mprt(e, noise=noise, similarity=metrics.pcc),
    "efficient_mprt": lambda e, noise: metrics.efficient_mprt(e),
    "random_logit": lambda e, noise: metrics.random_logit(e),
    "input_invariance": lambda e, noise: metrics.input_invariance(jaxplain.input_x_gradient, e.apply, shift=noise[0]),
}


@pytest.mark.parametrize("name", AGAIN)
def test_metrics_that_explain_again_agree_with_the_twin(name):
    p, x = parameters(), random(8, *SHAPE)
    values = [
        jax.jit(AGAIN[name](jaxplain.input_x_gradient(f), turn(NEIGHBOURS)))(p, turn(x), target=TARGETS, key=KEY)
        for f, turn in ((LAST, lambda a: a), (FIRST, in_front))
    ]
    close(*values)


def test_mosaics_superpixels_and_the_adapter_of_quantus():
    images, labels = random(12, 6, 8, 9, 3), jnp.arange(6) % 4
    tiles = [
        metrics.grid_images(a, labels, KEY, grids=2, channels=how)
        for a, how in ((images, "last"), (in_front(images), "first"))
    ]
    close(tiles[1].images, in_front(tiles[0].images))
    cut = jaxplain.perturbation.slic(in_front(images), segments=5, channels="first")
    np.testing.assert_array_equal(cut, jaxplain.perturbation.slic(images, segments=5))
    p, x = parameters(), in_front(images[:2])
    explain = metrics.quantus.explain_func(jaxplain.gradient(FIRST), p, channels="first")
    close(explain(None, x, TARGETS), metrics.quantus.explain_func(jaxplain.gradient(LAST), p)(None, x, TARGETS))


def test_maps_of_comparisons_are_measured_and_drawn_along_rows_and_columns():
    p, x = parameters(), random(8, 2, 8, 9, 3)
    methods, photographs = ["gradient", "grad_cam"], np.full((2, 8, 9, 3), 0.5)
    both = [
        jaxplain.compare(f, methods, metrics=["sparseness", "deletion"])(p, a, target=TARGETS)
        for f, a in ((LAST, x), (FIRST, in_front(x)))
    ]
    for method in methods:
        for name in ("sparseness", "deletion"):
            close(both[1].values[method][name], both[0].values[method][name])
    pictures = [np.asarray(c.panel(photographs)) for c in both]
    np.testing.assert_array_equal(*pictures)


def test_the_command_line_shows_a_photograph_upright():
    network = Network("own", FIRST, parameters(), lambda images: random(8, 1, 3, 8, 12), None)
    x, shown = network.prepare(Image.new("RGB", (60, 40)))
    assert (x.shape, np.shape(shown.pixels)) == ((1, 3, 8, 12), (40, 60, 3))


def test_generators_see_their_own_layout():
    x, p = random(13, 2, 8, 12, 3), parameters()
    made_of = lambda f, a: generators.train_generators(f, p, batches=[a, a + 1], key=KEY, features=2, depth=1)
    maps = [
        generators.similar_adversarial_generators(f, made_of(f, a))(p, a) for f, a in ((LAST, x), (FIRST, in_front(x)))
    ]
    close(maps[1], in_front(maps[0]), 1e-4)  # the variables of the generators are float32


# --------------------------------------------------------------------------------------- where the first convolution is


def conv_first(x, kernel):
    return convolve(x, kernel, "NCHW", "OIHW")


KERNEL = random(14, 4, 3, 3, 3)
LAYER = eqx.nn.Conv2d(3, 4, 3, padding=1, key=jax.random.key(0))
GREY_LAYER = eqx.nn.Conv2d(1, 4, 3, padding=1, key=jax.random.key(0))


def loop(x):
    def step(h, _):
        return jnp.tanh(h + conv_first(h, random(15, 3, 3, 3, 3))), None

    return jax.lax.scan(step, x, length=2)[0]


def pixels_unshuffled(x):
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(n, 4 * c, h // 2, w // 2)
    return conv_first(blocks, random(16, 4, 4 * c, 3, 3))


def windows(x):
    n, c, h, w = x.shape
    parts = x.reshape(n, c, h // 4, 4, w // 4, 4).transpose(0, 2, 4, 1, 3, 5).reshape(-1, c, 4, 4)
    return conv_first(parts, KERNEL).reshape(n, -1)


def blurred_by_channel(x):
    n, c, h, w = x.shape
    blur = conv_first(x.reshape(n * c, 1, h, w), np.full((1, 1, 3, 3), 1 / 9))
    return conv_first(blur.reshape(x.shape), KERNEL)


READ_FIRST = {
    "conv": lambda x: conv_first(x, KERNEL),
    "normalised": lambda x: conv_first(
        (x - x.mean((2, 3), keepdims=True)) / np.arange(1.0, 4).reshape(1, 3, 1, 1), KERNEL
    ),
    "turned": lambda x: LAST(parameters(), x.transpose(0, 2, 3, 1)),
    "in jit": jax.jit(lambda x: conv_first(jax.jit(jnp.tanh)(x), KERNEL)),
    "vmap": jax.vmap(LAYER),
    "vmap of batches of one": jax.vmap(lambda x: conv_first(x[None], KERNEL)[0]),
    "map": lambda x: jax.lax.map(LAYER, x),
    "loop": loop,
    "branch": lambda x: jax.lax.cond(x.sum() > 0, jnp.tanh, lambda x: conv_first(x, random(15, 3, 3, 3, 3)), x),
    "colours mixed": lambda x: conv_first(jnp.einsum("nchw,cd->ndhw", x, random(17, 3, 3)), KERNEL),
    "colours reversed": lambda x: conv_first(x[:, np.array([2, 1, 0])], KERNEL),
    "colours one by one": lambda x: conv_first(jnp.stack([x[:, 2], x[:, 1], x[:, 0]], axis=1), KERNEL),
    "resized and padded": lambda x: conv_first(
        jnp.pad(jax.image.resize(x, (*x.shape[:2], 7, 9), "linear"), ((0, 0), (0, 0), (1, 1), (2, 0))), KERNEL
    ),
    "space to depth": pixels_unshuffled,
    "windows": windows,
    "blurred channel by channel": blurred_by_channel,
    "depthwise": lambda x: convolve(x, random(18, 3, 1, 3, 3), "NCHW", "OIHW", feature_group_count=3),
    "accelerated": jaxplain.accelerate(lambda x: conv_first(x, KERNEL)),
    "checkpointed": jax.checkpoint(lambda x: conv_first(x, KERNEL)),
    "two branches": lambda x: conv_first(x, KERNEL) + LAST(parameters(), x.transpose(0, 2, 3, 1)).sum(),
    "said to be first": jaxplain.layout(lambda x: conv_first(x, KERNEL), channels="first"),
}


@pytest.mark.parametrize("shape", [(2, 3, 16, 20), (1, 3, 8, 8)], ids=str)
@pytest.mark.parametrize("f", READ_FIRST.values(), ids=list(READ_FIRST))
def test_the_axis_of_the_channels_is_read_off_the_first_convolution(f, shape):
    assert channel_axis(f, np.zeros(shape)) == 1
    assert channel_axis(lambda x: f(x.transpose(0, 3, 1, 2)), np.zeros((shape[0], *shape[2:], 3))) == 3


@pytest.mark.parametrize("n", [1, 2])
def test_of_a_grey_image_too(n):
    assert channel_axis(jax.vmap(GREY_LAYER), np.zeros((n, 1, 8, 9))) == 1
    assert channel_axis(lambda x: conv_first(jnp.repeat(x, 3, axis=1), KERNEL), np.zeros((n, 1, 8, 9))) == 1
    assert channel_axis(lambda x: LAST(parameters(), jnp.repeat(x, 3, axis=3)), np.zeros((n, 8, 9, 1))) == 3
    assert channel_axis(lambda x: jax.vmap(GREY_LAYER)(x[..., 0][:, None]), np.zeros((n, 8, 9, 1))) == 3


def test_sequences_and_volumes_have_channels_first_as_well():
    one = eqx.nn.Conv1d(3, 4, 3, key=jax.random.key(0))
    three = eqx.nn.Conv3d(2, 4, 3, key=jax.random.key(0))
    assert channel_axis(jax.vmap(one), np.zeros((2, 3, 9))) == 1
    assert channel_axis(jax.vmap(three), np.zeros((2, 2, 5, 6, 7))) == 1
    f = jax.vmap(lambda x: jax.nn.relu(one(x)).mean(axis=1))
    assert jaxplain.grad_cam(f)(np.ones((2, 3, 9))).shape == (2, 9)


# ------------------------------------------------------------------------------------------------- where nothing tells


def flat(x):
    return jnp.tanh(x.reshape(len(x), -1)) @ random(19, 8 * 9 * 3, 4)


def test_dense_networks_have_channels_last_unless_it_is_said():
    x = random(8, *SHAPE)
    occlusion = functools.partial(jaxplain.occlusion, window=(3, 3), stride=(2, 2))
    turned_flat = lambda x: flat(x.transpose(0, 2, 3, 1))
    want = occlusion(flat)(x, target=1)
    close(occlusion(jaxplain.layout(turned_flat, channels="first"))(in_front(x), target=1), want)
    close(occlusion(jaxplain.layout(flat, channels="last"))(x, target=1), want)
    said = jaxplain.layout(turned_flat, channels="first")
    close(
        jaxplain.heatmap(jaxplain.gradient(said))(in_front(x), target=1), jaxplain.gradient(flat)(x, target=1).sum(-1)
    )
    through = jax.jit(lambda x: said(x))  # a function of the wrapped one is laid out as it is
    a = jnp.repeat(want[..., None], 3, axis=3)
    measure = lambda f, x, a: metrics.deletion(f, steps=4)(x, attribution=a, target=1)
    close(measure(through, in_front(x), in_front(a)), measure(flat, x, a))


def test_channels_of_a_layer_that_no_convolution_made():
    def f(x):
        return checkpoint_name(jnp.tanh(x), "features").mean(axis=(2, 3)) @ random(20, 3, 4)

    x = random(8, *SHAPE)
    said = jaxplain.layout(f, channels="first")
    want = jaxplain.grad_cam(lambda x: f(jnp.moveaxis(x, -1, 1)), "features")(x, target=1)
    close(jaxplain.grad_cam(said, "features")(in_front(x), target=1), want)
    assert want.shape == SHAPE[:3]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p, x: jaxplain.occlusion(lambda x: x.sum((2, 3)))(x),
            r"images of shape \(2, 3, 8, 9\) .*jaxplain.layout",
        ),
        (lambda p, x: jaxplain.heatmap(x), r'channels were first, and nothing tells: say channels="first", or "last"'),
        (
            lambda p, x: metrics.sparseness(x),
            r"channels were first, and nothing tells: sum them before, jaxplain.heatmap",
        ),
        (lambda p, x: metrics.grid_images(x, jnp.arange(2), KEY, grids=1, side=1), 'say channels="first"'),
        (lambda p, x: jaxplain.perturbation.slic(x), 'say channels="first"'),
        (lambda p, x: jaxplain.visualize.colorize(x), 'say channels="first"'),
        (
            lambda p, x: jaxplain.grad_cam(jaxplain.layout(FIRST, channels="last"))(p, x),
            r"jaxplain.layout has the channels of the input at axis 3, the convolution at .*test_layouts.* at axis 1",
        ),
        (
            lambda p, x: jaxplain.heatmap(jaxplain.gradient(FIRST), channels="last")(p, x),
            "the network reads the channels of its input from axis 1: leave out channels='last'",
        ),
        (lambda p, x: jaxplain.layout(FIRST, channels="NCHW"), "unknown channels='NCHW': choose first"),
        (lambda p, x: jaxplain.heatmap(x, channels="front"), "unknown channels='front': choose first"),
        (
            lambda p, x: jaxplain.rise(disagreeing)(x, key=KEY),
            "at axis 3, the convolution at .* at axis 1: one of them is wrong",
        ),
    ],
)
def test_what_nothing_tells_or_what_disagrees_is_an_error(call, message):
    import jaxplain.visualize  # noqa: F401

    x = in_front(random(8, *SHAPE))
    with pytest.raises(ValueError, match=message):
        call(parameters(), x)


def disagreeing(x):
    last = convolve(x, random(21, 3, 3, 9, 4), "NHWC", "HWIO")
    return conv_first(x, KERNEL).mean((2, 3)) + last.mean((1, 2))


def test_the_mark_is_no_layer():
    said = jaxplain.layout(FIRST, channels="first")
    names = jaxplain.layers(FIRST)(parameters(), in_front(random(8, *SHAPE))).keys()
    assert jaxplain.layers(said)(parameters(), in_front(random(8, *SHAPE))).keys() == names >= {"block", "features"}


# ---------------------------------------------------------------------------------------------------- no picture at all


def transformer(heads, patches):
    """One attention, its parts named; patches are cut by a convolution or by reshaping."""

    def f(x):
        n, h, w, c = x.shape
        if patches == "convolution":
            t = convolve(x, random(22, 4, 4, c, 8), "NHWC", "HWIO", window_strides=(4, 4))
        else:
            t = x.reshape(n, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 4, w // 4, 16 * c)
            t = t @ random(23, 16 * c, 8)
        t = checkpoint_name(t, "patches").reshape(n, -1, 8)
        q, k, v = ((t @ random(s, 8, 8)).reshape(n, -1, heads, 8 // heads) for s in (24, 25, 26))
        weights = jax.nn.softmax(jnp.einsum("nqhd,nkhd->nhqk", checkpoint_name(q, "queries"), k))
        mixed = jnp.einsum("nhqk,nkhd->nqhd", checkpoint_name(weights, "weights"), v)
        t = t + checkpoint_name(mixed, "heads").reshape(t.shape)
        back = checkpoint_name(jnp.tanh(t).reshape(n, h // 4, w // 4, 8), "grid")
        return back.mean(axis=(1, 2)) @ random(27, 8, 4)

    return f


@pytest.mark.parametrize("patches", ["convolution", "reshape"])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_map_of_an_attention_is_an_error_and_one_of_its_tokens_on_a_grid_is_none(heads, patches):
    x, f = random(28, 2, 16, 20, 3), transformer(heads, patches)
    for layer in ("queries", "heads", "weights"):
        for make in (jaxplain.grad_cam, jaxplain.fem, jaxplain.layer_attribution):
            with pytest.raises(ValueError, match="no picture's positions"):
                make(f, layer)(x, target=1)
    for layer in ("patches", "grid"):
        assert np.abs(jaxplain.layer_cam(f, layer)(x, target=1)).max() > 0
    assert jaxplain.tap(f, "queries")(x).features.shape == (2, 20, heads, 8 // heads)
    assert jaxplain.layer_attribution(f, "heads", upsample=False)(x, target=1).shape == (2, 20, heads, 8 // heads)
