"""What every metric of networks promises, tested over one table of all of them."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import metrics

KEY = jax.random.key(3)
X = jax.random.normal(jax.random.key(1), (3, 6, 6, 2), jnp.float64)
MAPS = jax.random.normal(jax.random.key(2), (3, 6, 6), jnp.float64)
TARGETS = jnp.array([2, 0, 1])
WEIGHTS = {
    "hidden": {"kernel": jax.random.normal(jax.random.key(4), (72, 7), jnp.float64) / 4},
    "head": {"kernel": jax.random.normal(jax.random.key(5), (7, 3), jnp.float64)},
}
SEGMENTS = np.arange(36).reshape(6, 6) // 5


def network(weights, x):
    """No kinks, and no result that a rounding error could turn."""
    return jnp.tanh(x.reshape(*x.shape[:1], 72) @ weights["hidden"]["kernel"]) @ weights["head"]["kernel"]


OF_ATTRIBUTIONS = {
    "deletion": (metrics.deletion, {"steps": 7, "chunk": 3}),
    "insertion": (metrics.insertion, {"steps": 7, "chunk": 3}),
    "pixel_flipping": (metrics.pixel_flipping, {"features_in_step": 5, "order": "lerf", "chunk": 3}),
    "monotonicity": (metrics.monotonicity, {"features_in_step": 9, "chunk": 3}),
    "region_perturbation": (metrics.region_perturbation, {"patch_size": 2, "chunk": 4}),
    "selectivity": (metrics.selectivity, {"patch_size": 4, "chunk": 3}),
    "irof": (metrics.irof, {"segments": SEGMENTS, "chunk": 3}),
    "road": (metrics.road, {"percentages": (10, 40, 60), "chunk": 2}),
    "road_of_probability": (metrics.road, {"percentages": (10, 40), "of": "probability", "chunk": 1}),
    "road_combined": (metrics.road_combined, {"percentages": (10, 40, 60), "chunk": 2}),
    "faithfulness_correlation": (metrics.faithfulness_correlation, {"samples": 9, "subset_size": 5, "chunk": 4}),
    "sensitivity_n": (metrics.sensitivity_n, {"sizes": (2, 5), "samples": 6, "chunk": 5}),
    "faithfulness_estimate": (metrics.faithfulness_estimate, {"features_in_step": 4, "chunk": 4}),
    "monotonicity_correlation": (
        metrics.monotonicity_correlation,
        {"features_in_step": 6, "samples": 3, "chunk": 4},
    ),
    "infidelity": (metrics.infidelity, {"patch_size": 4, "chunk": 3}),
    "infidelity_of_noise": (metrics.infidelity, {"noise": 0.1, "samples": 6, "chunk": 4}),
    "average_drop": (metrics.average_drop, {}),
    "average_gain": (metrics.average_gain, {}),
    "increase_in_confidence": (metrics.increase_in_confidence, {}),
    "consistency": (metrics.consistency, {"discretise": lambda a: jnp.sign(a)[:, :1]}),
    "sufficiency": (metrics.sufficiency, {"threshold": 0.97}),
    "completeness": (metrics.completeness, {"baseline": "mean"}),
    "non_sensitivity": (metrics.non_sensitivity, {"eps": 0.05, "chunk": 5}),
}
STABILITY = {"samples": 5, "radius": 0.1, "if_prediction_changes": "skip", "chunk": 2}
OF_EXPLAINERS = {
    "max_sensitivity": (metrics.max_sensitivity, {"samples": 5, "chunk": 2}),
    "avg_sensitivity": (metrics.avg_sensitivity, {"samples": 5, "chunk": 2}),
    "local_lipschitz_estimate": (metrics.local_lipschitz_estimate, {"samples": 5, "chunk": 2}),
    "relative_input_stability": (metrics.relative_input_stability, STABILITY),
    "relative_output_stability": (metrics.relative_output_stability, STABILITY),
    "relative_representation_stability": (
        metrics.relative_representation_stability,
        STABILITY | {"layers": ["hidden", "head"]},
    ),
    "continuity": (metrics.continuity, {"steps": 5, "chunk": 2}),
    "adcc": (metrics.adcc, {}),
    "mprt": (metrics.mprt, {}),
    "smooth_mprt": (metrics.smooth_mprt, {"samples": 3, "chunk": 1}),
    "efficient_mprt": (metrics.efficient_mprt, {"bins": 6}),
    "random_logit": (metrics.random_logit, {"similarity": metrics.pcc}),
    "input_invariance": (
        lambda explain, **options: metrics.input_invariance(jaxplain.input_x_gradient, explain.apply),
        {},
    ),
}
TABLE = OF_ATTRIBUTIONS | OF_EXPLAINERS
each = functools.partial(pytest.mark.parametrize, "name")
every_metric = each(TABLE)
one_key_for_all = ("mprt", "smooth_mprt", "efficient_mprt")
of_the_batch = ("sufficiency", "consistency")
close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11)


def made(name, apply=network, **changes):
    """The metric as a function of weights, images, maps, targets and key."""
    make, options = TABLE[name]
    options = options | changes
    if name in OF_ATTRIBUTIONS:
        metric = make(apply, **options)
        return lambda w, x, a, target, key: metric(w, x, attribution=a, target=target, key=key)
    metric = make(jaxplain.input_x_gradient(apply), **options)
    return lambda w, x, a, target, key: metric(w, x, target=target, key=key)


@functools.cache
def jitted(name):
    return jax.jit(made(name))


@functools.cache
def expected(name):
    return jitted(name)(WEIGHTS, X, MAPS, TARGETS, KEY)


def test_the_table_is_complete():
    public = {name: f for name, f in vars(metrics).items() if inspect.isfunction(f)}
    of_maps = {name for name, f in public.items() if "attribution" in inspect.signature(f).parameters}
    elsewhere = {"input_invariance", "grid_images", "parameter_layers", "ledger"}  # which is compiled inside
    assert set(public) - of_maps - elsewhere == {make.__name__ for make, _ in TABLE.values()} - {"<lambda>"}


@every_metric
def test_one_number_for_each_example(name):
    assert expected(name).shape == (3,)
    assert expected(name).dtype == jnp.float64
    assert np.isfinite(expected(name)).all()


@pytest.mark.parametrize("name", ["irof", "infidelity", "max_sensitivity"])
def test_jit_changes_nothing(name):
    close(expected(name), made(name)(WEIGHTS, X, MAPS, TARGETS, KEY))


@every_metric
def test_no_recompilation(name):
    traces = []

    def counted(weights, x):
        traces.append(1)
        return network(weights, x)

    run = jax.jit(made(name, counted)).trace  # what jit would recompile, it would trace again
    run(WEIGHTS, X, MAPS, TARGETS, KEY)
    before = len(traces)
    run(WEIGHTS, X + 1, MAPS - 1, TARGETS - 0, jax.random.key(9))
    assert len(traces) == before


@pytest.mark.parametrize("name", ["insertion", "irof", "infidelity", "mprt", "max_sensitivity", "road", "random_logit"])
def test_the_predicted_class_is_the_default(name):
    predicted = network(WEIGHTS, X).argmax(axis=1)
    close(jitted(name)(WEIGHTS, X, MAPS, None, KEY), jitted(name)(WEIGHTS, X, MAPS, predicted, KEY))


@each([name for name in TABLE if name not in of_the_batch])  # which compare examples
def test_batch_mates_do_not_matter(name):
    keys = KEY if name in one_key_for_all else jax.random.split(KEY, 3)
    together = jitted(name)(WEIGHTS, X, MAPS, TARGETS, keys)
    for i in (0, 2):
        own = keys if name in one_key_for_all else keys[i : i + 1]
        alone = jitted(name)(WEIGHTS, X[i : i + 1], MAPS[i : i + 1], TARGETS[i : i + 1], own)
        close(alone[0], together[i])


@every_metric
def test_vmap_equals_loop(name):
    run = made(name)
    shifted = jax.jit(jax.vmap(lambda s: run(WEIGHTS, X, MAPS * (1 + s), (TARGETS + s) % 3, KEY)))(jnp.arange(2))
    close(shifted[0], expected(name))
    close(shifted[1], jitted(name)(WEIGHTS, X, MAPS * 2, (TARGETS + 1) % 3, KEY))


@each([name for name, (_, options) in TABLE.items() if "chunk" in options])
def test_independent_of_chunk(name):
    for chunk in (None, 1):
        close(jax.jit(made(name, chunk=chunk))(WEIGHTS, X, MAPS, TARGETS, KEY), expected(name))


@every_metric
def test_bfloat16(name):
    low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), (WEIGHTS, X, MAPS))
    values = jitted(name)(*low, TARGETS, KEY)
    assert values.dtype == jnp.float32
    if name in ("road", "monotonicity", "non_sensitivity", "increase_in_confidence"):
        return  # a rounding error may turn yes to no
    exact = jitted(name)(*jax.tree.map(lambda a: a.astype(jnp.float64), low), TARGETS, KEY)
    np.testing.assert_allclose(values, exact, rtol=0.15, atol=0.15 * np.abs(exact).max())


@every_metric
def test_exported_for_any_batch_size(name):
    (n,) = jax.export.symbolic_shape("n")
    x, a, t = (jax.ShapeDtypeStruct((n, *v.shape[1:]), v.dtype) for v in (X, MAPS, TARGETS))
    run = jax.jit(lambda w, x, a, t: made(name)(w, x, a, t, KEY))
    (values,) = jax.export.export(run)(WEIGHTS, x, a, t).out_avals
    assert values.shape == (n,)


@pytest.mark.parametrize("name", ["deletion", "road", "infidelity", "mprt", "max_sensitivity"])
def test_inside_scan_and_cond(name):
    run = made(name)
    call = lambda x: run(WEIGHTS, x, MAPS, TARGETS, KEY)
    maybe = lambda x: jax.lax.cond(x.sum() < 1e9, call, lambda x: x[:, 0, 0, 0], x)
    _, values = jax.jit(lambda xs: jax.lax.scan(lambda c, x: (c, maybe(x)), 0, xs))(X[None])
    close(values[0], expected(name))


@pytest.mark.parametrize(
    "name",
    [
        "road",
        "faithfulness_correlation",
        "sensitivity_n",
        "infidelity_of_noise",
        "monotonicity_correlation",
        "max_sensitivity",
        "avg_sensitivity",
        "local_lipschitz_estimate",
        "relative_output_stability",
        "road_combined",
        "mprt",
        "smooth_mprt",
        "efficient_mprt",
        "random_logit",
    ],
)
def test_a_missing_key_is_an_error(name):
    with pytest.raises(ValueError, match=r"pass key=jax.random.key\(0\)"):
        made(name)(WEIGHTS, X, MAPS, TARGETS, None)


@each(OF_ATTRIBUTIONS)
def test_channels_are_summed_unless_the_metric_is_about_colours(name):
    if TABLE[name][0] is metrics.infidelity:
        colours = jnp.stack([MAPS, MAPS], axis=-1)
    else:
        colours = jnp.stack([0.3 * MAPS, 0.7 * MAPS], axis=-1)
    close(jitted(name)(WEIGHTS, X, colours, TARGETS, KEY), expected(name))


@pytest.mark.parametrize("name", ["deletion", "road", "infidelity_of_noise", "max_sensitivity"])
def test_inside_shard_map(name):
    mesh = jax.make_mesh((3,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:3])
    split = jax.sharding.PartitionSpec("batch")
    specs = (jax.sharding.PartitionSpec(), split, split, split, split)
    run = jax.jit(jax.shard_map(made(name), mesh=mesh, in_specs=specs, out_specs=split))
    keys = jax.random.split(KEY, 3)
    close(run(WEIGHTS, X, MAPS, TARGETS, keys), jitted(name)(WEIGHTS, X, MAPS, TARGETS, keys))
