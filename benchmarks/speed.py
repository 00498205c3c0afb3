"""How long explanations take next to captum, zennit, pytorch-grad-cam and the user's own `jax.grad`.

    pip install '.[benchmark]' && python -m benchmarks.speed

writes `benchmarks/results/speed.md` and `speed.json`; `--rows` and `--networks` choose, and what is not chosen stays in
the files as it is. The explanations are those of `benchmarks/explanations.py`.

A peer runs in the fastest of its settings, which a trial finds before anything is counted: how many images its own loop
takes at once, the memory format, `torch.compile`; one after the other, each kept where it is faster and gives the same
map. Each library has a process of its own, and so has `jax.grad`, so that no first call finds what another one traced.
Calls are made in turn with the other's, after one that is not counted. A round has new processes for every row, and
compares medians; ratio is the median of the rounds, with the least and the most. Memory is what a call adds at its peak
to the memory that its process held before, where what is free was given back.
`agreement` is the correlation of the two maps: where it is not 1, the peer computes something else, and the note says
what.
"""

import argparse
import ctypes
import gc
import itertools
import json
import multiprocessing
import os
import platform
import re
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.explanations import NETWORKS, Jaxplain, Peers, Setting, choices

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
ROWS = {  # the explanation: the peer, the networks with the least ratio that is asked for, calls in a round
    "gradient": ("captum Saliency", {"resnet50": 1.0, "efficientnet_lite0": 1.0}, 5),
    "jax.grad": ("jax.jit(jax.grad)", {"resnet50": 1.15, "efficientnet_lite0": 8.0}, 5),
    "integrated gradients, 16 steps": (
        "captum IntegratedGradients",
        {"resnet50": 1.0, "efficientnet_lite0": 1.0},
        3,
    ),
    "LRP epsilon_plus_flat": ("zennit EpsilonPlusFlat", {"resnet50": 2.8, "efficientnet_lite0": 3.0}, 5),
    "LRP epsilon_gamma_box": ("zennit EpsilonGammaBox", {"resnet50": 4.0, "efficientnet_lite0": 4.0}, 5),
    "Grad-CAM": ("pytorch-grad-cam GradCAM", {"resnet50": 2.5, "efficientnet_lite0": 2.5}, 5),
    "DeepLIFT": ("captum DeepLift", {"vgg16": 2.0}, 3),
    "Score-CAM, all channels": ("pytorch-grad-cam ScoreCAM", {"resnet50": 1.2, "efficientnet_lite0": 1.2}, 1),
}
LONG = "Score-CAM"  # many minutes a call: it warms up by itself, has one round, and its peer Grad-CAM's setting
BEFORE_ACTIVATION = "the peer's features are those before the last activation, whose module is called twice"
NOTES = {
    ("Grad-CAM", "efficientnet_lite0"): BEFORE_ACTIVATION,
    ("LRP epsilon_plus_flat", "efficientnet_lite0"): "zennit passes the whole relevance to both sides of `x + y`",
    ("LRP epsilon_gamma_box", "efficientnet_lite0"): "zennit passes the whole relevance to both sides of `x + y`",
    ("DeepLIFT", "vgg16"): "captum's sums miss the difference of the scores at max-pooling",
    ("Score-CAM, all channels", "resnet50"): "pytorch-grad-cam enlarges its masks with aligned corners",
    ("Score-CAM, all channels", "efficientnet_lite0"): BEFORE_ACTIVATION + "; masks with aligned corners",
}


# -------------------------------------------------------------------------------------------------------- processes


def serve(library, folder, connection):
    """Answer what is asked, a method of `Server` with its arguments; an exception is an answer, too."""
    server = Server(library(folder))
    while True:
        try:
            name, *args = connection.recv()
        except EOFError:
            return
        try:
            connection.send(getattr(server, name)(*args))
        except Exception as error:
            connection.send(error if type(error).__module__ == "builtins" else RuntimeError(repr(error)))


class Server:
    """What a process of one library is asked for. ``what`` is an explanation, a network and a setting."""

    def __init__(self, library):
        self.library, self.calls = library, {}

    def save(self, network):
        """Write the peers' weights."""
        self.library.save(network)

    def call(self, what):
        """The call to measure, made once before where it is not long."""
        if what not in self.calls:
            self.calls.clear()  # one after the other, so that none holds the memory of all
            self.calls[what] = self.library.product() if what is None else self.library.prepare(*what)
            if what is None or not what[0].startswith(LONG):
                self.calls[what][0]()
        return self.calls[what]

    def seconds(self, what):
        """How long a call takes, and how many operations are counted for it."""
        run, flops = self.call(what)
        start = time.perf_counter()
        run()
        return time.perf_counter() - start, flops

    def map(self, what):
        """What it computes."""
        return self.call(what)[0]()

    def memory(self, what):
        """MiB that a call adds at its peak."""
        run, _ = self.call(what)
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
        run()
        return resident("VmHWM") - before


def resident(field):
    """A number of Linux's account of this process, in MiB."""
    return int(re.search(rf"{field}:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def worker(library, folder):
    """A new process, as a function that asks it."""
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=serve, args=(library, folder, theirs), daemon=True).start()
    theirs.close()  # so that the end of the worker is seen here

    def ask(*words):
        ours.send(words)
        answer = ours.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask.close = ours.close
    return ask


# ------------------------------------------------------------------------------------------------------------ turns


def fastest(row, network, ask):
    """The setting in which a peer is fastest, and what was tried."""
    best = Setting()
    trial = lambda setting: min(ask("seconds", (row, network, setting))[0] for _ in range(2))
    tried = {best: trial(best)}
    expected = ask("map", (row, network, best))
    for alternatives in choices(row):
        for changed in [best._replace(**change) for change in alternatives]:
            try:
                tried[changed] = trial(changed)
                if not agreement(ask("map", (row, network, changed)), expected) > 0.999:
                    tried[changed] = "another map"
            except Exception as error:
                tried[changed] = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        best = min((s for s in tried if isinstance(tried[s], float)), key=tried.get)
    return best, {str(setting): took for setting, took in tried.items()}


def agreement(ours, peers):
    """The mean correlation of two maps of an image; NaN where a map is constant or not finite."""
    ours = ours.reshape(peers.shape)
    if not all(np.isfinite(maps).all() and np.ptp(maps, axis=(1, 2, 3)).all() for maps in (ours, peers)):
        return float("nan")
    return float(np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(ours, peers, strict=True)]))


def one_round(chosen, settings, folder):
    """The medians of both sides, for each row of each network, in new processes."""
    found = {}
    for row, network in chosen:
        # Of its own for every row: after others a row took up to a third longer.
        ours, other = worker(Jaxplain, folder), worker(Jaxplain if row == "jax.grad" else Peers, folder)
        mine = ("gradient", network, None) if row == "jax.grad" else (row, network, None)
        sides = [(ours, mine), (other, (row, network, settings.get((row, network))))]
        turns = [[ask("seconds", what)[0] for ask, what in sides] for _ in range(ROWS[row][2])]
        maps = [ask("map", what) for ask, what in sides] if not row.startswith(LONG) else None
        found[row, network] = {
            "seconds": [statistics.median(turn[i] for turn in turns) for i in (0, 1)],
            "memory": [ask("memory", what) for ask, what in sides] if not row.startswith(LONG) else None,
            "agreement": agreement(*maps) if maps else float("nan"),
        }
        ours.close()
        other.close()
    return found


def compared(row, network, setting, tried, rounds):
    """One line of the table."""
    peer, networks, _ = ROWS[row]
    median = lambda key, i: statistics.median(r[key][i] for r in rounds) if rounds[0][key] else None
    ratios = sorted(r["seconds"][1] / r["seconds"][0] for r in rounds)
    return {
        "row": row,
        "network": network,
        "peer": peer,
        "setting": "" if setting is None else str(setting),
        "tried": tried,
        "ours": median("seconds", 0),
        "theirs": median("seconds", 1),
        "ratios": ratios,
        "least": networks[network],
        "memory": [median("memory", i) for i in (0, 1)],
        "agreement": rounds[0]["agreement"],
        "note": NOTES.get((row, network), ""),
    }


def facts(networks, folder):
    """How near the gradient comes to the speed of a matrix product."""
    ask, plain, found = worker(Jaxplain, folder), worker(Jaxplain, folder), {}
    for network in networks:
        what = ("gradient", network, None)
        turns = [(plain("seconds", what)[0], *ask("seconds", None)) for _ in range(7)]
        useful = worker(Jaxplain, folder)("seconds", ("jax.grad", network, None))[1]
        speeds = (
            useful / statistics.median(turn[0] for turn in turns),
            turns[0][2] / statistics.median(turn[1] for turn in turns),
        )
        found[network] = {"gradient": speeds[0], "matrix product": speeds[1], "share": speeds[0] / speeds[1]}
    return found


# ------------------------------------------------------------------------------------------------------------ tables

HEADING = (
    "| explanation | network | peer | its setting | ours | peer's | ratio (least to most) | asked | memory, ours "
    "| memory, peer's | agreement | note |"
)


def line(r):
    """A line of the table."""
    median = statistics.median(r["ratios"])
    spread = f" ({r['ratios'][0]:.2f} to {r['ratios'][-1]:.2f})" if len(r["ratios"]) > 1 else ", one round"
    memory = ["-" if m is None else f"{m:.0f} MiB" for m in r["memory"]]
    agreed = "-" if r["agreement"] is None or np.isnan(r["agreement"]) else f"{r['agreement']:.4f}"
    times = [f"{1e3 * r[key]:.0f} ms" for key in ("ours", "theirs")]
    cells = [r["row"], r["network"], r["peer"], r["setting"], *times, f"**{median:.2f}**{spread}", f"{r['least']:g}"]
    return f"| {' | '.join([*cells, *memory, agreed, r['note']])} |"


def written(results):
    """The tables as Markdown."""
    in_order = sorted(results["rows"], key=lambda r: (list(ROWS).index(r["row"]), NETWORKS.index(r["network"])))
    lines = [
        f"{results['versions']}; {results['machine']}.",
        "",
        "4 images of 224 x 224, float32; medians of calls in turn; ratio = peer's time / ours, the median of "
        f"{ROUNDS} rounds of new processes; every peer in the fastest setting that a trial found.",
        "",
        HEADING,
        f"|{'---|' * (HEADING.count('|') - 1)}",
        *map(line, in_order),
        "",
        "Useful operations a second (those of `jax.grad`), against a product of matrices of 4096 x 4096:",
        "",
        "| network | gradient | matrix product | share |",
        "|---|---|---|---|",
    ]
    for network, f in results["facts"].items():
        lines.append(
            f"| {network} | {f['gradient'] / 1e9:.0f} G/s | {f['matrix product'] / 1e9:.0f} G/s | {f['share']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=NETWORKS)
    options = parser.parse_args()
    pairs = itertools.product(options.rows, options.networks)
    chosen = [(row, network) for row, network in pairs if network in ROWS[row][1]]
    file = RESULTS / "speed.json"
    old = json.loads(file.read_text()) if file.exists() else {"rows": [], "facts": {}}
    with tempfile.TemporaryDirectory() as folder:
        folder, settings, tried = Path(folder), {}, {}
        peers = worker(Peers, folder)
        for network in options.networks:
            peers("save", network)
        for row, network in chosen:
            if row == "jax.grad":
                continue
            like = row if not row.startswith(LONG) else "Grad-CAM"
            if (like, network) not in settings:
                settings[like, network], tried[like, network] = fastest(like, network, peers)
                print(like, network, tried[like, network], flush=True)
            settings[row, network] = settings[like, network]
        peers.close()
        rounds = []
        for number in range(ROUNDS):
            short = [pair for pair in chosen if number == 0 or not pair[0].startswith(LONG)]
            rounds.append(one_round(short, settings, folder))
            print({f"{a} {b}": np.divide(*v["seconds"][::-1]).round(2) for (a, b), v in rounds[-1].items()}, flush=True)
        both = [network for network in options.networks if network in ROWS["jax.grad"][1]]
        facts_now = facts(both, folder) if "jax.grad" in options.rows else {}
    rows = [
        compared(*pair, settings.get(pair), tried.get(pair), [r[pair] for r in rounds if pair in r]) for pair in chosen
    ]
    packages = ("jaxplain", "jax", "torch", "torchvision", "captum", "zennit", "grad-cam")
    results = {
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "rows": [r for r in old["rows"] if (r["row"], r["network"]) not in chosen] + rows,
        "facts": old["facts"] | facts_now,
    }
    file.write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "speed.md").write_text(written(results))


if __name__ == "__main__":
    main()
