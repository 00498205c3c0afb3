"""A leaderboard of explanation methods, on photographs of which the class is known.

    pip install '.[demo]' && python -m benchmarks.leaderboard FOLDER

takes a folder of photographs whose names begin with the number of their ImageNet class, and writes
`benchmarks/results/leaderboard.md`, and the numbers to `jaxplain/evaluation/evidence.json`,
which `jaxplain.recommend` reads. The network is EfficientNet-Lite0; what is explained is the true class.

* insertion, deletion: 10 steps, insertion into a blurred image and deletion to grey; of every photograph.
* GridPG, the grid pointing game: mosaics of 2 x 2 photographs of different classes, 448 x 448 pixels, made of those the
  network gets right with a probability of at least 1/2; a mosaic asks for one cell, the next one for the next cell.
* sparseness: the Gini index of the absolute map.
* max-sensitivity: 4 neighbours of an image within 0.05 of its values, that is 6 grey levels.
* seconds per image: the median of 5 calls of the compiled explainer on one image; taken last, by itself.

Intervals are those of Student's t over photographs or mosaics, 95 %. Methods that evaluate the network dozens of times
see fewer photographs. Two controls know nothing of the network: a random map and a Gaussian in the middle of the image.

It can be stopped and goes on where it was: what is measured is kept in `--records`. `--only-timing` takes the seconds
again, on a machine that does nothing else, and writes the tables anew from what is there.
"""

import argparse
import json
import os
import platform
import re
import statistics
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import jaxplain
from jaxplain import composites, metrics, models
from jaxplain.evaluation import BETTER, Example, evaluate, open_records, summarize
from jaxplain.evaluation._table import by_method, exceeds, summary_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
EVIDENCE = ROOT / "jaxplain" / "evaluation" / "evidence.json"
COLUMNS = ("insertion", "deletion", "grid_pointing_game", "sparseness", "max_sensitivity")
RANKED = COLUMNS[:3]
MAP_METRICS = {
    "insertion": partial(metrics.insertion, steps=10, chunk=1),
    "deletion": partial(metrics.deletion, steps=10, chunk=1),
    "sparseness": metrics.sparseness,
}
SENSITIVITY = {"max_sensitivity": partial(metrics.max_sensitivity, samples=4, radius=0.05)}
MOSAICS = {"grid_pointing_game": metrics.grid_pointing_game}
EXAMPLES = {"maps": (100, 40), "mosaics": (24, 6), "sensitivity": (16, 4)}  # for cheap and for expensive methods
SURE = 0.5
MIDDLE = "_blocks.10"  # 14 x 14 positions; the last feature map has 7 x 7
CONTROLS = ("random map", "Gaussian in the middle")


@dataclass(frozen=True)
class Row:
    """A method with its options; those that evaluate the network dozens of times are expensive.

    Records go by the label: with other options, give it another one.
    """

    label: str
    method: str  # its name in the taxonomy; controls have none
    make: object
    expensive: bool = False


def rows(bounds):
    low, high = bounds
    black = low.reshape(1, 1, 1, 3)
    jp = jaxplain
    return [
        Row("random map", "", random_map),
        Row("Gaussian in the middle", "", gaussian),
        Row("gradient", "gradient", jp.gradient),
        Row("input_x_gradient", "input_x_gradient", jp.input_x_gradient),
        Row(
            "integrated_gradients, 20 steps from black",
            "integrated_gradients",
            partial(jp.integrated_gradients, baseline=black, steps=20, chunk=1),
            True,
        ),
        Row("smoothgrad, 20 samples", "smoothgrad", partial(jp.smoothgrad, samples=20, chunk=1), True),
        Row(
            "smoothgrad squared, 20 samples",
            "smoothgrad",
            partial(jp.smoothgrad, samples=20, statistic="square", chunk=1),
            True,
        ),
        Row("deconvnet", "deconvnet", jp.deconvnet),
        Row("guided_backprop", "guided_backprop", jp.guided_backprop),
        Row("deeplift from black", "deeplift", partial(jp.deeplift, baseline=black)),
        Row("lrp epsilon_plus", "lrp", lambda f: jp.lrp(f, composites.epsilon_plus())),
        Row("lrp epsilon_plus_flat", "lrp", lambda f: jp.lrp(f, composites.epsilon_plus_flat())),
        Row("lrp epsilon_gamma_box", "lrp", lambda f: jp.lrp(f, composites.epsilon_gamma_box(low, high))),
        Row("deep_taylor", "deep_taylor", lambda f: jp.deep_taylor(f, low, high)),
        Row("excitation_backprop, block 10", "excitation_backprop", partial(jp.excitation_backprop, layer=MIDDLE)),
        Row("contrastive_lrp", "contrastive_lrp", jp.contrastive_lrp),
        Row("grad_cam", "grad_cam", jp.grad_cam),
        Row("grad_cam_plus_plus", "grad_cam_plus_plus", jp.grad_cam_plus_plus),
        Row("layer_cam", "layer_cam", jp.layer_cam),
        Row("layer_cam, block 10", "layer_cam", partial(jp.layer_cam, layer=MIDDLE)),
        Row("hires_cam, block 10", "hires_cam", partial(jp.hires_cam, layer=MIDDLE)),
        Row("xgrad_cam, block 10", "xgrad_cam", partial(jp.xgrad_cam, layer=MIDDLE)),
        Row("eigen_cam", "eigen_cam", jp.eigen_cam),
        Row("fem", "fem", jp.fem),
        Row("full_grad", "full_grad", jp.full_grad),
        Row("guided_grad_cam", "guided_grad_cam", jp.guided_grad_cam),
        Row("score_cam, 32 channels", "score_cam", partial(jp.score_cam, top=32, chunk=1), True),
        Row(
            "occlusion, windows of 48",
            "occlusion",
            partial(jp.occlusion, window=(48, 48), stride=(24, 24), chunk=1),
            True,
        ),
        Row("rise, 100 masks", "rise", partial(jp.rise, masks=100, chunk=1), True),
    ]


def random_map(apply):
    """A control: independent Gaussian noise."""

    @jaxplain.explainer(apply)
    def explain(f, x, target, key):
        return jax.vmap(lambda k: jax.random.normal(k, x.shape[1:3], jnp.float32))(jnp.broadcast_to(key, x.shape[:1]))

    return explain


def gaussian(apply):
    """A control: the middle of the image, a quarter of its side wide."""

    @jaxplain.explainer(apply)
    def explain(f, x, target, key):
        bell = lambda size: np.exp(-(((np.arange(size) + 0.5) / size - 0.5) ** 2) / (2 * 0.25**2))
        plane = jnp.asarray(np.outer(bell(x.shape[1]), bell(x.shape[2])), jnp.float32)
        return jnp.broadcast_to(plane, x.shape[:3])

    return explain


# --------------------------------------------------------------------------------------------------- what is explained


def photographs(folder, preprocess):
    """The photographs of a folder, in an order that mixes the classes."""
    files = sorted(path for path in folder.iterdir() if re.match(r"\d+.*\.(jpe?g|png)$", path.name, re.IGNORECASE))
    if not files:
        raise SystemExit(f"{folder} has no photographs whose names begin with the number of their class")
    for index in np.random.default_rng(0).permutation(len(files)):
        with Image.open(files[index]) as image:
            yield Example(files[index].name, preprocess(image), int(re.match(r"\d+", files[index].name)[0]))


def mosaics(examples, module, variables, count):
    """Mosaics of photographs that the network is sure of, each with the cell that is asked for."""
    forward = jax.jit(jaxplain.accelerate(module.apply))
    chances = [jax.nn.softmax(forward(variables, e.x))[0] for e in examples]
    sure = [e for e, p in zip(examples, chances, strict=True) if p.argmax() == e.target and p.max() >= SURE]
    right = sum(int(p.argmax()) == e.target for e, p in zip(examples, chances, strict=True))
    print(f"{right} of {len(examples)} photographs are classified rightly, {len(sure)} of them for sure", flush=True)
    images, labels = jnp.concatenate([e.x for e in sure]), jnp.array([e.target for e in sure])
    grids = metrics.grid_images(images, labels, jax.random.key(0), grids=count)
    return [
        Example(f"mosaic {i}", grids.images[i : i + 1], int(grids.labels[i, i % 4]), {"cell": i % 4})
        for i in range(count)
    ]


# ---------------------------------------------------------------------------------------------------------- the stages


def measure(stage, chosen, examples, what, options, module, variables):
    """One stage: cheap methods on all examples, expensive ones on the first few."""
    count, few = (options.limit or n for n in EXAMPLES[stage])
    settings = {
        "stage": stage,
        "network": "efficientnet_lite0",
        "metrics": {name: str(getattr(metric, "keywords", {})) for name, metric in what.items()},
    }
    records = open_records(options.records / f"{stage}.jsonl", settings)
    for expensive, number in ((False, count), (True, few)):
        methods = {row.label: row.make(module.apply) for row in chosen if row.expensive == expensive}
        start = time.perf_counter()
        new = evaluate(module.apply, methods, what, examples[:number], records, context=(variables,))
        for done, record in enumerate(new, 1):
            if done % len(methods) == 0:
                minutes = (time.perf_counter() - start) / 60
                print(f"{stage}: {record['image']}, {done} maps in {minutes:.1f} min", flush=True)
    return records.done.values()


def seconds(chosen, example, module, variables, repeats=5):
    """The median time of each explainer on one photograph."""
    times, target, key = {}, jnp.array([example.target]), jax.random.key(0)
    for row in chosen:
        explain = jax.jit(row.make(module.apply))
        call = lambda explain=explain: jax.block_until_ready(explain(variables, example.x, target=target, key=key))
        call()
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
        times[row.label] = statistics.median(taken)
        print(f"{row.label}: {1000 * times[row.label]:.0f} ms per image", flush=True)
    return times


# ---------------------------------------------------------------------------------------------------------- the tables


def write(chosen, records, times, machine):
    """The tables, best mean place in insertion, deletion and the grid pointing game first."""
    summary, values = summarize(records), by_method(records)
    better = {name: BETTER[name] for name in COLUMNS}
    ranked = [name for name in RANKED if all(name in statistics_ for statistics_ in summary.values())]
    order = {
        name: sorted(summary, key=lambda label: summary[label][name].mean, reverse=better[name] == "higher")
        for name in ranked
    }
    summary = dict(sorted(summary.items(), key=lambda item: sum(o.index(item[0]) for o in order.values())))
    methods = {row.label: row.method for row in chosen}
    entries = {
        label: {
            "method": methods[label],
            "metrics": {
                name: asdict(s)
                | {"better_than": [c for c in CONTROLS if exceeds(values[label][name], values[c][name], better[name])]}
                for name, s in statistics_.items()
            },
            "seconds_per_image": times.get(label),
        }
        for label, statistics_ in summary.items()
    }
    about = {
        "network": "EfficientNet-Lite0",
        "data": "ImageNet photographs, the true class explained",
        "intervals": "of Student's t",
        "versions": f"jaxplain {jaxplain.__version__}, jax {jax.__version__}",
        "timing": machine,
        "better": better,
    }
    text = json.dumps({"about": about, "controls": list(CONTROLS), "methods": entries}, indent=1) + "\n"
    EVIDENCE.write_text(text)
    cell = lambda label: f"{times[label]:.3g}" if label in times else ""
    table = summary_table(summary, better, {"s per image": [cell(label) for label in summary]})
    about_table = [
        f"{about['network']}, {about['data']}; {about['versions']}.",
        "",
        f"Means with 95 % intervals {about['intervals']}; sorted by the mean place in insertion, deletion and",
        "the grid pointing game. How it was measured: `benchmarks/leaderboard.py`.",
        f"Seconds per image: {machine or 'not taken'}.",
        "",
    ]
    (RESULTS / "leaderboard.md").write_text("\n".join([*about_table, table, "", *losers(entries, ranked)]) + "\n")


def losers(entries, ranked):
    """What is not better than a control, with 95 % confidence (a paired t interval)."""
    lines = ["Not better than a control, with 95 % confidence (paired, on the same images):", ""]
    for name in ranked:
        for control in CONTROLS:
            labels = [
                label
                for label, entry in entries.items()
                if label not in CONTROLS and control not in entry["metrics"][name]["better_than"]
            ]
            lines.append(f"* {name}, {control}: {'; '.join(labels) or 'none'}.")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=Path, default=ROOT / "build" / "leaderboard", help="where to keep numbers")
    parser.add_argument("--limit", type=int, help="at most so many photographs and mosaics, to try it out")
    parser.add_argument("--only-timing", action="store_true", help="take the seconds, and write the tables anew")
    parser.add_argument("--no-timing", action="store_true", help="leave out the seconds, or keep those taken before")
    options = parser.parse_args()
    options.records.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(options.records.resolve() / "compiled"))
    module, variables, preprocess = models.efficientnet_lite0()
    examples = list(photographs(options.folder, preprocess))[: options.limit and max(options.limit, 12)]
    chosen = rows(preprocess.bounds)
    stages = {"maps": MAP_METRICS, "mosaics": MOSAICS, "sensitivity": SENSITIVITY}
    records = []
    for stage, what in stages.items():
        if options.only_timing:
            file = options.records / f"{stage}.jsonl"
            settings = json.loads(file.read_text().splitlines()[0])["settings"]
            records += open_records(file, settings).done.values()
            continue
        shown = mosaics(examples, module, variables, EXAMPLES[stage][0]) if stage == "mosaics" else examples
        records += measure(stage, chosen, shown, what, options, module, variables)
    timing = options.records / "timing.json"
    if not options.no_timing:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        machine = f"one image at a time, {jax.default_backend()}, {platform.machine()}, {cores} cores, float32"
        times = seconds(chosen, examples[0], module, variables)
        timing.write_text(json.dumps({"machine": machine, "seconds": times}))
    taken = json.loads(timing.read_text()) if timing.exists() else {"machine": "", "seconds": {}}
    write(chosen, records, taken["seconds"], taken["machine"])


if __name__ == "__main__":
    main()
