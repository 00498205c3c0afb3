"""How often the adversarial methods reach another class, on photographs and EfficientNet-Lite0.

    pip install '.[test]' && python -m benchmarks.adversarial FOLDER [PHOTOGRAPHS [METHOD ...]]

prints a table of the methods with their default options, over photographs evenly spaced in the folder (10): in how many
images the network sees what the method is after (another class; for the similar image and for preservation, the same
one; for adversarial gradient integration, the class of the path); the distance of these images from the photograph, the
root of the mean square over pixels and colours in the network's units, -1 to 1; and the seconds a photograph takes.
"""

import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image

from jaxplain import models
from jaxplain.perturbation import attacks, fgvis
from jaxplain.perturbation.adversarial import ascend, draw_others, looking_at, minimise, twins, unnoticed

MODULE, VARIABLES, PREPROCESS = models.efficientnet_lite0()
GREY_LEVEL = 2 / 255
LBFGS = optax.lbfgs(1.0, linesearch=None)


def network(x):
    return MODULE.apply(VARIABLES, x)


def clip(x):
    return attacks.clipper(PREPROCESS.bounds, x)


# A method: (photograph, its class as a one-hot row, key) -> (images, the classes it is after, as rows of 0 and 1).


def fgsm(x, chosen, key):
    return attacks.fgsm(network, epsilon=GREY_LEVEL, bounds=PREPROCESS.bounds)(x), 1 - chosen


def pgd(x, chosen, key):
    attack = attacks.pgd(network, epsilon=GREY_LEVEL, step=GREY_LEVEL / 4, steps=10, bounds=PREPROCESS.bounds)
    return attack(x, key=key), 1 - chosen


def deepfool(x, chosen, key):
    return x + attacks.deepfool(network)(x), 1 - chosen


def adversarial_gradient_integration(x, chosen, key):
    goals = jax.nn.one_hot(draw_others(key, chosen[0], 20), chosen.shape[1])
    path = lambda goals: ascend(network, x, chosen, goals, jnp.ones((5, 1), bool), clip(x), 0.05, 20)[0]
    return jax.lax.map(path, goals.reshape(4, 5, 1, -1)).reshape(20, *x.shape[1:]), goals


def perceptual_ball(x, chosen, key):
    loss = unnoticed(network, looking_at(network, x, 6), x, chosen, 1e2, 2.0)
    return minimise(loss, x, LBFGS, 100), 1 - chosen


def pair(x, chosen):
    return twins(network, x, chosen, clip(x), 1.0, 1.0, LBFGS, 100)


def similar_adversarial(x, chosen, key):
    return pair(x, chosen)[1], 1 - chosen


def similar_adversarial_similar(x, chosen, key):
    return pair(x, chosen)[0], chosen


def fgvis_deletion(x, chosen, key):
    return x * (1 - fgvis(network)(x)), 1 - chosen


def fgvis_preservation(x, chosen, key):
    return x * fgvis(network, game="preservation")(x), chosen


METHODS = {
    method.__name__: method
    for method in (
        *(fgsm, pgd, deepfool, adversarial_gradient_integration, perceptual_ball),
        *(similar_adversarial, similar_adversarial_similar, fgvis_deletion, fgvis_preservation),
    )
}


def measured(method):
    """A function ``(photograph, key) -> (reached, distance)`` of the images that a method arrives at."""

    def measure(x, key):
        chosen = jax.nn.one_hot(network(x).argmax(axis=1), 1000)
        images, wanted = method(x, chosen, key)
        seen = jax.nn.one_hot(network(images).argmax(axis=1), 1000)
        return (seen * wanted).sum(axis=1), jnp.sqrt(((images - x) ** 2).mean(axis=(1, 2, 3)))

    return jax.jit(measure)


def main(folder, photographs="10", *names):
    files = sorted(p for p in Path(folder).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    step = max(1, len(files) // int(photographs))
    images = [PREPROCESS(Image.open(file)) for file in files[::step][: int(photographs)]]
    print("| method | reached | distance: median | largest | seconds |\n|---|---|---|---|---|", flush=True)
    for name in names or METHODS:
        measure = measured(METHODS[name]).lower(images[0], jax.random.key(0)).compile()
        start = time.perf_counter()
        results = [jax.device_get(measure(x, jax.random.key(i))) for i, x in enumerate(images)]
        seconds = (time.perf_counter() - start) / len(images)
        reached, distance = map(np.concatenate, zip(*results, strict=True))
        print(
            f"| {name} | {int(reached.sum())} of {reached.size} | {np.median(distance):.4f} | {distance.max():.4f} "
            f"| {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
