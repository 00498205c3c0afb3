"""A softmax is taken of logits: not of one output, of which it is always 1, and not of what has been through one."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics
from jaxplain._convention import require_logits
from jaxplain.evaluation import Example, evaluate, open_records
from jaxplain.perturbation import fgsm, pgd
from tests.convolution import conv

X, MAPS = (jnp.asarray(np.random.default_rng(i).normal(size=(2, 6, 6, 3))) for i in range(2))
KERNEL, W = (jnp.asarray(np.random.default_rng(2 + i).normal(size=s)) for i, s in enumerate([(3, 3, 3, 4), (4, 3)]))
KEY = jax.random.key(0)
ONE = "softmax of one output is 1 whatever the image"
TWO = "the network ends in a softmax"


def logits(x):
    features = conv(x, KERNEL)
    return jax.nn.relu(features).mean(axis=(1, 2)) @ W


def one_logit(x):
    return logits(x)[:, :1]


def two_logits(x):
    return jnp.pad(one_logit(x), ((0, 0), (1, 0)))


def probabilities(x):
    return jax.nn.softmax(logits(x))


def explained(make, **call):
    return lambda f, **options: make(f, **options)(X, **call)


def measured(make, **call):
    return lambda f, **options: make(f, **options)(X, attribution=MAPS, **call)


small = functools.partial
P = jaxplain.perturbation
HALVES = np.arange(36).reshape(6, 6) // 18
BY_SOFTMAX = {  # what takes a softmax, and the option that declines
    "deletion": (measured(small(metrics.deletion, steps=3)), {"of": "output"}),
    "insertion": (measured(small(metrics.insertion, steps=3)), {"of": "output"}),
    "pixel_flipping": (measured(small(metrics.pixel_flipping, features_in_step=12)), {"of": "output"}),
    "monotonicity": (measured(small(metrics.monotonicity, features_in_step=12)), {"of": "output"}),
    "average_drop": (measured(metrics.average_drop), {"of": "output"}),
    "average_gain": (measured(metrics.average_gain), {"of": "output"}),
    "road_combined": (measured(small(metrics.road_combined, percentages=[20], noise=0)), {"of": "output"}),
    "adcc": (
        lambda f, of="probability": metrics.adcc(jaxplain.input_x_gradient(f), of=of)(X),
        {"of": "output"},
    ),
    "relative_output_stability": (
        lambda f, of="probability": metrics.relative_output_stability(
            jaxplain.input_x_gradient(f), of=of, samples=2, if_prediction_changes="keep"
        )(X, key=KEY),
        {"of": "output"},
    ),
    "increase_in_confidence": (measured(metrics.increase_in_confidence), {"of": "output"}),
    "region_perturbation": (measured(small(metrics.region_perturbation, patch_size=3)), {"of": "output"}),
    "selectivity": (measured(small(metrics.selectivity, patch_size=3)), {"of": "output"}),
    "irof": (measured(small(metrics.irof, segments=HALVES)), {"of": "output"}),
    "monotonicity_correlation": (
        measured(small(metrics.monotonicity_correlation, features_in_step=12, baseline=0.0)),
        {"of": "output"},
    ),
    "non_sensitivity": (measured(metrics.non_sensitivity), {"of": "output"}),
    "score_cam": (lambda f, of="probability": jaxplain.score_cam(f, of=of)(X), {"of": "output"}),
    "rise": (explained(small(P.rise, masks=4, grid=(2, 2)), key=KEY), {"of": "output"}),
    "lime": (explained(small(P.lime, samples=8, segments=HALVES), key=KEY), {"of": "output"}),
    "occlusion": (
        lambda f, of="probability": P.occlusion(f, window=(3, 3), stride=(3, 3), of=of)(X),
        {"of": "output"},
    ),
    "kernel_shap": (
        lambda f, of="probability": P.kernel_shap(f, segments=HALVES, of=of)(X),
        {"of": "output"},
    ),
    "feature_ablation": (
        lambda f, of="probability": P.feature_ablation(f, segments=HALVES, of=of)(X),
        {"of": "output"},
    ),
    "sobol": (
        lambda f, of="probability": P.sobol(f, segments=HALVES, samples=4, of=of)(X),
        {"of": "output"},
    ),
    "hsic": (explained(small(P.hsic, samples=8, segments=HALVES), key=KEY), {"of": "output"}),
    "meaningful_perturbation": (
        explained(small(P.meaningful_perturbation, steps=2, factor=2, jitter=0), target=0),
        {"of": "output"},
    ),
    "meaningful_perturbation of the paper": (
        explained(small(P.meaningful_perturbation, steps=2, factor=2, jitter=0, target_fraction=None)),
        {"of": "output"},
    ),
    "extremal_perturbation": (
        lambda f, of="probability": P.extremal_perturbation(f, steps=2, step=3, sigma=3.0, max_blur=2.0, of=of)(X),
        {"of": "output"},
    ),
    "fgsm": (lambda f, target=None: fgsm(f, epsilon=0.1)(X, target=target), {"target": lambda z: z[:, 0]}),
    "pgd": (
        lambda f, target=None: pgd(f, epsilon=0.1, step=0.1, steps=2, random_start=False)(X, target=target),
        {"target": lambda z: z[:, 0]},
    ),
}
OF_CLASSES = {  # what contrasts classes by a softmax, and has no way without one
    "softmax_gradient_lrp": lambda f: jaxplain.softmax_gradient_lrp(f)(X),
    "contrast": lambda f: jaxplain.contrast(jaxplain.gradient(f), "softmax")(X),
    "fgvis": lambda f: P.fgvis(f, steps=2)(X),
    "adversarial_gradient_integration": lambda f: P.adversarial_gradient_integration(f, classes=1, steps=2)(X, key=KEY),
    "extremal_perturbation": lambda f: P.extremal_perturbation(
        f, steps=2, step=3, sigma=3.0, max_blur=2.0, of="probability", reward="contrastive"
    )(X),
}


def cases(table):
    return pytest.mark.parametrize("case", table.values(), ids=table)


@cases(BY_SOFTMAX)
def test_one_logit_is_an_error(case):
    call, _ = case
    with pytest.raises(ValueError, match=ONE):
        call(one_logit)
    with pytest.raises(ValueError, match=ONE):
        jax.eval_shape(lambda: call(one_logit))  # and as early where the values are traced


@cases(BY_SOFTMAX)
def test_the_remedies_can_be_followed(case):
    call, without = case
    call(one_logit, **without)
    call(two_logits)


@cases(OF_CLASSES)
def test_one_logit_cannot_be_contrasted(case):
    with pytest.raises(ValueError, match=r"jnp\.pad\(outputs"):
        case(one_logit)


@pytest.mark.parametrize("make", [metrics.road, metrics.sufficiency, metrics.consistency])
def test_one_logit_has_no_predicted_class(make):
    with pytest.raises(ValueError, match=r"two or more classes, got shape \(2, 1\).*jnp\.pad\(outputs"):
        make(one_logit)(X, attribution=MAPS, key=KEY)


def test_the_padded_logit_has_the_probability_of_a_sigmoid():
    curve = metrics.deletion(two_logits, steps=3, curve=True)(X, attribution=MAPS, target=1)
    np.testing.assert_allclose(curve[:, 0], jax.nn.sigmoid(one_logit(X)[:, 0]), rtol=1e-6)


# ------------------------------------------------------------------------------------------------- a second softmax


def test_what_takes_no_softmax_raises_no_warning():
    """LRP has a rule for a softmax at the end, and gradients, DeepLIFT and occlusion explain probabilities as well."""
    for make in (jaxplain.lrp, jaxplain.gradient, jaxplain.deeplift, jaxplain.grad_cam):
        make(probabilities)(X)
    P.occlusion(probabilities, window=(3, 3), stride=(3, 3))(X)


@cases({name: call for name, (call, _) in BY_SOFTMAX.items()} | OF_CLASSES)
def test_a_second_softmax_raises_one_warning(case):
    with pytest.warns(UserWarning, match=TWO) as caught:
        case(probabilities)
    assert len([w for w in caught if TWO in str(w.message)]) == 1


@pytest.mark.parametrize("target", [None, 1])
def test_the_warning_is_for_concrete_values_and_says_what_to_do(target):
    metric = metrics.deletion(probabilities, steps=3)
    with pytest.warns(UserWarning, match="return the logits, or jnp.log of the outputs, or pass of='output'"):
        metric(X, attribution=MAPS, target=target)
    jax.jit(lambda x: metric(x, attribution=MAPS, target=target))(X)
    jax.vmap(lambda x: metric(x[None], attribution=MAPS[:1], target=target))(X)
    metrics.deletion(probabilities, steps=3, of="output")(X, attribution=MAPS, target=target)
    remedied = metrics.deletion(lambda x: jnp.log(probabilities(x)), steps=3)(X, attribution=MAPS, target=target)
    np.testing.assert_allclose(
        remedied, metrics.deletion(logits, steps=3)(X, attribution=MAPS, target=target), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_probabilities_are_recognised_in_every_type(dtype, classes):
    z = 3 * jax.random.normal(KEY, (8, classes), jnp.float64)
    for p in (jax.nn.softmax(z.astype(dtype)), jax.nn.softmax(z).astype(dtype), jnp.eye(classes, dtype=dtype)[:2]):
        with pytest.warns(UserWarning, match=TWO):
            require_logits(p)


@pytest.mark.parametrize(
    "outputs",
    [
        [[2.0, -1.0], [0.5, 0.5]],  # a negative one
        [[0.25, 0.75], [0.5, 0.6]],  # one row of two
        [[0.3, 0.3, 0.3], [0.1, 0.1, 0.1]],
        [[0.4999, 0.5], [0.5, 0.5]],
        [[jnp.nan, 1.0], [0.5, 0.5]],
        [[0.0, 0.0], [0.0, 0.0]],
    ],
)
def test_logits_that_look_a_little_like_probabilities_raise_no_warning(outputs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_logits(jnp.array(outputs, jnp.float32))


def test_comparing_and_evaluating_warn_once(tmp_path):
    """What they run is compiled, so they look themselves."""
    softened = {name: functools.partial(getattr(metrics, name), steps=3) for name in ("insertion", "deletion")}
    with pytest.warns(UserWarning, match="insertion, deletion flatten them by another") as caught:
        jaxplain.compare(probabilities, ["gradient"], metrics=softened)(X, target=0)
    assert len(caught) == 1
    unsoftened = {"deletion": functools.partial(metrics.deletion, of="output", steps=3)}
    jaxplain.compare(probabilities, ["gradient"], metrics=unsoftened)(X)
    examples = [Example(str(i), X[i : i + 1], 0) for i in range(2)]
    records = open_records(tmp_path / "r", {})
    with pytest.warns(UserWarning, match="insertion, deletion flatten") as caught:
        list(evaluate(probabilities, ["gradient"], softened, examples, records))
    assert len(caught) == 1
