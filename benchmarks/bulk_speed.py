"""Images per second of `jaxplain.bulk.explain` and of a loop written by hand: `python benchmarks/bulk_speed.py FOLDER`.

LRP of EfficientNet-Lite0. The loop jits the explainer and decodes in a thread of its own; it keeps the maps in memory.
Both count from the second batch on, so that neither counts what it compiles. ``busy`` is the share of the time that the
device computes: what the same batches take when they are there already and nothing is written, over the job's time.
Every line is the median of several turns, with the lowest and the highest. ``--processes 2`` measures two of them.
Processor seconds are those of all threads, and hold on a machine that does something else as well.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import jax
import numpy as np

import jaxplain
from jaxplain import bulk, models


def parts():
    """The explainer, its variables, and what prepares photographs."""
    module, variables, preprocess = models.efficientnet_lite0()
    explain = jaxplain.heatmap(jaxplain.lrp(module.apply, jaxplain.composites.epsilon_plus()))
    return explain, variables, preprocess


def now():
    """Seconds, and those that the processors have worked."""
    return np.array([time.perf_counter(), sum(os.times()[:2])])


def photographs(folder, count):
    """So many photographs, those of the folder again and again."""
    from jaxplain.bulk._source import Photographs

    source = Photographs(folder)
    return [{"image": i} for i in islice(cycle(range(len(source))), count)], source


def job(args):
    """What `bulk.explain` takes for all batches but the first."""
    if args.process is not None:
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.process)
    explain, variables, preprocess = parts()
    items, source = photographs(args.folder, args.images)
    read = lambda images: preprocess([source[i]["image"] for i in images])
    times = []
    store = args.store or tempfile.mkdtemp() + "/maps.zarr"
    bulk.explain(
        explain,
        items,
        store,
        args=(variables,),
        batch_size=args.batch_size,
        preprocess=read,
        dtype="float16" if args.half else "float32",
        progress=lambda *_: times.append(now()),
    )
    if not args.store:
        shutil.rmtree(Path(store).parent)
    return times[-1] - times[1]  # the second call comes when the first batch is there


def loop(args):
    """What a loop written by hand takes for all batches but the first."""
    explain, variables, preprocess = parts()
    items, source = photographs(args.folder, args.images)
    starts = range(0, args.images, args.batch_size)
    read = lambda s: np.asarray(preprocess([source[e["image"]]["image"] for e in items[s : s + args.batch_size]]))
    run, maps, begun = jax.jit(explain), [], now()
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, 0)
        for number, start in enumerate(starts):
            x = ahead.result()
            ahead = reader.submit(read, min(start + args.batch_size, starts[-1]))
            maps.append(np.asarray(run(variables, x)))
            begun = begun if number else now()
    return now() - begun


def compute(args):
    """What the device alone takes for as many batches."""
    explain, variables, preprocess = parts()
    items, source = photographs(args.folder, args.batch_size)
    x = jax.device_put(preprocess([source[e["image"]]["image"] for e in items]))
    run = jax.jit(explain)
    run(variables, x).block_until_ready()
    begun = now()
    for _ in range(args.images // args.batch_size - 1):
        run(variables, x).block_until_ready()
    return now() - begun


def measured(name, words):
    """What one way takes, in processes of its own."""
    processes = int(words[words.index("--processes") + 1]) if name == "job" else 1
    more = [[]] if processes == 1 else [["--process", str(i), "--store", tempfile.mkdtemp() + "/m"] for i in range(1)]
    if processes > 1:
        store = more[0][-1]
        more = [["--process", str(i), "--store", store] for i in range(processes)]
    command = [sys.executable, __file__, *words, "--way", name]
    started = [subprocess.Popen([*command, *m], stdout=subprocess.PIPE, text=True) for m in more]
    ends = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    return max(seconds for seconds, _ in ends), sum(worked for _, worked in ends)


def main():
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--half", action="store_true")
    for name in ("--way", "--store"):
        parser.add_argument(name)
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int, default=7900)
    args = parser.parse_args()
    ways = {"loop": loop, "job": job, "compute": compute}
    if args.way:
        print(json.dumps(ways[args.way](args).tolist()))
        return
    words = [args.folder, *(f"--{k}={v}" for k, v in (("images", args.images), ("batch-size", args.batch_size)))]
    words += ["--processes", str(args.processes), *(["--half"] if args.half else [])]
    taken = {name: [] for name in ways}
    for _ in range(args.turns):
        for name in ways:
            taken[name].append(measured(name, words))
    for name, turns in taken.items():
        images = args.images - args.batch_size * (args.processes if name == "job" else 1)
        rates, worked = sorted(images / s for s, _ in turns), sorted(s / images for _, s in turns)
        print(
            f"{name}: {statistics.median(rates):.2f} images/s ({rates[0]:.2f} to {rates[-1]:.2f}), "
            f"{statistics.median(worked):.3f} processor seconds an image ({worked[0]:.3f} to {worked[-1]:.3f})"
        )
    shares = [c / j for (c, _), (j, _) in zip(taken["compute"], taken["job"], strict=True)]
    print(f"busy: {statistics.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})")


if __name__ == "__main__":
    main()
