"""The mean over changed copies of an image."""

import jax
import jax.numpy as jnp
import pytest

import jaxplain
from tests.close import within
from tests.features.networks import NET_IN, X

close = within(1e-12)
FRAMEWORKS = {name: NET_IN[name] for name in ("plain", "equinox")}
METHODS = {"gradient": jaxplain.gradient, "grad_cam": jaxplain.grad_cam}


def mirror(a):
    return a[:, :, ::-1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_image_and_its_mirror_image(framework, method):
    explain = METHODS[method](FRAMEWORKS[framework])
    target = FRAMEWORKS[framework](X).argmax(axis=1)
    wanted = (explain(X, target=target) + mirror(explain(mirror(X), target=target))) / 2
    maps = jax.jit(jaxplain.augment(explain))(X)
    close(maps, wanted)
    close(jaxplain.augment(explain)(mirror(X), target=target), mirror(maps))


def test_channels_first_and_maps_of_features():
    f = lambda x: NET_IN["plain"](x.transpose(0, 2, 3, 1))
    turned = X.transpose(0, 3, 1, 2)
    close(
        jaxplain.augment(jaxplain.gradient(f))(turned).transpose(0, 2, 3, 1),
        jaxplain.augment(jaxplain.gradient(NET_IN["plain"]))(X),
    )
    features = lambda f: jaxplain.augment(jaxplain.layer_attribution(f, upsample=False))
    close(features(f)(turned), features(NET_IN["plain"])(X))


def test_augmentations_of_ones_own():
    f = NET_IN["plain"]
    shifted = lambda n: (lambda x: jnp.roll(x, n, axis=1), lambda a: jnp.roll(a, -n, axis=1))
    maps = jaxplain.augment(jaxplain.gradient(f), [shifted(n) for n in (-1, 0, 1)])(X, target=2)
    each = [jnp.roll(jaxplain.gradient(f)(jnp.roll(X, n, 1), target=2), -n, 1) for n in (-1, 0, 1)]
    close(maps, sum(each) / 3)


def test_what_cannot_be_augmented():
    explain = jaxplain.gradient(lambda x: x**2)
    with pytest.raises(ValueError, match="no augmentation: pass pairs"):
        jaxplain.augment(explain, [])
    with pytest.raises(ValueError, match=r"what has the shape \(1, 2\) has no left and right: pass augmentations="):
        jaxplain.augment(explain)(jnp.ones((1, 2)))
    with pytest.raises(ValueError, match=r"augmentation 0 makes images of shape \(1, 1\) of those of \(1, 2\)"):
        jaxplain.augment(explain, [(lambda x: x[:, :1], lambda a: a)])(jnp.ones((1, 2)))
    with pytest.raises(TypeError, match="augmentation 0 is no pair of functions"):
        jaxplain.augment(explain, (lambda x: x, lambda a: a))
    with pytest.raises(ValueError, match=r"undo of augmentation 0 makes \(1, 1\) of maps \(1, 2\)"):
        jaxplain.augment(explain, [(lambda x: x, lambda a: a[:, :1])])(jnp.ones((1, 2)))
