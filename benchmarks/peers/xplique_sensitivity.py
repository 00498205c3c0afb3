"""Make `tests/data/xplique_sensitivity.npz`: Xplique's Sobol indices and HSIC, on masks that are stored with them.

In an environment of its own, which has TensorFlow: `pip install xplique==2.0.2 tensorflow-cpu`, and then
`python benchmarks/peers/xplique_sensitivity.py`.

Two images of 4 x 4 pixels, each pixel a cell of the grid, and a function with two classes, `tanh(x W) V`. Hidden pixels
are 0. Sobol's design is SciPy's sequence, as ours is, and its estimator Jansen's; HSIC's masks are SciPy's Latin
hypercube. Xplique computes in float32; its maps have the images' size, so that nothing is enlarged.

Of HSIC two things are not alike. Xplique divides by n where we divide by (n - 1)²; that is a factor. And the width of
its kernel is the median of the scores themselves, so that its map changes with an offset of the score, and is not a
number where the median is 0; ours is the median of the scores' distances. So `hsic` is Xplique's of scores with the
offset that makes the two medians equal, and `hsic_as_it_is` that of the scores themselves.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import tensorflow as tf
from xplique.attributions import HsicAttributionMethod, SobolAttributionMethod
from xplique.attributions.global_sensitivity_analysis import LatinHypercube, ScipySobolSequenceRS

OUT = Path(__file__).parents[2] / "tests" / "data" / "xplique_sensitivity.npz"
GRID, CLASSES, TARGETS = 4, 2, [1, 0]


class Hypercube(LatinHypercube):
    """Xplique's sampler, from a seed."""

    def __call__(self, dimension, nb_design):
        return self.make_binary(self.qmc.LatinHypercube(dimension, seed=0).random(nb_design).astype(np.float32))


def with_equal_widths(model, hsic, image, target):
    """HSIC of one image whose scores have an offset that makes their median that of their distances."""
    W, V, _ = model.get_weights()
    y = model(image[None] * np.asarray(hsic.masks)).numpy()[:, target].astype(np.float64)
    distances = np.abs(y[:, None] - y[None])
    model.set_weights([W, V, np.full(CLASSES, np.median(distances[distances > 0]) - np.median(y))])
    result = hsic.explain(image[None], tf.one_hot([target], CLASSES)).numpy()[0, ..., 0]
    model.set_weights([W, V, np.zeros(CLASSES)])
    return result


def main():
    draw = np.random.default_rng(0)
    images = draw.normal(size=(2, GRID, GRID, 3)).astype(np.float32)
    W = (draw.normal(size=(images[0].size, 8)) / 4).astype(np.float32)
    V = draw.normal(size=(8, CLASSES)).astype(np.float32)
    inputs = tf.keras.Input(images.shape[1:])
    hidden = tf.keras.layers.Dense(8, activation="tanh", use_bias=False)(tf.keras.layers.Flatten()(inputs))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(CLASSES)(hidden))
    model.set_weights([W, V, np.zeros(CLASSES)])

    sobol = SobolAttributionMethod(model, grid_size=GRID, nb_design=32, sampler=ScipySobolSequenceRS())
    hsic = HsicAttributionMethod(model, grid_size=GRID, nb_design=200, sampler=Hypercube(binary=True))
    targets = tf.one_hot(TARGETS, CLASSES)
    numbers = {
        "versions": np.array([f"{package} {version(package)}" for package in ("xplique", "tensorflow-cpu", "scipy")]),
        "images": images,
        "targets": np.array(TARGETS),
        "W": W,
        "V": V,
        "outputs": model(images).numpy(),
        "sobol": sobol.explain(images, targets).numpy()[..., 0],
        "hsic_as_it_is": hsic.explain(images, targets).numpy()[..., 0],
        "hsic": np.stack([with_equal_widths(model, hsic, *one) for one in zip(images, TARGETS, strict=True)]),
        "hsic_masks": np.asarray(hsic.masks).reshape(-1, GRID**2) > 0.5,
    }
    np.savez_compressed(OUT, **numbers)
    print({key: (value.shape, value.ravel()[:3]) for key, value in numbers.items()})


if __name__ == "__main__":
    main()
