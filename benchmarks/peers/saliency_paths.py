"""Make `tests/data/saliency_paths.npz`: guided and blur integrated gradients of the authors' library.

    pip install saliency==0.2.1 'numpy<1.24' && python benchmarks/peers/saliency_paths.py

A network of two dense layers with a tanh between, in NumPy with its gradient; the weights are stored. Blur integrated
gradients is stored as the library makes it, and of many steps for an image with nothing near its border. The tests read
the numbers; only this script needs the library, whose last release asks for a NumPy with `np.float`.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import saliency.core as saliency

OUT = Path(__file__).parents[2] / "tests" / "data" / "saliency_paths.npz"
SHAPE, TARGETS = (8, 9, 3), (2, 0)
GUIDED = [  # steps, fraction, largest distance
    (20, 0.25, 0.02),
    (20, 0.125, 0.3),
    (10, 0.5, 1.0),
    (50, 1.0, 0.1),
    (7, 0.25, 0.0),
]
BLURS = [(3.0, 12), (1.3, 10), (50.0, 20)]  # the largest sigma, steps
GRAD_STEP = 1e-7  # of the library's difference quotient


def draw(rng):
    """The weights of the network, two images and a baseline for each."""
    size, hidden, classes = np.prod(SHAPE), 6, 4
    weights = {
        "w1": rng.normal(size=(size, hidden)) / size**0.5,
        "b1": rng.uniform(-0.3, 0.3, size=hidden),
        "w2": rng.normal(size=(hidden, classes)),
    }
    return weights, rng.normal(size=(2, *SHAPE)), 0.3 * rng.normal(size=(2, *SHAPE))


def gradient(weights, target):
    """The function that the library calls for the gradients of a batch."""

    def call(x, call_model_args=None, expected_keys=None):
        hidden = np.tanh(x.reshape(len(x), -1) @ weights["w1"] + weights["b1"])
        slopes = ((1 - hidden**2) * weights["w2"][:, target]) @ weights["w1"].T
        return {saliency.INPUT_OUTPUT_GRADIENTS: slopes.reshape(x.shape)}

    return call


def main():
    weights, images, baselines = draw(np.random.default_rng(0))
    centred = np.zeros((2, *SHAPE))
    centred[:, 3:5, 3:6] = images[:, 3:5, 3:6]
    models = [gradient(weights, target) for target in TARGETS]
    guided, blur = saliency.GuidedIG(), saliency.BlurIG()
    numbers = {
        "guided": np.array(
            [
                [
                    guided.GetMask(x, model, x_baseline=x0, x_steps=steps, fraction=fraction, max_dist=distance)
                    for x, x0, model in zip(images, baselines, models, strict=True)
                ]
                for steps, fraction, distance in GUIDED
            ]
        ),
        "blur": np.array(
            [
                [
                    blur.GetMask(x, model, max_sigma=sigma, steps=steps, grad_step=GRAD_STEP)
                    for x, model in zip(images, models, strict=True)
                ]
                for sigma, steps in BLURS
            ]
        ),
        "blur_centred": np.array(
            [
                blur.GetMask(x, model, max_sigma=0.7, steps=20_000, grad_step=GRAD_STEP, batch_size=100)
                for x, model in zip(centred, models, strict=True)
            ]
        ),
    }
    versions = [f"{name} {version(name)}" for name in ("saliency", "numpy", "scipy")]
    cases = {"guided_cases": np.array(GUIDED), "blur_cases": np.array(BLURS), "targets": np.array(TARGETS)}
    inputs = {"images": images, "baselines": baselines, "centred": centred}
    np.savez_compressed(OUT, versions=np.array(versions), **weights, **inputs, **cases, **numbers)


if __name__ == "__main__":
    main()
