"""What the methods built on the engine promise beyond the engine: starts, probabilities, duals, patterns, layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites, rules
from jaxplain._taxonomy import METHODS
from jaxplain.propagation._engine import trace_network
from tests.networks import peer_numbers

PEERS, SHARED = peer_numbers("captum_gradients.npz")
X, TARGETS = jnp.asarray(SHARED["images"]), jnp.asarray(SHARED["targets"])
RELU_NETWORKS = ["chain", "residual", "depthwise", "branches"]


def total(maps):
    return maps.sum(axis=tuple(range(1, maps.ndim)))


def without_bias(name):
    """The network and its variables, every shift zero."""
    module, variables, _ = PEERS[name]

    def zero(path, a):
        return jnp.zeros_like(a) if path[-1].key in ("bias", "mean") else a

    return module.apply, jax.tree.map_with_path(zero, variables)


@pytest.mark.parametrize("name", ["chain", "residual", "branches"])
def test_excitation_is_a_probability_and_z_plus_over_the_score(name):
    apply, variables = without_bias(name)
    z_plus = composites.excitation_backprop()  # in every weighted sum, those of a residual block as well
    outputs = apply(variables, X)
    visits = jax.jit(jaxplain.excitation_backprop(apply))(variables, X, target=TARGETS)
    relevance = jax.jit(jaxplain.lrp(apply, z_plus))(variables, X, target=TARGETS)
    score = outputs[jnp.arange(2), TARGETS].reshape(2, 1, 1, 1)
    np.testing.assert_allclose(visits, relevance / score, atol=1e-12)
    if name != "residual":  # there, some neurons of the 1x1 projection see no positive contribution at all
        np.testing.assert_allclose(total(visits), 1, rtol=1e-9)


def test_excitation_of_small_numbers_is_a_probability_too():
    w = jnp.array([[1.0], [3.0], [-1.0]])
    visits = jaxplain.excitation_backprop(lambda x: jax.nn.relu(x @ w))
    np.testing.assert_allclose(visits(jnp.full((1, 3), 1e-9)), [[0.25, 0.75, 0.0]], rtol=1e-6)


def test_excitation_where_sums_are_zero_has_a_finite_derivative():
    """In float32, in which the square of one over a tiny stabiliser is infinite."""
    visits = jaxplain.excitation_backprop(lambda w, x: jax.nn.relu(x @ w) @ jnp.ones((2, 1), jnp.float32))
    w, x = jnp.array([[1.0, -1.0], [3.0, -2.0]], jnp.float32), jnp.array([[1.0, 0.0]], jnp.float32)
    loss = lambda w, x: 1000 * (visits(w, x, target=0) ** 2).sum()
    for slope in jax.grad(loss, argnums=(0, 1))(w, x):
        assert jnp.isfinite(slope).all()


def test_excitation_at_a_layer():
    module, variables, _ = PEERS["chain"]
    at_layer = jax.jit(jaxplain.excitation_backprop(module.apply, "conv2", upsample=False))(
        variables, X, target=TARGETS
    )
    assert at_layer.shape == (2, 4, 4)
    assert (at_layer >= 0).all()
    np.testing.assert_allclose(total(at_layer), 1, rtol=1e-9)
    enlarged = jaxplain.excitation_backprop(module.apply, "conv2")
    assert jax.eval_shape(enlarged, variables, X, target=TARGETS).shape == (2, 8, 8)


def test_contrastive_excitation_by_hand():
    """Two classes share one input: the dual walk goes through the negative weights."""
    w = jnp.array([[1.0, 0.0], [1.0, -2.0], [-1.0, 3.0]])
    explain = jaxplain.excitation_backprop(lambda x: x @ w, contrastive=True)
    # target 0: W+ gives (1/2, 1/2, 0), -W gives (0, 0, 1)
    np.testing.assert_allclose(explain(jnp.ones((1, 3)), target=0), [[0.5, 0.5, 0.0]], atol=1e-5)
    # target 1: W+ gives (0, 0, 1), -W gives (0, 1, 0)
    np.testing.assert_allclose(explain(jnp.ones((1, 3)), target=1), [[0.0, 0.0, 1.0]], atol=1e-5)


def test_contrastive_excitation_is_summed_over_channels_before_it_is_clamped():
    """Both walks have the sum 1; at positions where their channels cancel nothing is left of the difference."""

    def network(x, weights):
        with jax.named_scope("feat"):
            h = jnp.maximum(x @ jnp.eye(2), 0)
        return h.reshape(len(x), -1) @ weights

    x = jnp.ones((1, 1, 2, 2))
    cases = {  # weights of (position, channel) -> the target's walk less the dual one, by position
        (2.0, -1.0, 2.0, -1.0): (0.0, 0.0),  # (1/2, 0, 1/2, 0) less (0, 1/2, 0, 1/2)
        (1.0, -3.0, 3.0, -1.0): (0.0, 0.5),  # (1/4, 0, 3/4, 0) less (0, 3/4, 0, 1/4)
        (1.0, 1.0, -1.0, -1.0): (1.0, 0.0),  # (1/2, 1/2, 0, 0) less (0, 0, 1/2, 1/2)
    }
    for weights, wanted in cases.items():
        f = lambda x, weights=weights: network(x, jnp.array([weights]).T)
        at_layer = jaxplain.excitation_backprop(f, "feat", contrastive=True, upsample=False)
        np.testing.assert_allclose(at_layer(x, target=0)[0, 0], wanted, atol=1e-5)
        at_input = jaxplain.excitation_backprop(f, contrastive=True)
        assert at_input(x, target=0).shape == x.shape
        np.testing.assert_allclose(jaxplain.heatmap(at_input)(x, target=0)[0, 0], wanted, atol=1e-5)


def test_deep_taylor_warns_of_scores_that_are_not_positive():
    f = lambda x: x @ jnp.array([[1.0, -1.0], [1.0, 2.0]])
    x = jnp.array([[1.0, 1.0], [2.0, 1.0], [1.0, 2.0]])  # the second class: 1, 0, 3
    with pytest.warns(UserWarning, match=r"that of example 1 is not: its map is zero.*use jaxplain\.lrp"):
        maps = jaxplain.deep_taylor(f)(x, target=1)
    assert (total(maps) > 0).tolist() == [True, False, True]
    with pytest.warns(UserWarning, match="example 0"):
        jaxplain.deep_taylor(f)(-x, target=0)
    jaxplain.deep_taylor(f)(x, target=0)  # all positive
    assert (jax.jit(jaxplain.deep_taylor(f))(-x, target=0) == 0).all()  # traced: nothing is known


def test_softmax_gradient_start():
    """One dense layer of identity passes the start on: p_c (1 - p_c) at the target, -p_c p_n elsewhere."""
    logits = jnp.array([[0.3, -1.0, 2.0]])
    p = jax.nn.softmax(logits[0])
    relevance = jaxplain.softmax_gradient_lrp(lambda x: x @ jnp.eye(3))(logits, target=2)
    np.testing.assert_allclose(relevance[0], p[2] * (jnp.eye(3)[2] - p), rtol=1e-5)


@pytest.mark.parametrize("dual", ["others", "logits", "weights"])
def test_contrastive_lrp_by_hand(dual):
    """On a linear network of positive inputs and weights, z+ divides each class by its own weights."""
    w = jnp.array([[1.0, 0.0, 2.0], [1.0, 2.0, 0.0], [-2.0, 1.0, 3.0]])
    x = jnp.ones((1, 3))  # logits 0 + (0, 3, 5)
    explain = jaxplain.contrastive_lrp(lambda x: x @ w, dual=dual)
    target_map = np.array([0.0, 2 / 3, 1 / 3])  # class 1
    others = {
        "others": (np.array([1 / 2, 1 / 2, 0]) + np.array([2 / 5, 0, 3 / 5])) / 2,
        "logits": np.array([2 / 5, 0, 3 / 5]),  # class 0 has the logit 0
        "weights": np.zeros(3),  # no weight of class 1 is negative, so nothing speaks for the dual
    }[dual]
    np.testing.assert_allclose(explain(x, target=1)[0], np.maximum(target_map - others, 0), atol=1e-5)


def test_contrastive_lrp_refuses_names_of_composites_whose_relevance_cancels():
    f = lambda x: x @ jnp.array([[1.0, 0.0], [1.0, 2.0]])
    with pytest.raises(
        ValueError, match=r"choose z_plus or excitation_backprop, or pass jaxplain\.composites\.epsilon_plus"
    ):
        jaxplain.contrastive_lrp(f, "epsilon_plus")
    x = jnp.ones((1, 2))
    insisted = jaxplain.contrastive_lrp(f, composites.epsilon_plus())(x, target=0)
    named = jaxplain.contrastive_lrp(f, "excitation_backprop")(x, target=0)
    np.testing.assert_allclose(insisted, named, rtol=1e-5)  # one layer of positive weights: both divide alike


@pytest.mark.parametrize("name", RELU_NETWORKS)
def test_deep_taylor_is_not_negative(name):
    module, variables, _ = PEERS[name]
    for bounds in ({}, {"low": X.min(), "high": X.max()}):
        maps = jax.jit(jaxplain.deep_taylor(module.apply, **bounds))(variables, X, target=TARGETS)
        assert maps.shape == X.shape
        assert maps.min() >= -1e-9


def test_deep_shap_is_the_mean_of_deeplift():
    module, variables, _ = PEERS["residual"]
    references = jax.random.normal(jax.random.key(0), (3, 8, 8, 3), jnp.float64)
    shap = jax.jit(jaxplain.deep_shap(module.apply, baselines=references, chunk=2))(variables, X, target=TARGETS)
    single = jax.jit(lambda b: jaxplain.deeplift(module.apply, baseline=b)(variables, X, target=TARGETS))
    np.testing.assert_allclose(shap, sum(map(single, references)) / 3, atol=1e-12)


def test_deeplift_explains_any_scalar_score():
    """The score is part of the network: completeness holds for a margin of probabilities as well."""
    module, variables, _ = PEERS["residual"]
    margin = lambda logits: jax.nn.softmax(logits)[:, 2] - jax.nn.softmax(logits)[:, 0] ** 2
    maps = jaxplain.deeplift(module.apply, baseline=0.1)(variables, X, target=margin)
    score = lambda x: margin(module.apply(variables, x))
    np.testing.assert_allclose(total(maps), score(X) - score(jnp.full_like(X, 0.1)), rtol=1e-9)


def test_reveal_cancel_sees_what_rescale_cancels():
    """min(a, b) = a - relu(a - b) at (3, 3) from 0: rescale gives a all of it, reveal-cancel half each (figure 2)."""

    def minimum(x):
        difference = x @ jnp.array([[1.0], [-1.0]])
        return x[:, 0] - jax.nn.relu(difference)[:, 0]

    x = jnp.array([[3.0, 3.0]])
    rescale = jaxplain.deeplift(minimum, rule="rescale")(x)
    cancel = jaxplain.deeplift(minimum, rule="reveal_cancel")(x)
    np.testing.assert_allclose(rescale, [[3.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(cancel, [[1.5, 1.5]], atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ layers


def test_relevance_at_a_layer():
    """The relevance of a layer's output is what the units below hand on, so it sums to the ledger's entry."""
    module, variables, _ = PEERS["residual"]
    composite = composites.epsilon_plus()
    at_conv = jax.jit(jaxplain.lrp(module.apply, composite, layer="conv2"))(variables, X, target=TARGETS)
    assert at_conv.shape == (2, 4, 4, 8)
    table = jaxplain.summary(module.apply, composite)(variables, X, target=TARGETS)
    (row,) = [row for row in table.rows if row.unit.path.endswith("/conv2")]
    np.testing.assert_allclose(at_conv.sum(), row.ledger.relevance_in, rtol=1e-9)


def test_an_unknown_layer_names_the_nearest():
    module, variables, _ = PEERS["residual"]
    with pytest.raises(ValueError, match=r"no layer .conv3.: the nearest are .*conv2 \("):
        jaxplain.lrp(module.apply, layer="conv3")(variables, X)


# ---------------------------------------------------------------------------------------------------------- patterns


class Small(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="conv", param_dtype=jnp.float64)(x))
        x = nn.relu(nn.Conv(4, (3, 3), feature_group_count=2, name="grouped", param_dtype=jnp.float64)(x))
        return nn.Dense(3, name="head", param_dtype=jnp.float64)(x.mean(axis=(1, 2)))


def naive_patterns(x, y, w):
    """Neuron by neuron from a matrix of samples ``(n, inputs)``."""
    patterns = np.zeros_like(w)
    for o in range(w.shape[1]):
        active = y[:, o] > 0
        if active.any():
            covariance = (x[active] * y[active, o : o + 1]).mean(0) - x[active].mean(0) * y[:, o].mean()
            patterns[:, o] = covariance / (w[:, o] @ covariance)
    return patterns


def test_patterns_against_a_naive_version_and_their_norm():
    x = jax.random.normal(jax.random.key(0), (12, 6, 6, 3), jnp.float64)
    variables = Small().init(jax.random.key(1), x)
    patterns = jaxplain.fit_patterns(Small().apply, variables, batches=[x[:5], x[5:]])
    assert list(patterns) == ["0", "1", "2"]

    patches = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(patches, (3, 3), axis=(1, 2))  # (N, H, W, C, 3, 3)
    samples = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, 27)
    w = np.asarray(variables["params"]["conv"]["kernel"]).reshape(27, 4)
    y = samples @ w + variables["params"]["conv"]["bias"][None]
    conv, grouped, head = patterns.values()
    np.testing.assert_allclose(conv.reshape(27, 4), naive_patterns(samples, y, w), rtol=1e-8)

    for name, a, inputs in (("conv", conv, (0, 1, 2)), ("grouped", grouped, (0, 1, 2)), ("head", head, (0,))):
        norm = (jnp.asarray(variables["params"][name]["kernel"]) * a).sum(axis=inputs)
        dead = jnp.abs(a).sum(axis=inputs) == 0
        np.testing.assert_allclose(jnp.where(dead, 1, norm), 1, rtol=1e-8)


def test_patterns_recover_the_signal():
    """x = a y + distractor: the pattern is a, whatever the weights do to the distractor."""
    keys = jax.random.split(jax.random.key(0), 3)
    w = jax.random.normal(keys[1], (10, 1), jnp.float64)
    w = w / jnp.linalg.norm(w)
    a = w[:, 0] + 0.3 * jax.random.normal(keys[0], (10,), jnp.float64)
    a = a / (a @ w[:, 0])
    y, noise = jax.random.normal(keys[2], (2, 50000, 10), jnp.float64)
    distractor = noise - (noise @ w) * a[None]  # w sees nothing of it
    x = y[:, :1] * a[None] + distractor
    (estimate,) = jaxplain.fit_patterns(lambda x: x @ w, batches=jnp.split(x, 10)).values()
    np.testing.assert_allclose(estimate[:, 0], a, atol=0.03)
    signal = jaxplain.pattern_net(lambda x: x @ w, {"0": estimate})(x[:1])
    np.testing.assert_allclose(signal[0], estimate[:, 0])


def test_pattern_attribution_with_patterns_of_one():
    """Patterns of ones leave the weights as they are, so that the attribution is the gradient."""
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3), jnp.float64)
    variables = Small().init(jax.random.key(1), x)
    units = jaxplain.fit_patterns(Small().apply, variables, batches=[x])
    ones = jax.tree.map(jnp.ones_like, units)
    gradient = jaxplain.gradient(Small().apply)(variables, x, target=1)
    np.testing.assert_allclose(
        jaxplain.pattern_attribution(Small().apply, ones)(variables, x, target=1), gradient, atol=1e-12
    )


def test_patterns_of_another_network_are_refused():
    with pytest.raises(ValueError, match="no pattern for the dense"):
        jaxplain.pattern_net(lambda x: x @ jnp.ones((2, 1)), {})(jnp.ones((1, 2)))


# ------------------------------------------------------------------------------------------------------------ honesty


def test_an_operation_without_a_rule_is_an_error_that_a_composite_cures():
    f = lambda x: jax.lax.cumprod(x, axis=1)
    with pytest.raises(ValueError, match=r"no rule for `cumprod` at .*test_methods.py:\d+.*rules.proportional"):
        jaxplain.lrp(f)(jnp.array([[2.0, 1.0]]))
    cured = jaxplain.lrp(f, lambda unit: rules.proportional() if unit.kind == "cumprod" else None)
    np.testing.assert_allclose(cured(jnp.array([[2.0, 1.0]]), target=1), [[2.0, 2.0]], rtol=1e-5)  # x_i ∂(a b)/∂x_i


def test_integers_loops_and_training_mode_are_errors():
    x = jnp.ones((2, 3))
    with pytest.raises(ValueError, match="turns into integers"):
        jaxplain.lrp(lambda x: jax.nn.one_hot(x.argmax(axis=1), 3))(x)
    with pytest.raises(ValueError, match=r"`while` loop depends on the explained input .*fori_loop"):
        jaxplain.lrp(lambda x: jax.lax.while_loop(lambda v: v.sum() < 9, lambda v: v * 2, x))(x)
    dropout = nn.Dropout(0.5, deterministic=False)
    with pytest.raises(ValueError, match=r"draws random numbers .*inference"):
        jaxplain.lrp(lambda x: dropout.apply({}, x, rngs={"dropout": jax.random.key(0)}))(x)

    norm = nn.BatchNorm(use_running_average=False)
    variables = norm.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"statistics from the batch.*inference"):
        jaxplain.lrp(lambda x: norm.apply(variables, x, mutable=["batch_stats"])[0])(x)


def test_a_rule_of_ones_own_in_one_line():
    f = lambda x: jax.nn.relu(x @ jnp.array([[1.0, 2.0], [3.0, -1.0]])).sum(axis=1)
    mine = lambda call, x, y, r: x * call.affine.transpose(call.account.divide(r, y, 1e-6), call.affine.weight)
    x = jnp.array([[1.0, 0.5]])
    np.testing.assert_allclose(jaxplain.lrp(f, lambda u: mine if u.kind == "dense" else None)(x), jaxplain.lrp(f)(x))


class MixedPrecision(nn.Module):
    dtype: object

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), dtype=self.dtype)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True, dtype=self.dtype)(x))
        x = nn.gelu(nn.Dense(4, dtype=self.dtype)(nn.LayerNorm(dtype=self.dtype)(x).mean(axis=(1, 2))))
        return nn.Dense(3, dtype=jnp.float32)(x)


@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1_flat"])
def test_mixed_precision(composite):
    """Layers in bfloat16 between inputs and outputs in float32: the same map to bfloat16's three digits."""
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 3), jnp.float32)
    variables = MixedPrecision(jnp.float32).init(jax.random.key(1), x)
    variables = jax.tree.map(lambda a: a + 0.1, variables)  # BatchNorm and biases away from their initial values
    full, mixed = (
        jax.jit(jaxplain.lrp(MixedPrecision(dtype).apply, getattr(composites, composite)()))(variables, x, target=0)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert mixed.dtype == x.dtype
    np.testing.assert_allclose(mixed, full, atol=0.03 * jnp.abs(full).max())


# --------------------------------------------------------------------------------------------- what a review found

DENSE = jax.random.normal(jax.random.key(0), (4, 5), jnp.float64)
FEATURES = jax.random.normal(jax.random.key(1), (2, 4), jnp.float64)


def kinds(f):
    return [unit.kind for unit in trace_network(f, FEATURES).plan.units()]


def test_softmax_is_one_unit_however_it_is_called():
    assert kinds(lambda x: jax.nn.softmax(x @ DENSE)) == ["dense", "softmax"]
    assert kinds(lambda x: jax.nn.log_softmax(x @ DENSE)) == ["dense", "softmax"]


def test_softmax_by_hand():
    """R_i = x_i (R_i - s_i Σ R)."""
    z, r = FEATURES[:1], jnp.array([[0.0, 1.0, 0.0, 0.0]])
    s = jax.nn.softmax(z)
    expected = z * (r * s - s * (r * s).sum())  # the start is s at the target
    np.testing.assert_allclose(jaxplain.lrp(jax.nn.softmax)(z, target=1), expected, atol=1e-12)


def test_masked_logits_give_no_nan():
    mask = jnp.array([[True, False, True, True, True]])
    f = lambda x: jax.nn.softmax(jnp.where(mask, x @ DENSE, -jnp.inf)) @ DENSE.T
    assert np.isfinite(jaxplain.lrp(f)(FEATURES)).all()
    maps = jaxplain.deeplift(f, baseline=0.1)(FEATURES, target=0)
    np.testing.assert_allclose(total(maps), (f(FEATURES) - f(jnp.full_like(FEATURES, 0.1)))[:, 0], rtol=1e-9)


@pytest.mark.parametrize("method", [jaxplain.lrp, jaxplain.deeplift])
def test_indices_and_roundings_are_errors(method):
    with pytest.raises(ValueError, match="no rule for `reduce_prod`"):
        method(lambda x: (x @ DENSE).prod(axis=1))(FEATURES)
    with pytest.raises(ValueError, match="turns into integers"):
        method(lambda x: (x @ DENSE).astype(jnp.int32).astype(jnp.float64) * 2)(FEATURES)


def test_hard_routed_experts_are_explained_with_their_mask_held():
    """The remedy that the error names; each example goes to one expert, a linear map of its features."""
    router, experts = jnp.eye(4, 2), jnp.arange(16.0).reshape(2, 4, 2) - 7

    def net(x, hold):
        mask = hold(jax.nn.one_hot((x @ router).argmax(axis=1), 2))
        return jnp.einsum("ne,nd,edc->nc", mask, x, experts)

    with pytest.raises(ValueError, match=r"turns into integers .*hold what only gates.*jax.lax.stop_gradient"):
        jaxplain.lrp(lambda x: net(x, lambda mask: mask))(FEATURES)
    maps = jaxplain.lrp(lambda x: net(x, jax.lax.stop_gradient), "epsilon")(FEATURES, target=0)
    chosen = experts[(FEATURES @ router).argmax(axis=1)]
    np.testing.assert_allclose(maps, FEATURES * chosen[:, :, 0], rtol=1e-4)
    with pytest.raises(ValueError, match=r"without it, or explain by a method"):  # of a reference the mask is another
        jaxplain.deeplift(lambda x: net(x, jax.lax.stop_gradient))(FEATURES)


def test_the_ledger_where_a_bias_cancels_the_input():
    """x w + b = 0: the stabiliser alone divides, and the ledger still closes."""
    table = jaxplain.summary(lambda x: jax.nn.sigmoid(x - 1.0))(jnp.ones((1, 1)))
    assert table.rows[0].ledger.dead == pytest.approx(0.5)
    assert abs(table.gap) < 1e-9


def test_traced_parameters_of_rules_keep_the_precision_of_the_network():
    w, x = DENSE.astype(jnp.bfloat16), FEATURES.astype(jnp.bfloat16)
    make = lambda a: composites.uniform(rules.alpha_beta(a, a - 1))
    maps = jax.jit(lambda a: jaxplain.lrp(lambda x: x @ w, make(a))(x))(jnp.float32(2.0))
    assert maps.dtype == jnp.bfloat16


def test_stacked_values_and_selections():
    stacked = lambda x: jnp.stack([x @ DENSE, jnp.tanh(x @ DENSE)], axis=1).sum(axis=(1, 2))
    selected = lambda x: jnp.where(x @ DENSE > 0, (2 * x) @ DENSE, 0.0).sum(axis=1)
    for f in (stacked, selected):
        table = jaxplain.summary(f)(FEATURES)
        assert abs(table.gap) < 1e-9
        assert np.isfinite(jaxplain.lrp(f)(FEATURES)).all()


def test_deeplift_refuses_training_mode():
    norm = nn.BatchNorm(use_running_average=False)
    variables = norm.init(jax.random.key(0), FEATURES)
    with pytest.raises(ValueError, match="statistics from the batch"):
        jaxplain.deeplift(lambda x: norm.apply(variables, x, mutable=["batch_stats"])[0])(FEATURES)


def test_a_negative_fill_is_no_reason_to_drop_terms():
    f = lambda x: jnp.take(jax.nn.relu(x), jnp.array([0, 9]), axis=1, mode="fill", fill_value=-1.0) @ DENSE[:2]
    (dense,) = [u for u in trace_network(f, FEATURES).plan.units() if u.kind == "dense"]
    assert not dense.nonnegative


@pytest.mark.parametrize("f", [lambda z: 1 / (1 + jnp.exp(-z)), jax.nn.log_sigmoid, lambda z: jnp.clip(z, -1, 1) * 2])
def test_an_activation_spelled_as_a_chain_is_one_unit(f):
    network = lambda x: f(x @ DENSE)
    assert kinds(network) == ["dense", "activation"]
    gradient = jaxplain.gradient(network)(FEATURES, target=1)  # all three grow with their input, so nothing is cut
    np.testing.assert_allclose(jaxplain.guided_backprop(network)(FEATURES, target=1), gradient, atol=1e-12)


# ------------------------------------------------------------------------------------------- composites by their names


def a_little_of_each(x):
    """A convolution, a sum, and a dense layer with values of both signs."""
    w = np.random.default_rng(3).normal(size=(3, 3, 2, 4))
    h = jax.nn.relu(jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))
    return h.mean(axis=(1, 2)) @ np.random.default_rng(4).normal(size=(4, 3))


PICTURES = np.random.default_rng(5).normal(size=(2, 5, 5, 2))
BY_NAME = {
    "lrp": (jaxplain.lrp, "epsilon_plus"),
    "softmax_gradient_lrp": (jaxplain.softmax_gradient_lrp, "epsilon_plus"),
    "contrastive_lrp": (jaxplain.contrastive_lrp, "z_plus"),
}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_default_composite_has_a_name(name):
    method, default = BY_NAME[name]
    maps = lambda *composite: jax.jit(method(a_little_of_each, *composite))(PICTURES, target=1)
    made = getattr(composites, default)()
    np.testing.assert_array_equal(maps(), maps(made))
    np.testing.assert_array_equal(maps(default), maps(made))
    assert METHODS[name].composite == default
    assert np.abs(maps("epsilon") - maps()).max() > 0.1 * np.abs(maps()).max()
    np.testing.assert_array_equal(maps("epsilon_plus_flat"), maps(composites.epsilon_plus_flat()))


def test_the_epsilon_composite_is_the_epsilon_rule_in_every_layer():
    one, other = (jaxplain.lrp(a_little_of_each, c)(PICTURES, target=1) for c in ("epsilon", lambda unit: None))
    np.testing.assert_allclose(one, other, rtol=1e-12)
    rows = jaxplain.summary(a_little_of_each, "epsilon")(PICTURES, target=1).rows
    assert [row.rule for row in rows if row.unit.kind in ("conv", "dense")] == ["epsilon(1e-06)"] * 2


def test_summary_and_ledger_take_names():
    rules_by = lambda *composite: [row.rule for row in jaxplain.summary(a_little_of_each, *composite)(PICTURES).rows]
    assert rules_by() == rules_by("epsilon_plus") == rules_by(composites.epsilon_plus())
    assert "z_plus()" in rules_by()
    assert "z_plus()" not in rules_by("epsilon")
    for name in ("epsilon", "epsilon_plus", "excitation_backprop"):
        assert jaxplain.metrics.ledger(a_little_of_each, name)(PICTURES, target=1) < 1e-12


@pytest.mark.parametrize(
    "method", [jaxplain.lrp, jaxplain.contrastive_lrp, jaxplain.softmax_gradient_lrp, jaxplain.summary]
)
def test_names_of_no_composite(method):
    with pytest.raises(ValueError, match="unknown composite 'epsilon_plos': did you mean epsilon_plus, "):
        method(a_little_of_each, "epsilon_plos")
    with pytest.raises(
        ValueError,
        match=r"'epsilon_gamma_box' needs low and high, .* pass jaxplain.composites.epsilon_gamma_box\(low, high\)",
    ):
        method(a_little_of_each, "epsilon_gamma_box")
    for wrong in (None, 3):
        with pytest.raises(TypeError, match=f"composite={wrong} is neither the name of a composite nor a function"):
            method(a_little_of_each, wrong)
