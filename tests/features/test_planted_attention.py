"""Planted evidence for vision transformers: one whose weights are set by hand, so that what it reads is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from tests import planted

DATA = planted.images(50, jax.random.key(0), step=planted.PATCH)
LEFT, RIGHT = planted.two_images(25, jax.random.key(1))
OF_NO_CLASS = {"attention_rollout": jaxplain.attention_rollout, "rfem": jaxplain.rfem}
OF_A_CLASS = {
    "attention_relevance": jaxplain.attention_relevance,
    "legrad": jaxplain.legrad,
    "rfem of a class": lambda f: jaxplain.rfem(f, class_specific=True),
    "lrp": jaxplain.lrp,
    "lrp attn_lrp": lambda f: jaxplain.lrp(f, "attn_lrp"),
    "lrp cp_lrp": lambda f: jaxplain.lrp(f, "cp_lrp"),
}
METHODS = OF_NO_CLASS | OF_A_CLASS


def maps_of(name, data):
    return jax.jit(METHODS[name](planted.transformer))(data.images, target=data.labels)


def test_the_network_reads_the_patches():
    assert (planted.transformer(DATA.images).argmax(axis=1) == DATA.labels).all()
    first_two = jax.lax.top_k(planted.transformer(LEFT.images), 2)[1]
    np.testing.assert_array_equal(np.sort(first_two), np.sort(np.stack([LEFT.labels, RIGHT.labels], axis=1)))


@pytest.mark.parametrize("name", METHODS)
def test_the_maximum_is_in_the_patch(name):
    assert planted.inside(maps_of(name, DATA), DATA.boxes).sum() >= 49


@pytest.mark.parametrize("name", OF_A_CLASS)
def test_of_two_patches_the_one_of_the_class_is_found(name):
    for side in (LEFT, RIGHT):
        assert planted.inside(maps_of(name, side), side.boxes).sum() >= 24


@pytest.mark.parametrize("name", OF_NO_CLASS)
def test_of_two_patches_either_is_found_whatever_the_class(name):
    maps = maps_of(name, LEFT)
    np.testing.assert_array_equal(maps, maps_of(name, RIGHT))
    in_left, in_right = (planted.inside(maps, side.boxes) for side in (LEFT, RIGHT))
    assert jnp.logical_or(in_left, in_right).all()
