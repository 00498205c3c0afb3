"""Make the pictures of the site's gallery, one for every method of the taxonomy, in `notebooks/images/gallery`.

pip install '.[demo]' && python -m benchmarks.gallery [METHOD ...]

Two photographs: a cat, and a cup of coffee with a spoon beside it. `calls.json` says how each method was called; what
the cards say beside the pictures is read from the docstrings and the taxonomy when the site is built. Methods that need
attention are shown on a bag and an ankle boot of Fashion-MNIST, by the vision transformer that `benchmarks.trained`
trained: `python -m benchmarks.gallery --data FOLDER [METHOD ...]`.
"""

import io
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from PIL import Image

import jaxplain
from jaxplain import composites, models, perturbation, visualize

OUT = Path(__file__).parents[1] / "notebooks" / "images" / "gallery"
CLASSES = {"cat": 282, "coffee": 967}  # tiger cat; espresso
SCALES = (50, 100, 150, 250, 500, 1200)  # of the segments in the paper of XRAI
SIDE, GAP, LARGEST = 224, 8, 60_000  # pixels, pixels, bytes of a picture

# A value that is a name of `arrays` stands for what it names. All else is the method's default.
OPTIONS = {
    "integrated_gradients": {"baseline": "black"},
    "expected_gradients": {"baselines": "photographs"},
    "guided_integrated_gradients": {"baseline": "black"},
    "deeplift": {"baseline": "black"},
    "deep_shap": {"baselines": "photographs"},
    "score_cam": {"top": 64},
    "lrp": {"composite": "epsilon_plus"},
    "deep_taylor": {"low": "black", "high": "white"},
    "excitation_backprop": {"layer": "_blocks.10"},
    "concept_relevance": {"composite": "epsilon_plus_flat", "layer": "_blocks.10", "channels": 102},
    "softmax_gradient_lrp": {"composite": "epsilon_plus"},
    "pattern_net": {"patterns": "patterns"},
    "pattern_attribution": {"patterns": "patterns"},
    "multilayer_fem": {"layer": ["_blocks.2", "_blocks.5", None]},
    "conductance": {"baseline": "black"},
    "internal_influence": {"layer": "_blocks.10", "baseline": "black"},
    "neuron_attribution": {"layer": "_blocks.10", "neuron": (7, 7, 0)},
    "adversarial_gradient_integration": {"classes": 5},
    "occlusion": {"window": (32, 32), "stride": (16, 16)},
    "rise": {"masks": 1000},
    "lime": {"samples": 500},
    "kernel_shap": {"samples": 500},
    "xrai": {"segments": "felzenszwalb"},
}


def crops(photographs, count):
    """Random squares of the photographs in turn, half of them mirrored."""
    rng = np.random.default_rng(0)
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        side = int(min(photograph.shape[:2]) * rng.uniform(0.4, 1))
        row, column = (rng.integers(0, size - side + 1) for size in photograph.shape[:2])
        square = photograph[row : row + side, column : column + side]
        yield square[:, ::-1] if rng.random() < 0.5 else square


def arrays(f, variables, preprocess, images, names):
    """What options name: bounds of the pixels, photographs to compare with, patterns fitted to crops, segments, ..."""
    low, high = (bound.reshape(1, 1, 1, 3) for bound in preprocess.bounds)
    others = [skimage.data.astronaut(), skimage.data.rocket(), skimage.data.stereo_motorcycle()[0]]
    photographs = preprocess([*others, *(np.flip(photograph, axis=1) for photograph in others)])
    patterns = None
    if "patterns" in names:
        squares = preprocess([*crops([*others, skimage.data.cat(), skimage.data.coffee()], 32)])
        patterns = jaxplain.fit_patterns(f, variables, batches=np.split(squares, 4))
    segments = None
    if "felzenszwalb" in names:
        segments = [perturbation.felzenszwalb(images, scale=scale) for scale in SCALES]
    return {
        "black": low,
        "white": high,
        "photographs": photographs,
        "patterns": patterns,
        "epsilon_plus": composites.epsilon_plus(),
        "felzenszwalb": segments,
    }


def call(name, options):
    """How the method is called, as a line of Python."""
    words = [f"{key}={value!r}" if value not in NAMES else f"{key}={value}" for key, value in options.items()]
    return f"{name}({', '.join(['f', *words])})"


NAMES = ("black", "white", "photographs", "patterns", "epsilon_plus", "felzenszwalb")


def save(pictures, path):
    """Write pictures side by side, with as many colours as the file has room for."""
    strip = np.full((SIDE, len(pictures) * (SIDE + GAP) - GAP, 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        strip[:, i * (SIDE + GAP) : i * (SIDE + GAP) + SIDE] = picture
    for count in (256, 128, 64, 32, 16):
        buffer = io.BytesIO()
        Image.fromarray(strip).quantize(count, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if len(buffer.getvalue()) < LARGEST:
            break
    path.write_bytes(buffer.getvalue())


def note(name, line):
    """Keep how a method was called."""
    path = OUT / "calls.json"
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    calls = {method.name: known[method.name] for method in jaxplain.methods() if method.name in known} | {name: line}
    path.write_text(json.dumps(calls, indent=1) + "\n", "utf-8")
    print(line, flush=True)


def of_transformers(chosen, folder):
    """Draw the methods that need attention."""
    from benchmarks import trained

    f = trained.network("vit")
    images, labels = trained.fashion(folder)[1]
    right = np.asarray(f(images[:200])).argmax(axis=1) == labels[:200]
    first = [int(np.flatnonzero(right & (labels[:200] == label))[0]) for label in (8, 9)]
    grey = np.uint8(np.clip((images[first] * trained.STD + trained.MEAN) * 255, 0, 255))
    large = lambda a: np.asarray(Image.fromarray(a).resize((SIDE, SIDE), Image.Resampling.NEAREST))
    seen = np.stack([large(np.repeat(a, 3, axis=-1)) for a in grey])
    for method in chosen:
        maps = np.asarray(jax.jit(method.make(f))(images[first], target=labels[first]))
        maps = np.stack([large(m.astype(np.float32)) for m in maps])
        save(visualize.overlay(seen, maps), OUT / f"{method.name}.png")
        note(method.name, f"{method.name}(f)  # a vision transformer of Fashion-MNIST")


def main(names):
    """Draw the methods of these names, or all."""
    OUT.mkdir(parents=True, exist_ok=True)
    folder = names.pop(names.index("--data") + 1) if "--data" in names else None
    names = [name for name in names if name != "--data"]
    chosen = [method for method in jaxplain.methods() if not names or method.name in names]
    if folder:
        of_transformers([method for method in chosen if "attention" in method.needs], folder)
    of_photographs([method for method in chosen if "attention" not in method.needs])


def of_photographs(chosen):
    """Draw the methods that explain a convolutional network."""
    if not chosen:
        return
    module, variables, preprocess = models.efficientnet_lite0()
    photographs = [getattr(skimage.data, name)() for name in CLASSES]
    images, targets = preprocess(photographs), np.array([*CLASSES.values()])
    seen = preprocess.view(photographs)
    save(seen, OUT / "photographs.png")
    used = {value for method in chosen for value in OPTIONS.get(method.name, {}).values() if isinstance(value, str)}
    named = arrays(module.apply, variables, preprocess, images, used)
    for method in chosen:
        options = OPTIONS.get(method.name, {})
        values = {key: named[value] if value in NAMES else value for key, value in options.items()}
        target = None if "neuron" in options else targets
        if method.name == "pattern_net":  # the product of fifty layers' patterns overflows; pictures are scaled anyway
            target = 1e-20 * jax.nn.one_hot(targets, 1000)
        if method.name == "shapley_cam":  # of logits, behind which a network of ReLUs has no curvature, it is Grad-CAM
            target = lambda z: jnp.take_along_axis(z + jax.nn.log_softmax(z), targets[:, None], axis=1)[:, 0]
        explain = jax.jit(partial(method.make(module.apply, **values), target=target))
        maps = np.asarray(explain(variables, images, key=jax.random.key(0)))
        if method.name == "rise":
            maps = maps - maps.min(axis=(1, 2), keepdims=True)  # only its differences tell pixels apart
        coarse = method.resolution in ("layer", "region")  # such maps say where, and need the photograph beneath
        save(visualize.overlay(seen, maps) if coarse else visualize.colorize(maps), OUT / f"{method.name}.png")
        note(method.name, call(method.name, options))


if __name__ == "__main__":
    main(sys.argv[1:])
