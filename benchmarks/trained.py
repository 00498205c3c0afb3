"""Three small networks trained here, to explain other kinds than the one with ImageNet weights.

    python -m benchmarks.trained --data /usr/share/datasets/fashion-mnist

trains a VGG-like network, a ResNet-like one and a vision transformer on the 60,000 images of Fashion-MNIST (Xiao
et al. 2017), half of them whole and half at half their size in one quarter of an empty image, as mosaics show them;
prints their accuracies on both and keeps their weights in `benchmarks/trained/`, which `network` reads; those that the
leaderboard measured are there. The folder of the data holds the four ``*-ubyte.gz`` files, as Debian's package
`dataset-fashion-mnist` has them. Without ``--data`` scikit-learn's digits are learned, enlarged to 28 x 28. Five to
twenty minutes a network on two cores. `patterns` is the same ResNet on images whose evidence is known, those of
`benchmarks/patterns.py`.
"""

import argparse
import gzip
import itertools
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import patterns

FOLDER = Path(__file__).parent / "trained"
SIZE, CLASSES, BATCH, SEED, PATTERNS = 28, 10, 128, 0, 20_000
MEAN, STD = 0.2860, 0.3530  # of Fashion-MNIST's training images
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class VGG(nnx.Module):
    """Convolutions 3 x 3 with ReLUs, max-pooling, two dense layers, no normalisation."""

    def __init__(self, rngs):
        widths = (1, 16, 16, 32, 32)
        self.convs = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.hidden, self.head = nnx.Linear(32 * 49, 128, rngs=rngs), nnx.Linear(128, CLASSES, rngs=rngs)

    def __call__(self, x):
        for i, conv in enumerate(self.convs):
            x = nnx.relu(conv(x))
            x = nnx.max_pool(x, (2, 2), (2, 2)) if i % 2 else x
        return self.head(nnx.relu(self.hidden(x.reshape(x.shape[0], -1))))


class Residual(nnx.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, before, after, stride, rngs):
        self.conv1 = nnx.Conv(before, after, (3, 3), stride, use_bias=False, rngs=rngs)
        self.conv2 = nnx.Conv(after, after, (3, 3), use_bias=False, rngs=rngs)
        self.skip = nnx.Conv(before, after, (1, 1), stride, use_bias=False, rngs=rngs) if stride > 1 else None
        self.bn1, self.bn2 = nnx.BatchNorm(after, rngs=rngs), nnx.BatchNorm(after, rngs=rngs)

    def __call__(self, x):
        y = self.bn2(self.conv2(nnx.relu(self.bn1(self.conv1(x)))))
        return nnx.relu(y + (x if self.skip is None else self.skip(x)))


class ResNet(nnx.Module):
    """A stem and four residual blocks, the average, a dense layer."""

    def __init__(self, rngs):
        self.stem, self.bn = nnx.Conv(1, 16, (3, 3), use_bias=False, rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        shapes = [(16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)]
        self.blocks = nnx.List([Residual(*shape, rngs) for shape in shapes])
        self.head = nnx.Linear(64, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.bn(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(axis=(1, 2)))


class Encoder(nnx.Module):
    """Attention and a perceptron, a LayerNorm in front of each, beside shortcuts."""

    def __init__(self, width, heads, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, width, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class ViT(nnx.Module):
    """Patches of 4 x 4 behind a class token, four encoders of four heads."""

    def __init__(self, rngs, width=64, heads=4, depth=4):
        self.patches = nnx.Conv(1, width, (4, 4), (4, 4), padding="VALID", rngs=rngs)
        draw = lambda *shape: nnx.Param(0.02 * jax.random.normal(rngs.params(), shape))
        self.cls, self.position = draw(1, 1, width), draw(1, (SIZE // 4) ** 2 + 1, width)
        self.blocks = nnx.List([Encoder(width, heads, rngs) for _ in range(depth)])
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x).reshape(x.shape[0], -1, self.cls.shape[-1])
        cls = jnp.broadcast_to(self.cls[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([cls, x], axis=1) + self.position[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


NETWORKS = {  # epochs, learning rate
    "vgg": (VGG, 6, 1e-3),
    "resnet": (ResNet, 4, 2e-3),
    "vit": (ViT, 12, 1e-3),
    "patterns": (ResNet, 6, 2e-3),
}


def fashion(folder):
    """``(images, labels)`` for training and for testing; images ``(N, 28, 28, 1)``, normalised."""

    def read(part, kind, header, shape):
        data = gzip.decompress((Path(folder) / f"{part}-{kind}-ubyte.gz").read_bytes())
        return np.frombuffer(data, np.uint8, offset=header).reshape(shape)

    def both(part):
        images = read(part, "images-idx3", 16, (-1, SIZE, SIZE, 1)).astype(np.float32) / 255
        return (images - MEAN) / STD, read(part, "labels-idx1", 8, (-1,)).astype(np.int32)

    return both("train"), both("t10k")


def digits():
    """The same of scikit-learn's digits, three pixels for one and a border."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.kron(data.images / 16, np.ones((1, 3, 3)))
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None].astype(np.float32)
    images, labels = (images - MEAN) / STD, data.target.astype(np.int32)
    order = np.random.default_rng(SEED).permutation(len(labels))
    train, test = order[:1500], order[1500:]
    return (images[train], labels[train]), (images[test], labels[test])


def halved(images):
    """The images at half their size, ``(N, 14, 14, 1)``."""
    return images.reshape(-1, SIZE // 2, 2, SIZE // 2, 2, 1).mean(axis=(2, 4))


def in_quarters(images, random):
    """The images at half their size, each in a quarter drawn at random of an image that is empty else."""
    canvas = np.full((len(images), 2, SIZE // 2, 2, SIZE // 2, 1), -MEAN / STD, np.float32)
    row, column = random.integers(2, size=(2, len(images)))
    canvas[np.arange(len(images)), row, :, column] = halved(images)
    return canvas.reshape(images.shape)


def train(make, epochs, rate, images, labels, quarters=True):
    """A network, trained; with ``quarters``, half of the images are shown at half their size."""
    model = make(nnx.Rngs(SEED))
    steps = epochs * (len(labels) // BATCH)
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps)
    optimizer = nnx.Optimizer(model, optax.adamw(schedule, weight_decay=0.01), wrt=nnx.Param)

    def loss(model, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    @nnx.jit
    def step(model, optimizer, x, y):
        value, gradient = nnx.value_and_grad(loss)(model, x, y)
        optimizer.update(model, gradient)
        return value

    random = np.random.default_rng(SEED)
    for _ in range(epochs):
        order = random.permutation(len(labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            shown, half = images[batch], BATCH // 2
            shown[:half] = in_quarters(shown[:half], random) if quarters else shown[:half]
            step(model, optimizer, shown, labels[batch])
    return model


def accuracy(model, images, labels):
    """The share of images whose class is predicted."""
    graph, state = nnx.split(model)
    predict = jax.jit(lambda state, x: nnx.merge(graph, state)(x).argmax(axis=1))
    predicted = [predict(state, images[i : i + 1000]) for i in range(0, len(labels), 1000)]
    return float((np.concatenate(predicted) == labels).mean())


def network(name):
    """One that was trained and kept, in evaluation mode."""
    file = FOLDER / f"{name}.npz"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: run python -m benchmarks.trained first")
    model, kept = NETWORKS[name][0](nnx.Rngs(SEED)), np.load(file)
    leaves, structure = jax.tree.flatten(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    nnx.update(model, jax.tree.unflatten(structure, [kept[str(i)] for i in range(len(leaves))]))
    model.eval()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="the folder with Fashion-MNIST's files; scikit-learn's digits without it")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in options.networks:
        make, epochs, rate = NETWORKS[name]
        start = time.perf_counter()
        if name == "patterns":
            learned, test = patterns.images(PATTERNS, seed=0), patterns.images(2000, seed=2)
            model = train(make, epochs, rate, learned.images, learned.labels, quarters=False)
            tests = {f"of grade {g}": [a[test.grades == g] for a in test[:2]] for g in patterns.CONTRASTS}
        else:
            learned, test = fashion(options.data) if options.data else digits()
            epochs *= 1 if options.data else 12
            model = train(make, epochs, rate, *learned)
            tests = {"": test, "in quarters": (in_quarters(test[0], np.random.default_rng(SEED)), test[1])}
        model.eval()
        leaves = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))
        np.savez_compressed(FOLDER / f"{name}.npz", **{str(i): np.asarray(a) for i, a in enumerate(leaves)})
        right = ", ".join(f"{accuracy(model, *test):.3f} of {len(test[1])} {words}" for words, test in tests.items())
        print(
            f"{name}: accuracy {right}, {epochs} epochs, {sum(a.size for a in leaves):,} numbers, "
            f"{time.perf_counter() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
