"""Planted evidence: noise images whose class is decided by one patch, and a network that looks for nothing else.

planted = images(100, jax.random.key(0))
maps = explain(planted.images, target=planted.labels)
inside(maps, planted.boxes).mean()              # how often the maximum lies in the patch
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.convolution import conv

SIZE, PATCH, CLASSES = 32, 8, 4
NOISE = 0.3  # standard deviation of the background; a patch is made of -1 and 1
SCALE = 10.0  # from matches, 1 for a clean patch, to logits


def _patterns():
    """One pattern of as many -1 as 1 for each class, ``(PATCH, PATCH, 3, CLASSES)``."""
    rng = np.random.default_rng(0)
    signs = np.repeat([-1.0, 1.0], PATCH * PATCH * 3 // 2)
    return np.stack([rng.permutation(signs).reshape(PATCH, PATCH, 3) for _ in range(CLASSES)], axis=-1)


PATTERNS = _patterns()


class Planted(NamedTuple):
    """Images ``(n, SIZE, SIZE, 3)``, boxes ``(n, 4)`` of top, left, bottom, right (exclusive), labels ``(n,)``."""

    images: jax.Array
    boxes: jax.Array
    labels: jax.Array


def images(n, key, dtype=jnp.float32, *, step=1):
    """Noise, fresh for every key, with the pattern of a random class at a random position, a multiple of ``step``."""

    def one(key):
        background, which, where = jax.random.split(key, 3)
        label = jax.random.randint(which, (), 0, CLASSES, dtype=jnp.int32)
        top, left = step * jax.random.randint(where, (2,), 0, (SIZE - PATCH) // step + 1, dtype=jnp.int32)
        noise = NOISE * jax.random.normal(background, (SIZE, SIZE, 3), jnp.float32)
        corner = (top, left, jnp.zeros_like(top))
        patch = jax.lax.dynamic_slice(noise, corner, (PATCH, PATCH, 3))
        patch = patch + jnp.asarray(PATTERNS, jnp.float32)[..., label]
        image = jax.lax.dynamic_update_slice(noise, patch, corner)
        return image.astype(dtype), jnp.stack([top, left, top + PATCH, left + PATCH]), label

    return Planted(*jax.vmap(one)(jax.random.split(key, n)))


def network(x):
    """Logits ``(N, CLASSES)``: ``SCALE`` times the best match of each class's pattern at any position.

    A convolution, a ReLU and a global maximum. The planted class gets about 10, the others less than 2.5.
    """
    kernel = jnp.asarray(PATTERNS / (PATCH * PATCH * 3), x.dtype)
    match = conv(x, kernel, padding="VALID")
    return jnp.asarray(SCALE, x.dtype) * jax.nn.relu(match).max(axis=(1, 2))


def two_images(n, key):
    """Two `Planted` of the same images: patches of two classes lie in the left half and in the right half."""
    of_left, of_right = jax.random.split(key)
    left, right = images(12 * n, of_left, step=PATCH), images(12 * n, of_right, step=PATCH)
    fits = (left.boxes[:, 3] <= SIZE // 2) & (right.boxes[:, 1] >= SIZE // 2) & (left.labels != right.labels)
    fits = np.flatnonzero(fits)[:n]
    both = jnp.where(jnp.arange(SIZE)[:, None] < SIZE // 2, left.images[fits], right.images[fits])
    return [Planted(both, side.boxes[fits], side.labels[fits]) for side in (left, right)]


def transformer(x):
    """The same task for a vision transformer whose weights are set by hand: patches are tokens behind a class token.

    Tokens hold how well they match each class, and what they have read of each. There is a head for each class: by it
    the class token reads the tokens that match, and the others read all tokens alike. Two blocks do that, one after the
    other; the scores are what the class token has read. Two large constants keep LayerNorm from enlarging the noise.
    """
    n, blank = x.shape[0], jnp.zeros((x.shape[0], 1, CLASSES), x.dtype)
    match = conv(x, jnp.asarray(PATTERNS / (PATCH * PATCH * 3), x.dtype), PATCH).reshape(n, -1, CLASSES)
    match = jnp.concatenate([blank, match], axis=1)
    is_class_token = jnp.zeros_like(match[..., :1]).at[:, 0].set(1)
    constants = jnp.broadcast_to(jnp.array([8, -8], x.dtype), (*match.shape[:2], 2))
    x = jnp.concatenate([match, jnp.zeros_like(match), constants, is_class_token], axis=-1)
    for _ in range(2):
        x = x + attention(layer_norm(x))
    return SCALE * layer_norm(x)[:, 0, CLASSES : 2 * CLASSES]


def layer_norm(x):
    """Normalised tokens, without learned numbers."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)


def attention(x):
    """What tokens read: by head c the class token reads the tokens that match class c."""
    query, match = 100 * x[..., -1:], x[..., :CLASSES]
    weights = jax.nn.softmax(jnp.einsum("nqo,nkc->ncqk", query, match), axis=-1)
    read = jnp.einsum("ncqk,nkc->nqc", weights, match)
    nothing = jnp.zeros_like(read)
    return jnp.concatenate([nothing, read, nothing[..., :3]], axis=-1)


def masks(boxes):
    """The patches as masks ``(n, SIZE, SIZE)``, true inside."""
    top, left, bottom, right = (side.reshape(-1, 1, 1) for side in boxes.T)
    row, column = jnp.arange(SIZE).reshape(1, -1, 1), jnp.arange(SIZE).reshape(1, 1, -1)
    inside_rows, inside_columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return inside_rows & inside_columns


def inside(maps, boxes):
    """Whether the maximum of each map, ``(n, SIZE, SIZE)`` or with channels, which are summed, lies in its patch."""
    maps = maps.sum(axis=-1) if maps.ndim == 4 else maps
    best = maps.reshape(maps.shape[0], -1).argmax(axis=1)
    return jnp.take_along_axis(masks(boxes).reshape(maps.shape[0], -1), best[:, None], axis=1)[:, 0]
