"""Axioms: whether the attribution adds up, and ignores what does not matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike

from .._convention import (
    Apply,
    Array,
    Explain,
    OfImages,
    Score,
    Target,
    full_precision,
    reference,
    scores,
    split,
)
from .._migration import takes_old_options
from .._reductions import at_least_float32, over_largest
from ..propagation import summary
from ..propagation.composites import NamedComposite
from ._common import Baseline, Metric, metric, replacement, summed
from ._robustness import norm
from .faithfulness._subset_correlations import effects, rank_groups

__all__ = ["completeness", "input_invariance", "ledger", "non_sensitivity"]


@takes_old_options
def completeness(apply: Apply, *, baseline: Baseline | None = 0.0, of: Score = "output") -> Metric:
    """The completeness error, the attribution's sum minus the change of the score: 0 where it is complete.

    ``Σ_i A_i - (z_c(x) - z_c(x0))``

    Quantus asks whether this is 0 to the last bit, after it has divided the attribution by its largest value.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      baseline: x0, the one of the explainer, as for `deletion`; `None` where the sum should be the score itself, as for
        LRP (conservation) or input times gradient.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``, signed, in units of the score.

    Raises:
      ValueError: if the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: (x**2).sum(axis=(1, 2, 3))
      >>> x = jnp.array([1.0, 2.0]).reshape(1, 1, 2, 1)
      >>> metric = jaxplain.metrics.completeness(f)
      >>> metric(x, attribution=x**2), metric(x, attribution=jaxplain.input_x_gradient(f)(x))  # 2 + 8 instead of 5
      (Array([0.], dtype=float32), Array([5.], dtype=float32))

    Reference:
      Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks. ICML 2017, arXiv:1703.01365.
    """

    @metric(apply)
    @full_precision
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        score = scores(f, x, target, of=of)
        change = score(x) if baseline is None else score(x) - score(replacement(baseline, x, f))
        return summed(attribution).sum(axis=(1, 2)) - change

    return measure


@takes_old_options
def non_sensitivity(
    apply: Apply,
    *,
    eps: float = 1e-5,
    baseline: Baseline = 0.0,
    of: Score = "probability",
    chunk: int | None = 10,
) -> Metric:
    """How many pixels have an attribution but no effect, or an effect but no attribution; 0 is best.

    ``#{i: [|A_i| < ε max |A|] ≠ [|p_c(x without i) - p_c(x)| < ε]}``

    Quantus divides by the largest value of the whole batch.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function of images ``(N, H, W, C)``.
      eps: ε, below which something counts as nothing.
      baseline: what removed pixels show, as for `deletion`. The default of Quantus is the image's smallest value.
      of: the score is the ``"probability"``, or the ``"output"`` itself (see `jaxplain.scores`).
      chunk: how many removals are evaluated at once.

    Returns:
      A metric ``(*args, attribution, target=None) -> (N,)``, as floats.

    Raises:
      ValueError: if the attribution does not belong to the images.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: x[:, 0].sum(axis=(1, 2))
      >>> x = jnp.array([4.0, 3.0, 2.0, 1.0]).reshape(1, 2, 2, 1)
      >>> jaxplain.metrics.non_sensitivity(f, of="output")(x, attribution=x)  # the second row has no effect
      Array([2.], dtype=float32)

    Reference:
      Nguyen, Rodríguez Martínez: On Quantitative Aspects of Model Interpretability. arXiv:2007.07584, 2020.
    """

    @metric(apply)
    def measure(f: OfImages, x: Array, attribution: Array, target: Target, key: Array | None) -> Array:
        maps, score = jnp.abs(over_largest(summed(attribution))), scores(f, x, target, of=of)
        pixels, number = rank_groups(maps, 1)
        claimed, dropped = effects(score, x, replacement(baseline, x, f), maps, pixels, number, chunk)
        return ((claimed < eps) != (jnp.abs(dropped) < eps)).sum(axis=1).astype(maps.dtype)

    return measure


def input_invariance(
    method: Callable[[Apply], Explain], apply: Apply, *, shift: ArrayLike = -1.0
) -> Callable[..., Array]:
    """How much the explanation changes when the input is shifted and the network shifts it back; 0 is best.

    ``||A'(x + m) - A(x)|| / ||A(x)||,  A' the explanation of f'(x) = f(x - m)``

    Both networks compute the same, so the explanations should be the same. Quantus 0.6 writes the shift into the bias
    of the first layer, whatever its padding, and leaves the first value of each image where it was: even the gradient
    fails there.

    Args:
      method: makes an explainer, such as `jaxplain.gradient` or ``functools.partial(jaxplain.lrp, composite=...)``.
      apply: ``apply(*args) -> outputs``, any JAX function.
      shift: m, a number or anything that broadcasts against the input, in the input's units.

    Returns:
      A metric ``(*args, target=None, key=None) -> (N,)``; NaN where the explanation is 0.

    Raises:
      ValueError: as the explainer.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f, x = lambda x: (x**2).sum(axis=1), jnp.array([[3.0, 4.0]])
      >>> jaxplain.metrics.input_invariance(jaxplain.gradient, f)(x)
      Array([0.], dtype=float32)
      >>> change = jaxplain.metrics.input_invariance(jaxplain.input_x_gradient, f)(x)  # from (18, 32) to (12, 24)
      >>> round(change.item(), 4)
      0.2724

    Reference:
      Kindermans, Hooker, Adebayo, Alber, Schütt, Dähne, Erhan, Kim: The (Un)reliability of Saliency Methods. 2019,
      arXiv:1711.00867.
    """

    def shifted(*args: Any) -> Any:
        *context, x = args
        return apply(*context, x - reference(shift, x))

    def measured(*args: Any, target: Target = None, key: Array | None = None) -> Array:
        context, x = split(args)
        before = method(apply)(*context, x, target=target, key=key)
        after = method(shifted)(*context, x + reference(shift, x), target=target, key=key)
        before, after = at_least_float32(before), at_least_float32(after)
        return norm(after - before) / norm(before)

    return measured


def ledger(apply: Apply, composite: NamedComposite = "epsilon_plus") -> Callable[..., float]:
    """The largest share of relevance that is unaccounted for, at any unit of the network; 0 where the ledger closes.

    ``max over units of |R_in - R_out - biases - stabiliser - dead denominators| / max over units of |R_out|``

    A sum of relevance that equals the score proves nothing; this does.

    Args:
      apply: ``apply(*args) -> outputs``, any JAX function.
      composite: as for `jaxplain.lrp`.

    Returns:
      A function ``(*args, target=None) -> float`` of the whole batch. It compiles what it runs, so do not jit it. Rules
      that note nothing, such as the gradient's, leave gaps.

    Raises:
      ValueError: as `jaxplain.lrp`.

    Example:
      >>> import jax.numpy as jnp, jaxplain
      >>> f = lambda x: jnp.maximum(x @ jnp.array([[1.0, -1.0], [2.0, 1.0]]) + 0.5, 0)
      >>> jaxplain.metrics.ledger(f)(jnp.array([[1.0, 1.0]]), target=0) < 1e-6
      True

    Reference:
      Bach, Binder, Montavon, Klauschen, Müller, Samek: On Pixel-Wise Explanations for Non-Linear Classifier Decisions
      by Layer-Wise Relevance Propagation. PLoS ONE 2015.
    """

    def measured(*args: Any, target: Target = None) -> float:
        table = summary(apply, composite)(*args, target=target)
        entries = [row.ledger for row in table.rows]
        largest = max(abs(entry.relevance_out) for entry in entries)
        return max(abs(table.gap), *(abs(entry.gap) for entry in entries)) / largest if largest else 0.0

    return measured
