"""Attentions and the maps made of them, against a transformer that hands its own weights out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from tests import vit
from tests.close import within
from tests.vit import BLOCKS, GRID, IN_FRAMEWORKS, WEIGHTS, X

close = within(1e-9)
TARGET = jnp.array([0, 3, 1])
NOTHING = jnp.zeros((BLOCKS, 3, vit.HEADS, 7, 7))
METHODS = {
    "attention_rollout": jaxplain.attention_rollout,
    "attention_relevance": jaxplain.attention_relevance,
    "legrad": jaxplain.legrad,
    "rfem": jaxplain.rfem,
    "rfem of a class": lambda f, **options: jaxplain.rfem(f, class_specific=True, **options),
}


def network(w, x):
    return vit.unrolled(w, x)


# ------------------------------------------------------------------------------- what it says of its attentions itself


def blocks_and_weights(changes, *, stop=False):
    """The tokens behind every block and the weights in it, with something added to these."""
    x, tokens, weights = vit.embed(WEIGHTS, X), [], []
    for i in range(BLOCKS):
        w = vit.nth(WEIGHTS, i)
        weights.append(vit.attend(w, vit.norm(x, w["norm1"]))[0])
        x = vit.block(w, x, changes[i])
        tokens.append(x)
        x = jax.lax.stop_gradient(x) if stop else x
    return tokens, weights


def score(tokens):
    return vit.head(WEIGHTS, tokens)[jnp.arange(3), TARGET].sum()


A = np.stack(blocks_and_weights(NOTHING)[1])
G = np.asarray(jax.grad(lambda changes: score(blocks_and_weights(changes)[0][-1]))(NOTHING))
OF_BLOCKS = np.asarray(jax.grad(lambda c: sum(map(score, blocks_and_weights(c, stop=True)[0])))(NOTHING))


def product(steps):
    """The matrix product of all layers for each example."""
    return np.stack([np.linalg.multi_dot([*steps[::-1, n], np.eye(7)]) for n in range(3)])


def by_definition(name):
    """The rows of the class token."""
    identity = np.eye(7)
    if name == "attention_rollout":
        return product((A.mean(axis=2) + identity) / 2)[:, 0]
    if name == "attention_relevance":
        R = np.stack([identity] * 3)
        for g, a in zip(G, A, strict=True):
            R = R + np.einsum("nqk,nkj->nqj", np.maximum(g * a, 0).mean(axis=1), R)
        return R[:, 0]
    if name == "legrad":
        return np.maximum(OF_BLOCKS, 0).mean(axis=(0, 2, 3))
    steps = np.maximum(G * A, 0) + identity if name == "rfem of a class" else (A + identity) / 2
    rows = np.stack([product(steps[:, :, head])[:, 0, 1:] for head in range(vit.HEADS)])
    unusual = rows > rows.mean(axis=-1, keepdims=True) + rows.std(axis=-1, keepdims=True)
    return np.pad((rows * unusual).mean(axis=0), ((0, 0), (1, 0)))


def test_weights_and_the_way_back_to_them():
    outputs, weights, pullback = jaxplain.attentions(network)(WEIGHTS, X)
    close(outputs, network(WEIGHTS, X))
    close(weights, tuple(A))
    close(pullback(jax.nn.one_hot(TARGET, vit.CLASSES)), tuple(G))
    close(tuple(a.sum(axis=-1) for a in weights), tuple(np.ones(A.shape[1:-1]) for _ in A))


def test_what_jit_and_vmap_return_can_be_walked_back():
    every = jax.nn.one_hot(TARGET, vit.CLASSES)
    looped = jaxplain.attentions(vit.backwards)
    for read in (jaxplain.attentions(network), looped):
        close(jax.jit(read)(WEIGHTS, X).pullback(every), tuple(G))
        one_by_one = jax.vmap(lambda x, read=read: read(WEIGHTS, x[None]))(X)
        pulled = jax.vmap(lambda back, v: back(v[None]))(one_by_one.pullback, every)
        close(tuple(a[:, 0] for a in pulled), tuple(G))


@pytest.mark.parametrize("name", METHODS)
def test_maps_are_those_of_the_definition(name):
    explain = METHODS[name](network, upsample=False)
    close(jax.jit(explain)(WEIGHTS, X, target=TARGET), by_definition(name)[:, 1:].reshape(3, *GRID))


@pytest.mark.parametrize("framework", IN_FRAMEWORKS)
def test_the_same_in_every_framework_and_in_loops(framework):
    f = IN_FRAMEWORKS[framework]
    close = within(1e-6 if framework == "nnx" else 1e-9)  # whose attention, JAX's own, rounds its weights to float32
    outputs, weights, pullback = jaxplain.attentions(f)(X)
    close(outputs, network(WEIGHTS, X))
    close(weights, tuple(A))
    close(pullback(jax.nn.one_hot(TARGET, vit.CLASSES)), tuple(G))
    for method in METHODS.values():
        close(method(f)(X, target=TARGET), method(network)(WEIGHTS, X, target=TARGET))


@pytest.mark.parametrize("name", METHODS)
def test_channels_first(name):
    ours = METHODS[name](vit.channels_first)(WEIGHTS, X.transpose(0, 3, 1, 2), target=TARGET)
    close(ours, METHODS[name](network)(WEIGHTS, X, target=TARGET))


def test_patches_cut_by_reshaping():
    close(jaxplain.attentions(vit.cut_by_reshaping)(WEIGHTS, X).weights, tuple(A))
    explain = jaxplain.legrad(vit.cut_by_reshaping)
    close(jax.jit(explain)(WEIGHTS, X, target=TARGET), jaxplain.legrad(network)(WEIGHTS, X, target=TARGET))


def test_rows_of_the_rollout_sum_to_one():
    pooled = lambda x: (x + jax.nn.softmax(x @ x.swapaxes(1, 2)) @ x).mean(axis=1)
    tokens = X.reshape(3, 12, 8, 3)[:, :, :, :1]
    f = lambda x: pooled(pooled_once(x.reshape(3, 96, 1)))
    pooled_once = lambda x: x + jax.nn.softmax(x @ x.swapaxes(1, 2)) @ x
    rollout = jaxplain.attention_rollout(f)(tokens)
    close(rollout.sum(axis=(1, 2)), np.ones(3))


@pytest.mark.parametrize("name", METHODS)
def test_a_loop_over_all_classes(name):
    explain = METHODS[name](network)
    classes = jnp.arange(vit.CLASSES)
    at_once = jax.vmap(lambda c: explain(WEIGHTS, X[:1], target=c[None]))(classes)
    close(at_once, jnp.stack([explain(WEIGHTS, X[:1], target=int(c)) for c in classes]))


@pytest.mark.parametrize("name", METHODS)
def test_examples_do_not_see_each_other(name):
    explain = METHODS[name](network)
    alone = jnp.concatenate([explain(WEIGHTS, X[i : i + 1], target=TARGET[i : i + 1]) for i in range(3)])
    close(explain(WEIGHTS, X, target=TARGET), alone)


# ------------------------------------------------------------------------------------------------- spellings and grids


def attend(x, softmax=jax.nn.softmax):
    return softmax(x @ x.swapaxes(1, 2)) @ x


def through_exp(logits):
    e = jnp.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


MASK = jnp.tril(jnp.ones((96, 96), bool))
SPELLINGS = {
    "plain": attend,
    "by exp": lambda x: attend(x, through_exp),
    "in half precision": lambda x: attend(x, lambda a: jax.nn.softmax(a.astype(jnp.float32)).astype(a.dtype)),
    "keys in front": lambda x: jnp.einsum("nkq,nkc->nqc", jax.nn.softmax(x @ x.swapaxes(1, 2), axis=1), x),
    "masked": lambda x: attend(x, lambda a: jax.nn.softmax(jnp.where(MASK[None], a, -1e30))),
    "masked by softmax": lambda x: attend(x, lambda a: jax.nn.softmax(a, where=MASK[None])),
    "by library": lambda x: jax.nn.dot_product_attention(*[x[:, :, None]] * 3, scale=1.0)[:, :, 0],
    "by examples": jax.vmap(lambda x: jax.nn.softmax(x @ x.T) @ x),
    "checkpointed": jax.checkpoint(attend),
    "with a derivative of its own": lambda x: with_own_derivative(x),
}


@jax.custom_jvp
def with_own_derivative(x):
    return attend(x)


with_own_derivative.defjvp(lambda primals, tangents: jax.jvp(attend, primals, tangents))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_attentions_however_they_are_spelled(spelling):
    f = lambda x: SPELLINGS[spelling](x.reshape(len(x), 96, 3) / 3).mean(axis=1)
    tokens = X.reshape(3, 96, 3) / 3
    logits = tokens @ tokens.swapaxes(1, 2)
    softmax = jax.nn.softmax(jnp.where(MASK[None], logits, -1e30) if "masked" in spelling else logits)
    softmax = jax.nn.softmax(logits, axis=1).swapaxes(1, 2) if spelling == "keys in front" else softmax
    (weights,) = jaxplain.attentions(f)(X).weights
    close(weights, softmax[:, None], 1e-6 if spelling in ("in half precision", "by library") else 1e-9)


NO_ATTENTION = {
    "a softmax over classes": lambda x: jax.nn.softmax(x.reshape(len(x), -1)[:, :5]),
    "channels that read each other": lambda x: channels_attend(x.reshape(len(x), 96, 3)).mean(axis=1),
    "a gate": lambda x: (x * jax.nn.softmax(x.mean(axis=(1, 2)))[:, None, None]).mean(axis=(1, 2)),
}


def channels_attend(x):
    return x @ jax.nn.softmax(x.swapaxes(1, 2) @ x)


@pytest.mark.parametrize("name", NO_ATTENTION)
def test_what_is_no_attention_between_tokens(name):
    with pytest.raises(ValueError, match="no attention between tokens"):
        jaxplain.attentions(NO_ATTENTION[name])(X)


def windows(x):
    n, h, w, c = x.shape
    parts = x.reshape(n, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
    return attend(parts).reshape(n, -1, c).mean(axis=1)


def windows_apart(x):
    n, h, w, c = x.shape
    parts = x.reshape(n, h // 4, 4, w // 4, 4, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, 16, c)
    return (jax.nn.softmax(parts @ parts.swapaxes(2, 3)) @ parts).mean(axis=(1, 2))


def along_rows(x):
    return (jax.nn.softmax(x @ x.swapaxes(2, 3)) @ x).mean(axis=(1, 2))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("f", [windows, windows_apart, along_rows])
def test_attention_within_windows(f, count):
    with pytest.raises(ValueError, match="reads tokens within windows, or along rows"):
        jaxplain.attention_rollout(f)(X[:count])


def test_attentions_between_other_tokens_cannot_be_rolled_out():
    def f(x):
        x = x.reshape(len(x), 96, 3)
        fewer = x[:, ::2]
        return (jax.nn.softmax(x @ fewer.swapaxes(1, 2)) @ fewer).mean(axis=1)

    def g(x):
        x = x.reshape(len(x), 96, 3)
        return attend(attend(x)[:, :48]).mean(axis=1)

    with pytest.raises(ValueError, match="an attention of 96 tokens to 48 has no skip connection"):
        jaxplain.attention_rollout(f, grid=(12, 8))(X)
    with pytest.raises(ValueError, match=r"attentions of shapes \[\(96, 96\), \(48, 48\)\] are not between the same"):
        jaxplain.attention_rollout(g, grid=(12, 8))(X)


def test_attentions_beside_each_other_cannot_be_rolled_out():
    def differential(x):
        x = x.reshape(len(x), 96, 3)
        one, other = jax.nn.softmax(x @ x.swapaxes(1, 2)), jax.nn.softmax(2 * x @ x.swapaxes(1, 2))
        return (x + (one - 0.5 * other) @ x).mean(axis=1)

    assert len(jaxplain.attentions(differential)(X).weights) == 2
    for method in (jaxplain.attention_rollout, jaxplain.attention_relevance, jaxplain.rfem):
        with pytest.raises(ValueError, match="lie beside each other: a rollout needs one behind the other"):
            method(differential)(X)


def test_weights_that_are_normalised_twice_are_those_of_one_attention():
    def f(x, mask):
        x = x.reshape(len(x), 96, 3)
        weights = jnp.where(mask[None], jax.nn.softmax(x @ x.swapaxes(1, 2)), 0)
        return (x + weights / weights.sum(axis=-1, keepdims=True) @ x).mean(axis=1)

    (weights,) = jaxplain.attentions(lambda x: f(x, MASK))(X).weights
    logits = X.reshape(3, 96, 3) @ X.reshape(3, 96, 3).swapaxes(1, 2)
    close(weights[:, 0], jax.nn.softmax(jnp.where(MASK[None], logits, -1e30)))


def with_others(count):
    """Tokens of single pixels behind some others, without a convolution."""

    def f(x):
        tokens = x.reshape(len(x), 96, 3)
        others = jnp.ones((len(x), count, 3)) * jnp.arange(1.0, 1 + count)[None, :, None]
        x = jnp.concatenate([others, tokens], axis=1)
        return (x + attend(x))[:, 0]

    return f


def test_a_grid_has_the_proportions_of_the_image():
    for count in (0, 1):
        assert jaxplain.attention_rollout(with_others(count), upsample=False)(X).shape == (3, 12, 8)
    with pytest.raises(ValueError, match=r"101 tokens fit no grid of an image \(12, 8\): say grid="):
        jaxplain.attention_rollout(with_others(5))(X)
    assert jaxplain.attention_rollout(with_others(5), grid=(12, 8))(X).shape == (3, 12, 8)
    with pytest.raises(ValueError, match=r"grid=\(20, 8\) needs 160 tokens, the network has 101"):
        jaxplain.attention_rollout(with_others(5), grid=(20, 8))(X)


def test_tokens_behind_an_attention_that_are_not_added():
    with pytest.raises(ValueError, match="are not added to those before it"):
        jaxplain.legrad(lambda x: attend(x.reshape(len(x), 96, 3)).mean(axis=1))(X)
