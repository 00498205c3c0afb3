"""Occlusion against captum's numbers and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.perturbation import occlusion
from tests.networks import peer_numbers

CAPTUM, SHARED = peer_numbers("captum_occlusion.npz")
X, TARGETS = jnp.asarray(SHARED["images"]), jnp.asarray(SHARED["targets"])
WINDOWS = [tuple(map(int, row)) for row in SHARED["windows"]]


@pytest.mark.parametrize("network", CAPTUM)
@pytest.mark.parametrize("i", range(len(WINDOWS)), ids=lambda i: "x".join(map(str, WINDOWS[i])))
def test_captum(network, i):
    """Windows and strides that divide the image and that do not, up to the float32 to which captum rounds."""
    module, variables, numbers = CAPTUM[network]
    height, width, down, right = WINDOWS[i]
    maps = jax.jit(
        lambda x0: occlusion(module.apply, window=(height, width), stride=(down, right), baseline=x0)(
            variables, X, target=TARGETS
        )
    )
    for baseline in ("zero", "colours"):
        x0 = jnp.asarray(SHARED[f"baseline_{baseline}"])
        np.testing.assert_allclose(maps(x0), numbers[f"{i}/{baseline}"], rtol=1e-7, atol=1e-14)


def test_by_hand():
    """A linear score loses what a window covers; a 5-pixel row is covered by windows at 0, 2 and, cut off, at 4."""
    w = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
    explain = occlusion(lambda x: x[:, 0, :, 0] @ w, window=(1, 2), stride=(1, 2))
    np.testing.assert_array_equal(explain(jnp.ones((1, 1, 5, 1)))[0, 0], [3, 3, 12, 12, 16])
    explain = occlusion(lambda x: x[:, 0, :, 0] @ w, window=(1, 3), stride=(1, 2))  # at 0 and 2
    np.testing.assert_array_equal(explain(jnp.ones((1, 1, 5, 1)))[0, 0], [7, 7, (7 + 28) / 2, 28, 28])


def test_the_probability():
    logits = lambda x: x[:, 0, :, 0] @ jnp.array([[1.0, 0.0], [0.0, 1.0]])
    maps = occlusion(logits, window=(1, 1), stride=(1, 1), of="probability")(jnp.ones((1, 1, 2, 1)), target=0)
    less = jax.nn.sigmoid(1.0) - 0.5
    np.testing.assert_allclose(maps[0, 0], [less, -less])


def test_chunks_change_nothing():
    module, variables, _ = CAPTUM["chain"]
    expected, *others = (
        jax.jit(occlusion(module.apply, window=(3, 3), stride=(2, 2), chunk=chunk))(variables, X)
        for chunk in (None, 1, 4, 100)
    )
    for maps in others:
        np.testing.assert_allclose(maps, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": (9, 2)}, "a window of 9 pixels is larger than the image's 8: pass a smaller window="),
        ({"window": (2, 2), "stride": (2, 3)}, "a stride of 3 leaves pixels between windows of 2 uncovered"),
        ({"window": 3}, "window=3 must be two positive integers: along the rows, along the columns"),
        ({"stride": (1, 0)}, r"stride=\(1, 0\) must be two positive integers"),
        ({"of": "logit"}, "unknown of='logit': choose probability or output"),
        ({"chunk": 0}, "chunk=0 must be a positive integer"),
        ({"baseline": np.ones(4)}, r"a baseline of shape \(4,\) does not broadcast"),
    ],
)
def test_errors(options, sentence):
    module, variables, _ = CAPTUM["chain"]
    with pytest.raises(ValueError, match=sentence):
        occlusion(module.apply, **{"window": (2, 2), "stride": (2, 2)} | options)(variables, X)
