"""Every rule for an affine layer, naively: the explicit matrix ``w`` and bias ``b``, one output neuron after the other.

A rule here is ``share(w, b, a) -> (inputs,)``: which share of the relevance of *one* output ``z = Σ_j w_j a_j + b``
goes to each input ``a_j``. The matrix is the Jacobian of the whole layer with its bias and BatchNorm, so that nothing
here knows of kernels, strides or groups.
"""

import jax
import jax.numpy as jnp
import numpy as np


def plus(x):
    return np.where(x > 0, x, 0.0)


def minus(x):
    return np.where(x < 0, x, 0.0)


def stabilised(z, epsilon=1e-6):
    return z + epsilon if z >= 0 else z - epsilon  # sign(0) = +1


def zero():
    """w_j a_j / (Σ_j w_j a_j + b), nothing where that is 0."""

    def share(w, b, a):
        z = (w * a).sum() + b
        return w * a / z if z != 0 else np.zeros_like(a)

    return share


def gradient():
    return lambda w, b, a: w


def epsilon(epsilon=1e-6):
    """w_j a_j / (Σ_j w_j a_j + b + ε sign)."""
    return lambda w, b, a: w * a / stabilised((w * a).sum() + b, epsilon)


def alpha_beta(alpha=2.0, beta=1.0, stabilizer=1e-6):
    """α (w_j a_j)⁺ / (Σ_j (w_j a_j)⁺ + b⁺) - β (w_j a_j)⁻ / (Σ_j (w_j a_j)⁻ + b⁻)."""

    def share(w, b, a):
        positive, negative = plus(w * a), minus(w * a)
        activating = positive / stabilised(positive.sum() + plus(b), stabilizer)
        inhibiting = negative / stabilised(negative.sum() + minus(b), stabilizer)
        return alpha * activating - beta * inhibiting

    return share


def z_plus(stabilizer=1e-6):
    return alpha_beta(1.0, 0.0, stabilizer)


def gamma(gamma=0.25, stabilizer=1e-6, bias=True):
    """The contributions that agree with the output's sign count 1 + γ times, the bias's with them.

    Without the bias's share, the sign is that of the output without bias.
    """

    def share(w, b, a):
        z = (w * a).sum() + (b if bias else 0.0)
        if z == 0:
            return np.zeros_like(a)
        agreeing = plus if z > 0 else minus
        parts = w * a + gamma * agreeing(w * a)
        own = b + gamma * agreeing(b) if bias else 0.0
        return parts / stabilised(parts.sum() + own, stabilizer)

    return share


def z_box(low, high, stabilizer=1e-6):
    """w_j a_j - w_j⁺ l_j - w_j⁻ h_j over its sum; b - b⁺ - b⁻ = 0."""

    def share(w, b, a):
        parts = w * a - plus(w) * low - minus(w) * high
        return parts / stabilised(parts.sum(), stabilizer)

    return share


def w_square(stabilizer=1e-6):
    """w_j² / (Σ_j w_j² + b²)."""
    return lambda w, b, a: w**2 / stabilised((w**2).sum() + b**2, stabilizer)


def flat(stabilizer=1e-6):
    """1 over the number of inputs that the output is connected to."""
    return lambda w, b, a: (w != 0) / stabilised((w != 0).sum(), stabilizer)


def without_bias(rule):
    """The same rule for a layer that has no bias."""
    return lambda w, b, a: rule(w, 0.0, a)


def matrix_of(layer, shape):
    """The matrix and bias of an affine ``layer`` for one example of the given shape."""
    function = jax.jit(lambda x: layer(x[None])[0].ravel())
    origin = jnp.zeros(shape)
    matrix, bias = jax.jacfwd(function)(origin), function(origin)
    return np.asarray(matrix).reshape(len(bias), -1), np.asarray(bias)


def propagate(share, matrix, bias, inputs, relevance):
    """Σ_k share_k R_k for every example: ``inputs`` (N, ...), ``relevance`` (N, outputs)."""
    maps = np.zeros_like(inputs).reshape(len(inputs), -1)
    for n, a in enumerate(inputs.reshape(len(inputs), -1)):
        for w, b, r in zip(matrix, bias, relevance[n], strict=True):
            maps[n] += share(w, b, a) * r
    return maps.reshape(inputs.shape)
