"""Every explanation is the same however XLA compiles it: alone, reduced, mapped, beside other results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import composites
from jaxplain._taxonomy import METHODS
from tests.attending import maker
from tests.close import close
from tests.compiled.networks import CLASSES, SHAPE, apply, images, parameters

KEY = jax.random.key(7)
UNOPTIMISED = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
REFERENCES = np.random.default_rng(2).normal(size=(3, *SHAPE[1:])) * 0.3
SEGMENTS = jaxplain.perturbation.grid_segments(SHAPE[1:3], (4, 4))
OPTIONS = {
    "integrated_gradients": {"steps": 4},
    "expected_gradients": {"baselines": REFERENCES, "samples": 3},
    "blur_integrated_gradients": {"steps": 3, "max_sigma": 3.0},
    "guided_integrated_gradients": {"steps": 3},
    "smoothgrad": {"samples": 3},
    "vargrad": {"samples": 3},
    "deep_shap": {"baselines": REFERENCES},
    "lrp": {"composite": composites.epsilon_plus_flat()},
    "score_cam": {"top": 3},
    "ablation_cam": {"top": 3},
    "multilayer_fem": {"layer": [None]},
    "conductance": {"steps": 3},
    "internal_influence": {"steps": 3},
    "occlusion": {"window": (16, 16), "stride": (8, 8)},
    "rise": {"masks": 6, "grid": (3, 3)},
    "xrai": {"segments": SEGMENTS, "steps": 3},
    "feature_ablation": {"segments": SEGMENTS},
    "sobol": {"segments": SEGMENTS, "samples": 2},
    "hsic": {"segments": SEGMENTS, "samples": 12},
    "lime": {"segments": SEGMENTS, "samples": 12},
    "kernel_shap": {"segments": SEGMENTS, "samples": 36},
}
COMPOSITES = {
    "epsilon_plus": composites.epsilon_plus(),
    "epsilon_plus_flat": composites.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": composites.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": composites.epsilon_alpha2_beta1_flat(),
    "epsilon_gamma_box": composites.epsilon_gamma_box(-4.0, 4.0),
    "sequential_preset_a": composites.sequential_preset_a(),
    "sequential_preset_a_flat": composites.sequential_preset_a_flat(),
    "sequential_preset_b": composites.sequential_preset_b(),
    "sequential_preset_b_flat": composites.sequential_preset_b_flat(),
    "w_square": composites.layered(
        conv=jaxplain.rules.gamma(), dense=jaxplain.rules.epsilon(), first=jaxplain.rules.w_square()
    ),
}
RANDOM = (
    "smoothgrad",
    "vargrad",
    "rise",
)  # what they draw is in float32, so that keys mean the same in every precision
ELSEWHERE = {  # in tests/perturbation, where a last digit does not decide which way an optimiser goes
    *("fgvis", "adversarial_gradient_integration", "perceptual_ball", "similar_adversarial", "deepfool"),
    *("meaningful_perturbation", "extremal_perturbation", "guided_integrated_gradients"),
    *("pattern_net", "pattern_attribution", "cam", "neuron_attribution"),  # of networks of one form
}
EXPLAINERS = {name: maker(m, **OPTIONS.get(name, {})) for name, m in METHODS.items() if name not in ELSEWHERE} | {
    f"lrp {name}": lambda f, composite=composite: jaxplain.lrp(f, composite) for name, composite in COMPOSITES.items()
}


def compiled(f, *args, **options):
    return jax.jit(f).lower(*args).compile(**({"compiler_options": options} if options else {}))(*args)


def explain_of(name, dtype):
    explain, p = EXPLAINERS[name](apply), parameters(dtype)
    return lambda x, target=3: explain(p, x, target=target, key=KEY)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_compiled_with_a_reduction_behind_it(name):
    e, x = explain_of(name, jnp.float32), images(jnp.float32)
    heat = lambda a: a.sum(axis=-1) if a.ndim == 4 else a
    wanted = compiled(e, x, **UNOPTIMISED)
    close(compiled(e, x), wanted, 1e-4)
    close(compiled(lambda x: heat(e(x)), x), heat(wanted), 1e-4)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_mapped_over_classes_and_summed(name):
    e, x = explain_of(name, jnp.float32), images(jnp.float32)
    total = lambda target: jnp.abs(e(x, target)).reshape(len(x), -1).sum(axis=1)
    each = lambda classes: jnp.stack([total(target) for target in classes])
    classes = jnp.arange(0, CLASSES, 4)
    close(compiled(jax.vmap(total), classes), compiled(each, classes, **UNOPTIMISED), 1e-4)


@pytest.mark.parametrize("name", EXPLAINERS)
def test_beside_the_network_and_statistics_of_the_map(name):
    e, x, p = explain_of(name, jnp.float32), images(jnp.float32), parameters(jnp.float32)

    def with_statistics(x):
        a = e(x)
        return apply(p, x), a, a.sum(), jnp.abs(a).max(), (a**2).mean(axis=0)

    outputs, a, total, *rest = compiled(with_statistics, x, **UNOPTIMISED)
    found_outputs, found, found_total, *found_rest = compiled(with_statistics, x)
    jax.tree.map(lambda a, b: close(a, b, 1e-4), (found_outputs, found, found_rest), (outputs, a, rest))
    np.testing.assert_allclose(found_total, total, atol=1e-4 * np.abs(a).sum())  # values of both signs may cancel


@pytest.mark.parametrize("name", EXPLAINERS)
def test_in_float64(name):
    with jax.enable_x64(True):
        e, x = explain_of(name, jnp.float64), images(jnp.float64)
        tolerance = 1e-6 if name in RANDOM else 1e-9
        close(compiled(e, x), compiled(e, x, **UNOPTIMISED), tolerance)
