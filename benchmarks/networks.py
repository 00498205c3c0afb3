"""Explanations of networks that nobody here wrote: whether they come, whether their equations hold, how soon.

    pip install '.[zoo]' && python -m benchmarks.networks

writes `benchmarks/results/networks.md` and `networks.json`, after every network; `--networks` and `--methods` choose,
and what is not chosen, or not installed (see `benchmarks/zoo.py`), stays in the files as it is. Every method explains
two small random images, compiled by `jax.jit`. A cell is ``ok`` where the map is finite and not zero everywhere; the
number in it says by how much the method's equation is missed:

* gradient: the largest difference from `jax.grad`, over the largest value; guided backprop: likewise from the gradient
  of the network with another ReLU in its library, where ReLUs and maxima are all that is not linear;
* Grad-CAM: from one made by hand of what `tap` returns;
* LRP (ε+): the largest gap of the ledger, at any unit or in all, over the largest relevance (`metrics.ledger`);
* DeepLIFT, integrated gradients (8 steps), conductance (4 steps): how far the sum is from the difference of the scores
  of the images and of zeros, over the score; what the latter two miss is the integral's error;
* FullGrad: how far its terms are from the score, over that, for networks of ReLUs.
"""

import argparse
import contextlib
import json
import os
import platform
import time
import unittest.mock
import warnings
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain
from benchmarks.zoo import NETWORKS, Network
from jaxplain import composites
from jaxplain.features._full_grad import full_gradient

RESULTS = Path(__file__).parent / "results"
KEY = jax.random.key(3)


@dataclass(frozen=True)
class Subject:
    """A network, what it returns, and the classes that are explained."""

    network: Network
    outputs: jax.Array
    target: jax.Array

    @property
    def args(self):
        return self.network.context, self.network.images

    @property
    def scores(self):
        """The scores of the images, and those of zeros."""
        context, x = self.args
        at_zero = jax.jit(self.network.apply)(context, jnp.zeros_like(x))
        return chosen(self.outputs, self.target), chosen(at_zero, self.target)


def chosen(outputs, target):
    return outputs[jnp.arange(len(target)), target]


# ------------------------------------------------------------------------------------------------------------ equations


def distance(ours, wanted):
    """The largest difference, over the largest value."""
    return float(np.abs(ours - wanted).max() / np.abs(wanted).max())


def gradient_of(apply, subject):
    score = lambda context, x, target: chosen(apply(context, x), target).sum()
    return np.asarray(jax.jit(jax.grad(score, 1))(*subject.args, subject.target))


def from_the_gradient(subject, map_):
    return distance(map_, gradient_of(subject.network.apply, subject))


@jax.custom_vjp
def guided_relu(x):
    return jnp.maximum(x, 0)


guided_relu.defvjp(lambda x: (guided_relu(x), x), lambda x, g: (jnp.where((x > 0) & (g > 0), g, 0),))


def from_another_relu(subject, map_):
    """Guided backprop as everybody writes it: a ReLU with another derivative, in place of the library's."""
    if not subject.network.relu:
        return None
    jax.clear_caches()  # of functions that call the library's
    with contextlib.ExitStack() as stack:
        for module in subject.network.relu:
            stack.enter_context(unittest.mock.patch(f"{module}.relu", guided_relu))
        wanted = gradient_of(lambda context, x: subject.network.apply(context, x), subject)
    jax.clear_caches()
    return distance(map_, wanted)


def from_a_cam_by_hand(subject, map_):
    network = subject.network

    def by_hand(context, x, target):
        outputs, features, pullback = jaxplain.tap(network.apply, network.layer)(context, x)
        gradients = pullback(jax.nn.one_hot(target, outputs.shape[1], dtype=outputs.dtype))
        if network.grid:
            tokens = network.grid[0] * network.grid[1]
            grid = lambda a: a[:, -tokens:].reshape(len(a), *network.grid, a.shape[-1])
            features, gradients = grid(features), grid(gradients)
        weights = gradients.mean(axis=(1, 2), keepdims=True)
        return (weights * features).sum(axis=-1)

    return distance(map_, np.asarray(jax.jit(by_hand)(*subject.args, subject.target)))


def gap_of_the_ledger(subject, map_):
    ledger = jaxplain.metrics.ledger(subject.network.apply, composites.epsilon_plus())
    return ledger(*subject.args, target=subject.target)


def from_the_difference(subject, map_):
    scores, at_zero = subject.scores
    sums = map_.reshape(len(map_), -1).sum(axis=1)
    return float(np.abs(sums - (scores - at_zero)).max() / np.abs(scores).max())


def from_the_score(subject, map_):
    """FullGrad's terms, before their sizes are taken, add up to the score of a network of ReLUs."""
    if not subject.network.relu:
        return None

    def terms(context, x, target):
        found = full_gradient(lambda x: subject.network.apply(context, x), x, target)
        return sum(term.reshape(len(x), -1).sum(axis=1) for term in (found.input, *found.biases))

    return distance(jax.jit(terms)(*subject.args, subject.target), subject.scores[0])


# -------------------------------------------------------------------------------------------------------------- methods


def at_features(make, **options):
    """A method that looks at the network's features, its map of their size."""
    return lambda n: make(n.apply, n.layer, grid=n.grid, upsample=False, **options)


def conductance(n):
    return jaxplain.conductance(n.apply, n.layer, steps=4, upsample=False)


METHODS = {  # how to make it for a network, and how to measure its equation
    "gradient": (lambda n: jaxplain.gradient(n.apply), from_the_gradient),
    "guided_backprop": (lambda n: jaxplain.guided_backprop(n.apply), from_another_relu),
    "lrp": (lambda n: jaxplain.lrp(n.apply, composites.epsilon_plus()), gap_of_the_ledger),
    "deeplift": (lambda n: jaxplain.deeplift(n.apply), from_the_difference),
    "grad_cam": (at_features(jaxplain.grad_cam), from_a_cam_by_hand),
    "integrated_gradients": (lambda n: jaxplain.integrated_gradients(n.apply, steps=8), from_the_difference),
    "conductance": (conductance, from_the_difference),
    "full_grad": (lambda n: jaxplain.full_grad(n.apply), from_the_score),
    "smoothgrad": (lambda n: jaxplain.smoothgrad(n.apply, samples=4), None),
    "deep_taylor": (lambda n: jaxplain.deep_taylor(n.apply), None),
    "excitation_backprop": (lambda n: jaxplain.excitation_backprop(n.apply), None),
    "fem": (at_features(jaxplain.fem, k=1.0), None),
    "score_cam": (at_features(jaxplain.score_cam, top=8), None),
    "occlusion": (lambda n: jaxplain.occlusion(n.apply, window=(32, 32), stride=(32, 32)), None),
}


# -------------------------------------------------------------------------------------------------------------- results


def subject_of(network: Network) -> Subject:
    outputs = jax.jit(network.apply)(network.context, network.images)
    return Subject(network, outputs, outputs.argmax(axis=1))


def cell(name: str, subject: Subject) -> dict:
    """One cell of the table; an error is one where the method says so, or where its map is none."""
    make, check = METHODS[name]
    start = time.perf_counter()
    try:
        explain = jax.jit(make(subject.network))
        map_ = np.asarray(explain(*subject.args, target=subject.target, key=KEY))
        seconds = time.perf_counter() - start
        if not np.isfinite(map_).all() or not map_.any():
            return {"error": "the map is not finite" if map_.any() else "the map is zero everywhere"}
        return {"seconds": seconds, "missed": check and check(subject, map_)}
    except (ValueError, TypeError, NotImplementedError) as error:
        return {"error": " ".join(str(error).split())}


def versions(package: str) -> str:
    def installed(name):
        with contextlib.suppress(PackageNotFoundError):
            return f"{name} {version(name)}"
        return name

    return ", ".join(
        map(installed, dict.fromkeys([package, "jax", *["flax"] * (package in ("bonsai", "transformers"))]))
    )


def measured(name: str, chosen_methods: list[str]) -> dict | None:
    """A network's row; None where its library is not there."""
    try:
        network = NETWORKS[name]()
    except ImportError as error:
        print(f"{name}: {error}; it stays as it is", flush=True)
        return None
    subject, cells = subject_of(network), {}
    for each in chosen_methods:
        cells[each] = cell(each, subject)
        print(name, each, cells[each], flush=True)
    jax.clear_caches()
    busy = round(os.getloadavg()[2], 1)
    return {"versions": versions(network.package), "shape": network.shape, "load": busy, "cells": cells}


def shown(result: dict | None, notes: list[str]) -> str:
    """A cell in words, errors by the number of their sentence."""
    if result is None:
        return "-"
    if "error" in result:
        if result["error"] not in notes:
            notes.append(result["error"])
        return f"**error {notes.index(result['error']) + 1}**"
    missed = "" if result["missed"] is None else f" {result['missed']:.0e}"
    return f"ok{missed}, {result['seconds']:.1f} s"


def written(rows: dict) -> str:
    """The table as Markdown."""
    notes: list[str] = []
    cells = [row["cells"][m] for row in rows.values() for m in METHODS if m in row["cells"]]
    failed = sum("error" in each for each in cells)
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    lines = [
        f"{len(rows)} networks, {len(cells)} cells, {failed} errors ({failed / len(cells):.1%}); {machine}.",
        "",
        "Ok, by how much the method's equation is missed where it has one (see the head of `benchmarks/networks.py`),",
        "and the seconds of the first call, tracing and compiling included, on a machine of so much load. 64 bits;",
        "Keras' BatchNorm computes in 32.",
        "",
        f"| network | input | versions | load | {' | '.join(METHODS)} |",
        "|---" * (len(METHODS) + 4) + "|",
    ]
    for name in sorted(rows, key=list(NETWORKS).index):
        row = rows[name]
        results = " | ".join(shown(row["cells"].get(m), notes) for m in METHODS)
        lines.append(
            f"| {name} | {' x '.join(map(str, row['shape']))} | {row['versions']} | {row['load']} | {results} |"
        )
    lines += [""] * bool(notes) + [f"{i}. {note}" for i, note in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")  # of the libraries
    file = RESULTS / "networks.json"
    for name in options.networks:
        if (row := measured(name, options.methods)) is None:
            continue
        rows = json.loads(file.read_text()) if file.exists() else {}
        rows[name] = row | {"cells": rows.get(name, {}).get("cells", {}) | row["cells"]}
        file.write_text(json.dumps(rows, indent=2) + "\n")
        (RESULTS / "networks.md").write_text(written(rows))


if __name__ == "__main__":
    main()
