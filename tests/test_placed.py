"""Sums of shifted terms with strides, next to their definition."""

import numpy as np
import pytest

from jaxplain.fast._strided_scatter import sum_of_shifted


def naive(terms, strides, shape):
    y = np.zeros(shape)
    for i in np.ndindex(*shape):
        for offset, term in terms:
            at, rest = np.divmod(np.add(i, offset), strides)
            if not rest.any() and (at >= 0).all() and (at < term.shape).all():
                y[i] += term[tuple(at)]
    return y


@pytest.mark.parametrize("seed", range(12))
def test_the_definition(seed):
    rng = np.random.default_rng(seed)
    strides, shape = rng.integers(1, 4, 3).tolist(), tuple(rng.integers(1, 8, 3).tolist())
    terms = [(rng.integers(-4, 5, 3).tolist(), rng.normal(size=rng.integers(1, 5, 3))) for _ in range(4)]
    np.testing.assert_allclose(sum_of_shifted(terms, strides, shape), naive(terms, strides, shape), atol=1e-12)


def test_terms_that_lie_outside():
    assert not sum_of_shifted([([9, 0], np.ones((2, 2))), ([-9, 0], np.ones((2, 2)))], (1, 2), (3, 4)).any()
